"""Keys and tokens: what is refused, how tokens are kept and renewed, and that no secret is shown."""

import asyncio
import copy
import pickle
from collections.abc import Mapping

import attrs
import pytest
from doubles import FakeClock
from transport.faultserver import answer
from transport.harness import KEY, TIMES, assert_plain, body_of, pipeline_for, request, serving

from evals_async._transport import AzureKey, BearerTokens, RetryPolicy, StaticKey
from evals_async._transport.auth import SecretHeaders, redacted, secrets_in
from evals_async.errors import ConfigurationError, Unauthenticated


BAD_KEYS: list[object] = [
    f"{KEY}\n",
    f"{KEY}\r\nX-Evil: 1",
    f" {KEY}",
    f"{KEY} ",
    f"{KEY}\t",
    f"{KEY}\0",
    f"{KEY}\x7f",
    f"{KEY}é",
    f"Bearer {KEY}",
    f"bearer {KEY}",
    "",
    "   ",
    KEY.encode(),
    None,
    7,
]


@pytest.mark.parametrize("kind", [StaticKey, AzureKey])
@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_keys_that_cannot_be(kind: type[StaticKey], key: object) -> None:
    """I03, I04: refused at once, as a ValueError too, and the text does not hold the key."""
    with pytest.raises(ConfigurationError) as caught:
        kind(key)  # type: ignore[arg-type]  # what is tested
    assert isinstance(caught.value, ValueError)
    assert "sk-" not in str(caught.value)


async def test_how_keys_are_sent() -> None:
    """OpenAI's as a bearer token, Azure's in a header of its own."""
    assert {"Authorization": f"Bearer {KEY}"} == dict(await StaticKey(KEY).headers())
    assert {"api-key": KEY} == dict(await AzureKey(KEY).headers())
    assert not StaticKey(KEY).refused({})


def test_secrets_are_not_shown_pickled_or_copied() -> None:
    """I08: for every way of proving who one is, and for the headers themselves."""
    for thing in (StaticKey(KEY), AzureKey(KEY), BearerTokens(lambda: KEY), SecretHeaders({"api-key": KEY})):
        shown = f"{thing!r} {thing} {getattr(thing, '__dict__', '')!r}"
        assert KEY not in shown
        for copying in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                copying(thing)


def test_redaction_replaces_the_key_alone() -> None:
    """Without the word before it."""
    headers = {"Authorization": f"Bearer {KEY}", "api-key": "other-key", "x-scope": "all"}
    assert "[redacted] for all, [redacted]" == redacted(f"{KEY} for all, other-key", secrets_in(headers))


@attrs.frozen
class Expiring:
    token: str
    expires_on: float


class Provider:
    """Counts how often it was asked."""

    def __init__(self, clock: FakeClock, *, lasts: float | None = None) -> None:
        self.clock = clock
        self.lasts = lasts
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.failing: Exception | None = None

    async def __call__(self) -> str | Expiring:
        self.asked += 1
        await self.open.wait()
        if self.failing is not None:
            raise self.failing
        token = f"token-{self.asked}"
        return token if self.lasts is None else Expiring(token, self.clock.time() + self.lasts)


async def sent(auth: BearerTokens) -> str:
    return (await auth.headers())["Authorization"]


async def test_a_token_is_kept_for_two_minutes() -> None:
    """Providers keep tokens themselves; this spares the asking."""
    clock = FakeClock()
    provider = Provider(clock)
    auth = BearerTokens(provider, clock=clock)
    assert ["Bearer token-1"] * 3 == [await sent(auth) for _ in range(3)]
    clock.now += 119.0
    assert "Bearer token-1" == await sent(auth)
    clock.now += 2.0
    assert "Bearer token-2" == await sent(auth)


@pytest.mark.parametrize(("lasts", "kept"), [(3600.0, 120.0), (90.0, 60.0), (10.0, 1.0)])
async def test_a_token_that_ends_sooner_is_kept_shorter(lasts: float, kept: float) -> None:
    """Half a minute before its end it is no longer used; one that is about to end serves those who wait."""
    clock = FakeClock()
    auth = BearerTokens(Provider(clock, lasts=lasts), clock=clock)
    assert "Bearer token-1" == await sent(auth)
    clock.now += kept - 0.1
    assert "Bearer token-1" == await sent(auth)
    clock.now += 0.2
    assert "Bearer token-2" == await sent(auth)


async def test_a_provider_may_be_a_plain_function() -> None:
    """It runs in a thread, because it may do I/O; what it returns may be awaitable."""
    assert "Bearer plain" == await sent(BearerTokens(lambda: "plain"))
    provider = Provider(FakeClock())
    assert "Bearer token-1" == await sent(BearerTokens(lambda: provider()))


async def test_many_who_need_a_token_ask_once_and_a_cancelled_one_hurts_nobody() -> None:
    """Single flight."""
    provider = Provider(FakeClock())
    provider.open.clear()
    auth = BearerTokens(provider, clock=provider.clock)
    waiters = [asyncio.create_task(sent(auth)) for _ in range(10)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.sleep(0)
    provider.open.set()
    ended = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert ["Bearer token-1"] * 9 == ended[1:]
    assert 1 == provider.asked


async def test_what_the_provider_raises_comes_through_and_is_not_kept() -> None:
    """The next request asks again; if nobody is left to hear it, nothing complains."""
    provider = Provider(FakeClock())
    provider.failing = KeyError("no such tenant")
    auth = BearerTokens(provider, clock=provider.clock)
    with pytest.raises(KeyError, match="no such tenant"):
        await auth.headers()
    left = asyncio.create_task(sent(auth))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0.001)
    provider.failing = None
    assert "Bearer token-3" == await sent(auth)


async def test_a_token_that_cannot_be_sent_is_refused() -> None:
    """Without showing it."""

    def read_from_a_file() -> str:
        return f"{KEY}\n"

    with pytest.raises(ConfigurationError, match="the token contains") as caught:
        await BearerTokens(read_from_a_file).headers()
    assert_plain(caught.value)
    with pytest.raises(ConfigurationError, match="callable"):
        BearerTokens("token")  # type: ignore[arg-type]  # what is tested


async def test_after_a_401_a_new_token_is_tried_once() -> None:
    """At once, for a create too, and where retries are off; a second 401 is raised."""
    refuse = answer(401, b'{"error":{"message":"expired"}}')
    async with serving(refuse, answer(), refuse) as (server, pipeline):
        provider = Provider(FakeClock())
        pipeline.auth = BearerTokens(provider)
        policy = RetryPolicy(attempts=1)
        await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=policy)
        assert ["Bearer token-1", "Bearer token-2"] == [seen.header("authorization") for seen in server.seen]
        with pytest.raises(Unauthenticated) as caught:
            await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=policy)
        assert (2, False) == (caught.value.attempts, caught.value.maybe_executed)
        assert 4 == len(server.seen)
        assert_plain(caught.value, "token-2")


async def test_a_late_401_does_not_spoil_a_newer_token() -> None:
    """Of many requests that were refused with one token, only the first makes the provider be asked."""
    provider = Provider(FakeClock())
    auth = BearerTokens(provider, clock=provider.clock)
    old = await auth.headers()
    assert auth.refused(old)
    assert "Bearer token-2" == await sent(auth)
    assert auth.refused(old)
    assert "Bearer token-2" == await sent(auth)


async def test_an_auth_of_ones_own() -> None:
    """One method is enough."""

    class Signed(StaticKey):
        async def headers(self) -> Mapping[str, str]:
            return {"X-Signature": KEY}

    async with serving(answer()) as (server, pipeline):
        pipeline.auth = Signed(KEY)
        await pipeline.send(request(), body_of, timeouts=TIMES, policy=RetryPolicy())
        assert KEY == server.seen[0].header("x-signature")
    assert pipeline_for("http://localhost:1").auth is not None

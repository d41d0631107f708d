"""Many keys in one process: whose key goes out, what copies share, and what they never share."""

import asyncio
import gc
import json
import logging
import traceback
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from completed import completed_run
from doubles import FakeClock, ScaledClock, caller_of
from waiting import until

from evals_async import (
    NO_KEY,
    OMIT,
    AdaptiveLimiter,
    BadSignature,
    CachedTokens,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    EvalsClient,
    LRUCache,
    NotFound,
    Omit,
    Unauthenticated,
    UnexpectedRedirect,
)
from evals_async._transport import Pipeline
from evals_async._transport.pipelines import Pipelines
from evals_async.models import RunSucceededEvent
from evals_async.server import Fault, LocalServer
from evals_async.webhooks import sign


KEY = "sk-process-4e8d-recognisable"
A, B = "sk-tenant-a-recognisable", "sk-tenant-b-recognisable"


@pytest.fixture
async def server() -> AsyncGenerator[LocalServer]:
    async with LocalServer() as server:
        yield server


def client_of(server: LocalServer, **options: Any) -> EvalsClient:
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY, "clock": FakeClock(), **options}
    return EvalsClient(**given)


def sent(server: LocalServer, name: str = "authorization") -> list[str]:
    """That header of the last request, as often as it came."""
    return [value for each, value in server.requests[-1].headers.items() if each.lower() == name]


# --- a caller's own credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_a_callers_authorization_goes_out_instead_of_the_clients_key(server: LocalServer, name: str) -> None:
    """Once, whatever its case; of several the most specific: the call's, then the copy's, then the client's."""
    async with client_of(server, default_headers={name: f"Bearer {A}"}) as client:
        await client.evals.list()
        assert [f"Bearer {A}"] == sent(server)
        copied = client.with_options(headers={name.swapcase(): f"Bearer {B}"})
        await copied.evals.list()
        assert [f"Bearer {B}"] == sent(server)
        await copied.evals.list(extra_headers={"authorization": "Basic dXNlcjp3b3Jk"})
        assert ["Basic dXNlcjp3b3Jk"] == sent(server)
        await client.evals.list()
        assert [f"Bearer {A}"] == sent(server)


async def test_a_callers_api_key_goes_out_instead_of_azures(server: LocalServer) -> None:
    """And where he gives an `Authorization`, the process's `api-key` does not go along."""
    endpoint = server.base_url.removesuffix("/v1") + "/openai/v1"
    async with EvalsClient.azure(endpoint=endpoint, api_key=KEY) as client:
        cases: tuple[tuple[dict[str, str], tuple[list[str], list[str]]], ...] = (
            ({"API-Key": A}, ([A], [])),
            ({"Authorization": f"Bearer {A}"}, ([], [f"Bearer {A}"])),
            ({}, ([KEY], [])),
        )
        for headers, expected in cases:
            await client.evals.list(extra_headers=headers)
            assert expected == (sent(server, "api-key"), sent(server))
    async with client_of(server) as client:
        await client.evals.list(extra_headers={"api-key": A})  # a gateway's: not what this client proves itself by
        assert ([A], [f"Bearer {KEY}"]) == (sent(server, "api-key"), sent(server))


async def test_omit_takes_a_header_away(server: LocalServer) -> None:
    """Ours and the official client's, of a call and of a copy; `NOT_GIVEN` changes nothing."""
    official = pytest.importorskip("openai")
    async with client_of(server, default_headers={"X-Team": "blue"}) as client:
        for omit in (OMIT, Omit.OMIT, Omit(), official.omit, official.Omit()):  # type: ignore[call-arg]  # as it is written
            await client.evals.list(extra_headers={"x-team": omit})
            assert [] == sent(server, "x-team")
            await client.with_options(headers={"x-team": omit, "authorization": omit}).evals.list()
            assert [] == sent(server, "x-team") + sent(server)
        nothing: Any = official.NOT_GIVEN
        copied = client.with_options(api_key=nothing, timeout=nothing, max_retries=nothing, base_url=nothing)
        await copied.evals.list(extra_headers={"x-team": nothing}, extra_query={"a": nothing}, timeout=nothing)
        assert (["blue"], [f"Bearer {KEY}"], {}) == (sent(server, "x-team"), sent(server), server.requests[-1].query)
        assert (KEY, 60) == (copied.api_key, copied.timeout)


async def test_a_key_in_a_header_is_a_key(server: LocalServer) -> None:
    """A client without a key of its own can send with it, and says so."""
    client = EvalsClient(base_url=server.base_url, default_headers={"authorization": f"Bearer {A}"})
    async with client:
        assert client.has_credentials
        await client.evals.list()
        assert [f"Bearer {A}"] == sent(server)
    assert not EvalsClient(base_url=server.base_url).has_credentials


async def test_a_callers_secret_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a header of a call, nor that of a copy, is in an error, in a log line or in the repr of a request."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    async with LocalServer(api_key="another") as server:
        fault = Fault(status=401, body=f'{{"error": {{"message": "Incorrect key: {A}, {B}"}}}}'.encode(), times=None)
        server.faults.add(fault)
        seen: list[Any] = []
        async with client_of(server, on_request=seen.append) as client:
            calls = (
                client.evals.retrieve("e1", extra_headers={"Authorization": f"Bearer {A}", "X-Api-Key": B}),
                client.with_options(headers={"api-key": A, "Cookie": f"session; {B}"}).evals.retrieve("e1"),
            )
            for call in calls:
                with pytest.raises(Unauthenticated, match="redacted") as caught:
                    await call
                texts += [*traceback.format_exception(caught.value)[-1:], repr(vars(caught.value)), str(caught.value)]
            texts += [repr(request) for request in seen]
    texts += [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    assert [] == [text for text in texts if A in text or B in text]


async def test_a_refused_header_is_not_sent_twice(server: LocalServer) -> None:
    """The client's own provider is not asked for another token when the caller's is refused."""
    server.faults.add(Fault(status=401, times=None))
    async with client_of(server, api_key=lambda: KEY) as client:
        with pytest.raises(Unauthenticated):
            await client.evals.list(extra_headers={"Authorization": f"Bearer {A}"})
    assert 1 == server.request_count


# --- a key for each request -------------------------------------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant")


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_a_key_that_is_a_function_is_asked_for_each_attempt(server: LocalServer, kind: str) -> None:
    """So a context variable may hold the key of the request at hand, and two at once never get each other's answer."""
    eval_id, run_id = await completed_run(server)
    asked = 0

    def key() -> str:
        nonlocal asked
        asked += 1
        return tenant.get()

    async def key_later() -> str:
        return key()

    async with client_of(server, api_key=key if kind == "function" else key_later, cache=LRUCache()) as client:

        async def request(of: str) -> None:
            tenant.set(of)
            await client.evals.runs.retrieve(run_id, eval_id=eval_id)

        begin = len(server.requests)
        server.faults.add(Fault(status=500))
        await asyncio.gather(*[asyncio.create_task(request(of)) for of in (A, B, A, B)])
        keys = sorted(str(seen.headers.get("Authorization")) for seen in [*server.requests][begin:])
        # One of them was sent again, and no answer was shared or kept.
        assert {f"Bearer {A}", f"Bearer {B}"} == set(keys)
        assert (5, 5) == (len(keys), asked)


@pytest.mark.parametrize("answer", [None, 7, "", b"sk-bytes", object()])
async def test_a_function_that_returns_no_key(server: LocalServer, answer: object) -> None:
    """Gives our own error, before anything is sent."""

    async def key() -> Any:
        return answer

    async with client_of(server, api_key=key) as client:
        with pytest.raises(ConfigurationError, match=r"^the token (must be a str, not|is empty)"):
            await client.evals.list()
    assert 0 == server.request_count


@pytest.mark.virtual_time
@pytest.mark.parametrize("cached", [True, False])
async def test_a_key_that_does_not_come_holds_up_nobody_else(server: LocalServer, cached: bool) -> None:
    """However many calls of one tenant wait for its key, the others have all connections; its own calls say why."""

    async def key() -> str:
        await asyncio.Event().wait()
        return A

    clock = ScaledClock(1.0)
    async with client_of(server, clock=clock, timeout=10, max_connections=4) as client:
        hanging = client.with_options(api_key=CachedTokens(key) if cached else key)
        calls = [asyncio.create_task(hanging.evals.list().first()) for _ in range(50)]
        await asyncio.sleep(0.1)
        await asyncio.gather(*[client.with_options(api_key=B).evals.list().first() for _ in range(20)])
        assert clock.monotonic() < 1
        results = await asyncio.gather(*calls, return_exceptions=True)
        texts = {f"{type(each).__name__}: {each}".partition(":")[2].split(":")[-1] for each in results[:4]}
        assert {" the function for the key returned none within 10 s"} == texts
        assert {DeadlineExceeded} == {type(each) for each in results}
        now = hanging.statistics()
        assert (0, 0, 0) == (now.requests, now.in_flight, now.waiting)  # nothing was sent
    assert 20 == server.request_count


@pytest.mark.virtual_time
async def test_a_key_that_comes_in_the_end(server: LocalServer) -> None:
    """A provider that hung once is called again after half a minute, and those who wait get the new token."""
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return A

    clock = ScaledClock(1.0)
    async with client_of(server, clock=clock, api_key=CachedTokens(token), timeout=100) as client:
        first = asyncio.create_task(client.evals.list().first())
        await asyncio.sleep(29)
        second = asyncio.create_task(client.evals.list().first())
        await asyncio.sleep(0.5)
        assert (1, False, False) == (asked, first.done(), second.done())
        await asyncio.sleep(1)
        await client.evals.list()
        await asyncio.gather(first, second)
        assert 2 == asked
        assert clock.monotonic() < 31
        assert [f"Bearer {A}"] == sent(server)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_function_that_fails(server: LocalServer, cached: bool) -> None:
    """Fails the calls that wait for it, with its own error, and those of no other tenant; the next call asks again."""
    fails = True

    async def key() -> str:
        await asyncio.sleep(0)
        if fails:
            raise LookupError("the vault is sealed")
        return A

    async with client_of(server) as client:
        copied = client.with_options(api_key=CachedTokens(key) if cached else key)
        results = await asyncio.gather(*[copied.evals.list().first() for _ in range(5)], return_exceptions=True)
        assert {LookupError} == {type(each) for each in results}
        assert 0 == server.request_count == copied.statistics().requests
        await client.with_options(api_key=B).evals.list()
        fails = False
        await copied.evals.list()
        assert [f"Bearer {A}"] == sent(server)


async def test_a_method_is_one_function(server: LocalServer) -> None:
    """`vault.key` is another object at each look: copies with it have one limiter all the same."""

    class Vault:
        def key(self) -> str:
            return A

    async with client_of(server) as client:
        one, other = Vault(), Vault()
        copies = [client.with_options(api_key=vault.key) for vault in (one, one, other)]
        lines = [caller_of(each).pipeline for each in copies]
        assert lines[0] is lines[1] is not lines[2]
        await copies[0].evals.list()
        assert [f"Bearer {A}"] == sent(server)


async def test_cached_tokens_are_asked_for_once(server: LocalServer) -> None:
    """`CachedTokens` says that all tokens are of one identity: they are kept, and reads are shared and cached."""
    eval_id, run_id = await completed_run(server)
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return A

    begin = server.request_count
    async with client_of(server, api_key=CachedTokens(token), cache=LRUCache()) as client:
        for _ in range(3):
            await asyncio.gather(*[client.evals.runs.retrieve(run_id, eval_id=eval_id) for _ in range(4)])
    assert (1, 1) == (asked, server.request_count - begin)
    with pytest.raises(ConfigurationError, match="callable"):
        CachedTokens(A)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested


async def test_copies_with_one_provider_keep_its_tokens(server: LocalServer) -> None:
    """Each request of a backend makes a copy: with the same object, tokens, limiter and cached runs are the same."""
    eval_id, run_id = await completed_run(server)
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return A

    def limiters(client: EvalsClient, key: Any) -> int:
        copies = [client.with_options(api_key=key) for _ in range(3)]
        return len({id(caller_of(each).pipeline.limiter) for each in copies})

    begin = server.request_count
    tokens = CachedTokens(token)
    async with client_of(server, cache=LRUCache()) as client:
        for _ in range(3):
            await client.with_options(api_key=tokens).evals.runs.retrieve(run_id, eval_id=eval_id)
        assert (1, 1) == (asked, server.request_count - begin)
        await client.with_options(api_key=CachedTokens(token)).evals.runs.retrieve(run_id, eval_id=eval_id)
        assert (2, 2) == (asked, server.request_count - begin)
        assert [1, 1] == [limiters(client, tokens), limiters(client, token)]
        other = CachedTokens(token)
        assert 2 == len({id(caller_of(client.with_options(api_key=key)).pipeline) for key in (tokens, other)})


# --- copies with another key ------------------------------------------------------------------------------------------


async def test_a_copy_with_another_key(server: LocalServer) -> None:
    """Sends that key, organization and project over the same connections, and leaves the client as it was."""
    async with client_of(server, organization="org-1", default_headers={"X-A": "1"}) as client:
        copied = client.with_options(api_key=A, organization="org-2", project="proj-2", webhook_secret="other")
        await copied.evals.list()
        assert ([f"Bearer {A}"], ["org-2"], ["proj-2"], ["1"]) == tuple(
            sent(server, name) for name in ("authorization", "openai-organization", "openai-project", "x-a")
        )
        assert (A, "org-2", "proj-2") == (copied.api_key, copied.organization, copied.project)
        assert (KEY, "org-1", None) == (client.api_key, client.organization, client.project)
        await client.copy(set_default_headers={"X-B": "2"}, set_default_query={"limit": 1}).evals.list()
        assert ([], ["2"], {"limit": "1"}) == (sent(server, "x-a"), sent(server, "x-b"), server.requests[-1].query)
        assert ([f"Bearer {KEY}"], ["org-1"]) == (sent(server), sent(server, "openai-organization"))
        pools = {id(caller_of(each).pipeline.transport.pool) for each in (client, copied)}
        assert 1 == len(pools)


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_the_key_of_a_copy_replaces_a_header_of_the_client(
    server: LocalServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant's key is never ignored for a credential of the process, in its headers or in its environment."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-of-the-environment")
    for headers in ({}, {name: f"Bearer {KEY}"}):
        async with client_of(server, default_headers={**headers, "X-A": "1"}) as client:
            copies = (
                client.with_options(api_key=A),
                client.with_options(headers={name: f"Bearer {B}"}).with_options(api_key=A),
                client.with_options(headers={name: OMIT}).with_options(api_key=A, timeout=3),
                client.with_options(api_key=A).with_options(timeout=3),
            )
            for copied in copies:
                await copied.evals.list()
                assert ([f"Bearer {A}"], ["1"]) == (sent(server), sent(server, "x-a"))
            await client.with_options(api_key=A, headers={name: f"Bearer {B}"}).evals.list()
            assert [f"Bearer {B}"] == sent(server)  # both are given here: the header is the more specific one
            await client.with_options(api_key=NO_KEY).evals.list()
            assert [] == sent(server)


async def test_the_key_of_an_azure_copy_replaces_a_header_of_the_client(server: LocalServer) -> None:
    """Both headers with credentials; at another server, `api-key` is a gateway's and stays."""
    endpoint = server.base_url.removesuffix("/v1") + "/openai/v1"
    headers = {"api-key": KEY, "Authorization": f"Bearer {KEY}"}
    async with EvalsClient.azure(endpoint=endpoint, api_key=KEY, default_headers=headers) as client:
        await client.with_options(api_key=A).evals.list()
        assert ([A], []) == (sent(server, "api-key"), sent(server))
    async with client_of(server, default_headers={"api-key": KEY}) as client:
        await client.with_options(api_key=A).evals.list()
        assert ([KEY], [f"Bearer {A}"]) == (sent(server, "api-key"), sent(server))


async def test_the_organization_of_a_copy_replaces_a_header_of_the_client(server: LocalServer) -> None:
    """And the project; each only if it is given."""
    headers = {"openai-organization": "org-1", "OpenAI-Project": "proj-1"}
    async with client_of(server, default_headers=headers) as client:
        for options, expected in (
            ({"organization": "org-2"}, ("org-2", "proj-1")),
            ({"project": "proj-2"}, ("org-1", "proj-2")),
            ({"api_key": A}, ("org-1", "proj-1")),
        ):
            given: dict[str, Any] = options
            await client.with_options(**given).evals.list()
            names = ("openai-organization", "openai-project")
            assert [[value] for value in expected] == [sent(server, name) for name in names]


async def test_a_key_and_a_header_with_that_key_are_one_sender(server: LocalServer) -> None:
    """They have one limit at the server, and so one limiter here."""
    async with client_of(server) as client:
        by_key, by_header = (
            client.with_options(api_key=A),
            client.with_options(headers={"Authorization": f"Bearer {A}"}),
        )
        assert caller_of(by_key).pipeline is caller_of(by_header).pipeline
        for copied in (by_key, by_header):
            await copied.evals.list()
            assert [f"Bearer {A}"] == sent(server)


@pytest.mark.virtual_time
async def test_statistics_are_of_one_tenant() -> None:
    """Nobody sees how many requests of others run, or wait for a connection."""
    clock = ScaledClock(1.0)
    async with LocalServer(clock=clock) as server:
        server.faults.add(Fault(delay=60, times=None))
        async with EvalsClient(base_url=server.base_url, api_key=KEY, max_connections=4, clock=clock) as client:
            copies = [client.with_options(api_key=key) for key in (A, B)]
            calls = [asyncio.create_task(copies[0].evals.list().first()) for _ in range(3)]
            await until(lambda: server.request_count == 3)
            calls += [asyncio.create_task(copies[1].evals.list().first()) for _ in range(3)]
            await until(lambda: server.request_count == 4)
            seen = [(each.in_flight, each.waiting) for each in (one.statistics() for one in (*copies, client))]
            assert [(3, 0), (1, 2), (0, 0)] == seen
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert {(0, 0)} == {(each.in_flight, each.waiting) for each in (one.statistics() for one in copies)}


async def test_thousands_of_tenants_at_once(server: LocalServer) -> None:
    """Each request has its own key, also where others are cancelled, and nothing is left of the tenants."""
    keys = [f"sk-tenant-number-{number:04}" for number in range(2000)]
    seen: WeakKeyDictionary[Pipeline, None] = WeakKeyDictionary()
    async with client_of(server, clock=ScaledClock(1.0), timeout=300) as client:

        async def one(key: str) -> None:
            copied = client.with_options(api_key=key, headers={"X-Tenant": key})
            seen[caller_of(copied).pipeline] = None
            await copied.evals.list()

        tasks = [asyncio.create_task(one(key)) for key in keys]
        await until(lambda: server.request_count >= 100)
        assert True in {task.cancel() for task in tasks[::5]}
        await asyncio.gather(*tasks, return_exceptions=True)
        assert {None} == {task.exception() for task in tasks if not task.cancelled()}
        headers = [{name.lower(): value for name, value in request.headers.items()} for request in server.requests]
        assert [f"Bearer {each['x-tenant']}" for each in headers] == [each["authorization"] for each in headers]
        assert len(keys) * 4 // 5 <= server.request_count
        assert (0, 0) == (client.statistics().in_flight, client.statistics().waiting)
        tasks.clear()
        await until(lambda: gc.collect() >= 0 and len(seen) <= 1000)  # the connections of cancelled calls close first


async def test_a_copy_of_a_closed_client_is_closed(server: LocalServer) -> None:
    """It is made, says so, and sends nothing, whichever settings it has."""
    client = client_of(server)
    await client.evals.list()
    await client.close()
    for copied in (
        client.with_options(timeout=1),
        client.with_options(api_key=A),
        client.with_options(base_url="http://127.0.0.1:1"),
    ):
        assert copied.is_closed()
        with pytest.raises(ClientClosed):
            await copied.evals.list()
        await copied.close()
        assert (0, 0) == (copied.statistics().in_flight, copied.statistics().waiting)
    assert 1 == server.request_count


async def test_a_copy_for_another_base_url() -> None:
    """Goes to that server, over the client's own pool, and is closed with it."""
    async with LocalServer() as one, LocalServer() as other:
        client = client_of(one)
        copied = client.with_options(base_url=other.base_url)
        await asyncio.gather(client.evals.list().first(), copied.evals.list().first())
        assert (1, 1) == (one.request_count, other.request_count)
        assert (other.base_url, one.base_url) == (copied.base_url, client.base_url)
        assert caller_of(client).pipeline.transport.pool is caller_of(copied).pipeline.transport.pool
        with pytest.raises(ConfigurationError, match="plain http"):
            client.with_options(base_url="http://evals.example/v1")
        await copied.close()
        assert client.is_closed()


async def test_a_copy_whose_server_redirects() -> None:
    """The key goes to the base URL that the copy names, and nowhere else."""
    async with LocalServer() as one, LocalServer() as other, client_of(one) as client:
        for status in (301, 302, 303, 307, 308):
            other.faults.add(Fault(status=status, headers={"Location": f"{one.base_url}/evals"}))
            with pytest.raises(UnexpectedRedirect):
                await client.with_options(base_url=other.base_url, api_key=A).evals.list()
        assert (0, 5) == (one.request_count, other.request_count)


async def test_cookies_are_no_tenants(server: LocalServer) -> None:
    """A cookie that came with the answer to one tenant goes along with no later request, of whatever kind."""
    async with client_of(server) as client:
        server.faults.add(Fault(status=404, headers={"Set-Cookie": "session=of-a; Path=/"}, times=3))
        copied = client.with_options(api_key=A)
        file: Any = {"file": ("a.jsonl", b'{"item": {"a": 1}}\n')}
        for call in (copied.evals.list(), copied.files.create(**file), copied.files.content("file_1")):
            with pytest.raises(NotFound):
                await call
        for key in (A, B):
            await client.with_options(api_key=key).evals.list()
            await client.with_options(api_key=key).files.create(**file)
            assert [] == [name for seen in server.requests for name in seen.headers if name.lower() == "cookie"]


def test_each_copy_has_its_webhook_secret() -> None:
    """An event that one tenant's secret signed is refused by the clients of the others, and taken by its copies."""
    event = {"object": "event", "id": "evt_1", "type": "eval.run.succeeded", "created_at": 1, "data": {"id": "run_1"}}
    payload = json.dumps(event).encode()
    clock = FakeClock()
    secrets = ("secret-of-the-process", "secret-of-a", "secret-of-b")
    client = EvalsClient(api_key=KEY, webhook_secret=secrets[0], clock=clock)
    _ = client.webhooks
    a, b = (client.with_options(api_key=key, webhook_secret=own) for key, own in zip((A, B), secrets[1:], strict=True))
    same = (a.with_options(timeout=3), a.with_options(api_key=B), client.with_options(api_key=A))
    for each, own in zip((client, a, b, *same), (*secrets, secrets[1], secrets[1], secrets[0]), strict=True):
        for secret in secrets:
            headers = sign(payload, secret=secret, webhook_id="w1", timestamp=int(clock.time()))
            if secret == own:
                assert isinstance(each.webhooks.unwrap(payload, headers), RunSucceededEvent)
                continue
            with pytest.raises(BadSignature):
                each.webhooks.unwrap(payload, headers)


@pytest.mark.parametrize("how", ["key", "header", "organization"])
async def test_two_tenants_share_no_limit_no_read_and_no_cached_run(server: LocalServer, how: str) -> None:
    """Each has a limiter, a budget and a scope in the cache of its own, and two copies of one tenant have the same."""
    eval_id, run_id = await completed_run(server)
    begin = server.request_count
    async with client_of(server, cache=LRUCache()) as client:

        def copied(of: str) -> EvalsClient:
            if how == "key":
                return client.with_options(api_key=of)
            if how == "header":
                return client.with_options(headers={"Authorization": f"Bearer {of}"})
            return client.with_options(organization=of)

        def read(of: str) -> Any:
            return copied(of).evals.runs.retrieve(run_id, eval_id=eval_id)

        await asyncio.gather(read(A), read(A), read(B))
        assert 2 == server.request_count - begin
        await asyncio.gather(read(A), read(B))
        assert 2 == server.request_count - begin
        await client.evals.runs.retrieve(run_id, eval_id=eval_id)
        assert 3 == server.request_count - begin
        lines = [caller_of(each).pipeline for each in (client, copied(A), copied(B))]
        assert 3 == len({id(line.limiter) for line in lines}) == len({id(line.budget) for line in lines})
        assert caller_of(copied(A)).pipeline is lines[1]
        assert caller_of(copied(A).with_options(timeout=3)).pipeline is lines[1]


async def test_a_limiter_that_was_given_is_the_one_of_its_key(server: LocalServer) -> None:
    """A copy with another key has a limiter of its own; where there is none, there is none for others either."""
    given = AdaptiveLimiter(max_rate=5)
    client = client_of(server, limiter=given)
    assert caller_of(client).pipeline.limiter is given
    assert caller_of(client.with_options(api_key=KEY, timeout=1)).pipeline.limiter is given
    assert isinstance(caller_of(client.with_options(api_key=A)).pipeline.limiter, AdaptiveLimiter)
    assert caller_of(client.with_options(api_key=A)).pipeline.limiter is not given
    assert not caller_of(client_of(server, limiter=None).with_options(api_key=A)).pipeline.limited
    await client.close()


@pytest.mark.virtual_time
async def test_a_throttled_tenant_slows_no_other(server: LocalServer) -> None:
    """One that is told to wait half a minute waits alone."""
    async with EvalsClient(base_url=server.base_url, api_key=KEY, clock=ScaledClock(1.0)) as client:
        server.faults.add(Fault(status=429, headers={"Retry-After": "30"}, times=20))
        held = [asyncio.create_task(client.with_options(api_key=A).evals.list().first()) for _ in range(20)]
        await until(lambda: client.with_options(api_key=A).statistics().throttles == 20)
        for _ in range(20):
            await client.with_options(api_key=B).evals.list()
        assert not any(task.done() for task in held)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_what_is_kept_of_many_tenants_is_bounded(server: LocalServer) -> None:
    """The limits of the tenants that were used last are remembered, and those of any that has calls under way."""
    async with client_of(server, clock=FakeClock()) as client:
        bounded = Pipelines(most=10)
        client._callers.pipelines = bounded  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # fewer than there are
        server.faults.add(Fault(delay=60))
        busy = asyncio.create_task(client.with_options(api_key="sk-busy-tenant-1").evals.list().first())
        while not server.request_count:
            await asyncio.sleep(0.001)
        seen: WeakKeyDictionary[Pipeline, None] = WeakKeyDictionary()
        for number in range(50):
            seen[caller_of(client.with_options(api_key=f"sk-tenant-number-{number}")).pipeline] = None
        gc.collect()
        assert (10, 10) == (len(bounded.recent), len(seen))
        again = client.with_options(api_key="sk-busy-tenant-1")
        assert 1 == again.statistics().requests
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


@pytest.mark.parametrize("call", ["ends later", "is new"])
async def test_the_least_recently_used_is_forgotten(server: LocalServer, call: str) -> None:
    """A tenant is used when a call of its ends, however long ago its copy was made."""
    name = "sk-tenant-of-long-ago"

    def others() -> list[EvalsClient]:
        return [client.with_options(api_key=f"sk-tenant-number-{number}") for number in range(50)]

    async with client_of(server) as client:
        client._callers.pipelines.most = 10  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # fewer than there are
        old = client.with_options(api_key=name)
        server.faults.add(Fault(status=404, delay=0.05))
        busy = asyncio.create_task(old.evals.list().first())
        await until(lambda: server.request_count == 1)
        if call == "ends later":
            others()
        await asyncio.gather(busy, return_exceptions=True)
        if call == "is new":
            others()
            await old.evals.list()
        del old, busy
        gc.collect()
        assert 1 <= client.with_options(api_key=name).statistics().requests
        await asyncio.gather(*[other.evals.list().first() for other in others()])
        gc.collect()
        assert 0 == client.with_options(api_key=name).statistics().requests
        assert 10 == len(client._callers.pipelines.recent)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


async def test_keys_of_copies_that_cannot_be(server: LocalServer) -> None:
    """A copy is refused what a client is refused."""
    client = client_of(server)
    wrong: list[dict[str, Any]] = [
        {"api_key": "Bearer x"},
        {"api_key": 7},
        {"organization": "é"},
        {"base_url": "ftp://a"},
        {"webhook_secret": "secret\n"},
        {"set_default_headers": {"a": "b"}, "headers": {"c": "d"}},
        {"set_default_query": {"a": "b"}, "query": {"c": "d"}},
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError):
            client.with_options(**options)
    assert client.with_options(api_key=NO_KEY).api_key is None
    await client.close()


async def test_azures_token_of_the_environment(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """AZURE_OPENAI_AD_TOKEN goes out as a bearer token, before a key of the environment, and after an argument."""
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", A)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1") + "/openai/v1")
    cases: list[tuple[dict[str, Any], tuple[list[str], list[str]]]] = [
        ({}, ([], [f"Bearer {A}"])),
        ({"azure_ad_token": B}, ([], [f"Bearer {B}"])),
        ({"api_key": B}, ([B], [])),
    ]
    for arguments, expected in cases:
        async with EvalsClient.azure(**arguments) as client:
            await client.evals.list()
        assert expected == (sent(server, "api-key"), sent(server))


async def test_headers_of_the_environment_are_sent(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_CUSTOM_HEADERS goes with every request; a header that is given wins."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: blue\nX-Other: 1")
    async with client_of(server, default_headers={"x-other": "2"}) as client:
        await client.evals.list()
        assert (["blue"], ["2"]) == (sent(server, "x-team"), sent(server, "x-other"))

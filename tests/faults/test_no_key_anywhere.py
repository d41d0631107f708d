"""The key and other secrets: in no text form of a client, of what it holds, or of what it raises, nor in any log."""

import copy
import pickle
import pprint
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import ScaledClock, caller_of
from faults.harness import EVAL, READS, RUN, SPEED, Do, create_eval, pages, told, with_faults
from transport.faultserver import FaultServer, Scene, answer, message, raw
from transport.harness import KEY, all_logs, assert_plain, text_forms

from evals_async import (
    Attempt,
    BodyTooLarge,
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    DecodeError,
    EvalsClient,
    EvalsError,
    NotFound,
    PaginationError,
    PartialFailure,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    ResponseMismatch,
    ResponseTruncated,
    RunFailed,
    ServerError,
    Timeouts,
    Unauthenticated,
    UnexpectedRedirect,
    WaitTimeout,
)


GATEWAY = {"X-Gateway-Key": f"gw-{KEY}"}
WEBHOOKS = f"plain-{KEY}"  # without the prefix it need not be base64


def things_of(client: EvalsClient) -> Iterator[object]:
    """The client, and whatever can be reached from it by attributes, a few steps far."""
    yield client
    near: list[object] = [client]
    seen: set[int] = set()
    for _ in range(6):
        steps: list[object] = []
        for thing in near:
            holder = getattr(thing, "__dict__", {})
            slots = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
            steps += [value for value in (*holder.values(), *slots) if id(value) not in seen]
            seen |= {id(value) for value in steps}
        near = [step for step in steps if type(step).__module__.startswith("evals_async")]
        yield from near


@pytest.mark.parametrize("azure", [False, True])
async def test_a_client_shows_no_key(azure: bool) -> None:
    """I08: not in repr, str, dir, vars or pprint, before a call and after it, of the client and what it is made of."""
    async with FaultServer(told(EVAL)) as server:
        options: dict[str, Any] = {"default_headers": GATEWAY}
        client = (
            EvalsClient.azure(endpoint=server.url, api_key=KEY, **options)
            if azure
            else EvalsClient(base_url=server.url, api_key=KEY, webhook_secret=WEBHOOKS, **options)
        )
        for called in (False, True):
            if called:
                await client.evals.retrieve("eval_1")
            things = list(things_of(client))
            assert len(things) > 10
            for thing in (*things, client.with_options(timeout=1), client.with_raw_response):
                texts = (repr(thing), str(thing), repr(dir(thing)), f"{thing}")
                assert not [text for text in texts if KEY in text], type(thing)
        assert KEY not in pprint.pformat(vars(client))
        assert server.url.split("/")[2] in repr(client)
        await client.close()


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_a_client_is_neither_pickled_nor_copied(take: Callable[[object], object]) -> None:
    """I08: and the refusal says what to do instead, without the key."""
    client = EvalsClient(base_url="http://localhost:9", api_key=KEY)
    for thing in (client, caller_of(client).pipeline.auth):
        with pytest.raises(TypeError) as caught:
            take(thing)
        assert not [text for text in text_forms(caught.value) if KEY in text]


async def wait_for_a_run(client: EvalsClient) -> object:
    return await client.evals.runs.wait("evalrun_1", eval_id="eval_1", timeout=3.0)


async def fetch_two(client: EvalsClient) -> object:
    return await client.evals.runs.retrieve_many(["evalrun_1", "evalrun_2"], eval_id="eval_1")


async def wait_for_success(client: EvalsClient) -> object:
    return await client.evals.runs.wait("evalrun_1", eval_id="eval_1", raise_on_failure=True)


ECHO = b'{"error": {"message": "Incorrect API key: %s", "code": "%s"}}' % (KEY.encode(), KEY.encode())
READ = READS["run"]
ROUND = pages(lambda query: {"object": "list", "data": [RUN], "has_more": True, "last_id": "evalrun_1"})
NEVER = told({**RUN, "status": "in_progress"})
QUOTA = b'{"error": {"code": "insufficient_quota", "message": "%s"}}' % KEY.encode()

RAISED: dict[type[EvalsError], tuple[Scene, Do]] = {
    Unauthenticated: (answer(401, ECHO, ("X-Request-Id", KEY)), READ),
    NotFound: (answer(404, b"<html>" + KEY.encode()), READ),
    RateLimited: (answer(429, ECHO, ("Retry-After", "999")), READ),
    QuotaExceeded: (answer(429, QUOTA), READ),
    ServerError: (answer(500, ECHO), create_eval),
    ConnectionDropped: (raw(b"", then="rst"), READ),
    ResponseTruncated: (answer(200, ECHO, length=9999, then="fin"), READ),
    ProtocolError: (raw(b"NONSENSE %s\r\n\r\n" % KEY.encode(), then="fin"), READ),
    DeadlineExceeded: (raw(b"", then="stall"), READ),
    DecodeError: (answer(200, ECHO), READ),
    ResponseMismatch: (told({**RUN, "id": KEY}), READ),
    BodyTooLarge: (answer(200, KEY.encode() * 1000), READ),
    UnexpectedRedirect: (answer(302, b"", ("Location", f"http://{KEY}@evil.example/{KEY}")), READ),
    PaginationError: (ROUND, lambda client: client.evals.runs.list("eval_1").collect()),
    WaitTimeout: (NEVER, wait_for_a_run),
    RunFailed: (told({**RUN, "status": "failed"}), wait_for_success),
    PartialFailure: (answer(401, ECHO), fetch_two),
}


@pytest.mark.parametrize(("kind", "case"), RAISED.items(), ids=[kind.__name__ for kind in RAISED])
async def test_no_error_shows_the_key(kind: type[EvalsError], case: tuple[Scene, Do]) -> None:
    """I09: every kind of error, raised through a whole client: in none of its text forms, its traceback with local
    variables included; and it survives pickle.
    """
    scene, do = case
    options: dict[str, Any] = {"timeout": Timeouts(total=10.0, attempt=1.0), "max_body": 20_000}
    async with with_faults(scene, default_headers=GATEWAY, **options) as (_, client):
        with pytest.raises(kind) as caught:
            await do(client)
        error = caught.value
        assert kind is type(error)
        assert not [text for text in text_forms(error) if KEY in text]
        for plain in error.exceptions if isinstance(error, PartialFailure) else [error]:
            assert_plain(plain)


async def test_an_error_of_connecting_shows_no_key() -> None:
    """I09: nobody listens there."""
    clock = ScaledClock(SPEED)
    client = EvalsClient(base_url="http://localhost:1", api_key=KEY, webhook_secret=WEBHOOKS, clock=clock)
    with pytest.raises(ConnectFailed) as caught, all_logs() as lines:
        await client.evals.retrieve("eval_1")
    await client.close()
    assert_plain(caught.value)
    assert not [line for line in lines if KEY in line]


async def test_errors_keep_nothing_of_the_client_alive() -> None:
    """I09: an error that is kept does not keep connections or headers: its frames aside, it holds plain values."""
    async with with_faults(answer(404, b"{}")) as (_, client):
        with pytest.raises(NotFound) as caught:
            await client.evals.retrieve("eval_1")
    bare = caught.value.with_traceback(None)
    assert [None, None] == [bare.__cause__, bare.__context__]
    assert all(isinstance(value, str | int | float | bool | tuple | None) for value in vars(bare).values())
    assert [Attempt] * len(bare.history) == [type(attempt) for attempt in bare.history]


async def test_logs_name_routes_only() -> None:
    """I10: at DEBUG, whichever logger speaks: no key, no body, and ids only as the route's template."""
    private = {**RUN, "id": "evalrun_private", "name": "a name of mine"}
    scenes = (answer(503, b'{"error": {"message": "a sentence of the server"}}'), raw(b"", then="rst"), told(private))
    with all_logs() as lines:
        async with with_faults(*scenes) as (_, client):
            await client.evals.runs.retrieve("evalrun_private", eval_id="eval_1")
    ours = [line for line in lines if "'evals_async'" in line]
    assert len(ours) >= 5
    for secret in (KEY, "evalrun_private", "a name of mine", "a sentence of the server"):
        assert not [line for line in ours if secret in line]
    assert all("/evals/{eval_id}/runs/{run_id}" in line for line in ours)


async def test_the_environments_proxy_and_netrc_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """I07: unless `trust_env` is given; and even then netrc has no say about the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password else\ndefault login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with FaultServer(told({**EVAL, "name": "proxy"})) as proxy, FaultServer(told(EVAL)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for trust, name in ((False, "Greetings"), (True, "proxy")):
            async with EvalsClient(api_key=KEY, trust_env=trust) as client:
                assert name == (await client.evals.retrieve("eval_1")).name
                assert server.url in repr(client)
        assert (1, 1) == (len(server.seen), len(proxy.seen))
        assert {f"Bearer {KEY}"} == {seen.header("authorization") for seen in (*server.seen, *proxy.seen)}


async def test_no_cookie_is_ever_sent() -> None:
    """R03: what one answer sets, the next request does not carry."""
    scene = raw(message(200, b'{"object":"eval","id":"eval_1"}', ("Set-Cookie", "session=1; Path=/")))
    async with with_faults(scene) as (server, client):
        for _ in range(3):
            await client.evals.retrieve("eval_1")
        assert [None] * 3 == [seen.header("cookie") for seen in server.seen]

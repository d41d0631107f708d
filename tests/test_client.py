"""`EvalsClient`: made without a loop, copied on other terms, used in one loop, closed once; silent about its key."""

import asyncio
import contextlib
import copy
import gc
import logging
import pickle
import socket
import traceback
from typing import Any

import aiohttp
import attrs
import pytest
from doubles import FakeClock, ScaledClock, caller_of

from evals_async import NO_KEY, CachedTokens, EvalsClient, InvalidArgument, LRUCache, Response, RetryPolicy, Timeouts
from evals_async.errors import (
    BadRequest,
    ClientClosed,
    ConfigurationError,
    NotFound,
    ServerError,
    Unauthenticated,
    WrongLoop,
)
from evals_async.server import Fault, LocalServer


KEY = "sk-recognisable-4e8d"


def client_of(server: LocalServer, **options: Any) -> EvalsClient:
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY, "clock": FakeClock(), **options}
    return EvalsClient(**given)


def client_with(**options: Any) -> EvalsClient:
    given: dict[str, Any] = {"api_key": KEY, **options}
    return EvalsClient(**given)


def headers_of(server: LocalServer) -> dict[str, str]:
    return {name.lower(): value for name, value in server.requests[-1].headers.items()}


# --- before the first call --------------------------------------------------------------------------------------------


def test_making_one_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client and its namespaces are made without a loop, a socket or a session."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("touched the network")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(aiohttp.ClientSession, "__init__", forbidden)
    client = EvalsClient(api_key=KEY).with_options(timeout=3)
    _ = (client.evals.runs.output_items, client.files, client.graders, client.webhooks, client.with_raw_response)
    assert client.evals.list() is not None
    asyncio.run(client.close())


def test_pagers_are_made_without_a_loop() -> None:
    """A listing asks for nothing, and needs no loop, before it is awaited or iterated over."""
    assert "limit=5: nothing is requested" in repr(EvalsClient(api_key=KEY).evals.runs.list("e1", limit=5))


async def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a key can be made, and says what is missing at the first call, before any connection."""
    async with LocalServer() as server:
        for client in (EvalsClient(base_url=server.base_url), EvalsClient.azure(endpoint=server.base_url)):
            with pytest.raises(ConfigurationError, match="pass api_key= or set OPENAI_API_KEY"):
                await client.evals.retrieve("e1")
            await client.close()
        assert 0 == server.request_count
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        async with EvalsClient(base_url=server.base_url) as client:
            await client.evals.list()
        assert f"Bearer {KEY}" == headers_of(server)["authorization"]


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"proxy": "socks5://127.0.0.1:1080"},
        {"max_connections": 0},
        {"max_body": 0},
        {"default_headers": {"a b": "c"}},
        {"default_headers": {"a": "b\r\nc: d"}},
        {"default_query": {"a": ["b"]}},
        {"api_key": b"bytes"},
        {"api_key": 7},
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any]) -> None:
    """What cannot be right is refused when the client is made."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        client_with(**options)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("make", [EvalsClient, EvalsClient.azure])
def test_options_that_there_are_not(make: Any) -> None:
    """A misspelt option is refused, as Python does for any function."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument: max_retry, tiemout"):
        make(**{"tiemout": 3, "max_retry": 1} | ({} if make is EvalsClient else {"endpoint": "https://a.example"}))


# --- who it is --------------------------------------------------------------------------------------------------------


async def test_what_every_request_carries() -> None:
    """Organization, project, own headers and own query go with every request."""
    async with (
        LocalServer() as server,
        client_of(
            server, organization="org-1", project="proj-1", default_headers={"X-A": "1"}, default_query={"b": 2}
        ) as client,
    ):
        await client.evals.list(order="asc")
        sent = headers_of(server)
        assert ("org-1", "proj-1", "1") == (sent["openai-organization"], sent["openai-project"], sent["x-a"])
        assert {"order": "asc", "b": "2"} == server.requests[-1].query


async def test_azure() -> None:
    """Azure's key goes out under its own header, below `/openai/v1`, with the version that is asked for."""
    async with LocalServer(api_key=KEY) as server:
        endpoint = server.base_url.removesuffix("/v1")
        async with EvalsClient.azure(endpoint=endpoint, api_key=KEY, api_version="preview") as client:
            await client.evals.list()
    sent = headers_of(server)
    assert (KEY, None) == (sent["api-key"], sent.get("authorization"))
    assert ("/openai/v1/evals", {"api-version": "preview"}) == (server.requests[-1].path, server.requests[-1].query)


@attrs.frozen
class Token:
    token: str
    expires_on: float


@pytest.mark.parametrize("azure", [False, True])
@pytest.mark.parametrize("kind", ["function", "coroutine", "object"])
async def test_keys_that_are_functions(azure: bool, kind: str) -> None:
    """Tokens that may be kept are asked for when one is needed, and again after a 401."""
    given: list[str] = []

    def token() -> Any:
        given.append(f"token-{len(given) + 1}-secret")
        return Token(given[-1], 2_000_000_000) if kind == "object" else given[-1]

    async def later() -> Any:
        return token()

    provider: Any = later if kind == "coroutine" else token
    async with LocalServer() as server:
        options: Any = {"clock": FakeClock()}
        if azure:
            client = EvalsClient.azure(endpoint=server.base_url.removesuffix("/v1"), token_provider=provider, **options)
        else:
            client = EvalsClient(base_url=server.base_url, api_key=CachedTokens(provider), **options)
        async with client:
            await asyncio.gather(*[client.evals.list().first() for _ in range(5)])
            assert (1, "Bearer token-1-secret") == (len(given), headers_of(server)["authorization"])
            server.faults.add(Fault(status=401))
            await client.evals.list()
            assert "Bearer token-2-secret" == headers_of(server)["authorization"]


async def test_the_environment_does_not_go_before_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider is used although there is a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    async with LocalServer() as server, client_of(server, api_key=lambda: "from-provider") as client:
        await client.evals.list()
        assert "Bearer from-provider" == headers_of(server)["authorization"]


async def test_a_server_that_wants_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NO_KEY` sends no credentials, whatever the environment holds, and a missing key is told from it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    async with LocalServer() as server:
        for client in (
            EvalsClient(base_url=server.base_url, api_key=NO_KEY),
            EvalsClient.azure(endpoint=server.base_url.removesuffix("/v1") + "/openai/v1", api_key=NO_KEY),
        ):
            async with client:
                assert client.has_credentials
                with contextlib.suppress(NotFound):  # the second path is another server's
                    await client.evals.list()
            assert not headers_of(server).keys() & {"authorization", "api-key"}
    monkeypatch.delenv("OPENAI_API_KEY")
    assert not EvalsClient().has_credentials
    assert "NO_KEY" == repr(NO_KEY)


# --- endpoints that no resource has -----------------------------------------------------------------------------------


async def test_requests_by_hand() -> None:
    """`request` and `send` reach any path below the base URL, with the client's key, defaults and errors."""
    async with LocalServer() as server, client_of(server, default_query={"v": 1}) as client:
        response = await client.send(client.request("GET", "/evals", query={"limit": 2, "after": None}))
        assert (200, b'"object"') == (response.status, response.body[1:9])
        assert {"v": "1", "limit": "2"} == server.requests[-1].query
        assert f"Bearer {KEY}" == headers_of(server)["authorization"]
        with pytest.raises(NotFound):
            await client.send(client.request("GET", "/evals/{eval_id}", ids=["é/1"]))

        async def length(response: Response) -> int:
            return len(response.body)

        assert len(response.body) == await client.send(client.request("GET", "/evals"), length, timeout=5)


@pytest.mark.parametrize("kind", [None, "update"])
async def test_requests_by_hand_and_retries(kind: Any) -> None:
    """A POST counts as one that creates, and is sent again only where its `kind` says that this does no harm."""
    async with LocalServer() as server, client_of(server) as client:
        server.faults.add(Fault(status=500, times=1))
        request = client.request("POST", "/evals", kind=kind, body={"name": "n"}, headers={"X-Own": "1"})
        with pytest.raises(ServerError if kind is None else BadRequest):
            await client.send(request)
        assert (1 if kind is None else 2) == len(server.requests)
        assert "1" == headers_of(server)["x-own"]


@pytest.mark.parametrize(
    ("route", "ids"),
    [("evals", []), ("/evals/{a}", [".."]), ("/evals/{a}", [""]), ("/a b", []), ("/evals?x=1", []), ("/{a}", [])],
)
def test_requests_that_cannot_be_sent(route: str, ids: list[str]) -> None:
    """A route that is no path, an id that is none, and an id that is missing are refused before anything is sent."""
    with pytest.raises(InvalidArgument):
        EvalsClient(api_key=KEY).request("GET", route, ids=ids)


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_copies_share_everything_but_their_terms() -> None:
    """A copy sends over the same connections, adds headers and query to the client's, and leaves that as it was."""
    async with LocalServer() as server, client_of(server, default_headers={"X-A": "1", "X-B": "1"}) as client:
        copied = client.with_options(headers={"x-a": "2"}, query={"v": 1}).with_options(query={"v": 2, "w": 3})
        assert caller_of(copied).pipeline is caller_of(client).pipeline
        await copied.evals.list()
        assert ("2", "1") == (headers_of(server)["x-a"], headers_of(server)["x-b"])
        assert {"v": "2", "w": "3"} == server.requests[-1].query
        await client.evals.list()
        assert ("1", {}) == (headers_of(server)["x-a"], server.requests[-1].query)
        assert 2 == copied.statistics().requests == client.statistics().requests


def test_terms_of_copies() -> None:
    """Each option changes what it names, and nothing else."""
    client = EvalsClient(api_key=KEY, timeout=30, max_retries=4)
    assert (30, 5) == (caller_of(client).defaults.timeouts.total, caller_of(client).defaults.retry.attempts)
    retry, times = RetryPolicy(attempts=2, cap=1), Timeouts(total=9, attempt=3)
    copies: list[tuple[dict[str, Any], float | None, int]] = [
        ({}, 30, 5),
        ({"timeout": 90}, 90, 5),
        ({"timeout": None}, None, 5),
        ({"timeout": times}, 9, 5),
        ({"max_retries": 0}, 30, 1),
        ({"retry": retry}, 30, 2),
        ({"retry": retry, "max_retries": 7}, 30, 2),
    ]
    for options, total, attempts in copies:
        terms = caller_of(client.with_options(**options)).defaults
        assert (total, attempts) == (terms.timeouts.total, terms.retry.attempts)
    assert retry.cap == caller_of(client.with_options(retry=retry).with_options(max_retries=3)).defaults.retry.cap
    assert 20 == caller_of(client).defaults.timeouts.attempt
    assert 100 == caller_of(EvalsClient(api_key=KEY, timeout=300)).defaults.timeouts.attempt


def test_copies_are_of_the_same_class() -> None:
    """A subclass stays one, and so do its azure clients."""

    class Mine(EvalsClient):
        pass

    assert isinstance(Mine(api_key=KEY).with_options(), Mine)
    assert isinstance(Mine.azure(endpoint="https://a.example", api_key=KEY), Mine)


def test_options_of_copies_that_cannot_be_right() -> None:
    """A copy is refused what a client is refused."""
    client = EvalsClient(api_key=KEY)
    wrong: list[dict[str, Any]] = [{"timeout": 0}, {"max_retries": -1}, {"headers": {"a": "\n"}}, {"query": {"a": []}}]
    for options in wrong:
        with pytest.raises(ValueError, match=r"\w"):
            client.with_options(**options)


WRONG_TYPES: list[dict[str, Any]] = [
    {"retry": 5},
    {"headers": KEY},
    {"headers": {7: KEY}},
    {"query": [KEY]},
    {"query": {7: KEY}},
    {"default_headers": [("a", KEY)]},
    {"default_query": KEY},
    {"set_default_headers": KEY},
    {"set_default_query": KEY},
    {"webhook_secret": 7},
    {"webhook_secret": KEY.encode()},
    {"cache": KEY},
    {"cache": LRUCache},
    {"limiter": KEY},
    {"clock": 5},
    {"on_request": KEY},
    {"on_response": 5},
    {"on_retry": 5},
    {"session": KEY},
    {"trace_configs": KEY},
    {"trace_configs": 5},
    {"ssl": KEY},
    {"single_flight": "no"},
    {"trust_env": 1},
]


@pytest.mark.parametrize("options", WRONG_TYPES)
def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    """Are refused by name, without the value, when the client or its copy is made; not by the call that needs them."""
    (name,) = options
    word = "webhook secret" if name == "webhook_secret" else name
    of_copies = {"retry", "headers", "query", "webhook_secret"}
    if name not in {"headers", "query"} and not name.startswith("set_"):
        with pytest.raises(ConfigurationError, match=f"{word} must be ") as caught:
            client_with(**options)
        assert KEY not in str(caught.value)
    if name in of_copies or "default" in name:
        with pytest.raises(ConfigurationError, match=f"{word} must be ") as caught:
            EvalsClient(api_key=KEY).with_options(**options)
        assert KEY not in str(caught.value)


# --- what can be read of a client -------------------------------------------------------------------------------------


def test_settings_can_be_read_and_not_assigned() -> None:
    """A client tells what it was made with, and refuses another value in words that say what to do instead."""
    client = EvalsClient(api_key=KEY, base_url="http://127.0.0.1:9/v1", timeout=7, max_retries=4)
    assert (KEY, "http://127.0.0.1:9/v1", 7, 4) == (
        client.api_key,
        client.base_url,
        client.timeout,
        client.max_retries,
    )
    own: Any = client
    for name in ("api_key", "base_url", "timeout", "max_retries", "organization", "default_headers", "proxy"):
        with pytest.raises(AttributeError, match=rf"client\.with_options\({name}=\.\.\.\)"):
            setattr(own, name, "x")
    assert (KEY, 7) == (client.api_key, client.timeout)


@pytest.mark.parametrize("timeout", [None, 5, 600.0, Timeouts(total=9, attempt=1)])
def test_the_timeout_that_was_given_is_read(timeout: Any) -> None:
    """Whatever form it was given in."""
    assert timeout == EvalsClient(api_key=KEY, timeout=timeout).timeout
    assert timeout == EvalsClient(api_key=KEY).copy(timeout=timeout).timeout


def test_keys_that_are_no_text_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function, `NO_KEY` and a missing key have no text; a key of the environment has."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    keys = [EvalsClient(api_key=given).api_key for given in (NO_KEY, lambda: "token", None)]
    monkeypatch.delenv("OPENAI_API_KEY")
    assert [None, None, KEY, None] == [*keys, EvalsClient().api_key]


async def test_whether_a_client_is_closed() -> None:
    """`is_closed()` tells it, of copies too."""
    client = EvalsClient(api_key=KEY)
    copied = client.copy(timeout=3)
    assert not client.is_closed()
    await copied.close()
    assert client.is_closed()
    assert copied.is_closed()


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_closed_clients() -> None:
    """After `close()` every call is refused, on copies too; closing again does nothing."""
    async with LocalServer() as server:
        client = client_of(server)
        copied = client.with_options(timeout=3)
        await client.evals.list()
        await copied.close()
        await client.close()
        for closed in (client, copied):
            with pytest.raises(ClientClosed, match="make a new one"):
                await closed.evals.list()
        assert 1 == server.request_count


async def test_closing_ends_the_calls_under_way() -> None:
    """Calls that run when the client is closed end with `ClientClosed`, those that share a request included."""
    async with LocalServer() as server:
        server.faults.add(Fault(delay=60, times=None))
        client = EvalsClient(base_url=server.base_url, api_key=KEY)
        calls = [asyncio.create_task(client.evals.retrieve(name)) for name in ("e1", "e1", "e2")]
        while server.request_count < 2:
            await asyncio.sleep(0.001)
        await client.close()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [ClientClosed] * 3 == [type(end) for end in ends]


async def test_a_callers_session_is_never_closed() -> None:
    """The caller's own session is used, with what he set on it, and left open."""
    async with LocalServer() as server, aiohttp.ClientSession(headers={"X-Session": "mine"}) as session:
        async with client_of(server, session=session) as client:
            await client.evals.list()
        assert ("mine", False) == (headers_of(server)["x-session"], session.closed)
        async with client_of(server, session=session) as client:
            await client.evals.list()
        assert 2 == server.request_count


def test_a_client_of_a_module_in_a_second_asyncio_run(recwarn: pytest.WarningsRecorder) -> None:
    """Where the first loop is closed, the second opens connections of its own, and nothing complains."""
    with LocalServer.in_thread() as server:
        client = EvalsClient(base_url=server.base_url, api_key=KEY)

        async def calls() -> None:
            await asyncio.gather(*[client.evals.list().first() for _ in range(5)])

        for _ in range(3):
            asyncio.run(calls())
        asyncio.run(client.close())
        assert 15 == server.request_count
    gc.collect()
    assert [] == [str(each.message) for each in recwarn if issubclass(each.category, ResourceWarning)]


def test_second_loop() -> None:
    """A client belongs to the loop of its first call; from another loop it is refused at once, with a way out."""
    client = EvalsClient(api_key=KEY, base_url="http://127.0.0.1:9", max_retries=0)

    async def first() -> None:
        with pytest.raises(Exception, match="no connection"):
            await client.evals.retrieve("e1")

    async def second() -> None:
        with pytest.raises(WrongLoop, match="make one client per loop"):
            await client.evals.retrieve("e1")

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(first())
        other.run(second())
        one.run(client.close())


# --- what it tells ----------------------------------------------------------------------------------------------------


async def test_the_key_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The key is in no text form of the client, of its parts or of its errors, and in no log line."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    async with LocalServer(api_key="another") as server, client_of(server, webhook_secret=KEY) as client:
        with pytest.raises(Unauthenticated) as caught:
            await client.evals.retrieve("e1")
        texts += traceback.format_exception(caught.value)
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        texts += [str(caught.value), repr(vars(caught.value)), *list(shown.format())[1:]]
        caller = caller_of(client)
        for part in (client, client.with_options(), caller, caller.defaults, caller.pipeline, client.webhooks):
            texts += [repr(part), str(part), repr(getattr(part, "__dict__", "")), repr(dir(part))]
        texts += [repr(vars(caller.pipeline)), repr(vars(client.webhooks))]
        assert f"EvalsClient(base_url='{server.base_url}')" == repr(client)
    texts += [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    assert caplog.records
    assert [] == [text for text in texts if KEY in text]


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
def test_clients_are_not_copied(act: Any) -> None:
    """A client is neither pickled nor copied: its key would go along."""
    with pytest.raises(TypeError, match="cannot be pickled or copied") as caught:
        act(EvalsClient(api_key=KEY))
    assert KEY not in str(caught.value)


async def test_statistics_and_hooks() -> None:
    """The client counts what it does, and tells those who listen."""
    told: list[tuple[str, object]] = []
    async with (
        LocalServer() as server,
        EvalsClient(
            base_url=server.base_url,
            api_key=KEY,
            clock=FakeClock(),
            on_request=lambda request: told.append(("request", request.route)),
            on_response=lambda request, response, seconds: told.append(("response", response.status)),
            on_retry=lambda request, error, wait: told.append(("retry", type(error).__name__)),
        ) as client,
    ):
        server.faults.add(Fault(status=503))
        with pytest.raises(NotFound):
            await client.evals.retrieve("e1")
        assert (2, 1) == (client.statistics().requests, client.statistics().retries)
        route = ("request", "/evals/{eval_id}")
        assert [route, ("response", 503), ("retry", "ServerError"), route, ("response", 404)] == told


@pytest.mark.virtual_time
async def test_timeouts_of_one_call() -> None:
    """A call's own `timeout` goes before the client's."""
    clock = ScaledClock(1.0)
    async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key=KEY, clock=clock) as client:
        server.faults.add(Fault(delay=60, times=None))
        for call in (
            client.evals.retrieve("e1", timeout=0.02),
            client.with_options(timeout=0.02).evals.retrieve("e1"),
            client.evals.list(timeout=0.02).first(),
        ):
            with pytest.raises(TimeoutError, match=r"0\.02 s"):
                await call

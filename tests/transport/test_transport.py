"""The session's life and its settings: base URLs, the caller's session, TLS, proxies, uploads and downloads."""

import asyncio
import copy
import datetime
import gc
import gzip
import pickle
import re
import ssl
import weakref
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from transport.faultserver import FaultServer, answer, message, raw
from transport.harness import KEY, POLICY, TIMES, assert_plain, body_of, loop_messages, pipeline_for, request, serving

from evals_async._transport import Pipeline, Request, Response, RetryPolicy, Timeouts, Transport, Upload
from evals_async._transport.connection import failure_for
from evals_async._transport.state import UsualHeaders
from evals_async.errors import (
    ApiError,
    ClientClosed,
    ConfigurationError,
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    DecodeError,
    InvalidArgument,
    ProtocolError,
    RequestError,
    ResponseTruncated,
    TlsError,
    WrongLoop,
)


async def get(pipeline: Pipeline, **more: Any) -> bytes:
    return await pipeline.send(request(**more), body_of, timeouts=TIMES, policy=POLICY)


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("", "/evals/e1?limit=2"),
        ("/", "/evals/e1?limit=2"),
        ("/v1", "/v1/evals/e1?limit=2"),
        ("/v1/", "/v1/evals/e1?limit=2"),
        ("/api/projects/p%20q/openai/v1", "/api/projects/p%20q/openai/v1/evals/e1?limit=2"),
        ("/v1?api-version=v1", "/v1/evals/e1?api-version=v1&limit=2"),
        ("/v1?limit=9&a=b", "/v1/evals/e1?limit=2&a=b"),
    ],
)
async def test_a_path_and_a_query_of_the_base_url_are_kept(base: str, target: str) -> None:
    """I06: a request's path comes after the base's, and its query goes before the base's where both name the same."""
    async with FaultServer(answer()) as server:
        pipeline = pipeline_for(f"http://localhost:{server.port}{base}")
        await get(pipeline, query=(("limit", "2"),))
        await pipeline.close()
        assert target == server.seen[0].target


async def test_queries_are_encoded_and_a_repeated_name_stays_repeated() -> None:
    """What a parameter holds cannot become another parameter."""
    async with serving(answer()) as (server, pipeline):
        await get(pipeline, query=(("after", "a&b=c d/+%"), ("include[]", "x"), ("include[]", "y")))
        assert "/v1/evals/e1?after=a%26b%3Dc+d/%2B%25&include%5B%5D=x&include%5B%5D=y" == server.seen[0].target


async def test_defaults_come_before_the_requests_own() -> None:
    """Headers and query of a call are added; the request's win, over the client's credentials too."""
    async with serving(answer()) as (server, pipeline):
        await pipeline.send(
            request(headers={"x-a": "request", "authorization": "mine"}, query=(("q", "request"),)),
            body_of,
            timeouts=TIMES,
            policy=POLICY,
            headers=UsualHeaders({"X-A": "call", "X-B": "call", "user-agent": "mine"}),
            query=(("q", "call"), ("r", "call")),
        )
        seen = server.seen[0]
        assert ("request", "call", "mine") == tuple(seen.header(name) for name in ("x-a", "x-b", "user-agent"))
        assert ["mine"] == [value for name, value in seen.headers if name.lower() == "authorization"]
        assert "gzip, deflate" == seen.header("accept-encoding")
        assert "/v1/evals/e1?r=call&q=request" == seen.target


async def test_a_transport_is_made_without_a_loop_and_opened_on_first_use() -> None:
    """L10: nothing is opened before the first request; without one, there is nothing to close."""
    transport = await asyncio.to_thread(Transport, "http://localhost:1")
    assert transport.session is None
    await transport.close()
    with pytest.raises(ClientClosed):
        transport.check()


async def test_another_loop_is_refused_at_once() -> None:
    """L08: from another thread with its own loop."""
    async with serving(answer()) as (server, pipeline):
        await get(pipeline)

        def elsewhere() -> None:
            asyncio.run(get(pipeline))

        with pytest.raises(WrongLoop, match="one client per loop"):
            await asyncio.to_thread(elsewhere)
        assert 1 == len(server.seen)


async def test_the_callers_session_is_used_and_never_closed() -> None:
    """Its cookies and middlewares still work, redirects and hidden resends still do not."""
    passed: list[str] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        passed.append(request.method)
        return await handler(request)

    session = aiohttp.ClientSession(middlewares=(middleware,), raise_for_status=True)
    async with session, serving(answer(), raw(b"", then="rst"), session=session) as (server, pipeline):
        assert b"{}" == await get(pipeline)
        with pytest.raises(ConnectionDropped) as caught:
            await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
        assert caught.value.maybe_executed
        with pytest.raises(ConnectionDropped):
            await get(pipeline)
        assert 5 == len(server.seen) == len(passed)
        await pipeline.close()
        assert not session.closed
        await session.close()


async def test_of_the_callers_session_it_is_not_known_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connector tells nothing: a create that ran out of time may have been carried out, even while connecting."""

    async def resolve(*args: object, **more: object) -> list[Any]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with aiohttp.ClientSession() as session:
        pipeline = pipeline_for("http://nowhere.example/v1", session=session)
        times = Timeouts(total=2.0, attempt=0.5, connect=60.0)
        with pytest.raises(DeadlineExceeded) as caught:
            await pipeline.send(request("create"), body_of, timeouts=times, policy=POLICY)
        assert (1, True) == (caught.value.attempts, caught.value.maybe_executed)


async def test_a_closed_session_of_the_caller_is_told() -> None:
    """ClientClosed, not RuntimeError."""
    session = aiohttp.ClientSession()
    await session.close()
    pipeline = pipeline_for("http://localhost:1", session=session)
    with pytest.raises(ClientClosed, match="session of this client is closed"):
        await get(pipeline)


async def test_as_many_slots_as_the_callers_connections() -> None:
    """Requests queue before the connector, not in the connector."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=7)) as session:
        assert 7 == pipeline_for("http://localhost:1", session=session).transport.pool.slots.count
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        assert 100 == pipeline_for("http://localhost:1", session=session).transport.pool.slots.count


@pytest.mark.parametrize("options", [{"connections": 0}, {"max_body": 0}])
def test_settings_that_cannot_be(options: dict[str, Any]) -> None:
    """Refused when the transport is made."""
    with pytest.raises(ConfigurationError):
        Transport("http://localhost", **options)


async def test_trace_configs_are_called() -> None:
    """So that OpenTelemetry's instrumentation of aiohttp works."""
    traced: list[str] = []
    config = aiohttp.TraceConfig()

    async def begun(session: object, context: object, parameters: aiohttp.TraceRequestStartParams) -> None:
        traced.append(parameters.method)

    config.on_request_start.append(begun)
    async with serving(answer(), trace_configs=[config]) as (_, pipeline):
        await get(pipeline)
        assert ["GET"] == traced


async def test_the_environment_is_ignored_unless_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """I07: HTTP_PROXY counts with `trust_env` alone, and netrc never."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login a password b\nmachine api.example login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with FaultServer(answer(200, b'"proxy"')) as proxy, FaultServer(answer(200, b'"server"')) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        for trust, host, expected in (
            (False, f"localhost:{server.port}", b'"server"'),
            (True, "api.example", b'"proxy"'),
        ):
            pipeline = pipeline_for(f"http://{host}/v1", trust_env=trust)
            assert expected == await get(pipeline)
            await pipeline.close()
        assert [f"Bearer {KEY}"] == [seen.header("authorization") for seen in proxy.seen]
        monkeypatch.setenv("NO_PROXY", "localhost")
        pipeline = pipeline_for(f"http://localhost:{server.port}/v1", trust_env=True)
        assert b'"server"' == await get(pipeline)
        await pipeline.close()


async def test_a_proxy_by_name() -> None:
    """`proxy=` needs no environment."""
    async with FaultServer(answer()) as proxy:
        pipeline = pipeline_for("http://api.example/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        await get(pipeline)
        await pipeline.close()
        assert "http://api.example/v1/evals/e1" == proxy.seen[0].target


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL's types too
    return context


def trusting(context: ssl.SSLContext, authority: trustme.CA) -> None:
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL's types too


@pytest.mark.parametrize("fault", ["self-signed", "wrong host", "expired"])
async def test_certificates_that_are_refused(authority: trustme.CA, fault: str) -> None:
    """C03: TlsError, one attempt, nothing sent."""
    ended = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = authority.issue_cert(
        "elsewhere.example" if fault == "wrong host" else "localhost", not_after=ended if fault == "expired" else None
    )
    trust = ssl.create_default_context()
    if fault != "self-signed":
        trusting(trust, authority)
    async with FaultServer(answer(), tls=server_side(certificate)) as server:
        with loop_messages():  # the server's side of the refusal
            error = await refused(f"https://localhost:{server.port}/v1", trust)
        assert not error.no_tls
        assert not server.seen


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_port_that_does_not_speak_tls(greeting: bytes) -> None:
    """C03: TlsError, one attempt. It speaks of http://, not of certificates."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await refused(f"https://localhost:{port}", ssl.create_default_context())
    server.close()
    assert error.no_tls
    assert f"localhost:{port} does not speak TLS, but probably plain http; if so, use http:// instead" in str(error)
    assert "certificate" not in str(error)


async def refused(url: str, trust: ssl.SSLContext) -> TlsError:
    """A create to that URL ends in a TlsError, before anything is sent. Returns the error."""
    pipeline = pipeline_for(url, ssl=trust)
    with pytest.raises(TlsError) as caught:
        await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
    await pipeline.close()
    assert (1, False) == (caught.value.attempts, caught.value.maybe_executed)
    assert_plain(caught.value)
    return caught.value


async def test_certificates_that_are_trusted(authority: trustme.CA) -> None:
    """A context of one's own is all that a private authority needs."""
    trust = ssl.create_default_context()
    trusting(trust, authority)
    tls = server_side(authority.issue_cert("localhost"))
    async with serving(answer(), tls=tls, trust=trust) as (_, pipeline):
        assert b"{}" == await get(pipeline)


async def test_a_tls_handshake_that_is_dropped_is_tried_again(authority: trustme.CA) -> None:
    """C03: a broken connection is no refused certificate."""
    accepted = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    pipeline = pipeline_for(f"https://localhost:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(ConnectFailed) as caught:
        await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
    await pipeline.close()
    server.close()
    assert (ConnectFailed, 3, 3) == (type(caught.value), caught.value.attempts, accepted)
    assert_plain(caught.value)


class Kept:
    """A sink in memory; `fails` makes it refuse the first piece."""

    def __init__(self, *, fails: bool = False) -> None:
        self.data = b""
        self.restarts = 0
        self.fails = fails

    def restart(self) -> None:
        self.data = b""
        self.restarts += 1

    def write(self, chunk: bytes, /) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.data += chunk


def download(sink: Kept) -> Request:
    return request(path="/files/f1/content", route="/files/{file_id}/content", sink=sink)


async def test_a_download_goes_to_its_sink_whole_and_begins_again_after_a_break() -> None:
    """Nothing of a broken attempt stays, and the limit on bodies does not count."""
    content = b"0123456789" * 200_000
    broken = raw(message(200, content[:1000], length=len(content)), then="fin")
    async with serving(broken, answer(200, content)) as (server, pipeline):
        sink = Kept()
        assert b"" == await pipeline.send(download(sink), body_of, timeouts=TIMES, policy=POLICY)
        assert (content, 2) == (sink.data, sink.restarts)
        assert ["identity"] * 2 == [seen.header("accept-encoding") for seen in server.seen]
        assert pipeline.statistics().bytes_received >= len(content)


async def test_a_download_that_only_needs_unpacking_lets_others_go_on() -> None:
    """Also a server that compresses unasked does not hold the loop: it goes round between any two megabytes."""
    content = bytes(16 * 2**20)
    rounds = 0

    async def go_round() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    class Watchful(Kept):
        def write(self, chunk: bytes, /) -> None:
            taken[rounds] = taken.get(rounds, 0) + len(chunk)

    taken: dict[int, int] = {}
    packed = answer(200, gzip.compress(content), ("Content-Encoding", "gzip"))
    async with serving(packed) as (_, pipeline):
        others = asyncio.create_task(go_round())
        await pipeline.send(download(Watchful()), body_of, timeouts=TIMES, policy=POLICY)
        others.cancel()
    assert len(content) == sum(taken.values())
    assert max(taken.values()) <= 2 * 2**20


async def test_an_error_does_not_go_to_the_sink() -> None:
    """A status of failure is an error as anywhere."""
    async with serving(answer(404, b'{"error":{"message":"No such File object"}}')) as (_, pipeline):
        sink = Kept()
        with pytest.raises(ApiError, match="No such File object"):
            await pipeline.send(download(sink), body_of, timeouts=TIMES, policy=POLICY)
        assert 0 == sink.restarts


async def test_what_a_sink_raises_is_the_callers() -> None:
    """A full disk is no broken connection, and is not tried again."""
    async with serving(answer(200, b"x")) as (server, pipeline):
        with pytest.raises(OSError, match="No space left") as caught:
            await pipeline.send(download(Kept(fails=True)), body_of, timeouts=TIMES, policy=POLICY)
        assert 1 == len(server.seen)
        assert_plain(caught.value)


async def test_a_download_may_take_longer_than_an_attempt_but_not_fall_silent() -> None:
    """Bytes that come keep it alive; when none come for an attempt's time, it is over."""

    async def slowly(peer: Any) -> bool:
        await peer.send(message(200, b"", length=5))
        for _ in range(5):
            await asyncio.sleep(0.03)
            await peer.send(b"x")
        return True

    times = Timeouts(total=10.0, attempt=0.1)
    async with serving(slowly, raw(message(200, b"x", length=5), then="stall"), speed=1.0) as (_, pipeline):
        sink = Kept()
        await pipeline.send(download(sink), body_of, timeouts=times, policy=POLICY)
        assert b"xxxxx" == sink.data
        with pytest.raises(DeadlineExceeded, match="fell silent"):
            await pipeline.send(download(Kept()), body_of, timeouts=times, policy=RetryPolicy(attempts=1))


async def test_a_truncated_download_is_an_error() -> None:
    """Never a short file that looks whole."""
    async with serving(raw(message(200, b"x" * 10, length=20), then="fin")) as (_, pipeline):
        with pytest.raises(ResponseTruncated):
            await pipeline.send(download(Kept()), body_of, timeouts=TIMES, policy=POLICY)


@pytest.mark.parametrize("from_path", [False, True])
async def test_an_upload_is_sent_anew_and_alike(tmp_path: Path, from_path: bool) -> None:
    """W05: a form with its fields and its file, the same bytes on each attempt, files closed behind it."""
    content = b'{"item": {}}\n' * 100_000  # more than a megabyte
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    upload = Upload(
        filename="däta.jsonl",
        source=path if from_path else content,
        fields=(("purpose", "evals"),),
        content_type="application/jsonl",
    )
    async with serving(answer(429, b"", ("Retry-After-Ms", "1")), answer()) as (server, pipeline):
        sent = request("create", path="/files", route="/files", body=upload)
        await pipeline.send(sent, body_of, timeouts=TIMES, policy=POLICY)
        first, second = server.seen
        assert first.body == second.body
        assert first.header("content-type") == second.header("content-type")
        kind, _, boundary = (first.header("content-type") or "").partition("; boundary=")
        assert "multipart/form-data" == kind
        parts = first.body.split(f"--{boundary}".encode())
        assert 4 == len(parts)
        assert b'name="purpose"' in parts[1]
        assert parts[1].endswith(b"\r\n\r\nevals\r\n")
        assert b'name="file"' in parts[2]
        assert b"Content-Type: application/jsonl" in parts[2]
        assert parts[2].endswith(b"\r\n\r\n" + content + b"\r\n")


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3 << 20])
async def test_a_large_body_is_sent_whole_each_time(size: int) -> None:
    """W05: as JSON, with its length, and without a warning of aiohttp's."""
    body = b"[" + b"1" * (size - 2) + b"]"
    async with serving(answer(429, b"", ("Retry-After-Ms", "1")), answer()) as (server, pipeline):
        await pipeline.send(request("create", body=body), body_of, timeouts=TIMES, policy=POLICY)
        assert [body, body] == [seen.body for seen in server.seen]
        assert [str(size)] * 2 == [seen.header("content-length") for seen in server.seen]
        assert ["application/json"] * 2 == [seen.header("content-type") for seen in server.seen]


async def test_a_file_that_is_not_there_is_the_callers_error(tmp_path: Path) -> None:
    """FileNotFoundError, at once, and nothing is sent."""
    upload = Upload(filename="x", source=tmp_path / "missing")
    async with serving(answer()) as (server, pipeline):
        with pytest.raises(FileNotFoundError):
            await pipeline.send(request("create", body=upload), body_of, timeouts=TIMES, policy=POLICY)
        assert not server.seen


def test_nothing_that_holds_a_key_is_shown_pickled_or_copied() -> None:
    """I08: repr, str, vars; pickle and deepcopy refuse."""
    pipeline = pipeline_for("http://localhost:1")
    for thing in (pipeline, pipeline.auth, pipeline.transport):
        assert KEY not in f"{thing!r} {thing} {vars(thing)!r} {dir(thing)}"
    for thing in (pipeline, pipeline.auth):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.deepcopy(thing)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 1), TlsError, "unexpected fingerprint"),
        (aiohttp.ClientOSError(32, "Broken pipe"), ConnectionDropped, "Broken pipe"),
        (aiohttp.ServerDisconnectedError(), ConnectionDropped, "Server disconnected"),
        (aiohttp.ClientConnectionError(object()), ConnectionDropped, "ClientConnectionError"),
        (aiohttp.ClientConnectionError("x" * 999), ConnectionDropped, "broke: x{200}$"),
        (aiohttp.InvalidURL("http://secret"), ProtocolError, "failed: InvalidURL$"),
        (OSError("odd"), ConnectionDropped, "odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_errors_of_aiohttp_become(error: Exception, kind: type[RequestError], words: str) -> None:
    """Plain values, in few words, and never a URL."""
    failure = failure_for(error)
    assert kind is type(failure)
    assert re.search(words, failure.message)
    assert_plain(failure)


async def test_a_proxy_that_refuses() -> None:
    """To the client that is no connection, so nothing was sent."""
    async with FaultServer(answer(407)) as proxy:
        pipeline = pipeline_for("https://api.example/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectFailed, match="the proxy answered 407") as caught:
            await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
        await pipeline.close()
        assert (3, False) == (caught.value.attempts, caught.value.maybe_executed)
        assert [None] * 3 == [seen.header("authorization") for seen in proxy.seen]
        assert_plain(caught.value)


async def test_a_transport_that_is_forgotten_complains_in_its_own_name() -> None:
    """L07: one ResourceWarning that names our class; the connections end."""
    async with FaultServer(answer()) as server:
        pipeline = pipeline_for(server.url)
        await get(pipeline)
        kept = [pipeline]
        del pipeline

        def forget() -> None:
            kept.clear()
            gc.collect()

        with pytest.warns(ResourceWarning, match=r"unclosed Transport\(base_url='http://localhost") as caught:
            forget()
        assert 1 == len(caught)
        assert await server.all_closed()


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "v1\r\nX-B: b"), ("X-A", "v1\0"), ("X-A", "v1é"), ("X-A: b\r\nX-B", "v1"), ("", "v1"), ("X A", "v1")],
    ids=ascii,
)
async def test_headers_that_would_be_others(name: str, value: str) -> None:
    """I05: refused before anything is sent, without the value."""
    async with serving(answer()) as (server, pipeline):
        with pytest.raises(InvalidArgument, match="cannot be sent") as caught:
            await get(pipeline, headers={name: value})
        assert not server.seen
        assert "v1" not in str(caught.value)


async def test_errors_are_freed_without_the_collector() -> None:
    """An error that nobody keeps is gone at once, and with it the body that it holds; also one that ended a task."""
    async with serving(answer(200, b"x")) as (_, pipeline):

        async def refuse(response: Response) -> bytes:
            raise DecodeError("no", body=response.body)

        gc.collect()
        gc.disable()
        try:
            kept: list[weakref.ref[BaseException]] = []
            for _ in range(3):
                try:
                    await pipeline.send(request(), refuse, timeouts=TIMES, policy=POLICY)
                except DecodeError as error:
                    kept.append(weakref.ref(error))
            task = asyncio.create_task(pipeline.send(request(), refuse, timeouts=TIMES, policy=POLICY))
            await asyncio.wait([task])
            kept.extend(map(weakref.ref, filter(None, [task.exception()])))
            del task
            assert [None] * 4 == [ref() for ref in kept]
        finally:
            gc.enable()

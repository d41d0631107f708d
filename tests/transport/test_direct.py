"""The direct path: when requests go over it, when they go over the session, and that nobody sees a difference."""

import socket
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aioresponses import aioresponses
from resources.session_double import StreamedResponse
from transport.faultserver import FaultServer, answer, message, raw
from transport.harness import KEY
from waiting import LONGEST

from evals_async import EvalsClient
from evals_async._transport import direct
from evals_async._transport.direct import DirectExchange, replaced
from evals_async._transport.state import CallState
from evals_async.errors import ConnectionDropped
from evals_async.models.params import FileContentRowParam, JsonlDataSourceParam


RUN = b'{"id": "run_1", "eval_id": "eval_1", "object": "eval.run", "status": "completed"}'
SOURCE: JsonlDataSourceParam = {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}
FILE = b'{"id": "file-1", "object": "file", "bytes": 3, "filename": "a.jsonl", "purpose": "evals", "created_at": 1}'


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the requests that went over the direct path."""
    found: list[str] = []
    send = DirectExchange.send

    async def noted(self: DirectExchange, call: CallState[Any], *args: Any, **more: Any) -> Any:
        found.append(call.request.method)
        return await send(self, call, *args, **more)

    monkeypatch.setattr(DirectExchange, "send", noted)
    return found


async def retrieve(url: str, **options: Any) -> str | None:
    """One read; what the statistics then say of the way."""
    async with EvalsClient(base_url=url, api_key=KEY, **options) as client:
        assert (await client.evals.runs.retrieve("run_1", eval_id="eval_1")).id == "run_1"
        return client.statistics().over_session


async def test_reads_and_small_writes_go_directly(sent: list[str]) -> None:
    """Reads, creates with small bodies and deletes go over the direct path, with their bodies and lengths."""
    deleted = b'{"object": "eval.deleted", "deleted": true, "eval_id": "eval_1"}'
    async with FaultServer(answer(200, RUN), answer(201, RUN), answer(200, RUN), answer(200, deleted)) as server:
        async with EvalsClient(base_url=server.url, api_key=KEY) as client:
            await client.evals.runs.retrieve("run_1", eval_id="eval_1")
            await client.evals.runs.create(
                "eval_1", data_source={"type": "jsonl", "source": {"type": "file_id", "id": "f"}}
            )
            await client.evals.runs.cancel("run_1", eval_id="eval_1")
            await client.evals.delete("eval_1")
            assert client.statistics().over_session is None
        get, create, cancel, delete = server.seen
    assert sent == ["GET", "POST", "POST", "DELETE"]
    assert (get.header("content-length"), cancel.header("content-length"), delete.header("content-length")) == (
        None,
        "0",
        None,
    )
    assert create.header("content-type") == "application/json"
    assert create.header("content-length") == str(len(create.body))
    assert get.header("host") == server.url.removeprefix("http://").partition("/")[0]


async def test_the_query_of_the_base_url_goes_along(sent: list[str]) -> None:
    """A query in the base URL is sent by both ways, and a listing's parameters with it."""
    page = b'{"object": "list", "data": [], "has_more": false}'
    async with FaultServer(answer(200, RUN), answer(200, page)) as server:
        async with EvalsClient(base_url=f"{server.url}?api-version=v1", api_key=KEY) as client:
            await client.evals.runs.retrieve("run_1", eval_id="eval_1")
            await client.evals.runs.list("eval_1", limit=5)
        first, second = (seen.target for seen in server.seen)
    assert first.endswith("/evals/eval_1/runs/run_1?api-version=v1")
    assert second.endswith("/evals/eval_1/runs?api-version=v1&limit=5")
    assert sent == ["GET", "GET"]


async def test_a_callers_session_is_used(sent: list[str]) -> None:
    """Requests go over the caller's own session, whose settings are its owner's business."""
    async with FaultServer(answer(200, RUN)) as server, aiohttp.ClientSession() as session:
        assert await retrieve(server.url, session=session) == "the session is the caller's"
    assert sent == []


async def test_a_proxy_is_asked(sent: list[str]) -> None:
    """With a proxy, requests go over the session, which knows how to talk to one."""
    async with FaultServer(answer(200, RUN)) as server:
        proxy = server.url.removesuffix("/v1")
        assert await retrieve("http://localhost:9/v1", proxy=proxy) == "there is a proxy"
        assert server.seen[0].target.startswith("http://localhost:9/v1/")
    assert sent == []


async def test_traces_are_told(sent: list[str]) -> None:
    """Trace configurations, as OpenTelemetry's, see every request, because they go over the session."""
    seen: list[str] = []
    trace = aiohttp.TraceConfig()

    async def began(session: object, context: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.method)

    trace.on_request_start.append(began)
    async with FaultServer(answer(200, RUN)) as server:
        assert await retrieve(server.url, trace_configs=[trace]) == "there are trace configurations"
    assert (sent, seen) == ([], ["GET"])


async def test_files_go_over_the_session(sent: list[str], tmp_path: Path) -> None:
    """Uploads, and downloads into a file, go over the session; reads of the same client do not."""
    scenes = (answer(200, FILE), answer(200, b"abc"), answer(200, RUN))
    async with FaultServer(*scenes) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
        await client.files.create(file=("a.jsonl", b'{"item": {}}\n'), purpose="evals")
        await client.files.content("file-1", to=tmp_path / "a.jsonl")
        assert sent == []
        await client.evals.runs.retrieve("run_1", eval_id="eval_1")
    assert (tmp_path / "a.jsonl").read_bytes() == b"abc"
    assert sent == ["GET"]


async def test_a_large_body_goes_over_the_session(sent: list[str]) -> None:
    """A body that the socket may not take at once is sent in pieces, by the session."""
    rows: list[FileContentRowParam] = [{"item": {"text": "x" * 1000}} for _ in range(200)]
    source: JsonlDataSourceParam = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    async with FaultServer(answer(201, RUN)) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
        await client.evals.runs.create("eval_1", data_source=source)
        assert len(server.seen[0].body) > direct.MOST_SENT
    assert sent == []


@pytest.mark.parametrize(
    ("owner", "name"), [(ResponseHandler, "set_response_params"), (aiohttp.StreamReader, "read_nowait")]
)
async def test_an_unfamiliar_name(monkeypatch: pytest.MonkeyPatch, sent: list[str], owner: type, name: str) -> None:
    """Where aiohttp lacks a name that is needed, or has another signature, the session is used, and says why."""
    names: Mapping[type, Any] = {**direct.NAMES, owner: (*direct.NAMES[owner], "no_such_name")}
    monkeypatch.setattr(direct, "NAMES", names)
    direct.unfit.cache_clear()
    try:
        async with FaultServer(answer(200, RUN)) as server:
            reason = await retrieve(server.url)
    finally:
        monkeypatch.undo()
        direct.unfit.cache_clear()
    assert reason == f"aiohttp {aiohttp.__version__} has no {owner.__name__}.no_such_name"
    assert name in direct.NAMES[owner]
    assert sent == []


async def test_another_signature(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    """Where the connector takes other arguments, the session is used."""
    monkeypatch.setattr(direct, "CONNECT", ("self", "request"))
    direct.unfit.cache_clear()
    try:
        async with FaultServer(answer(200, RUN)) as server:
            assert "another BaseConnector.connect" in (await retrieve(server.url) or "")
    finally:
        direct.unfit.cache_clear()
    assert sent == []


async def test_a_replaced_session_is_used(sent: list[str]) -> None:
    """While aioresponses stands in for the session it sees the requests, and afterwards they go directly again."""
    async with FaultServer(answer(200, RUN)) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
        await client.evals.runs.retrieve("run_1", eval_id="eval_1")
        with aioresponses() as session:
            url = f"{server.url}/evals/eval_1/runs/run_1"
            # aioresponses' own annotation leaves a type open.
            session.get(  # pyright: ignore[reportUnknownMemberType]
                url, body=RUN, headers={"x-request-id": "double"}, response_class=StreamedResponse
            )
            answered = await client.evals.runs.with_raw_response.retrieve("run_1", eval_id="eval_1")
            assert answered.request_id == "double"
        assert len(server.seen) == 1
        await client.evals.runs.retrieve("run_1", eval_id="eval_1")
        assert len(server.seen) == 2
    assert sent == ["GET", "GET"]


def test_a_replacement_that_was_there_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not aiohttp's own function is known by its file, also if it was there before this package."""
    assert not replaced()

    async def other(self: object) -> None:
        """Stand in."""

    monkeypatch.setattr(aiohttp.ClientSession, "_request", other)
    assert replaced()


async def test_the_key_is_in_no_traceback() -> None:
    """A traceback with local variables, of an error in the middle of a request, does not show the key."""
    broken = raw(b"", then="rst")
    async with FaultServer(broken) as server, EvalsClient(base_url=server.url, api_key=KEY, max_retries=0) as client:
        with pytest.raises(ConnectionDropped) as dropped:
            await client.evals.runs.retrieve("run_1", eval_id="eval_1")
    text = "".join(traceback.TracebackException.from_exception(dropped.value, capture_locals=True).format())
    assert KEY not in text
    assert KEY not in repr(direct.Head({"Authorization": KEY}, "host"))


class ClosingServer:
    """A server in a thread of its own, which answers one request on each connection, and closes it when told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.close_now, self.closed = threading.Event(), threading.Event()
        self.connections = 0
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                    received += connection.recv(65536)
                connection.sendall(message(201, RUN))
                self.close_now.wait(LONGEST)
                self.close_now.clear()
            self.closed.set()


@pytest.mark.real_time
@pytest.mark.usefixtures("way")
async def test_creates_after_the_server_closed_idle_connections() -> None:
    """The server closes an idle connection while the loop is busy, so that this lies unread in the socket: the next
    create takes another connection. Five of five succeed, without a retry.
    """
    server = ClosingServer()
    with server.listener:
        async with EvalsClient(base_url=server.url, api_key=KEY, max_retries=0) as client:
            for number in range(5):
                run = await client.evals.runs.create("eval_1", data_source=SOURCE)
                assert (run.id, server.connections) == ("run_1", number + 1)
                server.close_now.set()
                assert server.closed.wait(LONGEST)  # blocks the loop, as a busy program does
                server.closed.clear()
            assert client.statistics().retries == 0
            server.listener.close()

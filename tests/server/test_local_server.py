"""The server as a thing: where it is, what it remembers, how it begins and ends."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from doubles import FakeClock
from plainhttp import EXACT, PlainHttp, eval_request, row, run_request
from waiting import LONGEST

from evals_async.errors import ArchiveError
from evals_async.server import Fault, FaultPlan, LocalServer


async def test_it_listens_on_the_loopback_only_while_it_runs() -> None:
    """A free port of 127.0.0.1, named by base_url, and closed afterwards."""
    async with LocalServer() as server:
        assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
        assert server.base_url in repr(server)
        async with PlainHttp(server) as http:
            assert (await http.get("/evals")).status == 200
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    with pytest.raises(RuntimeError, match="not running"):
        await server.seed(evals=[])
    await server.close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    """A second server on the same port does not begin, and leaves nothing open."""
    async with LocalServer() as server:
        with pytest.raises(OSError, match="address already in use"):
            await LocalServer(port=server.port).start()


async def test_a_file_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    """Foreign files are refused before the server listens."""
    (tmp_path / "x.db").write_bytes(b"something else, and long enough" * 100)
    with pytest.raises(ArchiveError):
        await LocalServer(tmp_path / "x.db").start()


@pytest.mark.parametrize(
    "base", ["", "/v1", "/openai/v1", "/openai", "/api/projects/my%20project/openai/v1", "/api/projects/p/openai"]
)
async def test_every_base_path_leads_to_the_same_api(http: PlainHttp, server: LocalServer, base: str) -> None:
    """The service's base, Azure's bases and none at all; an api-version in the query is not looked at."""
    root = f"http://127.0.0.1:{server.port}{base}"
    made = (await http.send("POST", f"{root}/evals?api-version=2025-04-01-preview", json=eval_request())).json
    assert (await http.get(f"{root}/evals/{made['id']}?api-version=preview")).json == made
    assert (await http.get(f"{root}/evals/?api-version=v1")).json["first_id"] == made["id"]
    assert server.requests[-1].route == "/evals"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/embeddings", 404),
        ("GET", "/chat/completions", 405),
        ("GET", "/evals/eval_1/outputs", 404),
        ("GET", "/evals//runs", 404),
        ("GET", "/evals/eval_1/runs/evalrun_1/cancel/now", 404),
        ("PUT", "/evals/eval_1", 405),
        ("PATCH", "/evals/eval_1", 405),
        ("DELETE", "/evals", 405),
        ("GET", "/evals/eval_1/runs/evalrun_1/cancel", 405),
        ("POST", "/evals/eval_1/runs/evalrun_1/output_items", 405),
    ],
)
async def test_other_paths_and_methods_are_refused(http: PlainHttp, method: str, path: str, status: int) -> None:
    """Unknown paths are 404 and unknown methods 405, in the API's form."""
    answer = await http.send(method, path)
    assert (answer.status, answer.json["error"]["type"]) == (status, "invalid_request_error")


async def test_answers_carry_the_services_headers(http: PlainHttp) -> None:
    """A request id of its own, the processing time in ms, the version, and JSON."""
    answers = await asyncio.gather(*(http.get(path) for path in ("/evals", "/nothing", "/files", "/evals/none")))
    for answer in answers:
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["openai-processing-ms"].isdecimal()
        assert answer.headers["openai-version"] == "2020-10-01"
        assert answer.headers["Content-Type"] == "application/json"
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


async def test_an_error_of_the_server_itself_is_a_500(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong inside is logged, answered in the API's form, and tells nothing of the inside."""
    path = tmp_path / "store.db"
    async with LocalServer(path) as server, PlainHttp(server) as http:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE evals")
        answer = await http.get("/evals")
    assert answer.problem == (500, None, None)
    assert b"evals" not in answer.body
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_it_remembers_what_arrived(clock: FakeClock) -> None:
    """Method, path, route, query, headers and status, in order, and of the last requests only."""
    async with LocalServer(clock=clock, remembered=3) as server, PlainHttp(server, {"x-mine": "1"}) as http:
        for number in range(3):
            await http.get("/evals", limit=number)
        await http.delete("/evals/eval_1")
        seen = list(server.requests)
        assert [(entry.method, entry.path, entry.route, dict(entry.query), entry.status) for entry in seen] == [
            ("GET", "/v1/evals", "/evals", {"limit": "1"}, 200),
            ("GET", "/v1/evals", "/evals", {"limit": "2"}, 200),
            ("DELETE", "/v1/evals/eval_1", "/evals/{eval_id}", {}, 404),
        ]
        assert seen[0].headers["X-Mine"] == "1"
        assert server.request_count == 4


async def test_seeding_is_all_or_nothing(http: PlainHttp, server: LocalServer) -> None:
    """Raw objects are answered as they were given; one wrong object, and none is there."""
    strange = {"id": "eval_1", "object": "eval", "created_at": 5, "unknown": [1, None], "_private": "ä"}
    await server.seed(evals=[strange])
    assert (await http.get("/evals/eval_1")).json == strange
    with pytest.raises(ValueError, match="no file"):
        await server.seed(evals=[{"id": "eval_2"}], contents={"file-none": b""})
    with pytest.raises(ValueError, match="lacks"):
        await server.seed(evals=[{"id": "eval_3"}], runs=[{"id": "evalrun_1"}])
    assert [entry["id"] for entry in (await http.get("/evals")).json["data"]] == ["eval_1"]


@pytest.mark.parametrize("stored", ["memory", "file"])
async def test_a_read_only_server_answers_writes_with_403(tmp_path: Path, clock: FakeClock, stored: str) -> None:
    """Every write is refused in the API's form; reading and trying out graders go on."""
    path = tmp_path / "store.db" if stored == "file" else None
    async with LocalServer(path, clock=clock) as server, PlainHttp(server) as http:
        eval_id = (await http.post("/evals", eval_request())).json["id"]
        run_id = (await http.post(f"/evals/{eval_id}/runs", run_request(row("a", "a")))).json["id"]
    clock.now += 1000
    async with LocalServer(path, clock=clock, read_only=True) as server, PlainHttp(server) as http:
        run = f"/evals/{eval_id}/runs/{run_id}"
        writes = [
            await http.post("/evals", eval_request()),
            await http.post(f"/evals/{eval_id}", {"name": "x"}),
            await http.delete(f"/evals/{eval_id}"),
            await http.post(f"/evals/{eval_id}/runs", run_request(row("a", "a"))),
            await http.send("POST", run),
            await http.send("POST", f"{run}/cancel"),
            await http.delete(run),
            await http.upload(b"x"),
            await http.delete("/files/file-1"),
        ]
        assert [answer.problem for answer in writes] == [(403, "read_only", None)] * 9
        graded = await http.post(
            "/fine_tuning/alpha/graders/run", {"grader": EXACT, "model_sample": "a", "item": {"answer": "a"}}
        )
        assert graded.json["reward"] == 1.0
        if stored == "file":
            assert (await http.get(run)).json["status"] == "queued"
            assert (await http.get("/evals")).json["first_id"] == eval_id


async def test_requests_at_once_do_not_meet(http: PlainHttp, clock: FakeClock) -> None:
    """Forty runs made, read and listed at the same time are each carried out once."""
    eval_id = (await http.post("/evals", eval_request())).json["id"]
    made = await asyncio.gather(*(http.post(f"/evals/{eval_id}/runs", run_request(row("a", "a"))) for _ in range(40)))
    clock.now += 1000
    paths = [f"/evals/{eval_id}/runs/{answer.json['id']}" for answer in made] * 2
    read = await asyncio.gather(*(http.get(path) for path in paths), http.get(f"/evals/{eval_id}/runs"))
    assert {answer.json.get("status", "completed") for answer in read} == {"completed"}
    items = await asyncio.gather(*(http.get(f"{path}/output_items") for path in set(paths)))
    assert [len(answer.json["data"]) for answer in items] == [1] * 40


async def test_closing_ends_idle_connections() -> None:
    """A client that keeps its connection open does not keep the server from closing."""
    server = await LocalServer().start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /v1/evals HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    async with asyncio.timeout(LONGEST):
        await server.close()
        assert await reader.read() == b""
    writer.close()


async def test_closing_does_not_wait_for_slow_answers() -> None:
    """An answer that is still to come when the server closes never comes."""
    begun = asyncio.Event()

    class Endless(FakeClock):
        async def sleep(self, seconds: float) -> None:
            begun.set()
            await asyncio.Event().wait()

    server = await LocalServer(faults=FaultPlan(Fault(delay=1000)), clock=Endless()).start()
    async with PlainHttp(server) as http, asyncio.timeout(LONGEST):
        asking = asyncio.create_task(http.get("/evals"))
        await begun.wait()
        await server.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking


def test_importing_it_imports_no_client_and_no_grading_library() -> None:
    """The server shares only errors, clock and JSON with the client, and pays for no library before it is needed."""
    unwanted = ("nltk", "rapidfuzz", "rouge_score", "numpy", "tenacity", "cattrs")
    ours = tuple(f"evals_async.{name}" for name in ("client", "_codec", "models", "_transport", "resources"))
    found = f"[name for name in sys.modules if name.startswith({ours!r}) or name in {unwanted!r}]"
    script = f"import sys, evals_async.server; print({found})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST, check=True)
    assert done.stdout == "[]\n"

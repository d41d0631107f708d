"""Requests at the same time, and clients that are slow: nothing is lost, and nothing waits without an end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from plainhttp import PlainHttp, eval_request

from evals_async.server import LocalServer


async def test_two_updates_of_one_eval_do_not_undo_each_other(tmp_path: Path) -> None:
    """One request changes the name, another one the metadata: both changes are there."""
    async with LocalServer(tmp_path / "store.db") as server, PlainHttp(server) as http:
        path = f"/evals/{(await http.post('/evals', eval_request())).json['id']}"
        for number in range(10):
            name, metadata = f"name {number}", {"number": str(number)}
            await asyncio.gather(http.post(path, {"name": name}), http.post(path, {"metadata": metadata}))
            found = (await http.get(path)).json
            assert (name, metadata) == (found["name"], found["metadata"])


async def test_an_update_does_not_bring_a_deleted_eval_back(tmp_path: Path) -> None:
    """An eval that is deleted during an update stays deleted."""
    async with LocalServer(tmp_path / "store.db") as server, PlainHttp(server) as http:
        for _ in range(10):
            path = f"/evals/{(await http.post('/evals', eval_request())).json['id']}"
            await asyncio.gather(http.post(path, {"name": "x"}), http.send("DELETE", path))
            assert 404 == (await http.get(path)).status


HEAD = b"POST /v1/evals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n"


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("data", "seconds"),
    [(b"", 75), (b"GET /v1/evals HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", 75)],
)
async def test_a_connection_without_a_request_is_closed(data: bytes, seconds: float) -> None:
    """A client that connects and sends nothing, or not all of the head, is left after 75 seconds."""
    async with LocalServer() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        async with asyncio.timeout(seconds + 60):
            assert b"" == await reader.read()
        writer.close()


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("head", "start", "seconds"),
    [
        (HEAD, b"{", 600),
        (
            HEAD.replace(b"/evals", b"/files") + b"Content-Type: multipart/form-data; boundary=x\r\n",
            b"--x\r\nContent-Disposition: form-data; name=purpose\r\n\r\nev",
            3600,
        ),
    ],
)
async def test_a_body_that_does_not_arrive_is_a_408(head: bytes, start: bytes, seconds: float) -> None:
    """A client that sends the start of a body gets an error at the deadline, and its connection is closed."""
    async with LocalServer() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + b"\r\n" + start)
        async with asyncio.timeout(seconds + 60):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert "request_timeout" == json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]


PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


async def test_a_form_has_a_bound() -> None:
    """A form with more and more fields is refused, so that it does not fill the memory."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield PART % (b"field %d" % sent, b"a" * 4000)

    async with LocalServer() as server, PlainHttp(server) as http:
        answer = await http.send("POST", "/files", data=endless(), headers=FORM)
    assert (400, None, None) == answer.problem
    assert sent < 10_000


async def test_a_second_file_in_a_form_is_not_lost_in_silence() -> None:
    """An upload with two files is an error, because only one of them would be stored."""
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n'
    form = PART % (b"purpose", b"evals") + file + file + b"--x--\r\n"
    async with LocalServer() as server, PlainHttp(server) as http:
        answer = await http.send("POST", "/files", data=form, headers=FORM)
        assert (400, "invalid_value", "file") == answer.problem
        assert [] == (await http.get("/files")).json["data"]


async def test_pages_are_bounded_by_their_size() -> None:
    """A page of large objects has fewer of them, and says that there are more; each object is listed once."""
    async with LocalServer() as server, PlainHttp(server) as http:
        ids = [f"eval_{number}" for number in range(7)]
        large = {"object": "eval", "created_at": 1, "metadata": {"text": "x" * 5 * 2**20}}
        await server.seed(evals=[{**large, "id": id} for id in ids])
        found: list[str] = []
        sizes: list[int] = []
        after: dict[str, str] = {}
        while True:
            page = (await http.get("/evals", limit=100, **after)).json
            found += [each["id"] for each in page["data"]]
            sizes.append(len(page["data"]))
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
    assert (ids, [3, 3, 1]) == (found, sizes)

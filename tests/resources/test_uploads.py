"""What an upload sends: the whole file from its beginning, each time the same; and forms that servers can read."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aioresponses import CallbackResult, aioresponses
from doubles import FakeClock
from resources.session_double import BASE, StreamedResponse

from evals_async import NO_KEY, EvalsClient
from evals_async.errors import InvalidArgument
from evals_async.server import Fault, LocalServer


ROWS = b'{"item": {"a": 1}}\n' * 1000


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer() as running:
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[EvalsClient]:
    options: Any = {"clock": FakeClock(), "limiter": None}
    async with EvalsClient(base_url=server.base_url, api_key=NO_KEY, **options) as made:
        yield made


async def stored(client: EvalsClient, file: Any, **more: Any) -> bytes:
    """What the server has of an upload."""
    return bytes(await client.files.content((await client.files.create(file=file, **more)).id))


async def test_a_buffer_that_was_just_written_is_sent_whole(client: EvalsClient) -> None:
    """After `b.write(rows)` a buffer stands at its end; all of it is sent."""
    buffer = io.BytesIO()
    buffer.write(ROWS)
    assert ROWS == await stored(client, buffer)


async def test_one_object_can_be_uploaded_twice(client: EvalsClient, tmp_path: Path) -> None:
    """The second upload of one open file, and that of a file whose rows were checked before, send all of it."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    with path.open("rb") as file:
        assert 1000 == sum(1 for _ in file)  # the check
        assert [ROWS] * 3 == [await stored(client, ("rows.jsonl", file)) for _ in range(3)]


async def test_every_attempt_sends_the_same_bytes(server: LocalServer, client: EvalsClient) -> None:
    """A buffer in the middle, and a server that turns the first two attempts away: the third brings all of it."""
    server.faults.add(Fault(route="POST /files", status=429, times=2))
    buffer = io.BytesIO(ROWS)
    buffer.seek(500)
    assert ROWS == await stored(client, buffer)
    assert 3 == sum("POST" == request.method for request in server.requests)


class Pipe(io.RawIOBase):
    """What can be read once: a pipe, a socket, standard input."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), len(self.content))
        buffer[:count], self.content = self.content[:count], self.content[count:]
        return count


async def test_what_cannot_go_back_is_sent_once(server: LocalServer, client: EvalsClient) -> None:
    """A pipe is sent as it is read; when it has nothing left, that is an error before anything is sent."""
    pipe = Pipe(ROWS)
    assert ROWS == await stored(client, pipe)
    sent = len(server.requests)
    with pytest.raises(InvalidArgument, match=r"^file has no more bytes to read .* open it again"):
        await client.files.create(file=pipe)  # type: ignore[arg-type]  # a RawIOBase is no BinaryIO for mypy
    assert sent == len(server.requests)


async def test_an_empty_file_is_an_empty_file(client: EvalsClient) -> None:
    """What can go back and has nothing is empty, and sent so."""
    assert b"" == await stored(client, io.BytesIO())


def closed() -> io.BytesIO:
    file = io.BytesIO(ROWS)
    file.close()
    return file


class Asynchronous:
    async def read(self) -> bytes:
        return ROWS


UNREADABLE: dict[str, tuple[Any, str]] = {
    "closed": (closed(), "file cannot be read"),
    "opened as text": (io.StringIO("{}"), "opened as text"),
    "asynchronous": (Asynchronous(), "asynchronous file"),
}


@pytest.mark.parametrize(("file", "match"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_files_that_cannot_be_read(server: LocalServer, client: EvalsClient, file: Any, match: str) -> None:
    """Each is told apart, before anything is sent."""
    with pytest.raises(InvalidArgument, match=match):
        await client.files.create(file=file)
    assert 0 == len(server.requests)


async def test_a_file_opened_for_writing(client: EvalsClient, tmp_path: Path) -> None:
    """Its own words, as an error of ours."""
    with (tmp_path / "new").open("wb") as file, pytest.raises(InvalidArgument, match="file cannot be read"):
        await client.files.create(file=file)


NAMES = ["a\r\nX-Evil: 1", "a\nb", "a\0b", os.fsdecode(b"\xff.jsonl")]


@pytest.mark.parametrize("name", NAMES)
async def test_file_names_that_no_form_can_hold(server: LocalServer, client: EvalsClient, name: str) -> None:
    """Line breaks, NUL and what is no UTF-8 are refused before anything is sent, and shown escaped."""
    with pytest.raises(InvalidArgument, match=r"^the file's name (contains a line break|cannot be encoded)") as caught:
        await client.files.create(file=(name, ROWS))
    assert str(caught.value).isprintable()
    assert 0 == len(server.requests)


@pytest.mark.parametrize("media_type", ["text", "text/", "application/jsonl\r\nX: 1", "t/ä", 7])
async def test_media_types_that_are_none(server: LocalServer, client: EvalsClient, media_type: Any) -> None:
    """A media type is `main/sub`, in printable ASCII."""
    with pytest.raises(InvalidArgument, match="the file's media type"):
        await client.files.create(file=("a.jsonl", ROWS, media_type))
    assert 0 == len(server.requests)


async def form_of(**arguments: Any) -> tuple[bytes, str]:
    """The form that an upload sends, and its boundary."""
    sent: list[tuple[bytes, str]] = []

    async def answer(url: object, *, data: Any, **more: Any) -> CallbackResult:
        sent.append((await data.as_bytes(), data.boundary))
        return CallbackResult(payload={"id": "file-1", "object": "file"}, response_class=StreamedResponse)

    with aioresponses() as mocked:
        mocked.post(f"{BASE}/files", callback=answer)  # pyright: ignore[reportUnknownMemberType]
        async with EvalsClient(base_url=BASE, api_key="sk-form-1234", clock=FakeClock()) as client:
            await client.files.create(**arguments)
    return sent[0]


async def test_headers_of_the_part(client: EvalsClient) -> None:
    """The fourth of a tuple: headers of the file's part of the form."""
    form, _ = await form_of(file=("a.jsonl", b"{}", "application/jsonl", {"Content-ID": "<rows>", "X-Rows": "1"}))
    assert b"Content-ID: <rows>\r\n" in form
    assert b"X-Rows: 1\r\n" in form
    assert b"Content-Type: application/jsonl\r\n" in form


@pytest.mark.parametrize(
    "headers", [{"Content-Disposition": "x"}, {"X\r\n": "1"}, {"X": "1\r\nY: 2"}, {"X": 1}, [("X", "1")]]
)
async def test_headers_of_the_part_that_cannot_be(server: LocalServer, client: EvalsClient, headers: Any) -> None:
    """What would break the form is refused before anything is sent."""
    with pytest.raises(InvalidArgument, match="header"):
        await client.files.create(file=("a.jsonl", ROWS, None, headers))
    assert 0 == len(server.requests)


async def test_extra_body_becomes_fields_of_the_form() -> None:
    """As the official client does: nested names in brackets; they win over the call's own; dates are ISO 8601."""
    extra = {"purpose": "batch", "tags": ["a", "b"], "owner": {"team": "x", "none": None}, "keep": True}
    form, _ = await form_of(file=b"{}", extra_body=extra)
    expected = (("purpose", "batch"), ("tags[]", "a"), ("tags[]", "b"), ("owner[team]", "x"), ("keep", "true"))
    form = form.replace(b"Content-Type: text/plain; charset=utf-8\r\n", b"")
    for name, value in expected:
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in form.replace(
            b"Content-Type: text/plain; charset=utf-8\r\n", b""
        )
    assert b"evals" not in form
    assert b"none" not in form


async def test_extra_body_cannot_replace_the_file(server: LocalServer, client: EvalsClient) -> None:
    """It would be lost, or sent twice."""
    with pytest.raises(InvalidArgument, match="extra_body cannot replace the file"):
        await client.files.create(file=ROWS, extra_body={"file": "x"})
    assert 0 == len(server.requests)


@pytest.mark.parametrize("key", ["k" * 71, 'with "quotes"', "a b?/:=,", "k"])
async def test_any_idempotency_key(client: EvalsClient, key: str) -> None:
    """A caller's key is a header, and never the boundary of the form."""
    assert ROWS == await stored(client, ROWS, extra_headers={"Idempotency-Key": key})
    form, boundary = await form_of(file=b"{}", extra_headers={"Idempotency-Key": key})
    assert boundary.isalnum()
    assert 32 == len(boundary)
    assert key.encode() not in form or key == "k"


async def test_two_downloads_to_one_path(server: LocalServer, client: EvalsClient, tmp_path: Path) -> None:
    """Each has a temporary name of its own; what is left is one of the files, whole, and nothing beside it."""
    first = await client.files.create(file=b"1" * 3_000_000)
    second = await client.files.create(file=b"2" * 3_000_000)
    target = tmp_path / "rows.jsonl"
    for _ in range(5):
        await asyncio.gather(*[client.files.content(made.id, to=target) for made in (first, second)])
        assert target.read_bytes() in (b"1" * 3_000_000, b"2" * 3_000_000)
        assert [target] == list(tmp_path.iterdir())


async def test_a_download_that_fails_leaves_the_other_one(
    server: LocalServer, client: EvalsClient, tmp_path: Path
) -> None:
    """One of two downloads breaks off: the other's file is there, whole."""
    made = await client.files.create(file=ROWS)
    server.faults.add(Fault(route="GET /files/{file_id}/content", status=400, times=1))
    target = tmp_path / ("long" * 60)
    results = await asyncio.gather(
        *[client.files.content(made.id, to=target) for _ in range(2)], return_exceptions=True
    )
    assert 1 == sum(isinstance(result, Exception) for result in results)
    assert ([target], ROWS) == (list(tmp_path.iterdir()), target.read_bytes())

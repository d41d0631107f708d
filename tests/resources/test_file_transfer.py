"""Files up and down: what may be uploaded, and that a download is whole or not there."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeClock

from evals_async import EvalsClient
from evals_async.errors import BadRequest, BodyTooLarge, InvalidArgument, NotFound, ResponseTruncated
from evals_async.server import Fault, LocalServer


ROWS = b'{"item": {"a": 1}}\n' * 1000
CONTENT = "GET /files/{file_id}/content"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer() as running:
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[EvalsClient]:
    options: Any = {"clock": FakeClock(), "max_body": 100_000, "limiter": None}
    async with EvalsClient(base_url=server.base_url, api_key="sk-local-123", **options) as made:
        yield made


class Named(io.BytesIO):
    name = "/some/where/opened.jsonl"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rows.jsonl"
    made.write_bytes(ROWS)
    return made


def sources(path: Path) -> dict[str, tuple[Any, str]]:
    return {
        "bytes": (ROWS, "upload.jsonl"),
        "bytearray": (bytearray(ROWS), "upload.jsonl"),
        "memoryview": (memoryview(ROWS), "upload.jsonl"),
        "path": (path, path.name),
        "open file": (io.BytesIO(ROWS), "upload.jsonl"),
        "open file with a name": (Named(ROWS), "opened.jsonl"),
        "name and bytes": (("a.jsonl", ROWS), "a.jsonl"),
        "name and path": (("a.jsonl", path), "a.jsonl"),
        "name and open file": (("a.jsonl", Named(ROWS)), "a.jsonl"),
        "no name": ((None, ROWS), "upload.jsonl"),
        "name, bytes and type": (("a.jsonl", ROWS, "application/jsonl"), "a.jsonl"),
        "name, bytes and no type": (("a.jsonl", ROWS, None), "a.jsonl"),
    }


@pytest.mark.parametrize("kind", sources(Path("x")))
async def test_upload(client: EvalsClient, path: Path, kind: str) -> None:
    """Bytes, paths and open files arrive byte for byte, under the name that they have or are given."""
    source, name = sources(path)[kind]
    made = await client.files.create(file=source, purpose="evals")
    assert (name, len(ROWS), "evals") == (made.filename, made.bytes, made.purpose)
    assert ROWS == await client.files.content(made.id)


NO_FILES: list[Any] = ["rows.jsonl", "{}", None, 7, io.StringIO("text"), ("a", "text"), ("a",), (), {"a": 1}]


@pytest.mark.parametrize("source", NO_FILES, ids=lambda source: repr(source)[:20])
async def test_what_cannot_be_uploaded(client: EvalsClient, server: LocalServer, source: Any) -> None:
    """Everything else is refused: a str may be a path or the content, and text has no bytes yet."""
    with pytest.raises(InvalidArgument, match=r"^file "):
        await client.files.create(file=source)
    assert 0 == len(server.requests)


async def test_upload_of_a_path_that_is_none(client: EvalsClient, server: LocalServer, tmp_path: Path) -> None:
    """A path without a file is refused before anything is sent."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidArgument, match="there is no file"):
            await client.files.create(file=path)
    assert 0 == len(server.requests)


async def test_expiry(client: EvalsClient) -> None:
    """An expiry goes along in the form."""
    made = await client.files.create(file=ROWS, expires_after={"anchor": "created_at", "seconds": 3600})
    assert made.created_at is not None
    assert made.created_at + 3600 == made.expires_at
    with pytest.raises(InvalidArgument, match=r"^expires_after\[seconds\] is empty"):
        await client.files.create(file=ROWS, expires_after={"anchor": "created_at", "seconds": {}})


async def test_an_upload_is_not_sent_twice(client: EvalsClient, server: LocalServer, path: Path) -> None:
    """An upload whose answer is lost is not repeated, and the error says that it may have arrived."""
    server.faults.add(Fault(route="POST /files", drop="after"))
    with pytest.raises(Exception, match="may have carried out the request"):
        await client.files.create(file=path)
    assert 1 == len(await client.files.list().collect())


async def test_an_upload_is_sent_again_whole(client: EvalsClient, server: LocalServer, path: Path) -> None:
    """An upload that was turned away is repeated from its first byte."""
    server.faults.add(Fault(route="POST /files", status=429))
    made = await client.files.create(file=path)
    assert (2, ROWS) == (len(server.requests), await client.files.content(made.id))


# --- content ----------------------------------------------------------------------------------------------------------


async def test_content_as_bytes(client: EvalsClient, tmp_path: Path) -> None:
    """Content is bytes, which also have what the official client's answer has."""
    made = await client.files.create(file=ROWS)
    content = await client.files.content(made.id)
    content.write_to_file(tmp_path / "copy")
    assert {ROWS} == {bytes(content), content.content, content.read(), (tmp_path / "copy").read_bytes()}
    assert ROWS.decode() == content.text


@pytest.mark.parametrize("form", [str, Path])
async def test_content_to_a_path(client: EvalsClient, tmp_path: Path, form: Any) -> None:
    """Content goes to a path, replacing what was there, and nothing else is left beside it."""
    made = await client.files.create(file=ROWS)
    target = tmp_path / "rows.jsonl"
    target.write_text("old")
    assert target == await client.files.content(made.id, to=form(target))
    assert ([target], ROWS) == (list(tmp_path.iterdir()), target.read_bytes())


async def test_large_content(client: EvalsClient, tmp_path: Path) -> None:
    """What is too large for memory still fits on the disk."""
    made = await client.files.create(file=ROWS * 10)
    with pytest.raises(BodyTooLarge):
        await client.files.content(made.id)
    await client.files.content(made.id, to=tmp_path / "large")
    assert ROWS * 10 == (tmp_path / "large").read_bytes()


async def test_content_that_broke_off_is_begun_anew(client: EvalsClient, server: LocalServer, tmp_path: Path) -> None:
    """A download that breaks off is repeated from its first byte, and no byte is there twice."""
    made = await client.files.create(file=ROWS)
    server.faults.add(Fault(route=CONTENT, truncate=5000))
    await client.files.content(made.id, to=tmp_path / "rows")
    assert ROWS == (tmp_path / "rows").read_bytes()


FAILURES: dict[str, tuple[Fault, type[Exception]]] = {
    "breaks off": (Fault(route=CONTENT, truncate=5000, times=None), ResponseTruncated),
    "may not be downloaded": (Fault(route=CONTENT, status=400), BadRequest),
    "is not there": (Fault(route=CONTENT, status=404), NotFound),
}


@pytest.mark.parametrize(("fault", "error"), FAILURES.values(), ids=FAILURES.keys())
async def test_failed_downloads_leave_nothing(
    client: EvalsClient, server: LocalServer, tmp_path: Path, fault: Fault, error: type[Exception]
) -> None:
    """A download that fails leaves no part behind, and what was at the path before is still there."""
    made = await client.files.create(file=ROWS)
    server.faults.add(fault)
    target = tmp_path / "rows"
    target.write_text("old")
    with pytest.raises(error):
        await client.files.content(made.id, to=target)
    assert ([target], "old") == (list(tmp_path.iterdir()), target.read_text())


async def test_cancelled_downloads_leave_nothing(client: EvalsClient, server: LocalServer, tmp_path: Path) -> None:
    """A download that is cancelled leaves nothing either."""
    made = await client.files.create(file=ROWS)
    server.faults.add(Fault(route=CONTENT, delay=60))
    task = asyncio.create_task(client.files.content(made.id, to=tmp_path / "rows"))
    while len(server.requests) < 2:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == list(tmp_path.iterdir())


async def test_paths_that_cannot_be_written(client: EvalsClient, tmp_path: Path) -> None:
    """A path that cannot be written is the system's own error, at once, and nothing is left."""
    made = await client.files.create(file=ROWS)
    with pytest.raises(FileNotFoundError):
        await client.files.content(made.id, to=tmp_path / "no" / "where")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").touch()
    with pytest.raises(OSError, match="folder"):
        await client.files.content(made.id, to=tmp_path / "folder")
    assert [tmp_path / "folder"] == list(tmp_path.iterdir())

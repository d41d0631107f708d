"""Archives where nothing can be written: on a DVD, in a read-only mount, in somebody else's directory."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.archive.convert.convert import convert
from evals_async.archive.convert.report import ArchiveReader
from evals_async.cli import main
from evals_async.errors import ArchiveError
from evals_async.server import LocalServer, sample_tree


NOBODY = 65534

pytestmark = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of Unix")


@contextmanager
def unprivileged() -> Generator[None]:
    """Without the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def export_sample(file: Path) -> None:
    """An archive of a small sample."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(runs=4, items=3))
        async with EvalsClient(base_url=server.base_url, api_key="k") as client, Archive.open(file) as archive:
            await archive.export(client)


@pytest.fixture
def closed() -> Iterator[Path]:
    """An archive in a directory that nobody may write to."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # a directory that other users can reach
    file = place / "evals.db"
    asyncio.run(export_sample(file))
    # Everything is imported that a reader needs, because other users may not read the place of the packages.
    assert 0 == main(["info", str(file)])
    import_module("cattrs")
    for kind in ("csv", "jsonl"):
        with tempfile.TemporaryDirectory() as elsewhere:
            assert convert(file, kind, Path(elsewhere) / "out").written
    (place / "evals.db.lock").unlink()
    file.chmod(0o444)
    place.chmod(0o555)
    yield file
    place.chmod(0o755)
    shutil.rmtree(place)


def names(file: Path) -> set[str]:
    """What is in the directory of a file."""
    return {path.name for path in file.parent.iterdir()}


@pytest.mark.parametrize("words", [["info"], ["show"], ["verify", "--offline"]], ids=" ".join)
def test_what_reads_works_where_nothing_can_be_written(
    closed: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`info`, `show` and `verify --offline` need no right to write, and leave nothing behind."""
    with unprivileged():
        code = main([words[0], str(closed), *words[1:]])
    told = capsys.readouterr()
    assert 0 == code, told.err
    assert {"evals.db"} == names(closed)
    if words[0] == "verify":
        assert "the manifest is not written, because" in told.err
        assert "\ncomplete; not compared with a server\n" in told.err


async def test_it_can_be_served_and_converted(closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and the conversions read it too."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with unprivileged():
        async with LocalServer(closed, read_only=True) as server, EvalsClient(base_url=server.base_url) as client:
            assert 4 == len(await client.evals.list().collect())
        async with Archive.open(closed, read_only=True) as archive:
            assert 4 == len(archive.table("runs").to_rows())
        with ArchiveReader(closed) as source:
            assert 4 == len(list(source.evals()))
    assert convert(closed, "jsonl", tmp_path / "rows").written
    assert {"evals.db"} == names(closed)


async def test_one_that_was_not_closed_is_told_with_the_cure(closed: Path) -> None:
    """A file with unwritten changes beside it cannot be read there; the error says what to do."""
    closed.parent.chmod(0o755)
    closed.chmod(0o644)
    copy = closed.with_name("copy.db")
    with sqlite3.connect(closed) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE evals SET name = 'x'")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copy(closed.with_name(closed.name + end), copy.with_name(copy.name + end))
    connection.close()
    copy.chmod(0o444)
    closed.parent.chmod(0o555)
    with unprivileged(), pytest.raises(ArchiveError, match="copy it with its -wal file to a writable directory"):
        async with Archive.open(copy, read_only=True):
            pass


@pytest.mark.parametrize("words", [["info"], ["show"], ["verify", "--offline"], ["convert"]], ids=" ".join)
def test_readers_leave_nothing_behind(file: Path, tmp_path: Path, words: list[str]) -> None:
    """Where it could be written, readers leave no -wal and -shm files, and the archive is the same, byte for byte."""
    asyncio.run(export_sample(file))
    before = file.read_bytes()
    more = ["--to", "csv", "--out", str(tmp_path / "out")] if words == ["convert"] else words[1:]
    assert 0 == main([words[0], str(file), *more])
    assert before == file.read_bytes()
    assert {"evals.db", "evals.db.lock", "evals.db.manifest.json", "out"} >= names(file)


async def test_nothing_can_be_written_through_a_reader(file: Path) -> None:
    """A reader's connection refuses to write, also where the file could be written."""
    async with LocalServer(file) as server:
        await server.seed(**sample_tree(runs=1, items=1))
    with ArchiveReader(file) as source, pytest.raises(sqlite3.OperationalError, match="readonly"):
        source.connection.execute("DELETE FROM evals")

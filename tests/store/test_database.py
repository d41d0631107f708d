"""The connection: its owner, its transactions, its refusals."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from waiting import LONGEST

from evals_async._store import Database, Row, rows
from evals_async.errors import ArchiveError


EVAL = {"id": "eval_1", "object": "eval", "created_at": 1}


def put_eval(connection: sqlite3.Connection, id: str) -> None:
    rows.put(connection, "evals", [Row.of("evals", {**EVAL, "id": id})])


def put_evals(connection: sqlite3.Connection, ids: list[str]) -> None:
    for id in ids:
        put_eval(connection, id)


def put_and_fail(connection: sqlite3.Connection, id: str) -> None:
    put_eval(connection, id)
    raise RuntimeError("after the row")


@pytest.mark.parametrize("stored", ["memory", "file"])
async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path, stored: str) -> None:
    """What `atomic` was given is kept as a whole, or not at all."""
    async with await Database.open(tmp_path / "store.db" if stored == "file" else None) as database:
        await database.atomic(put_eval, "eval_1")
        with pytest.raises(RuntimeError, match="after the row"):
            await database.atomic(put_and_fail, "eval_2")
        assert await database.call(rows.count, "evals") == 1


async def test_a_file_survives_closing(tmp_path: Path) -> None:
    """What was written is there when the file is opened again, here for reading only."""
    path = tmp_path / "store.db"
    async with await Database.open(path) as database:
        await database.atomic(put_eval, "eval_1")
    async with await Database.open(path, read_only=True) as database:
        assert await database.call(rows.get, "evals", ("eval_1",)) == '{"id":"eval_1","object":"eval","created_at":1}'


async def test_a_file_is_safe_against_loss_of_power(tmp_path: Path) -> None:
    """A file is in WAL mode, and every commit is forced to the disk."""
    async with await Database.open(tmp_path / "store.db") as database:
        assert await database.call(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
        assert await database.call(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)


async def test_one_thread_owns_the_connection_of_a_file(tmp_path: Path) -> None:
    """All work on a file happens on one thread, which is not the loop's."""
    async with await Database.open(tmp_path / "store.db") as database:
        threads = await asyncio.gather(*(database.call(lambda _: threading.get_ident()) for _ in range(20)))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("name", ["what?.db", "100%.db", "a#b%3F.db", "ä b.db"])
async def test_paths_are_taken_literally(tmp_path: Path, name: str) -> None:
    """Characters that mean something in a URI mean nothing in a path."""
    async with await Database.open(tmp_path / name) as database:
        await database.atomic(put_eval, "eval_1")
    assert (tmp_path / name).is_file()
    async with await Database.open(str(tmp_path / name), read_only=True) as database:
        assert await database.call(rows.count, "evals") == 1


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    """Foreign bytes are never overwritten."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my diary, and nothing else\n" * 100)
    with pytest.raises(ArchiveError, match="not a database"):
        await Database.open(path)
    assert path.read_bytes() == b"my diary, and nothing else\n" * 100


async def test_another_programs_database_is_refused_and_kept(tmp_path: Path) -> None:
    """Another program's database is not even switched to another journal mode."""
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE precious (id TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="another program"):
        await Database.open(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]


async def test_a_file_cut_short_is_an_archive_error(tmp_path: Path) -> None:
    """Damage is told as such, with SQLite's name for it, when it is met."""
    path = tmp_path / "store.db"
    async with await Database.open(path) as database:
        await database.atomic(put_evals, [f"eval_{n:0100}" for n in range(500)])
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ArchiveError, match=r"SQLITE_CORRUPT|malformed"):
        async with await Database.open(path) as database:
            await database.call(rows.page, "evals", limit=500)


async def test_what_cannot_be_opened_is_an_archive_error(tmp_path: Path) -> None:
    """A folder, a place that is not there, a file that is missing and may not be made."""
    for path, read_only in [(tmp_path, False), (tmp_path / "no" / "store.db", False), (tmp_path / "none.db", True)]:
        with pytest.raises(ArchiveError, match="unable to open"):
            await Database.open(path, read_only=read_only)
    assert os.listdir(tmp_path) == []


async def test_read_only_files_cannot_be_written(tmp_path: Path) -> None:
    """A file opened for reading refuses writes, and an empty one is of no use."""
    path = tmp_path / "store.db"
    (tmp_path / "empty.db").touch()
    await (await Database.open(path)).close()
    async with await Database.open(path, read_only=True) as database:
        with pytest.raises(ArchiveError, match="SQLITE_READONLY"):
            await database.atomic(put_eval, "eval_1")
    with pytest.raises(ArchiveError, match="empty or of an older version"):
        await Database.open(tmp_path / "empty.db", read_only=True)


async def test_readers_see_whole_transactions_only(tmp_path: Path) -> None:
    """While one connection writes, another reads what was committed before, and waits for nothing."""
    path = tmp_path / "store.db"
    begun, go_on = threading.Event(), threading.Event()

    def write_slowly(connection: sqlite3.Connection) -> None:
        put_eval(connection, "eval_2")
        begun.set()
        go_on.wait(5)

    async with (
        await Database.open(path) as writer,
        await Database.open(path, read_only=True) as first,
        await Database.open(path, read_only=True) as second,
    ):
        await writer.atomic(put_eval, "eval_1")
        writing = asyncio.create_task(writer.atomic(write_slowly))
        await asyncio.to_thread(begun.wait, 5)
        assert [await reader.call(rows.count, "evals") for reader in (first, second)] == [1, 1]
        go_on.set()
        await writing
        assert [await reader.call(rows.count, "evals") for reader in (first, second)] == [2, 2]


async def test_a_full_disk_is_an_archive_error_and_loses_nothing(tmp_path: Path) -> None:
    """When there is no space left, the transaction is undone, the error says so, and what was there stays readable."""
    async with await Database.open(tmp_path / "store.db") as database:
        await database.atomic(put_eval, "eval_1")
        await database.call(lambda c: c.execute("PRAGMA max_page_count = 40").fetchone())
        with pytest.raises(ArchiveError, match="SQLITE_FULL"):
            await database.atomic(put_evals, [f"eval_{n:01000}" for n in range(1000)])
        assert await database.call(rows.count, "evals") == 1


async def test_the_callers_own_mistakes_stay_what_they_are(tmp_path: Path) -> None:
    """Wrong SQL of the caller is not blamed on the file."""
    async with await Database.open(tmp_path / "store.db") as database:
        with pytest.raises(sqlite3.ProgrammingError):
            await database.call(lambda c: c.execute("SELECT ?", ()))
        with pytest.raises(sqlite3.IntegrityError):
            await database.atomic(lambda c: c.execute("INSERT INTO evals (id) VALUES ('eval_1')"))


async def test_a_cancelled_caller_leaves_whole_transactions(tmp_path: Path) -> None:
    """Who stops waiting for a transaction that has begun does not tear it."""
    begun, go_on = threading.Event(), threading.Event()

    def write_slowly(connection: sqlite3.Connection) -> None:
        put_eval(connection, "eval_1")
        begun.set()
        go_on.wait(5)
        put_eval(connection, "eval_2")

    async with await Database.open(tmp_path / "store.db") as database:
        writing = asyncio.create_task(database.atomic(write_slowly))
        await asyncio.to_thread(begun.wait, 5)
        writing.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await database.call(rows.count, "evals") == 2


async def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """A closed store is closed; using it afterwards is the caller's mistake."""
    database = await Database.open(tmp_path / "store.db")
    await database.close()
    await database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await database.call(rows.count, "evals")


KILLED = """
import asyncio, os, signal, sys
from evals_async._store import Database, Row, rows

def write(connection, first):
    for number in range(first, first + 50):
        rows.put(connection, "evals", [Row.of("evals", {"id": f"eval_{number:04}", "created_at": number})])
        if number == 120:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    database = await Database.open(sys.argv[1])
    for first in range(0, 500, 50):
        await database.atomic(write, first)

asyncio.run(main())
"""


async def test_a_killed_process_loses_only_its_open_transaction(tmp_path: Path) -> None:
    """After a kill in the middle of the third transaction, the first two are there, whole, and the file is sound."""
    path = tmp_path / "store.db"
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, os.fspath(path)], timeout=LONGEST, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    async with await Database.open(path) as database:
        assert await database.call(rows.count, "evals") == 100
        assert await database.call(lambda c: c.execute("PRAGMA integrity_check").fetchone()) == ("ok",)

"""What the disk does: X04 full, X05 SQLite calls that fail, X12 two writers and readers, X15 files of other kinds."""

import asyncio
import contextlib
import itertools
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from doubles import ScaledClock
from reference_server import SAME, Export, ReferenceServer, difference, stored, tree

from evals_async import ArchiveError, EvalsClient
from evals_async._store import schema
from evals_async.archive import Archive, disk_is_full
from evals_async.server import LocalServer


# --- X04: the disk is full --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [40, 45, 60, 80])
async def test_a_full_disk_keeps_what_was_committed(export: Export, file: Path, pages: int) -> None:
    """X04: a full disk ends the export. No page is half written, and the next export continues."""
    reference = tree(evals=2, runs=4, items=90)
    async with ReferenceServer(reference) as server:
        clock = ScaledClock(100)
        async with (
            EvalsClient(base_url=server.base_url, api_key="k", clock=clock) as client,
            Archive.open(file) as archive,
        ):
            database = archive._database  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the pages that SQLite may take
            await database.call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))
            with pytest.raises(ArchiveError, match="SQLITE_FULL") as caught:
                await archive.export(client)
        assert disk_is_full(caught.value)
        found = difference(file, reference)
        assert ((), (), "ok") == (found.wrong, found.extra, found.integrity)
        assert found.lost
        report = await export(server)
        assert report.resumed
    assert (0, SAME) == (report.exit_code, difference(file, reference))


LIMITED = """
    import resource, sys
    from evals_async.cli import main
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
    sys.exit(main(["export", "--to", sys.argv[2], "--base-url", sys.argv[3]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
async def test_the_command_says_that_the_disk_is_full(export: Export, file: Path) -> None:
    """X04: exit code 74, with the command to continue. With free space, that command completes the archive."""
    reference = tree(evals=2, runs=4, items=60)
    async with ReferenceServer(reference) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(LIMITED), str(300_000), str(file), server.base_url),
            env={**os.environ, "OPENAI_API_KEY": "k"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        _, told = await process.communicate()
        assert (74, True) == (process.returncode, b"free disk space, then: evals-async export --to" in told)
        assert "ok" == difference(file, reference).integrity
        await export(server)
    assert SAME == difference(file, reference)


# --- X05: the n-th SQLite call fails ----------------------------------------------------------------------------------


class Failing(sqlite3.Connection):
    """A connection whose n-th call fails, with one of SQLite's errors."""

    calls = itertools.count(1)
    fail_at = 0
    code = sqlite3.SQLITE_IOERR

    def check(self) -> None:
        if next(Failing.calls) == self.fail_at:
            error = sqlite3.OperationalError("on purpose")
            error.sqlite_errorcode = self.code
            error.sqlite_errorname = "SQLITE_FULL" if self.code == sqlite3.SQLITE_FULL else "SQLITE_OTHER"
            if self.code == sqlite3.SQLITE_FULL and self.in_transaction:
                super().execute("ROLLBACK")  # as SQLite itself does when the disk is full
            raise error

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if not sql.startswith("ROLLBACK"):
            self.check()
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self.check()
        return super().executemany(sql, *args)


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> Generator[None, None, None]:
    connect = sqlite3.connect

    def connect_failing(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, factory=Failing, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Failing, "calls", itertools.count(1))
        patch.setattr(Failing, "fail_at", number)
        patch.setattr(Failing, "code", code)
        patch.setattr(sqlite3, "connect", connect_failing)
        yield


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL])
async def test_a_failing_sqlite_call_is_never_taken_for_success(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """X05: whichever call fails, the export raises or is complete, and the next one is complete."""
    reference = tree(evals=1, runs=2, items=9, files=1)
    raised = 0
    async with ReferenceServer(reference) as server:
        for number in [*range(1, 30), *range(30, 120, 9)]:
            path = tmp_path / f"{code}-{number}.db"
            with failing(monkeypatch, number, code):
                try:
                    report = await export(server, path=path)
                except ArchiveError:
                    raised += 1
                else:
                    assert (0, SAME) == (report.exit_code, difference(path, reference))
            report = await export(server, path=path)
            assert (0, SAME) == (report.exit_code, difference(path, reference)), number
    assert raised > 30


# --- X12: writers and readers -----------------------------------------------------------------------------------------


async def test_a_second_exporter_is_refused(export: Export, file: Path) -> None:
    """X12: while one export writes, a second one into the same file is refused at once and changes nothing."""
    reference = tree()
    async with ReferenceServer(reference) as server:
        clock = ScaledClock(100)
        refused: list[str] = []
        async with (
            EvalsClient(base_url=server.base_url, api_key="k", clock=clock) as client,
            Archive.open(file) as archive,
        ):

            async def second() -> None:
                async with Archive.open(file, read_only=True) as looking:
                    assert (await looking.summary()).writer is not None
                with pytest.raises(ArchiveError) as caught:
                    await export(server)
                refused.append(str(caught.value))

            tasks: list[asyncio.Task[None]] = []
            report = await archive.export(
                client, on_progress=lambda _: None if tasks else tasks.append(asyncio.create_task(second()))
            )
            await tasks[0]
        assert "another export" in refused[0]
        assert (0, SAME) == (report.exit_code, difference(file, reference))


async def test_readers_see_whole_pages_only(file: Path) -> None:
    """X12: a local server reads the archive during an export: listings have complete pages only, and no errors."""
    reference = tree(evals=1, runs=2, items=49)
    seen: list[int] = []

    async def look(client: EvalsClient) -> None:
        """Count the items that are there, unless even the eval is not."""
        async for evaluation in client.evals.list():
            async for run in client.evals.runs.list(evaluation.id):
                items = await client.evals.runs.output_items.list(run.id, eval_id=evaluation.id).collect()
                seen.append(len(items))

    clock = ScaledClock(100)
    async with (
        ReferenceServer(reference) as server,
        Archive.open(file) as archive,
        LocalServer(file, read_only=True) as reader,
        EvalsClient(base_url=server.base_url, api_key="k", clock=clock) as client,
        EvalsClient(base_url=reader.base_url, api_key="k", max_retries=0) as looking,
    ):
        looks: list[asyncio.Task[None]] = []
        await archive.export(client, on_progress=lambda _: looks.append(asyncio.create_task(look(looking))))
        await asyncio.gather(*looks)
    assert len(seen) > 10
    assert {0} == {number % server.page for number in seen}


# --- X15: files of other kinds ----------------------------------------------------------------------------------------


async def test_an_archive_of_the_first_schema_is_taken_over(export: Export, file: Path) -> None:
    """X15: a store of an older version is migrated, and keeps its objects."""
    connection = sqlite3.connect(file, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:1])
    connection.execute("INSERT INTO evals VALUES ('eval_old', '', 1, 1, '{\"id\": \"eval_old\"}')")
    connection.close()
    reference = tree(evals=1, runs=1, items=2)
    async with ReferenceServer(reference) as server:
        report = await export(server)
    assert (0, 1) == (report.exit_code, report.missing["evals"])
    assert ("evals/eval_old",) == difference(file, reference).extra


@pytest.mark.parametrize("kind", ["foreign", "corrupt", "newer", "text"])
async def test_a_file_of_another_kind_is_refused_and_left_alone(export: Export, file: Path, kind: str) -> None:
    """X15: a database of another program, a broken file and a newer schema are refused, and not changed."""
    before = make_foreign(file, kind)
    async with ReferenceServer(tree(evals=1, runs=1, items=1)) as server:
        with pytest.raises(ArchiveError):
            await export(server)
        assert 0 == server.requests
    assert before == file.read_bytes()  # a small file, and nobody waits


def make_foreign(file: Path, kind: str) -> bytes:
    if kind == "text":
        file.write_text("not a database, but somebody's notes\n" * 100)
    else:
        connection = sqlite3.connect(file, isolation_level=None)
        if kind == "foreign":
            connection.execute("CREATE TABLE precious (id TEXT)")
        else:
            schema.migrate(connection)
            connection.execute("PRAGMA user_version = 99" if kind == "newer" else "PRAGMA journal_mode = DELETE")
        connection.close()
    if kind == "corrupt":
        data = bytearray(file.read_bytes())
        data[100:4096] = b"\xff" * 3996
        file.write_bytes(data)
    return file.read_bytes()


def names_in(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


@pytest.mark.parametrize("name", ["a?b.db", "a%20b.db", "a#b.db", "ä b'.db"])
async def test_any_file_name_will_do(export: Export, tmp_path: Path, name: str) -> None:
    """X15: a path may contain `?`, `%`, `#` and quotes."""
    reference = tree(evals=1, runs=1, items=1)
    async with ReferenceServer(reference) as server:
        await export(server, path=tmp_path / name)
    assert SAME == difference(tmp_path / name, reference)
    assert {name, name + ".lock"} == names_in(tmp_path)


@pytest.mark.parametrize("place", ["missing/evals.db", ""])
async def test_a_place_that_cannot_be_written_is_refused(export: Export, tmp_path: Path, place: str) -> None:
    """X15: a missing directory, and a path that is a directory, raise `ArchiveError` before any request."""
    async with ReferenceServer(tree(evals=1, runs=1, items=1)) as server:
        with pytest.raises(ArchiveError):
            await export(server, path=tmp_path / place)
        assert 0 == server.requests


async def test_another_servers_archive_is_not_mixed(export: Export, file: Path) -> None:
    """An archive accepts the objects of one server. Another server is refused, unless `another_server` is set."""
    async with ReferenceServer(tree(evals=1, runs=1, items=1)) as server:
        await export(server)
        connection = sqlite3.connect(file)
        connection.execute("UPDATE passes SET server = 'https://api.openai.com/v1'")
        connection.commit()
        connection.close()
        with pytest.raises(ArchiveError, match=r"made from https://api\.openai\.com/v1, not from local/v1"):
            await export(server)
        assert 0 == (await export(server, another_server=True)).exit_code
    objects, _, _ = stored(file)
    assert ("evals", "eval_0") in objects

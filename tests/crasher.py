"""Exports that die: run as a script, it forks one process per export and kills it at a given point.

    python crasher.py BASE_URL EXPORTER < plans > results

A plan is a JSON line `{"path": ..., "crashes": [n, ...], "killed": 3, "concurrency": 4}`: the export into `path`
is begun and dies at its n-th crash point, once for each n; is begun again so many times, a line `{"child": pid}` asking
for its end each time; and is then left to end. The points: before a transaction, after its rows, after its cursor,
after its commit. A result is a line `{"path", "kills", "code", "integrity"}`. EXPORTER is `right`, or one of the broken
ones that the tests must catch.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from doubles import ScaledClock
from waiting import LONGEST

from evals_async import EvalsClient
from evals_async._store import Connection, Database
from evals_async.archive import Archive
from evals_async.archive.export import cursor, export
from evals_async.pagination import Cursor
from evals_async.server import LocalServer


IMPORTED = (LocalServer,)  # what is imported before the fork is not imported after it


class Mortal(sqlite3.Connection):
    """A connection that kills its process at a given point."""

    points = 0
    crash_at = 0

    @classmethod
    def point(cls) -> None:
        cls.points += 1
        if cls.points == cls.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql.startswith("BEGIN IMMEDIATE"):
            self.point()
        made = super().execute(sql, *args)
        if sql.startswith(("UPDATE work", "COMMIT")):
            self.point()
        return made

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        made = super().executemany(sql, *args)
        self.point()
        return made


def break_exporter(kind: str) -> None:
    """Make the exporter one that loses data."""
    atomic, store_page = Database.atomic, export.store_page
    if kind == "cursor_first":

        async def cursor_first(self: Database, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            if work is not store_page:
                return await atomic(self, work, *args, **kwargs)
            written: list[Any] = []

            def only_cursor(connection: Connection) -> Any:
                connection.execute("SAVEPOINT rows")
                moved = store_page(connection, *args)
                connection.execute("ROLLBACK TO rows")
                export.store_progress(connection, moved)
                written.append(moved)
                return moved

            moved = await atomic(self, only_cursor)
            number, work_, page, _, selection = args
            await atomic(self, export.store_rows, number, work_, page, selection)
            return moved

        Database.atomic = cursor_first  # type: ignore[method-assign]  # it takes and gives the same
    elif kind == "no_transaction":

        async def no_transaction(self: Database, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            run = self.call if work is store_page else None
            return await (run(work, *args, **kwargs) if run else atomic(self, work, *args, **kwargs))

        Database.atomic = no_transaction  # type: ignore[method-assign]  # it takes and gives the same
    elif kind == "stop_on_empty":
        cursor_after = cursor.cursor_after

        def stop_on_empty(place: Cursor, page: Any, known: Any) -> Cursor | None:
            return cursor_after(place, page, known) if page.ids else None

        export.__dict__["cursor_after"] = stop_on_empty


def child(base_url: str, path: str, crash_at: int, concurrency: int, report: int) -> None:
    """One export, which never returns to the caller."""
    Mortal.crash_at = crash_at
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Mortal, **kwargs)  # type: ignore[assignment]

    async def run() -> tuple[int, int]:
        clock = ScaledClock(20)  # pauses are short; no time-out of a slow machine comes in between
        client = EvalsClient(base_url=base_url, api_key="k", clock=clock, timeout=20 * LONGEST)
        async with client, Archive.open(path, clock=clock) as archive:
            done = await archive.export(client, concurrency=concurrency, max_outage=20 * LONGEST)
            return done.exit_code, done.requests

    code, requests = asyncio.run(run())
    os.write(report, json.dumps([code, requests]).encode())
    os._exit(0)


@attrs.define
class Ended:
    """How a forked export ended."""

    killed: bool
    code: int = -1
    requests: int = 0


def fork(base_url: str, path: str, concurrency: int, crash_at: int = 0, *, from_outside: bool = False) -> Ended:
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            child(base_url, path, crash_at, concurrency, write)
        finally:
            os._exit(1)
    os.close(write)
    if from_outside:
        print(json.dumps({"child": process}), flush=True)
    with os.fdopen(read, "rb") as answers:
        told = answers.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return Ended(killed=True)
    assert os.WEXITSTATUS(status) == 0, "the export raised"
    return Ended(False, *json.loads(told)) if told else Ended(killed=True)


def integrity(path: str) -> str:
    if not Path(path).exists():
        return "ok"
    connection = sqlite3.connect(path)
    try:
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return str(state)


def execute(base_url: str, plan: dict[str, Any]) -> dict[str, Any]:
    kills, states = 0, set[str]()
    ended = Ended(killed=True)
    deaths: list[dict[str, Any]] = [{"crash_at": point} for point in plan.get("crashes", [])]
    deaths += [{"from_outside": True}] * plan.get("killed", 0)
    for death in [*deaths, {}]:
        ended = fork(base_url, plan["path"], plan.get("concurrency", 4), **death)
        kills += ended.killed
        states.add(integrity(plan["path"]))
        if not ended.killed:
            break
    return {"path": plan["path"], "kills": kills, "code": ended.code, "integrity": sorted(states)}


def main() -> None:
    base_url, exporter = sys.argv[1:]
    break_exporter(exporter)
    for line in sys.stdin:
        print(json.dumps(execute(base_url, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

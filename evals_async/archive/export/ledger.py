"""The state of exports in the store: passes, work, and damaged objects.

Plain functions that take a connection, like those of `rows`. Call functions that write through `Database.atomic`, so
that a page and the cursor after it are stored together. Nothing here sends a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from sqlite3 import Connection
from typing import Any, Literal, TypeAlias

import attrs

from evals_async._store.rows import TABLES, Kind, Row, text_column


WorkKind: TypeAlias = Literal["evals", "runs", "output_items", "files", "eval", "file"]
"""A listing of this kind, or one eval, or one file with its content."""

State: TypeAlias = Literal["open", "done", "gone", "refused", "short", "failed", "broken"]
"""The state of a piece of work.

- `open`: not finished yet.
- `done`: complete.
- `gone`: no longer on the server.
- `refused`: the server does not return the content of the file.
- `short`: the listing has ended, but with fewer or more items than its run counts. Or the content of a file has
  another size than its object says.
- `failed`: stopped after an error.
- `broken`: stopped because the listing repeats its pages.
"""

UNFINISHED: tuple[State, ...] = ("open", "short", "failed", "broken")


@attrs.frozen(kw_only=True)
class Work:
    """One listing or one object to read in a pass.

    `cursor` is the position in a listing, as text. `final` means that the result cannot change any more, because the
    run had ended before its items were listed. `count` objects were read; `expected` is the count of the run.
    """

    kind: WorkKind
    eval_id: str = ""
    run_id: str = ""
    id: str = ""
    number: int = 0
    state: State = "open"
    final: bool = attrs.field(default=False, converter=bool)
    cursor: str | None = None
    pages: int = 0
    count: int = 0
    expected: int | None = None
    note: str | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.kind, text_column(self.eval_id), text_column(self.run_id), text_column(self.id)

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the parents of the listed objects."""
        return {"runs": (self.eval_id,), "output_items": (self.eval_id, self.run_id)}.get(self.kind, ())

    def __str__(self) -> str:
        ids = "/".join(part for part in (self.eval_id, self.run_id, self.id) if part)
        return f"{self.kind.replace('_', ' ')}{' of ' if self.parents else ' '}{ids}".strip()


@attrs.frozen(kw_only=True)
class Pass:
    """One reading of everything on the server. `ended` is `None` until all its work is finished.

    Times are seconds since the epoch.
    """

    number: int
    server: str
    selection: str
    tool: str
    began: float
    ended: float | None = None
    outcome: str | None = None
    origin: str | None = None


@attrs.frozen
class Damaged:
    """Bytes that are not a valid object: an id, the reason, and the bytes themselves."""

    id: str
    reason: str
    body: bytes = attrs.field(repr=False)


# The columns `settled` and `place` are the fields `final` and `cursor` of `Work`.
WORK_COLUMNS = "number, kind, eval_id, run_id, id, state, settled, place, pages, count, expected, note"
WORK_NAMES = WORK_COLUMNS.replace("settled", "final").replace("place", "cursor").split(", ")


def work_of(row: Sequence[object]) -> Work:
    fields: dict[str, Any] = dict(zip(WORK_NAMES, row, strict=True))  # SQLite rows have no static types
    return Work(**fields)


# --- passes ---------------------------------------------------------------------------------------------------------


def last_pass(connection: Connection) -> Pass | None:
    """Return the newest pass, or `None`."""
    names = ("number", "server", "selection", "tool", "began", "ended", "outcome", "origin")
    row = connection.execute(f"SELECT {', '.join(names)} FROM passes ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return None
    return Pass(**dict(zip(names, row, strict=True)))


def begin_pass(connection: Connection, begun: Pass, roots: Iterable[Work]) -> None:
    """Store a new pass with its first work, and end an older pass that was interrupted."""
    connection.execute(
        "UPDATE passes SET ended = ?, outcome = 'replaced by a new pass' WHERE ended IS NULL", (begun.began,)
    )
    connection.execute(
        "INSERT INTO passes (number, server, selection, tool, began, origin) VALUES (?, ?, ?, ?, ?, ?)",
        (begun.number, begun.server, begun.selection, begun.tool, begun.began, begun.origin),
    )
    schedule(connection, begun.number, roots)


def end_pass(connection: Connection, number: int, ended: float, outcome: str) -> None:
    """Store that a pass has ended."""
    connection.execute("UPDATE passes SET ended = ?, outcome = ? WHERE number = ?", (ended, outcome, number))


def set_origin(connection: Connection, number: int, origin: str) -> None:
    """Store the organization and the project of a pass."""
    connection.execute("UPDATE passes SET origin = ? WHERE number = ?", (origin, number))


def read_all_again(connection: Connection) -> None:
    """Make the next pass read everything again, including final results."""
    connection.execute("UPDATE work SET settled = 0")


# --- work -----------------------------------------------------------------------------------------------------------


def schedule(connection: Connection, number: int, works: Iterable[Work]) -> None:
    """Append work to the queue of a pass. Work that is already queued, or done and final, is skipped."""
    for work in works:
        row = connection.execute(
            "SELECT pass, state, settled FROM work WHERE kind = ? AND eval_id = ? AND run_id = ? AND id = ?", work.key
        ).fetchone()
        if row is not None and (row[0] == number or (row[1] == "done" and row[2])):
            continue
        connection.execute(
            "DELETE FROM damaged WHERE kind = ? AND eval_id = ? AND run_id = ?", (work.kind, *work.key[1:3])
        )
        connection.execute(
            "INSERT OR REPLACE INTO work (pass, kind, eval_id, run_id, id, state, settled, pages, count, expected) "
            "VALUES (?, ?, ?, ?, ?, 'open', ?, 0, 0, ?)",
            (number, *work.key, work.final, work.expected),
        )


def open_work(connection: Connection, number: int, after: int, limit: int) -> list[Work]:
    """Return the next `limit` pieces of open work of a pass, in the order of the queue."""
    sql = f"SELECT {WORK_COLUMNS} FROM work WHERE pass = ? AND state = 'open' AND number > ? ORDER BY number LIMIT ?"
    return [work_of(row) for row in connection.execute(sql, (number, after, limit))]


def work_in(connection: Connection, number: int | None, states: Sequence[State], limit: int = -1) -> list[Work]:
    """Return the work of a pass that is in one of these states. With `None`, of all passes."""
    marks = ", ".join("?" * len(states))
    where = f"pass = coalesce(?, pass) AND state IN ({marks})"
    sql = f"SELECT {WORK_COLUMNS} FROM work WHERE {where} ORDER BY number LIMIT ?"
    return [work_of(row) for row in connection.execute(sql, (number, *states, limit))]


def give_up_deleted(connection: Connection, number: int) -> None:
    """Mark unfinished work of earlier passes as `gone` if its eval, run or file is no longer on the server."""
    states = ", ".join("?" * len(UNFINISHED))
    for kinds, table, same in (
        ("'file'", "files", "o.id = work.id"),
        ("'runs', 'output_items'", "evals", "o.id = work.eval_id"),
        ("'output_items'", "runs", "o.eval_id = work.eval_id AND o.id = work.run_id"),
    ):
        connection.execute(
            "UPDATE work SET state = 'gone', note = 'no longer on the server' "
            f"WHERE pass <> ? AND state IN ({states}) AND kind IN ({kinds}) "
            f"AND EXISTS (SELECT 1 FROM {table} o WHERE {same} AND o.missing_since IS NOT NULL)",
            (number, *UNFINISHED),
        )


def record(connection: Connection, work: Work) -> None:
    """Store the state and the progress of a piece of work."""
    connection.execute(
        "UPDATE work SET state = ?, settled = ?, place = ?, pages = ?, count = ?, note = ? WHERE number = ?",
        (work.state, work.final, work.cursor, work.pages, work.count, work.note, work.number),
    )


def stop_work(connection: Connection, work: Work, state: State, note: str) -> None:
    """Store that a piece of work has stopped, and why. Its cursor is kept."""
    connection.execute("UPDATE work SET state = ?, note = ? WHERE number = ?", (state, note, work.number))


def counts(connection: Connection, number: int) -> Mapping[str, int]:
    """Return how many objects were read in a pass, by kind of work."""
    return dict(
        connection.execute("SELECT kind, sum(count) FROM work WHERE pass = ? GROUP BY kind", (number,)).fetchall()
    )


def expected_items(connection: Connection, number: int) -> int:
    """Return the sum of the item counts of the runs whose items this pass reads."""
    sql = "SELECT coalesce(sum(expected), 0) FROM work WHERE pass = ? AND kind = 'output_items'"
    return int(connection.execute(sql, (number,)).fetchone()[0])


# --- objects --------------------------------------------------------------------------------------------------------


@cache
def known_sql(kind: Kind, many: int) -> str:
    parents = "".join(f"{name} = ? AND " for name in TABLES[kind].parents)
    return f"SELECT id FROM {kind} WHERE {parents}seen = ? AND id IN ({', '.join('?' * many)})"


def known(connection: Connection, kind: Kind, parents: Sequence[str], number: int, ids: Sequence[str]) -> set[str]:
    """Return the `ids` that were already read in this pass, valid or damaged."""
    keys = [text_column(part) for part in ids]
    values = [text_column(part) for part in parents]
    found = {row[0] for row in connection.execute(known_sql(kind, len(keys)), [*values, number, *keys])}
    where = [*values, "", ""][:2]
    broken = "SELECT id FROM damaged WHERE kind = ? AND eval_id = ? AND run_id = ? AND pass = ?"
    return found | {row[0] for row in connection.execute(broken, (kind, *where, number))} & set(keys)


@cache
def upsert_sql(kind: Kind) -> str:
    table = TABLES[kind]
    columns = (*table.key, table.label, "created_at", "updated_at", "body", "seen")
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns[len(table.key) :])
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {kind} ({', '.join(columns)}) VALUES ({marks}) "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changed}, missing_since = NULL"
    )


def upsert(connection: Connection, kind: Kind, number: int, rows: Iterable[Row]) -> None:
    """Insert the rows of a pass, or replace the rows with the same keys. They are no longer marked as missing.

    Rows that were not read from a listing have the negated number of the pass: for their listing they are still new.
    """
    connection.executemany(
        upsert_sql(kind), ((*row.key, row.label, row.created_at, row.updated_at, row.text, number) for row in rows)
    )


def keep_damaged(
    connection: Connection, kind: Kind, parents: Sequence[str], number: int, things: Iterable[Damaged]
) -> None:
    """Store invalid bytes. An object with the same id from an earlier pass is kept and not marked as missing."""
    where = " AND ".join(f"{name} = ?" for name in TABLES[kind].key)
    for thing in things:
        ids = [text_column(part) for part in (*parents, thing.id)]
        parent_ids = [*ids[:-1], "", ""][:2]
        connection.execute(
            "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?)",
            (kind, *parent_ids, ids[-1], number, text_column(thing.reason), thing.body),
        )
        connection.execute(f"UPDATE {kind} SET seen = ? WHERE {where}", (number, *ids))


def mark_missing(connection: Connection, kind: Kind, parents: Sequence[str], number: int) -> None:
    """Mark the objects of `parents` that this pass did not find: they are no longer on the server, but kept here."""
    conditions = [f"{name} = ?" for name in TABLES[kind].parents]
    if kind == "files":
        conditions.append("purpose = 'evals'")  # the export lists only these files
    where = "".join(f"{condition} AND " for condition in conditions)
    connection.execute(
        f"UPDATE {kind} SET missing_since = ? WHERE {where}missing_since IS NULL AND abs(coalesce(seen, 0)) <> ?",
        (number, *map(text_column, parents), number),
    )


def mark_gone(connection: Connection, kind: Kind, key: Sequence[str], number: int) -> None:
    """Mark one object that is no longer on the server."""
    where = " AND ".join(f"{name} = ?" for name in TABLES[kind].key)
    connection.execute(f"UPDATE {kind} SET missing_since = ? WHERE {where}", (number, *map(text_column, key)))


def put_single(connection: Connection, kind: Kind, number: int, row: Row) -> None:
    """Store an object that was requested by its id. If it was damaged before, it is no longer."""
    upsert(connection, kind, number, [row])
    connection.execute(
        "DELETE FROM damaged WHERE kind = ? AND eval_id = '' AND run_id = '' AND id = ?", (kind, *row.key)
    )


def damaged(connection: Connection) -> list[tuple[str, str]]:
    """Return the damaged objects: their ids and the reasons."""
    rows = connection.execute("SELECT kind, eval_id, run_id, id, reason FROM damaged ORDER BY 1, 2, 3, 4").fetchall()
    return [("/".join(part for part in row[:4] if part), row[4]) for row in rows]


def missing(connection: Connection) -> Mapping[str, int]:
    """Return how many objects of each kind are no longer on the server."""
    found: dict[str, int] = {}
    for kind in TABLES:
        found[kind] = connection.execute(f"SELECT count(*) FROM {kind} WHERE missing_since IS NOT NULL").fetchone()[0]
    return found


# --- the writer -----------------------------------------------------------------------------------------------------


def set_writer(connection: Connection, pid: int, host: str, began: float) -> None:
    """Store which process is writing."""
    connection.execute("INSERT OR REPLACE INTO writer VALUES (1, ?, ?, ?)", (pid, host, began))


def clear_writer(connection: Connection) -> None:
    connection.execute("DELETE FROM writer")


def writer(connection: Connection) -> tuple[int, str, float] | None:
    """Return the last writer: process id, host, start time. It may have been killed: check `is_locked` too."""
    row: tuple[int, str, float] | None = connection.execute("SELECT pid, host, began FROM writer").fetchone()
    return row

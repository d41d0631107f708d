"""What an export has done and has yet to do, kept in the store itself: passes, work, and what came damaged.

Plain functions of a connection, like those of `rows`; those that change something belong into a `Database.atomic`, so
that a page and the cursor after it are kept together or not at all. Nothing here knows a server, and nothing decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from sqlite3 import Connection
from typing import IO, Any, Literal, TypeAlias

import attrs

from evals_async._store.rows import TABLES, Kind, Row, text_column


WorkKind: TypeAlias = Literal["evals", "runs", "output_items", "files", "eval", "file"]
"""A listing of that kind, or one eval, or one file with its content."""

State: TypeAlias = Literal["open", "done", "gone", "refused", "short", "failed", "broken"]
"""`open` is still to be done. `done` is whole. `gone`: the server has it no more. `refused`: the server does not give
it. `short`: the listing came to its end, but not with as many items as its run counts. `failed` and `broken` (a listing
that does not move on) were given up.
"""

UNFINISHED: tuple[State, ...] = ("open", "short", "failed", "broken")


@attrs.frozen(kw_only=True)
class Work:
    """One listing or one object of a pass. `cursor` is where a listing stands, as its reader wrote it.

    `settled` tells that what is done now stays done: the run had ended before its items were listed. `count` objects
    came so far, `expected` are said to be there.
    """

    kind: WorkKind
    eval_id: str = ""
    run_id: str = ""
    id: str = ""
    number: int = 0
    state: State = "open"
    settled: bool = attrs.field(default=False, converter=bool)
    cursor: str | None = None  # in the column `place`
    pages: int = 0
    count: int = 0
    expected: int | None = None
    note: str | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.kind, text_column(self.eval_id), text_column(self.run_id), text_column(self.id)

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids that the listed objects are filed under."""
        return {"runs": (self.eval_id,), "output_items": (self.eval_id, self.run_id)}.get(self.kind, ())

    def __str__(self) -> str:
        ids = "/".join(part for part in (self.eval_id, self.run_id, self.id) if part)
        return f"{self.kind.replace('_', ' ')}{' of ' if self.parents else ' '}{ids}".strip()


@attrs.frozen(kw_only=True)
class Pass:
    """One walk over everything. `ended` is `None` while something of it is still to be done."""

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
    """What a server sent in place of an object: its id, where one could be read, why it is of no use, its bytes."""

    id: str
    reason: str
    body: bytes = attrs.field(repr=False)


WORK_COLUMNS = "number, kind, eval_id, run_id, id, state, settled, place, pages, count, expected, note"
WORK_NAMES = WORK_COLUMNS.replace("place", "cursor").split(", ")


def work_of(row: Sequence[object]) -> Work:
    fields: dict[str, Any] = dict(zip(WORK_NAMES, row, strict=True))  # SQLite does not tell the types of its columns
    return Work(**fields)


# --- passes ---------------------------------------------------------------------------------------------------------


def last_pass(connection: Connection) -> Pass | None:
    """The newest pass."""
    names = ("number", "server", "selection", "tool", "began", "ended", "outcome", "origin")
    row = connection.execute(f"SELECT {', '.join(names)} FROM passes ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return None
    return Pass(**dict(zip(names, row, strict=True)))


def begin_pass(connection: Connection, begun: Pass, roots: Iterable[Work]) -> None:
    """Write a new pass with the work that it begins with; an older one that was left is closed."""
    connection.execute("UPDATE passes SET ended = ?, outcome = 'left for another' WHERE ended IS NULL", (begun.began,))
    connection.execute(
        "INSERT INTO passes (number, server, selection, tool, began, origin) VALUES (?, ?, ?, ?, ?, ?)",
        (begun.number, begun.server, begun.selection, begun.tool, begun.began, begun.origin),
    )
    schedule(connection, begun.number, roots)


def end_pass(connection: Connection, number: int, ended: float, outcome: str) -> None:
    """Write that nothing of a pass is left to do."""
    connection.execute("UPDATE passes SET ended = ?, outcome = ? WHERE number = ?", (ended, outcome, number))


def remember_origin(connection: Connection, number: int, origin: str) -> None:
    """Write of which organization and project a pass is."""
    connection.execute("UPDATE passes SET origin = ? WHERE number = ?", (origin, number))


def unsettle(connection: Connection) -> None:
    """Let the next pass read everything again, also what will not have changed."""
    connection.execute("UPDATE work SET settled = 0")


# --- work -----------------------------------------------------------------------------------------------------------


def schedule(connection: Connection, number: int, works: Iterable[Work]) -> None:
    """Put work at the end of the queue of a pass, but not twice, and not what is settled for ever."""
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
            (number, *work.key, work.settled, work.expected),
        )


def open_work(connection: Connection, number: int, after: int, limit: int) -> list[Work]:
    """The next open work of a pass, in the order in which it was scheduled."""
    sql = f"SELECT {WORK_COLUMNS} FROM work WHERE pass = ? AND state = 'open' AND number > ? ORDER BY number LIMIT ?"
    return [work_of(row) for row in connection.execute(sql, (number, after, limit))]


def work_in(connection: Connection, number: int, states: Sequence[State], limit: int = -1) -> list[Work]:
    """The work of a pass that is in one of these states."""
    marks = ", ".join("?" * len(states))
    sql = f"SELECT {WORK_COLUMNS} FROM work WHERE pass = ? AND state IN ({marks}) ORDER BY number LIMIT ?"
    return [work_of(row) for row in connection.execute(sql, (number, *states, limit))]


def record(connection: Connection, work: Work) -> None:
    """Write how far a piece of work is."""
    connection.execute(
        "UPDATE work SET state = ?, settled = ?, place = ?, pages = ?, count = ?, note = ? WHERE number = ?",
        (work.state, work.settled, work.cursor, work.pages, work.count, work.note, work.number),
    )


def give_up(connection: Connection, work: Work, state: State, note: str) -> None:
    """Write that a piece of work ends here, and why; where it stands stays."""
    connection.execute("UPDATE work SET state = ?, note = ? WHERE number = ?", (state, note, work.number))


def counts(connection: Connection, number: int) -> Mapping[str, int]:
    """How many objects came in a pass, by the kind of work that brought them."""
    return dict(
        connection.execute("SELECT kind, sum(count) FROM work WHERE pass = ? GROUP BY kind", (number,)).fetchall()
    )


def expected_items(connection: Connection, number: int) -> int:
    """How many output items the runs of a pass say they have, as far as they are to be read."""
    sql = "SELECT coalesce(sum(expected), 0) FROM work WHERE pass = ? AND kind = 'output_items'"
    return int(connection.execute(sql, (number,)).fetchone()[0])


# --- objects --------------------------------------------------------------------------------------------------------


@cache
def known_sql(kind: Kind, many: int) -> str:
    parents = "".join(f"{name} = ? AND " for name in TABLES[kind].parents)
    return f"SELECT id FROM {kind} WHERE {parents}seen = ? AND id IN ({', '.join('?' * many)})"


def known(connection: Connection, kind: Kind, parents: Sequence[str], number: int, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that came in this pass before, whole or damaged."""
    keys = [text_column(part) for part in ids]
    values = [text_column(part) for part in parents]
    found = {row[0] for row in connection.execute(known_sql(kind, len(keys)), [*values, number, *keys])}
    where = [*values, "", ""][:2]
    broken = "SELECT id FROM damaged WHERE kind = ? AND eval_id = ? AND run_id = ? AND pass = ?"
    return found | {row[0] for row in connection.execute(broken, (kind, *where, number))} & set(keys)


@cache
def see_sql(kind: Kind) -> str:
    table = TABLES[kind]
    columns = (*table.key, table.label, "created_at", "updated_at", "body", "seen")
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns[len(table.key) :])
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {kind} ({', '.join(columns)}) VALUES ({marks}) "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changed}, missing_since = NULL"
    )


def see(connection: Connection, kind: Kind, number: int, rows: Iterable[Row]) -> None:
    """Insert rows met in a pass, or replace those with the same key. What was missing is back.

    Rows that came by themselves, and not in their listing, are written with the number negated: for the listing they
    are still new.
    """
    connection.executemany(
        see_sql(kind), ((*row.key, row.label, row.created_at, row.updated_at, row.text, number) for row in rows)
    )


def keep_damaged(
    connection: Connection, kind: Kind, parents: Sequence[str], number: int, things: Iterable[Damaged]
) -> None:
    """Keep what is no object as it came. An object of that id from an earlier pass stays, and is not missing."""
    where = " AND ".join(f"{name} = ?" for name in TABLES[kind].key)
    for thing in things:
        ids = [text_column(part) for part in (*parents, thing.id)]
        place = [*ids[:-1], "", ""][:2]
        connection.execute(
            "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?)",
            (kind, *place, ids[-1], number, text_column(thing.reason), thing.body),
        )
        connection.execute(f"UPDATE {kind} SET seen = ? WHERE {where}", (number, *ids))


def mark_missing(connection: Connection, kind: Kind, parents: Sequence[str], number: int) -> None:
    """Mark what was listed under `parents` before, and not in this pass: it is gone from the server, and stays here."""
    conditions = [f"{name} = ?" for name in TABLES[kind].parents]
    if kind == "files":
        conditions.append("purpose = 'evals'")  # only these are listed
    where = "".join(f"{condition} AND " for condition in conditions)
    connection.execute(
        f"UPDATE {kind} SET missing_since = ? WHERE {where}missing_since IS NULL AND abs(coalesce(seen, 0)) <> ?",
        (number, *map(text_column, parents), number),
    )


def mark_gone(connection: Connection, kind: Kind, key: Sequence[str], number: int) -> None:
    """Mark one object that the server says it has no more."""
    where = " AND ".join(f"{name} = ?" for name in TABLES[kind].key)
    connection.execute(f"UPDATE {kind} SET missing_since = ? WHERE {where}", (number, *map(text_column, key)))


def put_stream(connection: Connection, file_id: str, digest: str, size: int, source: IO[bytes]) -> None:
    """Keep a file's content, `size` bytes with the sha256 `digest`, piece by piece: equal contents are kept once."""
    insert = "INSERT INTO file_contents (sha256, bytes) VALUES (?, zeroblob(?)) ON CONFLICT DO NOTHING"
    made = connection.execute(insert, (digest, size))
    if made.rowcount and size:
        rowid = connection.execute("SELECT rowid FROM file_contents WHERE sha256 = ?", (digest,)).fetchone()[0]
        with connection.blobopen("file_contents", "bytes", rowid) as blob:
            while piece := source.read(2**20):
                blob.write(piece)
    connection.execute("UPDATE files SET sha256 = ? WHERE id = ?", (digest, text_column(file_id)))


def content_digest(connection: Connection, file_id: str) -> str | None:
    """The sha256 of a file's content, or `None` when the store does not have it."""
    row = connection.execute("SELECT sha256 FROM files WHERE id = ?", (text_column(file_id),)).fetchone()
    return None if row is None else row[0]


def damaged(connection: Connection) -> list[tuple[str, str]]:
    """What came damaged: which object, and why."""
    rows = connection.execute("SELECT kind, eval_id, run_id, id, reason FROM damaged ORDER BY 1, 2, 3, 4").fetchall()
    return [("/".join(part for part in row[:4] if part), row[4]) for row in rows]


def missing(connection: Connection) -> Mapping[str, int]:
    """How many objects of each kind are no longer on the server."""
    found: dict[str, int] = {}
    for kind in TABLES:
        found[kind] = connection.execute(f"SELECT count(*) FROM {kind} WHERE missing_since IS NOT NULL").fetchone()[0]
    return found


# --- the writer -----------------------------------------------------------------------------------------------------


def sign_in(connection: Connection, pid: int, host: str, began: float) -> None:
    """Say who fills the store now."""
    connection.execute("INSERT OR REPLACE INTO writer VALUES (1, ?, ?, ?)", (pid, host, began))


def sign_out(connection: Connection) -> None:
    connection.execute("DELETE FROM writer")


def writer(connection: Connection) -> tuple[int, str, float] | None:
    """Who signed in last: process, host, since when. A killed process stays; ask `lock` whether anyone is at work."""
    row: tuple[int, str, float] | None = connection.execute("SELECT pid, host, began FROM writer").fetchone()
    return row

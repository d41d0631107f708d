"""Read and write the rows of a store: evals, runs, output items, files and their contents.

Plain functions that take a connection: call them through `Database.call` or `Database.atomic`. Every value is a bound
parameter. Nothing here opens a file or begins a transaction.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from sqlite3 import Connection
from typing import Literal, Self, TypeAlias

import attrs

from evals_async._json import ASCII


Kind: TypeAlias = Literal["evals", "runs", "output_items", "files"]
Order: TypeAlias = Literal["asc", "desc"]
OrderBy: TypeAlias = Literal["created_at", "updated_at"]

LARGEST_COLUMN = 2**63 - 1
LARGEST_PAGE = 16 * 2**20  # characters of JSON text, if a page has more than one object


class UnknownCursor(LookupError):
    """The cursor of a page is the id of an object that does not exist."""


@attrs.frozen
class Table:
    """The columns of one kind of object: the ids of its parents, in order, and `label`, the column for filters."""

    parents: tuple[str, ...]
    label: str

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return (*self.parents, "id")


TABLES: Mapping[Kind, Table] = {
    "evals": Table((), "name"),
    "runs": Table(("eval_id",), "status"),
    "output_items": Table(("eval_id", "run_id"), "status"),
    "files": Table((), "purpose"),
}


def json_text(value: object) -> str:
    """Return the compact ASCII text of a JSON value. It can hold integers of any size, NUL and lone surrogates."""
    return ASCII(value)


def text_column(value: object) -> str:
    """Convert a value to a string for SQLite: non-strings become empty, lone surrogates become escapes."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "backslashreplace").decode()


def integer_column(value: object) -> int:
    """Convert a time in seconds to an integer for SQLite; a value that is not a number becomes 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
        return 0
    return int(max(-LARGEST_COLUMN, min(value, LARGEST_COLUMN)))


@attrs.define(kw_only=True)  # not frozen: each object makes one, and a frozen one takes twice as long
class Row:
    """One object: its key (ids of the parents, then its own id), its exact JSON text, and its indexed columns."""

    key: tuple[str, ...]
    label: str
    created_at: int
    updated_at: int
    text: str = attrs.field(repr=False)

    @classmethod
    def of(
        cls,
        kind: Kind,
        body: Mapping[str, object],
        *,
        parents: Sequence[str] | None = None,
        text: str | None = None,
        updated_at: float | None = None,
    ) -> Self:
        """Make the row of a JSON object.

        `parents` are the ids of the parents; without them, they are read from the fields of the object. `text` is the
        JSON text that was received; without it, the object is encoded. Raises `ValueError` if an id is missing.
        """
        table = TABLES[kind]
        names = table.key if parents is None else ("id",)
        own = [body.get(name) for name in names]
        if not all(isinstance(value, str) and value for value in own):
            raise ValueError(f"an object of {kind} lacks {' or '.join(names)}: {json_text(body)[:200]}")
        created_at = integer_column(body.get("created_at"))
        changed = body.get("updated_at") if updated_at is None else updated_at
        return cls(
            key=tuple(text_column(value) for value in (*(parents or ()), *own)),
            label=text_column(body.get(table.label)),
            created_at=created_at,
            updated_at=integer_column(changed) or created_at,
            text=json_text(body) if text is None else text,
        )


@attrs.frozen
class RowPage:
    """One page of a listing, in order: ids, exact JSON texts, and whether there are more."""

    ids: tuple[str, ...]
    texts: tuple[str, ...] = attrs.field(repr=False)
    has_more: bool


# --- SQL, made once per kind of query; only names from TABLES are formatted into it ---------------------------------


@cache
def upsert_sql(kind: Kind) -> str:
    table = TABLES[kind]
    columns = (*table.key, table.label, "created_at", "updated_at", "body")
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns[len(table.key) :])
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {kind} ({', '.join(columns)}) VALUES ({marks}) "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changed}"
    )


@cache
def by_key(kind: Kind, columns: str) -> str:
    return f"SELECT {columns} FROM {kind} WHERE " + " AND ".join(f"{name} = ?" for name in TABLES[kind].key)


@cache
def page_sql(kind: Kind, order: Order, order_by: OrderBy, *, after: bool, label: bool) -> str:
    table = TABLES[kind]
    conditions = [f"{name} = ?" for name in table.parents]
    if label:
        conditions.append(f"{table.label} = ?")
    if after:
        conditions.append(f"({order_by}, id) {'>' if order == 'asc' else '<'} (?, ?)")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    direction = order.upper()
    return f"SELECT id, body FROM {kind}{where} ORDER BY {order_by} {direction}, id {direction} LIMIT ?"


# --- objects --------------------------------------------------------------------------------------------------------


def put(connection: Connection, kind: Kind, rows: Iterable[Row]) -> None:
    """Insert rows, or replace the rows with the same keys."""
    connection.executemany(
        upsert_sql(kind), ((*row.key, row.label, row.created_at, row.updated_at, row.text) for row in rows)
    )


def get(connection: Connection, kind: Kind, key: Sequence[str]) -> str | None:
    """Return the JSON text of one object, or `None`."""
    row: tuple[str] | None = connection.execute(by_key(kind, "body"), [text_column(part) for part in key]).fetchone()
    return None if row is None else row[0]


def exists(connection: Connection, kind: Kind, key: Sequence[str]) -> bool:
    """Return whether the object exists."""
    return connection.execute(by_key(kind, "1"), [text_column(part) for part in key]).fetchone() is not None


def page(
    connection: Connection,
    kind: Kind,
    parents: Sequence[str] = (),
    *,
    after: str | None = None,
    limit: int,
    order: Order = "asc",
    order_by: OrderBy = "created_at",
    label: str | None = None,
) -> RowPage:
    """Return the next objects after the object with the id `after`, ordered by time and then by id.

    A page has at most `limit` objects. It has fewer if their texts are larger than `LARGEST_PAGE` together. `label`
    selects objects with one status (files: with one purpose). Raises `UnknownCursor` if `parents` have no object
    `after`.
    """
    values: list[str | int] = [text_column(part) for part in parents]
    if label is not None:
        values.append(text_column(label))
    if after is not None:
        cursor = text_column(after)
        found = connection.execute(by_key(kind, order_by), [*map(text_column, parents), cursor]).fetchone()
        if found is None:
            raise UnknownCursor(after)
        values += [found[0], cursor]
    sql = page_sql(kind, order, order_by, after=after is not None, label=label is not None)
    ids: list[str] = []
    texts: list[str] = []
    size = 0
    with closing(connection.execute(sql, [*values, limit + 1])) as found:
        for id, text in found:
            size += len(text)
            if len(ids) == limit or (ids and size > LARGEST_PAGE):
                return RowPage(tuple(ids), tuple(texts), True)
            ids.append(id)
            texts.append(text)
    return RowPage(tuple(ids), tuple(texts), False)


def count(connection: Connection, kind: Kind, parents: Sequence[str] = (), *, label: str | None = None) -> int:
    """Count the objects of these parents. `parents` may be the first ids only."""
    table = TABLES[kind]
    names = [*table.parents[: len(parents)], *([table.label] if label is not None else [])]
    where = f" WHERE {' AND '.join(f'{name} = ?' for name in names)}" if names else ""
    values = [text_column(part) for part in (*parents, *([label] if label is not None else []))]
    return int(connection.execute(f"SELECT count(*) FROM {kind}{where}", values).fetchone()[0])


def count_all(connection: Connection) -> int:
    """Return an upper estimate of how many objects exist. It is cheap and grows with every insert."""
    newest = " + ".join(f"(SELECT coalesce(max(rowid), 0) FROM {kind})" for kind in TABLES)
    return int(connection.execute(f"SELECT {newest}").fetchone()[0])


def delete(connection: Connection, kind: Kind, key: Sequence[str]) -> bool:
    """Delete one object and all its children. Returns whether it existed."""
    values = [text_column(part) for part in key]
    parents = {"evals": ("eval_id",), "runs": ("eval_id", "run_id"), "output_items": (), "files": ()}[kind]
    if parents:
        where = " AND ".join(f"{name} = ?" for name in parents)
        below = ("output_items", "pending_runs", "executions", "execution_rows", "execution_sums", "regrades")
        for table in (*below, "runs") if kind == "evals" else below:
            connection.execute(f"DELETE FROM {table} WHERE {where}", values)
    where = " AND ".join(f"{name} = ?" for name in TABLES[kind].key)
    removed = connection.execute(f"DELETE FROM {kind} WHERE {where}", values).rowcount > 0
    if kind == "files":
        forget_unused_contents(connection)
    return removed


# --- the contents of files ------------------------------------------------------------------------------------------


def put_content(connection: Connection, file_id: str, data: bytes) -> str:
    """Store the bytes of a file; equal contents are stored once. Returns their sha256 in hex.

    Raises `ValueError` if the file has no row.
    """
    digest = hashlib.sha256(data).hexdigest()
    connection.execute("INSERT INTO file_contents (sha256, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, data))
    changed = connection.execute("UPDATE files SET sha256 = ? WHERE id = ?", (digest, text_column(file_id)))
    if changed.rowcount == 0:
        raise ValueError(f"there is no file {file_id}")
    return digest


def get_content(connection: Connection, file_id: str) -> bytes | None:
    """Return the bytes of a file, or `None` if the store does not have them."""
    row: tuple[bytes] | None = connection.execute(
        "SELECT bytes FROM files JOIN file_contents USING (sha256) WHERE id = ?", (text_column(file_id),)
    ).fetchone()
    return None if row is None else row[0]


def content_size(connection: Connection, file_id: str) -> int | None:
    """Return the number of bytes of a file, or `None` if the store does not have them."""
    row: tuple[int] | None = connection.execute(
        "SELECT length(bytes) FROM files JOIN file_contents USING (sha256) WHERE id = ?", (text_column(file_id),)
    ).fetchone()
    return None if row is None else row[0]


def content_piece(connection: Connection, file_id: str, start: int, size: int) -> bytes:
    """Return `size` bytes of a file from `start`, or fewer at its end. Only these bytes are in memory.

    Raises `LookupError` if the store does not have the content.
    """
    row: tuple[int] | None = connection.execute(
        "SELECT file_contents.rowid FROM files JOIN file_contents USING (sha256) WHERE id = ?", (text_column(file_id),)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no content of {file_id}")
    with connection.blobopen("file_contents", "bytes", row[0], readonly=True) as blob:
        blob.seek(min(start, len(blob)))
        return blob.read(size)


def forget_unused_contents(connection: Connection) -> None:
    """Delete the contents that no file uses."""
    connection.execute(
        "DELETE FROM file_contents WHERE NOT EXISTS (SELECT 1 FROM files WHERE files.sha256 = file_contents.sha256)"
    )

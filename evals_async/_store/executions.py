"""The remaining rows of the runs that a server executes, and the sums over the finished rows.

The rows of a run are stored when it starts. One transaction deletes a finished row, writes its output item and adds to
the sums. So after a crash every row is either still pending or finished. Plain functions that take a connection, like
those of `rows`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from sqlite3 import Connection
from typing import TypeAlias

import attrs

from evals_async._store.rows import Row, put


RunId: TypeAlias = tuple[str, str]  # eval id, run id
SumKey: TypeAlias = tuple[str, str, str]  # kind, name and field
Sums: TypeAlias = Counter[SumKey]
AddedSums: TypeAlias = dict[SumKey, int]  # of one row: to make a `Counter` takes longer


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class FinishedRow:
    """A finished row: its run and number, its output item, and what it adds to the sums."""

    run: RunId
    number: int
    item: Row
    sums: AddedSums


@attrs.frozen
class PendingExecution:
    """A run that has not ended. `total` is the number of its rows, or `None` until all rows are stored."""

    run: RunId
    started: float
    total: int | None


def add_execution(connection: Connection, run: RunId, started: float) -> None:
    """Store that the server must execute a run."""
    connection.execute("INSERT INTO executions (eval_id, run_id, started) VALUES (?, ?, ?)", (*run, started))


def pending_execution(connection: Connection, run: RunId) -> PendingExecution | None:
    """Return a run that has not ended, or `None`."""
    select = "SELECT started, total FROM executions WHERE eval_id = ? AND run_id = ?"
    row: tuple[float, int | None] | None = connection.execute(select, run).fetchone()
    return None if row is None else PendingExecution(run, *row)


def pending_executions(connection: Connection) -> list[PendingExecution]:
    """Return the runs that have not ended, oldest first."""
    select = "SELECT eval_id, run_id, started, total FROM executions ORDER BY started, rowid"
    return [PendingExecution((row[0], row[1]), row[2], row[3]) for row in connection.execute(select)]


def clear_rows(connection: Connection, run: RunId) -> None:
    """Delete the remaining rows of a run."""
    connection.execute("DELETE FROM execution_rows WHERE eval_id = ? AND run_id = ?", run)


def add_rows(connection: Connection, run: RunId, texts: Iterable[tuple[int, str]]) -> None:
    """Store rows: their numbers and JSON texts."""
    connection.executemany(
        "INSERT INTO execution_rows VALUES (?, ?, ?, ?)", ((*run, number, text) for number, text in texts)
    )


def set_total(connection: Connection, run: RunId, total: int) -> None:
    """Store the number of rows of a run, which means that all of them are stored."""
    connection.execute("UPDATE executions SET total = ? WHERE eval_id = ? AND run_id = ?", (total, *run))


def next_rows(connection: Connection, run: RunId, after: int, limit: int) -> list[tuple[int, str]]:
    """Return the next `limit` remaining rows of a run after number `after`: their numbers and JSON texts."""
    where = "eval_id = ? AND run_id = ? AND number > ?"
    select = f"SELECT number, body FROM execution_rows WHERE {where} ORDER BY number LIMIT ?"
    return connection.execute(select, (*run, after, limit)).fetchall()


def finish_rows(connection: Connection, finished: Sequence[FinishedRow]) -> None:
    """Write output items, delete their rows, and add to the sums. Rows that are no longer stored are skipped."""
    delete = "DELETE FROM execution_rows WHERE eval_id = ? AND run_id = ? AND number = ?"
    cursor = connection.cursor()  # one for all rows: `connection.execute` makes one for each
    done = [each for each in finished if cursor.execute(delete, (*each.run, each.number)).rowcount == 1]
    put(connection, "output_items", (each.item for each in done))
    added: dict[RunId, AddedSums] = {}
    for each in done:
        total = added.setdefault(each.run, {})
        for key, value in each.sums.items():
            total[key] = total.get(key, 0) + value
    upsert = (
        "INSERT INTO execution_sums VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (eval_id, run_id, kind, name, field) DO UPDATE SET value = value + excluded.value"
    )
    for run, sums in added.items():
        connection.executemany(upsert, ((*run, *key, value) for key, value in sums.items()))


def sums_of(connection: Connection, run: RunId) -> Sums:
    """Return the sums over the finished rows of a run."""
    select = "SELECT kind, name, field, value FROM execution_sums WHERE eval_id = ? AND run_id = ?"
    return Counter({(kind, name, field): value for kind, name, field, value in connection.execute(select, run)})


def end_execution(connection: Connection, run: RunId) -> None:
    """Delete the remaining rows and the sums of a run."""
    for table in ("executions", "execution_rows", "execution_sums"):
        connection.execute(f"DELETE FROM {table} WHERE eval_id = ? AND run_id = ?", run)

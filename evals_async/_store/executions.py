"""What is left to do of the runs that a server carries out, and the sums of what is done.

A run's rows are put down when it begins. A row that is finished leaves in the transaction that writes its output item
and adds to the sums, so that whatever happens to the process, every row is either still there or done. Plain functions
of a connection, like those of `rows`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from sqlite3 import Connection
from typing import TypeAlias

import attrs

from evals_async._store.rows import Row, put


RunId: TypeAlias = tuple[str, str]  # the ids of its eval and its own
Sums: TypeAlias = Counter[tuple[str, str, str]]  # kind, name and field: what is counted


@attrs.frozen
class FinishedRow:
    """A row that is done: its number, its output item, and what it adds to the sums."""

    run: RunId
    number: int
    item: Row
    sums: Sums


@attrs.frozen
class PendingExecution:
    """A run that has not ended. `total` is the number of its rows, `None` until all of them are put down."""

    run: RunId
    started: float
    total: int | None


def add_execution(connection: Connection, run: RunId, started: float) -> None:
    """Note that a run is to be carried out."""
    connection.execute("INSERT INTO executions (eval_id, run_id, started) VALUES (?, ?, ?)", (*run, started))


def pending_execution(connection: Connection, run: RunId) -> PendingExecution | None:
    """One run that has not ended, or `None`."""
    select = "SELECT started, total FROM executions WHERE eval_id = ? AND run_id = ?"
    row: tuple[float, int | None] | None = connection.execute(select, run).fetchone()
    return None if row is None else PendingExecution(run, *row)


def pending_executions(connection: Connection) -> list[PendingExecution]:
    """The runs that have not ended, the oldest first."""
    select = "SELECT eval_id, run_id, started, total FROM executions ORDER BY started, rowid"
    return [PendingExecution((row[0], row[1]), row[2], row[3]) for row in connection.execute(select)]


def clear_rows(connection: Connection, run: RunId) -> None:
    """Take away the rows of a run that were put down."""
    connection.execute("DELETE FROM execution_rows WHERE eval_id = ? AND run_id = ?", run)


def add_rows(connection: Connection, run: RunId, texts: Iterable[tuple[int, str]]) -> None:
    """Put down rows: their numbers and their JSON texts."""
    connection.executemany(
        "INSERT INTO execution_rows VALUES (?, ?, ?, ?)", ((*run, number, text) for number, text in texts)
    )


def set_total(connection: Connection, run: RunId, total: int) -> None:
    """Note that all rows of a run are put down."""
    connection.execute("UPDATE executions SET total = ? WHERE eval_id = ? AND run_id = ?", (total, *run))


def next_rows(connection: Connection, run: RunId, after: int, limit: int) -> list[tuple[int, str]]:
    """The next rows of a run that are not done: their numbers and their JSON texts."""
    where = "eval_id = ? AND run_id = ? AND number > ?"
    select = f"SELECT number, body FROM execution_rows WHERE {where} ORDER BY number LIMIT ?"
    return connection.execute(select, (*run, after, limit)).fetchall()


def finish_rows(connection: Connection, finished: Sequence[FinishedRow]) -> None:
    """Write output items, take their rows away, and add to the sums. A row that is not there any more is left out."""
    added: dict[RunId, Sums] = {}
    for each in finished:
        delete = "DELETE FROM execution_rows WHERE eval_id = ? AND run_id = ? AND number = ?"
        if connection.execute(delete, (*each.run, each.number)).rowcount == 1:
            put(connection, "output_items", [each.item])
            added.setdefault(each.run, Counter()).update(each.sums)
    upsert = (
        "INSERT INTO execution_sums VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (eval_id, run_id, kind, name, field) DO UPDATE SET value = value + excluded.value"
    )
    for run, sums in added.items():
        connection.executemany(upsert, ((*run, *key, value) for key, value in sums.items()))


def sums_of(connection: Connection, run: RunId) -> Sums:
    """The sums over the rows of a run that are done."""
    select = "SELECT kind, name, field, value FROM execution_sums WHERE eval_id = ? AND run_id = ?"
    return Counter({(kind, name, field): value for kind, name, field, value in connection.execute(select, run)})


def end_execution(connection: Connection, run: RunId) -> None:
    """Forget what was left to do of a run."""
    for table in ("executions", "execution_rows", "execution_sums"):
        connection.execute(f"DELETE FROM {table} WHERE eval_id = ? AND run_id = ?", run)

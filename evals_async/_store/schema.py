"""The tables of a store, and the migrations of older files. Nothing here opens a file.

To add a table, append a step to `MIGRATIONS`. Never edit a step that was released.
"""

import sqlite3
from collections.abc import Sequence

from evals_async.errors import ArchiveError


APPLICATION_ID = 0x4556_414C  # "EVAL": SQLite stores the application id in the header of the file

# `body` is the whole JSON text, as received or encoded. The other columns are only for search and order.
# Keys contain the ids of the parents, because some servers number output items from the start in every run.
FIRST: tuple[str, ...] = (
    """CREATE TABLE evals (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX evals_by_created_at ON evals (created_at, id)",
    "CREATE INDEX evals_by_updated_at ON evals (updated_at, id)",
    """CREATE TABLE runs (
        eval_id TEXT NOT NULL, id TEXT NOT NULL,
        status TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (eval_id, id))""",
    "CREATE INDEX runs_by_created_at ON runs (eval_id, created_at, id)",
    "CREATE INDEX runs_by_status ON runs (eval_id, status, created_at, id)",
    """CREATE TABLE output_items (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, id TEXT NOT NULL,
        status TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (eval_id, run_id, id))""",
    "CREATE INDEX output_items_by_created_at ON output_items (eval_id, run_id, created_at, id)",
    "CREATE INDEX output_items_by_status ON output_items (eval_id, run_id, status, created_at, id)",
    """CREATE TABLE files (
        id TEXT NOT NULL PRIMARY KEY,
        purpose TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, body TEXT NOT NULL,
        sha256 TEXT REFERENCES file_contents (sha256))""",
    "CREATE INDEX files_by_created_at ON files (created_at, id)",
    "CREATE INDEX files_by_sha256 ON files (sha256)",
    "CREATE TABLE file_contents (sha256 TEXT NOT NULL PRIMARY KEY, bytes BLOB NOT NULL)",
    # Runs in progress on the local server, with their start time in seconds.
    """CREATE TABLE pending_runs (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, started REAL NOT NULL, PRIMARY KEY (eval_id, run_id))""",
)

# The state of exports. A pass reads everything on the server once; it may be interrupted and resumed. A row of `work`
# is one listing or one object to read. `seen` is the last pass that found an object. `missing_since` is the first pass
# that did not find it.
ARCHIVE: tuple[str, ...] = (
    *(
        f"ALTER TABLE {table} ADD COLUMN {column} INTEGER"
        for table in ("evals", "runs", "output_items", "files")
        for column in ("seen", "missing_since")
    ),
    """CREATE TABLE passes (
        number INTEGER PRIMARY KEY, server TEXT NOT NULL, selection TEXT NOT NULL, tool TEXT NOT NULL,
        began REAL NOT NULL, ended REAL, outcome TEXT)""",
    """CREATE TABLE work (
        number INTEGER PRIMARY KEY AUTOINCREMENT, pass INTEGER NOT NULL,
        kind TEXT NOT NULL, eval_id TEXT NOT NULL, run_id TEXT NOT NULL, id TEXT NOT NULL,
        state TEXT NOT NULL, settled INTEGER NOT NULL, place TEXT, pages INTEGER NOT NULL, count INTEGER NOT NULL,
        expected INTEGER, note TEXT, UNIQUE (kind, eval_id, run_id, id))""",
    "CREATE INDEX work_by_state ON work (pass, state, number)",
    # The bytes of responses that are not a JSON object with an id. The other tables contain only such objects.
    """CREATE TABLE damaged (
        kind TEXT NOT NULL, eval_id TEXT NOT NULL, run_id TEXT NOT NULL, id TEXT NOT NULL,
        pass INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (kind, eval_id, run_id, id))""",
    """CREATE TABLE writer (
        one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, host TEXT NOT NULL, began REAL NOT NULL)""",
)

# The remaining rows and the sums of runs that a server executes, and the model responses that it recorded.
EXECUTION: tuple[str, ...] = (
    """CREATE TABLE executions (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, started REAL NOT NULL, total INTEGER,
        PRIMARY KEY (eval_id, run_id))""",
    """CREATE TABLE execution_rows (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (eval_id, run_id, number))""",
    """CREATE TABLE execution_sums (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, field TEXT NOT NULL,
        value INTEGER NOT NULL, PRIMARY KEY (eval_id, run_id, kind, name, field))""",
    """CREATE TABLE stored_answers (
        id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, created_at INTEGER NOT NULL,
        body TEXT NOT NULL)""",
    "CREATE INDEX stored_answers_by_created_at ON stored_answers (kind, created_at, id)",
)

# The organization and the project of a pass, as JSON.
ORIGIN: tuple[str, ...] = ("ALTER TABLE passes ADD COLUMN origin TEXT",)

# Grades of `regrade`. The grades of the service are in the bodies of the items.
REGRADES: tuple[str, ...] = (
    """CREATE TABLE regrades (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, item_id TEXT NOT NULL, criterion TEXT NOT NULL,
        definition TEXT NOT NULL, graded_at REAL NOT NULL, score REAL, passed INTEGER, label TEXT, error TEXT,
        cause TEXT, usage TEXT, notes TEXT, PRIMARY KEY (eval_id, criterion, run_id, item_id))""",
)

# The queue and the sums again, in one tree each: writing and deleting a row takes half the time.
CLUSTERED: tuple[str, ...] = (
    "ALTER TABLE execution_rows RENAME TO old_execution_rows",
    """CREATE TABLE execution_rows (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (eval_id, run_id, number)) WITHOUT ROWID""",
    "INSERT INTO execution_rows SELECT * FROM old_execution_rows",
    "DROP TABLE old_execution_rows",
    "ALTER TABLE execution_sums RENAME TO old_execution_sums",
    """CREATE TABLE execution_sums (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, field TEXT NOT NULL,
        value INTEGER NOT NULL, PRIMARY KEY (eval_id, run_id, kind, name, field)) WITHOUT ROWID""",
    "INSERT INTO execution_sums SELECT * FROM old_execution_sums",
    "DROP TABLE old_execution_sums",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST, ARCHIVE, EXECUTION, ORIGIN, REGRADES, CLUSTERED)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the integer value of a PRAGMA."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def check_identity(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> int:
    """Return the number of migration steps that a file has; 0 for an empty file. Writes nothing.

    Raises `ArchiveError` if the file belongs to another program, or was written by a newer version.
    """
    version = pragma(connection, "user_version")
    owner = pragma(connection, "application_id")
    if owner != APPLICATION_ID and (owner or version or pragma(connection, "schema_version")):
        raise ArchiveError("the file is an SQLite database of another program; it was not changed")
    if version > len(steps):
        raise ArchiveError(
            f"the file has schema {version}, but this evals-async supports only {len(steps)}: use a newer evals-async"
        )
    return version


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Migrate an empty or older file, one transaction per step. Several processes may do this at the same time.

    The same transaction sets `user_version` in the header of the file, which counts the steps.
    """
    for number in range(check_identity(connection, steps), len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if pragma(connection, "user_version") == number:  # otherwise another process did this step
                for statement in steps[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # after a full disk, SQLite has already rolled back
                connection.execute("ROLLBACK")
            raise

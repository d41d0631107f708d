"""What a store's file looks like, and how an older file becomes a newer one.

Tables and migrations only. Nothing here opens a file, and nothing here knows what the rows mean.

A new table is a new step at the end of `MIGRATIONS`; steps that were released are never edited.
"""

import sqlite3
from collections.abc import Sequence

from evals_async.errors import ArchiveError


APPLICATION_ID = 0x4556_414C  # "EVAL" in the header of the file: SQLite's own way to say whose file it is

# Everywhere `body` is the whole JSON text, as it was received or made. The columns beside it only find and order it.
# Keys hold the ids of the parents, because some servers count output items anew in every run.
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
    # Runs that the local server has begun and not ended, with the exact second in which they began.
    """CREATE TABLE pending_runs (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, started REAL NOT NULL, PRIMARY KEY (eval_id, run_id))""",
)

# What an export keeps of itself. A pass is one walk over everything on the server, in as many sittings as it takes;
# work is one listing or one object of it. `seen` is the last pass that met an object, `missing_since` the first that
# did not.
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
    # What a server sent that is no JSON object with an id, as it came; the other tables hold only what is one.
    """CREATE TABLE damaged (
        kind TEXT NOT NULL, eval_id TEXT NOT NULL, run_id TEXT NOT NULL, id TEXT NOT NULL,
        pass INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (kind, eval_id, run_id, id))""",
    """CREATE TABLE writer (
        one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, host TEXT NOT NULL, began REAL NOT NULL)""",
)

# What a server that carries out runs has still to do of them, and the sums of what is done; and the answers of models
# that passed through it, which runs can be made of.
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

# Of which organization and project a pass was, as JSON.
ORIGIN: tuple[str, ...] = ("ALTER TABLE passes ADD COLUMN origin TEXT",)

# Grades that were given to archived items afterwards, beside those of the service in their bodies.
REGRADES: tuple[str, ...] = (
    """CREATE TABLE regrades (
        eval_id TEXT NOT NULL, run_id TEXT NOT NULL, item_id TEXT NOT NULL, criterion TEXT NOT NULL,
        definition TEXT NOT NULL, graded_at REAL NOT NULL, score REAL, passed INTEGER, label TEXT, error TEXT,
        cause TEXT, usage TEXT, notes TEXT, PRIMARY KEY (eval_id, criterion, run_id, item_id))""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST, ARCHIVE, EXECUTION, ORIGIN, REGRADES)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The integer that a PRAGMA tells."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def check_identity(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> int:
    """The number of steps that a file has behind it; 0 for an empty one. Writes nothing.

    Raises `ArchiveError` for another program's database, and for a file made by a newer version.
    """
    version = pragma(connection, "user_version")
    owner = pragma(connection, "application_id")
    if owner != APPLICATION_ID and (owner or version or pragma(connection, "schema_version")):
        raise ArchiveError("the file is an SQLite database of another program; it was left as it is")
    if version > len(steps):
        raise ArchiveError(
            f"the file has schema {version}, and this version of evals-async knows {len(steps)}: use a newer version"
        )
    return version


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring an empty or older file up to date, one transaction a step; each holds the step and the record that it was
    made.

    The record is the header's `user_version`, which takes part in the transaction. Two processes may do this at once.
    """
    for number in range(check_identity(connection, steps), len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if pragma(connection, "user_version") == number:  # else another process was quicker
                for statement in steps[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            raise

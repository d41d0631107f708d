"""The file's identity and its migrations."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals_async._store.schema import APPLICATION_ID, MIGRATIONS, check_identity, migrate, pragma
from evals_async.errors import ArchiveError


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    yield opened
    opened.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name for (name,) in found if not name.startswith("sqlite_")}


def test_an_empty_file_gets_every_step(connection: sqlite3.Connection) -> None:
    """A new file has all tables, our mark, and the number of steps behind it."""
    migrate(connection)
    objects = {"evals", "runs", "output_items", "files", "file_contents", "pending_runs"}
    objects |= {"executions", "execution_rows", "execution_sums", "stored_answers", "regrades"}
    assert tables(connection) == objects | {"passes", "work", "damaged", "writer"}
    assert pragma(connection, "application_id") == APPLICATION_ID
    assert pragma(connection, "user_version") == len(MIGRATIONS)


def test_migrating_again_changes_nothing(connection: sqlite3.Connection) -> None:
    """A file that is up to date is left as it is."""
    migrate(connection)
    before = pragma(connection, "schema_version")
    migrate(connection)
    assert pragma(connection, "schema_version") == before


def test_an_older_file_gets_only_the_steps_it_lacks(connection: sqlite3.Connection) -> None:
    """The rows of an older file are there after its migration, beside the new table."""
    old = MIGRATIONS
    migrate(connection, old)
    connection.execute("INSERT INTO evals (id, name, created_at, updated_at, body) VALUES ('1', '', 1, 1, '{}')")
    migrate(connection, (*old, ("CREATE TABLE cursors (listing TEXT PRIMARY KEY, after TEXT)",)))
    assert "cursors" in tables(connection)
    assert connection.execute("SELECT id FROM evals").fetchall() == [("1",)]
    assert pragma(connection, "user_version") == len(old) + 1


def test_a_step_that_fails_leaves_nothing_behind(connection: sqlite3.Connection) -> None:
    """A step and its record are one transaction: half a step is never seen, and the steps before it stay."""
    broken = ("CREATE TABLE half (id TEXT)", "CREATE TABLE half (id TEXT)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, broken))
    assert "half" not in tables(connection)
    assert pragma(connection, "user_version") == len(MIGRATIONS)
    assert not connection.in_transaction


def test_another_programs_database_is_refused(connection: sqlite3.Connection) -> None:
    """A database with tables and without our mark is somebody else's, and stays as it is."""
    connection.execute("CREATE TABLE precious (id TEXT)")
    with pytest.raises(ArchiveError, match="another program"):
        migrate(connection)
    assert tables(connection) == {"precious"}


def test_a_newer_file_is_refused(connection: sqlite3.Connection) -> None:
    """A file with more steps than we know is left to the version that made it."""
    migrate(connection)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 3}")
    with pytest.raises(ArchiveError, match=f"schema {len(MIGRATIONS) + 3}"):
        check_identity(connection)


def test_two_may_migrate_at_once(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Whoever finds that a step was made meanwhile by another does not make it again."""
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    migrated: list[str] = []

    def be_quicker(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" and not migrated:
            migrated.append(statement)
            migrate(other)

    connection.set_trace_callback(be_quicker)
    migrate(connection)
    other.close()
    assert migrated == ["BEGIN IMMEDIATE"]
    assert pragma(connection, "user_version") == len(MIGRATIONS)

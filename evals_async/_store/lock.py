"""`WriterLock`: one writer per archive; `ExecutionLock`: one server per store that executes runs.

A lock ends with its process, also if the process is killed.

It is an exclusive SQLite lock on an empty file next to the store, so it works on every system with SQLite. Readers do
not need it. Nothing here opens the store itself.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

from evals_async.errors import ArchiveError


LOCK_TIMEOUT = 0.2  # seconds: `is_locked` in another process holds the lock for a moment


def lock_file(path: Path, suffix: str = ".lock") -> Path:
    """Return the path of the lock file for the store at `path`. Links to one file have one lock."""
    whole = path.resolve()
    return whole.with_name(whole.name + suffix)


def is_locked(path: Path) -> bool:
    """Return whether a process writes to the store at `path` now. False if this cannot be found out."""
    try:
        connection = sqlite3.connect(f"{lock_file(path).absolute().as_uri()}?mode=ro", uri=True, timeout=0)
    except sqlite3.Error:  # there is no such file
        return False
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    finally:
        connection.close()
    return False


class WriterLock:
    """Locks the store at `path` for writing, from construction to `release()`.

    Raises `ArchiveError` after 0.2 s if another writer has the lock, in this process or another one. A store in memory
    (`None`) needs no lock.
    """

    suffix: ClassVar[str] = ".lock"
    refusal: ClassVar[str] = "is being written by another export; one writer at a time"

    def __init__(self, path: Path | None) -> None:
        self.connection: sqlite3.Connection | None = None
        self.file: Path | None = None
        self.created = False
        if path is None:
            return
        self.file = file = lock_file(path, self.suffix)
        self.created = not file.exists()
        try:
            connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=LOCK_TIMEOUT)
        except sqlite3.Error as error:
            raise ArchiveError(f"{file}: {error}") from error
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise ArchiveError(f"{path} {self.refusal}") from error
            raise ArchiveError(f"{file}: {error}") from error
        self.connection = connection

    def remove_file(self) -> None:
        """Remove the lock file. Windows does not remove an open file: it stays there, empty."""
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class ExecutionLock(WriterLock):
    """The same for servers that execute runs: two of them would make, and pay for, all calls to models twice."""

    suffix = ".runs.lock"
    refusal = "is used by another server that executes runs; one server at a time"

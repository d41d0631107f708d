"""One writer per store: `WriterLock`, held by whoever fills an archive, and gone with its process however that ends.

It is SQLite's own exclusive lock on an empty file beside the store, so it works wherever SQLite does. Readers do not
ask for it. Nothing here opens the store itself.
"""

import sqlite3
from pathlib import Path
from typing import Self

from evals_async.errors import ArchiveError


LOOKS_LAST = 0.2  # seconds at most: someone who only looks whether a store is being filled holds the lock for a moment


def lock_file(path: Path) -> Path:
    """The empty file that is locked for the store at `path`."""
    return path.with_name(path.name + ".lock")


def is_locked(path: Path) -> bool:
    """Whether someone fills the store at `path` now. False where that cannot be found out."""
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
    """The right to fill the store at `path`, from construction to `release()`.

    Raises `ArchiveError`, all but at once, when another process, or another part of this one, holds it. A store in
    memory (`None`) needs no lock.
    """

    def __init__(self, path: Path | None) -> None:
        self.connection: sqlite3.Connection | None = None
        if path is None:
            return
        place = lock_file(path)
        try:
            connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=LOOKS_LAST)
        except sqlite3.Error as error:
            raise ArchiveError(f"{place}: {error}") from error
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise ArchiveError(f"{path} is being written by another export; one writer at a time") from error
            raise ArchiveError(f"{place}: {error}") from error
        self.connection = connection

    def release(self) -> None:
        """Let the next one in. A second time does nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

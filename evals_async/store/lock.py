"""One writer per store: `WriterLock`, held by whoever fills an archive, and gone with its process however that ends.

It is SQLite's own exclusive lock on an empty file beside the store, so it works wherever SQLite does. Readers do not
ask for it. Nothing here opens the store itself.
"""

import sqlite3
from pathlib import Path

from evals_async.errors import ArchiveError


class WriterLock:
    """The right to fill the store at `path`, from construction to `release()`.

    Raises `ArchiveError` at once when another process, or another part of this one, holds it. A store in memory
    (`None`) needs no lock.
    """

    def __init__(self, path: Path | None) -> None:
        self.connection: sqlite3.Connection | None = None
        if path is None:
            return
        place = path.with_name(path.name + ".lock")
        try:
            connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=0)
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

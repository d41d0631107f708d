"""The SQLite connection: one thread opens, uses and closes it. Only this module opens database files.

`Database.call` runs a function with the connection. `Database.atomic` does the same in one transaction. This module
depends on no table.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeAlias, TypeVar

from evals_async._store.schema import MIGRATIONS, check_identity, migrate
from evals_async.errors import ArchiveError


P = ParamSpec("P")
T = TypeVar("T")

StrPath: TypeAlias = str | os.PathLike[str]

BUSY_SECONDS = 5.0  # how long to wait for another process's transaction


def archive_error(error: sqlite3.Error, path: Path | None) -> ArchiveError:
    """Convert an SQLite error; the message contains its name (SQLITE_FULL, SQLITE_BUSY, SQLITE_CORRUPT, ...)."""
    name = getattr(error, "sqlite_errorname", None)
    advice = ""
    if name == "SQLITE_CANTOPEN" and path is not None and path.exists():
        advice = ": it was not closed; copy it with its -wal file to a writable directory, and open the copy"
    return ArchiveError(f"{path or 'the store in memory'}: {error}" + (f" ({name})" if name else "") + advice)


def connect(path: Path | None, *, read_only: bool) -> sqlite3.Connection:
    """Open a connection in autocommit mode; the file is checked and migrated.

    The check comes before every write, because setting the journal mode also writes to the file.
    """
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        migrate(connection)
        return connection
    connection = connection_to(path, reading_mode(path) if read_only else "mode=rwc")
    try:
        if read_only:
            connection.execute("PRAGMA query_only = on")
            if check_identity(connection) < len(MIGRATIONS):
                raise ArchiveError(f"{path} is empty or of an older version: open it once for writing")
            return connection
        check_identity(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connection_to(path: Path, mode: str) -> sqlite3.Connection:
    # Only a URI can be opened read-only. `as_uri` quotes `?`, `#` and `%` in file names.
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def reading_mode(path: Path) -> str:
    """Return the URI parameters for reading a file.

    SQLite creates two more files, `-wal` and `-shm`, while a database is open. The last process to close it removes
    them if it may write there. If this process may not write there and the two files do not exist, no process changes
    the file, so `immutable` is safe. If they exist, another process has it open or did not close it.
    """
    own = os.access in os.supports_effective_ids  # not on Windows
    if all(os.access(each, os.W_OK, effective_ids=own) for each in (path, path.absolute().parent)):
        return "mode=rw"  # `PRAGMA query_only` prevents writes
    open_files = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    return "mode=ro" if any(each.exists() for each in open_files) else "mode=ro&immutable=1"


def identity_of(path: Path | None) -> tuple[int, int] | None:
    """Return what distinguishes a file from all others that exist, or `None` if there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def open_for_reading(path: StrPath) -> sqlite3.Connection:
    """Open a read-only connection for the calling thread. Raises `ArchiveError`."""
    file = Path(path)
    try:
        return connect(file, read_only=True)
    except sqlite3.Error as error:
        raise archive_error(error, file) from error


class Database:
    """A store, in a file or in memory. `async with await Database.open(path) as database: ...`

    One thread owns the connection and executes all calls in order. If a caller is cancelled, it stops waiting, but its
    call is still executed completely or not at all. SQLite errors are raised as `ArchiveError`; the cause is the
    original error.
    """

    def __init__(self, path: Path | None, owner: ThreadPoolExecutor | None, connection: sqlite3.Connection) -> None:
        self.path = path
        self.owner = owner
        self.connection = connection
        self.identity = identity_of(path)

    @classmethod
    async def open(cls, path: StrPath | None = None, *, read_only: bool = False, inline: bool | None = None) -> Self:
        """Open a file, or create it; without a `path`, create a new store in memory.

        With `inline`, the thread of the caller uses the connection: this is faster, but SQLite blocks the event loop.
        It is the default for a store in memory. Raises `ArchiveError` if the file is not a store, has a newer version,
        or cannot be read. Such a file is not changed.
        """
        file = None if path is None else Path(path)
        owner = None
        if not (file is None if inline is None else inline):
            owner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evals-store")
        try:
            if owner is None:
                connection = connect(file, read_only=read_only)
            else:
                work = partial(connect, file, read_only=read_only)
                connection = await asyncio.get_running_loop().run_in_executor(owner, work)
        except BaseException as error:
            if owner is not None:
                owner.shutdown(wait=False)
            if isinstance(error, sqlite3.Error):
                raise archive_error(error, file) from error
            raise
        return cls(file, owner, connection)

    def is_current(self) -> bool:
        """Return whether the path still leads to the open file, which nobody has removed or replaced."""
        return self.path is None or identity_of(self.path) == self.identity

    async def call(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, ...)` without a transaction, for reading. Returns its result."""
        return await self.on_owner(lambda: work(self.connection, *args, **kwargs))

    async def atomic(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, ...)` in one transaction. Returns its result.

        When this returns, all changes are on disk. If it raises an error, none are.
        """
        return await self.on_owner(
            lambda: in_transaction(self.connection, lambda: work(self.connection, *args, **kwargs))
        )

    async def on_owner(self, work: Callable[[], T]) -> T:
        try:
            if self.owner is None:
                return work()
            return await asyncio.get_running_loop().run_in_executor(self.owner, work)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):  # a mistake in the caller, not a broken file
            raise
        except sqlite3.Error as error:
            raise archive_error(error, self.path) from error

    async def close(self) -> None:
        """Wait for the calls that were submitted, and close the file. A second call does nothing."""
        if self.owner is None:
            self.connection.close()
            return
        owner, self.owner = self.owner, None
        try:
            await asyncio.get_running_loop().run_in_executor(owner, self.connection.close)
        finally:
            owner.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def in_transaction(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after a full disk, SQLite has already rolled back
            connection.execute("ROLLBACK")
        raise
    return result

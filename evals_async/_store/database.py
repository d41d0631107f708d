"""The SQLite connection: opened, owned by one thread, closed. Only this module opens database files.

Functions of a connection are handed to `Database.call`, or to `Database.atomic`, which runs them in one transaction.
Nothing here knows which tables there are.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeAlias, TypeVar

from evals_async._store.schema import MIGRATIONS, check_identity, migrate
from evals_async.errors import ArchiveError


P = ParamSpec("P")
T = TypeVar("T")

StrPath: TypeAlias = str | os.PathLike[str]

BUSY_SECONDS = 5.0  # how long to wait for another process's transaction


def archive_error(error: sqlite3.Error, path: Path | None) -> ArchiveError:
    """What went wrong with the file, with SQLite's own name for it (SQLITE_FULL, SQLITE_BUSY, SQLITE_CORRUPT, ...)."""
    name = getattr(error, "sqlite_errorname", None)
    cure = ""
    if name == "SQLITE_CANTOPEN" and path is not None and path.exists():
        cure = ": it was not closed; copy it with its -wal file to where it can be written, and open it there"
    return ArchiveError(f"{path or 'the store in memory'}: {error}" + (f" ({name})" if name else "") + cure)


def connect(path: Path | None, *, read_only: bool) -> sqlite3.Connection:
    """An open connection in autocommit mode, with its file checked and migrated.

    A file is looked at before anything is written to it, the journal mode included.
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
    # As a URI, because a plain path cannot be opened read-only; the quoting keeps `?`, `#` and `%` in names literal.
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def reading_mode(path: Path) -> str:
    """How a file is opened by those who only read it.

    SQLite keeps two files beside one that is open, `-wal` and `-shm`, and the last to close it removes them, if it may
    write there. Where this process may not, the file is taken as one that nobody changes, unless those files say that
    somebody has it open, or left it in the middle of something.
    """
    own = os.access in os.supports_effective_ids  # not on Windows
    if all(os.access(each, os.W_OK, effective_ids=own) for each in (path, path.absolute().parent)):
        return "mode=rw"  # nothing is written all the same: see PRAGMA query_only
    beside = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    return "mode=ro" if any(each.exists() for each in beside) else "mode=ro&immutable=1"


def open_for_reading(path: StrPath) -> sqlite3.Connection:
    """A connection of the calling thread's own, without the right to write. Raises `ArchiveError`."""
    place = Path(path)
    try:
        return connect(place, read_only=True)
    except sqlite3.Error as error:
        raise archive_error(error, place) from error


class Database:
    """A store, in a file or in memory. `async with await Database.open(path) as database: ...`

    One thread owns the connection, and works through what it is given in order. A caller that is cancelled stops
    waiting; what it asked for is carried out as a whole, or not at all. Errors of the file become `ArchiveError`, with
    the sqlite3 error as its cause.
    """

    def __init__(self, path: Path | None, owner: ThreadPoolExecutor | None, connection: sqlite3.Connection) -> None:
        self.path = path
        self.owner = owner
        self.connection = connection

    @classmethod
    async def open(cls, path: StrPath | None = None, *, read_only: bool = False, inline: bool | None = None) -> Self:
        """Open a file, making it if there is none, or a new store in memory.

        `inline` makes the caller's thread the owner: quicker, and it blocks the loop for as long as SQLite takes. It is
        the default for a store in memory. Raises `ArchiveError` for a file of another kind, of a newer version, or
        unreadable; such a file is left as it is.
        """
        place = None if path is None else Path(path)
        owner = None
        if not (place is None if inline is None else inline):
            owner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evals-store")
        try:
            if owner is None:
                connection = connect(place, read_only=read_only)
            else:
                work = owner.submit(connect, place, read_only=read_only)
                connection = await asyncio.wrap_future(work)
        except BaseException as error:
            if owner is not None:
                owner.shutdown(wait=False)
            if isinstance(error, sqlite3.Error):
                raise archive_error(error, place) from error
            raise
        return cls(place, owner, connection)

    async def call(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `work(connection, ...)` returns, on the owner's thread and without a transaction: for reading."""
        return await self.on_owner(lambda: work(self.connection, *args, **kwargs))

    async def atomic(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `work(connection, ...)` returns, in one transaction: all of it is kept once this returns, or nothing of
        it.
        """
        return await self.on_owner(
            lambda: in_transaction(self.connection, lambda: work(self.connection, *args, **kwargs))
        )

    async def on_owner(self, work: Callable[[], T]) -> T:
        try:
            if self.owner is None:
                return work()
            return await asyncio.wrap_future(self.owner.submit(work))
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):  # the caller's mistake, not the file's
            raise
        except sqlite3.Error as error:
            raise archive_error(error, self.path) from error

    async def close(self) -> None:
        """Finish what was begun, and close the file. Closing twice is harmless."""
        if self.owner is None:
            self.connection.close()
            return
        owner, self.owner = self.owner, None
        try:
            await asyncio.wrap_future(owner.submit(self.connection.close))
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
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
    return result

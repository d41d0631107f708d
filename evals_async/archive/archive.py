"""`Archive`: one file, and what can be done with it."""

from typing import Self

from evals_async.archive.passes import DEFAULT_CONCURRENCY, DEFAULT_PATIENCE, OnProgress, Terms, export
from evals_async.archive.values import EVERYTHING, ExportReport, Selection
from evals_async.client import EvalsClient
from evals_async.clock import SYSTEM_CLOCK, Clock
from evals_async.store import Database
from evals_async.store.database import StrPath


class Archive:
    """A store of evals, runs, output items and files. `async with Archive.open("evals.db") as archive: ...`"""

    def __init__(self, path: StrPath, *, read_only: bool, clock: Clock) -> None:
        self.path = path
        self.read_only = read_only
        self.clock = clock
        self.opened: Database | None = None

    @classmethod
    def open(cls, path: StrPath, *, read_only: bool = False, clock: Clock = SYSTEM_CLOCK) -> Self:
        """The archive in the file at `path`, which is made if there is none. The file is opened by `async with`.

        Entering raises `ArchiveError` for a file that is no archive, or cannot be read; such a file is left as it is.
        """
        return cls(path, read_only=read_only, clock=clock)

    @property
    def database(self) -> Database:
        """The open store. Raises `RuntimeError` outside of `async with`."""
        if self.opened is None:
            raise RuntimeError('the archive is not open: use `async with Archive.open("evals.db") as archive:`')
        return self.opened

    async def __aenter__(self) -> Self:
        self.opened = await Database.open(self.path, read_only=self.read_only)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        opened, self.opened = self.opened, None
        if opened is not None:
            await opened.close()

    async def export(
        self,
        client: EvalsClient,
        selection: Selection = EVERYTHING,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        patience: float = DEFAULT_PATIENCE,
        another_server: bool = False,
        on_progress: OnProgress | None = None,
    ) -> ExportReport:
        """Copy what is selected from the client's server. GET only; nothing that is here is ever deleted.

        Goes on where an interrupted export of the same selection stopped; otherwise looks at everything anew, and reads
        the items only of runs that are new or had not ended. At most `concurrency` listings are read at once, one page
        of each. A server that does not answer is borne for `patience` seconds; then the report says `stopped`. What
        the server has no more is marked as missing. Raises `ArchiveError` when the disk is full, when another export is
        writing to this file, or when it was made from another server (unless `another_server`); `Unauthenticated` and
        `QuotaExceeded` as soon as the server says so. After any of these the export can be gone on with.
        """
        terms = Terms(concurrency=concurrency, patience=patience, another_server=another_server)
        return await export(self.database, client, selection, terms, clock=self.clock, on_progress=on_progress)

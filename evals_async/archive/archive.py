"""`Archive`: one file with a copy of evals, runs, output items and files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._extras import require_extra
from evals_async._numbers import whole_number
from evals_async._store import Database, rows
from evals_async._store.database import StrPath
from evals_async._store.gaps import Gaps, gaps
from evals_async.archive import reading
from evals_async.archive.convert.convert import convert, refuse_gaps
from evals_async.archive.convert.report import ConversionReport
from evals_async.archive.export import ledger
from evals_async.archive.export.estimate import Estimate, estimate
from evals_async.archive.export.fetching import Fetcher
from evals_async.archive.export.outages import FIRST_ANSWER
from evals_async.archive.export.passes import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_OUTAGE,
    ExportOptions,
    OnProgress,
    close_and_remove,
    export,
)
from evals_async.archive.push import Push, Pusher, RunsToPush
from evals_async.archive.reading import ArchiveSummary
from evals_async.archive.regrade.agreement import Agreement
from evals_async.archive.regrade.regrade import Regrade, RegradeEstimate, RegradeReport
from evals_async.archive.regrade.tasks import EVERY_CRITERION, RegradeOptions
from evals_async.archive.tables import ArchiveTable, table_of
from evals_async.archive.values import EVERYTHING, ExportReport, Selection
from evals_async.archive.verify.offline import VerifyReport, verify_offline
from evals_async.archive.verify.online import OnlineVerification
from evals_async.client import EvalsClient
from evals_async.errors import ArchiveError
from evals_async.models import Eval, EvalRun, File, OutputItem


async def is_archive(path: StrPath) -> bool:
    """Return whether a file contains an export. False if the file is not a store, or does not exist."""
    try:
        async with await Database.open(path, read_only=True) as database:
            return await database.call(ledger.last_pass) is not None
    except ArchiveError:
        return False


async def gaps_of(path: StrPath) -> Gaps:
    """Return what the archive in a file lacks. Raises `ArchiveError` if it cannot be read."""
    async with await Database.open(path, read_only=True) as database:
        return await database.call(gaps)


class Archive:
    """A store of evals, runs, output items and files. `async with Archive.open("evals.db") as archive: ...`"""

    def __init__(self, path: StrPath, *, read_only: bool, clock: Clock) -> None:
        self._path = Path(path)
        self._read_only = read_only
        self._clock = clock
        self._opened: Database | None = None
        self._created = False

    def __repr__(self) -> str:
        return f"Archive({str(self._path)!r}{', read-only' if self._read_only else ''})"

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._path

    @classmethod
    def open(cls, path: StrPath, *, read_only: bool = False, clock: Clock = SYSTEM_CLOCK) -> Self:
        """Return the archive at `path`. Use it with `async with`, which opens the file or creates it.

        With `read_only`, the file must exist and is not changed. Entering raises `ArchiveError` if the file is not an
        archive or cannot be read. Such a file is not changed. If `export` was called, and neither stored an object nor
        was complete, a file that was created here is removed when the archive is closed.
        """
        return cls(path, read_only=read_only, clock=clock)

    @property
    def _database(self) -> Database:
        """The open store. Raises `RuntimeError` outside of `async with`."""
        if self._opened is None:
            raise RuntimeError('the archive is not open; write `async with Archive.open("evals.db") as archive:`')
        return self._opened

    async def __aenter__(self) -> Self:
        self._created = not self._read_only and not self._path.exists()
        self._opened = await Database.open(self._path, read_only=self._read_only)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if self._created:
            await close_and_remove(opened)
        else:
            await opened.close()

    async def export(
        self,
        client: EvalsClient,
        selection: Selection = EVERYTHING,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        first_answer: float = FIRST_ANSWER,
        another_server: bool = False,
        reread: bool = False,
        on_progress: OnProgress | None = None,
    ) -> ExportReport:
        """Copy the selected data from the client's server into the archive. Sends only GET requests.

        It continues an interrupted export of the same selection. Otherwise it lists everything again, but reads only
        the items of runs that are new or had not ended (with `reread`, of all runs). Nothing in the archive is deleted:
        objects that are no longer on the server are marked as missing.

        At most `concurrency` listings are read at the same time. If the server does not respond for `max_outage`
        seconds, the export stops and the report has `stopped`. Before the first response it stops earlier: after some
        seconds without a connection, or after `first_answer` seconds without a response. `on_progress` is called after
        each page.

        Raises `ArchiveError` if the disk is full or another export writes to this file. It is also raised if the
        archive is from another server, unless `another_server` is set. Raises `Unauthenticated` if the key is rejected,
        and `QuotaExceeded`. Raises `InvalidArgument` for an option that is not valid, before any request. After every
        other error, call it again to continue.
        """
        options = ExportOptions(
            concurrency=concurrency,
            max_outage=max_outage,
            another_server=another_server,
            reread=reread,
            first_answer=first_answer,
        )
        return await export(self._database, client, selection, options, clock=self._clock, on_progress=on_progress)

    async def verify(
        self,
        client: EvalsClient | None = None,
        *,
        sample: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        first_answer: float = FIRST_ANSWER,
    ) -> VerifyReport:
        """Prove that the archive is complete: by itself, and with a `client` also against the server.

        By itself: every object can be read and hashed. Every run has as many items as it counts. Every file of a run
        exists with the right hash. No work is unfinished. Against the server: all evals, runs and files, and the
        items of `sample` random runs. With `sample=None`, the items of all runs and the contents of files. Sends only
        GET requests. Raises `ArchiveError`, `InvalidArgument` for an option that is not valid, and the same errors of
        the client as `export`.
        """
        ExportOptions(concurrency=concurrency, max_outage=max_outage, first_answer=first_answer)
        if sample is not None:
            sample = whole_number(sample, "sample", least=0)
        report = await verify_offline(self._database, self._clock.time())
        if client is not None:
            fetcher = Fetcher.of(client, first_answer)
            bounds = {"max_outage": max_outage, "first_answer": first_answer}
            await OnlineVerification(self._database, fetcher, report, clock=self._clock, **bounds).run(
                sample, concurrency
            )
            report.manifest["compared_with_server"] = dict(report.compared)
            report.manifest["unfinished"] = [attrs.asdict(finding) for finding in report.findings]
        return report

    async def estimate(
        self,
        client: EvalsClient,
        selection: Selection = EVERYTHING,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        first_answer: float = FIRST_ANSWER,
    ) -> Estimate:
        """Count what a first `export` would copy. Copies nothing. Raises the errors of the client."""
        ExportOptions(concurrency=concurrency, first_answer=first_answer)
        return await estimate(client, selection, concurrency=concurrency, first_answer=first_answer)

    # --- reading ------------------------------------------------------------------------------------------------------

    def evals(self) -> AsyncIterator[Eval]:
        """Iterate over all evals, oldest first."""
        return reading.models(self._database, "evals", Eval)

    async def eval(self, eval_id: str) -> Eval:
        """Return one eval. Raises `InvalidArgument` if the archive does not have it."""
        return await reading.one_named(self._database, "evals", (eval_id,), Eval)

    def runs(self, eval_id: str | None = None, *, status: str | None = None) -> AsyncIterator[EvalRun]:
        """Iterate over the runs of one eval, or of all evals, oldest first. `status` selects one status."""
        return reading.all_runs(self._database, eval_id, status)

    async def run(self, run_id: str, *, eval_id: str | None = None) -> EvalRun:
        """Return one run. Raises `InvalidArgument` if there is none, or if several evals have this id."""
        return await reading.one_run(self._database, run_id, eval_id)

    def items(self, run: EvalRun | tuple[str, str], *, status: str | None = None) -> AsyncIterator[OutputItem]:
        """Iterate over the output items of a run. Pass a run of this archive or (eval_id, run_id).

        `status` selects one status. Raises `InvalidArgument` for a run id without its eval id.
        """
        return reading.all_items(self._database, reading.key_of(run), status)

    async def item(self, run: EvalRun | tuple[str, str], item_id: str) -> OutputItem:
        """Return one output item of a run. Raises `InvalidArgument` if the archive does not have it."""
        return await reading.one_named(self._database, "output_items", (*reading.key_of(run), item_id), OutputItem)

    def files(self, *, purpose: str | None = None) -> AsyncIterator[File]:
        """Iterate over all files, oldest first. `purpose` selects one purpose."""
        return reading.all_files(self._database, purpose)

    async def content(self, file_id: str) -> bytes | None:
        """Return the content of a file, or `None` if the archive does not have it."""
        return await self._database.call(rows.get_content, file_id)

    async def gaps(self) -> Gaps:
        """Return what is missing, and what the options of the export excluded. Check it before you rely on the data."""
        return await self._database.call(gaps)

    async def summary(self) -> ArchiveSummary:
        """Return the contents of the archive in numbers."""
        return await reading.summary(self._database)

    def table(self, name: str, *, eval_id: str | None = None) -> ArchiveTable:
        """Return a table of all evals, or of one eval: `evals`, `runs`, `items`, `results` or `files`.

        Use it with `pandas.DataFrame(t)` or any library for Arrow: `polars.DataFrame(t)`, `duckdb.sql("from t")`,
        `pyarrow.table(t)`. Rows and columns are those of `to_rows`. They are read when the table is used. Raises
        `InvalidArgument` for another name.
        """
        return table_of(self.path, name, eval_id)

    # --- grading again ------------------------------------------------------------------------------------------------

    async def regrade(
        self, options: RegradeOptions = EVERY_CRITERION, *, on_progress: Callable[[int], None] | None = None
    ) -> RegradeReport:
        """Grade the archived items again with our graders, and compare the grades with those of the service.

        Our grades are in their own table; those of the service do not change. Judges and python graders run only if
        `options` has `models` and `python`. After an interruption, call it again to continue; failed grades are tried
        again. `on_progress` is called with the number of new grades. Raises `InvalidArgument` for an unknown criterion,
        `MissingExtra` without pyarrow, and `ArchiveError`.
        """
        require_extra("grading in batches needs", "arrow")
        return await Regrade(self._database, options, self._clock, on_progress).run()

    async def agreement(self, options: RegradeOptions = EVERY_CRITERION) -> tuple[Agreement, ...]:
        """Return how often the stored grades of `regrade` agree with those of the service. Grades nothing."""
        return tuple(await Regrade(self._database, options, self._clock).agreement())

    async def estimate_regrade(self, options: RegradeOptions = EVERY_CRITERION) -> RegradeEstimate:
        """Return what `regrade` would cost: rows, judge calls and tokens."""
        return await Regrade(self._database, options, self._clock).estimate()

    # --- moving to another system -------------------------------------------------------------------------------------

    async def convert(
        self, to: str, directory: StrPath, *, dry: bool = False, allow_incomplete: bool = False
    ) -> ConversionReport:
        """Write the archive to `directory` in another format.

        `to` is `jsonl`, `csv`, `parquet`, `promptfoo` (results), `promptfooconfig` (definitions) or `inspect` (logs).
        The report counts what is the same, nearly the same, and not there. With `dry`, it lists the files but nothing
        is written. The work runs in a thread. Raises `ArchiveError` if the archive is incomplete (see `gaps`) and
        `allow_incomplete` is false, `InvalidArgument` for another format, `OSError`, and `MissingExtra`.
        """
        options = {"dry": dry, "allow_incomplete": allow_incomplete}
        return await asyncio.to_thread(convert, self.path, to, directory, **options)

    async def push(self, client: EvalsClient, *, runs: RunsToPush = "none", allow_incomplete: bool = False) -> Push:
        """Create the evals of this archive on the client's server, with `none`, the `newest` or `all` of their runs.

        Definitions are sent as their authors wrote them. The files of the runs are uploaded. Objects of an earlier push
        are not created again. The server executes the runs again, at its price. Raises the errors of the client; call
        it again to continue. Raises `ArchiveError` if the archive is incomplete (see `gaps`) and `allow_incomplete` is
        false.
        """
        if not allow_incomplete:
            refuse_gaps(await self.gaps(), self.path)
        return await Pusher(self._database, client).everything(runs)

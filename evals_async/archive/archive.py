"""`Archive`: one file, and what can be done with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
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
from evals_async.archive.export.passes import DEFAULT_CONCURRENCY, DEFAULT_MAX_OUTAGE, ExportOptions, OnProgress, export
from evals_async.archive.push import Push, Pusher, RunsToPush
from evals_async.archive.reading import ArchiveSummary
from evals_async.archive.regrade import (
    EVERY_CRITERION,
    Regrade,
    RegradeEstimate,
    RegradeOptions,
    RegradeReport,
)
from evals_async.archive.regrade_agreement import Agreement
from evals_async.archive.tables import ArchiveTable, table_of
from evals_async.archive.values import EVERYTHING, ExportReport, Selection
from evals_async.archive.verify.offline import VerifyReport, verify_offline
from evals_async.archive.verify.online import Comparison
from evals_async.client import EvalsClient
from evals_async.errors import ArchiveError
from evals_async.models import Eval, EvalRun, File, OutputItem


async def is_archive(path: StrPath) -> bool:
    """Whether an export was made into the file. False for what is no store, and for a file that is not there."""
    try:
        async with await Database.open(path, read_only=True) as database:
            return await database.call(ledger.last_pass) is not None
    except ArchiveError:
        return False


async def gaps_of(path: StrPath) -> Gaps:
    """What the archive in a file lacks. Raises `ArchiveError`."""
    async with await Database.open(path, read_only=True) as database:
        return await database.call(gaps)


class Archive:
    """A store of evals, runs, output items and files. `async with Archive.open("evals.db") as archive: ...`"""

    def __init__(self, path: StrPath, *, read_only: bool, clock: Clock) -> None:
        self._path = Path(path)
        self._read_only = read_only
        self._clock = clock
        self._opened: Database | None = None

    def __repr__(self) -> str:
        return f"Archive({str(self._path)!r}{', read-only' if self._read_only else ''})"

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @classmethod
    def open(cls, path: StrPath, *, read_only: bool = False, clock: Clock = SYSTEM_CLOCK) -> Self:
        """The archive in the file at `path`, which is made if there is none. The file is opened by `async with`.

        Entering raises `ArchiveError` for a file that is no archive, or cannot be read; such a file is left as it is.
        """
        return cls(path, read_only=read_only, clock=clock)

    @property
    def _database(self) -> Database:
        """The open store. Raises `RuntimeError` outside of `async with`."""
        if self._opened is None:
            raise RuntimeError('the archive is not open: use `async with Archive.open("evals.db") as archive:`')
        return self._opened

    async def __aenter__(self) -> Self:
        self._opened = await Database.open(self._path, read_only=self._read_only)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
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
        """Copy what is selected from the client's server. GET only; nothing that is here is ever deleted.

        Goes on where an interrupted export of the same selection stopped; otherwise looks at everything anew, and reads
        the items only of runs that are new or had not ended, or with `reread` of all. At most `concurrency` listings
        are read at once, one page of each. A server that does not answer is borne for `max_outage` seconds; then the
        report says `stopped`. Before its first answer that is a few seconds where no connection is made, and
        `first_answer` seconds where one is made and nothing comes. What the server has no more is marked as missing.
        Raises `ArchiveError` when the disk is
        full, when another export is writing to this file, or when it was made from another server (unless
        `another_server`); `Unauthenticated` and `QuotaExceeded` as soon as the server says so. After any of these the
        export can be gone on with.
        """
        terms = ExportOptions(
            concurrency=concurrency,
            max_outage=max_outage,
            another_server=another_server,
            reread=reread,
            first_answer=first_answer,
        )
        return await export(self._database, client, selection, terms, clock=self._clock, on_progress=on_progress)

    async def verify(
        self,
        client: EvalsClient | None = None,
        *,
        sample: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        first_answer: float = FIRST_ANSWER,
    ) -> VerifyReport:
        """Prove that the archive is whole: by itself, and with a `client` against its server too.

        By itself: every object is hashed, every run has as many items as it counts, every file that a run refers to is
        here with the right hash, nothing was left unfinished. Against the server: all evals, runs and files, and the
        items of `sample` runs drawn by chance; `None` compares the items of all runs, and the contents of files. GET
        only. Raises `ArchiveError`, and what `export` raises of the server.
        """
        report = await verify_offline(self._database, self._clock.time())
        if client is not None:
            fetcher = Fetcher.of(client, first_answer)
            bounds = {"max_outage": max_outage, "first_answer": first_answer}
            await Comparison(self._database, fetcher, report, clock=self._clock, **bounds).run(sample, concurrency)
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
        """Count what `export` would copy in a first pass, without copying. Raises what the client raises."""
        return await estimate(client, selection, concurrency=concurrency, first_answer=first_answer)

    # --- reading ------------------------------------------------------------------------------------------------------

    def evals(self) -> AsyncIterator[Eval]:
        """All evals, oldest first."""
        return reading.models(self._database, "evals", Eval)

    async def eval(self, eval_id: str) -> Eval:
        """One eval. Raises `InvalidArgument` when it is not here."""
        return await reading.one_named(self._database, "evals", (eval_id,), Eval)

    def runs(self, eval_id: str | None = None, *, status: str | None = None) -> AsyncIterator[EvalRun]:
        """The runs of one eval, oldest first, or those of all evals; of one status, if it is given."""
        return reading.all_runs(self._database, eval_id, status)

    async def run(self, run_id: str, *, eval_id: str | None = None) -> EvalRun:
        """One run. Raises `InvalidArgument` when it is not here, and when runs of several evals have that id."""
        return await reading.one_run(self._database, run_id, eval_id)

    def items(self, run: EvalRun | tuple[str, str], *, status: str | None = None) -> AsyncIterator[OutputItem]:
        """The output items of a run, given as it was read here or as (eval_id, run_id). Raises `InvalidArgument` for a
        bare id.
        """
        return reading.all_items(self._database, reading.key_of(run), status)

    async def item(self, run: EvalRun | tuple[str, str], item_id: str) -> OutputItem:
        """One output item of a run. Raises `InvalidArgument` when it is not here."""
        return await reading.one_named(self._database, "output_items", (*reading.key_of(run), item_id), OutputItem)

    def files(self, *, purpose: str | None = None) -> AsyncIterator[File]:
        """All files, oldest first."""
        return reading.all_files(self._database, purpose)

    async def content(self, file_id: str) -> bytes | None:
        """The content of a file, or `None` when it is not here."""
        return await self._database.call(rows.get_content, file_id)

    async def gaps(self) -> Gaps:
        """What is missing although it was to be copied, and what was left out on purpose. Ask before you rely on it."""
        return await self._database.call(gaps)

    async def summary(self) -> ArchiveSummary:
        """What is inside, in numbers."""
        return await reading.summary(self._database)

    def table(self, name: str, *, eval_id: str | None = None) -> ArchiveTable:
        """A table of everything, or of one eval: `evals`, `runs`, `items`, `results` or `files`.

        `pandas.DataFrame(t)` takes it, and so does all that reads Arrow: `polars.DataFrame(t)`, `duckdb.sql("from t")`,
        `pyarrow.table(t)`. The rows are those of `to_rows`, read when they are asked for. Raises `InvalidArgument` for
        another name.
        """
        return table_of(self.path, name, eval_id)

    # --- grading again ------------------------------------------------------------------------------------------------

    async def regrade(
        self, options: RegradeOptions = EVERY_CRITERION, *, on_progress: Callable[[int], None] | None = None
    ) -> RegradeReport:
        """Grade the archived items again with our graders, and compare with the service's grades.

        Ours are kept beside the service's, never over them. Judges and python graders run only if the options bring
        what they need. Interrupted, it goes on where it stood; what failed is tried again. Raises `InvalidArgument`
        for a criterion that is not here, `MissingExtra` without pyarrow, `ArchiveError`.
        """
        return await Regrade(self._database, options, self._clock, on_progress).run()

    async def agreement(self, options: RegradeOptions = EVERY_CRITERION) -> tuple[Agreement, ...]:
        """How far the grades that `regrade` gave so far agree with the service's; grades nothing."""
        return tuple(await Regrade(self._database, options, self._clock).agreement())

    async def estimate_regrade(self, options: RegradeOptions = EVERY_CRITERION) -> RegradeEstimate:
        """What `regrade` would cost: rows, calls of judges, tokens."""
        return await Regrade(self._database, options, self._clock).estimate()

    # --- onward -------------------------------------------------------------------------------------------------------

    async def convert(
        self, to: str, directory: StrPath, *, dry: bool = False, allow_incomplete: bool = False
    ) -> ConversionReport:
        """Write the archive in another form into `directory`: `jsonl`, `csv`, `parquet`, `promptfoo` (results),
        `promptfooconfig` (definitions), or `inspect` (logs).

        The report says what is the same, what is nearly the same, and what is not there; with `dry` it lists the files,
        and nothing is written. Runs in a thread. Raises `ArchiveError` for an archive that lacks something, see `gaps`,
        unless `allow_incomplete`; `InvalidArgument` for another name, `OSError`, `MissingExtra`.
        """
        options = {"dry": dry, "allow_incomplete": allow_incomplete}
        return await asyncio.to_thread(convert, self.path, to, directory, **options)

    async def push(self, client: EvalsClient, *, runs: RunsToPush = "none", allow_incomplete: bool = False) -> Push:
        """Create the evals of this archive on the client's server, and of each `none`, the `newest` or `all` runs.

        Definitions are sent as their authors wrote them; files go along with the runs that need them. What was pushed
        before is not created again. Runs are carried out again there, at that server's price. Raises what the client
        raises; pushed again, it goes on. Raises `ArchiveError` for an archive that lacks something (see `gaps`), unless
        `allow_incomplete`.
        """
        if not allow_incomplete:
            refuse_gaps(await self.gaps(), self.path)
        return await Pusher(self._database, client).everything(runs)

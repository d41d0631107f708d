"""`export`: begin or resume a pass, execute its work, end it, and report. The workers are in `export.export`."""

import os
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeAlias

import attrs

from evals_async._clock import Clock
from evals_async._numbers import seconds, whole_number
from evals_async._store import TABLES, Connection, Database, rows
from evals_async._store.lock import WriterLock
from evals_async.archive.export import ledger
from evals_async.archive.export.export import Exporter
from evals_async.archive.export.fetching import Fetcher
from evals_async.archive.export.identity import Origin, project_of_runs
from evals_async.archive.export.ledger import Pass
from evals_async.archive.export.outages import FIRST_ANSWER, TryAgain
from evals_async.archive.export.planning import roots
from evals_async.archive.values import ExportProgress, ExportReport, Selection, Unfinished
from evals_async.client import EvalsClient
from evals_async.errors import ArchiveError, InvalidArgument


OnProgress: TypeAlias = Callable[[ExportProgress], object]

DEFAULT_CONCURRENCY = 16  # listings at the same time: hides the latency of a distant server, keeps few pages in memory
MOST_CONCURRENCY = 256  # the maximum of `fan_out`
DEFAULT_MAX_OUTAGE = 300.0  # seconds without any success after which an export stops


@attrs.frozen(kw_only=True)
class ExportOptions:
    """Options of an export.

    `concurrency` listings are read at the same time. `another_server` allows another address. `reread` reads the items
    of all runs again. `max_outage` and `first_answer` are the longest times without a response, in seconds: later, and
    before the first response. Raises `InvalidArgument` for a value that is not valid.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    max_outage: float = DEFAULT_MAX_OUTAGE
    another_server: bool = False
    reread: bool = False
    first_answer: float = FIRST_ANSWER

    def __attrs_post_init__(self) -> None:
        if whole_number(self.concurrency, "concurrency") > MOST_CONCURRENCY:
            raise InvalidArgument(f"concurrency must be at most {MOST_CONCURRENCY}, got {self.concurrency}")
        seconds(self.max_outage, "max_outage")
        if not seconds(self.first_answer, "first_answer"):
            raise InvalidArgument("first_answer must be more than 0")


def resumable(last: Pass | None, origin: Origin, selection: Selection, options: ExportOptions) -> bool:
    """Return whether the last pass can continue: same server, same selection, and not ended."""
    same = (
        last is not None and last.ended is None and (last.server, last.selection) == (origin.server, selection.text())
    )
    return same and not options.reread


def begin_or_resume(
    connection: Connection, origin: Origin, selection: Selection, options: ExportOptions, now: float
) -> tuple[Pass, bool]:
    """Return the pass to work on, and whether it was resumed. Call it in a transaction."""
    last = ledger.last_pass(connection)
    if options.reread:
        ledger.read_all_again(connection)
    if last is not None and resumable(last, origin, selection, options):
        return last, True
    number = 1 if last is None else last.number + 1
    begun = Pass(
        number=number,
        server=origin.server,
        selection=selection.text(),
        tool=f"evals-async {version('evals-async')}",
        began=now,
        origin=origin.text(),
    )
    ledger.begin_pass(connection, begun, roots(selection))
    return begun, False


def known_origin(connection: Connection) -> Origin | None:
    """Return the origin of the store's objects, or `None` if there was no export yet."""
    last = ledger.last_pass(connection)
    if last is None:
        return None
    known = Origin.read(last.server, last.origin)
    return known if known.project else attrs.evolve(known, project=project_of_runs(connection))


def progress_before(connection: Connection, number: int) -> ExportProgress:
    """Return the progress of a pass before this call."""
    counts = ledger.counts(connection, number)
    return ExportProgress(
        evals=counts.get("evals", 0) + counts.get("eval", 0),
        runs=counts.get("runs", 0),
        items=counts.get("output_items", 0),
        expected_items=ledger.expected_items(connection, number),
        files=counts.get("file", 0),
    )


def unfinished(connection: Connection, number: int | None) -> tuple[Unfinished, ...]:
    """Return everything in a pass that is not complete. With `None`, in all passes."""
    works = ledger.work_in(connection, number, ledger.UNFINISHED)
    found = [Unfinished(what=str(work), state=work.state, why=work.note or "not read yet") for work in works]
    broken = [Unfinished(what=what, state="damaged", why=why) for what, why in ledger.damaged(connection)]
    return (*found, *broken)


def close_pass(connection: Connection, number: int, now: float) -> None:
    """End a pass if all its work is finished."""
    if not ledger.work_in(connection, number, ("open",), limit=1):
        ledger.give_up_deleted(connection, number)
        ledger.end_pass(connection, number, now, "incomplete" if unfinished(connection, number) else "complete")


async def export(
    database: Database,
    client: EvalsClient,
    selection: Selection,
    options: ExportOptions,
    *,
    clock: Clock,
    on_progress: OnProgress | None,
) -> ExportReport:
    """Copy what is selected into the store; see `Archive.export`."""
    with WriterLock(database.path):
        if not database.is_current():  # another export has created the file and removed it, because nothing came
            raise ArchiveError(f"{database.path} was removed or replaced while it was opened: export again")
        origin = Origin.of(client)
        last = await database.call(ledger.last_pass)
        before = None if options.another_server else await database.call(known_origin)
        if before is not None:
            before.check(origin)
        try:
            await database.atomic(ledger.set_writer, os.getpid(), socket.gethostname(), clock.time())
            exporter = Exporter(
                database,
                Fetcher.of(client, options.first_answer),
                selection,
                origin.completed(before),
                clock=clock,
                max_outage=options.max_outage,
                first_answer=options.first_answer,
                on_progress=on_progress,
                checked=before is not None,
            )
            try:
                if before is not None and not resumable(last, origin, selection, options):
                    await exporter.check_first_page()
            except TryAgain as error:
                return await report(database, last, exporter, False, str(error))
            current, resumed = await database.atomic(begin_or_resume, exporter.origin, selection, options, clock.time())
            exporter.begin(current.number, await database.call(progress_before, current.number))
            stopped = await exporter.run(options.concurrency)
            if stopped is None:
                await database.atomic(close_pass, current.number, clock.time())
            return await report(database, current, exporter, resumed, stopped)
        finally:
            await database.atomic(ledger.clear_writer)


def is_useless(connection: Connection) -> bool:
    """Return whether exports were tried, and none of them stored an object (also a damaged one) or was complete."""
    last = ledger.last_pass(connection)
    if last is None or last.outcome == "complete":
        return False
    return not ledger.damaged(connection) and not any(rows.count(connection, kind) for kind in TABLES)


async def close_and_remove(database: Database) -> None:
    """Close a store that this process has created, and remove its files if exports were tried and brought nothing.

    The files stay if another process writes to them now.
    """
    path = database.path
    try:
        lock = WriterLock(path)
    except ArchiveError:
        await database.close()
        return
    with lock:
        useless = path is not None and database.is_current() and await database.call(is_useless)
        await database.close()
        if useless and path is not None:
            path = path.resolve()  # of a link, the file is removed
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            lock.remove_file()


async def report(
    database: Database, current: Pass | None, exporter: Exporter, resumed: bool, stopped: str | None
) -> ExportReport:
    """Make the report of an export; `current` is `None` if it stopped before the first pass began."""
    counts: dict[str, int] = {kind: await database.call(rows.count, kind) for kind in TABLES}
    number = 0 if current is None else current.number
    refused = await database.call(ledger.work_in, number, ("refused",))
    return ExportReport(
        number=number,
        began=exporter.clock.time() if current is None else current.began,
        resumed=resumed,
        counts=counts,
        missing=await database.call(ledger.missing),
        refused={work.id: work.note or "" for work in refused},
        unfinished=await database.call(unfinished, number),
        stopped=stopped,
        requests=exporter.fetcher.requests,
        bytes=exporter.fetcher.received,
        elapsed=exporter.clock.monotonic() - exporter.began,
    )

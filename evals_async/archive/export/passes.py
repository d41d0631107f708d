"""A pass from outside: it is begun or resumed, its work is done, it is closed, and reported.

One writer at a time. The workers are in `export`.
"""

import os
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeAlias

import attrs

from evals_async._clock import Clock
from evals_async._store import TABLES, Connection, Database, rows
from evals_async.archive.export import ledger
from evals_async.archive.export.export import Exporter, roots
from evals_async.archive.export.fetching import Fetcher
from evals_async.archive.export.identity import Origin, project_of_runs
from evals_async.archive.export.ledger import Pass
from evals_async.archive.export.lock import WriterLock
from evals_async.archive.export.outages import FIRST_ANSWER, TryAgain
from evals_async.archive.values import ExportProgress, ExportReport, Selection, Unfinished
from evals_async.client import EvalsClient


OnProgress: TypeAlias = Callable[[ExportProgress], object]

DEFAULT_CONCURRENCY = 16  # listings at once: enough to hide the way to a far server, few enough pages in memory
DEFAULT_MAX_OUTAGE = 300.0  # seconds without any success after which an export stops


@attrs.frozen(kw_only=True)
class ExportOptions:
    """How to copy: listings at once, how long to bear a dead server, whether the store may change its server, whether
    what is over is read again, how long the first answer may take.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    max_outage: float = DEFAULT_MAX_OUTAGE
    another_server: bool = False
    reread: bool = False
    first_answer: float = FIRST_ANSWER


def resumable(last: Pass | None, origin: Origin, selection: Selection, options: ExportOptions) -> bool:
    """Whether there is a pass to go on with: of the same server and the same selection, and not over."""
    same = (
        last is not None and last.ended is None and (last.server, last.selection) == (origin.server, selection.text())
    )
    return same and not options.reread


def take_up(
    connection: Connection, origin: Origin, selection: Selection, options: ExportOptions, now: float
) -> tuple[Pass, bool]:
    """The pass to work on, and whether it was begun before. For one transaction."""
    last = ledger.last_pass(connection)
    if options.reread:
        ledger.unsettle(connection)
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
    """Where the store's objects came from; `None` if there are none yet."""
    last = ledger.last_pass(connection)
    if last is None:
        return None
    known = Origin.read(last.server, last.origin)
    return known if known.project else attrs.evolve(known, project=project_of_runs(connection))


def progress_before(connection: Connection, number: int) -> ExportProgress:
    """What the earlier sittings of a pass have done."""
    came = ledger.counts(connection, number)
    return ExportProgress(
        evals=came.get("evals", 0) + came.get("eval", 0),
        runs=came.get("runs", 0),
        items=came.get("output_items", 0),
        expected_items=ledger.expected_items(connection, number),
        files=came.get("file", 0),
    )


def shortcomings(connection: Connection, number: int) -> tuple[Unfinished, ...]:
    """Everything of a pass that is not there whole."""
    works = ledger.work_in(connection, number, ledger.UNFINISHED)
    found = [Unfinished(what=str(work), state=work.state, why=work.note or "not read yet") for work in works]
    broken = [Unfinished(what=what, state="damaged", why=why) for what, why in ledger.damaged(connection)]
    return (*found, *broken)


def close_pass(connection: Connection, number: int, now: float) -> None:
    """Close a pass of which nothing is left to do."""
    if not ledger.work_in(connection, number, ("open",), limit=1):
        ledger.end_pass(connection, number, now, "incomplete" if shortcomings(connection, number) else "complete")


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
        origin = Origin.of(client)
        last = await database.call(ledger.last_pass)
        before = None if options.another_server else await database.call(known_origin)
        if before is not None:
            before.check(origin)
        try:
            await database.atomic(ledger.sign_in, os.getpid(), socket.gethostname(), clock.time())
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
                    await exporter.look_first()
            except TryAgain as error:
                return await report(database, last, exporter, False, str(error))
            current, resumed = await database.atomic(take_up, exporter.origin, selection, options, clock.time())
            exporter.begin(current.number, await database.call(progress_before, current.number))
            stopped = await exporter.work_through(options.concurrency)
            if stopped is None:
                await database.atomic(close_pass, current.number, clock.time())
            return await report(database, current, exporter, resumed, stopped)
        finally:
            await database.atomic(ledger.sign_out)


async def report(
    database: Database, current: Pass | None, exporter: Exporter, resumed: bool, stopped: str | None
) -> ExportReport:
    """What came of a sitting; without a pass where it did not come to one."""
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
        unfinished=await database.call(shortcomings, number),
        stopped=stopped,
        requests=exporter.fetcher.requests,
        bytes=exporter.fetcher.received,
        elapsed=exporter.clock.monotonic() - exporter.began,
    )

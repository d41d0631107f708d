"""A pass from outside: it is begun or resumed, its work is done, it is closed, and reported.

One writer at a time. The workers are in `export`.
"""

import os
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs

from evals_async._clock import Clock
from evals_async._store import TABLES, Connection, Database, rows
from evals_async.archive.export import ledger
from evals_async.archive.export.export import Exporter, roots
from evals_async.archive.export.fetching import Fetcher
from evals_async.archive.export.ledger import Pass
from evals_async.archive.export.lock import WriterLock
from evals_async.archive.values import ExportProgress, ExportReport, Selection, Unfinished
from evals_async.client import EvalsClient
from evals_async.errors import ArchiveError


OnProgress: TypeAlias = Callable[[ExportProgress], object]

DEFAULT_CONCURRENCY = 16  # listings at once: enough to hide the way to a far server, few enough pages in memory
DEFAULT_PATIENCE = 300.0  # seconds without any success after which an export stops


@attrs.frozen(kw_only=True)
class ExportOptions:
    """How to copy: listings at once, how long to bear a dead server, whether the store may change its server, whether
    what is over is read again.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    patience: float = DEFAULT_PATIENCE
    another_server: bool = False
    reread: bool = False


def server_name(base_url: str) -> str:
    """What a store remembers of a server: its URL without query; of this machine's servers the port does not count."""
    parts = urlsplit(base_url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return "local" + parts.path.rstrip("/") if local else f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def take_up(
    connection: Connection, server: str, selection: Selection, terms: ExportOptions, now: float
) -> tuple[Pass, bool]:
    """The pass to work on, and whether it was begun before. For one transaction."""
    last = ledger.last_pass(connection)
    if last is not None and last.server != server and not terms.another_server:
        raise ArchiveError(
            f"this archive was made from {last.server}, not from {server}: export to another file, or say that it is "
            "the same service at another address (another_server)"
        )
    text = selection.text()
    if terms.reread:
        ledger.unsettle(connection)
    elif last is not None and last.ended is None and (last.server, last.selection) == (server, text):
        return last, True
    number = 1 if last is None else last.number + 1
    begun = Pass(number=number, server=server, selection=text, tool=f"evals-async {version('evals-async')}", began=now)
    ledger.begin_pass(connection, begun, roots(selection))
    return begun, False


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
    terms: ExportOptions,
    *,
    clock: Clock,
    on_progress: OnProgress | None,
) -> ExportReport:
    """Copy what is selected into the store; see `Archive.export`."""
    with WriterLock(database.path):
        try:
            await database.atomic(ledger.sign_in, os.getpid(), socket.gethostname(), clock.time())
            server = server_name(client.base_url)
            current, resumed = await database.atomic(take_up, server, selection, terms, clock.time())
            exporter = Exporter(
                database,
                Fetcher.of(client),
                current.number,
                selection,
                clock=clock,
                patience=terms.patience,
                on_progress=on_progress,
                before=await database.call(progress_before, current.number),
            )
            stopped = await exporter.work_through(terms.concurrency)
            if stopped is None:
                await database.atomic(close_pass, current.number, clock.time())
            return await report(database, current, exporter, resumed, stopped)
        finally:
            await database.atomic(ledger.sign_out)


async def report(
    database: Database, current: Pass, exporter: Exporter, resumed: bool, stopped: str | None
) -> ExportReport:
    """What came of a sitting."""
    counts: dict[str, int] = {kind: await database.call(rows.count, kind) for kind in TABLES}
    refused = await database.call(ledger.work_in, current.number, ("refused",))
    return ExportReport(
        number=current.number,
        began=current.began,
        resumed=resumed,
        counts=counts,
        missing=await database.call(ledger.missing),
        refused={work.id: work.note or "" for work in refused},
        unfinished=await database.call(shortcomings, current.number),
        stopped=stopped,
        requests=exporter.fetcher.requests,
        bytes=exporter.fetcher.received,
        elapsed=exporter.clock.monotonic() - exporter.began,
    )

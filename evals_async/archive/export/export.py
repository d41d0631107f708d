"""The workers of an export: they execute the work in the store's queue until the pass is finished.

One transaction stores a page: its rows, the work that follows from them, and the next cursor. So after a crash, the
next export continues with the next page. `evals_async.pagination` has the rules of listings, `fetching` sends the
requests, `ledger` has the tables.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

import attrs

from evals_async import fan_out
from evals_async._clock import Clock
from evals_async._store import Connection, Database, Kind, rows
from evals_async.archive.export import contents, ledger
from evals_async.archive.export.cursor import cursor_after, cursor_of
from evals_async.archive.export.fetching import Fetcher, Spool
from evals_async.archive.export.identity import Origin, check_evals, project_in
from evals_async.archive.export.ledger import Damaged, State, Work
from evals_async.archive.export.listing_page import ListingPage, parse_object
from evals_async.archive.export.outages import OutagePolicy, TryAgain, error_text, is_fatal
from evals_async.archive.export.planning import work_of_page
from evals_async.archive.values import ExportProgress, Selection, Waiting
from evals_async.errors import (
    BadRequest,
    EvalsError,
    InvalidArgument,
    NotFound,
    PaginationError,
    PermissionDenied,
    RequestError,
)
from evals_async.pagination import Cursor, may_step_back, older_cursor


OnProgress: TypeAlias = Callable[[ExportProgress], object]

BATCH = 256  # pieces of work that one query reads from the queue
LISTINGS: dict[str, Kind] = {"evals": "evals", "runs": "runs", "output_items": "output_items", "files": "files"}


def store_page(
    connection: Connection, number: int, work: Work, page: ListingPage, cursor: Cursor, selection: Selection
) -> Work:
    """Store a page, the work that follows from it, and the next cursor. Returns the updated work.

    Call it in a transaction.
    """
    kind = LISTINGS[work.kind]
    known = ledger.known(connection, kind, work.parents, number, page.ids)
    store_rows(connection, number, work, page, selection)
    count = work.count + len(set(page.ids) - known)
    work = attrs.evolve(work, pages=work.pages + 1, count=count)
    onward = cursor_after(cursor, page, known)
    if onward is None:
        work = finished(connection, number, work)
    elif onward.fault is not None:
        work = attrs.evolve(work, state="broken", note=onward.fault)
    else:
        work = attrs.evolve(work, cursor=onward.text())
    store_progress(connection, work)
    return work


def store_rows(connection: Connection, number: int, work: Work, page: ListingPage, selection: Selection) -> None:
    kind = LISTINGS[work.kind]
    ledger.upsert(connection, kind, number, page.rows)
    ledger.keep_damaged(connection, kind, work.parents, number, page.damaged)
    ledger.schedule(connection, number, work_of_page(kind, page, selection))


def store_progress(connection: Connection, work: Work) -> None:
    ledger.record(connection, work)


def finished(connection: Connection, number: int, work: Work) -> Work:
    """Finish a listing: mark the objects that it no longer contains."""
    ledger.mark_missing(connection, LISTINGS[work.kind], work.parents, number)
    if work.expected is not None and work.expected != work.count:
        # A `short` listing is read again in the next pass, even if the run has ended.
        return attrs.evolve(
            work, state="short", note=f"the run counts {work.expected} items, the server listed {work.count}"
        )
    return attrs.evolve(work, state="done")


def mark_deleted(connection: Connection, number: int, work: Work, why: str) -> None:
    """Mark the parent of a listing as no longer on the server."""
    if work.kind == "output_items":
        ledger.mark_gone(connection, "runs", (work.eval_id, work.run_id), number)
    else:
        ledger.mark_gone(connection, "evals", (work.eval_id,), number)
    ledger.stop_work(connection, work, "gone", why)


class Exporter:
    """Executes the work of a pass in this process: `await exporter.run(concurrency)`."""

    def __init__(
        self,
        database: Database,
        fetcher: Fetcher,
        selection: Selection,
        origin: Origin,
        *,
        clock: Clock,
        max_outage: float,
        first_answer: float,
        on_progress: OnProgress | None,
        checked: bool,
    ) -> None:
        self.database = database
        self.fetcher = fetcher
        self.number = 0
        self.selection = selection
        self.origin = origin
        self.checked = checked  # whether data of another origin is an error
        self.clock = clock
        self.outages = OutagePolicy(
            clock, max_outage, self.report_waiting, first_answer=first_answer, probe=fetcher.probe
        )
        self.on_progress = on_progress
        self.progress = ExportProgress()
        self.first_page: tuple[ListingPage, Cursor] | None = None
        self.checking = asyncio.Lock()
        self.server_checked = False
        self.began = clock.monotonic()
        self.active = 0
        self.changed = asyncio.Event()

    def begin(self, number: int, progress: ExportProgress) -> None:
        """Select the pass to work on, with its progress so far."""
        self.number, self.progress = number, progress

    async def check_first_page(self) -> None:
        """Read and keep the first page of evals before a new pass begins.

        Raises `ForeignData` if it belongs to another project, and `TryAgain` if the server does not respond.
        """
        if self.selection.evals:
            return
        try:
            page = await self.outages.call(self.fetcher.page, "evals", (), cursor_of(None, "evals"))
        except RequestError as error:
            if is_fatal(error):
                raise
            return  # the pass sends this request again, and records the error
        await self.database.call(check_evals, page[0].ids)
        self.first_page, self.server_checked = page, True

    async def check_server(self) -> None:
        """Check once, before an object is recorded as gone or refused, that the server still has the same project.

        Raises `ForeignData` if it has another project, and `TryAgain` if the server does not respond.
        """
        async with self.checking:  # concurrent callers wait for the same result
            if self.checked and not self.server_checked and not self.selection.evals:
                try:
                    page = await self.outages.call(self.fetcher.page, "evals", (), cursor_of(None, "evals"))
                except RequestError as error:
                    if is_fatal(error):
                        raise
                    return  # the project cannot be checked
                await self.database.call(check_evals, page[0].ids)
                self.server_checked = True

    async def run(self, concurrency: int) -> str | None:
        """Execute all open work. Returns why it stopped early, or `None`.

        Raises errors that a later attempt cannot solve, such as a rejected key or a full disk.
        """
        async with aclosing(self.pending()) as works, fan_out(self.execute, works, concurrency=concurrency) as ends:
            async for end in ends:
                if isinstance(end.error, TryAgain):
                    return str(end.error)
                end.unwrap()
        return None

    async def pending(self) -> AsyncGenerator[Work, None]:
        """Yield the open work of the pass, including work that is added meanwhile."""
        last = 0
        while True:
            self.changed.clear()
            batch = await self.database.call(ledger.open_work, self.number, last, BATCH)
            for work in batch:
                last = work.number
                self.active += 1
                yield work
            if not batch:
                if not self.active:
                    return
                await self.changed.wait()

    async def execute(self, work: Work) -> None:
        """Execute one piece of work and store its final state."""
        try:
            if work.kind in LISTINGS:
                await self.copy_listing(work)
            elif work.kind == "eval":
                await self.copy_eval(work)
            else:
                await self.copy_file(work)
        except InvalidArgument as error:  # the server sent an id that cannot be part of a URL
            await self.record_failure(work, error)
        except RequestError as error:
            if is_fatal(error):
                raise
            await self.record_failure(work, error)
        finally:
            self.active -= 1
            self.changed.set()

    async def record_failure(self, work: Work, error: EvalsError) -> None:
        """Store the state of work that ended with an error: gone, refused, failed or broken."""
        why = error_text(error)
        if self.may_be_deleted(work, error) and await self.is_deleted(work):
            await self.database.atomic(mark_deleted, self.number, work, why)
            return
        refused = work.kind == "file" and isinstance(error, NotFound | BadRequest | PermissionDenied)
        if refused:  # a refused file is not requested again, and the key of another project gets only refusals
            await self.check_server()
        state: State = "refused" if refused else "broken" if isinstance(error, PaginationError) else "failed"
        await self.database.atomic(ledger.stop_work, work, state, why)

    def may_be_deleted(self, work: Work, error: EvalsError) -> bool:
        return isinstance(error, NotFound) and work.kind in ("runs", "output_items")

    async def is_deleted(self, work: Work) -> bool:
        """Return whether the parent no longer exists. A 404 alone proves nothing: some servers lack whole routes."""
        ids = (work.eval_id, work.run_id) if work.run_id else (work.eval_id,)
        try:
            await self.fetcher.object("run" if work.run_id else "eval", *ids)
        except NotFound:
            await self.check_server()
            return True
        except RequestError as error:
            if is_fatal(error):
                raise
        return False

    # --- the three kinds of work --------------------------------------------------------------------------------------

    async def copy_listing(self, work: Work) -> None:
        """Copy a listing from its cursor, page by page."""
        kind, cursor = LISTINGS[work.kind], cursor_of(work.cursor, work.kind)
        while work.state == "open":
            try:
                cursor.check()
                page, cursor = await self.next_page(kind, work, cursor)
            except PaginationError as error:
                await self.record_failure(work, error)
                return
            except (NotFound, BadRequest) as error:
                if not may_step_back(cursor):
                    raise
                cursor = older_cursor(cursor)  # the object of the cursor was deleted
                if cursor.fault is not None and self.may_be_deleted(work, error):
                    raise  # none of the last ids exists: the parent may have been deleted
                continue
            if kind == "runs":
                await self.check_project(page)
            before = work.count
            work = await self.database.atomic(store_page, self.number, work, page, cursor, self.selection)
            cursor = cursor_of(work.cursor, work.kind)
            self.changed.set()
            expected = await self.database.call(ledger.expected_items, self.number) if kind == "runs" else None
            self.report(kind, work.count - before, expected=expected)

    async def next_page(self, kind: Kind, work: Work, cursor: Cursor) -> tuple[ListingPage, Cursor]:
        if kind == "evals" and self.first_page is not None:
            page, self.first_page = self.first_page, None
            return page
        return await self.outages.call(self.fetcher.page, kind, work.parents, cursor)

    async def check_project(self, page: ListingPage) -> None:
        """Compare the project in the report URLs of the runs. Raises `ForeignData` if it is another project."""
        found = project_in(page.bodies)
        if found is None or found == self.origin.project:
            return
        if self.origin.project is None:
            self.origin = attrs.evolve(self.origin, project=found)
            await self.database.atomic(ledger.set_origin, self.number, self.origin.text())
        elif self.checked:
            self.origin.check(attrs.evolve(self.origin, project=found))

    async def copy_eval(self, work: Work) -> None:
        """Copy one eval of the selection."""
        try:
            text = await self.outages.call(self.fetcher.object, "eval", work.eval_id)
        except NotFound as error:
            if not await self.database.call(rows.exists, "evals", (work.eval_id,)):
                raise
            await self.database.atomic(mark_deleted, self.number, work, str(error))
            return
        found = parse_object(text, "evals", ())

        def write(connection: Connection) -> None:
            if isinstance(found, Damaged):
                ledger.keep_damaged(connection, "evals", (), self.number, [attrs.evolve(found, id=work.eval_id)])
            else:
                ledger.put_single(connection, "evals", self.number, found[0])
                ledger.schedule(connection, self.number, [Work(kind="runs", eval_id=work.eval_id)])
            ledger.record(connection, attrs.evolve(work, state="done", count=1, pages=1))

        await self.database.atomic(write)
        self.report("evals", 1)

    async def copy_file(self, work: Work) -> None:
        """Copy a file: its object if no listing had it, and its content if the store does not have it."""
        done = attrs.evolve(work, state="done", count=1, pages=1)
        if not await self.database.call(rows.exists, "files", (work.id,)) and not await self.describe(work):
            # The object is in the table of damaged objects. The next export requests it again.
            await self.database.atomic(ledger.record, attrs.evolve(done, final=False))
            return
        size, announced = await self.database.call(contents.sizes, work.id)
        if size is not None and (announced is None or size == announced):
            await self.database.atomic(ledger.record, done)
            return
        spool = Spool()
        try:
            await self.outages.call(self.fetcher.content, work.id, spool)
            if announced is not None and spool.size != announced:  # the next export requests it again
                done = attrs.evolve(done, state="short", note=contents.other_size(announced, spool.size))

            def write(connection: Connection) -> None:
                contents.put_stream(connection, work.id, spool.hash.hexdigest(), spool.size, spool.file)
                ledger.record(connection, done)

            await self.database.atomic(write)
        finally:
            spool.close()
        self.report("file", 1)

    async def describe(self, work: Work) -> bool:
        """Copy the object of a file. Returns whether it is valid."""
        text = await self.outages.call(self.fetcher.object, "file", work.id)
        found = parse_object(text, "files", ())
        if isinstance(found, Damaged):
            damaged = attrs.evolve(found, id=work.id)
            await self.database.atomic(ledger.keep_damaged, "files", (), self.number, [damaged])
            return False
        await self.database.atomic(ledger.put_single, "files", -self.number, found[0])
        return True

    # --- progress -----------------------------------------------------------------------------------------------------

    def report(self, kind: str, count: int, *, expected: int | None = None) -> None:
        """Update the progress and call `on_progress`."""
        now = self.progress
        self.progress = attrs.evolve(
            now,
            evals=now.evals + (count if kind == "evals" else 0),
            runs=now.runs + (count if kind == "runs" else 0),
            items=now.items + (count if kind == "output_items" else 0),
            expected_items=now.expected_items if expected is None else expected,
            items_now=now.items_now + (count if kind == "output_items" else 0),
            files=now.files + (count if kind == "file" else 0),
            open=self.active,
            bytes=self.fetcher.received,
            elapsed=self.clock.monotonic() - self.began,
        )
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def report_waiting(self, waiting: Waiting | None) -> None:
        """Report that the export waits for the server, or `None` when the server responds again."""
        self.progress = attrs.evolve(self.progress, waiting=waiting)
        if self.on_progress is not None:
            self.on_progress(self.progress)

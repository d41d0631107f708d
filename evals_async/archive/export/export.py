"""The export: workers that empty the queue in the store until nothing of the pass is left.

Every page is one transaction: its rows, the work that they bring along, and the cursor after it. Whatever ends the
process, the store stands between two pages, and the next export goes on there. The rules of listings are in
`evals_async.pagination`, the server is asked in `fetching`, the tables are in `ledger`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TypeAlias

import attrs

from evals_async import fan_out
from evals_async._clock import Clock
from evals_async._json import JSONObject
from evals_async._store import Connection, Database, Kind, rows
from evals_async.archive.export import ledger
from evals_async.archive.export.arrivals import Arrivals, arrival, counted, created, file_ids, is_over
from evals_async.archive.export.cursor import cursor_after, cursor_of
from evals_async.archive.export.fetching import Fetcher, Spool
from evals_async.archive.export.identity import Origin, check_evals, project_in
from evals_async.archive.export.ledger import Damaged, State, Work
from evals_async.archive.export.outages import OutagePolicy, TryAgain, is_fatal, told
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

BATCH = 256  # pieces of work that are read from the queue at once
LISTINGS: dict[str, Kind] = {"evals": "evals", "runs": "runs", "output_items": "output_items", "files": "files"}


def roots(selection: Selection) -> list[Work]:
    """The work that a pass begins with; the rest is found on the way."""
    works = [Work(kind="eval", eval_id=eval_id) for eval_id in selection.evals] or [Work(kind="evals")]
    if selection.files and not selection.narrow:
        works.append(Work(kind="files"))
    return works


def work_behind(kind: Kind, arrivals: Arrivals, selection: Selection) -> Iterator[Work]:
    """The work that the objects of a page bring along."""
    for row, body in zip(arrivals.rows, arrivals.bodies, strict=True):
        if kind == "evals":
            yield Work(kind="runs", eval_id=row.key[0])
        elif kind == "runs":
            yield from work_behind_run(row.key, body, selection)
        elif kind == "files":
            yield Work(kind="file", id=row.key[0], settled=True)


def work_behind_run(key: Sequence[str], run: JSONObject, selection: Selection) -> Iterator[Work]:
    eval_id, run_id = key
    if selection.since is not None and (created(run) or 0) < selection.since:
        return
    if selection.items:
        # Items are final only if the run was over before they were listed. Only a completed run says how many it has.
        expected = counted(run) if run.get("status") == "completed" else None
        yield Work(kind="output_items", eval_id=eval_id, run_id=run_id, settled=is_over(run), expected=expected)
    if selection.files:
        yield from (Work(kind="file", id=file_id, settled=True) for file_id in file_ids(run))


def keep_page(
    connection: Connection, number: int, work: Work, arrivals: Arrivals, cursor: Cursor, selection: Selection
) -> Work:
    """Write a page and everything that follows from it, and return the work as it then stands. For one transaction."""
    kind = LISTINGS[work.kind]
    known = ledger.known(connection, kind, work.parents, number, arrivals.ids)
    put_rows(connection, number, work, arrivals, selection)
    count = work.count + len(set(arrivals.ids) - known)
    work = attrs.evolve(work, pages=work.pages + 1, count=count)
    onward = cursor_after(cursor, arrivals, known)
    if onward is None:
        work = finished(connection, number, work)
    elif onward.fault is not None:
        work = attrs.evolve(work, state="broken", note=onward.fault)
    else:
        work = attrs.evolve(work, cursor=onward.text())
    put_cursor(connection, work)
    return work


def put_rows(connection: Connection, number: int, work: Work, arrivals: Arrivals, selection: Selection) -> None:
    kind = LISTINGS[work.kind]
    ledger.see(connection, kind, number, arrivals.rows)
    ledger.keep_damaged(connection, kind, work.parents, number, arrivals.damaged)
    ledger.schedule(connection, number, work_behind(kind, arrivals, selection))


def put_cursor(connection: Connection, work: Work) -> None:
    ledger.record(connection, work)


def finished(connection: Connection, number: int, work: Work) -> Work:
    """A listing that is at its end: what did not come any more is marked."""
    ledger.mark_missing(connection, LISTINGS[work.kind], work.parents, number)
    if work.expected is not None and work.expected != work.count:
        # The next pass reads it again, although the run is over.
        return attrs.evolve(work, state="short", note=f"the run counts {work.expected} items, {work.count} came")
    return attrs.evolve(work, state="done")


def vanished(connection: Connection, number: int, work: Work, why: str) -> None:
    """What was to be read is gone from the server, with everything below it."""
    if work.kind == "output_items":
        ledger.mark_gone(connection, "runs", (work.eval_id, work.run_id), number)
    else:
        ledger.mark_gone(connection, "evals", (work.eval_id,), number)
    ledger.give_up(connection, work, "gone", why)


class Exporter:
    """One sitting of a pass: `await exporter.work_through()`."""

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
        self.checked = checked  # whether only what is of that origin may be kept
        self.clock = clock
        self.outages = OutagePolicy(clock, max_outage, self.tell_waiting, first_answer=first_answer)
        self.on_progress = on_progress
        self.progress = ExportProgress()
        self.first_page: tuple[Arrivals, Cursor] | None = None
        self.checking = asyncio.Lock()
        self.place_known = False
        self.began = clock.monotonic()
        self.active = 0
        self.news = asyncio.Event()

    def begin(self, number: int, progress: ExportProgress) -> None:
        """Take up a pass."""
        self.number, self.progress = number, progress

    async def look_first(self) -> None:
        """Read the first page of evals before a new pass begins; it is kept for the pass.

        Raises `ForeignData` if it is of another project, and `TryAgain`.
        """
        if self.selection.evals:
            return
        try:
            page = await self.outages.call(self.fetcher.page, "evals", (), cursor_of(None, "evals"))
        except RequestError as error:
            if is_fatal(error):
                raise
            return  # the pass meets it again, and writes it down
        await self.database.call(check_evals, page[0].ids)
        self.first_page, self.place_known = page, True

    async def check_place(self) -> None:
        """Once, when something is gone or refused: is this still the place that it was read from?

        Raises `ForeignData` if not, and `TryAgain`.
        """
        async with self.checking:  # whoever comes meanwhile waits for the answer
            if self.checked and not self.place_known and not self.selection.evals:
                try:
                    page = await self.outages.call(self.fetcher.page, "evals", (), cursor_of(None, "evals"))
                except RequestError as error:
                    if is_fatal(error):
                        raise
                    return  # it cannot be told
                await self.database.call(check_evals, page[0].ids)
                self.place_known = True

    async def work_through(self, concurrency: int) -> str | None:
        """Do everything that is open, and what it brings along. Returns why it stopped early, or `None`.

        Raises what waiting does not help against: a refused key, a full disk.
        """
        async with aclosing(self.pending()) as works, fan_out(self.carry_out, works, concurrency=concurrency) as ends:
            async for end in ends:
                if isinstance(end.error, TryAgain):
                    return str(end.error)
                end.unwrap()
        return None

    async def pending(self) -> AsyncGenerator[Work, None]:
        """The open work of the pass, as it comes up."""
        last = 0
        while True:
            self.news.clear()
            batch = await self.database.call(ledger.open_work, self.number, last, BATCH)
            for work in batch:
                last = work.number
                self.active += 1
                yield work
            if not batch:
                if not self.active:
                    return
                await self.news.wait()

    async def carry_out(self, work: Work) -> None:
        """Do one piece of work to its end, whichever that is, and write it down."""
        try:
            if work.kind in LISTINGS:
                await self.copy_listing(work)
            elif work.kind == "eval":
                await self.copy_eval(work)
            else:
                await self.copy_file(work)
        except InvalidArgument as error:  # an id that cannot stand in a path
            await self.record_failure(work, error)
        except RequestError as error:
            if is_fatal(error):
                raise
            await self.record_failure(work, error)
        finally:
            self.active -= 1
            self.news.set()

    async def record_failure(self, work: Work, error: EvalsError) -> None:
        """Write what became of work that ended with an error: gone, refused, failed, or broken."""
        why = told(error)
        if self.may_be_gone(work, error) and await self.is_gone(work):
            await self.database.atomic(vanished, self.number, work, why)
            return
        refused = work.kind == "file" and isinstance(error, NotFound | BadRequest | PermissionDenied)
        if refused:  # which is not asked for again; the key of another project would be refused everything
            await self.check_place()
        state: State = "refused" if refused else "broken" if isinstance(error, PaginationError) else "failed"
        await self.database.atomic(ledger.give_up, work, state, why)

    def may_be_gone(self, work: Work, error: EvalsError) -> bool:
        return isinstance(error, NotFound) and work.kind in ("runs", "output_items")

    async def is_gone(self, work: Work) -> bool:
        """A second look, because some servers lack whole routes: does the parent itself exist no more?"""
        ids = (work.eval_id, work.run_id) if work.run_id else (work.eval_id,)
        try:
            await self.fetcher.object("run" if work.run_id else "eval", *ids)
        except NotFound:
            await self.check_place()
            return True
        except RequestError as error:
            if is_fatal(error):
                raise
        return False

    # --- the three kinds of work --------------------------------------------------------------------------------------

    async def copy_listing(self, work: Work) -> None:
        """Copy a listing page by page, from where it stands; one page at a time."""
        kind, cursor = LISTINGS[work.kind], cursor_of(work.cursor, work.kind)
        while work.state == "open":
            try:
                cursor.check()
                arrivals, cursor = await self.next_page(kind, work, cursor)
            except PaginationError as error:
                await self.record_failure(work, error)
                return
            except (NotFound, BadRequest) as error:
                if not may_step_back(cursor):
                    raise
                cursor = older_cursor(cursor)  # the object that the cursor names was deleted
                if cursor.fault is not None and self.may_be_gone(work, error):
                    raise  # not one of the last ids is there: perhaps their parent is gone
                continue
            if kind == "runs":
                await self.check_project(arrivals)
            before = work.count
            work = await self.database.atomic(keep_page, self.number, work, arrivals, cursor, self.selection)
            cursor = cursor_of(work.cursor, work.kind)
            self.news.set()
            expected = await self.database.call(ledger.expected_items, self.number) if kind == "runs" else None
            self.tell(kind, work.count - before, expected=expected)

    async def next_page(self, kind: Kind, work: Work, cursor: Cursor) -> tuple[Arrivals, Cursor]:
        if kind == "evals" and self.first_page is not None:
            page, self.first_page = self.first_page, None
            return page
        return await self.outages.call(self.fetcher.page, kind, work.parents, cursor)

    async def check_project(self, arrivals: Arrivals) -> None:
        """Runs tell their project. Raises `ForeignData` for another one than that of the archive."""
        found = project_in(arrivals.bodies)
        if found is None or found == self.origin.project:
            return
        if self.origin.project is None:
            self.origin = attrs.evolve(self.origin, project=found)
            await self.database.atomic(ledger.remember_origin, self.number, self.origin.text())
        elif self.checked:
            self.origin.check(attrs.evolve(self.origin, project=found))

    async def copy_eval(self, work: Work) -> None:
        """Copy one eval that was asked for by id."""
        try:
            text = await self.outages.call(self.fetcher.object, "eval", work.eval_id)
        except NotFound as error:
            if not await self.database.call(rows.exists, "evals", (work.eval_id,)):
                raise
            await self.database.atomic(vanished, self.number, work, str(error))
            return
        found = arrival(text, "evals", ())

        def write(connection: Connection) -> None:
            if isinstance(found, Damaged):
                ledger.keep_damaged(connection, "evals", (), self.number, [found])
            else:
                ledger.see(connection, "evals", self.number, [found[0]])
                ledger.schedule(connection, self.number, [Work(kind="runs", eval_id=work.eval_id)])
            ledger.record(connection, attrs.evolve(work, state="done", count=1, pages=1))

        await self.database.atomic(write)
        self.tell("evals", 1)

    async def copy_file(self, work: Work) -> None:
        """Copy what is known of a file, if it was on no listing, and its content, if the store does not have it."""
        done = attrs.evolve(work, state="done", count=1, pages=1)
        if not await self.database.call(rows.exists, "files", (work.id,)) and not await self.describe(work):
            await self.database.atomic(ledger.record, done)  # what is damaged is reported as such
            return
        if await self.database.call(ledger.content_digest, work.id) is not None:
            await self.database.atomic(ledger.record, done)
            return
        spool = Spool()
        try:
            await self.outages.call(self.fetcher.content, work.id, spool)

            def write(connection: Connection) -> None:
                ledger.put_stream(connection, work.id, spool.hash.hexdigest(), spool.size, spool.file)
                ledger.record(connection, done)

            await self.database.atomic(write)
        finally:
            spool.close()
        self.tell("file", 1)

    async def describe(self, work: Work) -> bool:
        """Copy what is known of a file; whether it was of any use."""
        text = await self.outages.call(self.fetcher.object, "file", work.id)
        found = arrival(text, "files", ())
        if isinstance(found, Damaged):
            await self.database.atomic(ledger.keep_damaged, "files", (), self.number, [found])
            return False
        await self.database.atomic(ledger.see, "files", -self.number, [found[0]])
        return True

    # --- progress -----------------------------------------------------------------------------------------------------

    def tell(self, kind: str, count: int, *, expected: int | None = None) -> None:
        """Add up, and report to whoever listens."""
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

    def tell_waiting(self, waiting: Waiting | None) -> None:
        """Report that the server is waited for, or that it answers again."""
        self.progress = attrs.evolve(self.progress, waiting=waiting)
        if self.on_progress is not None:
            self.on_progress(self.progress)

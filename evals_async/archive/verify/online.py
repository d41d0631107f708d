"""Proof against the server: everything is listed again, and compared with the archive by id and by hash.

Evals, runs and files are compared all; output items for all runs or for a random sample of them, contents for all or
none. GET only. What the archive says of itself is in `verify`.
"""

from collections.abc import AsyncIterator

from evals_async import fan_out
from evals_async._clock import Clock
from evals_async._store import Connection, Database, Kind, rows
from evals_async.archive.export import ledger
from evals_async.archive.export.cursor import cursor_after, cursor_of
from evals_async.archive.export.fetching import Fetcher, Spool
from evals_async.archive.export.listing_page import ListingPage
from evals_async.archive.export.outages import OutagePolicy, TryAgain, error_text, is_fatal
from evals_async.archive.values import Selection
from evals_async.archive.verify.hashing import object_hash
from evals_async.archive.verify.offline import VerifyReport
from evals_async.errors import BadRequest, NotFound, PaginationError, PermissionDenied, RequestError
from evals_async.pagination import may_step_back, older_cursor


class Comparison:
    """One comparison with one server. `sample` is how many runs' items are compared; `None` means all of them."""

    def __init__(
        self,
        database: Database,
        fetcher: Fetcher,
        report: VerifyReport,
        *,
        clock: Clock,
        max_outage: float,
        first_answer: float,
    ) -> None:
        self.database = database
        self.fetcher = fetcher
        self.report = report
        self.clock = clock
        self.outages = OutagePolicy(clock, max_outage, first_answer=first_answer)

    async def run(self, sample: int | None, concurrency: int) -> None:
        """Compare, and write into the report. A server that does not answer for long ends it early."""
        try:
            await self.compare_all(sample, concurrency)
        except TryAgain as reason:
            self.report.stopped = str(reason)

    async def compare_all(self, sample: int | None, concurrency: int) -> None:
        last = await self.database.call(ledger.last_pass)
        selection = Selection() if last is None else Selection.of(last.selection)
        if not selection.evals:
            await self.compare_listing(("evals", ()))
        listings: list[tuple[Kind, tuple[str, ...]]] = [("runs", key) for key in await self.keys("evals", selection)]
        if selection.files and not selection.narrow:
            listings.append(("files", ()))
        await self.compare_many(listings, concurrency)
        if selection.items:
            chosen = await self.chosen_runs(sample)
            self.report.compared["sampled_runs"] = len(chosen)
            await self.compare_many([("output_items", key) for key in chosen], concurrency)
        if selection.files and sample is None:
            await self.compare_contents(concurrency)

    async def keys(self, kind: Kind, selection: Selection) -> list[tuple[str, ...]]:
        """The keys of what is here and still on the server."""

        def read(connection: Connection) -> list[tuple[str, ...]]:
            return connection.execute(f"SELECT id FROM {kind} WHERE missing_since IS NULL ORDER BY id").fetchall()

        found = await self.database.call(read)
        return [key for key in found if not selection.evals or key[0] in selection.evals]

    async def chosen_runs(self, sample: int | None) -> list[tuple[str, ...]]:
        """The runs whose items were read: all, or `sample` of them by chance."""

        def read(connection: Connection) -> list[tuple[str, ...]]:
            sql = (
                "SELECT w.eval_id, w.run_id FROM work w JOIN runs r ON r.eval_id = w.eval_id AND r.id = w.run_id "
                "WHERE w.kind = 'output_items' AND r.missing_since IS NULL ORDER BY 1, 2"
            )
            return connection.execute(sql).fetchall()

        found = await self.database.call(read)
        if sample is None or sample >= len(found):
            return found
        for place in range(sample):  # the first `sample` of a shuffle
            other = place + int(self.clock.random() * (len(found) - place))
            found[place], found[other] = found[other], found[place]
        return sorted(found[:sample])

    async def compare_many(self, listings: list[tuple[Kind, tuple[str, ...]]], concurrency: int) -> None:
        async with fan_out(self.compare_listing, listings, concurrency=concurrency) as ends:
            async for end in ends:
                end.unwrap()

    async def compare_listing(self, listing: tuple[Kind, tuple[str, ...]]) -> None:
        """Compare one listing with what is here, object by object."""
        kind, parents = listing
        what = f"{kind.replace('_', ' ')}{' of ' if parents else ''}{'/'.join(parents)}"
        seen: set[str] = set()
        try:
            async for page in self.pages(kind, parents, seen):
                await self.compare_page(kind, parents, page)
        except PaginationError as error:
            self.report.find(what, f"the listing is broken: {error}")
        except NotFound as error:
            self.report.note(what, f"no longer on the server: {error}")
        except RequestError as error:
            if is_fatal(error):
                raise
            self.report.find(what, f"could not be compared: {error_text(error)}")
        else:
            await self.count_extra(kind, parents, seen, what)
        self.report.compared[kind] = self.report.compared.get(kind, 0) + len(seen)

    async def pages(self, kind: Kind, parents: tuple[str, ...], seen: set[str]) -> AsyncIterator[ListingPage]:
        """The pages of a listing, by the same rules as when it is copied; `seen` is filled with its ids."""
        cursor = cursor_of(None, kind)
        while True:
            cursor.check()
            try:
                page, cursor = await self.outages.call(self.fetcher.page, kind, parents, cursor)
            except (NotFound, BadRequest):
                if not may_step_back(cursor):
                    raise
                cursor = older_cursor(cursor)
                continue
            yield page
            known = seen.intersection(page.ids)
            seen.update(page.ids)
            onward = cursor_after(cursor, page, known)
            if onward is None:
                return
            cursor = onward

    async def compare_page(self, kind: Kind, parents: tuple[str, ...], page: ListingPage) -> None:
        cure = "export again, with reread" if kind == "output_items" else "export again"

        def read(connection: Connection) -> list[str | None]:
            return [rows.get(connection, kind, row.key) for row in page.rows]

        for row, text in zip(page.rows, await self.database.call(read), strict=True):
            what = f"{kind} {'/'.join(row.key)}"
            if text is None:
                self.report.find(what, f"on the server, and not here: {cure}")
            elif text != row.text and object_hash(text) != object_hash(row.text):
                self.report.find(what, f"the server has another version now: {cure}")

    async def count_extra(self, kind: Kind, parents: tuple[str, ...], seen: set[str], what: str) -> None:
        """What is here, not marked as missing, and not on the server any more."""
        here = await self.database.call(ids_here, kind, parents)
        if gone := here - seen:
            self.report.note(what, f"{len(gone)} here are no longer on the server, such as {min(gone)}")

    # --- contents -----------------------------------------------------------------------------------------------------

    async def compare_contents(self, concurrency: int) -> None:
        def read(connection: Connection) -> list[tuple[str, str]]:
            sql = "SELECT id, sha256 FROM files WHERE sha256 IS NOT NULL AND missing_since IS NULL ORDER BY id"
            return connection.execute(sql).fetchall()

        files = await self.database.call(read)
        async with fan_out(self.compare_content, files, concurrency=concurrency) as ends:
            async for end in ends:
                end.unwrap()
        self.report.compared["contents"] = len(files)

    async def compare_content(self, file: tuple[str, str]) -> None:
        file_id, sha256 = file
        spool = Spool()
        try:
            await self.outages.call(self.fetcher.content, file_id, spool)
            if spool.hash.hexdigest() != sha256:
                self.report.find(f"file {file_id}", "the server has another content now")
        except (NotFound, PermissionDenied, BadRequest) as error:
            self.report.note(f"file {file_id}", f"no longer given by the server: {error}")
        finally:
            spool.close()


def ids_here(connection: Connection, kind: Kind, parents: tuple[str, ...]) -> set[str]:
    """The ids of what is here under `parents` and not marked as missing."""
    names = {"runs": ("eval_id",), "output_items": ("eval_id", "run_id")}.get(kind, ())
    conditions = "".join(f" AND {name} = ?" for name in names) + (" AND purpose = 'evals'" if kind == "files" else "")
    found = connection.execute(f"SELECT id FROM {kind} WHERE missing_since IS NULL{conditions}", parents).fetchall()
    return {row[0] for row in found}

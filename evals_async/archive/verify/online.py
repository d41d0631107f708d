"""Compare an archive with the server: list everything again, and compare ids and hashes.

All evals, runs and files are compared, and the output items of all runs or of a random sample. File contents are
compared only if all runs are. Sends only GET requests. The check of the file itself is in `offline`.
"""

from collections.abc import AsyncIterator, Sequence

from evals_async import fan_out
from evals_async._clock import Clock
from evals_async._store import Connection, Database, Kind, Row, rows
from evals_async.archive.export import ledger
from evals_async.archive.export.cursor import cursor_after, cursor_of
from evals_async.archive.export.fetching import Fetcher, Spool
from evals_async.archive.export.ledger import Damaged
from evals_async.archive.export.listing_page import ListingPage, parse_object
from evals_async.archive.export.outages import OutagePolicy, TryAgain, error_text, is_fatal
from evals_async.archive.values import Selection
from evals_async.archive.verify.hashing import object_hash
from evals_async.archive.verify.offline import VerifyReport
from evals_async.errors import BadRequest, InvalidArgument, NotFound, PaginationError, PermissionDenied, RequestError
from evals_async.pagination import may_step_back, older_cursor


class OnlineVerification:
    """Compares an archive with one server, and writes the result into a `VerifyReport`."""

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
        self.has_evals = False  # whether the server has returned a list of evals
        self.outages = OutagePolicy(clock, max_outage, first_answer=first_answer, probe=fetcher.probe)

    async def run(self, sample: int | None, concurrency: int) -> None:
        """Compare, and write into the report.

        `sample` is the number of runs whose items are compared; `None` means all runs. If the server does not respond
        for a long time, the comparison stops and the report has `stopped`.
        """
        try:
            await self.compare_all(sample, concurrency)
        except TryAgain as reason:
            self.report.stopped = str(reason)

    async def compare_all(self, sample: int | None, concurrency: int) -> None:
        last = await self.database.call(ledger.last_pass)
        selection = Selection() if last is None else Selection.of(last.selection)
        if selection.evals:
            await self.look_for_evals()
            await self.compare_evals([key for (key,) in await self.keys("evals", selection)], concurrency)
        else:
            await self.compare_listing(("evals", ()))
        listings: list[tuple[Kind, tuple[str, ...]]] = [("runs", key) for key in await self.keys("evals", selection)]
        if selection.files and not selection.narrow:
            listings.append(("files", ()))
        await self.compare_many(listings, concurrency)
        if selection.items:
            selected = await self.selected_runs(sample)
            self.report.compared["sampled_runs"] = len(selected)
            await self.compare_many([("output_items", key) for key in selected], concurrency)
        if selection.files and sample is None:
            await self.compare_contents(concurrency)

    async def keys(self, kind: Kind, selection: Selection) -> list[tuple[str, ...]]:
        """Return the keys of the archive's objects that should still be on the server."""

        def read(connection: Connection) -> list[tuple[str, ...]]:
            return connection.execute(f"SELECT id FROM {kind} WHERE missing_since IS NULL ORDER BY id").fetchall()

        found = await self.database.call(read)
        return [key for key in found if not selection.evals or key[0] in selection.evals]

    async def selected_runs(self, sample: int | None) -> list[tuple[str, ...]]:
        """Return the runs whose items were read: all, or `sample` random ones."""

        def read(connection: Connection) -> list[tuple[str, ...]]:
            sql = (
                "SELECT w.eval_id, w.run_id FROM work w JOIN runs r ON r.eval_id = w.eval_id AND r.id = w.run_id "
                "WHERE w.kind = 'output_items' AND r.missing_since IS NULL ORDER BY 1, 2"
            )
            return connection.execute(sql).fetchall()

        found = await self.database.call(read)
        if sample is None or sample >= len(found):
            return found
        for index in range(sample):  # the first `sample` steps of a shuffle
            other = index + int(self.clock.random() * (len(found) - index))
            found[index], found[other] = found[other], found[index]
        return sorted(found[:sample])

    async def compare_many(self, listings: list[tuple[Kind, tuple[str, ...]]], concurrency: int) -> None:
        async with fan_out(self.compare_listing, listings, concurrency=concurrency) as ends:
            async for end in ends:
                end.unwrap()

    async def compare_listing(self, listing: tuple[Kind, tuple[str, ...]]) -> None:
        """Compare one listing with the archive, object by object."""
        kind, parents = listing
        what = f"{kind.replace('_', ' ')}{' of ' if parents else ''}{'/'.join(parents)}"
        seen: set[str] = set()
        try:
            async for page in self.pages(kind, parents, seen):
                await self.compare_rows(kind, page.rows)
        except PaginationError as error:
            self.report.find(what, f"the listing cannot be read: {error}")
        except (InvalidArgument, RequestError) as error:
            await self.not_compared(what, error, parents)
        else:
            self.has_evals |= kind == "evals"
            await self.count_extra(kind, parents, seen, what)
        self.report.compared[kind] = self.report.compared.get(kind, 0) + len(seen)

    async def not_compared(self, what: str, error: InvalidArgument | RequestError, key: tuple[str, ...]) -> None:
        """Report an error of a comparison: a note if the object with this key was deleted, otherwise a finding.

        Raises errors that all other requests would get too.
        """
        if isinstance(error, RequestError) and is_fatal(error):
            raise error
        if key and isinstance(error, NotFound) and await self.is_deleted(key):
            self.report.note(what, f"no longer on the server: {error}")
        else:
            self.report.find(what, f"could not be compared: {error_text(error)}")

    async def is_deleted(self, key: tuple[str, ...]) -> bool:
        """Return whether an eval or a run is no longer on a server that has the other routes.

        A 404 alone proves nothing: some servers lack whole routes, and an address with a wrong path has none.
        """
        if not self.has_evals:
            return False
        try:
            await self.outages.call(self.fetcher.object, "run" if len(key) > 1 else "eval", *key)
        except NotFound:
            return True
        except RequestError as error:
            if is_fatal(error):
                raise
        return False

    async def look_for_evals(self) -> None:
        """Find out whether the server has a list of evals at all."""
        try:
            await self.outages.call(self.fetcher.page, "evals", (), cursor_of(None, "evals"))
        except RequestError as error:
            await self.not_compared("evals", error, ())
        else:
            self.has_evals = True

    async def compare_evals(self, ids: list[str], concurrency: int) -> None:
        """Compare the evals of a selection, which are not listed."""
        async with fan_out(self.compare_eval, ids, concurrency=concurrency) as ends:
            async for end in ends:
                end.unwrap()
        self.report.compared["evals"] = len(ids)

    async def compare_eval(self, eval_id: str) -> None:
        what = f"evals {eval_id}"
        try:
            found = parse_object(await self.outages.call(self.fetcher.object, "eval", eval_id), "evals", ())
        except (InvalidArgument, RequestError) as error:
            await self.not_compared(what, error, (eval_id,))
            return
        if isinstance(found, Damaged):
            self.report.find(what, f"could not be compared: {found.reason}")
        else:
            await self.compare_rows("evals", [found[0]])

    async def pages(self, kind: Kind, parents: tuple[str, ...], seen: set[str]) -> AsyncIterator[ListingPage]:
        """Yield the pages of a listing, by the same rules as an export. Its ids are added to `seen`."""
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

    async def compare_rows(self, kind: Kind, found: Sequence[Row]) -> None:
        advice = "export again, with reread" if kind == "output_items" else "export again"

        def read(connection: Connection) -> list[str | None]:
            return [rows.get(connection, kind, row.key) for row in found]

        for row, text in zip(found, await self.database.call(read), strict=True):
            what = f"{kind} {'/'.join(row.key)}"
            if text is None:
                self.report.find(what, f"on the server, but not in the archive: {advice}")
            elif text != row.text and object_hash(text) != object_hash(row.text):
                self.report.find(what, f"the server has another version now: {advice}")

    async def count_extra(self, kind: Kind, parents: tuple[str, ...], seen: set[str], what: str) -> None:
        """Note the objects of the archive that are no longer on the server and not marked as missing."""
        archived = await self.database.call(archived_ids, kind, parents)
        if gone := archived - seen:
            self.report.note(what, f"{len(gone)} are no longer on the server, such as {min(gone)}")

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
            self.report.note(f"file {file_id}", f"the server no longer returns it: {error}")
        except (InvalidArgument, RequestError) as error:
            await self.not_compared(f"file {file_id}", error, ())
        finally:
            spool.close()


def archived_ids(connection: Connection, kind: Kind, parents: tuple[str, ...]) -> set[str]:
    """Return the ids of the archive's objects under `parents` that are not marked as missing."""
    names = {"runs": ("eval_id",), "output_items": ("eval_id", "run_id")}.get(kind, ())
    conditions = "".join(f" AND {name} = ?" for name in names) + (" AND purpose = 'evals'" if kind == "files" else "")
    found = connection.execute(f"SELECT id FROM {kind} WHERE missing_since IS NULL{conditions}", parents).fetchall()
    return {row[0] for row in found}

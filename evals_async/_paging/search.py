"""Find many known ids in a listing with few requests: which pages to request, and when to stop. There is no I/O here.

A *scan* requests the page after a wanted id, and then the following pages. Known ids are cursors, so several scans run
at the same time, each in its own part of the listing. The first scan starts at the beginning of the listing.

The rules:

- Scans start at equal distances in the order of the sorted ids. The ids of most servers begin with the time of
  creation, so this is about the order of the listing. If it is not, a third more requests are needed.
- A scan continues while its pages contain `ENOUGH` new wanted ids on average. It ends at a page without new wanted ids,
  at the start of another scan, at the end of the listing, and at a page that fails.
- The number of scans is such that each has about `PAGES_PER_SCAN` pages of the missing ids, or more if there are fewer
  workers. It is computed again when a scan ends before the end of the listing. So while all scans find what they
  should, no other one starts.
- A page that is too large is requested again with half the size. Later pages have this size too.
- After `MOST_BARREN` pages in a row with fewer than `ENOUGH` ids, or with errors, no scan starts any more.
- Pages without wanted ids may cost a fifth of the number of ids (`WASTE`), including all attempts. A running request
  counts as such a page until its response arrives. So there are never more than 1.2 times the requests of single reads.
- This is true for each listing, and for all listings of a batch together (`PageBudget`). Only a first scan may cost
  more in its own listing. So ten ids of each of many listings are read by pages, too.

The caller reads the missing ids one by one. So their errors are those of single reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import attrs

from evals_async._paging.cursor import Cursor, next_cursor, smaller_page
from evals_async.errors import RequestError


PAGE_SIZE = 100
ENOUGH = 5  # wanted ids that a page must bring: one page for five single reads
MOST_CREDIT = 4 * ENOUGH  # the highest credit of a scan for later pages with few wanted ids
PAGES_PER_SCAN = 2
USUAL = 0.95  # of a page: some objects between the wanted ones are not wanted
MOST_BARREN = 5
WASTE = 0.2


@attrs.define(eq=False)
class Scan:
    """Consecutive pages after one id. `credit` is the number of ids that its pages contained beyond `ENOUGH` each."""

    cursor: Cursor
    credit: int = ENOUGH
    ended: bool = False


@attrs.define(eq=False)
class PageBudget:
    """What the searches in several listings have cost together, for `ids` wanted ids: see `PageSearch`."""

    ids: int
    waste: int = 0
    running: int = 0

    def has(self, requests: int) -> bool:
        """Whether so many more requests for pages without wanted ids are possible."""
        return self.waste + requests <= WASTE * self.ids


class PageSearch:
    """The state of one search in one listing.

    A request has at most `attempts` attempts. `shrink` returns whether a smaller page may avoid an error. `shared` is
    the budget of all listings that are searched together.
    """

    def __init__(
        self,
        ids: Iterable[str],
        *,
        workers: int,
        attempts: int = 1,
        shrink: Callable[[Exception], bool] | None = None,
        shared: PageBudget | None = None,
    ) -> None:
        self.missing = dict.fromkeys(sorted(set(ids)))
        self.wanted = frozenset(self.missing)
        self.workers = workers
        self.attempts = attempts
        self.shrink = shrink
        self.limit = PAGE_SIZE
        self.density = float(PAGE_SIZE)  # wanted ids per page; the last pages have the largest weight
        self.own = PageBudget(max(len(self.wanted), math.ceil(attempts / WASTE)))  # enough for a first scan
        self.shared = shared or PageBudget(len(self.wanted))
        self.barren = 0  # pages in a row with fewer than `ENOUGH` wanted ids
        self.starts: set[str] = set()  # of all scans
        self.pages_per_scan = self.pages_for_each()
        # Where the next scans start, the last one first; `None` is the beginning of the listing.
        self.planned = [*self.spread(list(self.missing), self.ids_per_scan() - 1), None]

    @property
    def finished(self) -> bool:
        """Whether no more pages will be requested."""
        return not self.own.running and not self.worth_it()

    def worth_it(self) -> bool:
        """Whether another scan may start, now or later."""
        may_pay = self.own.has(self.attempts) and self.shared.has(self.attempts)
        return may_pay and len(self.missing) > ENOUGH and self.barren < MOST_BARREN

    def affordable(self, more: int) -> bool:
        """Whether the running scans and so many more may each request a page."""
        return all(each.has((each.running + more) * self.attempts) for each in (self.own, self.shared))

    def count(self, *, waste: int = 0, running: int = 0) -> None:
        """Count requests for pages minus the wanted ids that they contained, and running scans."""
        for each in (self.own, self.shared):
            each.waste += waste
            each.running += running

    def begin(self) -> Scan | None:
        """Start a scan, or return `None` if none may start now. Its cursor is the first page to request."""
        if not self.worth_it() or self.own.running * self.ids_per_scan() >= len(self.missing) or not self.affordable(1):
            return None
        while self.planned and self.planned[-1] is not None and self.planned[-1] not in self.missing:
            self.planned.pop()
        self.planned = self.planned or self.plan()
        if not self.planned:
            return None
        start = self.planned.pop()
        if start is not None:
            self.starts.add(start)
        self.count(running=1)
        return Scan(Cursor.at(start, self.limit))

    def ids_per_scan(self) -> int:
        """Return how many of the missing ids a scan shall find on its pages."""
        return int(self.pages_per_scan * self.ids_per_page())

    def pages_for_each(self) -> int:
        """Return how many pages a scan shall read, so that the workers have one scan each."""
        return max(PAGES_PER_SCAN, math.ceil(len(self.missing) / self.ids_per_page() / self.workers))

    def ids_per_page(self) -> float:
        return USUAL * max(self.density, ENOUGH)

    def plan(self) -> list[str | None]:
        """Return where the next scans may start."""
        open_ids = [each for each in self.missing if each not in self.starts]
        if not open_ids:
            self.barren = MOST_BARREN  # a scan has started at every missing id, so no other page is left
        size = min(self.ids_per_scan(), len(open_ids))
        return self.spread(open_ids, size * self.barren // MOST_BARREN)  # if pages failed, not near them again

    def spread(self, ids: list[str], first: int) -> list[str | None]:
        """Return ids at equal distances from the one with the number `first`. The first one comes last."""
        return list(reversed(ids[first :: self.ids_per_scan()]))

    def received(self, scan: Scan, ids: Sequence[str | None], last_id: str | None, has_more: bool | None) -> list[str]:
        """Return the new wanted ids of a page, each once. Move `scan` to the next page, or end it."""
        new = [each for each in dict.fromkeys(ids) if each is not None and each in self.missing]
        for each in new:
            del self.missing[each]
        self.count(waste=1 - len(new))
        self.barren = 0 if len(new) >= ENOUGH else self.barren + 1
        scan.credit = min(MOST_CREDIT, scan.credit + len(new)) - ENOUGH
        onward = next_cursor(scan.cursor, ids, ids, last_id=last_id, has_more=has_more)
        if onward is not None:  # the last page of a listing may be short
            self.density = (self.density + len(self.wanted.intersection(ids))) / 2
        if (
            onward is None
            or onward.fault is not None
            or not new
            or scan.credit < 0
            or not self.starts.isdisjoint(ids)
            or not self.affordable(0)
        ):
            self.end(scan)
        else:
            scan.cursor = onward
        if scan.ended and onward is not None:
            self.pages_per_scan = self.pages_for_each()
        return new

    def failed(self, scan: Scan, error: Exception) -> None:
        """Handle a failed page: `scan` requests a smaller page, or ends."""
        self.count(waste=error.attempts if isinstance(error, RequestError) else 1)
        limit = scan.cursor.limit or PAGE_SIZE
        if self.shrink is not None and limit > 1 and self.shrink(error) and self.affordable(0):
            self.limit = min(self.limit, smaller_page(scan.cursor).limit or 1)
            scan.cursor = attrs.evolve(scan.cursor, limit=self.limit)
            return
        self.barren += 1
        self.end(scan)

    def end(self, scan: Scan) -> None:
        scan.ended = True
        self.count(running=-1)

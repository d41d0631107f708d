"""Finding many known ids in a listing with few requests: which pages to ask for, and when to stop. No I/O here.

A *scan* asks for the page after an id that is wanted, and goes on from page to page. Known ids are cursors, so several
scans run at the same time, each in its own part of the listing. The first scan starts at the beginning of the listing.
The order of the wanted ids is used where there is one, and not relied on.

The rules:

- A scan goes on while its pages bring `ENOUGH` new wanted ids on average. It ends at a page with nothing new, at an id
  where another scan started, at the end of the listing, and when a page fails.
- As many scans run at the same time as give each about `PAGES_PER_SCAN` pages of what is still missing.
- A page that is too large is asked for again at half the size, and so are all later ones.
- `MOST_BARREN` pages in a row that bring less than enough, or that fail: no scan is started any more.
- Pages that bring nothing may cost a fifth of the number of ids (`WASTE`), all attempts included. Each page that is
  under way counts as lost until it has brought something. So the requests are never more than 1.2 times those of single
  reads, whatever the server does.

What is missing in the end is read singly, by the caller: that is also how errors are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from evals_async._paging.cursor import Cursor, next_cursor, smaller_page
from evals_async.errors import RequestError


PAGE_SIZE = 100
ENOUGH = 5  # wanted ids that a page must bring: one page for five single reads
MOST_CREDIT = 4 * ENOUGH  # what a scan keeps of its good pages for a poor stretch
PAGES_PER_SCAN = 2
MOST_BARREN = 5
WASTE = 0.2


@attrs.define(eq=False)
class Scan:
    """Pages after pages, from one id on. `credit` is what its pages brought beyond what is enough."""

    cursor: Cursor
    credit: int = ENOUGH
    ended: bool = False


class PageSearch:
    """The state of one search in one listing.

    `attempts` is how often one request may be sent, and `shrink` tells the errors that a smaller page may cure.
    """

    def __init__(
        self,
        ids: Iterable[str],
        *,
        workers: int,
        attempts: int = 1,
        shrink: Callable[[Exception], bool] | None = None,
    ) -> None:
        self.missing: dict[str, int] = {each: number for number, each in enumerate(dict.fromkeys(ids))}
        self.wanted = frozenset(self.missing)
        self.workers = workers
        self.attempts = attempts
        self.shrink = shrink
        self.limit = PAGE_SIZE
        self.density = float(PAGE_SIZE)  # wanted ids on a page, the last pages counting most
        self.waste = 0  # requests for pages, less the ids that they brought
        self.barren = 0  # pages in a row that brought less than enough
        self.running = 0  # scans
        self.order = 0  # above 0 if the wanted ids are given in the order of the listing, below 0 if reversed
        # Where the next scans start, the last one first; `None` is the beginning of the listing.
        self.planned: list[str | None] = [None]
        self.tried: set[str] = set()
        self.starts: set[str] = set()  # the listing after these is read by the scans that started there

    @property
    def finished(self) -> bool:
        """Whether no page will be asked for any more."""
        return not self.running and not self.worth_it()

    def worth_it(self) -> bool:
        """Whether one more scan may be started, be it now or later."""
        return len(self.missing) > ENOUGH and self.barren < MOST_BARREN and self.affordable(0)

    def affordable(self, running: int) -> bool:
        return self.waste + (running + 1) * self.attempts <= WASTE * len(self.wanted)

    def begin(self) -> Scan | None:
        """A new scan, whose cursor says which page to ask for; `None` when none is to be started now."""
        if not self.worth_it() or self.running >= self.most_scans() or not self.affordable(self.running):
            return None
        while self.planned and self.planned[-1] is not None and self.planned[-1] not in self.missing:
            self.planned.pop()
        self.planned = self.planned or self.plan()
        if not self.planned:
            return None
        start = self.planned.pop()
        if start is not None:
            self.tried.add(start)
            self.starts.add(start)
        self.running += 1
        return Scan(Cursor.at(start, self.limit))

    def most_scans(self) -> int:
        """How many scans share what is missing, each with a few pages."""
        pages = len(self.missing) / max(self.density, ENOUGH)
        return max(1, min(self.workers, int(pages / PAGES_PER_SCAN)))

    def plan(self) -> list[str | None]:
        """Missing ids at equal distances in the given order, the one that should come first in the listing last."""
        open_ids = [each for each in self.missing if each not in self.tried]
        if not open_ids:
            self.barren = MOST_BARREN  # a scan has started at every missing id: no other page can be asked for
            return []
        if self.order < 0:
            open_ids.reverse()
        count = self.most_scans()
        return [open_ids[number * len(open_ids) // count] for number in reversed(range(count))]

    def received(self, scan: Scan, ids: Sequence[str | None], last_id: str | None, has_more: bool | None) -> list[str]:
        """The wanted ids that a page brought, each of them once; `scan` is moved on, or `ended`."""
        self.waste += 1
        new = [each for each in dict.fromkeys(ids) if each is not None and each in self.missing]
        numbers = [self.missing.pop(each) for each in new]
        self.waste -= len(new)
        self.barren = 0 if len(new) >= ENOUGH else self.barren + 1
        self.density = (self.density + sum(each in self.wanted for each in ids)) / 2
        if len(numbers) > 1:
            self.order += 1 if numbers[0] < numbers[-1] else -1
        scan.credit = min(MOST_CREDIT, scan.credit + len(new)) - ENOUGH
        onward = next_cursor(scan.cursor, ids, ids, last_id=last_id, has_more=has_more)
        if (
            onward is None
            or onward.fault is not None
            or not new
            or scan.credit < 0
            or not self.starts.isdisjoint(ids)
            or not self.affordable(self.running - 1)
        ):
            self.end(scan)
        else:
            scan.cursor = onward
        return new

    def failed(self, scan: Scan, error: Exception) -> None:
        """A page could not be read: `scan` asks again for a smaller one, or is `ended`."""
        self.waste += error.attempts if isinstance(error, RequestError) else 1
        limit = scan.cursor.limit or PAGE_SIZE
        if self.shrink is not None and limit > 1 and self.shrink(error) and self.affordable(self.running - 1):
            self.limit = min(self.limit, smaller_page(scan.cursor).limit or 1)
            scan.cursor = attrs.evolve(scan.cursor, limit=self.limit)
            return
        self.barren += 1
        self.starts.discard(scan.cursor.start or "")
        self.end(scan)

    def end(self, scan: Scan) -> None:
        """Say that a scan asks for no more pages. Doing it twice is fine."""
        if not scan.ended:
            scan.ended = True
            self.running -= 1

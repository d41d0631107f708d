"""Many known things at once, read from the pages of their listings where that takes fewer requests: `fan_out_by_pages`.

As `fan_out`, it has workers and one bounded queue. A worker's next step is a page that a `PageSearch` asks for, or one
thing that no page brought, which is read singly. Errors of pages are never told: what a page should have brought is
read singly, so each outcome is that of a single read. Nothing here knows an endpoint.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import attrs

from evals_async._concurrency.channel import Channel, Items, ItemSource
from evals_async._concurrency.fanout import (
    CAPACITY_PER_WORKER,
    DEFAULT_CONCURRENCY,
    FanOut,
    OnProgress,
    Outcome,
    ProgressCounter,
    attempt,
    check_on_error,
    checked_concurrency,
    results_of,
)
from evals_async._concurrency.single_flight import twin_of
from evals_async._paging.listing import Fetch, ids_of
from evals_async._paging.search import PageSearch, Scan


K = TypeVar("K")
K_contra = TypeVar("K_contra", contravariant=True)
N = TypeVar("N")
V = TypeVar("V")
H = TypeVar("H", bound=Hashable)

BATCH = 10_000  # keys that are looked for together: as many are in memory at once

Location: TypeAlias = tuple[Hashable, str]
"""A listing, and an id in it."""


@attrs.frozen(kw_only=True)
class Lookup(Generic[K_contra, V]):
    """How things are read, singly and by pages.

    `locate` gives the listing and the id of a key, and raises what `fetch` would raise before it sends anything.
    `pages` gives the pages of a listing. `attempts` is how often one request may be sent; `shrink` tells the errors of
    a page that a smaller page may cure. `cached`, if there is a cache, gives what it has, and `keep` is called with
    what a page brought.
    """

    locate: Callable[[K_contra], Location]
    fetch: Callable[[K_contra], Awaitable[V]]
    pages: Callable[[Hashable], Fetch[V]]
    attempts: int
    shrink: Callable[[Exception], bool]
    cached: Callable[[K_contra], Awaitable[V | None]] | None = None
    keep: Callable[[K_contra, V], Awaitable[object]] | None = None


class WorkQueue(Generic[K, N, V]):
    """What is still to be done, for all workers: keys of one batch after the other, scans, and single reads."""

    def __init__(
        self,
        lookup: Lookup[K, V],
        source: ItemSource[K],
        workers: int,
        progress: ProgressCounter,
        name: Callable[[int, K], N],
    ) -> None:
        self.lookup = lookup
        self.source = source
        self.workers = workers
        self.progress = progress
        self.name = name
        self.new: deque[tuple[int, K]] = deque()  # keys of the batch that nobody has looked at
        self.keys: dict[Location, list[tuple[int, K]]] = {}  # keys that wait for an answer
        self.searches: dict[Hashable, PageSearch] = {}
        self.singles: deque[Location] = deque()
        self.locating = 0  # workers that look at new keys
        self.reading = False  # whether a worker reads the next batch
        self.ended = False
        self.changed = asyncio.Event()

    async def next_step(self) -> Callable[[Channel[Outcome[N, V]]], Coroutine[Any, Any, bool]] | None:
        """What a worker is to do, when there is something to do; `None` after the last key of the last batch."""
        while True:
            if self.new:
                return self.locate
            for listing, search in self.searches.items():
                if (scan := search.begin()) is not None:
                    return partial(self.scan, listing=listing, search=search, scan=scan)
            self.drop_finished()
            if self.singles:
                return partial(self.single, location=self.singles.popleft())
            if self.searches or self.locating or self.reading:
                self.changed.clear()
                await self.changed.wait()
            elif self.ended:
                return None
            else:
                await self.read_batch()

    def drop_finished(self) -> None:
        """What a search did not find is read singly."""
        for listing in [each for each, search in self.searches.items() if search.finished]:
            self.singles.extend((listing, each) for each in self.searches.pop(listing).missing)

    async def read_batch(self) -> None:
        self.reading = True
        batch: list[tuple[int, K]] = []
        while len(batch) < BATCH and (taken := await self.source.take()) is not None:
            batch.append(taken)
        self.ended = len(batch) < BATCH
        self.new.extend(batch)
        self.reading = False
        self.changed.set()

    async def locate(self, channel: Channel[Outcome[N, V]]) -> bool:
        """Find out where the new keys belong. A key that is none, or is in the cache, is done with that."""
        self.locating += 1
        try:
            while self.new:
                number, key = self.new.popleft()
                self.progress.begin()
                try:
                    location = self.lookup.locate(key)
                    value = None if self.lookup.cached is None else await self.lookup.cached(key)
                except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
                    if not await self.deliver(channel, [(number, key)], error=error):
                        return False
                    continue
                if value is None:
                    self.keys.setdefault(location, []).append((number, key))
                elif not await self.deliver(channel, [(number, key)], value):
                    return False
        finally:
            self.locating -= 1
            if not self.locating and not self.new:
                self.start_searches()
            self.changed.set()
        return True

    def start_searches(self) -> None:
        ids: dict[Hashable, list[str]] = {}
        for listing, each in self.keys:
            ids.setdefault(listing, []).append(each)
        shrink, attempts = self.lookup.shrink, self.lookup.attempts
        for listing, wanted in ids.items():
            self.searches[listing] = PageSearch(wanted, workers=self.workers, attempts=attempts, shrink=shrink)

    async def scan(self, channel: Channel[Outcome[N, V]], listing: Hashable, search: PageSearch, scan: Scan) -> bool:
        """Read one page after the other, and deliver what is wanted of each."""
        fetch = self.lookup.pages(listing)
        try:
            while not scan.ended:
                try:
                    body = await fetch(scan.cursor.after, scan.cursor.limit)
                except Exception as error:  # noqa: BLE001  # what the page should have brought is read singly
                    search.failed(scan, error)
                    continue
                finally:
                    self.changed.set()
                ids = ids_of(body.entries)
                found = search.received(scan, ids, body.last_id, body.has_more)
                entries = dict(zip(ids, body.entries, strict=True))
                for keys, entry in [(self.keys.pop((listing, each)), entries[each]) for each in found]:
                    value: V = entry if body.make is None else body.make(entry)
                    unkept = None
                    if self.lookup.keep is not None:  # as with single reads, a cache that fails is told
                        unkept = (await attempt(partial(self.lookup.keep, keys[0][1]), value)).error
                    if not await self.deliver(channel, keys, value if unkept is None else None, unkept):
                        return False
            return True
        finally:
            search.end(scan)
            self.changed.set()

    async def single(self, channel: Channel[Outcome[N, V]], location: Location) -> bool:
        keys = self.keys.pop(location)
        outcome = await attempt(self.lookup.fetch, keys[0][1])
        return await self.deliver(channel, keys, outcome.value, outcome.error)

    async def deliver(
        self,
        channel: Channel[Outcome[N, V]],
        keys: Iterable[tuple[int, K]],
        value: V | None = None,
        error: Exception | None = None,
    ) -> bool:
        """Hand over one result for all the keys that it answers; false after the end. One place stays reserved."""
        for number, key in keys:
            self.progress.end(error is not None)
            channel.put(Outcome(self.name(number, key), value, error))
            if not await channel.reserve():
                return False
            error = error if error is None else twin_of(error)
        return True


def fan_out_by_pages(
    lookup: Lookup[K, V],
    items: Items[K],
    *,
    name: Callable[[int, K], N],
    concurrency: int = DEFAULT_CONCURRENCY,
    on_progress: OnProgress | None = None,
) -> FanOut[N, V]:
    """What `fan_out(lookup.fetch, items)` gives, in any order, with pages in place of most of the single reads.

    Items are read 10,000 at a time, and looked for together; an item that comes twice is read once. The key of an
    `Outcome` is `name(number, item)`.
    """
    source = ItemSource(items)
    workers = checked_concurrency(concurrency, source.total)
    work = WorkQueue(lookup, source, workers, ProgressCounter(source.total, on_progress), name)

    async def job(channel: Channel[Outcome[N, V]]) -> None:
        if not await channel.reserve():
            return
        while (step := await work.next_step()) is not None:
            if not await step(channel):
                return
        channel.release()

    return FanOut(job, workers, workers * CAPACITY_PER_WORKER, source.aclose)


async def gather_by_pages(
    lookup: Lookup[H, V],
    items: Items[H],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    on_error: Literal["raise", "return"] = "raise",
    on_progress: OnProgress | None = None,
) -> tuple[V | Exception, ...]:
    """What `gather_many(lookup.fetch, items)` returns or raises, with pages in place of most of the single reads."""
    check_on_error(on_error)
    numbers: list[int] = []  # of the items, in the order in which their outcomes come

    def name(number: int, key: H) -> H:
        numbers.append(number)
        return key

    stream = fan_out_by_pages(lookup, items, name=name, concurrency=concurrency, on_progress=on_progress)
    async with stream:
        outcomes = dict(zip(numbers, [outcome async for outcome in stream], strict=True))
    return results_of([outcomes[number] for number in sorted(outcomes)], on_error)

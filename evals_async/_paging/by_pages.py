"""Read many objects with known ids from the pages of their listings, if this needs fewer requests: `fan_out_by_pages`.

Like `fan_out`, it has workers and one bounded queue. A worker's next step is a page for a `PageSearch`, or a single
read of an object that no page contained. Errors of pages are never raised. The objects of a failed page are read one by
one, so each outcome is that of a single read. This module does not depend on endpoints.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
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
    """The functions that read objects, one by one and by pages.

    `locate` returns the listing and the id of a key. It raises what `fetch` raises before it sends a request. `pages`
    returns the function that fetches the pages of a listing. A request has at most `attempts` attempts. `shrink`
    returns whether a smaller page may avoid an error. `copy` makes the object for a second place in the results.
    `cached` returns an object from the cache, and `keep` stores the object of a page there.
    """

    locate: Callable[[K_contra], Location]
    fetch: Callable[[K_contra], Awaitable[V]]
    pages: Callable[[Hashable], Fetch[V]]
    attempts: int
    shrink: Callable[[Exception], bool]
    copy: Callable[[V], V]
    cached: Callable[[K_contra], Awaitable[V | None]] | None = None
    keep: Callable[[K_contra, V], Awaitable[object]] | None = None


class WorkQueue(Generic[K, N, V]):
    """The remaining work of all workers: the keys of each batch, scans, and single reads."""

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
        self.new: deque[tuple[int, K]] = deque()  # keys of the batch that are not located yet
        self.keys: dict[Location, list[tuple[int, K]]] = {}  # keys without a result
        self.searches: dict[Hashable, PageSearch] = {}
        self.singles: deque[Location] = deque()
        self.locating = 0  # workers that locate keys
        self.reading = False  # whether a worker reads the next batch
        self.ended = False
        self.running = workers  # workers that have not ended
        self.failure: Exception | None = None  # an error of the source; the last worker raises it
        self.changed = asyncio.Event()

    async def next_step(self) -> Callable[[Channel[Outcome[N, V]]], Coroutine[Any, Any, bool]] | None:
        """Wait for work, and return the next step of a worker. Return `None` after the last key of the last batch."""
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
        """Plan a single read of each object that a finished search did not find."""
        for listing in [each for each, search in self.searches.items() if search.finished]:
            self.singles.extend((listing, each) for each in self.searches.pop(listing).missing)

    async def read_batch(self) -> None:
        self.reading = True
        batch: list[tuple[int, K]] = []
        try:
            while len(batch) < BATCH and (taken := await self.source.take()) is not None:
                batch.append(taken)
        except Exception as error:  # noqa: BLE001  # raised after the outcomes of the keys before it
            self.failure = error
        self.ended = len(batch) < BATCH
        self.new.extend(batch)
        self.reading = False
        self.changed.set()

    async def locate(self, channel: Channel[Outcome[N, V]]) -> bool:
        """Locate the new keys. An invalid key, or a key in the cache, has its outcome at once."""
        self.locating += 1
        try:
            while self.new:
                number, key = self.new.popleft()
                self.progress.begin()
                try:
                    location = self.lookup.locate(key)
                    value = None if self.lookup.cached is None else await self.lookup.cached(key)
                except Exception as error:  # noqa: BLE001  # an error of a call is its outcome
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
        """Read the pages of a scan, and deliver the wanted objects of each."""
        fetch = self.lookup.pages(listing)
        try:
            while not scan.ended:
                try:
                    body = await fetch(scan.cursor.after, scan.cursor.limit)
                except Exception as error:  # noqa: BLE001  # the objects of this page are read one by one
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
                    if self.lookup.keep is not None:  # as for single reads, an error of the cache is the outcome
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
        keys: Sequence[tuple[int, K]],
        value: V | None = None,
        error: Exception | None = None,
    ) -> bool:
        """Deliver one result for all its keys. Returns false after the end. One place of the queue stays reserved."""
        for number, key in keys:
            self.progress.end(error is not None)
            channel.put(Outcome(self.name(number, key), value, error))
            if not await channel.reserve():
                return False
            error = error if error is None else twin_of(error)
            value = value if value is None or len(keys) == 1 else self.lookup.copy(value)
        return True


def fan_out_by_pages(
    lookup: Lookup[K, V],
    items: Items[K],
    *,
    name: Callable[[int, K], N],
    concurrency: int = DEFAULT_CONCURRENCY,
    on_progress: OnProgress | None = None,
) -> FanOut[N, V]:
    """Yield the outcomes of `fan_out(lookup.fetch, items)` in any order, with pages instead of most single reads.

    `items` is consumed in batches of 10,000: the first request is sent when a batch is complete, or `items` ends. An
    item that occurs twice is read once, and each place has its own object. The key of an `Outcome` is
    `name(number, item)`.
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
        work.running -= 1
        if work.failure is not None and not work.running:
            raise work.failure
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
    """Return or raise the same as `gather_many(lookup.fetch, items)`, with pages instead of most single reads."""
    check_on_error(on_error)
    numbers: list[int] = []  # of the items, in the order of their outcomes

    def name(number: int, key: H) -> H:
        numbers.append(number)
        return key

    stream = fan_out_by_pages(lookup, items, name=name, concurrency=concurrency, on_progress=on_progress)
    async with stream:
        outcomes = dict(zip(numbers, [outcome async for outcome in stream], strict=True))
    return results_of([outcomes[number] for number in sorted(outcomes)], on_error)

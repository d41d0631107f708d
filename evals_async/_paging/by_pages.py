"""Read many objects with known ids from the pages of their listings, if this needs fewer requests: `fan_out_by_pages`.

Like `fan_out`, it has workers and one bounded queue. A worker's next step is a page for a `PageSearch`, or a single
read of an object that no page contained. Errors of pages are never raised. The objects of a failed page are read one by
one, so each outcome is that of a single read. This module does not depend on endpoints.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator
from functools import partial
from operator import itemgetter
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
from evals_async._paging.search import PageBudget, PageSearch, Scan


K = TypeVar("K")
K_contra = TypeVar("K_contra", contravariant=True)
V = TypeVar("V")
H = TypeVar("H", bound=Hashable)

BATCH = 10_000  # keys that are looked for together: as many are in memory at once

Location: TypeAlias = tuple[Hashable, str]
"""A listing, and an id in it."""

Places: TypeAlias = list[tuple[int, K]]
"""The places of one object in the results: the number and the key of each."""

Result: TypeAlias = tuple[Places[K], V | None, Exception | None]
"""The object or the error for these places."""

Step: TypeAlias = Callable[[Channel[Outcome[K, V]]], Coroutine[Any, Any, bool]]
"""A part of the work. It returns false after the end."""


@attrs.frozen(kw_only=True)
class Lookup(Generic[K_contra, V]):
    """The functions that read objects, one by one and by pages.

    `locate` returns the listing and the id of a key. It raises what `fetch` raises before it sends a request. `pages`
    returns the function that fetches the pages of a listing. A request has at most `attempts` attempts. `shrink`
    returns whether a smaller page may avoid an error. `copy` makes the object for a second place in the results.
    `cached` returns an object from the cache, and `keep` stores the object of a page there.

    By pages, requests are few and most of them run at once. If a limit refuses some, their delays would be most of the
    time. So their requests have `own_delay=False`: which of them is sent first makes no difference to the server.
    """

    locate: Callable[[K_contra], Location]
    fetch: Callable[[K_contra], Awaitable[V]]
    pages: Callable[[Hashable], Fetch[V]]
    attempts: int
    shrink: Callable[[Exception], bool]
    copy: Callable[[V], V]
    cached: Callable[[K_contra], Awaitable[V | None]] | None = None
    keep: Callable[[K_contra, V], Awaitable[object]] | None = None


class WorkQueue(Generic[K, V]):
    """The remaining work of all workers: the keys of each batch, then its scans, then its single reads."""

    def __init__(
        self,
        lookup: Lookup[K, V],
        source: ItemSource[K],
        workers: int,
        progress: ProgressCounter,
        numbers: list[int] | None,
    ) -> None:
        self.lookup = lookup
        self.source = source
        self.workers = workers
        self.progress = progress
        self.numbers = numbers
        self.taken = 0  # keys of this batch
        self.ended = False  # whether the source has ended
        self.collecting = 0  # workers that take keys
        self.places: dict[Hashable, dict[str, Places[K]]] = {}  # by listing and id: what has no result yet
        self.searches: dict[Hashable, PageSearch] = {}
        self.singles: deque[Places[K]] = deque()
        self.failure: Exception | None = None  # an error of the source; the last worker raises it
        self.changed = asyncio.Event()

    async def next_step(self) -> Step[K, V] | None:
        """Wait for work, and return the next step of a worker. Return `None` after the last key of the last batch."""
        while True:
            for listing, search in self.searches.items():
                if (scan := search.begin()) is not None:
                    return partial(self.scan, listing=listing, search=search, scan=scan)
            self.drop_finished()
            if self.singles:
                return partial(self.single, places=self.singles.popleft())
            if self.searches or (self.collecting and self.batch_ended):
                self.changed.clear()
                await self.changed.wait()
            elif self.ended:
                return None
            else:
                return self.collect

    def drop_finished(self) -> None:
        """End the finished searches."""
        for listing, search in [*self.searches.items()]:
            self.drop_if_finished(listing, search)

    def drop_if_finished(self, listing: Hashable, search: PageSearch) -> None:
        """End a search, and plan a single read of each object that it did not find."""
        if search.finished and self.searches.pop(listing, None) is not None:
            self.singles.extend(self.places.pop(listing).values())

    @property
    def batch_ended(self) -> bool:
        return self.ended or self.taken == BATCH

    async def take(self) -> tuple[int, K] | None:
        """Return the next key of this batch, or `None` after the last one."""
        if self.batch_ended:
            return None
        self.taken += 1
        try:
            taken = await self.source.take()
        except Exception as error:  # noqa: BLE001  # raised after the outcomes of the keys before it
            self.failure, taken = error, None
        self.ended = self.ended or taken is None
        return taken

    async def collect(self, channel: Channel[Outcome[K, V]]) -> bool:
        """Take the keys of a batch. An invalid key, or a key in the cache, has its outcome at once."""
        locate, cached = self.lookup.locate, self.lookup.cached
        self.collecting += 1
        try:
            while (taken := await self.take()) is not None:
                self.progress.begin()
                try:
                    listing, each = locate(taken[1])
                    value = None if cached is None else await cached(taken[1])
                except Exception as error:  # noqa: BLE001  # an error of a call is its outcome
                    if not await self.deliver(channel, [([taken], None, error)]):
                        return False
                    continue
                if value is None:
                    self.places.setdefault(listing, {}).setdefault(each, []).append(taken)
                elif not await self.deliver(channel, [([taken], value, None)]):
                    return False
            return True
        finally:
            self.collecting -= 1
            if not self.collecting and self.batch_ended:
                self.start_searches()
                self.changed.set()

    def start_searches(self) -> None:
        self.taken = 0
        lookup = self.lookup
        shared = PageBudget(sum(map(len, self.places.values())))
        for listing, places in [*self.places.items()]:
            search = self.searches[listing] = PageSearch(
                places, workers=self.workers, attempts=lookup.attempts, shrink=lookup.shrink, shared=shared
            )
            self.drop_if_finished(listing, search)

    async def scan(self, channel: Channel[Outcome[K, V]], listing: Hashable, search: PageSearch, scan: Scan) -> bool:
        """Read the pages of a scan, and deliver the wanted objects of each."""
        fetch, keep, places = self.lookup.pages(listing), self.lookup.keep, self.places[listing]
        while not scan.ended:
            try:
                body = await fetch(scan.cursor.after, scan.cursor.limit)
            except Exception as error:  # noqa: BLE001  # the objects of this page are read one by one
                search.failed(scan, error)
                self.drop_if_finished(listing, search)
                self.changed.set()
                continue
            ids = ids_of(body.entries)
            found = search.received(scan, ids, body.last_id, body.has_more)
            wanted_by_id = {each: places.pop(each) for each in found}  # not to be read singly
            self.drop_if_finished(listing, search)
            self.changed.set()
            entries = dict(zip(ids, body.entries, strict=True))
            results: list[Result[K, V]] = []
            for each, wanted in wanted_by_id.items():
                value: V = entries[each] if body.make is None else body.make(entries[each])
                unkept = None
                if keep is not None:  # as for single reads, an error of the cache is the outcome
                    unkept = (await attempt(partial(keep, wanted[0][1]), value)).error
                results.append((wanted, value if unkept is None else None, unkept))
            if not await self.deliver(channel, results):
                return False
        return True

    async def single(self, channel: Channel[Outcome[K, V]], places: Places[K]) -> bool:
        outcome = await attempt(self.lookup.fetch, places[0][1])
        return await self.deliver(channel, [(places, outcome.value, outcome.error)])

    async def deliver(self, channel: Channel[Outcome[K, V]], results: Iterable[Result[K, V]]) -> bool:
        """Deliver results. Returns false after the end. One place of the queue stays reserved."""
        channel.put_all(self.outcomes(results))
        return await channel.reserve()

    def outcomes(self, results: Iterable[Result[K, V]]) -> Iterator[Outcome[K, V]]:
        """Yield the outcome for each place. Each place has its own object, or its own error."""
        for places, first, failure in results:
            value, error = first, failure
            for place, (number, key) in enumerate(places):
                if place:
                    value = first if first is None else self.lookup.copy(first)
                    error = failure if failure is None else twin_of(failure)
                self.progress.end(error is not None)
                if self.numbers is not None:
                    self.numbers.append(number)
                yield Outcome(key, value, error)


def fan_out_by_pages(
    lookup: Lookup[K, V],
    items: Items[K],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    on_progress: OnProgress | None = None,
    numbers: list[int] | None = None,
) -> FanOut[K, V]:
    """Yield the outcomes of `fan_out(lookup.fetch, items)` in any order, with pages instead of most single reads.

    `items` is consumed in batches of 10,000: the first request is sent when a batch is complete, or `items` ends. An
    item that occurs twice is read once, and each place has its own object. The number of the item of each outcome is
    appended to `numbers`.
    """
    source = ItemSource(items)
    workers = checked_concurrency(concurrency, source.total)
    work = WorkQueue(lookup, source, workers, ProgressCounter(source.total, on_progress), numbers)

    async def job(channel: Channel[Outcome[K, V]]) -> None:
        if not await channel.reserve():
            return
        while (step := await work.next_step()) is not None:
            if not await step(channel):
                return
        if work.failure is not None and channel.working == 1:
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
    numbers: list[int] = []
    stream = fan_out_by_pages(lookup, items, concurrency=concurrency, on_progress=on_progress, numbers=numbers)
    async with stream:
        outcomes = [outcome async for outcome in stream]
    in_order = sorted(zip(numbers, outcomes, strict=True), key=itemgetter(0))
    return results_of([outcome for _, outcome in in_order], on_error)

"""Listings: `Pager`, what every `list()` returns, and `Page`, one page of it. Nothing here knows an endpoint.

`PageIterator` goes from page to page: the next one is requested as soon as its cursor is known, while the consumer has
the current one, and never more than one ahead. It is a class and not an async generator so that leaving an `async for`
cancels the request ahead at once (see `fanout`). How a listing moves on, and how it gets over bad pages, is told in
`listing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

import attrs

from evals_async._json import JSONObject
from evals_async._paging.listing import Cursor, Fetch, Listing, PageBody, item_id, too_heavy
from evals_async.errors import InvalidArgument, PaginationError


__all__ = ["MAX_LIMIT", "Fetch", "ItemIterator", "Page", "PageBody", "PageIterator", "Pager", "item_id", "too_heavy"]

T = TypeVar("T")

MAX_LIMIT = 100  # the API's largest page


async def page_after(listing: Listing[T], place: Cursor) -> Page[T]:
    body, onward = await listing.turn(place)
    return Page(body, listing, onward)


@attrs.frozen(eq=False, repr=False)
class Page(Generic[T]):
    """One page. `data` are its items, without those that an earlier page of the listing had.

    `len()`, `[...]` and `for` are about this page; `async for item in page` goes on through all later pages.
    """

    body: PageBody[T]
    listing: Listing[T]
    place: Cursor | None

    @cached_property
    def data(self) -> tuple[T, ...]:
        """The items. They are made when they are first asked for, and then kept."""
        return tuple(self.body)

    @property
    def first_id(self) -> str | None:
        """The id of the first item, where the server tells it."""
        return self.body.first_id

    @property
    def last_id(self) -> str | None:
        """The id of the last item, where the server tells it: the cursor of the next page."""
        return self.body.last_id

    @property
    def has_more(self) -> bool | None:
        """Whether the server says that there are more; `None` where it says nothing."""
        return self.body.has_more

    @property
    def extra(self) -> JSONObject:
        """The fields of the answer that are unknown to us."""
        return self.body.extra

    def has_next_page(self) -> bool:
        """Whether the listing goes on after this page. The page that follows may turn out to be empty."""
        return self.place is not None

    async def get_next_page(self) -> Page[T]:
        """The page after this one. Raises `PaginationError` if this is the last, or if the listing does not move on."""
        if self.place is None:
            raise PaginationError("this is the last page; ask has_next_page() first", after=self.last_id)
        return await page_after(self.listing, self.place)

    def iter_pages(self) -> PageIterator[T]:
        """This page, then all later ones."""
        listing, place = self.listing, self.place
        if place is not None:
            listing = listing.fork(place.number)
            place = attrs.evolve(place, limit=place.limit or listing.wide)
        return PageIterator(listing, place, first=attrs.evolve(self, listing=listing, place=place))

    def __aiter__(self) -> ItemIterator[T]:
        return ItemIterator(self.iter_pages())

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.body.entries)

    def __repr__(self) -> str:
        return f"Page({len(self)} items, last_id={self.last_id!r}, has_more={self.has_more!r})"

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.data[index]


class PageIterator(AsyncIterator[Page[T]]):
    """Page after page. The next one is requested as soon as its cursor is known, at most one ahead.

    Leaving the loop, `aclose`, an error or a cancellation cancels the request that is ahead.
    """

    def __init__(
        self, listing: Listing[T], place: Cursor | None, *, first: Page[T] | None = None, want: int | None = None
    ) -> None:
        self.listing = listing
        self.place = place
        self.first = first
        self.want = want  # how many items the consumer will take; what is certainly not needed is not requested
        self.ahead: asyncio.Task[Page[T]] | None = None
        self.busy = False

    async def __anext__(self) -> Page[T]:
        if self.busy:
            raise RuntimeError("two tasks iterate over the same listing; give each its own")
        self.busy = True
        try:
            page = await self.next_page()
            self.place = page.place
            if self.want is not None:
                self.want -= len(page)
            if page.place is not None and (self.want is None or self.want > 0):
                self.ahead = asyncio.create_task(page_after(self.listing, page.place))
                self.ahead.add_done_callback(retrieve)
                await asyncio.sleep(0)  # lets the request out before the consumer's work begins
        except BaseException:
            self.drop()
            raise
        finally:
            self.busy = False
        return page

    async def next_page(self) -> Page[T]:
        first, self.first = self.first, None
        if first is not None:
            return first
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            return await ahead
        if self.place is None:
            raise StopAsyncIteration
        return await page_after(self.listing, self.place)

    def drop(self) -> asyncio.Task[Page[T]] | None:
        ahead, self.ahead, self.place, self.first = self.ahead, None, None, None
        if ahead is not None:
            ahead.cancel()
        return ahead

    async def aclose(self) -> None:
        """End here: cancel the request ahead and wait until it is gone. Doing it twice is fine."""
        ahead = self.drop()
        if ahead is not None and not ahead.done():
            await asyncio.wait([ahead])

    def __del__(self) -> None:
        # The garbage collector may run this in any thread.
        if self.ahead is not None and not self.ahead.done() and not (loop := self.ahead.get_loop()).is_closed():
            loop.call_soon_threadsafe(self.ahead.cancel)


def retrieve(task: asyncio.Task[Any]) -> None:
    """A failure of the page ahead is raised when the consumer gets there; if he never does, it is nobody's."""
    if not task.cancelled():
        task.exception()


class ItemIterator(AsyncIterator[T]):
    """The items of a `PageIterator`, one after the other."""

    def __init__(self, walk: PageIterator[T]) -> None:
        self.walk = walk
        self.items: Iterator[T] = iter(())

    async def __anext__(self) -> T:
        while True:
            for item in self.items:
                return item
            self.items = iter((await anext(self.walk)).body)

    async def aclose(self) -> None:
        """End here: cancel the request ahead and wait until it is gone."""
        self.items = iter(())
        await self.walk.aclose()


class Pager(Generic[T]):
    """What `list()` returns: `await` it for the first page, `async for` over it for all items, or over `.pages()` for
    all pages.

    Nothing is sent before that, and each use begins anew. Raises, while iterating, what the request raises, after the
    items before it and with `.after` set to where to go on; and `PaginationError` when the listing does not move on.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        *,
        after: str | None = None,
        limit: int | None = None,
        key: Callable[[T], str | None] = item_id,
        max_limit: int = MAX_LIMIT,
        shrink: Callable[[Exception], bool] | None = None,
    ) -> None:
        """`limit` is the page size, for the API's maximum when iterating and the server's default when awaiting, if
        `None`.

        `key` gives an item's id. `shrink` tells the errors that a smaller page may cure (see `too_heavy`): the page
        size is then halved, down to 1, the same cursor is asked again, and the size stays reduced. Raises
        `InvalidArgument` for a `limit` below 1.
        """
        if limit is not None and limit < 1:
            raise InvalidArgument(f"limit must be at least 1, got {limit!r}")
        self.fetch = fetch
        self.after = after
        self.limit = limit
        self.key = key
        self.max_limit = max_limit
        self.shrink = shrink

    def listing(self) -> Listing[T]:
        return Listing(self.fetch, self.key, self.shrink, self.limit or self.max_limit)

    async def first(self) -> Page[T]:
        """The first page; the same as `await pager`."""
        return await page_after(self.listing(), Cursor(number=0, after=self.after, limit=self.limit))

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self.first().__await__()

    def pages(self) -> PageIterator[T]:
        """All pages, one after the other."""
        return self.walk(self.limit or self.max_limit, None)

    def walk(self, size: int, want: int | None) -> PageIterator[T]:
        return PageIterator(self.listing(), Cursor(number=0, after=self.after, limit=size), want=want)

    def __aiter__(self) -> ItemIterator[T]:
        return ItemIterator(self.pages())

    async def collect(self, limit: int | None = None) -> list[T]:
        """All items, or the first `limit` of them; no page is requested that is not needed."""
        if limit is not None and limit < 1:
            return []
        size = self.limit or min(self.max_limit, limit or self.max_limit)
        found: list[T] = []
        walk = self.walk(size, limit)
        try:
            async for page in walk:
                found.extend(page.body)
                if limit is not None and len(found) >= limit:
                    break
        finally:
            await walk.aclose()
        return found[:limit]

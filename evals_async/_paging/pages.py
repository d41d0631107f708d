"""Listings: every `list()` returns a `Pager`; a `Page` is one page. This module does not depend on endpoints.

`PageReader` reads page after page. It requests the next page as soon as its cursor is known, while the consumer uses
the current page. It is never more than one page ahead. The iterators are classes, not async generators: so leaving an
`async for` cancels the request at once (see `fanout`). The module `cursor` decides where a listing continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar, overload

import attrs

from evals_async._json import JSONObject
from evals_async._numbers import whole_number
from evals_async._paging.cursor import Cursor
from evals_async._paging.listing import Fetch, Listing, PageBody, item_id
from evals_async.errors import PaginationError


T = TypeVar("T")

MAX_LIMIT = 100  # the API's largest page

Answer: TypeAlias = tuple[PageBody[T], Cursor | None]
"""One page of a listing, and the cursor of the next page, or `None` at the end."""


@attrs.frozen(eq=False, repr=False)
class Page(Generic[T]):
    """One page of a listing. `data` are its items, without items that an earlier page contained.

    `len()`, `[...]` and `for` use this page only. `async for item in page` continues with all later pages.
    """

    _body: PageBody[T]
    _listing: Listing[T]
    _cursor: Cursor | None  # of the page after this one

    @cached_property
    def data(self) -> tuple[T, ...]:
        """The items. They are created at the first access, and then kept."""
        return tuple(self._body)

    @property
    def first_id(self) -> str | None:
        """The id of the first item, if the server sends it."""
        return self._body.first_id

    @property
    def last_id(self) -> str | None:
        """The id of the last item, if the server sends it. It is the cursor of the next page."""
        return self._body.last_id

    @property
    def has_more(self) -> bool | None:
        """Whether there are more items according to the server; `None` if the field is missing."""
        return self._body.has_more

    @property
    def extra(self) -> JSONObject:
        """The fields of the response that are unknown to this package."""
        return self._body.extra

    def has_next_page(self) -> bool:
        """Whether there is a next page. It may be empty."""
        return self._cursor is not None

    async def get_next_page(self) -> Page[T]:
        """Return the next page. Raises `PaginationError` after the last page, and if the listing cannot continue."""
        if self._cursor is None:
            raise PaginationError("this is the last page; ask has_next_page() first", after=self.last_id)
        body, cursor = await self._listing.page_at(self._cursor)
        return Page(body, self._listing, cursor)

    def iter_pages(self) -> PageIterator[T]:
        """Iterate over this page and all later pages."""
        return PageIterator(self._reader())

    def _reader(self) -> PageReader[T]:
        listing, cursor = self._listing, self._cursor
        if cursor is not None:
            listing = listing.fork(cursor.pages)
            cursor = attrs.evolve(cursor, limit=cursor.limit or listing.wide)
        return PageReader(listing, cursor, first=(self._body, cursor))

    def __aiter__(self) -> ItemIterator[T]:
        return ItemIterator(self._reader())

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self._body.entries)

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook: the items of the page, one per line."""
        from evals_async import _html

        return _html.listed(f"Page of {len(self)}", self.data)

    def __repr__(self) -> str:
        return f"Page({len(self)} items, last_id={self.last_id!r}, has_more={self.has_more!r})"

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.data[index]


class PageReader(Generic[T]):
    """Reads page after page for one consumer. It requests the next page as soon as its cursor is known."""

    def __init__(
        self, listing: Listing[T], cursor: Cursor | None, *, first: Answer[T] | None = None, want: int | None = None
    ) -> None:
        self.listing = listing
        self.cursor = cursor
        self.first = first
        self.want = want  # the number of items that the consumer needs; a page that is not needed is not requested
        self.ahead: asyncio.Task[Answer[T]] | None = None
        self.busy = False

    async def read(self) -> Answer[T]:
        """Return the next page. Raises `StopAsyncIteration` after the last page."""
        if self.busy:
            raise RuntimeError("two tasks iterate over the same listing; give each its own")
        self.busy = True
        try:
            body, cursor = await self.answer()
            self.cursor = cursor
            if self.want is not None:
                self.want -= len(body.entries)
            if cursor is not None and (self.want is None or self.want > 0):
                self.ahead = asyncio.create_task(self.listing.page_at(cursor))
                self.ahead.add_done_callback(observe)
                await asyncio.sleep(0)  # sends the request before the consumer uses this page
        except BaseException:
            self.drop()
            raise
        finally:
            self.busy = False
        return body, cursor

    async def answer(self) -> Answer[T]:
        first, self.first = self.first, None
        if first is not None:
            return first
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            return await ahead
        if self.cursor is None:
            raise StopAsyncIteration
        return await self.listing.page_at(self.cursor)

    def drop(self) -> asyncio.Task[Answer[T]] | None:
        ahead, self.ahead, self.cursor, self.first = self.ahead, None, None, None
        if ahead is not None:
            ahead.cancel()
        return ahead

    async def aclose(self) -> None:
        ahead = self.drop()
        if ahead is not None and not ahead.done():
            await asyncio.wait([ahead])

    def __del__(self) -> None:
        # The garbage collector may run this in any thread.
        if self.ahead is not None and not self.ahead.done() and not (loop := self.ahead.get_loop()).is_closed():
            loop.call_soon_threadsafe(self.ahead.cancel)


def observe(task: asyncio.Task[Any]) -> None:
    """Mark the error of a page as retrieved. It is raised only if the consumer reads this page."""
    if not task.cancelled():
        task.exception()


class PageIterator(AsyncIterator[Page[T]]):
    """Iterates over pages. At most one page is requested in advance, as soon as its cursor is known.

    The end of the loop, `aclose`, an error or a cancellation cancels this request.
    """

    def __init__(self, reader: PageReader[T]) -> None:
        self._reader = reader

    async def __anext__(self) -> Page[T]:
        body, cursor = await self._reader.read()
        return Page(body, self._reader.listing, cursor)

    async def aclose(self) -> None:
        """End the iteration: cancel the request for the next page, and wait for its end. May be called twice."""
        await self._reader.aclose()


class ItemIterator(AsyncIterator[T]):
    """Iterates over the items of a listing. The next page is requested in advance, as by `PageIterator`."""

    def __init__(self, reader: PageReader[T]) -> None:
        self._reader = reader
        self._items: Iterator[T] = iter(())

    async def __anext__(self) -> T:
        while True:
            for item in self._items:
                return item
            body, _ = await self._reader.read()
            self._items = iter(body)

    async def aclose(self) -> None:
        """End the iteration: cancel the request for the next page, and wait for its end."""
        self._items = iter(())
        await self._reader.aclose()


class Pager(Generic[T]):
    """A listing, as `list()` returns it: `await` it for the first page, use `async for` over it for all items, or over
    `.pages()` for all pages.

    No request is sent before that, and each use starts from the beginning. If a page fails, the items before it are
    delivered first. Then the error of the request is raised; its `.after` is the cursor to continue with. Raises
    `PaginationError` if the listing cannot continue.
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
        """`limit` is the page size. If it is `None`, an iteration uses the API's maximum, and `await` the server's
        default.

        `key` returns the id of an item. `shrink` returns whether a smaller page may avoid an error (see `too_heavy`).
        Then the same page is requested with half the size, down to 1, and the size stays reduced. Raises
        `InvalidArgument` if `limit` is not a whole number from 1. Any integer type is accepted.
        """
        if limit is not None:
            limit = whole_number(limit, "limit")
        self._fetch = fetch
        self._after = after
        self._limit = limit
        self._key = key
        self._max_limit = max_limit
        self._shrink = shrink

    def __repr__(self) -> str:
        where = "" if self._after is None else f", after={self._after!r}"
        size = "" if self._limit is None else f", limit={self._limit}"
        use = "`await` it for the first page, `async for` over it for all items"
        return f"<Pager{where}{size}: nothing is requested yet; {use}>"

    def _listing(self) -> Listing[T]:
        return Listing(self._fetch, self._key, self._shrink, self._limit or self._max_limit)

    async def first(self) -> Page[T]:
        """Return the first page, as `await pager` does."""
        listing = self._listing()
        body, cursor = await listing.page_at(Cursor.at(self._after, self._limit))
        return Page(body, listing, cursor)

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self.first().__await__()

    def _reader(self, want: int | None = None) -> PageReader[T]:
        size = self._limit or max(1, min(self._max_limit, want or self._max_limit))
        return PageReader(self._listing(), Cursor.at(self._after, size), want=want)

    def pages(self, limit: int | None = None) -> PageIterator[T]:
        """Iterate over all pages. With `limit`, only the pages of the first `limit` items are requested."""
        return PageIterator(self._reader(limit))

    def __aiter__(self) -> ItemIterator[T]:
        return ItemIterator(self._reader())

    async def collect(self, limit: int | None = None) -> list[T]:
        """Return all items, or the first `limit` items. Only the needed pages are requested."""
        limit = None if limit is None else whole_number(limit, "limit", least=0)
        if limit == 0:
            return []
        found: list[T] = []
        reader = self._reader(limit)
        cursor: Cursor | None = Cursor()
        try:
            while cursor is not None and (limit is None or len(found) < limit):
                body, cursor = await reader.read()
                found.extend(body)
        finally:
            await reader.aclose()
        return found[:limit]

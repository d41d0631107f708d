"""Listings: `Pager`, what every `list()` returns, and `Page`, one page of it. Nothing here knows an endpoint.

A listing is a callable `fetch(after, limit)` that returns a `PageBody`. Around it stand three things:

- `Listing`: one request and what its answer means: which items are new, which cursor comes next, how to get over a
bad page. - `Walk`: page after page, the next one requested while the consumer has the current one, never more than
one ahead. - `Pager` and `Page`: what users hold.

The rules, for servers that are not what they should be:

- The next cursor is the page's `last_id`, or else the id of its last item. `has_more` without either is an error,
never an end. - `has_more: true` on an empty page goes on from there; after 20 pages in a row without anything new it
is an error. - Where `has_more` is missing, the listing ends with a page that is empty, or shorter than the fullest
one before it. (A short *first*
  page proves nothing: a server may give less than it was asked for.)
- A cursor that comes twice (a cycle, a server that ignores `after`, or one that starts again because the cursor's
object was deleted) is
  tried once more from the nearest older id, and is then an error.
- A cursor that is refused on a later page (404, 400: its object was deleted) is replaced by the nearest older id,
twelve times at most. - Items whose id came before in the same listing are left out. That memory, one dict entry per
id, is the only thing that grows.

Walks are classes and not async generators so that leaving an `async for` cancels the request ahead at once (see
`fanout`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, overload

import attrs

from evals_async.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PaginationError,
    RequestError,
    ServerError,
)
from evals_async.jsontext import JSONObject


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_LIMIT = 100  # the API's largest page
SERVER_LIMIT = 20  # the API's page size where none is asked for
MOST_STALE = 20  # pages in a row without anything new
MOST_DETOURS = 12  # cursors in a row that are refused
NOTHING_EXTRA: JSONObject = MappingProxyType({})
TOO_HEAVY = frozenset({408, 500, 502, 504})


@attrs.frozen
class PageBody(Generic[T_co]):
    """One answer of a listing, decoded. `None` stands for a field that was null or missing; `extra` keeps the fields
    unknown to us.
    """

    data: tuple[T_co, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None
    extra: JSONObject = attrs.field(default=NOTHING_EXTRA, hash=False)


Fetch: TypeAlias = Callable[[str | None, int | None], Awaitable[PageBody[T]]]
"""`await fetch(after, limit)`: the page after that cursor (`None`: from the start), of that size (`None`: the
server's own).
"""


def item_id(item: object) -> str | None:
    """The `id` of an item, where it has one."""
    found = getattr(item, "id", None)
    return found if isinstance(found, str) else None


def too_heavy(error: Exception) -> bool:
    """Whether a smaller page may cure the error: 408, 500, 502, 504, a timeout, a body over the limit."""
    if isinstance(error, ServerError):
        return error.status in TOO_HEAVY
    return isinstance(error, DeadlineExceeded | BodyTooLarge)


@attrs.frozen(kw_only=True)
class Place:
    """Where a listing stands: all that is needed to ask for the page after it."""

    number: int  # pages before this place
    after: str | None
    limit: int | None
    fullest: int = 0
    stale: int = 0
    detoured: bool = False
    fault: str | None = None  # why there is no next page although there should be one


class Listing(Generic[T]):
    """One listing: asks for pages, and remembers which ids and cursors were on which page.

    Pages are numbered, so that asking twice for what follows page 3 gives the same items twice.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        key: Callable[[T], str | None],
        shrink: Callable[[Exception], bool] | None,
        wide: int,
    ) -> None:
        self.fetch = fetch
        self.key = key
        self.shrink = shrink
        self.wide = wide
        self.seen: dict[str, int] = {}
        self.asked: dict[str | None, int] = {}

    def fork(self, number: int) -> Listing[T]:
        """A listing of its own that remembers the first `number` pages."""
        twin = Listing(self.fetch, self.key, self.shrink, self.wide)
        twin.seen = {key: page for key, page in self.seen.items() if page <= number}
        twin.asked = {cursor: page for cursor, page in self.asked.items() if page <= number}
        return twin

    async def page(self, place: Place) -> Page[T]:
        """The page after `place`. Raises what `fetch` raises, and `PaginationError`."""
        if place.fault:
            raise PaginationError(place.fault, after=place.after)
        body, place = await self.ask(place)
        number = place.number + 1
        self.asked.setdefault(place.after, number)
        fresh = tuple(item for item in body.data if self.is_new(self.key(item), number))
        return Page(
            data=fresh,
            first_id=body.first_id,
            last_id=body.last_id,
            has_more=body.has_more,
            extra=body.extra,
            listing=self,
            place=self.following(place, body, bool(fresh)),
        )

    def is_new(self, key: str | None, number: int) -> bool:
        if key is None:
            return True
        if self.seen.get(key, number) < number:
            return False
        self.seen[key] = number
        return True

    async def ask(self, place: Place) -> tuple[PageBody[T], Place]:
        gone: set[str] = set()
        while True:
            try:
                return await self.fetch(place.after, place.limit), place
            except Exception as error:
                if self.shrink is not None and place.limit != 1 and self.shrink(error):
                    place = attrs.evolve(place, limit=max(1, (place.limit or SERVER_LIMIT) // 2))
                elif isinstance(error, NotFound | BadRequest) and place.number and place.after is not None:
                    gone.add(place.after)
                    place = attrs.evolve(place, after=self.older(gone, place, error))
                else:
                    mark(error, place)
                    raise

    def older(self, gone: set[str], place: Place, error: Exception) -> str:
        """The nearest id before the cursors that are `gone`."""
        older = next((key for key in reversed(self.seen) if key not in gone), None)
        if older is None or len(gone) > MOST_DETOURS:
            text = f"the cursor {place.after!r} was refused, and so were {len(gone) - 1} older ones"
            raise PaginationError(text, after=place.after) from error
        return older

    def following(self, place: Place, body: PageBody[T], fresh: bool) -> Place | None:
        """Where the listing stands after the answer `body` at `place`; `None` at its end."""
        size, least = len(body.data), min(place.fullest, place.limit or place.fullest)
        if body.has_more is False or (body.has_more is None and (size == 0 or size < least)):
            return None
        onward = attrs.evolve(
            place,
            number=place.number + 1,
            fullest=max(place.fullest, size),
            stale=0 if fresh else place.stale + 1,
        )
        if onward.stale >= MOST_STALE:
            return attrs.evolve(onward, fault=f"{MOST_STALE} pages in a row brought nothing new")
        if not body.data:
            return attrs.evolve(onward, after=body.last_id or place.after)
        cursor = body.last_id or self.key(body.data[-1])
        if cursor is None:
            return attrs.evolve(onward, fault="the server says that there is more, but the page has no cursor")
        if self.asked.get(cursor, onward.number + 1) > onward.number:
            return attrs.evolve(onward, after=cursor, detoured=False)
        return self.detour(onward, cursor)

    def detour(self, place: Place, cursor: str) -> Place:
        """The cursor was asked before: once, go on from the nearest older id instead."""
        older = next((key for key in reversed(self.seen) if key not in (cursor, place.after)), None)
        if place.detoured or older is None:
            return attrs.evolve(place, fault=f"the cursor {cursor!r} came twice: the listing does not move on")
        return attrs.evolve(place, after=older, detoured=True)


def mark(error: Exception, place: Place) -> None:
    """Say on an error of a later page where the listing stood."""
    if place.number and place.after is not None:
        if isinstance(error, RequestError):
            error.after = place.after
        error.add_note(f"page {place.number + 1} of a listing failed; to go on where it stood: after={place.after!r}")


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """One page. `data` are its items, without those that an earlier page of the listing had.

    `len()`, `[...]` and `for` are about this page; `async for item in page` goes on through all later pages.
    """

    data: tuple[T, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None
    extra: JSONObject = attrs.field(default=NOTHING_EXTRA, hash=False)
    listing: Listing[T] = attrs.field(repr=False, eq=False)
    place: Place | None = attrs.field(repr=False, eq=False)

    def has_next_page(self) -> bool:
        """Whether the listing goes on after this page. The page that follows may turn out to be empty."""
        return self.place is not None

    async def get_next_page(self) -> Page[T]:
        """The page after this one. Raises `PaginationError` if this is the last, or if the listing does not move on."""
        if self.place is None:
            raise PaginationError("this is the last page; ask has_next_page() first", after=self.last_id)
        return await self.listing.page(self.place)

    def iter_pages(self) -> Walk[T]:
        """This page, then all later ones."""
        listing, place = self.listing, self.place
        if place is not None:
            listing = listing.fork(place.number)
            place = attrs.evolve(place, limit=place.limit or listing.wide)
        return Walk(listing, place, first=self)

    def __aiter__(self) -> AsyncIterator[T]:
        return ItemWalk(self.iter_pages())

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.data[index]


class Walk(AsyncIterator[Page[T]]):
    """Page after page. The next one is requested as soon as its cursor is known, at most one ahead.

    Leaving the loop, `aclose`, an error or a cancellation cancels the request that is ahead.
    """

    def __init__(
        self, listing: Listing[T], place: Place | None, *, first: Page[T] | None = None, want: int | None = None
    ) -> None:
        self.listing = listing
        self.place = place
        self.first = first
        self.want = want  # how many items the consumer will take; what is certainly not needed is not requested
        self.ahead: asyncio.Task[Page[T]] | None = None

    async def __anext__(self) -> Page[T]:
        try:
            page = await self.next_page()
            self.place = page.place
            if self.want is not None:
                self.want -= len(page.data)
            if page.place is not None and (self.want is None or self.want > 0):
                self.ahead = asyncio.create_task(self.listing.page(page.place))
                self.ahead.add_done_callback(retrieve)
                await asyncio.sleep(0)  # lets the request out before the consumer's work begins
        except BaseException:
            self.drop()
            raise
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
        return await self.listing.page(self.place)

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


class ItemWalk(AsyncIterator[T]):
    """The items of a `Walk`, one after the other."""

    def __init__(self, walk: Walk[T]) -> None:
        self.walk = walk
        self.items: Iterator[T] = iter(())

    async def __anext__(self) -> T:
        while True:
            for item in self.items:
                return item
            self.items = iter((await anext(self.walk)).data)

    async def aclose(self) -> None:
        """End here: cancel the request ahead and wait until it is gone."""
        self.items = iter(())
        await self.walk.aclose()


class Pager(Generic[T]):
    """What `list()` returns: `await` it for the first page, `async for` over it for all items, or over `.pages()` for
    all pages.

    Nothing is sent before that, and each use begins anew. Raises, while iterating, what the request raises, after the
    items before it and with `.after` set to where to go on; and `PaginationError` when the listing does not move on."""

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
        `InvalidArgument` for a `limit` below 1."""
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
        return await self.listing().page(Place(number=0, after=self.after, limit=self.limit))

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self.first().__await__()

    def pages(self) -> Walk[T]:
        """All pages, one after the other."""
        return self.walk(self.limit or self.max_limit, None)

    def walk(self, size: int, want: int | None) -> Walk[T]:
        return Walk(self.listing(), Place(number=0, after=self.after, limit=size), want=want)

    def __aiter__(self) -> AsyncIterator[T]:
        return ItemWalk(self.pages())

    async def collect(self, limit: int | None = None) -> list[T]:
        """All items, or the first `limit` of them; no page is requested that is not needed."""
        if limit is not None and limit < 1:
            return []
        size = self.limit or min(self.max_limit, limit or self.max_limit)
        found: list[T] = []
        walk = self.walk(size, limit)
        try:
            async for page in walk:
                found.extend(page.data)
                if limit is not None and len(found) >= limit:
                    break
        finally:
            await walk.aclose()
        return found[:limit]

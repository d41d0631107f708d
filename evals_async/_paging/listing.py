"""One listing, request by request: what to ask for, and what an answer means. No pages for users here, no iteration.

A listing is a callable `fetch(after, limit)` that returns a `PageBody`. `Listing` remembers what came, `Cursor` says
where it stands.

The rules, for servers that are not what they should be:

- The next cursor is the page's `last_id`, or else the id of its last item. `has_more` without either is an error,
  never an end.
- `has_more: true` on an empty page goes on from there; 20 pages in a row without anything new are an error.
- Where `has_more` is missing, the listing ends with a page that is empty, or shorter than the fullest one before it.
  (A short *first* page proves nothing: a server may give less than it was asked for.)
- A cursor that comes twice is tried once more from the nearest older id, and is then an error. That covers a cycle, a
  server that ignores `after`, and one that starts again because the cursor's object was deleted.
- A cursor that is refused on a later page (404 or 400: its object was deleted) is replaced by the nearest older id,
  twelve times in a row at most.
- Items whose id came before in the same listing are left out. That memory, one dict entry per id, is the only thing
  that grows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Set as AbstractSet
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, cast

import attrs

from evals_async._json import JSONObject
from evals_async.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    NotFound,
    PaginationError,
    RequestError,
    ServerError,
)


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SERVER_LIMIT = 20  # the API's page size where none is asked for
MOST_STALE = 20  # pages in a row without anything new
MOST_DETOURS = 12  # cursors in a row that are refused
NOTHING_EXTRA: JSONObject = MappingProxyType({})
TOO_HEAVY = frozenset({408, 500, 502, 504})


@attrs.frozen(eq=False)
class PageBody(Generic[T_co]):
    """One answer of a listing, decoded. `None` stands for a field that was null or missing; `extra` keeps the fields
    unknown to us.

    `entries` are the items as they were read and checked, and `make`, if there is one, makes of each the object that
    users see. It never fails, and gives an equal object each time. An entry has the object's fields as attributes.
    """

    entries: tuple[Any, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None
    extra: JSONObject = NOTHING_EXTRA
    make: Callable[[Any], T_co] | None = None

    def __iter__(self) -> Iterator[T_co]:
        """Each item is made when it is asked for, so that one is in memory at a time."""
        return iter(self.entries) if self.make is None else map(self.make, self.entries)


Fetch: TypeAlias = Callable[[str | None, int | None], Awaitable[PageBody[T]]]
"""`await fetch(after, limit)`: the page after that cursor (`None`: from the start), of that size (`None`: the
server's own).
"""


def item_id(item: object) -> str | None:
    """The `id` of an item, where it has one."""
    found = getattr(item, "id", None)
    return found if isinstance(found, str) else None


def ids_of(items: tuple[Any, ...]) -> list[str | None]:
    """The ids of many items. Mostly all have one, which is seen without a call for each."""
    try:
        ids = list(map(attrgetter("id"), items))
    except AttributeError:
        return list(map(item_id, items))
    return ids if set(map(type, ids)) <= {str} else list(map(item_id, items))


def too_heavy(error: Exception) -> bool:
    """Whether a smaller page may cure the error: 408, 500, 502, 504, a timeout, a body over the limit."""
    if isinstance(error, ServerError):
        return error.status in TOO_HEAVY
    return isinstance(error, DeadlineExceeded | BodyTooLarge)


@attrs.frozen(kw_only=True)
class Cursor:
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

    async def turn(self, place: Cursor) -> tuple[PageBody[T], Cursor | None]:
        """The page after `place`, without items that came before, and the place after it; `None` at the end.

        Raises what `fetch` raises, and `PaginationError`.
        """
        if place.fault:
            raise PaginationError(place.fault, after=place.after)
        body, place = await self.ask(place)
        number = place.number + 1
        self.asked.setdefault(place.after, number)
        fresh = self.fresh_of(body.entries, number)
        onward = self.following(place, body, bool(fresh))
        return body if fresh is body.entries else attrs.evolve(body, entries=fresh), onward

    def fresh_of(self, entries: tuple[Any, ...], number: int) -> tuple[Any, ...]:
        """The items that no earlier page had. On nearly every page that is all of them, which is seen all at once."""
        keys = ids_of(entries) if self.key is item_id else list(map(self.key, entries))
        new = dict.fromkeys(keys, number)
        if len(new) == len(entries) and None not in new and self.seen.keys().isdisjoint(new):
            self.seen.update(cast("dict[str, int]", new))
            return entries
        return tuple(entry for entry, key in zip(entries, keys, strict=True) if self.is_new(key, number))

    def is_new(self, key: str | None, number: int) -> bool:
        if key is None:
            return True
        if self.seen.get(key, number) < number:
            return False
        self.seen[key] = number
        return True

    async def ask(self, place: Cursor) -> tuple[PageBody[T], Cursor]:
        gone: set[str | None] = set()
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

    def older(self, gone: AbstractSet[str | None], place: Cursor, error: Exception) -> str:
        """The nearest id before the cursors that are `gone`."""
        older = self.nearest(place, gone)
        if older is None or len(gone) > MOST_DETOURS:
            text = f"the cursor {place.after!r} was refused, and so were {len(gone) - 1} older ones"
            raise PaginationError(text, after=place.after) from error
        return older

    def nearest(self, place: Cursor, but: AbstractSet[str | None]) -> str | None:
        """The id that came last before `place`, but for those."""
        return next((key for key in reversed(self.seen) if self.seen[key] <= place.number and key not in but), None)

    def following(self, place: Cursor, body: PageBody[T], fresh: bool) -> Cursor | None:
        """Where the listing stands after the answer `body` at `place`; `None` at its end."""
        size, least = len(body.entries), min(place.fullest, place.limit or place.fullest)
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
        if not body.entries:
            return attrs.evolve(onward, after=body.last_id or place.after)
        cursor = body.last_id or self.key(body.entries[-1])
        if cursor is None:
            return attrs.evolve(onward, fault="the server says that there is more, but the page has no cursor")
        if self.asked.get(cursor, onward.number + 1) > onward.number:
            return attrs.evolve(onward, after=cursor, detoured=False)
        return self.detour(onward, cursor)

    def detour(self, place: Cursor, cursor: str) -> Cursor:
        """The cursor was asked before: once, go on from the nearest older id instead."""
        older = self.nearest(place, {cursor, place.after})
        if place.detoured or older is None:
            return attrs.evolve(place, fault=f"the cursor {cursor!r} came twice: the listing does not move on")
        return attrs.evolve(place, after=older, detoured=True)


def mark(error: Exception, place: Cursor) -> None:
    """Say on an error of a later page where the listing stood."""
    if place.number and place.after is not None:
        if isinstance(error, RequestError):
            error.after = place.after
        error.add_note(f"page {place.number + 1} of a listing failed; to go on where it stood: after={place.after!r}")

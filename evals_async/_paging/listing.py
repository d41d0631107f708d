"""One listing, request by request: it asks for pages, and remembers which ids came on which page.

A listing is a callable `fetch(after, limit)` that returns a `PageBody`. Where it goes on is decided in `cursor`. Items
whose id came before in the same listing are left out. That memory, one dictionary entry per id, is the only thing that
grows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, cast

import attrs

from evals_async._json import JSONObject
from evals_async._paging.cursor import Cursor, may_step_back, next_cursor, older_cursor, smaller_page
from evals_async.errors import BadRequest, NotFound, PaginationError, RequestError


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

NOTHING_EXTRA: JSONObject = MappingProxyType({})


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


class Listing(Generic[T]):
    """One listing: asks for pages, and remembers which ids were on which page.

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

    def fork(self, pages: int) -> Listing[T]:
        """A listing of its own that remembers the first `pages` pages."""
        twin = Listing(self.fetch, self.key, self.shrink, self.wide)
        twin.seen = {key: page for key, page in self.seen.items() if page <= pages}
        return twin

    async def page_at(self, cursor: Cursor) -> tuple[PageBody[T], Cursor | None]:
        """The page at `cursor`, without items that came before, and the cursor after it; `None` at the end.

        Raises what `fetch` raises, and `PaginationError`.
        """
        cursor.check()
        body, cursor = await self.ask(cursor)
        entries = body.entries
        ids = ids_of(entries) if self.key is item_id else list(map(self.key, entries))
        fresh = self.fresh_of(ids, cursor.pages + 1)
        if len(fresh) == len(ids):
            new_ids = ids
        else:
            body = attrs.evolve(body, entries=tuple(entries[index] for index in fresh))
            new_ids = [ids[index] for index in fresh]
        return body, next_cursor(cursor, ids, new_ids, last_id=body.last_id, has_more=body.has_more)

    def fresh_of(self, ids: list[str | None], page: int) -> range | list[int]:
        """The indexes of the items that no earlier page had. On nearly every page that is all of them, which is seen
        all at once.
        """
        new = dict.fromkeys(ids, page)
        if len(new) == len(ids) and None not in new and self.seen.keys().isdisjoint(new):
            self.seen.update(cast("dict[str, int]", new))
            return range(len(ids))
        return [index for index, key in enumerate(ids) if self.is_new(key, page)]

    def is_new(self, key: str | None, page: int) -> bool:
        if key is None:
            return True
        if self.seen.get(key, page) < page:
            return False
        self.seen[key] = page
        return True

    async def ask(self, cursor: Cursor) -> tuple[PageBody[T], Cursor]:
        """The answer, and the cursor that it was got with: an older one, or one with a smaller page."""
        while True:
            try:
                return await self.fetch(cursor.after, cursor.limit), cursor
            except Exception as error:
                if self.shrink is not None and cursor.limit != 1 and self.shrink(error):
                    cursor = smaller_page(cursor)
                elif isinstance(error, NotFound | BadRequest) and may_step_back(cursor):
                    older = older_cursor(cursor)
                    if older.fault is not None:
                        raise PaginationError(older.fault, after=older.after) from error
                    cursor = older
                else:
                    mark(error, cursor)
                    raise


def mark(error: Exception, cursor: Cursor) -> None:
    """Say on an error of a later page where the listing stood."""
    if cursor.pages and cursor.after is not None:
        if isinstance(error, RequestError):
            error.after = cursor.after
        error.add_note(f"page {cursor.pages + 1} of a listing failed; to go on where it stood: after={cursor.after!r}")

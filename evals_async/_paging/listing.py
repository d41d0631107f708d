"""One listing: it requests pages, and stores the ids of each page.

A listing is a callable `fetch(after, limit)` that returns a `PageBody`. The module `cursor` decides where it continues.
Items with an id of an earlier page are removed. The stored ids, one dictionary entry each, are all that grows.
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
    """The decoded body of a page. A field that is null or missing is `None`. `extra` has the unknown fields.

    `entries` are the decoded items. If there is a `make`, it makes the object for users from an entry. It never
    fails, and returns an equal object each time. An entry has the fields of the object as attributes.
    """

    entries: tuple[Any, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None
    extra: JSONObject = NOTHING_EXTRA
    make: Callable[[Any], T_co] | None = None

    def __iter__(self) -> Iterator[T_co]:
        """Make the items one by one, so that only one is in memory at a time."""
        return iter(self.entries) if self.make is None else map(self.make, self.entries)


Fetch: TypeAlias = Callable[[str | None, int | None], Awaitable[PageBody[T]]]
"""`await fetch(after, limit)` returns the page after this id (`None`: the first page) with at most `limit` items
(`None`: the default of the server).
"""


def item_id(item: object) -> str | None:
    """Return the `id` of an item, or `None` if it has none."""
    found = getattr(item, "id", None)
    return found if isinstance(found, str) else None


def ids_of(items: tuple[Any, ...]) -> list[str | None]:
    """Return the ids of many items. If all have one, no call per item is needed."""
    try:
        ids = list(map(attrgetter("id"), items))
    except AttributeError:
        return list(map(item_id, items))
    return ids if set(map(type, ids)) <= {str} else list(map(item_id, items))


class Listing(Generic[T]):
    """Requests the pages of one listing, and stores the ids of each page.

    Pages are numbered. So a second request for the page after page 3 returns the same items again.
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
        """Return a separate listing that knows the ids of the first `pages` pages."""
        twin = Listing(self.fetch, self.key, self.shrink, self.wide)
        twin.seen = {key: page for key, page in self.seen.items() if page <= pages}
        return twin

    async def page_at(self, cursor: Cursor) -> tuple[PageBody[T], Cursor | None]:
        """Return the page at `cursor` without known items, and the next cursor, or `None` at the end.

        Raises the errors of `fetch`, and `PaginationError`.
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
        """Return the indexes of the new items. Usually all items are new; then no loop over them is needed."""
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
        """Return a page and the cursor that was used: it may be older, or have a smaller page size."""
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
    """Add the position of the listing to the error of a page."""
    if cursor.pages and cursor.after is not None:
        if isinstance(error, RequestError):
            error.after = cursor.after
        error.add_note(f"page {cursor.pages + 1} of a listing failed; to go on where it stood: after={cursor.after!r}")

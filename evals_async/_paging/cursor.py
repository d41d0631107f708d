"""Where a listing continues: one pure function per event, and one table of rules.

A `Cursor` is the state of a listing, except the set of known ids. The caller passes which ids of a page are new. The
pager keeps the known ids in a dictionary, the export in its store. This module performs no I/O.

These rules apply to every listing of every server. "Broken" means that `PaginationError` is raised:

=============================================== ======================================================================
response of the server                          where the listing continues
=============================================== ======================================================================
`has_more: false`                               it ends
`has_more` is missing, the page has no items    it ends
`has_more` is missing, the page has fewer items it ends (a short first page is not enough: a server may return fewer
than requested and than an earlier page         items than requested)
new items                                       after `last_id`, or else after the id of the last item
new items, but no id to continue after          it is broken
`has_more: true`, the page has no items         after `last_id`, or else after the same cursor again
items, but no new items                         after the nearest older id; the second time in a row it is broken,
                                                except for the same page from a server that moved before
the cursor is refused: 404 or 400               after the nearest older id, or broken if there is none; for the first
                                                page, the error is raised
20 responses in a row without new items         it is broken
the page is too large, see `too_heavy`          after the same cursor, with half the page size; the size stays reduced
=============================================== ======================================================================

The reasons: a listing does not end at an empty or short page while `has_more` is true. Some servers refuse a deleted
object as a cursor. Other servers start again at the first page. The nearest older id that still exists solves both. A
server that ignores `after`, or repeats its pages, never returns new items: after two additional requests this is an
error.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from evals_async import _json
from evals_async._json import as_array, as_object
from evals_async.errors import BodyTooLarge, DeadlineExceeded, PaginationError, ServerError


SERVER_LIMIT = 20  # the page size of the API if the request has no limit
MOST_STALE = 20  # responses in a row without new items
MOST_RECENT = 2 * MOST_STALE  # ids that are kept for a step back
TOO_HEAVY = frozenset({408, 500, 502, 504})


@attrs.frozen(kw_only=True)
class Cursor:
    """The position in a listing: all that is needed to request the next page.

    - `after`: the id before the next page (`None`: the first page). `limit`: the page size (`None`: the default).
    - `start`: the `after` of the first page. `pages`: the number of pages before this position.
    - `fullest`: the largest number of items on one page. `recent`: the last new ids, oldest first.
    - `stale`: the number of responses in a row without new items. `repeated`: the first id of a repeated page.
    - `moved`: whether the server returned new items after a cursor.
    - `fault`: the reason why there is no next page, although there should be one.
    """

    after: str | None = None
    limit: int | None = None
    start: str | None = None
    pages: int = 0
    fullest: int = 0
    recent: tuple[str, ...] = ()
    stale: int = 0
    repeated: str | None = None
    moved: bool = False
    fault: str | None = None

    @classmethod
    def at(cls, after: str | None = None, limit: int | None = None) -> Cursor:
        """Return the start of a listing: after an id, or at its first object."""
        return cls(after=after, limit=limit, start=after)

    @classmethod
    def of(cls, text: str) -> Cursor:
        """Return the cursor of a text from `text()`. Raises `ValueError` for another text."""
        fields = as_object(_json.parse(text.encode()))
        if fields is None:
            raise ValueError("a cursor is kept as a JSON object")
        after, limit, start = fields.get("after"), fields.get("limit"), fields.get("start")
        pages, fullest = fields.get("pages"), fields.get("fullest")
        stale, repeated = fields.get("stale"), fields.get("repeated")
        return cls(
            after=after if isinstance(after, str) else None,
            limit=limit if isinstance(limit, int) else None,
            start=start if isinstance(start, str) else None,
            pages=pages if isinstance(pages, int) else 0,
            fullest=fullest if isinstance(fullest, int) else 0,
            recent=tuple(map(str, as_array(fields.get("recent")) or ())),
            stale=stale if isinstance(stale, int) else 0,
            repeated=repeated if isinstance(repeated, str) else None,
            moved=fields.get("moved") is True,
        )

    def text(self) -> str:
        """Return the cursor as JSON, so that another process can continue the listing."""
        fields = attrs.asdict(self, filter=lambda field, value: field.name != "fault")
        return _json.canonical(fields).decode()

    def check(self) -> None:
        """Raise `PaginationError` if the listing cannot continue from here."""
        if self.fault is not None:
            raise PaginationError(self.fault, after=self.after)


def next_cursor(
    cursor: Cursor,
    ids: Sequence[str | None],
    fresh: Sequence[str | None],
    *,
    last_id: str | None,
    has_more: bool | None,
) -> Cursor | None:
    """Return the cursor after a page, or `None` at the end of the listing.

    `ids` are the ids of the items on the page. `fresh` are the ids that no earlier page contained. An item without an
    id is `None` in both. If the listing cannot continue, the cursor has a `fault`.
    """
    size = len(ids)
    if has_more is False or (has_more is None and (not ids or size < min(cursor.fullest, cursor.limit or size))):
        return None
    cursor = attrs.evolve(cursor, pages=cursor.pages + 1, fullest=max(cursor.fullest, size))
    if fresh:
        # Usually all ids of a page are new, so only the last ones are read.
        newest = [each for each in fresh[-MOST_RECENT:] if each is not None]
        recent = (*cursor.recent, *newest)[-MOST_RECENT:]
        after = last_id or ids[-1]
        if after is None:
            fault = "the server says that there is more, but the page has no cursor"
            return attrs.evolve(cursor, recent=recent, fault=fault)
        moved = cursor.moved or bool(cursor.recent)
        return attrs.evolve(cursor, after=after, recent=recent, stale=0, repeated=None, moved=moved)
    cursor = attrs.evolve(cursor, stale=cursor.stale + 1)
    if cursor.stale >= MOST_STALE:
        fault = f"the listing does not move on: {MOST_STALE} pages in a row brought nothing new"
        return attrs.evolve(cursor, fault=fault)
    if not ids:
        return attrs.evolve(cursor, after=last_id or cursor.after)
    older = older_id(cursor)
    begins_again = cursor.repeated is None or (cursor.moved and cursor.repeated == ids[0])
    if older is None or not begins_again:
        fault = f"the listing does not move on: what came after {cursor.after!r} had come before"
        return attrs.evolve(cursor, fault=fault)
    return attrs.evolve(cursor, after=older, repeated=ids[0])


def older_cursor(cursor: Cursor) -> Cursor:
    """Return the cursor to use after a refused one: the same position, after the nearest older id."""
    older = older_id(cursor)
    if older is None or cursor.stale >= MOST_STALE:
        refused = f"the cursor {cursor.after!r} was refused"
        return attrs.evolve(cursor, fault=f"{refused}, and so were {cursor.stale} others" if cursor.stale else refused)
    return attrs.evolve(cursor, after=older, stale=cursor.stale + 1)


def older_id(cursor: Cursor) -> str | None:
    recent = cursor.recent
    # If `after` is not the id of an item, the newest id is the nearest.
    index = recent.index(cursor.after) if cursor.after in recent else len(recent)
    return recent[index - 1] if index else None


def may_step_back(cursor: Cursor) -> bool:
    """Whether a response 404 or 400 may concern the object of the cursor, and not the listing itself."""
    return bool(cursor.recent) and cursor.after != cursor.start


def smaller_page(cursor: Cursor, came: int | None = None) -> Cursor:
    """Return the same position with half the page size: half of the limit, or of the `came` items."""
    size = cursor.limit or SERVER_LIMIT
    return attrs.evolve(cursor, limit=max(1, min(came or size, size) // 2))


def too_heavy(error: Exception) -> bool:
    """Whether a smaller page may avoid the error: 408, 500, 502, 504, a timeout, or a body above the limit.

    A call that was never sent only waited for the limiter.
    """
    if isinstance(error, ServerError):
        return error.status in TOO_HEAVY
    if isinstance(error, DeadlineExceeded):
        return error.attempts > 0
    return isinstance(error, BodyTooLarge)

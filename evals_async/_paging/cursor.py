"""Where a listing goes on: one pure function for each thing that can happen, and one table of rules.

A `Cursor` is the whole state of a listing, but for the memory of ids: which ids of a page are new is told by the
caller. The pager keeps that memory in a dictionary, the export asks its store. Nothing here performs I/O.

The rules hold for every listing of every server:

=============================================== ======================================================================
what the server answers                         where the listing goes on
=============================================== ======================================================================
`has_more: false`                               it ends
`has_more` is missing, the page has no items    it ends
`has_more` is missing, the page has fewer items it ends (a short first page proves nothing: a server may give less than
than it was asked for and than an earlier page  it was asked for)
something new                                   after `last_id`, or else after the id of the last item
something new, but no id to go on with          it is broken
`has_more: true`, the page has no items         after `last_id`, or else after the same cursor again
items, but nothing new                          after the nearest older id; the second time in a row it is broken, but
                                                for the same page from a server that went on after a cursor before
the cursor is refused: 404 or 400               after the nearest older id, or broken if there is none; a refusal of the
                                                first page is the error of the listing itself
20 answers in a row without anything new        it is broken
the page is too heavy, see `too_heavy`          after the same cursor, with half the page; the size stays reduced
=============================================== ======================================================================

The reasons: a listing never ends because a page is empty or short while the server says that there is more. An object
that was deleted is refused as a cursor by some servers. Others begin again, with the same page for each cursor that was
deleted. The nearest older id that still exists cures both. A server that ignores `after`, and one that goes round in
circles, bring nothing new for ever: after two requests too many that is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from evals_async import _json
from evals_async._json import as_array, as_object
from evals_async.errors import BodyTooLarge, DeadlineExceeded, PaginationError, ServerError


SERVER_LIMIT = 20  # the API's page size where none is asked for
MOST_STALE = 20  # answers in a row without anything new
MOST_RECENT = 2 * MOST_STALE  # ids that are remembered to step back to
TOO_HEAVY = frozenset({408, 500, 502, 504})


@attrs.frozen(kw_only=True)
class Cursor:
    """Where a listing stands: all that is needed to ask for the next page.

    `after` is the id to ask after (`None`: from the beginning), `limit` the page size (`None`: the server's own).
    `start` is the `after` that the listing began with, `pages` how many pages came before, `fullest` how many items the
    fullest of them had, and `recent` the last ids that were new, oldest first. `stale` is how many answers in a row
    brought nothing new; if one of them was a page of items that came before, `repeated` is its first id. `moved` tells
    that the server did go on after a cursor. `fault` says why there is no next page although there should be one.
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
        """The beginning of a listing that starts after an id, or at its first object."""
        return cls(after=after, limit=limit, start=after)

    @classmethod
    def of(cls, text: str) -> Cursor:
        """The cursor that `text()` made this text of. Raises `ValueError` for a text that is none."""
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
        """The cursor as JSON, for a process that goes on with the listing later."""
        fields = attrs.asdict(self, filter=lambda field, value: field.name != "fault")
        return _json.canonical(fields).decode()

    def check(self) -> None:
        """Raise `PaginationError` if the listing does not move on from here."""
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
    """Where a listing stands after a page; `None` at its end. See the table of rules above.

    `ids` are the ids of the page's items, `fresh` those of them that no earlier page had. An item without an id is
    `None` in both.
    """
    size = len(ids)
    if has_more is False or (has_more is None and (not ids or size < min(cursor.fullest, cursor.limit or size))):
        return None
    cursor = attrs.evolve(cursor, pages=cursor.pages + 1, fullest=max(cursor.fullest, size))
    if fresh:
        # A whole page of new ids is the usual case: only its end is looked at.
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
    """The same place, asked for after the nearest older id, for a cursor that is refused. See the table of rules."""
    older = older_id(cursor)
    if older is None or cursor.stale >= MOST_STALE:
        refused = f"the cursor {cursor.after!r} was refused"
        return attrs.evolve(cursor, fault=f"{refused}, and so were {cursor.stale} others" if cursor.stale else refused)
    return attrs.evolve(cursor, after=older, stale=cursor.stale + 1)


def older_id(cursor: Cursor) -> str | None:
    recent = cursor.recent
    # A `last_id` that is no item's id, or the beginning: the newest id is the nearest.
    index = recent.index(cursor.after) if cursor.after in recent else len(recent)
    return recent[index - 1] if index else None


def may_step_back(cursor: Cursor) -> bool:
    """Whether a refusal (404, 400) may be about the cursor's object, and not about the listing itself."""
    return bool(cursor.recent) and cursor.after != cursor.start


def smaller_page(cursor: Cursor, came: int | None = None) -> Cursor:
    """The same place with half the page: half of what was asked for, or of the number of items that `came`."""
    size = cursor.limit or SERVER_LIMIT
    return attrs.evolve(cursor, limit=max(1, min(came or size, size) // 2))


def too_heavy(error: Exception) -> bool:
    """Whether a smaller page may cure the error: 408, 500, 502, 504, a timeout, a body over the limit."""
    if isinstance(error, ServerError):
        return error.status in TOO_HEAVY
    return isinstance(error, DeadlineExceeded | BodyTooLarge)

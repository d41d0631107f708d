"""Where the copy of a listing stands, and where it goes on: pure functions, kept in the store as text.

The rules, proved against servers that are not what they should be:

- A listing is done after a page with `has_more: false`, never because a page is empty. (Where a server leaves
  `has_more` out, an empty page is the end.)
- The next cursor is the page's `last_id`, or else the id of its last object.
- A page that brings nothing new although there is more, and a cursor that is refused because its object was deleted,
  lead one step back: to the nearest older id. Twelve steps in a row without anything new, and the listing is broken.

Unlike `listing`, which remembers every id in memory, this remembers the last ids only: what is new is asked of the
store, so a listing can be gone on with by another process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from evals_async import _json
from evals_async._json import as_array, as_object
from evals_async.errors import PaginationError


MOST_STEPS = 12  # pages in a row that bring nothing new, or cursors that are refused
TRAIL = 2 * MOST_STEPS  # ids that are remembered
PAGE_SIZES = {"files": 1000}
PAGE_SIZE = 100  # the API's maximum, but for files


@attrs.frozen(kw_only=True)
class StoredCursor:
    """After which id to ask, how many objects at once, the last ids that were new, and how many steps brought none."""

    after: str | None = None
    limit: int = PAGE_SIZE
    trail: tuple[str, ...] = ()
    stale: int = 0

    def text(self) -> str:
        """The place as it is kept in the store."""
        return _json.canonical(attrs.asdict(self)).decode()


def place_of(text: str | None, kind: str) -> StoredCursor:
    """The place that `StoredCursor.text` was made of; without one, the beginning of a listing of `kind`."""
    if text is None:
        return StoredCursor(limit=PAGE_SIZES.get(kind, PAGE_SIZE))
    fields = as_object(_json.parse(text.encode())) or {}
    after, limit, stale = fields.get("after"), fields.get("limit"), fields.get("stale")
    return StoredCursor(
        after=after if isinstance(after, str) else None,
        limit=limit if isinstance(limit, int) else PAGE_SIZE,
        trail=tuple(map(str, as_array(fields.get("trail")) or ())),
        stale=stale if isinstance(stale, int) else 0,
    )


def following(
    place: StoredCursor, ids: Sequence[str], known: Collection[str], *, last_id: str | None, has_more: bool | None
) -> StoredCursor | None:
    """Where a listing stands after a page with `ids`, of which `known` came before; `None` at its end.

    Raises `PaginationError` when it does not move on.
    """
    if not (bool(ids) if has_more is None else has_more):
        return None
    fresh = [each for each in dict.fromkeys(ids) if each not in known]
    if fresh:
        trail = (*place.trail, *fresh)[-TRAIL:]
        return attrs.evolve(place, after=last_id or ids[-1], trail=trail, stale=0)
    if not ids:
        return counted(attrs.evolve(place, after=last_id or place.after))
    return step_back(place)


def step_back(place: StoredCursor) -> StoredCursor:
    """The same place, seen from the nearest older id. Raises `PaginationError` after too many steps."""
    index = place.trail.index(place.after) if place.after in place.trail else len(place.trail)
    return counted(attrs.evolve(place, after=place.trail[index - 1] if index else None))


def counted(place: StoredCursor) -> StoredCursor:
    if place.stale >= MOST_STEPS:
        raise PaginationError(f"{MOST_STEPS} requests in a row brought nothing new", after=place.after)
    return attrs.evolve(place, stale=place.stale + 1)


def smaller(place: StoredCursor, count: int | None = None) -> StoredCursor:
    """The same place with half the page: half of what was asked for, or of the `count` that came."""
    size = place.limit if not count else min(count, place.limit)
    return attrs.evolve(place, limit=max(1, size // 2))

"""The cursor of a listing that is copied: the rules are the pager's own, and what is new is told by the store.

The rules and the guarantee that a listing never ends because a page is empty while the server says that there is more
are in `evals_async.pagination`. The cursor is kept in the store as text, so another process can go on with a listing.
"""

from collections.abc import Collection

from evals_async.archive.export.arrivals import Arrivals
from evals_async.pagination import Cursor, next_cursor


PAGE_SIZES = {"files": 1000}
PAGE_SIZE = 100  # the API's maximum, but for files


def cursor_of(text: str | None, kind: str) -> Cursor:
    """The cursor that is kept in the store as `text`; without one, the beginning of a listing of `kind`."""
    return Cursor.at(limit=PAGE_SIZES.get(kind, PAGE_SIZE)) if text is None else Cursor.of(text)


def cursor_after(cursor: Cursor, arrivals: Arrivals, known: Collection[str]) -> Cursor | None:
    """Where a listing stands after a page whose ids came before if they are in `known`; `None` at its end."""
    fresh = [each for each in dict.fromkeys(arrivals.ids) if each not in known]
    return next_cursor(cursor, arrivals.ids, fresh, last_id=arrivals.last_id, has_more=arrivals.has_more)

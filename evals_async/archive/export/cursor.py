"""The cursor of a listing in an export: the rules of `evals_async.pagination`, with the store as the list of known ids.

An empty page does not end a listing while `has_more` is true. The store keeps the cursor as text, so that another
process can continue the listing.
"""

from collections.abc import Collection

from evals_async.archive.export.listing_page import ListingPage
from evals_async.pagination import Cursor, next_cursor


PAGE_SIZES = {"files": 1000}
PAGE_SIZE = 100  # the maximum of the API, except for files


def cursor_of(text: str | None, kind: str) -> Cursor:
    """Parse the stored cursor `text`; without one, return the start of a listing of `kind`."""
    return Cursor.at(limit=PAGE_SIZES.get(kind, PAGE_SIZE)) if text is None else Cursor.of(text)


def cursor_after(cursor: Cursor, page: ListingPage, known: Collection[str]) -> Cursor | None:
    """Return the cursor after a page, or `None` at the end. `known` are the ids that were read before."""
    fresh = [each for each in dict.fromkeys(page.ids) if each not in known]
    return next_cursor(cursor, page.ids, fresh, last_id=page.last_id, has_more=page.has_more)

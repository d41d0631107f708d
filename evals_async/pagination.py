"""Listings: `Pager`, which every `list()` returns, and `Page`, one page of a listing.

`Cursor`, `next_cursor`, `older_cursor` and `smaller_page` are the rules for the next page, for code that sends the
requests of a listing itself.
"""

from evals_async._paging.cursor import Cursor, may_step_back, next_cursor, older_cursor, smaller_page, too_heavy
from evals_async._paging.pages import ItemIterator, Page, PageIterator, Pager


__all__ = [
    "Cursor",
    "ItemIterator",
    "Page",
    "PageIterator",
    "Pager",
    "may_step_back",
    "next_cursor",
    "older_cursor",
    "smaller_page",
    "too_heavy",
]

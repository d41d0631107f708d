"""Listings: `Pager`, what every `list()` returns, and `Page`, one page of it. And the rules by which a listing goes on,
for those who send the requests themselves: `Cursor`, `next_cursor`, `older_cursor`, `smaller_page`.
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

"""Listings: `Pager`, what every `list()` returns, and `Page`, one page of it."""

from evals_async._paging.pages import ItemIterator, Page, PageIterator, Pager


__all__ = ["ItemIterator", "Page", "PageIterator", "Pager"]

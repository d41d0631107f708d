"""Listings, page by page: where a listing goes on, and the pages and iterators that users hold."""

"""The store: SQLite tables of exact JSON texts, for the archive and for the local server. No HTTP, no models."""

from sqlite3 import Connection

from evals_async.store.database import Database
from evals_async.store.rows import TABLES, Kind, Page, Row, Table, UnknownCursor, json_text


__all__ = ["TABLES", "Connection", "Database", "Kind", "Page", "Row", "Table", "UnknownCursor", "json_text"]

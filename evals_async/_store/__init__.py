"""The store: SQLite tables of exact JSON texts, for the archive and for the local server. No HTTP, no models."""

from sqlite3 import Connection

from evals_async._store.database import Database
from evals_async._store.rows import TABLES, Kind, Row, RowPage, Table, UnknownCursor, json_text


__all__ = ["TABLES", "Connection", "Database", "Kind", "Row", "RowPage", "Table", "UnknownCursor", "json_text"]

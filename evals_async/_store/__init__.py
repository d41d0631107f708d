"""The store: SQLite tables with exact JSON texts, for the archive and the local server. Uses no HTTP and no models."""

from sqlite3 import Connection

from evals_async._store.database import Database
from evals_async._store.rows import TABLES, Kind, Row, RowPage, Table, UnknownCursor, json_text


__all__ = ["TABLES", "Connection", "Database", "Kind", "Row", "RowPage", "Table", "UnknownCursor", "json_text"]

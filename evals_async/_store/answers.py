"""Stored model responses: the server recorded them, and later runs can use them as input.

Plain functions that take a connection, like those of `rows`.
"""

from sqlite3 import Connection
from typing import Literal, TypeAlias

import attrs


AnswerKind: TypeAlias = Literal["completions", "responses"]


@attrs.frozen
class StoredAnswer:
    """One stored response: its id, its API, the requested model, its time in seconds, and its JSON text."""

    id: str
    kind: AnswerKind
    model: str
    created_at: int
    text: str = attrs.field(repr=False)


def put_answer(connection: Connection, answer: StoredAnswer) -> None:
    """Insert a response, or replace the response with the same id."""
    connection.execute(
        "INSERT OR REPLACE INTO stored_answers VALUES (?, ?, ?, ?, ?)",
        (answer.id, answer.kind, answer.model, answer.created_at, answer.text),
    )


def next_answers(connection: Connection, kind: AnswerKind, after: tuple[int, str], limit: int) -> list[StoredAnswer]:
    """Return the next `limit` responses of one API after this time and id, oldest first."""
    select = (
        "SELECT id, kind, model, created_at, body FROM stored_answers "
        "WHERE kind = ? AND (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?"
    )
    return [StoredAnswer(*row) for row in connection.execute(select, (kind, *after, limit))]


def runs_of_type(connection: Connection, data_source: str, created_before: int) -> list[tuple[str, str]]:
    """Return the ids (eval id, run id) of the runs with this type of data source, oldest first."""
    # SQLite cannot parse JSON with more than a thousand levels. Such runs match no type.
    kind = "CASE WHEN json_valid(body) THEN json_extract(body, '$.data_source.type') END"
    select = f"SELECT eval_id, id FROM runs WHERE {kind} = ? AND created_at <= ? ORDER BY created_at, id"
    return connection.execute(select, (data_source, created_before)).fetchall()

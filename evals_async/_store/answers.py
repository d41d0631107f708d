"""Stored answers of models: what passed through a server, to be graded or asked again later.

Plain functions of a connection, like those of `rows`.
"""

from sqlite3 import Connection
from typing import Literal, TypeAlias

import attrs


AnswerKind: TypeAlias = Literal["completions", "responses"]


@attrs.frozen
class StoredAnswer:
    """An answer: its id, the API that it was given by, the model that was asked, its time, and its JSON text."""

    id: str
    kind: AnswerKind
    model: str
    created_at: int
    text: str = attrs.field(repr=False)


def put_answer(connection: Connection, answer: StoredAnswer) -> None:
    """Keep an answer, or replace the one with its id."""
    connection.execute(
        "INSERT OR REPLACE INTO stored_answers VALUES (?, ?, ?, ?, ?)",
        (answer.id, answer.kind, answer.model, answer.created_at, answer.text),
    )


def next_answers(connection: Connection, kind: AnswerKind, after: tuple[int, str], limit: int) -> list[StoredAnswer]:
    """The next answers of one API after the one with this time and id, the oldest first."""
    select = (
        "SELECT id, kind, model, created_at, body FROM stored_answers "
        "WHERE kind = ? AND (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?"
    )
    return [StoredAnswer(*row) for row in connection.execute(select, (kind, *after, limit))]


def runs_of_type(connection: Connection, data_source: str, created_before: int) -> list[tuple[str, str]]:
    """The ids (of the eval, of the run) of the runs with a data source of this type, the oldest first."""
    # What SQLite cannot read (JSON of more than a thousand levels) is no run of any type.
    kind = "CASE WHEN json_valid(body) THEN json_extract(body, '$.data_source.type') END"
    select = f"SELECT eval_id, id FROM runs WHERE {kind} = ? AND created_at <= ? ORDER BY created_at, id"
    return connection.execute(select, (data_source, created_before)).fetchall()

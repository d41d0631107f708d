"""The responses of the server: `Answer`, `Problem`, and the bodies that all endpoints share (errors, lists,
deletions).

This module does no I/O. The bodies have the form of the service's bodies. Where no response of the service is known (a
deleted cursor, a write to a read-only server), the text of the message is our own.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from evals_async._store import RowPage, json_text


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class Answer:
    """A complete response: its status, its body and its content type."""

    status: int
    body: bytes = attrs.field(repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = NO_HEADERS

    @classmethod
    def of(cls, status: int, value: object) -> "Answer":
        """Make a response from a JSON value."""
        return cls(status, json_text(value).encode())

    @classmethod
    def text(cls, status: int, text: str) -> "Answer":
        """Make a response from JSON text, which is not parsed."""
        return cls(status, text.encode())


class Problem(Exception):
    """The request failed. `answer()` returns the response with the error object of the API."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.headers = headers
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.type = type

    def answer(self) -> Answer:
        """Return the error response."""
        made = error_answer(self.status, self.message, type=self.type, param=self.param, code=self.code)
        return attrs.evolve(made, headers=self.headers)


def error_answer(
    status: int, message: str, *, type: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Answer:
    """Make an error response in the form of the API."""
    return Answer.of(status, {"error": {"message": message, "type": type, "param": param, "code": code}})


def not_found(thing: str, id: str) -> Problem:
    """Return the 404 for an eval, run or output item that does not exist."""
    param = {"eval": "eval_id", "run": "run_id", "output item": "output_item_id"}[thing]
    return Problem(404, f"No such {thing}: {id}", param=param, code="not_found")


def incomplete(why: str) -> Problem:
    """Return the error for a listing that is incomplete in this archive. A normal response would look complete."""
    words = f"The archive behind this server has this listing only in part: {why}"
    return Problem(409, words, code="incomplete_archive", headers={"x-should-retry": "false"})


def no_such_file(id: str, *, status: int = 404, param: str = "id") -> Problem:
    """Return the 404 for a file. Like the service's, it has no code."""
    return Problem(status, f"No such File object: {id}", param=param)


def list_answer(page: RowPage) -> Answer:
    """Make the response for a page of a listing. The rows are the stored texts."""
    first, last = (json_text(page.ids[0]), json_text(page.ids[-1])) if page.ids else ("null", "null")
    rows = ",".join(page.texts)
    more = "true" if page.has_more else "false"
    return Answer.text(
        200, f'{{"object":"list","data":[{rows}],"first_id":{first},"last_id":{last},"has_more":{more}}}'
    )


def listed(values: Iterable[str]) -> str:
    """Join values for a sentence: `'asc' and 'desc'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return ", ".join(quoted[:-1]) + f", and {quoted[-1]}"

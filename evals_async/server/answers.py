"""What the server says: `Answer`, `Problem`, and the bodies that are the same everywhere (errors, lists, deletions).

Values only. Nothing here performs I/O. The forms are those of the service; where it was never seen to answer (a cursor
that is gone, a write to a server that is read-only), the form is the service's and the words are ours.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from evals_async._store import RowPage, json_text


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class Answer:
    """A whole answer: its status and its bytes."""

    status: int
    body: bytes = attrs.field(repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = NO_HEADERS

    @classmethod
    def of(cls, status: int, value: object) -> "Answer":
        """A JSON value as an answer."""
        return cls(status, json_text(value).encode())

    @classmethod
    def text(cls, status: int, text: str) -> "Answer":
        """JSON text as it is, without a look at it."""
        return cls(status, text.encode())


class Problem(Exception):
    """A request that cannot be answered as asked. `answer()` is the error object of the API."""

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
        """The answer that tells of it."""
        made = error_answer(self.status, self.message, type=self.type, param=self.param, code=self.code)
        return attrs.evolve(made, headers=self.headers)


def error_answer(
    status: int, message: str, *, type: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Answer:
    """An error in the API's form."""
    return Answer.of(status, {"error": {"message": message, "type": type, "param": param, "code": code}})


def not_found(thing: str, id: str) -> Problem:
    """There is no such eval, run or output item."""
    param = {"eval": "eval_id", "run": "run_id", "output item": "output_item_id"}[thing]
    return Problem(404, f"No such {thing}: {id}", param=param, code="not_found")


def incomplete(why: str) -> Problem:
    """The listing is not whole in this archive: an answer would look like all there is."""
    words = f"This listing is not whole in the archive that is served: {why}"
    return Problem(409, words, code="incomplete_archive", headers={"x-should-retry": "false"})


def no_such_file(id: str, *, status: int = 404, param: str = "id") -> Problem:
    """There is no such file; the service sends this one without a code."""
    return Problem(status, f"No such File object: {id}", param=param)


def list_answer(page: RowPage) -> Answer:
    """A page of a listing, its rows as they were stored."""
    first, last = (json_text(page.ids[0]), json_text(page.ids[-1])) if page.ids else ("null", "null")
    rows = ",".join(page.texts)
    more = "true" if page.has_more else "false"
    return Answer.text(
        200, f'{{"object":"list","data":[{rows}],"first_id":{first},"last_id":{last},"has_more":{more}}}'
    )


def listed(values: Iterable[str]) -> str:
    """Values in a sentence: `'asc' and 'desc'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return ", ".join(quoted[:-1]) + f", and {quoted[-1]}"

"""Faults for tests: `Fault`, one fault of the local server, and `FaultPlan`, a list of faults.

    plan = FaultPlan(
        Fault(status=429, headers={"Retry-After": "1"}, times=2),         # the first two requests, of any route
        Fault(route="GET /evals/{eval_id}/runs", truncate=100, skip=1),   # the second listing of runs is cut
        Fault(route="POST /evals", drop="after"),                         # carried out, but the response is lost
    )
    async with LocalServer(faults=plan) as server: ...

This module holds the declarations and counts the requests. The server applies the faults.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import attrs

from evals_async._numbers import seconds, whole_number
from evals_async.errors import InvalidArgument
from evals_async.server.answers import Answer, error_answer


NO_HEADERS: Mapping[str, str] = MappingProxyType({})

# The error if a fault has no body: message, type and code, as the service sends them.
WORDS: Mapping[int, tuple[str, str, str | None]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    404: ("Not found.", "invalid_request_error", "not_found"),
    408: ("The request timed out.", "server_error", "request_timeout"),
    429: ("Rate limit reached. Please try again later.", "requests", "rate_limit_exceeded"),
    503: ("The server is overloaded. Please try again later.", "server_error", "service_unavailable"),
}
OTHER_WORDS = ("The server had an error while processing your request.", "server_error", None)


@attrs.frozen(kw_only=True)
class Fault:
    """One fault, and the requests that it applies to.

    `route` is a route (`/evals/{eval_id}/runs`), with or without a method before it. `None` matches every request. Of
    the matching requests, the first `skip` are served normally. Then every `every`th request gets the fault, `times`
    times in total (`None`: no limit).

    `delay` is the time before the response, in seconds of the server's clock. `drop` closes the connection `"before"`
    the request is carried out, or `"after"` that. With `status` the request is not carried out, and the response has
    this status. Its body is `body`: bytes and text are sent unchanged, other values as JSON, and `None` as an error in
    the form of the API. `headers` are added to the response. With `truncate` only the first bytes of the body are sent,
    and then the connection is closed. Raises `InvalidArgument` for a value that is not valid.
    """

    route: str | None = None
    skip: int = 0
    times: int | None = 1
    every: int = 1
    delay: float = 0.0
    drop: Literal["before", "after"] | None = None
    status: int | None = None
    body: object | bytes = None
    headers: Mapping[str, str] = NO_HEADERS
    truncate: int | None = None

    def __attrs_post_init__(self) -> None:
        whole_number(self.skip, "skip", least=0)
        whole_number(self.every, "every")
        seconds(self.delay, "delay")
        for name, value in (("times", self.times), ("truncate", self.truncate)):
            if value is not None:
                whole_number(value, name, least=0)
        if self.status is not None and not 200 <= whole_number(self.status, "status") <= 599:
            raise InvalidArgument(f"status must be from 200 to 599, got {self.status}")
        if self.drop not in (None, "before", "after"):
            raise InvalidArgument(f'drop must be "before" or "after", got {self.drop!r:.40}')

    def is_for(self, method: str, template: str) -> bool:
        """Whether the fault applies to requests of this route."""
        return self.route is None or self.route in (template, f"{method} {template}")

    def answer(self) -> Answer | None:
        """Return the response that replaces the server's own, or `None`."""
        if self.status is None:
            return None
        match self.body:
            case None:
                message, kind, code = WORDS.get(self.status, OTHER_WORDS)
                return error_answer(self.status, message, type=kind, code=code)
            case bytes() | str():
                data = self.body.encode() if isinstance(self.body, str) else self.body
                return Answer(self.status, data, "text/plain; charset=utf-8")
            case _:
                return Answer.of(self.status, self.body)


class FaultPlan:
    """A list of faults. Each counts its own requests. The first fault that applies to a request is used."""

    def __init__(self, *faults: Fault) -> None:
        self.faults: list[Fault] = list(faults)
        self.met: list[int] = [0] * len(faults)
        self.hits: list[int] = [0] * len(faults)

    def add(self, *faults: Fault) -> None:
        """Add faults."""
        self.faults += faults
        self.met += [0] * len(faults)
        self.hits += [0] * len(faults)

    def clear(self) -> None:
        """Remove all faults."""
        self.faults, self.met, self.hits = [], [], []

    def take(self, method: str, template: str) -> Fault | None:
        """Return the fault for a request that has arrived, or `None`, and count it."""
        taken: Fault | None = None
        for index, fault in enumerate(self.faults):
            if not fault.is_for(method, template):
                continue
            self.met[index] += 1
            spent = fault.times is not None and self.hits[index] >= fault.times
            due = self.met[index] > fault.skip and (self.met[index] - fault.skip - 1) % fault.every == 0
            if taken is None and due and not spent:
                self.hits[index] += 1
                taken = fault
        return taken

    @property
    def used(self) -> Sequence[int]:
        """Return how often each fault was used, in their order."""
        return tuple(self.hits)

"""Bad days on purpose: `Fault`, one thing that goes wrong, and `FaultPlan`, the order in which things do.

    plan = FaultPlan(
        Fault(status=429, headers={"Retry-After": "1"}, times=2),         # the first two requests, whatever they are
        Fault(route="GET /evals/{eval_id}/runs", truncate=100, skip=1),   # the second listing of runs breaks off
        Fault(route="POST /evals", drop="after"),                         # carried out, and nobody is told
    )
    async with LocalServer(faults=plan) as server: ...

Declarations and counting only: the server does what they say.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import attrs

from evals_async.server.answers import Answer, error_answer


NO_HEADERS: Mapping[str, str] = MappingProxyType({})

# What an error says when the fault gives no body of its own: message, type and code, as the service sends them.
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
    """One thing that goes wrong, for the requests it is meant for.

    `route` is a path's template (`/evals/{eval_id}/runs`), with or without a method before it; without it every request
    is meant. Of the requests meant, the first `skip` are spared, then every `every`th is hit, `times` in all (`None`:
    for ever).

    What happens: the answer waits `delay` seconds of the server's clock; the connection is dropped `before` the request
    is carried out, or `after` it; with `status` the request is not carried out, and `body` is the answer (bytes and
    text as they are, all else as JSON; without it, an error in the API's form); `headers` are added to the answer; only
    the first `truncate` bytes of its body are sent, and the connection breaks.
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

    def is_for(self, method: str, template: str) -> bool:
        """Whether a request of this route is meant."""
        return self.route is None or self.route in (template, f"{method} {template}")

    def answer(self) -> Answer | None:
        """The answer to give instead of the server's own, if there is one."""
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
    """Faults, each with its own count of what it has met. The first that applies to a request is the one that
    happens.
    """

    def __init__(self, *faults: Fault) -> None:
        self.faults: list[Fault] = list(faults)
        self.met: list[int] = [0] * len(faults)
        self.hits: list[int] = [0] * len(faults)

    def add(self, *faults: Fault) -> None:
        """Let these go wrong too, from now on."""
        self.faults += faults
        self.met += [0] * len(faults)
        self.hits += [0] * len(faults)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.faults, self.met, self.hits = [], [], []

    def take(self, method: str, template: str) -> Fault | None:
        """The fault for a request that came now, which counts as used."""
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
        """How often each fault has happened, in their order."""
        return tuple(self.hits)

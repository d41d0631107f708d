"""What is known of one call: `CallState`; and its headers and query. Nothing here waits or sends."""

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from evals_async._clock import Alarm, TaskDeadline
from evals_async._settings import header_fault
from evals_async._transport.auth import SecretHeaders, merged_headers, redacted, secret_headers, secrets_in
from evals_async._transport.messages import NO_HEADERS, USUAL, Request, Response, Upload
from evals_async._transport.retry import RetryPolicy, Timeouts
from evals_async.errors import Attempt, ConnectFailed, DeadlineExceeded, InvalidArgument, RequestError


T = TypeVar("T")

Query: TypeAlias = Sequence[tuple[str, str]]

Read: TypeAlias = Callable[[Response], Awaitable[T]]
"""Makes a value of a successful response; may raise `DecodeError` and `ResponseMismatch`, which can be retried."""

Resolve: TypeAlias = Callable[[], Awaitable[T | None]]
"""Finds out what became of a cancel or a delete whose response was lost: its value if it took effect, `None` if not.

Asked for a cancel whenever it ends in an error and an attempt may have been carried out; for a delete only if the
server then answers 404, so that the object is gone.
"""

KEY = "Idempotency-Key"
JSON: Mapping[str, str] = {"Content-Type": "application/json"}

logger = logging.getLogger("evals_async")


class Droppable(Protocol):
    """The end of a connection that can be told not to be used again, and that knows what broke it."""

    def force_close(self) -> None: ...

    def exception(self) -> BaseException | None: ...


class CallState(TaskDeadline, Generic[T]):
    """What one call is about and what has become of it so far. Made per call, so that calls see nothing of each other.

    It is also the deadline of each attempt in turn. Of the attempt under way it knows when it `began` and when it
    `attempt_ends`, by the client's clock; the `credentials` it sends; its `connection`, and whether that had served
    another request before (`reused`); whether any byte of the request may have left (`sent`); how many decoded bytes of
    the body were `received`; and the `response`. `attempting` is false while the call waits for the limiter. `told` is
    the failure, of all so far, that tells most.
    """

    __slots__ = (
        "attempt_ends",
        "attempt_seconds",
        "attempting",
        "began",
        "connection",
        "credentials",
        "ends",
        "headers",
        "history",
        "key",
        "policy",
        "query",
        "read",
        "received",
        "request",
        "resolve",
        "response",
        "reused",
        "sent",
        "start",
        "timeouts",
        "told",
    )

    def __init__(
        self,
        request: Request,
        read: Read[T],
        *,
        timeouts: Timeouts,
        policy: RetryPolicy,
        headers: SecretHeaders,
        query: Query,
        start: float,
        resolve: Resolve[T] | None,
        task: asyncio.Task[object],
        alarm: Alarm,
    ) -> None:
        self.task = task  # the base's __init__ is not called: each call makes one of these
        self.cancelling = task.cancelling()
        self.alarm = alarm
        self.passed = False
        self.request = request
        self.read = read
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers  # without credentials: each attempt asks for those anew
        self.key = idempotency_key(request)  # the same for all attempts
        self.query = query
        self.start = start
        self.resolve = resolve
        self.ends = math.inf if timeouts.total is None else start + timeouts.total
        # Files may take the whole time of the call.
        seconds, whole = timeouts.attempt, request.sink is not None or isinstance(request.body, Upload)
        self.attempt_seconds = math.inf if whole or seconds is None else seconds
        self.credentials: Mapping[str, str] = NO_HEADERS
        self.history: tuple[Attempt, ...] = ()
        self.told: RequestError | None = None
        self.await_turn()

    def await_turn(self) -> None:
        """Forget the attempt before."""
        self.attempting = self.sent = self.reused = False
        self.received = 0
        self.response: Response | None = None
        self.connection: Droppable | None = None

    def attempt_from(self, now: float) -> float:
        """Begin an attempt; how many seconds it may take."""
        self.attempting = True
        self.began = now
        ends = now + self.attempt_seconds
        if ends > self.ends:  # noqa: PLR1730  # a call of `min` takes the four hundredth part of a request
            ends = self.ends
        self.attempt_ends = ends
        return ends - now

    @property
    def silence(self) -> float | None:
        """Seconds for which the body of a download may pause: as long as an attempt may take."""
        return None if self.request.sink is None else self.timeouts.attempt

    def drop(self) -> None:
        """Let the connection not be used again: what came over it cannot be trusted."""
        if self.connection is not None:
            self.connection.force_close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear in no error and no log line: the client's credentials, and those in a caller's headers."""
        return (*secrets_in(self.credentials), *secrets_in(secret_headers(self.headers)))

    def out_of_time(self) -> RequestError:
        """The error of an attempt that the clock ended."""
        if self.attempt_ends >= self.ends:
            return DeadlineExceeded(f"no whole response within the {self.timeouts.total:g} s of the call")
        if not self.sent:
            return ConnectFailed(f"no connection within the {self.timeouts.attempt:g} s of an attempt")
        return DeadlineExceeded(f"no whole response within the {self.timeouts.attempt:g} s of an attempt")

    def log(self, event: str, *, level: int = logging.DEBUG, **facts: object) -> None:
        """One line: `event` and facts, which are attributes of the record too. Never a path, header or body."""
        if not logger.isEnabledFor(level):
            return
        told = {
            name: redacted(fact, self.secrets) if isinstance(fact, str) else fact
            for name, fact in facts.items()
            if fact is not None
        }
        shown = " ".join(
            f"{name}={fact:.3f}" if isinstance(fact, float) else f"{name}={fact}" for name, fact in told.items()
        )
        method, route = self.request.method, self.request.route
        extra = {"method": method, "route": route, **told}
        logger.log(level, "%s %s %s %s", method, route, event, shown, extra=extra)


CURRENT_CALL: ContextVar[CallState[Any]] = ContextVar("evals_async_call")
"""The call that the running task makes. aiohttp calls the connector, and can hand nothing else through."""


class UsualHeaders:
    """What calls send that have no headers of their own, made once for all of them: `plain` of those without a body,
    `json` of those with one, `create` of those with a body and a key. `headers` come on top of the package's own.
    """

    def __init__(self, headers: Mapping[str, str | None]) -> None:
        self.plain = merged_headers(USUAL, headers)
        self.json = merged_headers(self.plain, JSON)
        self.create = merged_headers(self.json, {KEY: None})


def call_headers(request: Request, usual: UsualHeaders) -> SecretHeaders:
    """The headers of all attempts of a call, without credentials and key; later ones win, whatever their case.

    Raises `InvalidArgument`, which does not repeat the value, for a header that cannot be sent.
    """
    create, json = request.kind == "create", isinstance(request.body, bytes)
    if not request.headers and request.sink is None:
        if json:
            return usual.create if create else usual.json
        if not create:
            return usual.plain
    own: dict[str, str | None] = {**JSON} if json else {}
    if create:
        own[KEY] = None  # of a default header: it would be the same for all calls
    if request.sink is not None:
        # A compressed file that ends early cannot be told from a whole one; the length of a plain one is checked.
        own["Accept-Encoding"] = "identity"
    for name, value in request.headers.items():
        if value is not None and (fault := header_fault(name, value)) is not None:
            raise InvalidArgument(fault)
    return merged_headers(usual.plain, own, request.headers)


def idempotency_key(request: Request) -> str | None:
    """The key of a call that creates, unless its own headers give one, or take it away."""
    if request.kind != "create" or (request.headers and KEY.lower() in map(str.lower, request.headers)):
        return None
    # Not from the clock's random numbers: a fork copies those, and two processes must never share a key.
    return os.urandom(16).hex()


def merged_query(defaults: Query, own: Query) -> Query:
    """The defaults that the request does not name itself, and then its own."""
    named = {name for name, _ in own}
    return (*(pair for pair in defaults if pair[0] not in named), *own)

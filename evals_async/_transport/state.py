"""The state of one call (`CallState`), its headers and its query. This module does no I/O."""

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
"""Decodes a successful response. It may raise `DecodeError` and `ResponseMismatch`, which can be retried."""

Resolve: TypeAlias = Callable[[], Awaitable[T | None]]
"""Finds the result of a cancel or a delete whose response was lost. Returns `None` if the request had no effect.

A cancel calls it if the call fails and the server may have executed an attempt. A delete calls it only if, in
addition, the final response is a 404.
"""

KEY = "Idempotency-Key"
JSON: Mapping[str, str] = {"Content-Type": "application/json"}

logger = logging.getLogger("evals_async")


class Droppable(Protocol):
    """A connection that can be excluded from reuse, and that knows the error that broke it."""

    def force_close(self) -> None: ...

    def exception(self) -> BaseException | None: ...


class CallState(TaskDeadline, Generic[T]):
    """The request, the options and the progress of one call. Each call has its own state.

    It is also the deadline of each attempt. These attributes describe the current attempt:

    - `began` and `attempt_ends`: start and deadline, by the client's clock.
    - `credentials`: the credentials that it sends.
    - `connection`: its connection; `reused` is true if that served another request before.
    - `sent`: true if some bytes of the request may have left.
    - `received`: the decoded bytes of the body so far.
    - `response`: the response, if it has arrived.

    `attempting` is false while the call waits for the limiter. `told` is the most useful failure so far.
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
        self.task = task  # the base's __init__ is not called, to save time in each call
        self.cancelling = task.cancelling()
        self.alarm = alarm
        self.passed = False
        self.request = request
        self.read = read
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers  # without credentials: each attempt gets them again
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
        """Reset the state of the previous attempt."""
        self.attempting = self.sent = self.reused = False
        self.received = 0
        self.response: Response | None = None
        self.connection: Droppable | None = None

    def attempt_from(self, now: float) -> float:
        """Start an attempt and return how many seconds it may take."""
        self.attempting = True
        self.began = now
        ends = now + self.attempt_seconds
        if ends > self.ends:  # noqa: PLR1730  # a call of `min` takes the four hundredth part of a request
            ends = self.ends
        self.attempt_ends = ends
        return ends - now

    @property
    def silence(self) -> float | None:
        """The longest pause in the body of a download, in seconds: the timeout of an attempt."""
        return None if self.request.sink is None else self.timeouts.attempt

    def drop(self) -> None:
        """Exclude the connection from reuse, because its data cannot be trusted."""
        if self.connection is not None:
            self.connection.force_close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials of the client and of the caller's headers. No error and no log line may show them."""
        return (*secrets_in(self.credentials), *secrets_in(secret_headers(self.headers)))

    def out_of_time(self) -> RequestError:
        """Return the error for an attempt that reached its deadline."""
        if self.attempt_ends >= self.ends:
            return DeadlineExceeded(f"no whole response within the {self.timeouts.total:g} s of the call")
        if not self.sent:
            return ConnectFailed(f"no connection within the {self.timeouts.attempt:g} s of an attempt")
        return DeadlineExceeded(f"no whole response within the {self.timeouts.attempt:g} s of an attempt")

    def log(self, event: str, *, level: int = logging.DEBUG, **facts: object) -> None:
        """Log one line with `event` and `facts`. The facts are also attributes of the log record.

        A line never contains a path, a header or a body.
        """
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
"""The call of the running task. Our connector needs it, and aiohttp cannot pass it as an argument."""


class UsualHeaders:
    """The headers of calls that have no headers of their own. They are computed once for all calls.

    `plain` is for requests without a body, `json` for requests with one, and `create` for requests with a body and an
    idempotency key. `headers` override the package's own.
    """

    def __init__(self, headers: Mapping[str, str | None]) -> None:
        self.plain = merged_headers(USUAL, headers)
        self.json = merged_headers(self.plain, JSON)
        self.create = merged_headers(self.json, {KEY: None})


def call_headers(request: Request, usual: UsualHeaders) -> SecretHeaders:
    """Return the headers of all attempts of a call, without credentials and idempotency key.

    Names are compared without case, and the last value wins. Raises `InvalidArgument` for a header that cannot be
    sent. The error does not show the value.
    """
    create, json = request.kind == "create", isinstance(request.body, bytes)
    if not request.headers and request.sink is None:
        if json:
            return usual.create if create else usual.json
        if not create:
            return usual.plain
    own: dict[str, str | None] = {**JSON} if json else {}
    if create:
        own[KEY] = None  # remove a default key, because all calls would share it
    if request.sink is not None:
        # The length of an uncompressed file is checked. A compressed file that ends early looks complete.
        own["Accept-Encoding"] = "identity"
    for name, value in request.headers.items():
        if value is not None and (fault := header_fault(name, value)) is not None:
            raise InvalidArgument(fault)
    return merged_headers(usual.plain, own, request.headers)


def idempotency_key(request: Request) -> str | None:
    """Return the idempotency key of a create call, or `None` if the request's own headers set or remove it."""
    if request.kind != "create" or (request.headers and KEY.lower() in map(str.lower, request.headers)):
        return None
    # The clock's random numbers are not safe here: a fork copies them, and two processes must never share a key.
    return os.urandom(16).hex()


def merged_query(defaults: Query, own: Query) -> Query:
    """Return the request's own query, after the defaults for names that it does not set."""
    named = {name for name, _ in own}
    return (*(pair for pair in defaults if pair[0] not in named), *own)

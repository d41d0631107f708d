"""What is known of one call and of one attempt of it: `CallState` and `AttemptState`. Nothing here waits or sends."""

import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Generic, Protocol, TypeAlias, TypeVar

from evals_async._clock import Deadline
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

logger = logging.getLogger("evals_async")


class Droppable(Protocol):
    """The end of a connection that can be told not to be used again, and that knows what broke it."""

    def force_close(self) -> None: ...

    def exception(self) -> BaseException | None: ...


class AttemptState(Deadline):
    """One attempt of a request, while its time lasts: a deadline that is entered once.

    `once` is true for what is not sent again, and so must not go over a connection that may be dead. `sent` is false as
    long as it is certain that no byte of the request left; `reused` tells that its connection had served another
    request before; `received` counts the decoded bytes of the body. `ends` is the monotonic time at which it is
    given up, by the client's clock; `seconds` is how long that is, by the loop's.
    """

    __slots__ = ("connection", "ends", "once", "received", "reused", "sent")

    def __init__(self, seconds: float, ends: float, *, once: bool = False) -> None:
        self.seconds = seconds  # the base's __init__ is not called: each attempt makes one of these
        self.ends = ends
        self.once = once
        self.sent = False
        self.reused = False
        self.received = 0
        self.connection: Droppable | None = None

    def drop(self) -> None:
        """Let the connection not be used again: what came over it cannot be trusted."""
        if self.connection is not None:
            self.connection.force_close()


CURRENT_ATTEMPT: ContextVar[AttemptState] = ContextVar("evals_async_attempt")
"""The attempt that the running task makes. aiohttp calls the connector, and can hand nothing else through."""


class CallState(Generic[T]):
    """What one call is about and what has become of it so far. Made per call, so that calls see nothing of each other.

    `attempt` is the attempt under way, `None` while the call waits for the limiter; `response`, `began` and
    `credentials` belong to it. `told` is the failure, of all so far, that tells most.
    """

    __slots__ = (
        "attempt",
        "attempt_seconds",
        "began",
        "credentials",
        "end",
        "headers",
        "history",
        "policy",
        "query",
        "read",
        "read_timeout",
        "request",
        "resolve",
        "response",
        "start",
        "timeouts",
        "told",
    )

    def __init__(
        self,
        request: Request,
        read: Read[T],
        timeouts: Timeouts,
        policy: RetryPolicy,
        headers: SecretHeaders,
        query: Query,
        start: float,
        resolve: Resolve[T] | None = None,
    ) -> None:
        self.request = request
        self.read = read
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers  # without credentials: each attempt asks for those anew
        self.query = query
        self.start = start
        self.resolve = resolve
        self.end = math.inf if timeouts.total is None else start + timeouts.total
        # Files may take the whole time of the call; only a download may pause, as long as an attempt may take.
        downloads = request.sink is not None
        whole = downloads or isinstance(request.body, Upload)
        self.attempt_seconds = math.inf if timeouts.attempt is None or whole else timeouts.attempt
        self.read_timeout = timeouts.attempt if downloads else None
        self.attempt: AttemptState | None = None
        self.response: Response | None = None
        self.began = start
        self.credentials: Mapping[str, str] = NO_HEADERS
        self.history: tuple[Attempt, ...] = ()
        self.told: RequestError | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear in no error and no log line: the client's credentials, and those in a caller's headers."""
        return (*secrets_in(self.credentials), *secrets_in(secret_headers(self.headers)))

    def out_of_time(self, attempt: AttemptState) -> RequestError:
        """The error of an attempt that the clock ended."""
        if attempt.ends >= self.end:
            return DeadlineExceeded(f"no whole response within the {self.timeouts.total:g} s of the call")
        if not attempt.sent:
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


def usual_headers(headers: Mapping[str, str | None]) -> SecretHeaders:
    """What calls send that have no headers of their own: made once for all of them."""
    return merged_headers(USUAL, headers)


def call_headers(request: Request, usual: SecretHeaders) -> SecretHeaders:
    """The headers of all attempts of a call, without the client's credentials; later ones win, whatever their case.

    Raises `InvalidArgument`, which does not repeat the value, for a header that cannot be sent.
    """
    if not request.headers and request.body is None and request.sink is None and request.kind != "create":
        return usual
    own = SecretHeaders()
    if isinstance(request.body, bytes):
        own["Content-Type"] = "application/json"
    if request.sink is not None:
        # A compressed file that ends early cannot be told from a whole one; the length of a plain one is checked.
        own["Accept-Encoding"] = "identity"
    if request.kind == "create":
        # Not from the clock's random numbers: a fork copies those, and two processes must never share a key.
        own["Idempotency-Key"] = uuid.uuid4().hex
    for name, value in request.headers.items():
        if value is not None and (fault := header_fault(name, value)) is not None:
            raise InvalidArgument(fault)
    return merged_headers(usual, own, request.headers)


def merged_query(defaults: Query, own: Query) -> Query:
    """The defaults that the request does not name itself, and then its own."""
    named = {name for name, _ in own}
    return (*(pair for pair in defaults if pair[0] not in named), *own)

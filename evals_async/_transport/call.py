"""What one call is about and has been through: `CallState`, and the small facts that follow from it.

The pipeline acts; here are only its notes. Nothing here awaits.
"""

import logging
import math
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from evals_async._transport.attempt import AttemptState
from evals_async._transport.auth import SecretHeaders, redacted, secrets_in
from evals_async._transport.messages import NO_HEADERS, USUAL, Request, Response, Upload
from evals_async._transport.policy import RetryPolicy, Timeouts
from evals_async.errors import Attempt, ConnectFailed, DeadlineExceeded, InvalidArgument, RequestError


T = TypeVar("T")

Read: TypeAlias = Callable[[Response], Awaitable[T]]
"""Turns a successful reply into a value; may raise `DecodeError` and `ResponseMismatch`, which the table knows."""

HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")

logger = logging.getLogger("evals_async")


class CallState(Generic[T]):
    """What one `send` is about and has been through. Made per call, so that nothing of one call is seen by another."""

    __slots__ = (
        "answered",
        "began",
        "end",
        "given",
        "headers",
        "history",
        "longest",
        "policy",
        "query",
        "read",
        "reply",
        "request",
        "silence",
        "start",
        "timeouts",
        "trip",
    )

    def __init__(
        self,
        request: Request,
        read: Read[T],
        timeouts: Timeouts,
        policy: RetryPolicy,
        headers: SecretHeaders,
        query: Sequence[tuple[str, str]],
        start: float,
    ) -> None:
        self.request = request
        self.read = read
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers  # without credentials: those are asked for anew by each attempt
        self.query = query
        self.start = start
        self.end = math.inf if timeouts.total is None else start + timeouts.total
        # Files may take the whole time of the call; only a download may pause, as long as an attempt may take.
        downloads = request.sink is not None
        whole = downloads or isinstance(request.body, Upload)
        self.longest = math.inf if timeouts.attempt is None or whole else timeouts.attempt
        self.silence = timeouts.attempt if downloads else None
        self.trip: AttemptState | None = None  # the attempt under way; none while it waits at the gate
        self.reply: Response | None = None
        self.began = start
        self.given: Mapping[str, str] = NO_HEADERS  # the credentials of the attempt
        self.history: tuple[Attempt, ...] = ()
        self.answered: RequestError | None = None  # the failure that tells most, so far

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear in no error and in no log line."""
        return secrets_in(self.given)


def usual_headers(headers: Mapping[str, str]) -> SecretHeaders:
    """What calls send that have no headers of their own: made once for all of them."""
    return SecretHeaders({**USUAL, **headers})


def call_headers(request: Request, usual: SecretHeaders) -> SecretHeaders:
    """The headers of all attempts of a call, without credentials; later ones win, whatever their case."""
    if not request.headers and request.body is None and request.sink is None and request.kind != "create":
        return usual
    merged = SecretHeaders(usual)
    if isinstance(request.body, bytes):
        merged["Content-Type"] = "application/json"
    if request.sink is not None:
        # A compressed file that ends early cannot be told from a whole one; the length of a plain one is checked.
        merged["Accept-Encoding"] = "identity"
    if request.kind == "create":
        # Not from the clock's dice: a fork copies those, and two processes must never share a key.
        merged["Idempotency-Key"] = uuid.uuid4().hex
    for name, value in request.headers.items():
        merged[name] = sendable(name, value)
    return merged


def sendable(name: str, value: str) -> str:
    """The value, if it may stand in a header (RFC 9110, 5.5). Raises `InvalidArgument`, which does not repeat it."""
    if not (HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value)):
        raise InvalidArgument(
            f"the header {ascii(name)[:60]} cannot be sent: printable ASCII only, no space in the name"
        )
    return value


def merged_query(defaults: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The defaults that the request does not name itself, and then its own."""
    named = {name for name, _ in own}
    return (*(pair for pair in defaults if pair[0] not in named), *own)


def out_of_time(call: CallState[T], trip: AttemptState) -> RequestError:
    """The error of an attempt that the clock ended."""
    if trip.ends >= call.end:
        return DeadlineExceeded(f"no whole answer within the {call.timeouts.total:g} s of the call")
    if not trip.sent:
        return ConnectFailed(f"no connection within the {call.timeouts.attempt:g} s of an attempt")
    return DeadlineExceeded(f"no whole answer within the {call.timeouts.attempt:g} s of an attempt")


def log(call: CallState[T], event: str, **facts: object) -> None:
    """One DEBUG line, `event` and facts, which are attributes of the record too. Never a path, a header or a body."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    request = call.request
    told = {
        name: redacted(fact, call.secrets) if isinstance(fact, str) else fact
        for name, fact in facts.items()
        if fact is not None
    }
    shown = " ".join(
        f"{name}={fact:.3f}" if isinstance(fact, float) else f"{name}={fact}" for name, fact in told.items()
    )
    extra = {"method": request.method, "route": request.route, **told}
    logger.debug("%s %s %s %s", request.method, request.route, event, shown, extra=extra)

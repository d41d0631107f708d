"""The errors of this package. Catch `EvalsError` for all of them, or one of its subclasses.

    EvalsError
    ├─ ConfigurationError          a setting is missing or wrong; nothing was sent             (also a ValueError)
    ├─ InvalidArgument             an argument of a call is wrong; nothing was sent            (also a ValueError)
    ├─ MissingExtra                an optional dependency is not installed                     (also an ImportError)
    ├─ LifecycleError              the client cannot be used here                              (also a RuntimeError)
    │  ├─ ClientClosed             after close()
    │  ├─ WrongLoop                from a second event loop or thread
    │  └─ ForkedClient             in a child process, after fork()
    ├─ RequestError                one request failed: .method .path .request_id .attempts .elapsed .history .note
    │  │                           .maybe_executed .transient
    │  ├─ ApiError                 the server returned an error:      .status .code .type .param .message
    │  │                           .retry_after .body
    │  │  ├─ BadRequest 400        ├─ Unauthenticated 401   ├─ PermissionDenied 403   ├─ NotFound 404
    │  │  ├─ Conflict 409          ├─ Unprocessable 422     ├─ ServerError 5xx, 408, 425
    │  │  └─ RateLimited 429
    │  │     └─ QuotaExceeded      a 429 that waiting does not help
    │  ├─ TransportError           no complete response came
    │  │  ├─ ConnectFailed         no connection was made: the server saw nothing
    │  │  │  └─ TlsError           the certificate or the handshake was refused
    │  │  ├─ ConnectionDropped     the connection broke after sending began
    │  │  ├─ ResponseTruncated     the body ended early
    │  │  ├─ ProtocolError         the response is not HTTP
    │  │  └─ DeadlineExceeded      the call's time was up: .last is the failure before it     (also a TimeoutError)
    │  └─ ResponseError            a complete response came that cannot be used
    │     ├─ DecodeError           not the JSON that was expected: .at .expected .got .body
    │     ├─ ResponseMismatch      it has another id than the request: .asked .got
    │     ├─ BodyTooLarge          more bytes than the limit: .limit
    │     └─ UnexpectedRedirect    the server redirects:   .status .location_host
    ├─ PaginationError             a listing cannot continue: .after is its last cursor
    ├─ WaitTimeout                 a run did not end in time: .last is the last state seen    (also a TimeoutError)
    ├─ RunFailed                   a run ended, but not as completed: .run
    ├─ WebhookError                a webhook was refused
    │  ├─ BadSignature             ├─ TimestampOutOfRange
    ├─ PartialFailure              some of many calls failed: .results and .errors by key     (also an ExceptionGroup)
    └─ ArchiveError                the archive file cannot be used

All errors are plain values. They can be pickled, they hold no objects of other libraries, and they never contain an API
key. This module imports no other module of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import attrs


K = TypeVar("K")
V = TypeVar("V")

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})  # 52x: Cloudflare
LONGEST_SHOWN = 300  # characters of an id in a message: no id is longer than 256
SHOWN_OF_A_MESSAGE = 200  # characters of a server's message in str(error); .message has all of it


def shown(value: object) -> str:
    """Return an id for a message, in printable ASCII. A value that is too long for an id is cut."""
    text = ascii(value)
    return text if len(text) <= LONGEST_SHOWN else text[:40] + "..."


@attrs.frozen
class Attempt:
    """One attempt of a call.

    `outcome` is "ok" or the name of the error class. `status` is the HTTP status, or `None` if no response came.
    `seconds` is the duration.
    """

    outcome: str
    status: int | None
    seconds: float


def restore(kind: type[EvalsError], args: tuple[object, ...], state: dict[str, object]) -> EvalsError:
    """Rebuild an error from the parts that `EvalsError.__reduce__` returned."""
    error = kind.__new__(kind, *args)
    error.args = args  # OSError sets them in __init__, which is not called here
    error.__dict__.update(state)
    return error


class EvalsError(Exception):
    """The base class of every error that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with .args, which fails for classes with required keywords.
        return restore, (type(self), self.args, vars(self))


# --- before anything is sent ------------------------------------------------------------------------------------------


class ConfigurationError(EvalsError, ValueError):
    """A setting is missing or wrong.

    The message names the argument and the environment variable, never the value of a key.
    """


class InvalidArgument(EvalsError, ValueError):
    """An argument of a call is wrong. Nothing was sent."""


class MissingExtra(EvalsError, ImportError):
    """An optional dependency is not installed. The message names the extra to install."""


class LifecycleError(EvalsError, RuntimeError):
    """The client cannot be used here. The message says what to do instead."""


class ClientClosed(LifecycleError):
    """The client was closed, before this call or during it. Or its limiter or cache was closed."""


class WrongLoop(LifecycleError):
    """The client, limiter or cache belongs to another event loop, which is not closed. Make one per loop."""


class ForkedClient(LifecycleError):
    """The process was forked after the client was first used. Make a client in the child."""


# --- one request ------------------------------------------------------------------------------------------------------


class RequestError(EvalsError):
    """One request failed.

    `method` and `path` name the request. `request_id` is the id that the server gave it. `attempts` is the number of
    attempts, `elapsed` is their duration in seconds, and `history` lists them. `note` gives the reason why there was no
    further attempt.

    `maybe_executed` is true if the request may have changed something on the server although no usable response came.
    Check this before you send the request again.

    `after` is set if a later page of a listing failed. It is the cursor to continue with.
    """

    method: str = ""
    path: str = ""
    request_id: str | None = None
    maybe_executed: bool = False
    attempts: int = 1
    elapsed: float = 0.0
    history: tuple[Attempt, ...] = ()
    note: str | None = None
    after: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later. Retries, waits and exports use this."""
        return False

    def about(self, method: str, path: str, request_id: str | None = None) -> Self:
        """Add the request to this error and return the error. Values that are already set do not change."""
        self.method = self.method or method
        self.path = self.path or path
        self.request_id = self.request_id or request_id
        return self

    @property
    def headline(self) -> str:
        """What happened, in two or three words."""
        return type(self).__name__

    def __str__(self) -> str:
        parts = [self.headline]
        if self.method:
            parts.append(f"on {self.method} {self.path}")
        if self.attempts != 1:
            parts.append(f"after {self.attempts} attempts")
        if self.request_id:
            parts.append(f"({self.request_id})")
        shown = self.message if len(self.message) <= SHOWN_OF_A_MESSAGE else self.message[:SHOWN_OF_A_MESSAGE] + "…"
        text = " ".join(parts) + ": " + shown
        if self.maybe_executed:
            text += " (the server may have carried out the request; check before you send it again)"
        return f"{text} [{self.note}]" if self.note else text


class ApiError(RequestError):
    """The server returned an error status.

    `status` is the HTTP status. `code`, `type` and `param` are the fields of the error object, or `None` if the body
    has none. `message` is the server's message. `retry_after` is the delay in seconds that the server requests, or
    `None`. `body` is the start of the body as text (at most 2 KiB).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.body = body

    @property
    def status_code(self) -> int:
        """The HTTP status: `status` under the name that it has in the official client."""
        return self.status

    @property
    def transient(self) -> bool:
        return self.status in TRANSIENT_STATUSES

    @property
    def headline(self) -> str:
        return f"{self.status} {self.code or self.type or type(self).__name__}"


class BadRequest(ApiError):
    """400: the request is invalid."""


class Unauthenticated(ApiError):
    """401: the key is missing, wrong or revoked."""


class PermissionDenied(ApiError):
    """403: the key has no permission for this request."""


class NotFound(ApiError):
    """404: the object does not exist, or it belongs to another project."""


class Conflict(ApiError):
    """409: the state of the object does not allow the request."""


class Unprocessable(ApiError):
    """422: the request is well-formed, but its content is invalid."""


class RateLimited(ApiError):
    """429: too many requests. `retry_after` is the delay in seconds that the server requests, or `None`."""


class QuotaExceeded(RateLimited):
    """A 429 where waiting does not help (insufficient_quota, billing). The request is not sent again."""

    @property
    def transient(self) -> bool:
        return False


class ServerError(ApiError):
    """5xx, 408 or 425: the server could not handle the request."""


class TransportError(RequestError):
    """No complete response came."""

    @property
    def transient(self) -> bool:
        return True


class ConnectFailed(TransportError):
    """No connection was made, so the server received nothing.

    For example, the connection was refused, or the host is unreachable. `unknown_host` is true if the host name does
    not exist. A retry seldom helps then.
    """

    def __init__(self, message: str, *, unknown_host: bool = False) -> None:
        super().__init__(message)
        self.unknown_host = unknown_host


class TlsError(ConnectFailed):
    """The certificate or the TLS handshake was refused.

    `no_tls` is true if the server answered the handshake with something else: it probably speaks plain http.
    """

    def __init__(self, message: str, *, unknown_host: bool = False, no_tls: bool = False) -> None:
        super().__init__(message, unknown_host=unknown_host)
        self.no_tls = no_tls

    @property
    def transient(self) -> bool:
        return False


class ConnectionDropped(TransportError):
    """The connection broke after sending had begun."""


class ResponseTruncated(TransportError):
    """The body ended before its declared end, or its compression is broken."""


class ProtocolError(TransportError):
    """The response is not valid HTTP."""


class DeadlineExceeded(TransportError, TimeoutError):
    """The call, or its last attempt, took longer than its timeout. `last` is the error before it, or `None`."""

    def __init__(self, message: str, *, last: RequestError | None = None) -> None:
        super().__init__(message)
        self.last = last


class ResponseError(RequestError):
    """A complete response came with a success status, but it cannot be used."""


class DecodeError(ResponseError):
    """The body is not the JSON that was expected.

    `at` is the position in the JSON (`$.data[3].result_counts.total`). `expected` and `got` are JSON types or values.
    `body` is the received bytes.
    """

    def __init__(self, message: str, *, at: str = "$", expected: str = "", got: str = "", body: bytes = b"") -> None:
        super().__init__(message)
        self.at = at
        self.expected = expected
        self.got = got
        self.body = body

    @property
    def transient(self) -> bool:
        return True  # a proxy's error page or a truncated body: the next response may be valid


class ResponseMismatch(ResponseError):
    """The response has another id than the request: `asked` is the requested id, `got` is the received id."""

    def __init__(self, message: str, *, asked: str = "", got: str = "") -> None:
        super().__init__(message)
        self.asked = asked
        self.got = got

    @property
    def transient(self) -> bool:
        return True


class BodyTooLarge(ResponseError):
    """The decoded body is larger than `limit` bytes. The rest was not read."""

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


class UnexpectedRedirect(ResponseError):
    """The server redirects. The client does not follow redirects, because it would send the key. Check the base URL."""

    def __init__(self, message: str, *, status: int = 0, location_host: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.location_host = location_host


# --- several requests -------------------------------------------------------------------------------------------------


class PaginationError(EvalsError):
    """A listing cannot continue: a cursor repeats, too many pages are empty, or a cursor is missing.

    `after` is the last valid cursor.
    """

    def __init__(self, message: str, *, after: str | None = None) -> None:
        super().__init__(message)
        self.after = after


class WaitTimeout(EvalsError, TimeoutError):
    """The awaited state was not reached before the timeout. `last` is the last state seen, or `None`."""

    def __init__(self, message: str, *, last: Any = None) -> None:
        super().__init__(message)
        self.last = last


class RunFailed(EvalsError):
    """A run ended with another status than `completed`. `run` is its last state."""

    def __init__(self, message: str, *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class PartialFailure(EvalsError, ExceptionGroup[Exception], Generic[K, V]):
    """Some of many calls failed.

    `results` maps keys to the results of the successful calls. `errors` maps keys to the errors. Both are in the order
    of the calls. The class is an ExceptionGroup, so `except*` works.
    """

    results: Mapping[K, V]
    errors: Mapping[K, Exception]

    def __new__(cls, message: str, exceptions: Sequence[Exception], /) -> PartialFailure[K, V]:
        failure = super().__new__(cls, message, exceptions)
        failure.results, failure.errors = {}, {}
        return failure

    @classmethod
    def of(cls, results: Mapping[K, V], errors: Mapping[K, Exception]) -> PartialFailure[K, V]:
        """Return the failure with these results and errors."""
        first = next(iter(errors.values()))
        text = f"{len(errors)} of {len(results) + len(errors)} calls failed; the first: {type(first).__name__}: {first}"
        failure = cls(text, list(errors.values()))
        failure.results = results
        failure.errors = errors
        return failure

    # Narrower than the base: ours holds no BaseException.
    def derive(self, excs: Sequence[Exception]) -> PartialFailure[K, V]:  # type: ignore[override]
        """The part of this failure that those errors are, with all of its results; for `split` and `except*`."""
        kept = {key: error for key, error in self.errors.items() if error in excs}
        failure: PartialFailure[K, V] = type(self)(self.message, excs)
        failure.results = self.results
        failure.errors = kept
        return failure


# --- webhooks and archives --------------------------------------------------------------------------------------------


class WebhookError(EvalsError):
    """A webhook was refused."""


class BadSignature(WebhookError):
    """No signature of the webhook matches its body, or a header is missing."""


class TimestampOutOfRange(WebhookError):
    """The webhook was signed too long ago, or in the future."""


class ArchiveError(EvalsError):
    """The archive file cannot be used.

    It has another schema, it is another kind of file, another export is running, or no disk space is left.
    """

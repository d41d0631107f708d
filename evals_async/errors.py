"""Everything that this package raises. Catch `EvalsError` for all of it, or as narrowly as you like.

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
    │  ├─ ApiError                 the server answered with an error: .status .code .type .param .message
    │  │                           .retry_after .body
    │  │  ├─ BadRequest 400        ├─ Unauthenticated 401   ├─ PermissionDenied 403   ├─ NotFound 404
    │  │  ├─ Conflict 409          ├─ Unprocessable 422     ├─ ServerError 5xx, 408, 425
    │  │  └─ RateLimited 429
    │  │     └─ QuotaExceeded      a 429 that waiting does not cure
    │  ├─ TransportError           no whole answer came
    │  │  ├─ ConnectFailed         no connection was made: the server saw nothing
    │  │  │  └─ TlsError           the certificate or the handshake was refused
    │  │  ├─ ConnectionDropped     the connection broke after sending began
    │  │  ├─ ResponseTruncated     the body ended early
    │  │  ├─ ProtocolError         what came is not HTTP
    │  │  └─ DeadlineExceeded      the call's time was up: .last is the failure before it     (also a TimeoutError)
    │  └─ ResponseError            a whole answer came that cannot be used
    │     ├─ DecodeError           not the JSON that was expected: .at .expected .got .body
    │     ├─ ResponseMismatch      it belongs to another request: .asked .got
    │     ├─ BodyTooLarge          more bytes than the limit: .limit
    │     └─ UnexpectedRedirect    the server points elsewhere: .status .location_host
    ├─ PaginationError             a listing does not move on: .after says where it stood
    ├─ WaitTimeout                 a run did not end in time: .last is the last state seen    (also a TimeoutError)
    ├─ RunFailed                   a run ended, but not as completed: .run
    ├─ WebhookError                a webhook was refused
    │  ├─ BadSignature             ├─ TimestampOutOfRange
    ├─ PartialFailure              some of many calls failed: .results and .errors by key     (also an ExceptionGroup)
    └─ ArchiveError                the archive file cannot be used

All are plain values: picklable, without objects of other libraries, and never with a key in them. Nothing of ours is
imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import attrs


K = TypeVar("K")
V = TypeVar("V")

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})  # 52x: Cloudflare
LONGEST_SHOWN = 300  # characters of an id in a message: no id is longer than 256
SHOWN_OF_A_MESSAGE = 200  # characters of a server's message that go into str(error); the whole is in .message and .body


def shown(value: object) -> str:
    """An id as a message shows it: whole, in printable ASCII. What is too long for an id is cut."""
    text = ascii(value)
    return text if len(text) <= LONGEST_SHOWN else text[:40] + "..."


@attrs.frozen
class Attempt:
    """What became of one attempt: its failure's class name or "ok", the HTTP status if one came, the time."""

    outcome: str
    status: int | None
    seconds: float


def restore(kind: type[EvalsError], args: tuple[object, ...], state: dict[str, object]) -> EvalsError:
    """The error that `EvalsError.__reduce__` took apart."""
    error = kind.__new__(kind, *args)
    error.args = args  # OSError leaves them to its __init__, which is not called here
    error.__dict__.update(state)
    return error


class EvalsError(Exception):
    """The root of everything that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with .args again, which classes with required keywords would refuse.
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
    """The client cannot be used here and now; the message says what to do instead."""


class ClientClosed(LifecycleError):
    """The client was closed, before this call or during it."""


class WrongLoop(LifecycleError):
    """The client belongs to another event loop. Make one client per loop."""


class ForkedClient(LifecycleError):
    """The process was forked after the client was first used. Make a client in the child."""


# --- one request ------------------------------------------------------------------------------------------------------


class RequestError(EvalsError):
    """One request failed.

    `method` and `path` say which; `request_id` is the server's name for it. `attempts` were made in `elapsed` seconds,
    `history` lists them, `note` says why there was no further one. `maybe_executed` is true when a request that changes
    something may have been carried out although no usable answer came: look before you send it again. `after` is set
    when a later page of a listing failed: the cursor to go on with.
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
        """Whether time may cure it: the same request may succeed later. Retries, waits and exports go by this."""
        return False

    def about(self, method: str, path: str, request_id: str | None = None) -> Self:
        """This error, told which request it is about; what is known already stays."""
        self.method = self.method or method
        self.path = self.path or path
        self.request_id = self.request_id or request_id
        return self

    @property
    def headline(self) -> str:
        """What happened, in two or three words; subclasses say it better."""
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
            text += " (the request may have been carried out; look before sending it again)"
        return f"{text} [{self.note}]" if self.note else text


class ApiError(RequestError):
    """The server answered with an error status.

    `status` is the HTTP status; `code`, `type` and `param` are the error object's fields, where the body had them;
    `message` is the server's own sentence; `retry_after` is how many seconds it asks to wait; `body` is the start of
    the body as text (2 KiB at most).
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
    def transient(self) -> bool:
        return self.status in TRANSIENT_STATUSES

    @property
    def headline(self) -> str:
        return f"{self.status} {self.code or self.type or type(self).__name__}"


class BadRequest(ApiError):
    """400: the server refuses the request as it is."""


class Unauthenticated(ApiError):
    """401: the key is missing, wrong or revoked."""


class PermissionDenied(ApiError):
    """403: the key may not do this."""


class NotFound(ApiError):
    """404: there is no such object, or it belongs to another project."""


class Conflict(ApiError):
    """409: the object's state does not allow it."""


class Unprocessable(ApiError):
    """422: well-formed, and still refused."""


class RateLimited(ApiError):
    """429: too many requests; `retry_after` says how long to wait, where the server told."""


class QuotaExceeded(RateLimited):
    """429 of the kind that waiting does not cure (insufficient_quota, billing). Never sent again."""

    @property
    def transient(self) -> bool:
        return False


class ServerError(ApiError):
    """5xx, or 408 and 425: the server's trouble."""


class TransportError(RequestError):
    """No whole response came."""

    @property
    def transient(self) -> bool:
        return True


class ConnectFailed(TransportError):
    """No connection was made, so the server saw nothing: refused, no such host, no route.

    `unknown_host` tells that the name does not exist, which trying again seldom cures.
    """

    def __init__(self, message: str, *, unknown_host: bool = False) -> None:
        super().__init__(message)
        self.unknown_host = unknown_host


class TlsError(ConnectFailed):
    """The certificate or the TLS handshake was refused."""

    @property
    def transient(self) -> bool:
        return False


class ConnectionDropped(TransportError):
    """The connection broke after the request was begun to be sent."""


class ResponseTruncated(TransportError):
    """The body ended before its declared end, or its compression is broken."""


class ProtocolError(TransportError):
    """What came back is not HTTP as the standard has it."""


class DeadlineExceeded(TransportError, TimeoutError):
    """The time of the call, or of its last attempt, was up. `last` is the failure before it, if there was one."""

    def __init__(self, message: str, *, last: RequestError | None = None) -> None:
        super().__init__(message)
        self.last = last


class ResponseError(RequestError):
    """A whole answer came, with a status of success, and it cannot be used."""


class DecodeError(ResponseError):
    """The body is not the JSON that was expected.

    `at` is the place (`$.data[3].result_counts.total`), `expected` and `got` are JSON types or values; `body` holds the
    bytes received.
    """

    def __init__(self, message: str, *, at: str = "$", expected: str = "", got: str = "", body: bytes = b"") -> None:
        super().__init__(message)
        self.at = at
        self.expected = expected
        self.got = got
        self.body = body

    @property
    def transient(self) -> bool:
        return True  # a proxy's page, a body that was cut: the next one may be whole


class ResponseMismatch(ResponseError):
    """The answer belongs to another request: `asked` is the id asked for, `got` the id that came."""

    def __init__(self, message: str, *, asked: str = "", got: str = "") -> None:
        super().__init__(message)
        self.asked = asked
        self.got = got

    @property
    def transient(self) -> bool:
        return True


class BodyTooLarge(ResponseError):
    """The decoded body is larger than `limit` bytes; reading stopped there."""

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


class UnexpectedRedirect(ResponseError):
    """The server points elsewhere, and the client does not follow: the key would go with it. Check the base URL."""

    def __init__(self, message: str, *, status: int = 0, location_host: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.location_host = location_host


# --- several requests -------------------------------------------------------------------------------------------------


class PaginationError(EvalsError):
    """A listing does not move on:

    a cursor came twice, pages stay empty, or the cursor is missing. `after` says where it stood.
    """

    def __init__(self, message: str, *, after: str | None = None) -> None:
        super().__init__(message)
        self.after = after


class WaitTimeout(EvalsError, TimeoutError):
    """The thing waited for did not happen in time. `last` is the last state seen, or `None` if there was none."""

    def __init__(self, message: str, *, last: Any = None) -> None:
        super().__init__(message)
        self.last = last


class RunFailed(EvalsError):
    """A run ended, but not as `completed`. `run` is its last state."""

    def __init__(self, message: str, *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class PartialFailure(EvalsError, ExceptionGroup[Exception], Generic[K, V]):
    """Some of many calls failed, and the others did not.

    `results` holds what did arrive, `errors` what did not, both by key, in the order asked. As an ExceptionGroup it can
    be taken apart with `except*`.
    """

    results: Mapping[K, V]
    errors: Mapping[K, Exception]

    def __new__(cls, message: str, exceptions: Sequence[Exception], /) -> PartialFailure[K, V]:
        failure = super().__new__(cls, message, exceptions)
        failure.results, failure.errors = {}, {}
        return failure

    @classmethod
    def of(cls, results: Mapping[K, V], errors: Mapping[K, Exception]) -> PartialFailure[K, V]:
        """The failure of `errors` out of `results` and `errors`."""
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
    """No signature of the webhook fits its body, or a header is missing."""


class TimestampOutOfRange(WebhookError):
    """The webhook was signed too long ago, or in the future."""


class ArchiveError(EvalsError):
    """The archive file cannot be used:

    another schema, another kind of file, another exporter at work, or no space left.
    """

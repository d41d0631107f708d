"""The numbers and the table of sending again: `Timeouts`, `RetryPolicy`, and what each failure means for each request.

Values and pure functions only; `retry` acts on them.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from evals_async._transport.messages import Kind
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    ConfigurationError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseMismatch,
    TlsError,
    TransportError,
)


def positive(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{attribute.name} must be more than 0, not {value!r}")


def not_negative(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigurationError(f"{attribute.name} must be a number from 0, not {value!r}")


def few(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if not 1 <= value <= 11:
        raise ConfigurationError(f"attempts must be 1 to 11 (max_retries 0 to 10), not {value!r}")


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a call may take, in seconds; `None` is without end. Raises `ConfigurationError` for zero and less.

    `total` is one deadline for the whole call: waiting for a turn, every attempt, the pauses between them and the body.
    60 is what people wait for a page. `attempt` ends one attempt, so that a silent server costs a third of the call,
    not all of it; uploads and downloads of files are not cut by it, and a download instead ends when no byte comes for
    so long. `connect` is for name, socket and TLS together.
    """

    total: float | None = attrs.field(default=60.0, validator=positive)
    attempt: float | None = attrs.field(default=20.0, validator=positive)
    connect: float | None = attrs.field(default=5.0, validator=positive)

    @classmethod
    def of(cls, timeout: object) -> "Timeouts":
        """The timeouts of a call that may take so many seconds; `None` is without any end.

        Where more than a minute is given, one attempt may take a third of it. Raises `ConfigurationError`.
        """
        if isinstance(timeout, Timeouts):
            return timeout
        if timeout is None:
            return cls(total=None, attempt=None)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigurationError(
                f"timeout must be a number of seconds above 0, Timeouts, or None, not {timeout!r:.80}"
            )
        return cls(total=timeout, attempt=max(20.0, timeout / 3))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed request is sent again; what is sent again at all is in `RETRIES`.

    `attempts` counts the first one; 3 are what most clients of AWS, Stripe and OpenAI make. With 1 nothing is ever sent
    again, not even after a 429. The pause before retry n is drawn from [0, min(`cap`, `base` * 2^(n-1))], full jitter:
    callers that failed together do not come back together. After a 429 without a delay, `throttled_base` and
    `throttled_cap` take their place.

    A delay d that the server asks for is kept: the pause is d and up to min(5, d/4) more. If d is above
    `max_server_delay` the call fails at once instead of holding the caller. 429s are not attempts; `throttle_rounds` of
    them end a call, its deadline usually sooner.

    `budget` is what a client may spend on retries, `retry_cost` what one costs; a success gives 1 back, or the whole
    cost if it came by a retry. With 500 and 14 a dead server is sent 35 retries and then one request a call. 429s cost
    nothing, the gate limits them.
    """

    attempts: int = attrs.field(default=3, validator=few)
    base: float = attrs.field(default=0.25, validator=not_negative)
    cap: float = attrs.field(default=8.0, validator=not_negative)
    throttled_base: float = attrs.field(default=1.0, validator=not_negative)
    throttled_cap: float = attrs.field(default=30.0, validator=not_negative)
    max_server_delay: float = attrs.field(default=60.0, validator=not_negative)
    throttle_rounds: int = 20
    budget: float = attrs.field(default=500.0, validator=not_negative)
    retry_cost: float = attrs.field(default=14.0, validator=not_negative)


Failure: TypeAlias = Literal[
    "unsent", "unknown_host", "throttled", "unavailable", "lost", "timed_out", "unreadable", "unclear", "final"
]
"""What a failure says of its request.

It was not sent (unsent, unknown_host); it was turned away before anything was done (throttled); nothing is known of it
(unavailable, lost, timed_out, unclear); it was carried out, and the answer is of no use (unreadable); or trying again
cannot help, and nothing was done (final).
"""

AMBIGUOUS: frozenset[Failure] = frozenset({"unavailable", "lost", "timed_out", "unreadable", "unclear"})

UNAVAILABLE = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})  # 52x are Cloudflare's
NOT_DONE = frozenset({501, 505})  # the 5xx that say that nothing was done

MANY = 100  # as often as the policy's attempts allow

RETRIES: Mapping[Failure, Mapping[Kind, int]] = {
    "unsent": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    "unknown_host": {"read": 1, "create": 1, "update": 1, "cancel": 1, "delete": 1},
    "throttled": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    # What creates is not sent twice, unless the first surely was not carried out; the others have the same end state.
    "unavailable": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "lost": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "timed_out": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
    "unreadable": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
    "unclear": {"read": 0, "create": 0, "update": 0, "cancel": 0, "delete": 0},
    "final": {"read": 0, "create": 0, "update": 0, "cancel": 0, "delete": 0},
}
"""How many more times a request of that kind is sent after that failure, within the policy's attempts."""


def failure_of(error: RequestError, *, sent: bool = True) -> Failure:
    """What `error` says of its request; `sent` is false where it is known that no byte of it left."""
    match error:
        case TlsError() | QuotaExceeded():
            return "final"
        case ConnectFailed():
            return "unknown_host" if error.unknown_host else "unsent"
        case RateLimited():
            return "throttled"
        case ApiError():
            return failure_of_status(error.status, error.retry_after)
        case DeadlineExceeded():
            return "timed_out" if sent else "final"  # not sent: the time of the whole call is up
        case TransportError():
            return "lost" if sent else "unsent"
        case DecodeError() | ResponseMismatch():
            return "unreadable"
        case BodyTooLarge():
            return "unclear"
        case _:
            return "final"


def failure_of_status(status: int, retry_after: float | None) -> Failure:
    if status == 503 and retry_after is not None:
        return "throttled"
    if status in UNAVAILABLE:
        return "unavailable"
    return "unclear" if status >= 500 and status not in NOT_DONE else "final"

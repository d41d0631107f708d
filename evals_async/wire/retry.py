"""When a failed request is sent again, and after how long: the policy's numbers, the table, the budget. The only doorway to tenacity.

Nothing here sends, and nothing here holds other calls back: the pause that a 429 puts on everyone is in `limits`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import attrs

from evals_async.clock import Clock
from evals_async.errors import (
    ApiError,
    ConfigurationError,
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    DecodeError,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseMismatch,
    ResponseTruncated,
    TlsError,
)
from evals_async.wire.delays import server_delay as server_delay
from evals_async.wire.exchange import Kind


if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

SHORTEST_ATTEMPT = 0.2  # seconds: an attempt that would have less is not begun


def positive(instance: object, attribute: "attrs.Attribute[float | None]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{attribute.name} must be more than 0, not {value!r}")


def not_negative(instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigurationError(f"{attribute.name} must be a number from 0, not {value!r}")


def few(instance: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if not 1 <= value <= 11:
        raise ConfigurationError(f"attempts must be 1 to 11 (max_retries 0 to 10), not {value!r}")


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a call may take, in seconds; `None` is without end. Raises `ConfigurationError` for zero and less.

    `total` is one deadline for the whole call: waiting for a turn, every attempt, the pauses between them and the body. 60 is what people
    wait for a page. `attempt` ends one attempt, so that a silent server costs a third of the call, not all of it; uploads and downloads
    of files are not cut by it, and a download instead ends when no byte comes for so long. `connect` is for name, socket and TLS together.
    """

    total: float | None = attrs.field(default=60.0, validator=positive)
    attempt: float | None = attrs.field(default=20.0, validator=positive)
    connect: float | None = attrs.field(default=5.0, validator=positive)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed request is sent again; what is sent again at all is in `RETRIES`.

    `attempts` counts the first one; 3 are what most clients of AWS, Stripe and OpenAI make. With 1 nothing is ever sent again, not even
    after a 429. The pause before retry n is drawn from [0, min(`cap`, `base` * 2^(n-1))], full jitter: callers that failed together do not
    come back together. After a 429 without a delay, `throttled_base` and `throttled_cap` take their place.

    A delay d that the server asks for is kept: the pause is d and up to min(5, d/4) more. If d is above `max_server_delay` the call
    fails at once instead of holding the caller. 429s are not attempts; `throttle_rounds` of them end a call, its deadline usually sooner.

    `budget` is what a client may spend on retries, `retry_cost` what one costs; a success gives 1 back, or the whole cost if it came
    by a retry. With 500 and 14 a dead server is sent 35 retries and then one request a call. 429s cost nothing, the gate limits them.
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
    "unsent", "unknown_host", "throttled", "unavailable", "lost", "timed_out", "unreadable", "final"
]
"""What a failure says of the request: it was not sent; it was refused before it was carried out (throttled); or nothing is known
(unavailable, lost, timed_out); it was carried out and the answer is useless (unreadable); trying again cannot help (final)."""

AMBIGUOUS: frozenset[Failure] = frozenset({"unavailable", "lost", "timed_out", "unreadable"})

UNAVAILABLE = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})

MANY = 100  # as often as the policy's attempts allow

RETRIES: Mapping[Failure, Mapping[Kind, int]] = {
    "unsent": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    "unknown_host": {"read": 1, "create": 1, "update": 1, "cancel": 1, "delete": 1},
    "throttled": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    # A creating request is not sent twice unless the first surely was not carried out; the others have the same end state twice.
    "unavailable": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "lost": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "timed_out": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
    "unreadable": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
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
            if error.status == 503 and error.retry_after is not None:
                return "throttled"
            return "unavailable" if error.status in UNAVAILABLE else "final"
        case DeadlineExceeded():
            return "timed_out" if sent else "unsent"
        case ConnectionDropped() | ResponseTruncated() | ProtocolError():
            return "lost" if sent else "unsent"
        case DecodeError() | ResponseMismatch():
            return "unreadable"
        case _:
            return "final"


class Budget:
    """What all calls of a client may spend on retries, so that a dead server is not asked three times as often as a healthy one."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.left = capacity

    def take(self, cost: float) -> bool:
        """Pay for a retry; false, and nothing is taken, if too little is left."""
        if cost > self.left:
            return False
        self.left -= cost
        return True

    def give(self, amount: float) -> None:
        self.left = min(self.capacity, self.left + amount)


class Patience:
    """What one call has been through, and whether and when it tries again. Made on the first failure; never shared between calls."""

    def __init__(self, policy: RetryPolicy, kind: Kind, clock: Clock, budget: Budget, end: float) -> None:
        self.policy = policy
        self.kind = kind
        self.clock = clock
        self.budget = budget
        self.end = end
        self.attempts = 0
        self.rounds = 0
        self.seen: dict[Failure, int] = {}
        self.resent = False
        self.renewed = False
        self.ambiguous = False
        self.cost = 0.0
        self.note: str | None = None

    def wait_after(
        self,
        error: RequestError,
        *,
        sent: bool = True,
        stale: bool = False,
        renewed: bool = False,
        should_retry: str | None = None,
    ) -> float | None:
        """Seconds until the next attempt, or `None` if there is none, and `note` says why.

        `stale` tells of a pooled connection that was dead, `renewed` of new credentials after a 401, `should_retry` is the server's word.
        """
        failure = failure_of(error, sent=sent)
        if failure == "final" and should_retry == "true" and self.kind != "create" and type(error) is not QuotaExceeded:
            failure = "unavailable"
        already_ambiguous, self.ambiguous = (
            self.ambiguous,
            self.ambiguous or (self.kind != "read" and failure in AMBIGUOUS),
        )
        if self.policy.attempts == 1:
            return self.stop("retries are off" if not renewed and not stale else None)
        if stale and self.kind == "read" and not self.resent:
            self.resent = True
            return 0.0
        if renewed and not self.renewed:
            self.renewed = True
            return 0.0
        del already_ambiguous
        if should_retry == "false":
            return self.stop("the server says not to try again")
        return self.paid_wait(error, failure)

    def paid_wait(self, error: RequestError, failure: Failure) -> float | None:
        policy = self.policy
        told = RETRIES[failure][self.kind]
        if told == 0:
            return self.stop("a request that creates is not sent twice" if failure in AMBIGUOUS else None)
        counted = not isinstance(error, RateLimited)
        self.attempts += counted
        self.rounds += not counted
        self.seen[failure] = self.seen.get(failure, 0) + 1
        if self.attempts >= policy.attempts or self.seen[failure] > told:
            return self.stop("tried often enough")
        if self.seen.get("timed_out", 0) > 1 or (failure != "timed_out" and self.seen.get("timed_out") and counted):
            return self.stop("one more attempt after one that timed out was made")
        if self.rounds > policy.throttle_rounds:
            return self.stop(f"refused {self.rounds} times by the rate limit")
        wait = self.pause(error, throttled=failure == "throttled")
        if wait is None:
            return None
        if self.clock.monotonic() + wait + SHORTEST_ATTEMPT > self.end:
            return self.stop(f"the next attempt would come in {wait:.3g} s, after the deadline")
        if counted and not self.budget.take(policy.retry_cost):
            return self.stop("the client's retry budget is used up")
        self.cost = policy.retry_cost if counted else self.cost
        return wait

    def pause(self, error: RequestError, *, throttled: bool) -> float | None:
        policy = self.policy
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None:
            if asked > policy.max_server_delay:
                return self.stop(
                    f"the server asks to wait {asked:.6g} s, more than the {policy.max_server_delay:g} s that are waited for"
                )
            return asked + self.clock.random() * min(5.0, asked / 4)
        base, cap = (policy.throttled_base, policy.throttled_cap) if throttled else (policy.base, policy.cap)
        doublings = max(self.rounds if throttled else self.attempts, 1) - 1
        return self.clock.random() * min(cap, base * 2**doublings)

    def stop(self, note: str | None) -> None:
        self.note = note


async def keep_trying(
    first: RequestError,
    attempt: Callable[[], Awaitable[T]],
    wait_after: Callable[[RequestError], float | None],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """What `attempt` returns in the end, after it failed once with `first`; or its last failure, as it is.

    `wait_after` is asked after each failure, `first` included: seconds until the next attempt, or `None` for no more.
    """
    # Imported on the first retry: most processes never have one. A new object per call, because its state is on the object; synchronous
    # callbacks only, because tenacity loses results when an asynchronous one is suspended.
    from tenacity import AsyncRetrying, retry_if_exception

    failures = [first]
    waits = [0.0]

    async def next_attempt() -> T:
        if failures:
            raise failures.pop()
        return await attempt()

    def again(error: BaseException) -> bool:
        # Only our own errors: a predicate that says yes to CancelledError would swallow the cancellation.
        wait = wait_after(error) if isinstance(error, RequestError) else None
        waits[0] = wait or 0.0
        return wait is not None

    def pause(state: "RetryCallState") -> float:
        return waits[0]

    async def nap(seconds: float) -> None:
        await sleep(seconds)

    return await AsyncRetrying(sleep=nap, wait=pause, retry=retry_if_exception(again), reraise=True)(next_attempt)

"""Whether, when and how often a request is sent again: `Timeouts`, `RetryPolicy`, the table of failures, the state of
one call's retries, the budget of all calls, and `retrying`, which hands them to tenacity.

Nothing here sends, and nothing here holds other calls back: that a 429 makes everyone wait is in `limiter`.
"""

import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from evals_async._clock import Clock
from evals_async._transport.messages import Kind
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    ConfigurationError,
    ConnectFailed,
    DeadlineExceeded,
    QuotaExceeded,
    RateLimited,
    RequestError,
    TransportError,
)


if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

SHORTEST_ATTEMPT = 0.2  # seconds: an attempt that would have less is not begun
MOST_DOUBLINGS = 60  # of a pause: `cap` is reached long before
MOST_ADDED = 0.25  # seconds at most that are added to the delay a server asks for


def positive(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{attribute.name} must be more than 0, not {value!r}")


def not_negative(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigurationError(f"{attribute.name} must be a number from 0, not {value!r}")


def one_or_more(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if not value >= 1:
        raise ConfigurationError(f"attempts must be 1 or more (max_retries 0 or more), not {value!r}")


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a call may take, in seconds; `None` means no limit. Raises `ConfigurationError` for values of 0 or less.

    `total` is one deadline for the whole call: the wait for the limiter, every attempt, the pauses and the bodies.
    `attempt` ends one attempt, so that a silent server does not use up the whole call. It does not end uploads and
    downloads of files; a download ends if no byte comes for that time. `connect` is for DNS, TCP and TLS together.
    """

    total: float | None = attrs.field(default=60.0, validator=positive)
    attempt: float | None = attrs.field(default=20.0, validator=positive)
    connect: float | None = attrs.field(default=5.0, validator=positive)

    @classmethod
    def of(cls, timeout: object) -> "Timeouts":
        """The timeouts of a call that may take that many seconds; `None` means no limit.

        If it is more than a minute, one attempt may take a third of it. Raises `ConfigurationError`.
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
    """How often and how soon a failed request is sent again; what is sent again at all is in `RETRIES`.

    `attempts` includes the first one. With 1 nothing is sent again, also after a 429. The pause before retry n is
    random, from 0 to min(`cap`, `base` * 2^(n-1)) seconds (full jitter), so that callers that failed together do not
    come back together. After a 429 without a delay, `throttled_base` and `throttled_cap` are used instead. A call with
    a limiter does not use them: it waits for the limiter.

    A delay d that the server asks for is kept: the pause is d and up to min(0.25, d/4) more; it is shorter only where a
    limiter has found out meanwhile what the server allows. If d is above
    `max_server_delay` the call fails at once instead of holding the caller. 429s are not attempts; `throttle_rounds` of
    them end a call, its deadline usually sooner.

    `budget` is what a client may spend on retries, `retry_cost` what one costs; a success gives 1 back, or the whole
    cost if it came by a retry. With 500 and 14 a dead server is sent 35 retries and then one request a call. 429s cost
    nothing, the limiter slows them down.
    """

    attempts: int = attrs.field(default=3, validator=one_or_more)
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

NOT_DONE = frozenset({501, 505})  # the 5xx that say that nothing was done

MANY = sys.maxsize  # as often as the policy's attempts allow

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
    if not error.transient:
        status = error.status if isinstance(error, ApiError) else 0
        unclear = isinstance(error, BodyTooLarge) or (status >= 500 and status not in NOT_DONE)
        return "unclear" if unclear else "final"
    match error:
        case ConnectFailed():
            return "unknown_host" if error.unknown_host else "unsent"
        case RateLimited():
            return "throttled"
        case ApiError():
            return "throttled" if error.status == 503 and error.retry_after is not None else "unavailable"
        case DeadlineExceeded():
            return "timed_out" if sent else "final"  # not sent: the time of the whole call is up
        case TransportError():
            return "lost" if sent else "unsent"
        case _:
            return "unreadable"


class Budget:
    """What all calls of a client have spent on retries, so that a dead server is not asked three times as often.

    How much they may spend is in the policy of each call.
    """

    def __init__(self) -> None:
        self.spent = 0.0

    def take(self, cost: float, capacity: float) -> bool:
        """Pay for a retry; false, and nothing is taken, if that would be more than `capacity` in all."""
        if self.spent + cost > capacity:
            return False
        self.spent += cost
        return True

    def give(self, amount: float) -> None:
        self.spent = max(0.0, self.spent - amount)


class RetryState:
    """The retries of one call. Made on its first failure, never shared.

    After a failure it is asked twice: `may_retry` sets `wait`, the seconds until the next attempt, and `exhausted` says
    whether that is too late or too much. Where either ends the call, `note` says why.
    """

    def __init__(
        self, policy: RetryPolicy, kind: Kind, clock: Clock, budget: Budget, end: float, *, limited: bool = False
    ) -> None:
        self.policy = policy
        self.kind: Kind = kind
        self.clock = clock
        self.budget = budget
        self.end = end
        self.limited = limited  # a limiter holds requests back
        self.attempts = 0  # that count, and failed
        self.rounds = 0  # of being told 429
        self.seen: dict[Failure, int] = {}
        self.resent = False
        self.renewed = False
        self.ambiguous = False
        self.cost = 0.0  # of the last retry
        self.wait = 0.0
        self.asked: float | None = None  # seconds that the server asks to wait
        self.refused = False  # whether a limit refused it: then it was no attempt, and the budget does not pay for it
        self.at_once = False  # whether the next attempt is made whatever policy and budget say
        self.note: str | None = None

    def may_retry(
        self,
        error: RequestError,
        *,
        sent: bool = True,
        stale: bool = False,
        renewed: bool = False,
        should_retry: str | None = None,
    ) -> bool:
        """Whether a request that failed so is sent again, as far as table, policy and server say.

        `stale` tells of a pooled connection that was dead when it was used, `renewed` of new credentials after a 401;
        both are tried again at once and once, whatever the policy. `should_retry` is the server's `x-should-retry`.
        """
        failure = failure_of(error, sent=sent)
        if failure in AMBIGUOUS and self.kind != "read":
            self.ambiguous = True
        self.wait = 0.0
        self.refused = False
        stale = stale and self.kind == "read" and not self.resent
        renewed = renewed and not self.renewed and not stale
        self.at_once = stale or renewed
        if self.at_once:
            self.resent, self.renewed = self.resent or stale, self.renewed or renewed
            return True
        if should_retry == "false":
            self.note = "the server says not to try again"
            return False
        if should_retry == "true" and failure == "final" and self.kind != "create" and type(error) is not QuotaExceeded:
            failure = "unavailable"
        # A 503 with a delay is a limit's only where a limiter keeps those who wait from storming a server that is dead.
        self.refused = isinstance(error, RateLimited) or (failure == "throttled" and self.limited)
        self.note = self.refusal(failure)
        if self.note is None:
            self.asked = error.retry_after if isinstance(error, ApiError) else None
            self.wait = self.pause(throttled=failure == "throttled")
        return self.note is None

    def refusal(self, failure: Failure) -> str | None:
        """Why the table, or the count of attempts, allows no other; `None` if they do."""
        allowed = RETRIES[failure][self.kind]
        if allowed == 0:
            return "a create request is not sent twice" if failure in AMBIGUOUS and self.kind == "create" else ""
        if self.policy.attempts == 1:
            return "retries are off"
        late = self.seen.get("timed_out", 0) > 0
        self.seen[failure] = self.seen.get(failure, 0) + 1
        if self.refused:
            self.rounds += 1
            return None if self.rounds <= self.policy.throttle_rounds else f"told {self.rounds} times to slow down"
        self.attempts += 1
        if self.attempts >= self.policy.attempts or self.seen[failure] > allowed:
            return "no attempts left"
        return "tried once more after an attempt that timed out" if late else None

    def pause(self, *, throttled: bool) -> float:
        """Seconds until the next attempt: what the server asks for and a little more, or the back-off."""
        asked = self.asked
        if asked is not None:
            return asked + self.clock.random() * min(MOST_ADDED, asked / 4)  # never earlier, and never all together
        if throttled and self.limited:
            return 0.0  # the limiter finds out when it may go
        policy = self.policy
        base, cap = (policy.throttled_base, policy.throttled_cap) if throttled else (policy.base, policy.cap)
        count = self.rounds if self.refused else self.attempts
        return self.clock.random() * min(cap, base * 2.0 ** min(count - 1, MOST_DOUBLINGS))

    def exhausted(self) -> bool:
        """Whether the policy's longest delay, the call's time or the client's budget forbid the retry; else it is paid
        for.
        """
        self.note = None if self.at_once else self.shortage()
        return self.note is not None

    def shortage(self) -> str | None:
        policy, asked = self.policy, self.asked
        if asked is not None and asked > policy.max_server_delay:
            most = policy.max_server_delay
            return f"the server asks to wait {asked:.6g} s; the client waits at most {most:g} s"
        if self.clock.monotonic() + self.wait + SHORTEST_ATTEMPT > self.end:
            return f"the next attempt would begin in {self.wait:.3g} s, which is too late for the call"
        if self.refused:
            return None
        if not self.budget.take(policy.retry_cost, policy.budget):
            return "the client's budget for retries is used up"
        self.cost = policy.retry_cost
        return None


def load() -> None:
    """Import what the first retry needs."""
    import_module("tenacity")


def retrying(
    state: RetryState,
    may_retry: Callable[[RequestError], bool],
    before_sleep: Callable[[RequestError], None],
    sleep: Callable[[float], Awaitable[None]],
) -> "AsyncRetrying":
    """What makes the second attempt of a call and all later ones: tenacity, told by `state` how to wait and when to
    stop.

    `may_retry` is asked about each failure, and `before_sleep` is called before each pause. The last failure is raised
    as it is, and a cancellation goes through at once.
    """
    # Imported on the first retry: most processes never have one. A new object per call, because its state is on the
    # object; synchronous callbacks only, because tenacity loses results when an asynchronous one is suspended.
    from tenacity import AsyncRetrying, retry_if_exception

    async def pause(seconds: float) -> None:
        await sleep(seconds)  # the clock's own function may be no coroutine function, which tenacity wants

    def failed(attempt: "RetryCallState") -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        if isinstance(error, RequestError):  # as all that are retried
            before_sleep(error)

    return AsyncRetrying(
        # Only our own errors: a predicate that says yes to CancelledError swallows the cancellation.
        retry=retry_if_exception(lambda error: isinstance(error, RequestError) and may_retry(error)),
        wait=lambda _: state.wait,
        stop=lambda _: state.exhausted(),
        before_sleep=failed,
        sleep=pause,
        reraise=True,
    )

"""Retries: `Timeouts`, `RetryPolicy`, the table of failures, `RetryState`, the retry `Budget`, and `retrying`.

This module decides if, when and how often a request is sent again. It does not send, and it does not delay other
calls. After a 429, `limiter` delays all calls.
"""

import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from evals_async._clock import Clock
from evals_async._transport.delays import with_jitter
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

SHORTEST_ATTEMPT = 0.2  # seconds; an attempt with less time left is not started
MOST_DOUBLINGS = 60  # avoids an overflow; the pause reaches `cap` long before
AT_LIMIT = 5  # refusals after which a request with `own_delay=False` waits for its delay, too


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def positive(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not (is_number(value) and value > 0):
        raise ConfigurationError(f"{attribute.name} must be a number above 0, not {value!r:.80}")


def not_negative(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not (is_number(value) and 0 <= value < math.inf):
        raise ConfigurationError(f"{attribute.name} must be a number from 0, not {value!r:.80}")


def one_or_more(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"attempts must be 1 or more (max_retries 0 or more), not {value!r:.80}")


def whole_number(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{attribute.name} must be a whole number from 0, not {value!r:.80}")


@attrs.frozen(kw_only=True)
class Timeouts:
    """The time limits of a call, in seconds. `None` means no limit. Raises `ConfigurationError` for values <= 0.

    `total` limits the whole call: the wait for the limiter, all attempts, the pauses and the bodies. `attempt` limits
    one attempt, so that a silent server does not use the time of the whole call. It does not limit uploads and
    downloads of files, but a download fails if no byte arrives for that time. `connect` limits DNS, TCP and TLS
    together.
    """

    total: float | None = attrs.field(default=60.0, validator=positive)
    attempt: float | None = attrs.field(default=20.0, validator=positive)
    connect: float | None = attrs.field(default=5.0, validator=positive)

    @classmethod
    def of(cls, timeout: object) -> "Timeouts":
        """Return the timeouts of a call that may take `timeout` seconds. `None` means no limit.

        Above one minute, an attempt may take a third of `timeout`. Raises `ConfigurationError` for other values.
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
    """How often and how soon a failed request is retried. The table `RETRIES` says which requests can be retried.

    `attempts` includes the first attempt. With 1, there are no retries, also not after a 429. The pause before retry n
    is random: from 0 to min(`cap`, `base` * 2^(n-1)) seconds (full jitter). So calls that failed together do not retry
    together. After a 429 without a delay, the pause uses `throttled_base` and `throttled_cap`. A call with an
    `AdaptiveLimiter` does not use these two; it waits for the limiter.

    If the server asks for a delay of d seconds, the pause is d plus up to min(0.25, d/4) seconds. A limiter may end
    the pause earlier when it learns that the server allows more. If d is above `max_server_delay`, the call fails at
    once. A 429 does not count as an attempt. More than `throttle_rounds` of them end a call; its deadline usually ends
    it sooner. With an `AdaptiveLimiter`, those within the delay that the server asked for count once (within
    `throttled_base` without a delay), because the limiter also sends waiting calls to test the limit.

    `budget` limits what all calls of a client spend on retries. Each retry costs `retry_cost`. A success returns 1, or
    the whole cost if a retry succeeded. With 500 and 14, a dead server gets 35 retries, and then one request per call.
    A 429 costs nothing, because the limiter slows the calls down.
    """

    attempts: int = attrs.field(default=3, validator=one_or_more)
    base: float = attrs.field(default=0.25, validator=not_negative)
    cap: float = attrs.field(default=8.0, validator=not_negative)
    throttled_base: float = attrs.field(default=1.0, validator=not_negative)
    throttled_cap: float = attrs.field(default=30.0, validator=not_negative)
    max_server_delay: float = attrs.field(default=60.0, validator=not_negative)
    throttle_rounds: int = attrs.field(default=20, validator=whole_number)
    budget: float = attrs.field(default=500.0, validator=not_negative)
    retry_cost: float = attrs.field(default=14.0, validator=not_negative)


Failure: TypeAlias = Literal[
    "unsent", "unknown_host", "throttled", "unavailable", "lost", "timed_out", "unreadable", "unclear", "final"
]
"""What a failure says about its request.

- unsent, unknown_host: the request was not sent.
- throttled: the server refused the request and did nothing.
- unavailable, lost, timed_out, unclear: the server may have executed the request.
- unreadable: the server executed the request, but the response cannot be used.
- final: the server did nothing, and a retry cannot help.
"""

AMBIGUOUS: frozenset[Failure] = frozenset({"unavailable", "lost", "timed_out", "unreadable", "unclear"})

NOT_DONE = frozenset({501, 505})  # with these 5xx statuses the server did nothing

MANY = sys.maxsize  # only the policy's `attempts` is the limit

RETRIES: Mapping[Failure, Mapping[Kind, int]] = {
    "unsent": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    "unknown_host": {"read": 1, "create": 1, "update": 1, "cancel": 1, "delete": 1},
    "throttled": {"read": MANY, "create": MANY, "update": MANY, "cancel": MANY, "delete": MANY},
    # A second create could make a second object, so it is sent only if the first had no effect. Others are idempotent.
    "unavailable": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "lost": {"read": MANY, "create": 0, "update": MANY, "cancel": MANY, "delete": MANY},
    "timed_out": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
    "unreadable": {"read": 1, "create": 0, "update": 1, "cancel": 1, "delete": 1},
    "unclear": {"read": 0, "create": 0, "update": 0, "cancel": 0, "delete": 0},
    "final": {"read": 0, "create": 0, "update": 0, "cancel": 0, "delete": 0},
}
"""How many times each kind of request is retried after each failure, within the policy's `attempts`."""


def failure_of(error: RequestError, *, sent: bool = True) -> Failure:
    """Return what `error` says about its request. `sent` is false if certainly no byte of the request left."""
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
            return "timed_out" if sent else "final"  # not sent: the deadline of the whole call has passed
        case TransportError():
            return "lost" if sent else "unsent"
        case _:
            return "unreadable"


class Budget:
    """The retry costs of all calls of a client. It protects a dead server from three times as many requests.

    The policy of each call contains the limit.
    """

    def __init__(self) -> None:
        self.spent = 0.0

    def take(self, cost: float, capacity: float) -> bool:
        """Pay for a retry. Return false and take nothing if the total would be above `capacity`."""
        if self.spent + cost > capacity:
            return False
        self.spent += cost
        return True

    def give(self, amount: float) -> None:
        self.spent = max(0.0, self.spent - amount)


class RetryState:
    """The retries of one call. It is created at the first failure of the call.

    Each failure needs two checks. `may_retry` checks the failure and sets `wait`, the seconds until the next attempt.
    `exhausted` checks the deadline and the budget. If one of them ends the call, `note` contains the reason.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        kind: Kind,
        clock: Clock,
        budget: Budget,
        end: float,
        *,
        limited: bool = False,
        adaptive: bool = False,
        own_delay: bool = True,
    ) -> None:
        self.policy = policy
        self.kind: Kind = kind
        self.clock = clock
        self.budget = budget
        self.end = end
        self.limited = limited  # a limiter holds requests back
        self.adaptive = adaptive  # it slows down by itself after a refusal without a delay
        self.own_delay = own_delay  # see `Request`
        self.attempts = 0  # failed attempts, without the 429s
        self.rounds = 0  # delays that a limit asked for, such as by a 429
        self.round_end = -math.inf  # when the last one ends
        self.seen: dict[Failure, int] = {}
        self.resent = False
        self.renewed = False
        self.ambiguous = False
        self.cost = 0.0  # of the last retry
        self.wait = 0.0
        self.asked: float | None = None  # seconds that the server asks to wait
        self.refused = False  # a limit refused the request: it is not an attempt and costs no budget
        self.at_once = False  # the next attempt ignores the policy and the budget
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
        """Return whether the table, the policy and the server allow a retry after `error`.

        `stale` means that the pooled connection was dead before its use. `renewed` means that there are new credentials
        after a 401. Each of these causes one immediate retry, with any policy. `should_retry` is the server's
        `x-should-retry` header.
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
        # A 503 with a delay counts as a limit only if a limiter is there. Otherwise all calls would hit a dead server.
        self.refused = isinstance(error, RateLimited) or (failure == "throttled" and self.limited)
        self.asked = error.retry_after if isinstance(error, ApiError) else None
        self.note = self.refusal(failure)
        if self.note is None:
            self.wait = self.pause(throttled=failure == "throttled")
        return self.note is None

    def refusal(self, failure: Failure) -> str | None:
        """Return why the table or the number of attempts forbids a retry, or `None` if both allow it."""
        allowed = RETRIES[failure][self.kind]
        if allowed == 0:
            return "a create request is not sent twice" if failure in AMBIGUOUS and self.kind == "create" else ""
        if self.policy.attempts == 1:
            return "retries are off"
        late = self.seen.get("timed_out", 0) > 0
        self.seen[failure] = self.seen.get(failure, 0) + 1
        if self.refused:
            now = self.clock.monotonic()
            if not self.adaptive or now >= self.round_end:  # earlier ones are tests of the limiter
                self.rounds += 1
                self.round_end = now + (self.policy.throttled_base if self.asked is None else self.asked)
            return None if self.rounds <= self.policy.throttle_rounds else f"told {self.rounds} times to slow down"
        self.attempts += 1
        if self.attempts >= self.policy.attempts or self.seen[failure] > allowed:
            return "no attempts left"
        return "tried once more after an attempt that timed out" if late else None

    def pause(self, *, throttled: bool) -> float:
        """Return the seconds until the next attempt: the server's delay plus jitter, or the back-off."""
        asked = self.asked
        if throttled and self.adaptive:  # the limiter decides when to send, unless the call waits for its own delay
            waits = asked is not None and (self.own_delay or self.seen["throttled"] > AT_LIMIT)
            if not waits:
                return 0.0
        if asked is not None:
            return with_jitter(asked, self.clock.random)
        policy = self.policy
        base, cap = (policy.throttled_base, policy.throttled_cap) if throttled else (policy.base, policy.cap)
        count = self.rounds if self.refused else self.attempts
        return self.clock.random() * min(cap, base * 2.0 ** min(count - 1, MOST_DOUBLINGS))

    def exhausted(self) -> bool:
        """Return whether the longest delay, the deadline or the budget forbids the retry. Otherwise, pay for it."""
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
    """Import the module that the first retry needs."""
    import_module("tenacity")


def retrying(
    state: RetryState,
    may_retry: Callable[[RequestError], bool],
    before_sleep: Callable[[RequestError], None],
    sleep: Callable[[float], Awaitable[None]],
) -> "AsyncRetrying":
    """Return the tenacity object that makes the second and all later attempts of a call.

    `state` gives the pauses and the end. `may_retry` checks each failure, and `before_sleep` runs before each pause.
    The last failure is raised unchanged. A cancellation ends the retries at once.
    """
    # Imported at the first retry, because most processes never retry. Each call needs a new object, because the object
    # holds state. All callbacks are synchronous, because tenacity loses the result of a suspended asynchronous one.
    from tenacity import AsyncRetrying, retry_if_exception

    async def pause(seconds: float) -> None:
        await sleep(seconds)  # tenacity needs a coroutine function, and the clock's may be none

    def failed(attempt: "RetryCallState") -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        if isinstance(error, RequestError):  # true for all retried errors
            before_sleep(error)

    return AsyncRetrying(
        # Only our own errors: a retry on CancelledError would swallow the cancellation.
        retry=retry_if_exception(lambda error: isinstance(error, RequestError) and may_retry(error)),
        wait=lambda _: state.wait,
        stop=lambda _: state.exhausted(),
        before_sleep=failed,
        sleep=pause,
        reraise=True,
    )

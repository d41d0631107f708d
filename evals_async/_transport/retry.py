"""Whether one call tries again, and when: `RetryState`, the `Budget` of all calls, and the only doorway to tenacity.

The numbers and the table are in `policy`. Nothing here sends, and nothing here holds other calls back: the pause that a
429 puts on everyone is in `limits`.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from evals_async._clock import Clock
from evals_async._transport.messages import Kind
from evals_async._transport.policy import AMBIGUOUS, RETRIES, Failure, RetryPolicy, failure_of
from evals_async.errors import ApiError, QuotaExceeded, RateLimited, RequestError


if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

SHORTEST_ATTEMPT = 0.2  # seconds: an attempt that would have less is not begun
MOST_ADDED = 5.0  # seconds at most that are added to the delay a server asks for


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
    """What one call has been through, and whether and when it tries again. Made on its first failure, never shared."""

    def __init__(self, policy: RetryPolicy, kind: Kind, clock: Clock, budget: Budget, end: float) -> None:
        self.policy = policy
        self.kind: Kind = kind
        self.clock = clock
        self.budget = budget
        self.end = end
        self.attempts = 0  # that count, and failed
        self.rounds = 0  # of being told 429
        self.seen: dict[Failure, int] = {}
        self.resent = False
        self.renewed = False
        self.ambiguous = False
        self.cost = 0.0  # of the last retry
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

        `stale` tells of a pooled connection that was dead when it was used, `renewed` of new credentials after a 401;
        both are tried again at once and once, whatever the policy. `should_retry` is the server's `x-should-retry`.
        """
        failure = failure_of(error, sent=sent)
        if failure in AMBIGUOUS and self.kind != "read":
            self.ambiguous = True
        if stale and self.kind == "read" and not self.resent:
            self.resent = True
            return 0.0
        if renewed and not self.renewed:
            self.renewed = True
            return 0.0
        if should_retry == "false":
            return self.stop("the server says not to try again")
        if should_retry == "true" and failure == "final" and self.kind != "create" and type(error) is not QuotaExceeded:
            failure = "unavailable"
        self.note = self.refusal(error, failure)
        if self.note is not None:
            return None
        return self.affordable(error, self.pause(error, throttled=failure == "throttled"))

    def refusal(self, error: RequestError, failure: Failure) -> str | None:
        """Why the table, or the count of attempts, allows no other; `None` if they do."""
        allowed = RETRIES[failure][self.kind]
        if allowed == 0:
            return "what creates is not sent twice" if failure in AMBIGUOUS and self.kind == "create" else ""
        if self.policy.attempts == 1:
            return "retries are off"
        late = self.seen.get("timed_out", 0) > 0
        self.seen[failure] = self.seen.get(failure, 0) + 1
        if isinstance(error, RateLimited):
            self.rounds += 1
            return None if self.rounds <= self.policy.throttle_rounds else f"told {self.rounds} times to slow down"
        self.attempts += 1
        if self.attempts >= self.policy.attempts or self.seen[failure] > allowed:
            return "tried often enough"
        return "tried once more after an attempt that timed out" if late else None

    def pause(self, error: RequestError, *, throttled: bool) -> float:
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None:
            return asked + self.clock.random() * min(MOST_ADDED, asked / 4)  # never earlier, and never all together
        policy = self.policy
        base, cap = (policy.throttled_base, policy.throttled_cap) if throttled else (policy.base, policy.cap)
        count = self.rounds if isinstance(error, RateLimited) else self.attempts
        return self.clock.random() * min(cap, base * 2.0 ** (count - 1))

    def affordable(self, error: RequestError, wait: float) -> float | None:
        """`wait`, if the server's patience, the call's time and the client's budget allow it."""
        policy = self.policy
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None and asked > policy.max_server_delay:
            most = policy.max_server_delay
            return self.stop(f"the server asks to wait {asked:.6g} s; more than {most:g} s are not waited for")
        if self.clock.monotonic() + wait + SHORTEST_ATTEMPT > self.end:
            return self.stop(f"the next attempt would begin in {wait:.3g} s, which is too late for the call")
        if isinstance(error, RateLimited):
            return wait
        if not self.budget.take(policy.retry_cost, policy.budget):
            return self.stop("the client's budget for retries is used up")
        self.cost = policy.retry_cost
        return wait

    def stop(self, note: str) -> float | None:
        self.note = note
        return None


async def keep_trying(
    first: RequestError,
    wait: float,
    attempt: Callable[[], Awaitable[T]],
    wait_after: Callable[[RequestError], float | None],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """What `attempt` returns in the end, after it failed with `first` and is to be made again in `wait` seconds.

    `wait_after` is asked after each later failure: seconds until the next attempt, or `None` for no more, and then the
    failure is raised as it is. All of it ends at once when it is cancelled.
    """
    # Imported on the first retry: most processes never have one. A new object per call, because its state is on the
    # object; synchronous callbacks only, because tenacity loses results when an asynchronous one is suspended.
    from tenacity import AsyncRetrying, retry_if_exception

    failed = [first]
    judged = 0

    async def next_attempt() -> T:
        if failed:
            raise failed.pop()
        return await attempt()

    def again(error: BaseException) -> bool:
        nonlocal judged, wait
        # Only our own errors: a predicate that says yes to CancelledError swallows the cancellation.
        if not isinstance(error, RequestError):
            return False
        judged += 1
        verdict = wait if judged == 1 else wait_after(error)
        wait = verdict or 0.0
        return verdict is not None

    def pause(state: "RetryCallState") -> float:
        return wait

    async def nap(seconds: float) -> None:
        await sleep(seconds)

    return await AsyncRetrying(sleep=nap, wait=pause, retry=retry_if_exception(again), reraise=True)(next_attempt)

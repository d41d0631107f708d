"""How many requests are under way, and how fast they follow each other: `Limiter`, `AdaptiveLimiter`, `Statistics`.

A limiter learns from answers and holds requests back. It sends nothing, and it does not decide whether a request is
sent again.
"""

import asyncio
import contextlib
import math
from collections import deque
from typing import Protocol

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.delays import RateLimits, rate_limits, server_delay, something_left
from evals_async._transport.messages import Headers, Response
from evals_async._transport.rate_control import RateControl, RateSource
from evals_async.errors import ConfigurationError, DeadlineExceeded


MAX_HOLD = 60.0  # seconds that an answer may hold everyone, unless the policy of its call says otherwise


@attrs.frozen(kw_only=True)
class Statistics:
    """What a client has done so far, and how its limiter stands.

    `requests` went out, `retries` of them again; `throttles` were refused by a limit; `bytes_received` are of decoded
    bodies. `in_flight` are under way and `waiting` wait for their turn. `rate` is the pace in requests a second, `None`
    if there is none. `rate_source` says why it is what it is: `unknown` (there is none), `given` (to the limiter),
    `told` (by the server's headers) or `measured` (between refusals); `rate_since` is for how many seconds that is so.
    `held_for` are the seconds that a refusal still holds everyone; `limits` are the last `x-ratelimit-*` headers seen.
    `over_session` says why requests go over aiohttp's session; `None` where they go directly over its connections,
    which is quicker (uploads and downloads go over the session in any case).
    """

    requests: int
    retries: int
    throttles: int
    bytes_received: int
    in_flight: int = 0
    waiting: int = 0
    rate: float | None = None
    rate_source: RateSource = "unknown"
    rate_since: float = 0.0
    held_for: float = 0.0
    limits: RateLimits | None = None
    over_session: str | None = None


class Limiter(Protocol):
    """What a client asks before each request, and tells after it. Write your own, or use `AdaptiveLimiter`.

    A limiter belongs to one event loop. A request that was let through is released exactly once, whatever became of it.
    """

    def try_acquire(self, now: float, /) -> int:
        """Let a request through if it need not wait: how many are under way with it, or 0 if it must wait.

        `now` is the client's monotonic time. A limiter that does not count returns 1.
        """
        ...

    async def acquire(self, end: float, /) -> int:
        """Wait until a request may go: how many are under way with it.

        Raises `DeadlineExceeded` if that cannot be before `end`, a monotonic time; at once, where it is certain.
        """
        ...

    def release(self) -> None:
        """A request that was let through is over."""
        ...

    def observe(self, response: Response, /, *, sent_at: float, among: int, max_hold: float) -> None:
        """Take in what an answer tells about limits.

        Its request was let through at `sent_at`, when `among` were under way. `max_hold` is how many seconds the call
        would wait for the server.
        """
        ...

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call asks for its turn again, for so many seconds or less."""
        ...

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """How things stand; the client counts what is given."""
        ...


@attrs.frozen
class Observation:
    """What one answer tells about limits. Its request was sent at `sent_at`, when `among` were under way."""

    sent_at: float
    among: int
    refused: bool = False
    granted: bool = False
    delay: float | None = None  # seconds that the server asks a refused call to wait
    limits: tuple[int, float] | None = None  # how many remain, and seconds until the reset

    @classmethod
    def of(cls, response: Response, sent_at: float, among: int, max_hold: float, time: float) -> "Observation":
        """`time` is seconds since the epoch; no more than `max_hold` seconds are waited for."""
        status = response.status
        delay = server_delay(response, time) if status in {429, 503} else None
        limits: tuple[int, float] | None = None
        told = None if something_left(response.headers) is None else rate_limits(response.headers)
        if told is not None:
            requests = told.requests
            if told.delay is not None:
                limits = (0, min(told.delay, max_hold))
                if delay is not None and told.delay < delay < told.delay + 1:
                    delay = told.delay  # the same, which Retry-After rounds up to whole seconds
            elif requests.remaining is not None and requests.reset is not None:
                limits = (requests.remaining, min(requests.reset, max_hold))
        return cls(
            sent_at,
            among,
            status == 429 or delay is not None,
            status < 500 and status != 429,
            None if delay is None else min(delay, max_hold),
            limits,
        )

    def apply(self, control: RateControl, now: float) -> None:
        if self.limits is not None:
            control.tell(now, self.sent_at, *self.limits)
        if self.refused:
            control.refused(now, self.sent_at, self.among, self.delay)
        elif self.granted:
            control.granted(now, self.sent_at, self.among)


class QueuedCall:
    """One call in the queue of a limiter."""

    __slots__ = ("end", "woken")

    def __init__(self, end: float) -> None:
        self.end = end
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Until it is woken, or for so long."""
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError), clock.timeout(seconds):
            await self.woken


class AdaptiveLimiter:
    """Finds out how much a server allows, and uses it to the full. The law is in `rate_control`.

    `max_rate` is the quota where it is known, in requests a second; `start_rate` is where to begin, until more is
    known. At most `max_in_flight` requests are under way. Share one between the clients that share a quota.
    """

    def __init__(
        self,
        *,
        max_rate: float | None = None,
        start_rate: float | None = None,
        max_in_flight: int = 100,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        for name, value in (("max_rate", max_rate), ("start_rate", start_rate), ("max_in_flight", max_in_flight)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"{name} must be a number above 0, not {value!r:.80}")
        self._clock = clock
        self._long = len(str(max_in_flight))  # digits: a longer number is more than can be under way
        self._control = RateControl(max_in_flight, clock.monotonic(), start_rate=start_rate, max_rate=max_rate)
        self._queue: deque[QueuedCall] = deque()
        self._paused: set[QueuedCall] = set()
        self._limits: Headers | None = None  # of the last answer that told limits

    def try_acquire(self, now: float, /) -> int:
        """Let a request through if it need not wait: how many are under way with it, or 0."""
        if self._queue or self._control.next_turn(now) > now:
            return 0
        return self._control.take(now)

    async def acquire(self, end: float, /) -> int:
        """Wait until a request may go, in the order of asking.

        Raises `DeadlineExceeded`, at once, when a hold that the server asked for lasts until `end` or longer, and when
        `end` comes before the turn.
        """
        waiting = QueuedCall(end)
        self._queue.append(waiting)
        try:
            while True:
                now = self._clock.monotonic()
                at = self._control.next_turn(now) if self._queue[0] is waiting else math.inf
                if at <= now:
                    return self._control.take(now, waited=True)
                self._check(now, end)
                await waiting.sleep(self._clock, min(at, end) - now)
        finally:
            if self._queue[0] is waiting:
                self._queue.popleft()
            else:
                self._queue.remove(waiting)
            self._wake()

    def _check(self, now: float, end: float) -> None:
        """Raise `DeadlineExceeded` where waiting is in vain."""
        control = self._control
        held = control.told_hold(now)
        if held > 0 and now + held >= end:
            raise DeadlineExceeded(f"the rate limit holds requests back for {held:.3g} s, too long for this call")
        if now < end:
            return
        if control.rate < math.inf:
            raise DeadlineExceeded(
                f"no turn in the time of this call: the limit is {control.rate:.3g} requests a second"
                f" ({control.source}), and the calls that wait now need {len(self._queue) / control.rate:.3g} s"
            )
        if control.held(now):
            raise DeadlineExceeded("the rate limit held requests back for as long as this call had")
        raise DeadlineExceeded(f"all {int(control.width)} connections were busy for as long as this call had")

    def _wake(self) -> None:
        if self._queue:
            self._queue[0].wake()

    def release(self) -> None:
        """A request is over: whoever waits longest looks whether it may go."""
        self._control.give(self._clock.monotonic())
        if self._queue:
            self._wake()

    def observe(self, response: Response, /, *, sent_at: float, among: int = 1, max_hold: float = MAX_HOLD) -> None:
        """Take in what an answer tells about the limits."""
        if response.status < 400 and not self._paused and self.tells_nothing(response.headers):
            self._control.granted(self._clock.monotonic(), sent_at, among)  # nearly every answer
            if self._queue:
                self._wake()
            return
        seen = Observation.of(response, sent_at, among, max_hold, self._clock.time())
        if seen.limits is not None:
            self._limits = response.headers
        seen.apply(self._control, self._clock.monotonic())
        if seen.refused:
            for waiting in self._queue:
                if waiting.end <= self._control.held_until < math.inf:
                    waiting.wake()
        if self._paused and self._control.understood(self._clock.monotonic()):
            for waiting in self._paused:
                waiting.wake()
        self._wake()

    def tells_nothing(self, headers: Headers) -> bool:
        """No limit is told, or none is known and more remains than can be under way: then nothing need be read."""
        left = headers.get("x-ratelimit-remaining-requests")
        if left is None or self._control.source != "unknown":
            return something_left(headers) is None
        if len(left) <= self._long or (headers.get("x-ratelimit-remaining-tokens") or "1")[0] == "0":
            return False
        self._limits = headers
        return True

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call asks again: so long, or until the rate is known that is allowed."""
        end = self._clock.monotonic() + seconds
        waiting = QueuedCall(end)
        self._paused.add(waiting)
        try:
            while (now := self._clock.monotonic()) < end and not self._control.understood(now):
                await waiting.sleep(self._clock, end - now)
        finally:
            self._paused.discard(waiting)

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """How things stand now; the client counts what is given."""
        return self.report(
            None,
            0.0,
            waiting=0,
            requests=requests,
            retries=retries,
            throttles=throttles,
            bytes_received=bytes_received,
        )

    def report(self, control: RateControl | None, offset: float, *, waiting: int, **counts: int) -> Statistics:
        """How `control` stands, whose clock is `offset` ahead; or else this limiter's own."""
        control, now = control or self._control, self._clock.monotonic() + offset
        held = control.told_hold(now)
        if control.held(now):
            held = max(0.0, min(control.held_until, control.probe_at) - now)
        return Statistics(
            requests=counts["requests"],
            retries=counts["retries"],
            throttles=counts["throttles"],
            bytes_received=counts["bytes_received"],
            waiting=waiting + len(self._queue),
            rate=None if control.rate == math.inf else control.rate,
            rate_source="told" if control.told(now) else control.source,
            rate_since=now - control.since,
            held_for=held,
            limits=None if self._limits is None else rate_limits(self._limits),
        )

    @property
    def rate(self) -> float | None:
        """The rate that is kept to, in requests a second, or `None`."""
        return None if self._control.rate == math.inf else self._control.rate

    def take(self) -> None:
        """Count a request that something else let through; it is released here as well."""
        self._control.take(self._clock.monotonic(), waited=True)


class Unlimited:
    """No limiter: every request goes at once, and a refused call waits for what its own answer asks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def try_acquire(self, now: float, /) -> int:
        return 1

    async def acquire(self, end: float, /) -> int:
        return 1

    def release(self) -> None:
        pass

    def observe(self, response: Response, /, *, sent_at: float, among: int, max_hold: float) -> None:
        pass

    async def pause(self, seconds: float, /) -> None:
        await self._clock.sleep(seconds)

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        return Statistics(requests=requests, retries=retries, throttles=throttles, bytes_received=bytes_received)


class Slots:
    """As many requests at once as there are connections: they queue here, in order, and never in the connector."""

    def __init__(self, count: int, clock: Clock) -> None:
        self.count = count
        self._clock = clock
        self._free = count
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        return self.count - self._free

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def try_acquire(self) -> bool:
        """Take a slot if one is free: the usual case, for which nothing is awaited."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def acquire(self, end: float) -> None:
        """Wait for a slot. Raises `DeadlineExceeded` if none comes before `end`."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            with self._clock.timeout(end - self._clock.monotonic()):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise DeadlineExceeded(f"all {self.count} connections were busy for as long as this call had") from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():
            self.release()  # the slot had come, at the same moment
        elif turn in self._queue:
            self._queue.remove(turn)

    def release(self) -> None:
        """Give the slot to who has waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

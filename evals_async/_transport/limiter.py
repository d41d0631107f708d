"""Rate limiters, which limit the rate and the number of concurrent requests: `Limiter`, `AdaptiveLimiter`,
`Statistics`.

A limiter observes responses and delays requests. It does not send requests, and does not decide about retries.
"""

import asyncio
import contextlib
import math
from collections import OrderedDict
from typing import Protocol

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.delays import RateLimits, rate_limits, shortened, something_left
from evals_async._transport.limit_state import RateSource
from evals_async._transport.messages import Headers, Response
from evals_async._transport.observation import Observation
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError, DeadlineExceeded, WrongLoop


MAX_HOLD = 60.0  # the longest delay in seconds after a response, unless the policy of its call sets another one


@attrs.frozen(kw_only=True)
class Statistics:
    """The counts of a client, and the state of its limiter.

    `requests` is the number of sent requests, including `retries`. `throttles` is the number of requests that a limit
    refused. `bytes_received` counts decoded bodies. `in_flight` requests are running, and `waiting` requests wait for
    the limiter.

    `rate` is the current limit in requests per second, or `None`. `rate_source` is its source: `unknown` (no rate, or a
    search for it), `given` (an argument of the limiter), `told` (the server's headers) or `measured` (between
    refusals). `rate_since` is the number of seconds since this source is used. `at_once` is the server's limit of
    concurrent requests, if one was found. `held_for` is the number of seconds for which all requests still wait after a
    refusal. `limits` are the last `x-ratelimit-*` headers.

    `over_session` is the reason why requests use aiohttp's session, or `None` if they use its connections directly,
    which is faster. Uploads and downloads always use the session.
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
    at_once: int | None = None
    held_for: float = 0.0
    limits: RateLimits | None = None
    over_session: str | None = None


class Limiter(Protocol):
    """The interface of rate limiters. Write your own, or use `AdaptiveLimiter`.

    A limiter is used in one event loop. The client acquires a permit for each request, and releases it exactly once,
    whatever the outcome of the request.
    """

    def try_acquire(self, now: float, /) -> int:
        """Acquire a permit without waiting. Returns the number of running requests including this one, or 0 if it
        must wait.

        `now` is the client's monotonic time in seconds. A limiter that does not count requests returns 1.
        """
        ...

    async def acquire(self, end: float, /) -> int:
        """Wait for a permit. Returns the number of running requests including this one.

        Raises `DeadlineExceeded` if there is no permit before `end`, a monotonic time in seconds. It raises at once if
        this is certain.
        """
        ...

    def release(self) -> None:
        """Release the permit of a request."""
        ...

    def observe(self, response: Response, /, *, sent_at: float, among: int, max_hold: float) -> None:
        """Observe a response. Its request got its permit at the time `sent_at`, with `among` running requests.
        `max_hold` is the longest delay in seconds that the call accepts.
        """
        ...

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call acquires a new permit, for at most the given seconds."""
        ...

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """Return the counts of the client with the state of the limiter."""
        ...


class QueuedCall:
    """A call in the queue of a limiter."""

    __slots__ = ("end", "woken")

    def __init__(self, end: float) -> None:
        self.end = end
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Wait until `wake` is called, or for the given seconds."""
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError), clock.timeout(seconds):
            await self.woken

    async def sleep_by(self, clock: Clock, seconds: float) -> None:
        """Wait like `sleep`, but with the clock's `sleep`: so a test's clock moves. This costs a task."""
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()
        timer = asyncio.ensure_future(clock.sleep(seconds))
        try:
            await asyncio.wait((timer, self.woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()


class AdaptiveLimiter:
    """A limiter that finds the limit of a server and uses it fully. `rate_control` has the algorithm.

    `max_rate` is the quota in requests per second, if you know it. `start_rate` is the rate until the limit is known.
    At most `max_in_flight` requests run at once. Clients that share a quota should share one limiter. Raises
    `ConfigurationError` for a number that is not above 0.
    """

    def __init__(
        self,
        *,
        max_rate: float | None = None,
        start_rate: float | None = None,
        max_in_flight: int = 100,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        given: dict[str, object] = {"max_rate": max_rate, "start_rate": start_rate, "max_in_flight": max_in_flight}
        for name, value in given.items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"{name} must be a number above 0, not {value!r:.80}")
        if max_in_flight != int(max_in_flight):
            raise ConfigurationError(f"max_in_flight must be a whole number, not {max_in_flight!r:.80}")
        max_in_flight = int(max_in_flight)
        self._clock = clock
        # A remaining number with more digits is above the number of running requests.
        self._long = len(str(max_in_flight))
        self._control = RateControl(max_in_flight, clock.monotonic(), start_rate=start_rate, max_rate=max_rate)
        self._queue: OrderedDict[QueuedCall, None] = OrderedDict()  # any call can leave it in constant time
        self._paused: dict[QueuedCall, None] = {}  # in the order of their refusals
        self._limits: Headers | None = None  # of the last response with limits
        self._loop: asyncio.AbstractEventLoop | None = None  # of the calls that wait

    def try_acquire(self, now: float, /) -> int:
        """Acquire a permit without waiting. Returns the number of running requests including this one, or 0."""
        if self._queue or self._control.next_turn(now) > now:
            return 0
        return self._control.take(now)

    async def acquire(self, end: float, /) -> int:
        """Wait for a permit, in the order of the calls.

        Raises `DeadlineExceeded` at `end`, or earlier if a delay from the server lasts until `end` or longer. Raises
        `WrongLoop` if another event loop uses the limiter, and is not closed.
        """
        self._enter()
        waiting = QueuedCall(end)
        self._queue[waiting] = None
        try:
            while True:
                now = self._clock.monotonic()
                at = self._control.next_turn(now) if next(iter(self._queue)) is waiting else math.inf
                if at <= now:
                    return self._control.take(now, waited=True)
                self._check(now, end)
                if at < end:
                    await waiting.sleep_by(self._clock, at - now)
                else:
                    await waiting.sleep(self._clock, end - now)
        finally:
            self._queue.pop(waiting, None)  # a later loop may have dropped it
            self._wake()

    def _enter(self) -> None:
        """Let calls wait in the running event loop. The calls of an older loop, which is closed, no longer count."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise WrongLoop("calls wait for this limiter in another event loop; make one limiter per loop")
        if self._loop is not None:
            self._control.under_way = 0
        self._loop = loop
        self._queue.clear()
        self._paused.clear()

    def _check(self, now: float, end: float) -> None:
        """Raise `DeadlineExceeded` if there cannot be a permit before the deadline."""
        control = self._control
        held = control.told_hold(now)
        if held > 0 and now + held >= end:
            raise DeadlineExceeded(f"the rate limit delays requests for {held:.3g} s, too long for this call")
        if now < end:
            return
        if control.rate < math.inf:
            raise DeadlineExceeded(
                f"no permit before the deadline of this call: the limit is {control.rate:.3g} requests a second"
                f" ({control.source}), and the calls that wait now need {len(self._queue) / control.rate:.3g} s"
            )
        if control.held():
            raise DeadlineExceeded("the rate limit delayed requests until the deadline of this call")
        raise DeadlineExceeded(f"all {control.at_once} connections were busy until the deadline of this call")

    def _wake(self) -> None:
        if self._queue:
            next(iter(self._queue)).wake()

    def release(self) -> None:
        """Release the permit of a request, and wake the first call in the queue."""
        self._control.give(self._clock.monotonic())
        if self._queue:
            self._wake()

    def observe(self, response: Response, /, *, sent_at: float, among: int = 1, max_hold: float = MAX_HOLD) -> None:
        """Observe a response."""
        if response.status < 400 and not self._paused and self.tells_nothing(response.headers):
            self._control.granted(self._clock.monotonic(), sent_at, among)  # the usual case
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
        """Whether the headers need not be parsed: they have no limits, or no limit is known and many requests
        remain.
        """
        left = headers.get("x-ratelimit-remaining-requests")
        if left is None or self._control.source != "unknown":
            return something_left(headers) is None
        if len(left) <= self._long or (headers.get("x-ratelimit-remaining-tokens") or "1")[0] == "0":
            return False
        self._limits = headers
        return True

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call acquires a new permit: for the given seconds, or until the allowed rate is
        known. Raises `WrongLoop` as `acquire` does.
        """
        self._enter()
        now = self._clock.monotonic()
        end = now + shortened(seconds, self._control.told_hold(now), self._clock.random)
        waiting = QueuedCall(end)
        self._paused[waiting] = None
        try:
            while (now := self._clock.monotonic()) < end and not self._control.understood(now):
                await waiting.sleep_by(self._clock, end - now)
        finally:
            self._paused.pop(waiting, None)

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """Return the counts of the client with the state of this limiter."""
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
        """Return the state of `control`, whose clock is `offset` seconds ahead, or the state of this limiter."""
        control, now = control or self._control, self._clock.monotonic() + offset
        held, told = control.told_hold(now), control.told(now)
        if control.held() and not (told and control.left == 0):
            held = max(0.0, control.probe_at - now)
        rate = control.left / (control.reset_at - now) if told else control.rate
        return Statistics(
            requests=counts["requests"],
            retries=counts["retries"],
            throttles=counts["throttles"],
            bytes_received=counts["bytes_received"],
            waiting=waiting + len(self._queue),
            rate=None if rate == math.inf else rate,
            rate_source="told" if told else control.rate_source,
            rate_since=now - (control.told_since if told else control.since),
            at_once=None if control.ceiling == control.most else int(control.ceiling),
            held_for=held,
            limits=None if self._limits is None else rate_limits(self._limits),
        )

    @property
    def rate(self) -> float | None:
        """The current limit in requests per second, or `None`."""
        return None if self._control.rate == math.inf else self._control.rate

    def take(self) -> None:
        """Count a request with a permit from elsewhere. It is released here too."""
        self._control.take(self._clock.monotonic(), waited=True)


class Unlimited:
    """No limits: every request is sent at once. A refused call waits for the delay in its own response."""

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

"""Servers that limit, a client in front of them, and a clock that takes no real time: how rate limiters are judged.

A run of `Scenario` is exact and the same each time: everything happens in virtual time, and what is random has a seed.
"""

import asyncio
import bisect
import contextlib
import itertools
import logging
import math
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from doubles import reply_of

from evals_async._clock import Clock, Deadline, alarm_of
from evals_async._transport import Pipeline, Request, Response, RetryPolicy, StaticKey, Timeouts, Transport
from evals_async._transport.limiter import AdaptiveLimiter, Limiter, Unlimited
from evals_async._transport.state import CallState
from evals_async.errors import EvalsError


T = TypeVar("T")

Headers = Sequence[tuple[str, str]]
NOTHING: Headers = ()
WIRE = 0.0005  # seconds that a request and an answer travel, each
TICK = 1e-6  # seconds that pass whenever somebody looks at the clock: no two requests leave at one time


class LeapingSelector(selectors.SelectSelector):
    """Where a loop would wait for its next timer, this moves the time there."""

    now = 1_000.0
    late = 0.0  # seconds that a timer rings late, at most
    dice = random.Random(0)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        if timeout > 0:
            self.now += timeout + self.late * self.dice.random()
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for any number of sleepers, in which sleep takes no real time."""

    def __init__(self) -> None:
        self.leaping = LeapingSelector()
        super().__init__(self.leaping)

    def time(self) -> float:
        return self.leaping.now


class VirtualClock:
    """The time of a `VirtualLoop`. It moves a little whenever it is looked at."""

    def __init__(self, loop: VirtualLoop, seed: int = 0) -> None:
        self.loop = loop
        self.random = random.Random(seed).random

    def monotonic(self) -> float:
        self.loop.leaping.now += TICK
        return self.loop.leaping.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def loop_seconds(self, seconds: float, /) -> float:
        return seconds


def in_virtual_time(job: Callable[[VirtualClock], Coroutine[Any, Any, T]], seed: int = 0, late: float = 0.0) -> T:
    """What a job returns that runs in virtual time, in which timers ring up to `late` seconds late."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.leaping.late, loop.leaping.dice = late, random.Random(seed)
        return await job(VirtualClock(loop, seed))

    # A line that is logged looks at the clock, which moves then: other tests may have asked for all lines.
    logger = logging.getLogger("evals_async")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(run())
    finally:
        logger.setLevel(level)


def seconds_of(job: Callable[[Clock], Awaitable[None]]) -> float:
    """How long a job takes in virtual time."""

    async def run(clock: VirtualClock) -> float:
        began = clock.loop.time()
        await job(clock)
        return clock.loop.time() - began

    return in_virtual_time(run)


class Limit(Protocol):
    """What a server grants. Times are seconds since the server was started."""

    def take(self, now: float) -> tuple[int, Headers]:
        """The status of a request that arrives now, and its headers."""
        ...

    def give(self) -> None:
        """A granted request is over."""
        ...

    def next_grant(self, now: float) -> float:
        """When, from now on, the next request would be granted."""
        ...


def whole_seconds(seconds: float) -> Headers:
    """`Retry-After` in whole seconds, at least one: the coarse clock of most servers."""
    return [("Retry-After", str(max(1, int(-(-seconds // 1)))))]


def milliseconds(seconds: float) -> Headers:
    return [("retry-after-ms", f"{seconds * 1000:.3f}")]


def no_header(seconds: float) -> Headers:
    return NOTHING


Told = Callable[[float], Headers]


class TokenBucket:
    """So many tokens a second, at most `burst` of them kept. `rates` are (from when, tokens a second)."""

    def __init__(
        self, rates: float | Sequence[tuple[float, float]], burst: float, told: Told = no_header, status: int = 429
    ) -> None:
        self.rates = [(0.0, rates)] if isinstance(rates, int | float) else list(rates)
        self.burst = burst
        self.told = told
        self.status = status
        self.tokens = float(burst)
        self.filled = 0.0

    def fill(self, now: float) -> None:
        while self.filled < now:
            index = bisect.bisect([at for at, _ in self.rates], self.filled) - 1
            until = min(now, self.rates[index + 1][0] if index + 1 < len(self.rates) else now)
            self.tokens = min(self.burst, self.tokens + (until - self.filled) * self.rates[index][1])
            self.filled = until

    def rate_at(self, now: float) -> float:
        return self.rates[bisect.bisect([at for at, _ in self.rates], now) - 1][1]

    def take(self, now: float) -> tuple[int, Headers]:
        self.fill(now)
        if self.tokens < 1 - 1e-9:
            return self.status, self.told((1 - self.tokens) / self.rate_at(now))
        self.tokens -= 1
        return 200, NOTHING

    def give(self) -> None:
        pass

    def next_grant(self, now: float) -> float:
        self.fill(now)
        return now if self.tokens >= 1 - 1e-9 else now + (1 - self.tokens) / self.rate_at(now)


class FixedWindow:
    """So many requests in each window of `period` seconds. `rate_headers` tells what remains, on each answer."""

    def __init__(self, count: int, period: float, told: Told = no_header, *, rate_headers: bool = False) -> None:
        self.count = count
        self.period = period
        self.told = told
        self.rate_headers = rate_headers
        self.window = 0
        self.used = 0

    def turn(self, now: float) -> float:
        """Seconds until the next window."""
        window = int(now / self.period)
        if window != self.window:
            self.window, self.used = window, 0
        return (window + 1) * self.period - now

    def take(self, now: float) -> tuple[int, Headers]:
        left = self.turn(now)
        granted = self.used < self.count
        self.used += granted
        headers: list[tuple[str, str]] = [] if granted else list(self.told(left))
        if self.rate_headers:
            headers += [
                ("x-ratelimit-limit-requests", str(self.count)),
                ("x-ratelimit-remaining-requests", str(self.count - self.used)),
                ("x-ratelimit-reset-requests", f"{left * 1000:.0f}ms"),
            ]
        return 200 if granted else 429, headers

    def give(self) -> None:
        pass

    def next_grant(self, now: float) -> float:
        left = self.turn(now)
        return now if self.used < self.count else now + left + 1e-9


class Concurrency:
    """At most so many requests at once. `limits` are (from when, how many)."""

    def __init__(self, limits: int | Sequence[tuple[float, int]], told: Headers = NOTHING) -> None:
        self.limits = [(0.0, limits)] if isinstance(limits, int) else list(limits)
        self.told = told
        self.under_way = 0

    def take(self, now: float) -> tuple[int, Headers]:
        limit = self.limits[bisect.bisect([at for at, _ in self.limits], now) - 1][1]
        if self.under_way >= limit:
            return 429, self.told
        self.under_way += 1
        return 200, NOTHING

    def give(self) -> None:
        self.under_way -= 1

    def next_grant(self, now: float) -> float:
        full = self.under_way >= self.limits[bisect.bisect([at for at, _ in self.limits], now) - 1][1]
        return math.inf if full else now


class OneOff:
    """Refuses the requests with those numbers, counted from 0, and grants all others."""

    def __init__(self, refused: Sequence[int], told: Headers = NOTHING, status: int = 429) -> None:
        self.refused = frozenset(refused)
        self.told = told
        self.status = status
        self.seen = itertools.count()

    def take(self, now: float) -> tuple[int, Headers]:
        return (self.status, self.told) if next(self.seen) in self.refused else (200, NOTHING)

    def give(self) -> None:
        pass

    def next_grant(self, now: float) -> float:
        return now


class Outage:
    """Refuses whatever arrives between two moments, as a wave of all that is under way."""

    def __init__(self, begins: float, ends: float, told: Headers = NOTHING, status: int = 429) -> None:
        self.begins = begins
        self.ends = ends
        self.told = told
        self.status = status

    def take(self, now: float) -> tuple[int, Headers]:
        return (self.status, self.told) if self.begins <= now < self.ends else (200, NOTHING)

    def give(self) -> None:
        pass

    def next_grant(self, now: float) -> float:
        return self.ends if self.begins <= now < self.ends else now


@attrs.frozen(kw_only=True)
class Scenario:
    """A server that limits, and a fan-out against it.

    `latency` is how long an answer takes, `refusal` how long a refused one does (all times in seconds); `spread` is how
    much both vary, as a part of themselves. The first request of each worker is answered `opening` later, as a new
    connection is; timers ring up to `late` late, as on a machine that has other work. `ideal` is what a client
    needs that knows the limit; without it, it is found by simulating such a client.
    """

    name: str
    limit: Callable[[], Limit]
    ideal: float | None = None
    calls: int = 600
    workers: int = 32
    latency: float = 0.02
    refusal: float | None = None
    spread: float = 0.0
    opening: float = 0.0
    late: float = 0.0
    timeout: float | None = None
    pause: float = 0.0

    def best(self) -> float:
        """How long a client needs that knows the limit."""
        return self.ideal if self.ideal is not None else simulate(self, knowing(self)).elapsed


@attrs.define(kw_only=True)
class Outcome:
    """What came of a run: seconds, requests, calls that failed, and what was seen while it ran."""

    elapsed: float = 0.0
    sent: list[float] = attrs.Factory(list[float])
    granted: list[float] = attrs.Factory(list[float])
    lost: list[EvalsError] = attrs.Factory(list[EvalsError])
    flying_at_first_refusal: int = 0
    flights: list[tuple[float, int]] = attrs.Factory(list[tuple[float, int]])
    refused: list[float] = attrs.Factory(list[float])

    @property
    def requests(self) -> int:
        return len(self.sent)


class SimulatedServer(Transport):
    """A transport whose server is a `Limit`."""

    def __init__(self, scenario: Scenario, limit: Limit, clock: VirtualClock, outcome: Outcome, seed: int) -> None:
        super().__init__("http://localhost", clock=clock, connections=100)
        self.scenario = scenario
        self.limit = limit
        self.start = clock.loop.time()
        self.virtual = clock
        self.outcome = outcome
        self.dice = random.Random(seed)
        self.under_way = 0

    def check(self) -> object:  # type: ignore[override]  # there is no session to give
        self.pool.alarm = alarm_of(self.virtual.loop)
        return None

    def now(self) -> float:
        return self.virtual.loop.time() - self.start

    async def send(self, call: CallState[Any], headers: Mapping[str, str]) -> Response:
        outcome, scenario = self.outcome, self.scenario
        outcome.sent.append(self.now())
        number = outcome.requests
        self.under_way += 1
        outcome.flights.append((self.now(), self.under_way))
        try:
            await asyncio.sleep(WIRE)
            status, told = self.limit.take(self.now())
            if status == 200:
                outcome.granted.append(self.now())
                try:
                    await asyncio.sleep(self.varied(scenario.latency) - 2 * WIRE)
                finally:
                    self.limit.give()
            elif scenario.refusal is not None:
                await asyncio.sleep(max(0.0, self.varied(scenario.refusal) - 2 * WIRE))
            await asyncio.sleep(WIRE + (scenario.opening if number <= scenario.workers else 0.0))
        finally:
            self.under_way -= 1
        if status != 200:
            outcome.refused.append(self.now())
            if len(outcome.refused) == 1:
                outcome.flying_at_first_refusal = self.under_way + 1
        return reply_of(b"{}", status=status, headers=told)

    def varied(self, seconds: float) -> float:
        return max(3 * WIRE, seconds * (1 + self.scenario.spread * (2 * self.dice.random() - 1)))


async def drive(
    scenario: Scenario,
    server: SimulatedServer,
    limiter: Limiter | None,
    turns: Iterator[int],
) -> None:
    """Send the scenario's calls with its workers, and write down which were lost."""
    clock = server.virtual
    pipeline = Pipeline(server, StaticKey("sk-simulated"), clock=clock, limiter=limiter)
    timeouts = Timeouts(total=scenario.timeout, attempt=60.0)
    policy = RetryPolicy()
    request = Request("GET", "/evals/e1", "/evals/{eval_id}", "read")

    async def body(response: Response) -> bytes:
        return response.body

    async def work() -> None:
        for _ in turns:
            try:
                await pipeline.send(request, body, timeouts=timeouts, policy=policy)
            except EvalsError as error:
                server.outcome.lost.append(error)
            if scenario.pause:
                await clock.sleep(scenario.pause)

    await asyncio.gather(*(work() for _ in range(scenario.workers)))


Make = Callable[[Clock], Limiter | None]


def knowing(scenario: Scenario) -> Make:
    return lambda clock: Knowing(scenario.limit(), clock)


def adaptive(clock: Clock) -> AdaptiveLimiter:
    return AdaptiveLimiter(clock=clock)


class Knowing(Unlimited):
    """A limiter that takes what the server grants from the limit itself, so that no request is refused."""

    def __init__(self, limit: Limit, clock: Clock) -> None:
        super().__init__(clock)
        self.limit = limit
        self.clock = clock
        self.start = clock.monotonic()
        self.turn = asyncio.Semaphore(1)
        self.freed = asyncio.Event()

    def try_acquire(self, now: float, /) -> int:
        return 0

    async def acquire(self, end: float, /) -> int:
        async with self.turn:
            while (at := self.limit.next_grant(now := self.clock.monotonic() - self.start)) > now:
                self.freed.clear()
                with contextlib.suppress(TimeoutError), self.clock.timeout(at - now):
                    await self.freed.wait()
            assert 200 == self.limit.take(now)[0]
            return 1

    def release(self) -> None:
        self.limit.give()
        self.freed.set()


def simulate(scenario: Scenario, make: Make = adaptive, seed: int = 0) -> Outcome:
    """Run it."""

    async def job(clock: VirtualClock) -> Outcome:
        outcome, limiter = Outcome(), make(clock)
        limit = OneOff([]) if isinstance(limiter, Knowing) else scenario.limit()
        server = SimulatedServer(scenario, limit, clock, outcome, seed)
        await drive(scenario, server, limiter, iter(range(scenario.calls)))
        outcome.elapsed = server.now()
        return outcome

    return in_virtual_time(job, seed, scenario.late)


def simulate_two(
    scenario: Scenario, make: Make = adaptive, seed: int = 0, late: float = 0.0
) -> tuple[Outcome, Outcome]:
    """Run it with two clients that do not know of each other; the second begins `late` seconds later."""

    async def job(clock: VirtualClock) -> tuple[Outcome, Outcome]:
        first, second = Outcome(), Outcome()
        limit = scenario.limit()

        async def one(outcome: Outcome, after: float, number: int) -> None:
            server = SimulatedServer(scenario, limit, clock, outcome, seed + number)
            await asyncio.sleep(after)
            await drive(scenario, server, make(clock), iter(range(scenario.calls)))
            outcome.elapsed = server.now()

        await asyncio.gather(one(first, 0.0, 1), one(second, late, 2))
        return first, second

    return in_virtual_time(job, seed)

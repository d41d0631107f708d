"""How many requests are under way and how fast they follow each other: the `Gate`, shared by all calls of a client;
`Statistics`.

It learns from answers and holds requests back; it sends nothing, and it does not decide whether a request is sent
again.
"""

import asyncio
from collections import deque

import attrs

from evals_async.clock import Clock
from evals_async.errors import DeadlineExceeded
from evals_async.wire.delays import RateLimits, rate_limits, server_delay
from evals_async.wire.exchange import Reply


DEFAULT_HOLD = 1.0  # seconds that a 429 without a delay holds everyone
SCATTER = 0.05  # seconds over which those who were held come back
CALM_AFTER = 60.0  # seconds without a 429 after which requests are no longer paced
CUT_APART = 1.0  # seconds between two cuts of the pace: the answers of one burst are one piece of news
WINDOW = 1.0  # seconds of one of the two windows in which successes are counted
SLOWEST = 1.0  # requests a second


@attrs.frozen(kw_only=True)
class Statistics:
    """What a client has done so far, and how its gate stands.

    `requests` went out, `retries` of them again; `throttles` came back as 429; `bytes_received` are of decoded bodies.
    `in_flight` are under way and `waiting` wait for a turn. `rate` is the pace in requests a second, `None` if there is
    none; `held_for` are the seconds that a 429 still holds everyone; `limits` are the last `x-ratelimit-*` headers
    seen.
    """

    requests: int
    retries: int
    throttles: int
    bytes_received: int
    in_flight: int
    waiting: int
    rate: float | None
    held_for: float
    limits: RateLimits | None


class Meter:
    """Events per second over the last one to two seconds."""

    def __init__(self) -> None:
        self.began = 0.0
        self.before = 0
        self.count = 0

    def add(self, now: float) -> None:
        if now - self.began >= WINDOW:
            self.before = self.count if now - self.began < 2 * WINDOW else 0
            self.count = 0
            self.began = now
        self.count += 1

    def rate(self, now: float) -> float:
        age = now - self.began
        if age >= 2 * WINDOW:
            return 0.0
        return max(self.before, self.count) / WINDOW if age < WINDOW else self.count / age


class Gate:
    """Lets `slots` requests through at a time, and after a 429 nobody for a while and then everyone at a pace.

    There are as many slots as connections, so that requests queue here, where it is fair and counted, and never in the
    connector. The pace begins at 0.9 of what succeeded lately, grows by a tenth a second while requests succeed, never
    exceeds what `x-ratelimit-limit-requests` allows, and ends after a minute without a 429. For one event loop.
    """

    def __init__(self, *, slots: int, clock: Clock, max_hold: float = 60.0) -> None:
        self.slots = slots
        self.clock = clock
        self.max_hold = max_hold
        self.free = slots
        self.queue: deque[asyncio.Future[None]] = deque()
        self.held_until = float("-inf")
        self.paced = False
        self.rate = 0.0
        self.next_send = float("-inf")
        self.last_cut = float("-inf")
        self.last_throttle = float("-inf")
        self.sent = Meter()
        self.succeeded = Meter()
        self.limits: RateLimits | None = None
        self.requests = 0
        self.throttles = 0

    def try_enter(self) -> bool:
        """Take a slot if that needs no waiting: the usual case, for which nothing is awaited."""
        now = self.clock.monotonic()
        if self.paced or not self.free or now < self.held_until:
            return False
        self.free -= 1
        self.count(now)
        return True

    async def enter(self, end: float) -> None:
        """Wait for a slot, and for one's turn.

        Raises `DeadlineExceeded`, at once, when it is certain that the turn cannot come before `end`.
        """
        await self.take_slot(end)
        try:
            held = True
            while held:
                now = self.clock.monotonic()
                at = self.next_turn(now)
                if at >= end:
                    raise DeadlineExceeded(
                        f"the rate limit holds requests back for {at - now:.3g} s, too long for this call"
                    )
                self.next_send = at + 1 / self.rate if self.paced else at
                if at > now:
                    await self.clock.sleep(at - now)
                held = self.clock.monotonic() < self.held_until  # by another 429, meanwhile
        except BaseException:
            self.leave()
            raise
        self.count(self.clock.monotonic())

    def next_turn(self, now: float) -> float:
        """The time at which the next request may go out."""
        at = now
        if now < self.held_until:
            at = self.held_until + self.clock.random() * SCATTER
        return max(at, self.next_send) if self.paced else at

    def count(self, now: float) -> None:
        self.requests += 1
        self.sent.add(now)

    async def take_slot(self, end: float) -> None:
        if self.free:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        timed_out = False
        try:
            async with self.clock.timeout(None if end == float("inf") else end - self.clock.monotonic()):
                await turn
        except TimeoutError:
            timed_out = True
            self.give_up(turn)
        except asyncio.CancelledError:
            self.give_up(turn)
            raise
        if timed_out:
            raise DeadlineExceeded(f"all {self.slots} connections were busy for as long as this call had")

    def give_up(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():
            self.leave()  # the slot had come, at the same moment
        elif turn in self.queue:
            self.queue.remove(turn)

    def leave(self) -> None:
        """Give the slot to who has waited longest."""
        while self.queue:
            turn = self.queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    def learn(self, reply: Reply) -> None:
        """Take in what an answer tells about the limits."""
        now = self.clock.monotonic()
        limits = rate_limits(reply)
        if limits is not None:
            self.limits = limits
        if reply.status == 429:
            self.slow_down(now, server_delay(reply, self.clock.time()))
        elif reply.status < 400:
            self.succeeded.add(now)
            if limits is not None and (limits.requests.remaining == 0 or limits.tokens.remaining == 0):
                self.hold(now, limits.delay or 0.0)
            if self.paced:
                self.speed_up(now)

    def slow_down(self, now: float, delay: float | None) -> None:
        self.throttles += 1
        self.last_throttle = now
        self.hold(now, DEFAULT_HOLD if delay is None else delay)
        if now - self.last_cut < CUT_APART:
            return
        self.last_cut = now
        goodput = self.succeeded.rate(now)
        self.set_rate(0.9 * goodput if goodput else self.sent.rate(now) / 2)
        self.paced = True

    def speed_up(self, now: float) -> None:
        if now - self.last_throttle > CALM_AFTER:
            self.paced = False
        else:
            self.set_rate(self.rate + 0.1)

    def set_rate(self, rate: float) -> None:
        if self.limits is not None and self.limits.requests.limit:
            rate = min(rate, self.limits.requests.limit / 60)
        self.rate = max(SLOWEST, rate)

    def hold(self, now: float, seconds: float) -> None:
        self.held_until = max(self.held_until, now + min(seconds, self.max_hold))

    def statistics(self, *, retries: int, bytes_received: int) -> Statistics:
        """How things stand now; the pipeline counts what the gate does not see."""
        now = self.clock.monotonic()
        return Statistics(
            requests=self.requests,
            retries=retries,
            throttles=self.throttles,
            bytes_received=bytes_received,
            in_flight=self.slots - self.free,
            waiting=len(self.queue),
            rate=self.rate if self.paced else None,
            held_for=max(0.0, self.held_until - now),
            limits=self.limits,
        )

"""How many requests are under way and how fast they follow each other: `AdaptiveLimiter`, shared by all calls of a
client; `Statistics`.

It learns from answers and holds requests back; it sends nothing, and it does not decide whether a request is sent
again.
"""

import asyncio
from collections import deque

import attrs

from evals_async._clock import Clock
from evals_async._transport.delays import RateLimits, rate_limits, server_delay, something_left
from evals_async._transport.messages import Headers, Response
from evals_async.errors import DeadlineExceeded


DEFAULT_HOLD = 1.0  # seconds that a 429 without a delay holds everyone
MAX_HOLD = 60.0  # seconds that an answer may hold everyone, unless the policy of its call says otherwise
SCATTER = 0.05  # seconds over which those who were held come back
CALM_AFTER = 60.0  # seconds without a 429 after which requests are no longer paced
CUT_APART = 1.0  # seconds between two cuts of the pace
CUT_TO = 0.9  # of what the server granted
STEADY_AT = 0.95  # of what it granted: the pace stays there for a while
STEADY_FOR = 5.0  # times as long as everyone was held: to be told again costs another hold, so it must be rare
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
        self.began = float("-inf")
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


class AdaptiveLimiter:
    """Lets `slots` requests through at a time, and after a 429 nobody for a while and then everyone at a pace.

    There are as many slots as connections, so that requests queue here, where it is fair and counted, and never in the
    connector. The pace begins at 0.9 of what succeeded lately and grows by a tenth a second while requests succeed, but
    stays at 0.95 for five times as long as everyone was held (a minute at most). A 429 to what was sent before the last
    cut holds everyone, and cuts nothing. The pace never exceeds what `x-ratelimit-limit-requests` allows, and ends
    after a minute without a 429. For one event loop.
    """

    def __init__(self, *, slots: int, clock: Clock) -> None:
        self.slots = slots
        self.clock = clock
        self.free = slots
        self.queue: deque[asyncio.Future[None]] = deque()
        self.held_until = float("-inf")
        self.paced = False
        self.rate = 0.0
        self.granted = 0.0  # requests a second, when the pace was last cut; zero if nothing is known
        self.steady_until = float("-inf")
        self.calm_at = float("-inf")
        self.next_send = float("-inf")
        self.last_cut = float("-inf")
        self.succeeded = Meter()
        self.told: Headers | None = None  # of the last answer that told limits
        self.requests = 0
        self.throttles = 0

    def try_acquire(self, now: float) -> bool:
        """Take a slot if that needs no waiting: the usual case, for which nothing is awaited."""
        if self.paced or not self.free or now < self.held_until:
            return False
        self.free -= 1
        self.requests += 1
        return True

    async def acquire(self, end: float) -> None:
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
            self.release()
            raise
        self.requests += 1

    def next_turn(self, now: float) -> float:
        """The time at which the next request may go out."""
        at = now
        if now < self.held_until:
            at = self.held_until + self.clock.random() * SCATTER
        return max(at, self.next_send) if self.paced else at

    async def take_slot(self, end: float) -> None:
        if self.free:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        timed_out = False
        try:
            with self.clock.timeout(end - self.clock.monotonic()):
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
            self.release()  # the slot had come, at the same moment
        elif turn in self.queue:
            self.queue.remove(turn)

    def release(self) -> None:
        """Give the slot to who has waited longest."""
        while self.queue:
            turn = self.queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    def observe(self, reply: Response, sent_at: float | None = None, max_hold: float = MAX_HOLD) -> None:
        """Take in what an answer tells about the limits.

        `sent_at` is when its request was let through, by the gate's clock; without it, now. `max_hold` is how long, in
        seconds, this answer may hold everyone: the `max_server_delay` of its call, so that a call holds the others as
        long as it would wait itself, and no longer.
        """
        now = self.clock.monotonic()
        headers = reply.headers
        left = something_left(headers)
        if left is not None:
            self.told = headers
        if reply.status < 400:
            if self.paced:
                self.speed_up(now, now if sent_at is None else sent_at)
            else:
                self.succeeded.add(now)
            if left is False and (limits := rate_limits(headers)) is not None:
                self.hold(now, min(limits.delay or 0.0, max_hold))
        elif reply.status == 429:
            delay = server_delay(reply, self.clock.time())
            seconds = min(DEFAULT_HOLD if delay is None else delay, max_hold)
            self.slow_down(now, seconds, now if sent_at is None else sent_at)

    def slow_down(self, now: float, seconds: float, sent_at: float) -> None:
        self.throttles += 1
        self.hold(now, seconds)
        self.steady_until = max(self.steady_until, self.held_until + min(STEADY_FOR * seconds, CALM_AFTER))
        self.calm_at = max(now + CALM_AFTER, self.steady_until)
        # What was sent before the last cut was not slowed down by it: its 429 is the same news once more.
        if sent_at <= self.last_cut or now - self.last_cut < CUT_APART:
            return
        self.last_cut = now
        granted = self.succeeded.rate(now)
        if self.paced:
            # Little can be measured a moment after a hold; that the pace was too high is sure.
            granted = min(max(granted, self.rate / 2), self.rate)
        self.paced = True
        self.settle(granted)

    def settle(self, granted: float) -> None:
        """Go nearly as fast as the server lets requests through."""
        self.granted = granted
        self.set_rate(CUT_TO * granted or (self.slots - self.free) / 2)

    def speed_up(self, now: float, sent_at: float) -> None:
        if self.succeeded.began < self.held_until <= sent_at:
            self.succeeded = Meter()  # nothing could succeed while everyone was held
        self.succeeded.add(now)
        if now > self.calm_at:
            self.paced = False
        elif sent_at > self.last_cut:
            if now >= self.steady_until or not self.granted or self.rate < STEADY_AT * self.granted:
                self.set_rate(self.rate + 0.1)
        elif self.succeeded.rate(now) > self.granted:
            self.settle(self.succeeded.rate(now))  # granted before the cut, and missing from what was measured then

    def set_rate(self, rate: float) -> None:
        limits = self.limits
        if limits is not None and limits.requests.limit:
            rate = min(rate, limits.requests.limit / 60)
        self.rate = max(SLOWEST, rate)

    @property
    def limits(self) -> RateLimits | None:
        """The last limits that the server told."""
        return None if self.told is None else rate_limits(self.told)

    def hold(self, now: float, seconds: float) -> None:
        self.held_until = max(self.held_until, now + seconds)

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

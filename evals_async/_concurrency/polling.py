"""Waiting for something to become so, by asking again and again: `poll_until` for one thing, `poll_many` for thousands.

What is asked and what counts as done are callables. Requests are not retried here: an error that arrives has survived
the retries of its request. A wait still outlives it, a few times in a row, since losing an hour's wait to one bad
minute helps nobody.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._concurrency.channel import Channel, refuse_one
from evals_async._concurrency.fanout import (
    CAPACITY_PER_WORKER,
    FanOut,
    OnProgress,
    Outcome,
    ProgressCounter,
    checked_concurrency,
)
from evals_async._numbers import seconds
from evals_async.errors import ApiError, InvalidArgument, RequestError, WaitTimeout


K = TypeVar("K")
T = TypeVar("T")
K_co = TypeVar("K_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)

OnPoll: TypeAlias = Callable[[T], object]
DelayOf: TypeAlias = Callable[[T], float | None]

POLL_CONCURRENCY = 16
LAST_LOOK = 1.0  # seconds before the deadline, or a tenth of the time given if that is less


@attrs.frozen(kw_only=True)
class Pace:
    """How often to poll: first after `start` seconds. Each interval is `factor` times the one before, at most `cap`
    seconds.

    Each interval is changed at random by up to the share `jitter`, so that many waits do not poll at the same moment.
    A wait continues after at most `max_failures` temporary failures in a row. Raises `InvalidArgument` for numbers out
    of range.
    """

    start: float = 1.0
    factor: float = 1.5
    cap: float = 30.0
    jitter: float = 0.1
    max_failures: int = 5

    def __attrs_post_init__(self) -> None:
        sane = self.start > 0 and self.factor >= 1 and self.cap > 0 and 0 <= self.jitter < 1 and self.max_failures >= 0
        if not sane:
            raise InvalidArgument(f"start and cap must be > 0, factor >= 1, 0 <= jitter < 1, max_failures >= 0: {self}")


STEADY = Pace()


class PollDeadline:
    """The end of the time given: `timeout` seconds from now, or never."""

    def __init__(self, timeout: float | None, clock: Clock) -> None:
        self.seconds = None if timeout is None else seconds(timeout, "timeout")
        self.clock = clock
        self.end = math.inf if self.seconds is None else clock.monotonic() + self.seconds

    def left(self) -> float:
        """Seconds until the end."""
        return max(0.0, self.end - self.clock.monotonic())

    def block(self) -> AbstractContextManager[object]:
        """A block that the end interrupts with `TimeoutError`."""
        return self.clock.timeout(self.left())


@attrs.frozen(kw_only=True)
class Rules(Generic[T]):
    """What all looks of one `poll_until` or `poll_many` have in common."""

    done: Callable[[T], bool]
    clock: Clock
    deadline: PollDeadline
    pace: Pace
    on_poll: OnPoll[T] | None
    delay_of: DelayOf[T] | None


def may_pass(error: Exception) -> bool:
    """Whether a wait goes on after the error, because time may cure it."""
    return isinstance(error, RequestError) and error.transient


class PollState(Generic[T]):
    """One thing that is waited for: how it was last seen, and when to look again."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], rules: Rules[T]) -> None:
        self.fetch = fetch
        self.rules = rules
        self.interval = min(rules.pace.start, rules.pace.cap)
        self.seen: list[T] = []  # the last state, if there was one: a state may itself be None
        self.failure: Exception | None = None
        self.failures = 0

    @property
    def value(self) -> T:
        return self.seen[0]

    def observe(self, value: T) -> None:
        """Take a state that was seen elsewhere, of something that is not done."""
        self.seen = [value]
        self.failure, self.failures = None, 0
        if self.rules.on_poll is not None:
            self.rules.on_poll(value)

    async def look(self) -> float | None:
        """Ask once. `None` if it is done, else the seconds until the next look.

        Raises `WaitTimeout` if there is no time for another, and what `fetch` raised if that does not pass.
        """
        rules = self.rules
        try:
            with rules.deadline.block():
                await self.ask()
        except TimeoutError:
            raise self.late() from self.failure
        if self.failure is None:
            if rules.on_poll is not None:
                rules.on_poll(self.value)
            if rules.done(self.value):
                return None
        elif self.failures > rules.pace.max_failures or not may_pass(self.failure):
            raise self.failure
        return self.pause()

    async def ask(self) -> None:
        # The errors of `fetch` are kept inside the timeout's block, so that a TimeoutError of its own is not taken
        # for the deadline.
        try:
            self.seen = [await self.fetch()]
        except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
            self.failure = error
            self.failures += 1
        else:
            self.failure = None
            self.failures = 0

    def pause(self) -> float:
        """Seconds until the next look: what the server asked for, else the grown interval; nothing that passes the
        deadline.
        """
        rules = self.rules
        asked = self.asked()
        if asked:
            pause = asked * (1 + rules.pace.jitter * rules.clock.random())  # never before it
        else:
            pause = self.interval * (1 + rules.pace.jitter * (2 * rules.clock.random() - 1))
            self.interval = min(rules.pace.cap, self.interval * rules.pace.factor)
        left, given = rules.deadline.left(), rules.deadline.seconds
        if given is None or pause < left:
            return pause
        last_look = min(LAST_LOOK, given / 10)
        if asked or left <= last_look * 1.01:  # the margin is for rounding
            raise self.late() from self.failure
        return left - last_look

    def asked(self) -> float | None:
        if self.failure is not None:
            return self.failure.retry_after if isinstance(self.failure, ApiError) else None
        return None if self.rules.delay_of is None else self.rules.delay_of(self.value)

    def late(self) -> WaitTimeout:
        return WaitTimeout(
            f"not done within {self.rules.deadline.seconds} seconds", last=self.seen[0] if self.seen else None
        )


async def poll_until(
    fetch: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    clock: Clock = SYSTEM_CLOCK,
    timeout: float | None = None,  # it spans many calls, and its end has a class of its own
    pace: Pace = STEADY,
    on_poll: OnPoll[T] | None = None,
    delay_of: DelayOf[T] | None = None,
) -> T:
    """Ask `fetch()` until `done(state)`, and return that state.

    The first call is made at once, the others at the `pace`. If the server asks for a delay in seconds
    (`delay_of(state)`, or the `retry_after` of an error), this delay is used instead. `timeout` seconds cover
    everything, also a running `fetch`; the last call is made shortly before their end. `on_poll` is called with every
    state. Raises `WaitTimeout` with the last state, and errors of `fetch` where waiting does not help.
    """
    deadline = PollDeadline(timeout, clock)
    rules = Rules(done=done, clock=clock, deadline=deadline, pace=pace, on_poll=on_poll, delay_of=delay_of)
    state = PollState(fetch, rules)
    while (pause := await state.look()) is not None:
        await clock.sleep(pause)
    return state.value


class Look(Protocol[K_co, T_co]):
    """Something that is due at a time: one look at a thing, or at many things at once."""

    async def look(self) -> Outcome[K_co, T_co] | None:
        """Look once. Returns the outcome if a wait is over; else whatever is to be looked at later is scheduled."""
        ...


class Schedule(Generic[K, T]):
    """What is to be looked at when. Many workers take from it; one of them at a time sleeps until something is due."""

    def __init__(self, rules: Rules[T], waits: int) -> None:
        self.rules = rules
        self.open = waits
        self.number = 0
        self.heap: list[tuple[float, int, Look[K, T]]] = []
        self.lock = asyncio.Lock()
        self.changed = asyncio.Event()

    async def take(self) -> Look[K, T] | None:
        """The next that is due; `None` when all waits are over."""
        async with self.lock:
            while self.open:
                if not self.heap:
                    self.changed.clear()
                    await self.changed.wait()
                    continue
                left = self.heap[0][0] - self.rules.clock.monotonic()
                if left <= 0:
                    return heapq.heappop(self.heap)[2]
                # In slices: one that is put in meanwhile may be due before the one that is slept for.
                await self.rules.clock.sleep(min(left, self.rules.pace.start))
            return None

    def put(self, look: Look[K, T], pause: float = 0.0) -> None:
        self.number += 1
        heapq.heappush(self.heap, (self.rules.clock.monotonic() + pause, self.number, look))
        self.changed.set()

    def finish(self) -> None:
        self.open -= 1
        self.changed.set()


class Wait(Generic[K, T]):
    """One thing that is waited for, under the key that it was named by."""

    def __init__(self, key: K, state: PollState[T], schedule: Schedule[K, T]) -> None:
        self.key = key
        self.state = state
        self.schedule = schedule

    async def look(self) -> Outcome[K, T] | None:
        try:
            pause = await self.state.look()
        except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
            return Outcome(self.key, error=error)
        if pause is None:
            return Outcome(self.key, self.state.value)
        self.look_again(pause)
        return None

    def look_again(self, pause: float) -> None:
        self.schedule.put(self, pause)


def poll_many(
    fetch: Callable[[K], Awaitable[T]],
    done: Callable[[T], bool],
    keys: Iterable[K],
    *,
    clock: Clock = SYSTEM_CLOCK,
    timeout: float | None = None,
    pace: Pace = STEADY,
    on_poll: OnPoll[T] | None = None,
    delay_of: DelayOf[T] | None = None,
    concurrency: int = POLL_CONCURRENCY,
    on_progress: OnProgress | None = None,
) -> FanOut[K, T]:
    """Wait for many things as `poll_until` does for one, with at most `concurrency` looks at once; outcomes come as
    the waits end.

    All waits share `timeout`, which begins now, and each has its own pace; a wait that is not done in time, or fails,
    is an `Outcome` with `error`. `Progress` counts waits. Raises `InvalidArgument` for a `concurrency` out of 1..256.
    """
    rules = Rules(
        done=done,
        clock=clock,
        deadline=PollDeadline(timeout, clock),
        pace=pace,
        on_poll=on_poll,
        delay_of=delay_of,
    )
    refuse_one(keys)
    all_keys = list(keys)
    schedule: Schedule[K, T] = Schedule(rules, len(all_keys))
    for key in all_keys:
        schedule.put(Wait(key, PollState(partial(fetch, key), rules), schedule))
    return carry_out(schedule, concurrency, on_progress)


def carry_out(schedule: Schedule[K, T], concurrency: int, on_progress: OnProgress | None) -> FanOut[K, T]:
    """Look at everything that is scheduled, when it is due, until all waits are over."""
    workers = checked_concurrency(concurrency, schedule.open)
    progress = ProgressCounter(schedule.open, on_progress)
    progress.started = schedule.open

    async def job(channel: Channel[Outcome[K, T]]) -> None:
        while await channel.reserve():
            due = await schedule.take()
            if due is None:
                channel.release()
                return
            outcome = await due.look()
            if outcome is None:
                channel.release()
                continue
            schedule.finish()
            progress.end(not outcome.ok)
            channel.put(outcome)

    return FanOut(job, workers, workers * CAPACITY_PER_WORKER)

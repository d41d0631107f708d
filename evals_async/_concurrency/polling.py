"""Polling until something is done: `poll_until` for one object, `poll_many` for thousands.

Callables fetch the state and decide whether it is done. An error here has already been retried by its request. A wait
still continues after a few temporary failures in a row: one bad minute must not end a wait of an hour.
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
LAST_LOOK = 1.0  # seconds before the deadline, or a tenth of the timeout if that is less


@attrs.frozen(kw_only=True)
class Pace:
    """The intervals of polling.

    The first interval is `start` seconds. Each interval is `factor` times the one before, at most `cap` seconds. It is
    changed at random by up to the fraction `jitter`, so that many waits do not poll at the same moment. A wait
    continues after at most `max_failures` temporary failures in a row. Raises `InvalidArgument` for numbers out of
    range.
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
    """A deadline `timeout` seconds from now, or no deadline."""

    def __init__(self, timeout: float | None, clock: Clock) -> None:
        self.seconds = None if timeout is None else seconds(timeout, "timeout")
        self.clock = clock
        self.end = math.inf if self.seconds is None else clock.monotonic() + self.seconds

    def left(self) -> float:
        """The seconds until the deadline."""
        return max(0.0, self.end - self.clock.monotonic())

    def block(self) -> AbstractContextManager[object]:
        """Return a context manager that raises `TimeoutError` at the deadline."""
        return self.clock.timeout(self.left())


@attrs.frozen(kw_only=True)
class Rules(Generic[T]):
    """The settings that all waits of one `poll_until` or `poll_many` share."""

    done: Callable[[T], bool]
    clock: Clock
    deadline: PollDeadline
    pace: Pace
    on_poll: OnPoll[T] | None
    delay_of: DelayOf[T] | None


def is_transient(error: Exception) -> bool:
    """Whether a wait continues after the error, because a later poll may succeed."""
    return isinstance(error, RequestError) and error.transient


class PollState(Generic[T]):
    """The state of one wait: the last result, and the interval until the next poll."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], rules: Rules[T]) -> None:
        self.fetch = fetch
        self.rules = rules
        self.interval = min(rules.pace.start, rules.pace.cap)
        self.seen: list[T] = []  # at most one state; a list, because a state may be None
        self.failure: Exception | None = None
        self.failures = 0

    @property
    def value(self) -> T:
        return self.seen[0]

    def observe(self, value: T) -> None:
        """Store a state that came from another request. It is not done yet."""
        self.seen = [value]
        self.failure, self.failures = None, 0
        if self.rules.on_poll is not None:
            self.rules.on_poll(value)

    async def look(self) -> float | None:
        """Poll once. Returns `None` if it is done, else the seconds until the next poll.

        Raises `WaitTimeout` if there is no time for another poll, and the error of `fetch` if it is not temporary.
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
        elif self.failures > rules.pace.max_failures or not is_transient(self.failure):
            raise self.failure
        return self.pause()

    async def ask(self) -> None:
        # Errors of `fetch` are caught inside the timeout's block, so that its own TimeoutError does not count as the
        # deadline.
        try:
            self.seen = [await self.fetch()]
        except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
            self.failure = error
            self.failures += 1
        else:
            self.failure = None
            self.failures = 0

    def pause(self) -> float:
        """Return the seconds until the next poll: the delay that the server requests, else the next interval. It
        ends before the deadline.
        """
        rules = self.rules
        asked = self.asked()
        if asked:
            pause = asked * (1 + rules.pace.jitter * rules.clock.random())  # never earlier than requested
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
    timeout: float | None = None,  # it covers many calls, and has its own error class
    pace: Pace = STEADY,
    on_poll: OnPoll[T] | None = None,
    delay_of: DelayOf[T] | None = None,
) -> T:
    """Call `fetch()` until `done(state)` is true, and return that state.

    The first call is made at once, the others at the intervals of `pace`. If the server requests a delay in seconds
    (`delay_of(state)`, or the `retry_after` of an error), this delay is used instead. `timeout` is in seconds and
    covers everything, also a running `fetch`. The last call is made shortly before the timeout. `on_poll` is called
    with every state.

    Raises `WaitTimeout` with the last state, and errors of `fetch` that are not temporary.
    """
    deadline = PollDeadline(timeout, clock)
    rules = Rules(done=done, clock=clock, deadline=deadline, pace=pace, on_poll=on_poll, delay_of=delay_of)
    state = PollState(fetch, rules)
    while (pause := await state.look()) is not None:
        await clock.sleep(pause)
    return state.value


class Look(Protocol[K_co, T_co]):
    """A scheduled poll, of one object or of many objects together."""

    async def look(self) -> Outcome[K_co, T_co] | None:
        """Poll once. Returns the outcome if a wait has ended. Otherwise the next poll is scheduled."""
        ...


class Schedule(Generic[K, T]):
    """The scheduled polls. Many workers take polls from it. One worker at a time sleeps until the next one is due."""

    def __init__(self, rules: Rules[T], waits: int) -> None:
        self.rules = rules
        self.open = waits
        self.number = 0
        self.heap: list[tuple[float, int, Look[K, T]]] = []
        self.lock = asyncio.Lock()
        self.changed = asyncio.Event()

    async def take(self) -> Look[K, T] | None:
        """Wait for the next poll that is due. Returns `None` when all waits have ended."""
        async with self.lock:
            while self.open:
                if not self.heap:
                    self.changed.clear()
                    await self.changed.wait()
                    continue
                left = self.heap[0][0] - self.rules.clock.monotonic()
                if left <= 0:
                    return heapq.heappop(self.heap)[2]
                # In short sleeps: a poll that is added in the meantime may be due earlier.
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
    """One wait. `key` is the key of its outcome."""

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
    """Wait for many objects as `poll_until` does for one, with at most `concurrency` (1..256) polls at once.

    Outcomes come in the order in which the waits end. `timeout` is in seconds, starts now, and applies to all waits.
    Each wait has its own intervals. If a wait times out or fails, its `Outcome` has `error`. `Progress` counts waits.
    Raises `InvalidArgument` for a `concurrency` out of range.
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
    return run_schedule(schedule, concurrency, on_progress)


def run_schedule(schedule: Schedule[K, T], concurrency: int, on_progress: OnProgress | None) -> FanOut[K, T]:
    """Run the scheduled polls until all waits have ended."""
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

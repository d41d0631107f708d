"""`RedisLimiter`: a rate limiter for many processes.

The state of a limit (`RateControl`) is one value in Redis. A process that wants to send requests, or has received
responses, reads the value. It applies its observations, takes permits for its waiting requests, and writes the value
back, unless another process has changed it. One such step covers many requests. Times are those of the Redis server.

Without Redis, a process uses its own state. It starts with its share of the last shared state.
"""

import asyncio
import contextlib
import math
from collections import deque
from typing import Self

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._closing import Closing
from evals_async._transport.delays import shortened
from evals_async._transport.limiter import MAX_HOLD, AdaptiveLimiter, Statistics
from evals_async._transport.messages import Response
from evals_async._transport.observation import Observation
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError, DeadlineExceeded
from evals_async.redis._connection import TRY_AGAIN, RedisLink, Warnings, reason_of
from evals_async.redis._state import GONE, HEARTBEAT, OtherProcessesWrite, PermitTimes, State, Turn, Write
from evals_async.redis._store import OLD, SAME, TAKEN, UNREAD, Store


TICK = 1e-6  # seconds between permits that are taken together: the algorithm needs their order
LEASE = 20  # milliseconds in which only this process may write, after others were faster
MOST_TRIES = 20  # commands for one write; then there are too many other processes


class RedisLimiter(AdaptiveLimiter, Closing):
    """An `AdaptiveLimiter` for all processes and hosts with the same `name`.

    They share the rate, the delays and the measurements of one quota, and together have at most `max_in_flight` running
    requests: 32 at first, and one more for each response, but none while a limit is being found. Use one name for each
    quota, so one for each key and endpoint. The name is a part of the key in Redis, so it must not be a secret.

    If Redis does not respond within 50 ms, no call fails or waits for it. Each process then limits its requests by
    itself, to its share of the rate, and tries Redis again every second. At most once a minute this is logged as a
    warning. `max_rate` and `start_rate` are as in `AdaptiveLimiter`, for all processes together. It holds a connection:
    close it, or use `async with`. It is used in one event loop until that loop is closed, then in the next one. Raises
    `ConfigurationError` for invalid arguments, and `MissingExtra`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        max_rate: float | None = None,
        start_rate: float | None = None,
        max_in_flight: int = 128,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not name:
            raise ConfigurationError("name must not be empty: processes with the same name share a limit")
        # The state of the base class is for times without Redis.
        super().__init__(max_rate=max_rate, start_rate=start_rate, max_in_flight=max_in_flight, clock=clock)
        self._fresh = (start_rate, max_rate)
        self._link = RedisLink(url, "limiter")
        self._store = Store(self._link, name, clock, lambda: self._lose("Redis does not respond (no response in time)"))
        self._turns: deque[Turn] = deque()  # the waiting calls; the queue of the base class is not used
        self._processes = 1  # when Redis was lost
        self._seen: list[tuple[Observation, float]] = []  # observations, with their times, that are not in Redis yet
        self._permits = PermitTimes(4 * self._control.most)
        self._away = False  # Redis does not respond
        self._failures = 0
        self._warnings = Warnings("this process limits its requests by itself", clock)
        self._due = 0.0  # when the next exchange with Redis begins
        self._work: asyncio.Event | None = None  # it is set if this time changes
        self._task: asyncio.Task[None] | None = None

    def try_acquire(self, now: float, /) -> int:
        """Take a permit without waiting if Redis is unavailable. Otherwise permits come from Redis, so this returns
        0.
        """
        if not self._away or self._turns or not self._link.here():
            return 0
        return super().try_acquire(now)

    async def acquire(self, end: float, /) -> int:
        """Wait for a permit. Raises `DeadlineExceeded` as `AdaptiveLimiter` does, `ClientClosed` if the limiter is
        closed, and `WrongLoop` in a second event loop while the first one is not closed.
        """
        self._enter()
        turn = Turn(end)
        urgent = not self._turns or self._turns[-1].among > 0  # otherwise, calls before this one have no permit yet
        self._turns.append(turn)
        self._start(urgent=urgent)
        try:
            while True:
                now, at = self._clock.monotonic(), math.inf
                if self._link.closed and not turn.among:
                    self._enter()  # raises
                if turn.among:
                    at = turn.at
                    if at <= now:
                        break
                elif self._away and self._turns[0] is turn:
                    at = self._control.next_turn(now)
                    if at <= now:
                        turn.among = self._control.take(now, waited=True)
                        break
                if not turn.among:
                    self._check(now, end)
                await turn.sleep(self._clock, (at if turn.among else min(at, end)) - now)
        except BaseException:
            if turn.among:
                self.release()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._turns.remove(turn)
            self._wake()
        self._permits.add(now, turn.taken or now)
        return turn.among

    def _check(self, now: float, end: float) -> None:
        if self._away or self._store.state is None:
            super()._check(now, end)
            return
        control = self._store.state.control
        held = control.told_hold(now + self._store.offset.seconds)
        if 0 < held >= end - now:
            raise DeadlineExceeded(f"the rate limit delays requests for {held:.3g} s, too long for this call")
        if now >= end:
            rate = "" if control.rate == math.inf else f": all processes together may send {control.rate:.3g} a second"
            raise DeadlineExceeded(f"the shared rate limit gave no permit before the deadline of this call{rate}")

    def _enter(self) -> None:
        """Use the running event loop. What belongs to an older one, or to the parent process, is dropped."""
        if self._link.here():
            return
        new = not self._store.me or self._link.forked()
        self._link.enter()
        self._task = self._work = None
        self._turns.clear()
        self._paused.clear()
        self._away = False
        now = self._store.now()
        if new:
            self._store.rename()
            self._control.under_way = 0
        if new or (self._seen and now - self._seen[0][1] >= GONE):
            self._forget()

    def _wake(self) -> None:
        if self._turns and self._link.here():
            self._turns[0].wake()

    def release(self) -> None:
        """Release the permit of a request."""
        self._control.give(self._clock.monotonic())
        self._wake()
        self._start(urgent=False)

    def observe(self, response: Response, /, *, sent_at: float, among: int = 1, max_hold: float = MAX_HOLD) -> None:
        """Observe a response, for this process and then for all processes."""
        now, offset = self._clock.monotonic(), self._store.offset.seconds
        own = min(among, self._control.under_way + 1)
        super().observe(response, sent_at=sent_at, among=own, max_hold=max_hold)
        if self._link.closed:
            return
        # The clock of this process may be wrong, and its observations delay all processes.
        time = self._store.now() if self._store.offset.known else self._clock.time()
        seen = Observation.of(response, self._permits.taken(sent_at) + offset, among, max_hold, time)
        self._seen.append((seen, now + offset))
        if self._away and seen.refused:
            self._wake_late(self._control, now)
        self._start(urgent=seen.refused)

    def _wake_late(self, control: RateControl, now: float) -> None:
        """Wake the calls whose deadline is before the end of a delay that the server asks for."""
        held = control.told_hold(now)
        for turn in self._turns if held > 0 else ():
            if turn.end <= self._clock.monotonic() + held:
                turn.wake()

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call acquires a new permit: for the given seconds, or until the allowed rate is
        known.
        """
        self._enter()
        now = self._clock.monotonic()
        control, at = self._in_use(now)
        end = now + shortened(seconds, control.told_hold(at), self._clock.random)
        waiting = Turn(end)
        self._paused[waiting] = None
        self._start()
        try:
            while (now := self._clock.monotonic()) < end and not self._understood(now):
                await waiting.sleep(self._clock, end - now)
        finally:
            self._paused.pop(waiting, None)

    def _in_use(self, now: float) -> tuple[RateControl, float]:
        """Return the state that decides, of all processes or of this one without Redis, and the time of its clock."""
        if self._away or self._store.state is None:
            return self._control, now
        return self._store.state.control, now + self._store.offset.seconds

    def _understood(self, now: float) -> bool:
        control, at = self._in_use(now)
        return control.understood(at)

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """Return `counts` with the state of the limiter for all processes, or for this process if Redis is
        unavailable.
        """
        shared = None if self._away or self._store.state is None else self._store.state.control
        return self.report(
            shared,
            0.0 if shared is None else self._store.offset.seconds,
            waiting=len(self._turns),
            requests=requests,
            retries=retries,
            throttles=throttles,
            bytes_received=bytes_received,
        )

    def _start(self, *, urgent: bool = True) -> None:
        """Let the task that synchronises with Redis exchange what is new: at once, or after a short time together with
        other news.
        """
        if not self._link.here():
            return
        now, state = self._clock.monotonic(), self._store.state
        wait = self._apart()
        if not (urgent or self._away or state is None) and state.paced(self._store.now()):
            wait = self._store.turn()
        if self._work is None or self._task is None or self._task.done():
            self._due, self._work = now, asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._synchronise(self._work), name="evals_async.redis")
        elif now + wait < self._due:
            self._due = now + wait
            self._work.set()

    async def _rest(self, work: asyncio.Event) -> None:
        """Wait until the next exchange is due."""
        while (wait := self._due - self._clock.monotonic()) > 0:
            work.clear()
            with contextlib.suppress(TimeoutError), self._clock.timeout(wait):
                await work.wait()

    def _busy(self) -> bool:
        """Whether calls wait or run, or there are observations for the other processes."""
        return bool(self._turns or self._seen or self._control.under_way or self._paused)

    async def _synchronise(self, work: asyncio.Event) -> None:
        """Synchronise with Redis while this process is busy, and once more, so that the others know when it is not."""
        told = False
        while self._busy() or not (told or self._away):
            told, self._due = not self._busy(), math.inf
            try:
                wait = await self._exchange()
                self._failures = 0
            except OtherProcessesWrite:
                self._lose("too many other processes write to Redis")
                await self._clock.sleep(TRY_AGAIN / 10)
                continue
            except Exception as error:  # noqa: BLE001  # Redis and its client may raise anything; calls continue without them
                self._lose(reason_of(error))
                self._failures += 1
                if self._failures > 1:
                    self._forget()
                await self._clock.sleep(TRY_AGAIN)
                continue
            if self._away:  # the response came too late
                await self._clock.sleep(TRY_AGAIN / 10)
            elif not told:
                self._due = min(self._due, self._clock.monotonic() + wait)
                await self._rest(work)

    async def _exchange(self) -> float:
        """Write observations to Redis and take permits. Returns the seconds until the next call."""
        store = self._store
        answer, lease, late = OLD if store.version == UNREAD else SAME, 0, False
        for tries in range(MOST_TRIES):
            now = store.now()
            # A copy: if another process writes first, the next attempt starts from its state.
            state = self._first(now) if self._store.state is None else self._store.state.copy()
            store.serial += 1
            write = self._apply(state, now)
            leased = lease > 0 and answer == OLD  # the write ends the lease
            news = leased or bool(write.seen or write.turns) or state.differs(self._store.state, self._store.me)
            news = news and self._store.version != UNREAD
            if tries and answer == OLD and not news:
                break  # the state was read a moment ago
            lease = LEASE if (write.seen or write.turns) and tries > 1 else 0
            answer, in_time = await store.exchange(state if news else None, write, lease=lease)
            late = late or not in_time
            if answer == SAME:
                if news:
                    self._written(write)
                break
            if answer == OLD and (executed := store.executed()) is not None:
                self._written(executed)
            if answer == TAKEN:
                await self._clock.sleep(self._clock.random() * store.until_free())
        else:
            raise OtherProcessesWrite
        self._away = late  # a Redis that can be read but not written is of no use
        self._inform()
        return self._next()

    def _first(self, now: float) -> State:
        """Return the first state if Redis has none, with the rate that this process knows."""
        start_rate, max_rate = self._fresh
        return State.first(self._control, self._processes, now, start_rate=start_rate, max_rate=max_rate)

    def _apply(self, state: State, now: float) -> Write:
        """Apply the observations to the state, and take permits for the waiting calls."""
        control, under_way = state.control, self._control.under_way
        state.count(self._store.me, under_way, now, self._store.serial, waiting=False)
        for observation, at in self._seen:
            observation.apply(control, at)
        if control.untouched or control.source == "measured":
            control.width = min(float(control.most), control.width + len(self._seen))
        turns: list[tuple[Turn, int, float]] = []
        waiting, most = False, state.most_of(self._store.me)
        ahead, part = state.ahead(self._store.me, self._store.spacing())
        for turn in () if self._away else self._turns:
            if turn.among or turn.woken.cancelled():
                continue
            at = control.next_turn(now)
            if at > now + ahead or under_way + len(turns) >= most or (at > now and len(turns) >= part):
                waiting = True
                break
            turns.append((turn, control.take(at, waited=True), at))
        state.members[self._store.me] = (under_way + len(turns), now, self._store.serial, waiting)
        return Write(self._store.serial, len(self._seen), turns, now)

    def _written(self, write: Write) -> None:
        """Remove the observations of a write that was executed, and give its permits to the calls."""
        del self._seen[: write.seen]
        now = self._clock.monotonic()
        for number, (turn, among, at) in enumerate(write.turns):
            if turn.among or turn not in self._turns:
                continue  # the call has ended in the meantime; the next heartbeat corrects the count
            turn.among, turn.at = among, at - self._store.offset.seconds
            turn.taken = write.at - self._store.offset.seconds + number * TICK
            self._control.take(now, waited=True)
            turn.wake()

    def _inform(self) -> None:
        """Wake the calls that the new state concerns."""
        if self._store.state is None or self._away:
            return
        self._wake_late(self._store.state.control, self._store.now())
        if self._understood(self._clock.monotonic()):
            for waiting in self._paused:
                waiting.wake()

    def _next(self) -> float:
        """Return the seconds until a permit may be free, or the next heartbeat is due."""
        store = self._store
        if store.state is None or all(turn.among for turn in self._turns):
            return HEARTBEAT
        last = max((turn.at for turn in self._turns if turn.among), default=-math.inf) + store.offset.seconds
        return store.state.next_look(store.now(), last, store.me, store.spacing(), self._apart())

    def _apart(self) -> float:
        """Return a random delay, so that processes do not all write at the same time."""
        return self._clock.random() * self._store.spread()

    def _lose(self, reason: str) -> None:
        """Handle a failure of Redis: this process limits its requests by itself."""
        self._warnings.warn(reason)
        if self._away:
            return
        self._away = True
        if self._store.state is not None:
            part = self._store.state.part(self._control.most, self._store.offset.seconds)
            part.under_way = self._control.under_way
            self._control, self._processes = part, self._store.running()
        self._wake()

    def _forget(self) -> None:
        """Forget what was not written. Redis is unavailable for longer, so it is out of date."""
        self._seen.clear()
        self._store.forget()

    async def __aenter__(self) -> Self:
        self._link.open()
        self._enter()
        return self

    async def close(self) -> None:
        """Remove this process from the state in Redis, and close the connection. Calls that wait get `ClientClosed`.

        After this, `async with` opens it again, also in another event loop. Raises `WrongLoop` as `acquire` does.
        """
        here = self._link.end()
        if here and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=TRY_AGAIN)
        waiting = list(self._turns)
        self._turns.clear()
        if here and self._store.state is not None and not self._away:
            running, self._control.under_way = self._control.under_way, 0
            with contextlib.suppress(Exception):
                await self._exchange()
            self._control.under_way = running
        self._away = True
        for turn in waiting if here else ():
            turn.wake()
        await self._link.close()

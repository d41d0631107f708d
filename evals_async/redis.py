"""One quota for many processes, by Redis: `RedisLimiter`, and `RedisCache` for runs that are over. Needs `redis`.

    from evals_async.redis import RedisLimiter

    async with RedisLimiter("redis://localhost", name="openai-key-1") as limiter:
        client = EvalsClient(limiter=limiter)

How it works: what is known of a limit (`RateControl`) is one value in Redis. A process that wants to send, or that has
seen answers, reads it, applies what it has seen, takes the turns that are free, and writes it back if nobody else did
meanwhile; all of that for many requests at once. Times are the Redis server's.
"""

import asyncio
import contextlib
import logging
import math
import os
import uuid
from collections import deque
from types import TracebackType
from typing import Any, Self

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._redis_state import EXCHANGE, State, Turn, connected
from evals_async._transport.limiter import MAX_HOLD, AdaptiveLimiter, Observation, Statistics
from evals_async._transport.messages import Response
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError, DeadlineExceeded


__all__ = ["RedisCache", "RedisLimiter"]

logger = logging.getLogger("evals_async")

REDIS_TIMEOUT = 0.05  # seconds within which Redis must answer, or the process limits on its own
TRY_AGAIN = 1.0  # seconds until Redis is asked again
TOGETHER = 16  # commands of the cache that are sent at once; each may bring a megabyte
MOST_TIMEOUTS = 2  # late answers in a row after which the cache is passed by
TELL_AGAIN = 60.0  # seconds between two log lines about it
HEARTBEAT = 1.0  # seconds between two signs of life of a process that has requests under way
KEPT = 300  # seconds that an unused state is kept in Redis
LOOK = 0.02  # seconds between two looks for turns that other processes make free


class RedisLimiter:
    """An `AdaptiveLimiter` for all processes and hosts that give it the same `name`: they share rate, hold and
    measurements of one quota, and have at most `max_in_flight` requests under way together.

    Give each quota a name of its own: one for each key and endpoint. A Redis that does not answer within 50 ms neither
    fails nor stalls a call: each process then limits on its own, and asks Redis again every second; once a minute this
    is logged as a warning. `max_rate` and `start_rate` are as in `AdaptiveLimiter`, for all processes together. Close
    it, or use `async with`: it holds a connection.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        max_rate: float | None = None,
        start_rate: float | None = None,
        max_in_flight: int = 32,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not name:
            raise ConfigurationError("name must not be empty: processes that give the same one share a limit")
        # It takes over when Redis is away, and sees everything that this process does, so that it then knows.
        self._local = AdaptiveLimiter(
            max_rate=max_rate, start_rate=start_rate, max_in_flight=max_in_flight, clock=clock
        )
        self._fresh = (max_in_flight, start_rate, max_rate)
        self._redis = connected(url, REDIS_TIMEOUT)
        self._clock = clock
        self._key = f"evals-async:limit:{{{name}}}"
        self._me = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._state: State | None = None  # as it was last written or read
        self._version = ""  # of what was read; nothing was, and a first exchange only reads
        self._offset = 0.0  # seconds that the Redis server's clock is ahead of ours
        self._synced_at = -math.inf
        self._under_way = 0
        self._seen: list[tuple[Observation, float]] = []  # with the time when, not in Redis yet
        self._queue: deque[Turn] = deque()
        self._away_until = -math.inf
        self._told_at = -math.inf
        self._work: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def try_acquire(self, now: float, /) -> int:
        """Without waiting only while Redis is away: a turn is taken there."""
        if now >= self._away_until:
            return 0
        among = self._local.try_acquire(now)
        self._under_way += among > 0
        return among

    async def acquire(self, end: float, /) -> int:
        """Wait until a request may go. Raises `DeadlineExceeded` as `AdaptiveLimiter` does."""
        if self._clock.monotonic() >= self._away_until:
            among = await self._shared(end)
            if among:
                return among
        among = await self._local.acquire(end)
        self._under_way += 1
        return among

    async def _shared(self, end: float) -> int:
        """Wait for a turn in Redis; 0 if it is away."""
        turn = Turn(end)
        self._queue.append(turn)
        asked = self._clock.monotonic()
        self._start()
        try:
            while not turn.among:
                now = self._clock.monotonic()
                if now < self._away_until:
                    return 0
                if now - max(asked, self._synced_at) > 2 * REDIS_TIMEOUT:
                    self._lost("no answer")
                    return 0
                self._check(now, end)
                await turn.sleep(self._clock, min(REDIS_TIMEOUT, end - now))
        except BaseException:
            if turn.among:
                self.release()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._queue.remove(turn)
        return turn.among

    def _check(self, now: float, end: float) -> None:
        held = 0.0 if self._state is None else self._state.control.told_hold(now + self._offset)
        if 0 < held >= end - now:
            raise DeadlineExceeded(f"the rate limit holds requests back for {held:.3g} s, too long for this call")
        if now >= end:
            raise DeadlineExceeded("no turn under the shared rate limit for as long as this call had")

    def release(self) -> None:
        """A request is over."""
        self._under_way -= 1
        self._local.release()
        self._start()

    def observe(self, response: Response, /, *, sent_at: float, among: int = 1, max_hold: float = MAX_HOLD) -> None:
        """Take in what an answer tells, here and, a moment later, for all."""
        now = self._clock.monotonic()
        self._local.observe(response, sent_at=sent_at, among=min(among, self._under_way + 1), max_hold=max_hold)
        seen = Observation.of(response, sent_at + self._offset, among, max_hold, self._clock.time())
        if now >= self._away_until:
            self._seen.append((seen, now + self._offset))
            self._start()

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call asks again: so long, or until the rate is known that is allowed."""
        end = self._clock.monotonic() + seconds
        while (now := self._clock.monotonic()) < end and not (self._state is not None and self._state.control.known):
            await self._clock.sleep(min(REDIS_TIMEOUT, end - now))

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """How things stand for all processes; while Redis is away, for this one. The client counts what is given."""
        shared = self._state is not None and self._clock.monotonic() >= self._away_until
        return self._local.report(
            self._state.control if shared and self._state is not None else None,
            self._offset if shared else 0.0,
            waiting=len(self._queue),
            requests=requests,
            retries=retries,
            throttles=throttles,
            bytes_received=bytes_received,
        )

    def _start(self) -> None:
        """Let the task that talks to Redis know that there is something to do."""
        if self._task is None or self._task.done():
            self._work = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._talk(), name="evals_async.redis")
        assert self._work is not None  # noqa: S101  # made above
        self._work.set()

    async def _talk(self) -> None:
        """Exchange states with Redis while calls wait or are under way."""
        work = self._work
        assert work is not None  # noqa: S101  # made with this task
        failures = 0
        while self._queue or self._seen or self._under_way:
            work.clear()
            wait = LOOK
            if self._clock.monotonic() >= self._away_until:
                try:
                    wait, failures = await self._exchange(), 0
                except Exception as error:  # noqa: BLE001  # whatever Redis and its client raise: the calls go on
                    failures += 1
                    wait = 0.0
                    if failures > 1 or not isinstance(error, TimeoutError):  # this process may have been busy itself
                        self._lost(f"{type(error).__name__}: {error}"[:200])
            else:
                wait = TRY_AGAIN
            with contextlib.suppress(TimeoutError), self._clock.timeout(wait):
                await work.wait()
            if self._clock.monotonic() < self._away_until:
                await self._clock.sleep(min(TRY_AGAIN, self._away_until - self._clock.monotonic()))
        with contextlib.suppress(Exception):
            await self._exchange()  # the last sign of life: nothing of ours is under way

    async def _exchange(self) -> float:
        """Bring what was seen to Redis, and turns from there. Seconds until the next look."""
        while True:
            now = self._clock.monotonic()
            seen = list(self._seen)
            # A copy: if another process is quicker, the next attempt begins from what that one wrote.
            state = State.of(bytes(self._state or State(self._first(now + self._offset), {})))
            turns = self._apply(state, seen, now + self._offset)
            with self._clock.timeout(REDIS_TIMEOUT):
                won = await self._write(state)
            if won:
                break
        del self._seen[: len(seen)]
        self._state = state
        for turn, among in turns:
            if turn not in self._queue:
                continue  # it was given up meanwhile; the next exchange counts without it
            turn.among = among
            self._under_way += 1
            self._local.take()
            turn.wake()
        return self._next(state)

    def _first(self, now: float) -> RateControl:
        """Where nothing is in Redis: what this process knows of the limit, or nothing."""
        most, start_rate, max_rate = self._fresh
        known = self._local.rate
        return RateControl(most, now, start_rate=start_rate if known is None else known, max_rate=max_rate)

    def _apply(self, state: State, seen: list[tuple[Observation, float]], now: float) -> list[tuple[Turn, int]]:
        """Let the state know what was seen, and take turns for those who wait."""
        control = state.control
        state.count(self._me, self._under_way, now)
        for observation, at in seen:
            observation.apply(control, at)
        turns: list[tuple[Turn, int]] = []
        for turn in self._queue:
            if turn.woken.cancelled() or control.next_turn(now) > now:
                break
            turns.append((turn, control.take(now, waited=True)))
        if turns:
            state.members[self._me] = (self._under_way + len(turns), now)
        return turns

    async def _write(self, state: State) -> bool:
        """Write the state unless another process was quicker; then take over what it wrote."""
        version = str(int(self._version) + 1) if self._version else "0"
        began = self._clock.monotonic()
        won, seconds, micros, held, data = await self._redis.execute_command(
            "EVAL", EXCHANGE, 1, self._key, self._version, version, bytes(state), 1000 * KEPT
        )
        now = self._clock.monotonic()
        self._synced_at = now
        self._offset = int(seconds) + int(micros) / 1e6 - (began + now) / 2
        self._version = held.decode() if isinstance(held, bytes) else str(held)
        if not won:
            self._state = State.of(data) if data else None
        return bool(won)

    def _next(self, state: State) -> float:
        """Seconds until there may be a turn, or another sign of life is due."""
        if not self._queue:
            return HEARTBEAT
        now = self._clock.monotonic() + self._offset
        return min(LOOK, max(0.001, state.control.next_turn(now) - now))

    def _lost(self, why: str) -> None:
        """Redis does not answer: this process limits on its own for a while."""
        now = self._clock.monotonic()
        self._away_until = now + TRY_AGAIN
        self._seen.clear()
        self._state, self._version = None, ""
        if now - self._told_at >= TELL_AGAIN:
            self._told_at = now
            logger.warning("Redis does not answer (%s): this process keeps to the rate limit on its own", why)
        for turn in self._queue:
            turn.wake()

    async def close(self) -> None:
        """Say that nothing is under way here any more, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=TRY_AGAIN)
        self._under_way = 0
        self._queue.clear()
        if self._state is not None:
            with contextlib.suppress(Exception), self._clock.timeout(2 * REDIS_TIMEOUT):
                await self._exchange()
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class RedisCache:
    """A `Cache` that all processes share: runs that are over, for `keep` seconds, and no value above `max_bytes`.

    A Redis that does not answer within 50 ms is passed by: the run is then fetched. Runs are private; whoever reads
    this Redis reads them.
    """

    def __init__(self, url: str, *, keep: float = 7 * 86_400, max_bytes: int = 1024 * 1024) -> None:
        if keep <= 0 or max_bytes < 1:
            raise ConfigurationError(f"keep and max_bytes must be above 0, got {keep!r} and {max_bytes!r}")
        self._redis = connected(url, REDIS_TIMEOUT)
        self._keep = keep
        self._max_bytes = max_bytes
        self._away_until = -math.inf
        self._told_at = -math.inf
        self._timeouts = 0
        self._waiting: list[tuple[tuple[str | bytes, ...], asyncio.Future[bytes | None]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, or `None`."""
        return await self._ask("GET", f"evals-async:cache:{{{key}}}")

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        if len(value) <= self._max_bytes:
            await self._ask("SET", f"evals-async:cache:{{{key}}}", value, "PX", str(int(self._keep * 1000)))

    async def _ask(self, *command: str | bytes) -> bytes | None:
        """What Redis answers. Commands that come at one time are sent together: a connection for each, or a turn for
        each on one connection, would take longer than Redis is waited for.
        """
        if SYSTEM_CLOCK.monotonic() < self._away_until:
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((command, answer))
        if self._sending is None or self._sending.done() or self._sending.get_loop() is not loop:
            self._sending = loop.create_task(self._send_waiting())
        return await answer

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            answers: list[Any] = [None] * len(batch)
            try:
                with SYSTEM_CLOCK.timeout(REDIS_TIMEOUT):
                    pipeline = self._redis.pipeline(transaction=False)
                    for command, _ in batch:
                        pipeline.execute_command(*command)
                    answers = await pipeline.execute(raise_on_error=False)
                if refused := next((answer for answer in answers if isinstance(answer, Exception)), None):
                    raise refused
                self._timeouts = 0
            except Exception as error:  # noqa: BLE001  # whatever Redis and its client raise: the call goes on
                self._failed(error)
                if SYSTEM_CLOCK.monotonic() < self._away_until:
                    batch, self._waiting = batch + self._waiting, []
                    answers = [None] * len(batch)
            finally:
                for (_, waiter), answer in zip(batch, answers, strict=True):
                    if not waiter.done() and not waiter.get_loop().is_closed():
                        waiter.set_result(answer if isinstance(answer, bytes) else None)

    def _failed(self, error: Exception) -> None:
        """Pass Redis by for a while, if it is away. One late answer is none: this process may have been busy."""
        self._timeouts += 1
        if "Timeout" in type(error).__name__ and self._timeouts < MOST_TIMEOUTS:
            return
        self._timeouts = 0
        now = SYSTEM_CLOCK.monotonic()
        self._away_until = now + TRY_AGAIN
        if now - self._told_at >= TELL_AGAIN:
            self._told_at = now
            logger.warning("Redis does not answer (%s): runs are fetched, not taken from the cache", error)

    async def close(self) -> None:
        """Close the connection."""
        sending, self._sending = self._sending, None
        if sending is not None and not sending.done() and sending.get_loop() is asyncio.get_running_loop():
            sending.cancel()
            await asyncio.wait([sending])
        self._waiting.clear()
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

"""One quota for many processes through Redis: `RedisLimiter`, and `RedisCache` for runs that have ended. Needs `redis`.

    from evals_async.redis import RedisLimiter

    async with RedisLimiter("redis://localhost", name="openai-key-1") as limiter:
        client = EvalsClient(limiter=limiter)

The state of a limit (`RateControl`) is one value in Redis. A process that wants to send requests, or has received
responses, reads the value. It applies its observations, takes permits for its waiting requests, and writes the value
back, unless another process has changed it. One such step covers many requests. Times are those of the Redis server.
"""

import asyncio
import contextlib
import logging
import math
import os
import uuid
from collections import deque
from typing import Any

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._closing import Closing
from evals_async._redis_state import EXCHANGE, State, Turn, connected
from evals_async._transport.limiter import MAX_HOLD, AdaptiveLimiter, Observation, Statistics
from evals_async._transport.messages import Response
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError, DeadlineExceeded


__all__ = ["RedisCache", "RedisLimiter"]

logger = logging.getLogger("evals_async")

REDIS_TIMEOUT = 0.05  # seconds to wait for Redis; after that, the process limits its requests by itself
TRY_AGAIN = 1.0  # seconds until the next attempt to use Redis
TOGETHER = 16  # commands of the cache that are sent together; each response may have a megabyte
MOST_TIMEOUTS = 2  # timeouts in a row after which the cache is not used for a while
TELL_AGAIN = 60.0  # seconds between two warnings
HEARTBEAT = 1.0  # seconds between two heartbeats of a process with running requests
KEPT = 300  # seconds until Redis deletes an unused state
LOOK = 0.02  # seconds between two checks for permits that other processes release


class RedisLimiter(Closing):
    """An `AdaptiveLimiter` for all processes and hosts with the same `name`.

    They share the rate, the delays and the measurements of one quota, and together have at most `max_in_flight` running
    requests. Use one name for each quota, so one for each key and endpoint.

    If Redis does not respond within 50 ms, no call fails or waits for it. Each process then limits its requests by
    itself, and tries Redis again every second. At most once a minute this is logged as a warning. `max_rate` and
    `start_rate` are as in `AdaptiveLimiter`, for all processes together. It holds a connection: close it, or use `async
    with`. Raises `ConfigurationError` for invalid arguments, and `MissingExtra`.
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
            raise ConfigurationError("name must not be empty: processes with the same name share a limit")
        # The limiter for times without Redis. It observes all requests of this process, so its state is current.
        self._local = AdaptiveLimiter(
            max_rate=max_rate, start_rate=start_rate, max_in_flight=max_in_flight, clock=clock
        )
        self._fresh = (max_in_flight, start_rate, max_rate)
        self._redis = connected(url, REDIS_TIMEOUT)
        self._clock = clock
        self._key = f"evals-async:limit:{{{name}}}"
        self._me = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._state: State | None = None  # the last written or read state
        self._version = ""  # the version that was read; empty, so the first call of the script only reads
        self._offset = 0.0  # seconds that the clock of the Redis server is ahead of ours
        self._synced_at = -math.inf
        self._under_way = 0
        self._seen: list[tuple[Observation, float]] = []  # observations, with their times, that are not in Redis yet
        self._queue: deque[Turn] = deque()
        self._away_until = -math.inf
        self._told_at = -math.inf
        self._closed = False
        self._work: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def try_acquire(self, now: float, /) -> int:
        """Take a permit without waiting if Redis is unavailable. Otherwise permits come from Redis, so this returns
        0.
        """
        if now >= self._away_until:
            return 0
        among = self._local.try_acquire(now)
        self._under_way += among > 0
        return among

    async def acquire(self, end: float, /) -> int:
        """Wait for a permit. Raises `DeadlineExceeded` as `AdaptiveLimiter` does."""
        if self._clock.monotonic() >= self._away_until:
            among = await self._shared(end)
            if among:
                return among
        among = await self._local.acquire(end)
        self._under_way += 1
        return among

    async def _shared(self, end: float) -> int:
        """Wait for a permit from Redis. Returns 0 if Redis is unavailable."""
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
            raise DeadlineExceeded(f"the rate limit delays requests for {held:.3g} s, too long for this call")
        if now >= end:
            raise DeadlineExceeded("the shared rate limit gave no permit before the deadline of this call")

    def release(self) -> None:
        """Release the permit of a request."""
        self._under_way -= 1
        self._local.release()
        self._start()

    def observe(self, response: Response, /, *, sent_at: float, among: int = 1, max_hold: float = MAX_HOLD) -> None:
        """Observe a response, for this process and then for all processes."""
        now = self._clock.monotonic()
        self._local.observe(response, sent_at=sent_at, among=min(among, self._under_way + 1), max_hold=max_hold)
        seen = Observation.of(response, sent_at + self._offset, among, max_hold, self._clock.time())
        if now >= self._away_until:
            self._seen.append((seen, now + self._offset))
            self._start()

    async def pause(self, seconds: float, /) -> None:
        """Wait before a refused call acquires a new permit: for the given seconds, or until the allowed rate is
        known.
        """
        end = self._clock.monotonic() + seconds
        while (now := self._clock.monotonic()) < end and not (self._state is not None and self._state.control.known):
            await self._clock.sleep(min(REDIS_TIMEOUT, end - now))

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        """Return `counts` with the state of the limiter for all processes, or for this process if Redis is
        unavailable.
        """
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
        """Wake the task that synchronises with Redis."""
        if self._closed:
            return
        if self._task is None or self._task.done():
            self._work = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._talk(), name="evals_async.redis")
        assert self._work is not None  # noqa: S101  # set above
        self._work.set()

    async def _talk(self) -> None:
        """Synchronise with Redis while calls wait or run."""
        work = self._work
        assert work is not None  # noqa: S101  # set with this task
        failures = 0
        while self._queue or self._seen or self._under_way:
            work.clear()
            wait = LOOK
            if self._clock.monotonic() >= self._away_until:
                try:
                    wait, failures = await self._exchange(), 0
                except Exception as error:  # noqa: BLE001  # Redis and its client may raise anything; calls continue without them
                    failures += 1
                    wait = 0.0
                    if failures > 1 or not isinstance(error, TimeoutError):  # this process may have been busy
                        self._lost(f"{type(error).__name__}: {error}"[:200])
            else:
                wait = TRY_AGAIN
            with contextlib.suppress(TimeoutError), self._clock.timeout(wait):
                await work.wait()
            if self._clock.monotonic() < self._away_until:
                await self._clock.sleep(min(TRY_AGAIN, self._away_until - self._clock.monotonic()))
        with contextlib.suppress(Exception):
            await self._exchange()  # the last heartbeat: this process has no running requests

    async def _exchange(self) -> float:
        """Write observations to Redis and take permits. Returns the seconds until the next call."""
        while True:
            now = self._clock.monotonic()
            seen = list(self._seen)
            # A copy: if another process writes first, the next attempt starts from its state.
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
                continue  # the call has ended in the meantime; the next call of the script corrects the count
            turn.among = among
            self._under_way += 1
            self._local.take()
            turn.wake()
        return self._next(state)

    def _first(self, now: float) -> RateControl:
        """Return the first state if Redis has none: the state of this process, or an empty state."""
        most, start_rate, max_rate = self._fresh
        known = self._local.rate
        return RateControl(most, now, start_rate=start_rate if known is None else known, max_rate=max_rate)

    def _apply(self, state: State, seen: list[tuple[Observation, float]], now: float) -> list[tuple[Turn, int]]:
        """Apply the observations to the state, and take permits for the waiting calls."""
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
        """Write the state. If another process has changed it, store the other state instead."""
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
        """Return the seconds until a permit may be free, or the next heartbeat is due."""
        if not self._queue:
            return HEARTBEAT
        now = self._clock.monotonic() + self._offset
        return min(LOOK, max(0.001, state.control.next_turn(now) - now))

    def _lost(self, why: str) -> None:
        """Handle a failure of Redis: this process limits its requests by itself for a while."""
        now = self._clock.monotonic()
        self._away_until = now + TRY_AGAIN
        self._seen.clear()
        self._state, self._version = None, ""
        if now - self._told_at >= TELL_AGAIN:
            self._told_at = now
            logger.warning("Redis does not respond (%s); this process limits its requests by itself", why)
        for turn in self._queue:
            turn.wake()

    async def close(self) -> None:
        """Remove this process from the state in Redis, and close the connection."""
        self._closed = True  # requests that still run are counted here only
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=TRY_AGAIN)
        self._under_way = 0
        self._queue.clear()
        if self._state is not None:
            with contextlib.suppress(Exception), self._clock.timeout(2 * REDIS_TIMEOUT):
                await self._exchange()
        self._away_until = math.inf
        await self._redis.aclose()


class RedisCache(Closing):
    """A `Cache` that all processes share. It stores runs that have ended for `keep` seconds, but no value above
    `max_bytes`.

    If Redis does not respond within 50 ms, the run is fetched instead. Runs may be confidential: everyone with access
    to this Redis can read them. Raises `ConfigurationError` for invalid arguments, and `MissingExtra`.
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
        """Return the bytes that are stored under `key`, or `None`."""
        return await self._ask("GET", f"evals-async:cache:{{{key}}}")

    async def put(self, key: str, value: bytes) -> None:
        """Store `value` under `key`."""
        if len(value) <= self._max_bytes:
            await self._ask("SET", f"evals-async:cache:{{{key}}}", value, "PX", str(int(self._keep * 1000)))

    async def _ask(self, *command: str | bytes) -> bytes | None:
        """Send a command and return Redis's response. Commands that arrive at the same time are sent together.
        Otherwise, many of them would take longer than the timeout.
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
            except Exception as error:  # noqa: BLE001  # Redis and its client may raise anything; the call continues without the cache
                self._failed(error)
                if SYSTEM_CLOCK.monotonic() < self._away_until:
                    batch, self._waiting = batch + self._waiting, []
                    answers = [None] * len(batch)
            finally:
                for (_, waiter), answer in zip(batch, answers, strict=True):
                    if not waiter.done() and not waiter.get_loop().is_closed():
                        waiter.set_result(answer if isinstance(answer, bytes) else None)

    def _failed(self, error: Exception) -> None:
        """Do not use Redis for a while if it fails. A single timeout does not count, because this process may have
        been busy.
        """
        self._timeouts += 1
        if "Timeout" in type(error).__name__ and self._timeouts < MOST_TIMEOUTS:
            return
        self._timeouts = 0
        now = SYSTEM_CLOCK.monotonic()
        self._away_until = now + TRY_AGAIN
        if now - self._told_at >= TELL_AGAIN:
            self._told_at = now
            logger.warning("Redis does not respond (%s); runs are fetched, not read from the cache", error)

    async def close(self) -> None:
        """Close the connection."""
        sending, self._sending = self._sending, None
        if sending is not None and not sending.done() and sending.get_loop() is asyncio.get_running_loop():
            sending.cancel()
            await asyncio.wait([sending])
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            if not answer.done() and not answer.get_loop().is_closed():
                answer.set_result(None)
        await self._redis.aclose()

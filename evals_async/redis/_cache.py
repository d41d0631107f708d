"""`RedisCache`: a cache for runs that have ended, for many processes."""

import asyncio
import math
from typing import Any, Self, TypeAlias

from evals_async._clock import SYSTEM_CLOCK
from evals_async._closing import Closing
from evals_async.errors import ConfigurationError
from evals_async.redis._connection import TRY_AGAIN, PendingResponse, RedisLink, Warnings, reason_of


Read: TypeAlias = tuple[tuple[str | bytes, ...], asyncio.Future[bytes | None]]
"""A command, and the future of its response."""

TOGETHER = 16  # commands that are sent together; each response may have a megabyte


def answer_all(waiting: list[Read], answers: list[Any]) -> None:
    """Give everyone who still waits the response, or `None` if there is none."""
    for (_, waiter), answer in zip(waiting, answers, strict=True):
        if not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(answer if isinstance(answer, bytes) else None)


class RedisCache(Closing):
    """A `Cache` that all processes share. It stores runs that have ended for `keep` seconds, but no value above
    `max_bytes`.

    If Redis does not respond within 50 ms, the run is fetched instead, and the cache is not used for a second. Runs may
    be confidential: everyone with access to this Redis can read them. Raises `ConfigurationError` for invalid
    arguments, and `MissingExtra`.
    """

    def __init__(self, url: str, *, keep: float = 7 * 86_400, max_bytes: int = 1024 * 1024) -> None:
        if keep <= 0 or max_bytes < 1:
            raise ConfigurationError(f"keep and max_bytes must be above 0, got {keep!r} and {max_bytes!r}")
        self._link = RedisLink(url, "cache")
        self._keep = keep
        self._max_bytes = max_bytes
        self._away_until = -math.inf
        self._warnings = Warnings("runs are fetched, not read from the cache", SYSTEM_CLOCK)
        self._waiting: list[Read] = []
        self._sending: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes | None:
        """Return the bytes that are stored under `key`, or `None`. Raises `ClientClosed` if the cache is closed, and
        `WrongLoop` in a second event loop while the first one is not closed.
        """
        return await self._ask("GET", f"evals-async:cache:{{{key}}}")

    async def put(self, key: str, value: bytes) -> None:
        """Store `value` under `key`."""
        if len(value) <= self._max_bytes:
            await self._ask("SET", f"evals-async:cache:{{{key}}}", value, "PX", str(int(self._keep * 1000)))

    async def _ask(self, *command: str | bytes) -> bytes | None:
        """Send a command and return Redis's response. Commands that arrive at the same time are sent together.
        Otherwise, many of them would take longer than the timeout.
        """
        if not self._link.here():
            self._enter()
        if SYSTEM_CLOCK.monotonic() < self._away_until:
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((command, answer))
        if self._sending is None or self._sending.done():
            self._sending = loop.create_task(self._send_waiting())
        return await answer

    def _enter(self) -> None:
        """Use the running event loop. Reads of an older one are dropped."""
        self._link.enter()
        self._waiting, self._sending, self._away_until = [], None, -math.inf

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            answers: list[Any] = [None] * len(batch)
            pipeline = self._link.redis.pipeline(transaction=False)
            for each, _ in batch:
                pipeline.execute_command(*each)
            pending = PendingResponse(pipeline.execute(raise_on_error=False), SYSTEM_CLOCK)
            try:
                if await pending.in_time():
                    answers = await pending.response()
                    if refused := next((answer for answer in answers if isinstance(answer, Exception)), None):
                        raise refused
                else:
                    self._lose("Redis does not respond (no response in time)")
                    answer_all(batch, answers)
                    await pending.response()  # a connection that takes long can be used later
            except Exception as error:  # noqa: BLE001  # Redis and its client may raise anything; the call continues without the cache
                self._lose(reason_of(error))
            finally:
                answer_all(batch, answers)
                await pending.end()

    def _lose(self, reason: str) -> None:
        """Do not use Redis for a while."""
        self._away_until = SYSTEM_CLOCK.monotonic() + TRY_AGAIN
        self._warnings.warn(reason)
        waiting, self._waiting = self._waiting, []
        answer_all(waiting, [None] * len(waiting))

    async def __aenter__(self) -> Self:
        self._link.open()
        self._enter()
        return self

    async def close(self) -> None:
        """Close the connection. Reads that wait find nothing. After this, `async with` opens the cache again, also in
        another event loop. Raises `WrongLoop` as `get` does.
        """
        here = self._link.end()
        sending, self._sending = self._sending, None
        if here and sending is not None and not sending.done():
            sending.cancel()
            await asyncio.wait([sending])
        waiting, self._waiting = self._waiting, []
        if here:
            answer_all(waiting, [None] * len(waiting))
        await self._link.close()

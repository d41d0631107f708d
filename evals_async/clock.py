"""The only place that time and randomness come from.

Whatever waits, measures or rolls dice takes a `Clock`. The library uses `SystemClock`; tests pass their own, so that
none of them sleeps. Nothing here knows of requests.
"""

import asyncio
import random
import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Clock(Protocol):
    """What the library asks of time and chance. All durations are seconds."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; only differences mean anything."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, as the wall clock has it."""
        ...

    def random(self) -> float:
        """A number drawn evenly from [0, 1)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass; cancellation ends it at once."""
        ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """A block that ends in `TimeoutError` after `seconds`; `None` never does."""
        ...


class SystemClock:
    """The machine's time, asyncio's timers, and the process's random numbers."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
    random = staticmethod(random.random)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)


SYSTEM_CLOCK: Clock = SystemClock()

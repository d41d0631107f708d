"""How tests wait for what must come: as long as it takes, on any machine."""

import asyncio
from collections.abc import Callable


LONGEST = 300.0  # seconds after which a test gives up; only a test that fails waits so long
SLOWER = 5  # a duration that is promised may be so many times as long where a test runs: its machine may be slow


async def until(condition: Callable[[], bool], pause: float = 0.005) -> None:
    """Return when it is so, for conditions that nobody announces. `TimeoutError` if it never is."""
    async with asyncio.timeout(LONGEST):
        while not condition():
            await asyncio.sleep(pause)

"""A cache that stalls or fails: the call goes to the server, inside its own deadline, and the log says so once."""

import asyncio
import logging
from typing import NoReturn

import pytest
from completed import completed_run
from doubles import ScaledClock
from waiting import LONGEST

from evals_async import EvalsClient
from evals_async._clock import SYSTEM_CLOCK
from evals_async._concurrency.cache import CacheGuard
from evals_async.server import LocalServer


class Broken:
    """A cache that is down, or that never answers."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.stalls = stalls
        self.asked = 0

    async def get(self, key: str) -> bytes | None:
        return await self.fail()

    async def put(self, key: str, value: bytes) -> None:
        await self.fail()

    async def fail(self) -> NoReturn:
        self.asked += 1
        if self.stalls:
            await asyncio.Event().wait()
        raise ConnectionError("redis://user:secret-word@host is down")


@pytest.mark.virtual_time
@pytest.mark.parametrize("stalls", [False, True])
async def test_a_cache_that_fails_or_stalls_takes_no_call_with_it(
    stalls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each read gets its run; one WARNING a minute names the exception, and nothing of its text."""
    cache = Broken(stalls=stalls)
    async with LocalServer(queued_seconds=0, running_seconds=0) as server:
        eval_id, run_id = await completed_run(server)
        async with (
            asyncio.timeout(LONGEST),
            EvalsClient(
                base_url=server.base_url,
                api_key="sk-cache-guard-1",
                cache=cache,
                timeout=2,
                clock=ScaledClock(1.0),
            ) as client,
        ):
            for _ in range(3):
                assert run_id == (await client.evals.runs.retrieve(run_id, eval_id=eval_id)).id
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["the cache Broken failed (TimeoutError); calls go to the server"] * stalls == warnings * stalls
    assert 1 == len(warnings)
    assert "secret-word" not in warnings[0]
    assert (1 if stalls else 6) == cache.asked  # one that stalls is left alone for five seconds


async def test_a_cache_has_no_more_time_than_the_call() -> None:
    """A call's own deadline bounds it, where that is shorter."""
    guard = CacheGuard(Broken(stalls=True), SYSTEM_CLOCK)
    async with asyncio.timeout(LONGEST):
        assert await guard.get("key", 0.01) is None
    assert await guard.get("key", 0) is None

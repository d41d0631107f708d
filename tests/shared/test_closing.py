"""What closing a limiter or a cache leaves behind."""

import asyncio
import time
import uuid

import pytest

from evals_async.redis import RedisCache, RedisLimiter


async def test_a_request_that_outlives_its_limiter_leaves_nothing_behind(redis_url: str) -> None:
    """Its release starts no task, and other processes count it neither as running nor as less than none."""
    name = uuid.uuid4().hex
    limiter = RedisLimiter(redis_url, name=name)
    assert 1 == await limiter.acquire(time.monotonic() + 5)
    await limiter.close()
    limiter.release()
    assert [] == [task for task in asyncio.all_tasks() if task.get_name() == "evals_async.redis"]
    async with RedisLimiter(redis_url, name=name) as other:
        assert 1 == await other.acquire(time.monotonic() + 5)
        other.release()


@pytest.mark.parametrize("count", [1, 40])
async def test_reads_that_wait_while_the_cache_is_closed_are_misses(count: int) -> None:
    """All of them end, also those that were not sent yet."""
    cache = RedisCache("redis://127.0.0.1:1")
    reads = [asyncio.create_task(cache.get(str(number))) for number in range(count)]
    await asyncio.sleep(0)
    await cache.close()
    async with asyncio.timeout(5):
        assert [None] * count == await asyncio.gather(*reads)

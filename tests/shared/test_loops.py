"""A limiter and a cache in more than one event loop, and in a child process."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from shared.conftest import OwnRedis
from shared.test_lost_responses import available, response, stored
from waiting import LONGEST

from evals_async.errors import ClientClosed, WrongLoop
from evals_async.redis import RedisCache, RedisLimiter, _connection, _limiter


@pytest.fixture(autouse=True)
def unhurried_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has time to answer, and is tried again at once, however slow the machine is."""
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)
    monkeypatch.setattr(_limiter, "TRY_AGAIN", 0.01)


async def one_call(limiter: RedisLimiter) -> None:
    """A call that gets its permit from Redis, and is granted."""
    now = time.monotonic()
    assert 1 == await limiter.acquire(now + LONGEST)
    assert available(limiter)
    limiter.release()
    limiter.observe(response(200), sent_at=now)


def grants(redis_url: str, name: str) -> float:
    """How many grants the shared state has."""
    return sum(asyncio.run(stored(redis_url, name)).control.grants)


async def entered(limiter: RedisLimiter) -> None:
    """The same, between opening and closing the limiter."""
    async with limiter:
        await one_call(limiter)


def in_loops(limiter: RedisLimiter, loops: int) -> None:
    """A call in each of several loops, and a last one that closes the limiter."""
    for _ in range(loops):
        asyncio.run(one_call(limiter))
    asyncio.run(entered(limiter))


@pytest.mark.parametrize("loops", [2, 3])
def test_a_limiter_shares_in_one_loop_after_another(
    redis_url: str, loops: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that calls `asyncio.run` again and again: every call is in the shared state, also what a loop left
    behind. Nothing is logged, and no connection is left open.
    """
    name = uuid.uuid4().hex
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_loops(RedisLimiter(redis_url, name=name), loops)
    assert loops + 1 == grants(redis_url, name)
    assert not caplog.records


def test_a_limiter_that_was_closed_is_entered_again(redis_url: str) -> None:
    """In another loop, `async with` opens it again, and it shares. Without that, a call is told."""
    name = uuid.uuid4().hex
    limiter = RedisLimiter(redis_url, name=name)
    asyncio.run(entered(limiter))
    asyncio.run(entered(limiter))
    assert 2 == grants(redis_url, name)
    with pytest.raises(ClientClosed, match="this limiter is closed; enter it again"):
        asyncio.run(one_call(limiter))
    with pytest.raises(ClientClosed):
        asyncio.run(limiter.pause(LONGEST))


def cached_in_loops(cache: RedisCache, key: str) -> None:
    async def read() -> bytes | None:
        async with cache:
            return await cache.get(key)

    asyncio.run(cache.put(key, b"value"))
    assert b"value" == asyncio.run(cache.get(key))
    assert [b"value", b"value"] == [asyncio.run(read()), asyncio.run(read())]
    with pytest.raises(ClientClosed, match="this cache is closed; enter it again"):
        asyncio.run(cache.get(key))


def test_a_cache_is_used_in_one_loop_after_another(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What one loop stored, the next one finds; after `close`, `async with` opens it again."""
    key = uuid.uuid4().hex
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_in_loops(RedisCache(redis_url, keep=60), key)
    assert not caplog.records


@pytest.mark.parametrize("loop_closed", [False, True], ids=["open", "closed"])
def test_closing_in_another_loop(redis_url: str, loop_closed: bool) -> None:
    """A connection of a closed loop is closed from any loop. One of an open loop is not: that loop is told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close_elsewhere(RedisLimiter(redis_url, name=uuid.uuid4().hex), RedisCache(redis_url), loop_closed=loop_closed)


def close_elsewhere(limiter: RedisLimiter, cache: RedisCache, *, loop_closed: bool) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(one_call(limiter))
    loop.run_until_complete(cache.get("x"))
    for each in () if loop_closed else (limiter, cache):
        with pytest.raises(WrongLoop, match="close it there"):
            asyncio.run(each.close())
        loop.run_until_complete(each.close())
    loop.close()
    for each in (limiter, cache):
        asyncio.run(each.close())


def outcome(call: Coroutine[Any, Any, object]) -> BaseException | None:
    """What a call in a loop and a thread of its own raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(call)
        except Exception as error:  # the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


async def test_a_second_loop_at_the_same_time_is_refused(redis_url: str) -> None:
    """Neither of two loops in two threads could wake the calls of the other: the second one is told, and the first one
    goes on.
    """
    async with RedisLimiter(redis_url, name=uuid.uuid4().hex) as limiter, RedisCache(redis_url) as cache:
        calls: list[Coroutine[Any, Any, object]] = [
            limiter.acquire(time.monotonic() + LONGEST),
            limiter.pause(LONGEST),
            limiter.__aenter__(),
            cache.get("x"),
            cache.put("x", b"value"),
            cache.__aenter__(),
        ]
        for call in calls:
            assert isinstance(await asyncio.to_thread(outcome, call), WrongLoop)
        await one_call(limiter)


async def test_a_second_loop_is_refused_without_redis(own_redis: OwnRedis) -> None:
    """Permits of this process's own limiter are not given to another loop either."""
    async with RedisLimiter(own_redis.url, name="x") as limiter:
        own_redis.stop()
        await limiter.acquire(time.monotonic() + LONGEST)
        limiter.release()
        assert not available(limiter)

        async def second() -> int:
            assert 0 == limiter.try_acquire(time.monotonic())
            return await limiter.acquire(time.monotonic() + LONGEST)

        assert isinstance(await asyncio.to_thread(outcome, second()), WrongLoop)


@pytest.mark.parametrize("away", [False, True], ids=["shared", "alone"])
async def test_calls_that_wait_while_the_limiter_is_closed_are_told(own_redis: OwnRedis, away: bool) -> None:
    """They end at once, whether or not Redis responds."""
    async with RedisLimiter(own_redis.url, name="x", max_in_flight=1) as limiter:
        if away:
            own_redis.stop()
        assert 1 == await limiter.acquire(time.monotonic() + LONGEST)
        waiting = [asyncio.create_task(limiter.acquire(time.monotonic() + LONGEST)) for _ in range(3)]
        await asyncio.sleep(0.05)
    async with asyncio.timeout(LONGEST / 10):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [ClientClosed] * 3 == [type(each) for each in ended]
    limiter.release()


def test_calls_that_a_loop_left_behind_do_not_count(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A loop is closed while calls wait and run: the next loop has all of the limit."""
    caplog.set_level(logging.WARNING)
    name = uuid.uuid4().hex
    limiter = RedisLimiter(redis_url, name=name, max_in_flight=1)

    async def call() -> None:
        await limiter.acquire(time.monotonic() + LONGEST)
        try:
            await asyncio.sleep(LONGEST)
        finally:
            limiter.release()

    loop = asyncio.new_event_loop()
    calls = [loop.create_task(call()) for _ in range(2)]
    while not limiter._control.under_way:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # until one runs
        loop.run_until_complete(asyncio.sleep(0.005))
    loop.close()
    for each in calls:  # as the garbage collector ends them
        coroutine: Any = each.get_coro()
        coroutine.close()
    asyncio.run(entered(limiter))
    assert 1 == grants(redis_url, name)
    calls.clear()
    gc.collect()  # asyncio logs about the tasks of the closed loop now, not in another test
    assert {"asyncio"} == {record.name for record in caplog.records}


FORK = """
import asyncio, os, sys, time, traceback
from multidict import CIMultiDict
from evals_async import Response
from evals_async.redis import RedisLimiter, RedisCache, _connection

_connection.REDIS_TIMEOUT = 300.0
url, name, when = sys.argv[1:]
limiter, cache = RedisLimiter(url, name=name), RedisCache(url, keep=60)

async def use():
    for number in range(10):
        now = time.monotonic()
        await limiter.acquire(now + 300)
        limiter.release()
        limiter.observe(Response(200, CIMultiDict(), b""), sent_at=now)
        await cache.put(name, b"value")
        assert b"value" == await cache.get(name)

async def use_and_close():
    async with limiter, cache:
        await use()

def child():
    if pid := os.fork():
        return pid
    try:
        asyncio.run(use_and_close())
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

async def fork_inside():
    await use()
    children.extend([child(), child()])
    await use()

children = []
if when == "inside":
    asyncio.run(fork_inside())
else:
    if when == "after":
        asyncio.run(use())
    children.extend([child(), child()])
asyncio.run(use_and_close())
assert not any(os.waitpid(each, 0)[1] for each in children)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("when", "uses"), [("before", 3), ("after", 4), ("inside", 5)])
def test_a_child_process_has_a_name_and_a_connection_of_its_own(redis_url: str, when: str, uses: int) -> None:
    """Whether the fork comes before the first use, after it, or inside the loop: what each of the processes has
    observed is in the shared state, once.
    """
    name = uuid.uuid4().hex
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, redis_url, name, when],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert "" == process.stderr
    assert 0 == process.returncode
    assert 10 * uses == grants(redis_url, name)

"""One quota, many processes: on a real Redis, with real processes."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from doubles import loop_time
from multidict import CIMultiDict
from shared.conftest import LIMIT, LimitedServer, OwnRedis
from waiting import LONGEST, SLOWER, until

from evals_async import DeadlineExceeded, EvalsClient, Response
from evals_async.errors import ConfigurationError
from evals_async.redis import RedisCache, RedisLimiter, _connection
from evals_async.redis._limiter import LEASE
from evals_async.redis._state import State


TESTS = Path(__file__).parent.parent
IDEAL = (1000 - 20) / LIMIT


async def worker(
    base_url: str, redis_url: str, name: str, calls: int = 250, wrong: float = 0.0
) -> asyncio.subprocess.Process:
    """A process that is about to fetch."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("worker.py")),
        base_url,
        redis_url,
        name,
        str(calls),
        str(wrong),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    assert b"ready\n" == await process.stdout.readline()
    return process


def begin(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"begin\n")


async def told(process: asyncio.subprocess.Process) -> Any:
    out, err = await process.communicate()
    assert 0 == process.returncode, err.decode()
    return json.loads(out)


async def together(base_url: str, redis_url: str) -> list[Any]:
    name = uuid.uuid4().hex
    processes = await asyncio.gather(*(worker(base_url, redis_url, name) for _ in range(4)))
    begin(*processes)
    return await asyncio.gather(*(told(process) for process in processes))


@pytest.mark.measures_time
async def test_four_processes_share_a_limit(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """1,000 calls, 200 a second: none lost, 1,150 requests at most, 1.3 times the ideal at most. Each has its share."""
    server, url = limited
    ended = await together(url, redis_url)
    assert [[]] * 4 == [each["lost"] for each in ended]
    assert 1000 == server.granted
    assert len(server.seen) <= 1150 + server.excusable
    assert server.seen[-1] - server.seen[0] <= SLOWER * 1.3 * IDEAL
    assert "measured" in {each["source"] for each in ended}
    seconds = [each["seconds"] for each in ended]
    assert max(seconds) <= 2 * min(seconds)


@pytest.mark.measures_time
async def test_a_process_that_is_killed_holds_nobody_back(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """What it had under way is forgotten after three seconds; the others get all of their runs."""
    server, url = limited
    name = uuid.uuid4().hex
    processes = await asyncio.gather(*(worker(url, redis_url, name) for _ in range(4)))
    begin(*processes)
    victim = processes.pop()
    await until(lambda: len(server.seen) >= 400)
    victim.kill()
    await victim.communicate()
    ended = await asyncio.gather(*(told(process) for process in processes))
    assert [[]] * 3 == [each["lost"] for each in ended]
    assert len(server.seen) <= 1150 + server.excusable
    assert server.seen[-1] - server.seen[0] <= SLOWER * (1.3 * IDEAL + 3.0)


async def hold(process: asyncio.subprocess.Process, redis_url: str, name: str) -> None:
    """Suspend a process as if it had taken the lease a moment ago."""
    from redis.asyncio import Redis

    kind: Any = Redis  # its annotations leave types open
    client, key = kind.from_url(redis_url), f"evals-async:limit:{{{name}}}"
    process.send_signal(signal.SIGSTOP)
    members = State.of(await client.hget(key, "state")).members
    [member] = [each for each in members if each.startswith(f"{process.pid}-")]
    seconds, micros = await client.time()
    until_then = str(seconds * 1000 + micros / 1000 + LEASE)
    await client.hset(key, mapping={"writer": member, "until": until_then})
    await client.aclose()


@pytest.mark.measures_time
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot suspend a process")
async def test_processes_come_and_go(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """A new process every 100 ms, up to sixteen. One is killed, one is cancelled by Ctrl-C, one is suspended for five
    seconds while it has the lease, and the clock of one is five minutes wrong: no other call is lost or waits for them.
    """
    server, url = limited
    name = uuid.uuid4().hex
    first = [worker(url, redis_url, name, 200) for _ in range(3)]
    others = [worker(url, redis_url, name, 40, -300.0 if number == 6 else 0.0) for number in range(13)]
    processes = await asyncio.gather(*first, *others)
    ending = [asyncio.create_task(told(each)) for each in processes[3:]]
    for process in processes:
        begin(process)
        await asyncio.sleep(0.1)
    killed, cancelled, suspended = processes[:3]
    assert [None] * 3 == [each.returncode for each in processes[:3]]
    killed.kill()
    cancelled.send_signal(signal.SIGINT)
    await hold(suspended, redis_url, name)
    at = time.monotonic()
    ended = await asyncio.gather(*ending)
    took = time.monotonic() - at
    await asyncio.sleep(5.0 - took)
    suspended.send_signal(signal.SIGCONT)
    assert [[]] * 14 == [each["lost"] for each in [*ended, await told(suspended)]]
    _, err = await cancelled.communicate()
    assert b"KeyboardInterrupt" in err
    assert b"Unclosed" not in err
    await killed.communicate()
    assert len(server.seen) <= 1.15 * server.granted + server.excusable


async def test_redis_goes_and_comes_again(limited: tuple[LimitedServer, str], own_redis: OwnRedis) -> None:
    """Nothing is lost and nothing stands still: each process limits on its own until Redis is back."""
    server, url = limited
    running = asyncio.create_task(together(url, own_redis.url))
    await until(lambda: len(server.seen) >= 300)
    own_redis.stop()
    await until(lambda: len(server.seen) >= 600)  # they go on without it
    own_redis.start()
    ended = await running
    assert [[]] * 4 == [each["lost"] for each in ended]
    assert 1000 == server.granted
    assert len(server.seen) <= 1200 + server.excusable  # for a second, and until they notice, each has its own limiter


@pytest.mark.measures_time
async def test_a_new_process_joins_without_a_storm(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """It knows the rate from its first request on: fewer than one in ten is refused after it has come."""
    server, url = limited
    name = uuid.uuid4().hex
    first = await worker(url, redis_url, name, 600)
    begin(first)
    await until(lambda: server.granted >= 250)
    second = await worker(url, redis_url, name, 200)
    begin(second)
    before, granted, excusable = len(server.seen), server.granted, server.excusable
    ended = await asyncio.gather(told(first), told(second))
    assert [[], []] == [each["lost"] for each in ended]
    sent = len(server.seen) - before
    assert sent - (server.granted - granted) <= 0.1 * sent + server.excusable - excusable


@pytest.mark.virtual_time
async def test_without_redis_calls_go_at_once(
    limited: tuple[LimitedServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that is not there costs the first call 50 ms, and is told once."""
    _, url = limited
    caplog.set_level(logging.WARNING, "evals_async")
    async with (
        RedisLimiter("redis://127.0.0.1:1", name="x") as limiter,
        EvalsClient(api_key="sk-x", base_url=url, limiter=limiter) as client,
    ):
        for number in range(5):
            began = loop_time()
            await client.evals.runs.retrieve(f"evalrun_{number}", eval_id="eval_1")
            assert loop_time() - began < 0.3
    assert 1 == sum("Redis does not respond" in record.getMessage() for record in caplog.records)


@pytest.mark.virtual_time
async def test_a_redis_that_is_silent_stalls_nobody(limited: tuple[LimitedServer, str]) -> None:
    """It takes connections and says nothing: after 50 ms, or twice that on a busy machine, the process goes on."""
    _, url = limited

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silence = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = silence.sockets[0].getsockname()[1]
    async with (
        RedisLimiter(f"redis://127.0.0.1:{port}", name="x") as limiter,
        RedisCache(f"redis://127.0.0.1:{port}") as cache,
        EvalsClient(api_key="sk-x", base_url=url, limiter=limiter, cache=cache) as client,
    ):
        began = loop_time()
        await client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
        assert loop_time() - began < 0.5
    silence.close()


@pytest.fixture
def unhurried_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has time to answer, however slow the machine is."""
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)
    monkeypatch.setattr("evals_async._concurrency.cache.LONGEST", LONGEST)


@pytest.mark.usefixtures("unhurried_redis")
async def test_a_cache_for_all(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """A run that is over is fetched by one client, and read by the other."""
    server, url = limited
    run = f"evalrun_{uuid.uuid4().hex}"
    for _ in range(2):
        async with (
            RedisCache(redis_url, keep=60) as cache,
            EvalsClient(api_key="sk-x", base_url=url, cache=cache) as client,
        ):
            assert run == (await client.evals.runs.retrieve(run, eval_id="eval_1")).id
    assert 1 == len(server.seen)


@pytest.mark.usefixtures("unhurried_redis")
async def test_the_keys_expire_and_have_a_hash_tag(redis_url: str) -> None:
    """All of a quota is in one slot of a cluster, and gone after five minutes without use."""
    from redis.asyncio import Redis

    name = uuid.uuid4().hex
    async with RedisLimiter(redis_url, name=name) as limiter:
        assert 1 == await limiter.acquire(time.monotonic() + LONGEST)
        kind: Any = Redis  # its annotations leave types open
        looking = kind.from_url(redis_url)
        assert 0 < await looking.pttl(f"evals-async:limit:{{{name}}}") <= 300_000
        await looking.aclose()
        limiter.release()


@pytest.mark.usefixtures("unhurried_redis")
async def test_many_wait_for_as_many_as_may_go(redis_url: str) -> None:
    """Two limiters of one name have two under way together; who cannot wait is told."""
    name = uuid.uuid4().hex
    async with (
        RedisLimiter(redis_url, name=name, max_in_flight=2) as one,
        RedisLimiter(redis_url, name=name, max_in_flight=2) as other,
    ):
        end = time.monotonic() + LONGEST
        assert [1, 2] == sorted([await one.acquire(end), await other.acquire(end)])
        with pytest.raises(DeadlineExceeded):
            await one.acquire(time.monotonic() + 0.2)
        other.release()
        assert 2 == await one.acquire(time.monotonic() + LONGEST)
        one.release()
        one.release()


@pytest.mark.usefixtures("unhurried_redis")
async def test_without_a_refusal_each_response_allows_one_more(redis_url: str) -> None:
    """32 requests run at first, in all processes together; 32 responses later it may be 64. A quota that is never used
    up slows nobody.
    """
    async with RedisLimiter(redis_url, name=uuid.uuid4().hex) as limiter:

        async def started(most: int) -> int:
            """How many calls get a permit; the others are given up."""
            calls = [asyncio.create_task(limiter.acquire(time.monotonic() + LONGEST)) for _ in range(most + 1)]
            await until(lambda: sum(call.done() for call in calls) >= most)
            given = sum(call.done() for call in calls)
            calls[-1].cancel()
            await asyncio.wait(calls)
            return given

        assert 32 == await started(32)
        for _ in range(32):
            limiter.release()
            limiter.observe(Response(200, CIMultiDict(), b""), sent_at=time.monotonic())
        assert 64 == await started(64)
        for _ in range(64):
            limiter.release()


def test_a_limiter_needs_a_name_and_a_url() -> None:
    """Both are told before anything is sent."""
    with pytest.raises(ConfigurationError, match="name must not be empty"):
        RedisLimiter("redis://127.0.0.1", name="")
    with pytest.raises(ConfigurationError, match="invalid Redis URL"):
        RedisLimiter("http://127.0.0.1", name="x")
    with pytest.raises(ConfigurationError, match="must be above 0"):
        RedisCache("redis://127.0.0.1", keep=0)


@pytest.mark.usefixtures("unhurried_redis")
async def test_a_cache_that_is_asked_for_hundreds_at_once(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """Reads that come together find what is there: they do not wait for each other until Redis seems to be away."""
    server, url = limited
    run = uuid.uuid4().hex
    ids = [f"{run}-{number}" for number in range(300)]
    async with RedisCache(redis_url) as cache, EvalsClient(api_key="sk-x", base_url=url, cache=cache) as client:
        await client.evals.runs.retrieve_many(ids, eval_id="eval_1", concurrency=256)
        asked = len(server.seen)
        await client.evals.runs.retrieve_many(ids, eval_id="eval_1", concurrency=256)
    assert 300 == server.granted
    assert asked == len(server.seen)

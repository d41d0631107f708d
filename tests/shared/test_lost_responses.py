"""Responses of Redis that are lost, late, or not wanted: what is counted, who waits, and what is told."""

import asyncio
import gc
import logging
import math
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from doubles import FakeClock, ScaledClock, loop_time
from multidict import CIMultiDict
from shared.conftest import OwnRedis, relay
from waiting import LONGEST, until

from evals_async._clock import SYSTEM_CLOCK
from evals_async._transport.messages import Response
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError
from evals_async.redis import RedisCache, RedisLimiter, _connection, _limiter
from evals_async.redis._connection import PendingResponse
from evals_async.redis._state import GONE, PermitTimes, State, Turn, Write


SECRET = "hunter2-recognisable"


class Wire:
    """A way to Redis on which responses can be lost or late."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.lose = 0  # responses to writes that are lost from now on, with their connections
        self.url = ""

    async def passes(self, data: bytes, answer: bytes) -> bool:
        if self.lose and b"EVAL" in data and answer.startswith(b"*5\r\n:1\r\n"):
            self.lose -= 1
            return False
        await self.open.wait()
        return True


@pytest.fixture
async def wire(redis_url: str) -> AsyncGenerator[Wire]:
    wire = Wire()
    async with relay(urlsplit(redis_url).port or 6379, wire.passes) as wire.url:
        yield wire
        wire.open.set()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is tried again at once after a failure, and has time to answer on a slow machine."""
    monkeypatch.setattr(_limiter, "TRY_AGAIN", 0.01)
    monkeypatch.setattr(_connection, "TRY_AGAIN", LONGEST)
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)


def end() -> float:
    return time.monotonic() + LONGEST


def response(status: int, **headers: str) -> Response:
    return Response(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), b"")


@asynccontextmanager
async def raw(redis_url: str) -> AsyncGenerator[Any]:
    from redis.asyncio import Redis

    kind: Any = Redis  # its annotations leave types open
    client = kind.from_url(redis_url)
    yield client
    await client.aclose()


async def stored(redis_url: str, name: str) -> State:
    async with raw(redis_url) as client:
        return State.of(await client.hget(f"evals-async:limit:{{{name}}}", "state"))


def available(limiter: RedisLimiter) -> bool:
    """Whether permits come from Redis. A permit that does not is given back."""
    if not limiter.try_acquire(time.monotonic()):
        return True
    limiter.release()
    return False


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("lost", [1, 2])
async def test_a_write_whose_response_is_lost_counts_once(wire: Wire, redis_url: str, lost: int) -> None:
    """Redis has executed it; the process asks what became of it, and does not add its observations again."""
    name = uuid.uuid4().hex
    async with RedisLimiter(wire.url, name=name) as limiter:
        assert 1 == await limiter.acquire(end())
        sent_at = time.monotonic()
        wire.lose = lost
        limiter.observe(response(200), sent_at=sent_at)
        await until(lambda: wire.lose == 0)
        await until(lambda: available(limiter))
        assert 2 == await limiter.acquire(end())
        limiter.observe(response(200), sent_at=sent_at)
        await until(lambda: available(limiter) and not limiter._seen)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # all is written
        limiter.release()
        limiter.release()
    control = (await stored(redis_url, name)).control
    assert 2 == sum(control.grants)


@pytest.mark.usefixtures("soon")
async def test_a_call_that_begins_during_the_last_exchange_gets_a_permit(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without running requests tells the others, and then stops to exchange. A call that begins in this
    moment does not wait for the next one.
    """
    async with RedisLimiter(redis_url, name=uuid.uuid4().hex) as limiter:
        exchange, calls = limiter._exchange, list[asyncio.Task[int]]()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

        async def exchanged() -> float:
            last = not limiter._busy()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            wait = await exchange()
            if last and not calls:
                calls.append(asyncio.create_task(limiter.acquire(end())))
                await asyncio.sleep(0)
            return wait

        monkeypatch.setattr(limiter, "_exchange", exchanged)
        await limiter.acquire(end())
        limiter.release()
        await until(lambda: bool(calls))
        async with asyncio.timeout(LONGEST / 10):
            assert 1 == await calls[0]
        limiter.release()


@pytest.mark.usefixtures("soon")
async def test_a_permit_whose_response_is_lost_is_taken_once(wire: Wire, redis_url: str) -> None:
    """The call gets its permit without Redis, and no other process waits for one that nobody has."""
    name = uuid.uuid4().hex
    async with RedisLimiter(wire.url, name=name, max_in_flight=2) as limiter:
        wire.lose = 1
        await limiter.acquire(end())
        await until(lambda: available(limiter))
        async with RedisLimiter(redis_url, name=name, max_in_flight=2) as other:
            assert 2 == await other.acquire(end())
            other.release()
        limiter.release()
    assert 0 == sum(number for number, *_ in (await stored(redis_url, name)).members.values())


@pytest.mark.usefixtures("soon")
async def test_a_process_that_never_gets_to_write_goes_on_alone(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may write as often as they like: after twenty attempts the call goes, and later the limit is shared."""
    caplog.set_level(logging.WARNING, "evals_async")
    name, key = uuid.uuid4().hex, "evals-async:limit:{%s}"
    async with raw(redis_url) as client, RedisLimiter(redis_url, name=name) as limiter:
        await client.hset(key % name, mapping={"writer": "other", "until": str((time.time() + 1000) * 1000)})
        assert 1 == await limiter.acquire(end())
        assert ["too many other processes write to Redis; this process limits its requests by itself"] == [
            record.getMessage() for record in caplog.records
        ]
        await client.hdel(key % name, "writer", "until")
        await until(lambda: available(limiter))
        limiter.release()


async def test_permits_are_taken_before_they_are_due() -> None:
    """At 100 a second, those of the next 20 ms. No other process takes them, and a busy process loses none."""
    async with RedisLimiter("redis://127.0.0.1:1", name="x", clock=FakeClock()) as limiter:
        turns = [Turn(LONGEST) for _ in range(5)]
        limiter._turns.extend(turns)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no Redis is needed
        state = State(RateControl(32, 1000.0, start_rate=100), {})
        write = limiter._apply(state, 1000.0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        assert turns[:3] == [turn for turn, _, _ in write.turns]
        assert [1, 2, 3] == [among for _, among, _ in write.turns]
        assert [1000.0, 1000.01, 1000.02] == pytest.approx([at for _, _, at in write.turns])
        assert state.control.next_turn(1000.005) == pytest.approx(1000.03)
        limiter._turns.clear()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same


@pytest.mark.parametrize(
    ("others", "spacing", "expected"),
    [
        (0, 0.01, (0.02, math.inf)),
        (3, 0.01, (0.04, 2)),
        (3, 0.02, (0.08, 4)),
        (11, 0.01, (0.1, 20 / 12)),
        (49, 0.01, (0.1, 1)),
    ],
)
def test_where_many_wait_each_takes_permits_for_a_longer_time(
    others: int, spacing: float, expected: tuple[float, float]
) -> None:
    """At 200 a second: its part of those of 10 ms for each process, and of 100 ms at most. So they write less often."""
    state = State(RateControl(128, 0.0, start_rate=200), {str(number): (1, 0.0, 1, True) for number in range(others)})
    assert expected == pytest.approx(state.ahead("me", spacing))


def test_a_ceiling_is_not_filled_with_permits_that_are_not_due() -> None:
    """They would keep other requests from running."""
    state = State(RateControl(128, 0.0), {str(number): (1, 0.0, 1, True) for number in range(11)})
    state.control.ceiling = 8.0
    assert (0.02, math.inf) == state.ahead("me", 0.01)


def test_a_request_was_decided_when_its_permit_was_taken() -> None:
    """What was answered between that and the request could not prevent it. Without a permit, it was decided at once."""
    times = PermitTimes(3)
    assert 1.0 == times.taken(1.0)
    for used, taken in ((1.0, 0.9), (2.0, 1.5), (3.0, 1.6), (4.0, 4.0)):
        times.add(used, taken)
    assert [1.2, 1.5, 1.5, 1.6, 4.0] == [times.taken(used) for used in (1.2, 2.0, 2.001, 3.5, 9.0)]


def test_where_others_wait_a_process_has_its_part() -> None:
    """It does not take each permit again that it releases; where nobody else waits, all are its own."""
    state = State(RateControl(32, 0.0), {})
    state.members = {"one": (32, 0.0, 1, True), "two": (0, 0.0, 1, False), "three": (0, 0.0, 1, False)}
    assert [math.inf, 16, 16] == [state.most_of(name) for name in ("one", "two", "three")]
    state.members["two"] = (0, 0.0, 2, True)
    assert [16, 16] == [state.most_of(name) for name in ("one", "two")]
    state.members["three"] = (3, 0.0, 2, False)
    assert [11, 11, 11] == [state.most_of(name) for name in ("one", "two", "three")]


@pytest.mark.usefixtures("soon")
async def test_two_processes_share_the_connections(redis_url: str) -> None:
    """One that has taken all of them gives half of them to one that comes later, though its own calls still wait."""
    name = uuid.uuid4().hex
    async with (
        RedisLimiter(redis_url, name=name, max_in_flight=4) as one,
        RedisLimiter(redis_url, name=name, max_in_flight=4) as other,
    ):
        running: dict[RedisLimiter, list[int]] = {one: [], other: []}

        async def call(limiter: RedisLimiter) -> None:
            running[limiter].append(await limiter.acquire(end()))

        calls = [asyncio.create_task(call(one)) for _ in range(12)]
        await until(lambda: len(running[one]) == 4)
        calls += [asyncio.create_task(call(other)) for _ in range(2)]

        async def someone_waits() -> None:
            while not (await stored(redis_url, name)).most_of(one._store.me) < 4:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its name
                await asyncio.sleep(0.005)

        await asyncio.wait_for(someone_waits(), LONGEST)
        one.release()
        one.release()
        await until(lambda: len(running[other]) == 2)
        assert 4 == len(running[one])
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for limiter in (one, one, other, other):
            limiter.release()


@pytest.mark.virtual_time
async def test_a_permit_is_used_when_it_is_due() -> None:
    """Not before: the call waits for the rest of the time."""
    async with RedisLimiter("redis://127.0.0.1:1", name="x", clock=ScaledClock(1.0)) as limiter:
        began = loop_time()
        call = asyncio.create_task(limiter.acquire(LONGEST))
        await asyncio.sleep(0)
        turn = limiter._turns[0]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no Redis is needed
        limiter._written(Write(1, 0, [(turn, 7, 0.02)], 0.0))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        assert 7 == await call
        assert 0.019 <= loop_time() - began < 0.03
        limiter.release()


@pytest.mark.usefixtures("soon")
async def test_a_state_that_cannot_be_read_is_written_anew(redis_url: str) -> None:
    """Another version of the package may have written it."""
    for strange in (b"", b"x", b"[]", b"[1, 2]", b'[{"most": 3}, {}]', b'[{"most": 2, "refusals": []}, {"a": [1]}]'):
        name = uuid.uuid4().hex
        async with raw(redis_url) as client:
            await client.hset(f"evals-async:limit:{{{name}}}", mapping={"version": "7", "state": strange})
        async with RedisLimiter(redis_url, name=name) as limiter:
            assert 1 == await limiter.acquire(end())
            limiter.release()
        assert 128 == (await stored(redis_url, name)).control.most


async def test_without_redis_each_process_has_its_share(own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes know 100 a second: each limits itself to 50, and the state that is written later has 100 again."""
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)
    monkeypatch.setattr(_limiter, "TRY_AGAIN", 0.01)

    def rate(limiter: RedisLimiter) -> float | None:
        return limiter.statistics(requests=0, retries=0, throttles=0, bytes_received=0).rate

    name = uuid.uuid4().hex
    async with RedisLimiter(own_redis.url, name=name, start_rate=100) as one:
        async with RedisLimiter(own_redis.url, name=name, start_rate=100) as other:
            both = (one, other)
            for limiter in (*both, one):  # the first one has seen the second one
                await limiter.acquire(end())
                limiter.release()
            assert [100, 100] == [rate(limiter) for limiter in both]
            own_redis.stop()
            for limiter in both:
                await limiter.acquire(end())
            assert [50, 50] == [rate(limiter) for limiter in both]
            own_redis.start()
            for limiter in both:
                limiter.release()
                await until(lambda each=limiter: available(each))  # type: ignore[misc]  # a default binds it
        assert 100 == (await stored(own_redis.url, name)).control.rate


async def test_a_late_response_delays_no_call_and_is_used(wire: Wire) -> None:
    """A connection that takes long is not given up: the call goes on without it, and the next ones use it."""
    wire.open.clear()
    async with RedisLimiter(wire.url, name=uuid.uuid4().hex) as limiter:
        assert 1 == await limiter.acquire(end())
        wire.open.set()
        await until(lambda: available(limiter))
        limiter.release()


@pytest.mark.virtual_time
async def test_a_silent_redis_costs_50_ms(caplog: pytest.LogCaptureFixture) -> None:
    """Then the limiter of the process takes over; it says so once a minute, however often Redis is tried."""
    caplog.set_level(logging.WARNING, "evals_async")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silence = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{silence.sockets[0].getsockname()[1]}"
    async with RedisLimiter(url, name="x", clock=ScaledClock(1.0)) as limiter:
        began = loop_time()
        await limiter.acquire(LONGEST)
        assert loop_time() - began < 0.052
        limiter.release()
        while loop_time() - began < 150:
            before = loop_time()
            await limiter.acquire(LONGEST)
            assert loop_time() - before < 0.052
            await asyncio.sleep(0.2)
            limiter.release()
    silence.close()
    assert 3 == len(caplog.records)


async def test_a_process_that_was_busy_does_not_blame_redis() -> None:
    """A response that has arrived is in time, however long this process did something else."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    pending = PendingResponse(reader.readexactly(2), SYSTEM_CLOCK)
    in_time = asyncio.create_task(pending.in_time())
    await asyncio.sleep(0)
    theirs.send(b"ok")
    time.sleep(4 * _connection.REDIS_TIMEOUT)  # noqa: ASYNC251  # a busy process
    assert await in_time
    assert b"ok" == await pending.response()
    writer.close()
    theirs.close()


@pytest.mark.usefixtures("soon")
async def test_a_pause_ends_when_another_process_knows_the_rate(redis_url: str) -> None:
    """It is told, and does not look for it: a paused call continues with what others have measured."""
    name = uuid.uuid4().hex
    async with RedisLimiter(redis_url, name=name) as limiter, raw(redis_url) as client:
        pausing = asyncio.create_task(limiter.pause(10 * LONGEST))
        await until(lambda: limiter._store.state is not None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # it has read the state
        state = await stored(redis_url, name)
        assert not pausing.done()
        state.control.source = "measured"
        await client.hset(
            f"evals-async:limit:{{{name}}}", mapping={"version": "another process", "state": bytes(state)}
        )
        async with asyncio.timeout(LONGEST):
            await pausing


async def test_a_process_that_was_suspended_does_not_count_twice() -> None:
    """After three seconds the state says nothing about a write any more: its observations are dropped, not repeated."""
    clock = ScaledClock(1.0)
    limiter = RedisLimiter("redis://127.0.0.1:1", name="x", clock=clock)
    state = limiter._first(0.0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no Redis is needed
    limiter.observe(response(200), sent_at=0.0)
    for age, left in ((GONE / 2, 1), (2 * GONE, 0)):
        limiter._store.serial += 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        write = limiter._apply(state, clock.monotonic() - age)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        limiter._store.unclear.append(write)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        if (executed := limiter._store.executed()) is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
            limiter._written(executed)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        assert left == len(limiter._seen)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
    await limiter.close()


REFUSALS = {
    "unknown command": f"-ERR unknown command 'EVAL', with args beginning with: '{SECRET}'\r\n",
    "wrong password": f"-WRONGPASS invalid username-password pair {SECRET}\r\n",
    "no permission": f"-NOPERM User {SECRET} has no permissions\r\n",
    "moved": f"-MOVED 3999 {SECRET}:6381\r\n",
    "no protocol": f"{SECRET}\r\n",
    "nothing": "",
}


@pytest.mark.parametrize("refusal", [*REFUSALS, "refused", "unknown host"])
async def test_no_secret_is_told(
    refusal: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis and its client repeat commands, users and hosts in their errors. No log line repeats them."""
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)
    monkeypatch.setattr("evals_async._concurrency.cache.LONGEST", LONGEST)
    caplog.set_level(logging.DEBUG)
    server: asyncio.Server | None = None
    host = {"refused": "127.0.0.1:1", "unknown host": f"{SECRET}.invalid"}.get(refusal, "")
    if refusal in REFUSALS:

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65536) and REFUSALS[refusal]:
                writer.write(20 * REFUSALS[refusal].encode())
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    url = f"redis://{SECRET}:{SECRET}@{host}"
    async with RedisLimiter(url, name="x") as limiter, RedisCache(url) as cache:
        assert 1 == await limiter.acquire(end())
        assert await cache.get("run") is None
        await cache.put("run", b"value")
        assert SECRET not in repr((limiter, cache))
        limiter.release()
    del limiter, cache
    gc.collect()
    await asyncio.sleep(0)
    if server is not None:
        server.close()
    assert 2 == sum("Redis does not respond" in record.getMessage() for record in caplog.records)
    assert SECRET not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def limiter_at(url: str) -> object:
    return RedisLimiter(url, name="x")


@pytest.mark.parametrize("make", [limiter_at, RedisCache])
@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@localhost",
        f"redis://me:{SECRET}#x@localhost",
        f"redis://localhost?{SECRET}=1",
        f"redis://localhost?db={SECRET}",
        f"rediss://localhost?ssl_cert_reqs={SECRET}",
        f"redis://localhost:{SECRET}",
        f"{SECRET}://localhost",
    ],
)
def test_an_invalid_url_is_not_repeated(make: Callable[[str], object], url: str) -> None:
    """It is refused before anything is sent, also for an option that does not exist, and its text is nowhere."""
    with pytest.raises(ConfigurationError, match="invalid Redis URL") as raised:
        make(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__

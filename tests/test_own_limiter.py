"""A limiter that somebody else wrote after the docstrings of `Limiter`: it works with everything the client does."""

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import attrs
import pytest
from doubles import ScaledClock, caller_of
from waiting import until

from evals_async import (
    AdaptiveLimiter,
    ConfigurationError,
    DeadlineExceeded,
    EvalsClient,
    EvalsError,
    Limiter,
    RateLimited,
    Response,
    Statistics,
)
from evals_async.server import Fault, LocalServer


KEY = "sk-own-limiter-1234"


@attrs.define(eq=False)
class FewAtOnce:
    """At most `most` requests at once. It learns nothing from responses, and writes down what it is told."""

    most: int
    clock: ScaledClock
    running: int = 0
    highest: int = 0
    acquired: int = 0
    released: int = 0
    observed: list[tuple[int, int, float]] = attrs.Factory(list[tuple[int, int, float]])
    paused: list[float] = attrs.Factory(list[float])
    free: asyncio.Event = attrs.Factory(asyncio.Event)

    def try_acquire(self, now: float, /) -> int:
        assert abs(now - self.clock.monotonic()) < 1
        if self.running >= self.most:
            return 0
        self.running += 1
        self.acquired += 1
        self.highest = max(self.highest, self.running)
        return self.running

    async def acquire(self, end: float, /) -> int:
        while not (count := self.try_acquire(self.clock.monotonic())):
            self.free.clear()
            try:
                with self.clock.timeout(end - self.clock.monotonic()):
                    await self.free.wait()
            except TimeoutError:
                raise DeadlineExceeded("nobody gave a permit back in time") from None
        return count

    def release(self) -> None:
        self.running -= 1
        self.released += 1
        self.free.set()

    def observe(self, response: Response, /, *, sent_at: float, among: int, max_hold: float) -> None:
        assert sent_at <= self.clock.monotonic()
        assert 1 <= among <= self.most
        self.observed.append((response.status, among, max_hold))

    async def pause(self, seconds: float, /) -> None:
        self.paused.append(seconds)
        await self.clock.sleep(seconds)

    def statistics(self, *, requests: int, retries: int, throttles: int, bytes_received: int) -> Statistics:
        return Statistics(
            requests=requests, retries=retries, throttles=throttles, bytes_received=bytes_received, waiting=7
        )


@pytest.fixture
async def server() -> AsyncGenerator[LocalServer]:
    async with LocalServer() as server:
        yield server


def limited(server: LocalServer, most: int = 3, **options: Any) -> tuple[EvalsClient, FewAtOnce]:
    clock = ScaledClock(1.0)
    limiter: Limiter = FewAtOnce(most, clock)
    assert isinstance(limiter, FewAtOnce)
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY, "clock": clock, "limiter": limiter}
    return EvalsClient(**{**given, **options}), limiter


@pytest.mark.virtual_time
async def test_what_it_allows_is_what_runs(server: LocalServer) -> None:
    """Never more at once, in listings, single reads, uploads and downloads; each permit is released once."""
    client, limiter = limited(server)
    async with client:
        await asyncio.gather(*[client.evals.list().first() for _ in range(20)])
        file = await client.files.create(file=("a.jsonl", b'{"item": {"a": 1}}\n'), purpose="evals")
        assert b'{"item": {"a": 1}}\n' == (await client.files.content(file.id)).content
        await client.with_options(timeout=None).evals.list()
        assert (3, 23, 23, 0) == (limiter.highest, limiter.acquired, limiter.released, limiter.running)
        assert [200] * 23 == [status for status, _, _ in limiter.observed]
        now = client.statistics()
        assert (23, 7, 0, None) == (now.requests, now.waiting, now.in_flight, now.over_session)  # over the direct path


@pytest.mark.virtual_time
async def test_it_pauses_a_refused_call(server: LocalServer, tmp_path: Path) -> None:
    """For the delay of the server, or for a back-off that grows: a limiter that learns nothing causes no storm."""
    client, limiter = limited(server)
    async with client:
        server.faults.add(Fault(status=429, headers={"Retry-After": "20"}))
        server.faults.add(Fault(status=503, headers={"Retry-After": "10"}))
        begin = limiter.clock.monotonic()
        await client.evals.list()
        assert 30 <= limiter.clock.monotonic() - begin <= 31
        assert [20, 10] == [int(seconds) for seconds in limiter.paused]
        assert [429, 503, 200] == [status for status, _, _ in limiter.observed]

        limiter.paused.clear()
        begin, sent = limiter.clock.monotonic(), server.request_count
        server.faults.add(Fault(status=429, times=None))
        with pytest.raises(RateLimited):
            await client.evals.list()
        assert server.request_count - sent <= 12
        assert sum(limiter.paused) >= 10
        sent = server.request_count
        results = await asyncio.gather(*[client.evals.list().first() for _ in range(20)], return_exceptions=True)
        assert {RateLimited} == {type(result) for result in results}
        assert server.request_count - sent <= 20 * 12
        server.faults.clear()
        file = await client.files.create(file=("a.jsonl", b'{"item": {"a": 1}}\n'), purpose="evals")
        server.faults.add(Fault(status=429, times=2))
        await client.files.content(file.id, to=tmp_path / "a.jsonl")
    assert (limiter.acquired, 0) == (limiter.released, limiter.running)


@pytest.mark.virtual_time
async def test_its_own_error_ends_a_call_at_its_deadline(server: LocalServer) -> None:
    """A permit that does not come is the error that the limiter raises, with the request in it, and nothing is sent."""
    client, limiter = limited(server, most=1)
    async with client:
        server.faults.add(Fault(delay=15))
        busy = asyncio.create_task(client.evals.list().first())
        await until(lambda: server.request_count == 1)
        with pytest.raises(DeadlineExceeded, match=r"on GET /evals after 0 attempts: nobody gave a permit back"):
            await client.with_options(timeout=5).evals.list()
        assert limiter.clock.monotonic() < 6
        await busy
    assert (1, 1, 1) == (server.request_count, limiter.acquired, limiter.released)


@pytest.mark.virtual_time
async def test_permits_and_cancelled_calls(server: LocalServer) -> None:
    """Whatever ends a call, wherever it waits (for the limiter, a connection, a key, a response): none is lost."""
    dice = random.Random(5)
    answers = {"hang": asyncio.Event()}

    async def key() -> str:
        if dice.random() < 0.05:
            await answers["hang"].wait()
        if dice.random() < 0.2:
            raise LookupError("no key")
        return KEY

    client, limiter = limited(server, most=6, max_connections=4, api_key=key, timeout=20)
    async with client:
        server.faults.add(Fault(status=429, times=10))
        server.faults.add(Fault(delay=0.5, times=None))
        tasks = [asyncio.create_task(client.evals.list().first()) for _ in range(80)]
        for task in tasks:
            await asyncio.sleep(dice.random() / 10)
            if dice.random() < 0.4:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        known = (EvalsError, LookupError, asyncio.CancelledError)
        assert [] == [each for each in results if isinstance(each, BaseException) and not isinstance(each, known)]
        assert (limiter.acquired, 0) == (limiter.released, limiter.running)
        assert limiter.acquired >= 30
        assert 4 == caller_of(client).pipeline.transport.pool.slots._free  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # all are back


async def test_copies_with_the_key_have_it(server: LocalServer) -> None:
    """Copies with other settings have the client's own limiter; a copy with another key has an `AdaptiveLimiter`."""
    client, limiter = limited(server)
    async with client:
        await client.with_options(timeout=3, headers={"x-a": "1"}).with_options(max_retries=0).evals.list()
        assert 1 == limiter.acquired
        other = client.with_options(api_key="sk-of-somebody-else")
        await other.evals.list()
        assert (1, 1, 1) == (limiter.acquired, client.statistics().requests, other.statistics().requests)
        assert isinstance(caller_of(other).pipeline.limiter, AdaptiveLimiter)


@pytest.mark.parametrize("missing", ["try_acquire", "acquire", "release", "observe", "pause", "statistics"])
def test_a_limiter_without_a_method(missing: str) -> None:
    """Is refused when the client is made, and not at the first 429."""
    methods = {
        name: getattr(FewAtOnce, name) for name in vars(FewAtOnce) if not name.startswith("_") and name != missing
    }
    incomplete: Any = type("Incomplete", (), methods)
    with pytest.raises(
        ConfigurationError, match=r"limiter must be an object with the methods try_acquire, .*Incomplet"
    ):
        EvalsClient(api_key=KEY, limiter=incomplete())
    with pytest.raises(ConfigurationError, match="not the class AdaptiveLimiter"):
        EvalsClient(api_key=KEY, limiter=AdaptiveLimiter)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested

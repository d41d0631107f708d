"""Many processes on one quota, and their Redis, in virtual time: each run is exact and takes no real time."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from simulation import Limit, Outcome, Scenario, SimulatedServer, VirtualClock, drive, in_virtual_time

from evals_async.redis import RedisLimiter, _connection


EPOCH = 1_700_000_000.0  # of a `VirtualClock` and of Redis


class WrongClock(VirtualClock):
    """A clock whose time of day is wrong by `wrong` seconds."""

    def __init__(self, clock: VirtualClock, seed: int, wrong: float) -> None:
        super().__init__(clock.loop, seed)
        self.wrong = wrong

    def time(self) -> float:
        return super().time() + self.wrong


class SimulatedRedis:
    """The script of the limiter, as Redis runs it. Each command takes up to `seconds`; `counts` are the answers."""

    def __init__(self, clock: VirtualClock, seconds: float, seed: int) -> None:
        self.clock = clock
        self.seconds = seconds
        self.dice = random.Random(seed)
        self.hashes: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.connection_pool = object()  # without connections

    async def execute_command(self, *words: Any) -> list[Any]:
        assert "EVAL" == words[0]
        await asyncio.sleep(self.seconds * self.dice.random() / 2)
        answer = self.exchange(*words[3:])
        await asyncio.sleep(self.seconds * self.dice.random() / 2)
        return answer

    def exchange(self, key: str, version: str, new: str, state: bytes, keep: int, member: str, lease: int) -> list[Any]:
        now = self.clock.loop.time() + EPOCH
        kept = self.hashes.setdefault(key, {})
        taken = kept.get("writer", member) != member and kept["until"] > now
        time = [str(int(now)).encode(), str(int(now % 1 * 1e6)).encode()]
        if state and taken:
            self.counts["taken"] += 1
            return [2, *time, b"", b""]
        if version != kept.get("version", ""):
            if lease and not taken:
                kept.update(writer=member, until=now + lease / 1000)
            self.counts["old" if state else "read"] += 1
            return [0, *time, kept.get("version", "").encode(), kept.get("state", b"")]
        if state:
            kept.update(version=new, state=state)
            kept.pop("writer", None)
            kept.pop("until", None)
            self.counts["written"] += 1
        else:
            self.counts["unchanged"] += 1
        return [1, *time, b"", b""]

    async def aclose(self) -> None:
        pass

    @property
    def commands(self) -> int:
        return sum(self.counts.values())


@attrs.frozen(kw_only=True)
class Shared:
    """What came of a run: the requests of all processes, seconds until the last response, calls that were lost, the
    commands of Redis, and the seconds of each process.
    """

    outcome: Outcome
    elapsed: float
    counts: Counter[str]
    seconds: Sequence[float]

    @property
    def lost(self) -> int:
        return len(self.outcome.lost)


def share(
    limit: Callable[[], Limit],
    *,
    processes: int,
    calls: int = 250,
    workers: int = 250,
    apart: float = 0.0,
    redis_seconds: float = 0.001,
    latency: float = 0.02,
    seed: int = 0,
    late: float = 0.0,
    max_in_flight: int = 128,
    timeout: float = 300.0,
    wrong: Sequence[float] = (),
) -> Shared:
    """Let processes share a limit. Each begins `apart` seconds after the last one, and has `calls` calls. The clocks of
    the first ones are `wrong`.
    """
    scenario = Scenario(
        name="shared", limit=limit, latency=latency, workers=min(workers, calls), calls=calls, timeout=timeout
    )

    async def run(clock: VirtualClock) -> Shared:
        began = clock.loop.time()
        redis = SimulatedRedis(clock, redis_seconds, seed)
        outcome, one = Outcome(), limit()
        seconds: list[float] = []

        async def process(number: int) -> None:
            await asyncio.sleep(number * apart)
            begins = clock.loop.time()
            own = WrongClock(clock, number, (*wrong, *[0.0] * processes)[number])
            async with RedisLimiter("redis://", name="x", clock=own, max_in_flight=max_in_flight) as limiter:
                server = SimulatedServer(scenario, one, own, outcome, seed)
                server.start = began
                turns: Iterator[int] = iter(range(calls))
                await drive(scenario, server, limiter, turns)
            seconds.append(clock.loop.time() - begins)

        def connected(url: str) -> SimulatedRedis:
            return redis

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_connection, "connected", connected)
            await asyncio.gather(*(process(number) for number in range(processes)))
        return Shared(outcome=outcome, elapsed=clock.loop.time() - began, counts=redis.counts, seconds=seconds)

    return in_virtual_time(run, seed, late)

"""How well many processes share one limit, in virtual time: time, requests, and commands for Redis.

python -m shared.test_many_processes    writes the table of the guide again, from the directory of the tests
"""

from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from doubles import reply_of
from shared.simulated import EPOCH, SimulatedRedis, share
from simulation import (
    Concurrency,
    FixedWindow,
    Headers,
    LeapingSelector,
    Limit,
    TokenBucket,
    VirtualClock,
    in_virtual_time,
    whole_seconds,
)

from evals_async.errors import RateLimited
from evals_async.redis import RedisLimiter, _connection
from evals_async.redis._state import FIRST


BEGIN = LeapingSelector.now  # the time of a loop at its start


def bucket(rate: float, burst: float) -> Callable[[], Limit]:
    return lambda: TokenBucket(rate, burst, whole_seconds)


def at_once(most: int) -> Callable[[], Limit]:
    return lambda: Concurrency(most)


def window() -> Limit:
    return FixedWindow(150, 1.5, whole_seconds)


CASES: dict[str, tuple[dict[str, Any], float, float, float]] = {
    "one process": ({"limit": bucket(200, 20), "processes": 1, "calls": 400}, 380 / 200, 1.2, 1.2),
    "four": ({"limit": bucket(200, 20), "processes": 4}, 980 / 200, 1.2, 2.5),
    "four, 32 workers each": ({"limit": bucket(200, 20), "processes": 4, "workers": 32}, 980 / 200, 1.2, 2.5),
    "four, far Redis": ({"limit": bucket(200, 20), "processes": 4, "redis_seconds": 0.02}, 980 / 200, 1.3, 2.5),
    "twelve": ({"limit": bucket(200, 20), "processes": 12, "calls": 100}, 1180 / 200, 1.2, 3.5),
    "twelve, one worker each": (
        {"limit": bucket(200, 20), "processes": 12, "calls": 100, "workers": 1},
        1180 / 200,
        1.3,
        4.0,
    ),
    "twelve, 1,000 a second": ({"limit": bucket(1000, 100), "processes": 12, "calls": 100}, 1100 / 1000, 1.35, 2.5),
    "four, at most 8 at once": ({"limit": at_once(8), "processes": 4, "calls": 100}, 400 * 0.02 / 8, 1.3, 2.5),
    "twelve, at most 8 at once": ({"limit": at_once(8), "processes": 12, "calls": 100}, 1200 * 0.02 / 8, 1.3, 4.5),
    "four, windows": ({"limit": window, "processes": 4, "calls": 100}, 400 / 100, 1.2, 3.0),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_processes_share_a_limit(name: str, seed: int) -> None:
    """None is lost, hardly one is refused, the limit is used, and Redis gets a few commands for each call."""
    options, ideal, slower, commands = CASES[name]
    calls = options["processes"] * options.get("calls", 250)
    shared = share(seed=seed, **options)
    assert 0 == shared.lost
    assert calls == len(shared.outcome.granted)
    assert shared.elapsed <= slower * ideal + 0.05
    assert shared.outcome.requests <= 1.15 * calls + FIRST  # what was in flight at the first refusal
    assert sum(shared.counts.values()) <= commands * calls


JOINING: dict[str, Any] = {"limit": bucket(200, 20), "processes": 16, "calls": 100, "apart": 0.1}
GUIDE = Path(__file__).parents[2] / "docs/guides/many-workers.md"
BEGIN_TABLE, END_TABLE = "<!-- simulated: begin -->\n", "<!-- simulated: end -->"


def table() -> str:
    """The table of the guide: how all cases go."""
    rows = [
        "| processes | requests per call | time, compared with the ideal | commands for Redis per call |",
        "|---|---|---|---|",
    ]
    cases = {name: (options, ideal) for name, (options, ideal, _, _) in CASES.items()}
    for name, (options, ideal) in {**cases, "sixteen, one more every 100 ms": (JOINING, 1580 / 200)}.items():
        calls = options["processes"] * options.get("calls", 250)
        shared = share(**options)
        requests, commands = shared.outcome.requests / calls, sum(shared.counts.values()) / calls
        rows.append(f"| {name} | {requests:.2f} | {shared.elapsed / ideal:.2f} | {commands:.1f} |")
    return "\n".join(rows) + "\n"


def test_the_table_of_the_guide_is_what_the_simulation_gives() -> None:
    """`python -m shared.test_many_processes` renews it."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(BEGIN_TABLE)
    assert rest.partition(END_TABLE)[0] == table()


@pytest.mark.parametrize("seed", [0, 1])
def test_processes_that_begin_one_after_the_other_cause_no_storm(seed: int) -> None:
    """A new one every 100 ms, up to 16. The first ones have used the limit fully before the last one comes."""
    shared = share(**JOINING, seed=seed)
    assert 0 == shared.lost
    assert shared.outcome.requests <= 1.15 * 1600
    assert shared.elapsed <= 1.3 * 1580 / 200


def test_a_limit_that_is_never_reached_delays_nobody() -> None:
    """Four processes, 128 requests at once: the time of a fan-out without a limit, and a command for several calls."""
    shared = share(at_once(10_000), processes=4, calls=250, workers=32)
    assert 1000 == shared.outcome.requests
    assert shared.elapsed <= 2 * 1000 * 0.02 / 128
    assert sum(shared.counts.values()) <= 0.5 * 1000


class DatedBucket(TokenBucket):
    """A bucket whose refusals name the time of day of the next token, and not the time of the response."""

    def take(self, now: float) -> tuple[int, Headers]:
        status, _ = super().take(now)
        if status == 200:
            return status, []
        return status, [("Retry-After", formatdate(EPOCH + BEGIN + now + 1, usegmt=True))]


@pytest.mark.parametrize("wrong", [-300.0, 300.0, 86_400.0])
def test_a_process_whose_clock_is_wrong_delays_nobody(wrong: float) -> None:
    """Five minutes or a day: delays that end at a time of day are understood by the time of the Redis server."""
    shared = share(lambda: DatedBucket(200, 20), processes=4, calls=100, wrong=[wrong], timeout=10.0)
    # Its own refused calls find no time for a delay of five minutes.
    assert {RateLimited} >= {type(error) for error in shared.outcome.lost}
    assert shared.lost <= 20
    assert shared.elapsed <= 1.3 * 380 / 200 + 1.0
    assert shared.outcome.requests <= 1.15 * 400 + FIRST


def test_a_refused_call_waits_until_the_earliest_end_of_the_shared_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to wait 2 s, and after a second again 2 s, as in one process."""

    async def job(clock: VirtualClock) -> None:
        redis = SimulatedRedis(clock, 0.001, 0)

        def connected(url: str) -> SimulatedRedis:
            return redis

        monkeypatch.setattr(_connection, "connected", connected)
        async with RedisLimiter("redis://", name="x", clock=clock) as limiter:
            began = clock.monotonic()
            for _ in range(3):  # the third one is the probe that confirms the hold
                assert await limiter.acquire(began + 10)
                sent = clock.monotonic()
                limiter.release()
                limiter.observe(reply_of(b"{}", status=429, headers=[("Retry-After", "2")]), sent_at=sent, among=1)
                await clock.sleep(0.5)
            await limiter.pause(2.0)
            assert 2.0 <= clock.monotonic() - began <= 2.3

    in_virtual_time(job)


if __name__ == "__main__":
    before, _, rest = GUIDE.read_text(encoding="utf-8").partition(BEGIN_TABLE)
    GUIDE.write_text(before + BEGIN_TABLE + table() + END_TABLE + rest.partition(END_TABLE)[2], encoding="utf-8")

"""Every kind of limit, on a simulated clock: calls lost, time beside the ideal, requests a call, and who gets how much.

The bounds are those of the rate limiter's promise; what a server does is in `simulation`.
"""

from functools import partial

import pytest
from rates_over_time import PICTURE, picture
from simulation import (
    Concurrency,
    FixedWindow,
    OneOff,
    Outage,
    Outcome,
    Scenario,
    TokenBucket,
    milliseconds,
    no_header,
    simulate,
    simulate_two,
    whole_seconds,
)


ONE_SECOND = [("Retry-After", "1")]
LATENCY = 0.02
UNDISTURBED = 0.38  # 600 calls, 32 at once, 20 ms each


def five_seconds(left: float) -> list[tuple[str, str]]:
    return [("Retry-After", "5")]


TABLE = [
    Scenario(name="undisturbed", limit=lambda: OneOff([])),
    Scenario(name="one 429 on the first request", limit=lambda: OneOff([0], ONE_SECOND), ideal=1 + UNDISTURBED),
    Scenario(
        name="one 429 on the first request, timeout=10",
        limit=lambda: OneOff([0], ONE_SECOND),
        ideal=1 + UNDISTURBED,
        timeout=10.0,
    ),
    Scenario(name="one 429 in the middle", limit=lambda: OneOff([300], ONE_SECOND), ideal=1 + UNDISTURBED),
    Scenario(name="three 429s without a delay", limit=lambda: OneOff([0, 1, 2]), ideal=0.5 + UNDISTURBED),
    Scenario(name="200/s, burst 50, Retry-After: 1", limit=lambda: TokenBucket(200, 50, whole_seconds)),
    Scenario(name="200/s, burst 50, no header", limit=lambda: TokenBucket(200, 50)),
    Scenario(name="100/s, burst 10, retry-after-ms", limit=lambda: TokenBucket(100, 10, milliseconds)),
    Scenario(
        name="400/s for half a second, then 60/s", limit=lambda: TokenBucket([(0, 400), (0.5, 60)], 20, whole_seconds)
    ),
    Scenario(
        name="150 in 2 s, x-ratelimit headers", limit=lambda: FixedWindow(150, 2, whole_seconds, rate_headers=True)
    ),
    Scenario(name="150 in 2 s, Retry-After", limit=lambda: FixedWindow(150, 2, whole_seconds)),
    Scenario(name="8 at once", limit=lambda: Concurrency(8), ideal=600 / 8 * LATENCY),
]

VARIANTS = [
    Scenario(name="60/s for 2 s, then 400/s", limit=lambda: TokenBucket([(0, 60), (2, 400)], 20, whole_seconds)),
    Scenario(name="400/s, then 60/s, no header", limit=lambda: TokenBucket([(0, 400), (0.5, 60)], 20)),
    Scenario(name="200/s, 503 with Retry-After", limit=lambda: TokenBucket(200, 50, whole_seconds, 503)),
    Scenario(name="50/s, burst 50, 200 ms", limit=lambda: TokenBucket(50, 50, whole_seconds), latency=0.2),
    Scenario(name="50/s, burst 5", limit=lambda: TokenBucket(50, 5, whole_seconds)),
    *(
        Scenario(name=f"{rate}/s, burst 1, {told.__name__}", limit=partial(TokenBucket, rate, 1, told))
        for rate in (100, 150, 200)
        for told in (no_header, whole_seconds, milliseconds)
    ),
    Scenario(name="200/s, burst 2, 5 ms, 100 workers", limit=lambda: TokenBucket(200, 2), latency=0.005, workers=100),
    Scenario(name="200/s, burst 2", limit=lambda: TokenBucket(200, 2)),
    Scenario(
        name="200/s, burst 50, 200 ms", limit=lambda: TokenBucket(200, 50, whole_seconds), latency=0.2, workers=100
    ),
    Scenario(name="20/s, burst 5", limit=lambda: TokenBucket(20, 5, whole_seconds), calls=200),
    Scenario(name="5/s, burst 5", limit=lambda: TokenBucket(5, 5, whole_seconds), calls=200),
    Scenario(name="150 in 2 s, no header", limit=lambda: FixedWindow(150, 2)),
    Scenario(name="50 a second, Retry-After", limit=lambda: FixedWindow(50, 1, whole_seconds)),
    Scenario(name="20 a second, Retry-After", limit=lambda: FixedWindow(20, 1, whole_seconds), calls=200),
    Scenario(name="200 a second, 100 workers", limit=lambda: FixedWindow(200, 1), calls=1000, workers=100),
    Scenario(
        name="50 a second, Retry-After: 5", limit=lambda: FixedWindow(50, 1, five_seconds), calls=1000, workers=100
    ),
    Scenario(name="2 at once", limit=lambda: Concurrency(2), ideal=600 / 2 * LATENCY),
    Scenario(name="16 at once", limit=lambda: Concurrency(16), ideal=600 / 16 * LATENCY),
    Scenario(name="8 at once, Retry-After", limit=lambda: Concurrency(8, ONE_SECOND), ideal=600 / 8 * LATENCY),
    Scenario(name="8 at once, refused late", limit=lambda: Concurrency(8), ideal=600 / 8 * LATENCY, refusal=LATENCY),
    Scenario(name="8 at once, latency varies", limit=lambda: Concurrency(8), ideal=600 / 8 * LATENCY, spread=0.5),
    Scenario(name="4 at once", limit=lambda: Concurrency(4), ideal=600 / 4 * LATENCY),
    Scenario(name="12 at once", limit=lambda: Concurrency(12), ideal=600 / 12 * LATENCY),
    Scenario(name="20 at once", limit=lambda: Concurrency(20), ideal=600 / 20 * LATENCY),
    Scenario(name="24 at once", limit=lambda: Concurrency(24), ideal=600 / 24 * LATENCY),
    Scenario(name="28 at once", limit=lambda: Concurrency(28), ideal=600 / 28 * LATENCY),
    *(
        Scenario(
            name=f"8 at once, refusals take {1000 * refusal:g} ms, +-{spread:.0%}",
            limit=lambda: Concurrency(8),
            ideal=600 / 8 * LATENCY,
            refusal=refusal,
            spread=spread,
        )
        for refusal in (0.002, 0.005, 0.01, LATENCY)
        for spread in (0.2, 0.5, 0.9)
    ),
    *(
        Scenario(
            name=f"{count} at once, as over sockets",
            limit=partial(Concurrency, count),
            ideal=0.08 + 600 / count * (LATENCY + 0.002),  # a connection, and timers as late as they are
            refusal=0.003,
            spread=0.2,
            opening=0.08,
            late=0.002,
        )
        for count in (2, 8, 16, 20)
    ),
    Scenario(name="8, then 24 at once", limit=lambda: Concurrency([(0, 8), (0.75, 24)]), ideal=0.75 + 0.25),
    Scenario(name="a wave", limit=lambda: Outage(0.1, 0.12, ONE_SECOND), ideal=1 + UNDISTURBED),
    Scenario(name="a wave without a delay", limit=lambda: Outage(0.1, 0.12), ideal=0.5 + UNDISTURBED),
    Scenario(name="nine in a row", limit=lambda: OneOff(range(200, 209), ONE_SECOND), ideal=1 + UNDISTURBED),
    Scenario(name="scattered", limit=lambda: OneOff(range(0, 600, 60), ONE_SECOND), ideal=1 + UNDISTURBED),
]


SHARED = [
    Scenario(name="200/s, burst 50, Retry-After: 1", limit=lambda: TokenBucket(200, 50, whole_seconds), calls=1000),
    Scenario(name="200/s, burst 20, no header", limit=lambda: TokenBucket(200, 20), calls=1000),
    Scenario(name="100/s, burst 10, retry-after-ms", limit=lambda: TokenBucket(100, 10, milliseconds), calls=1000),
    Scenario(name="150 in 2 s, Retry-After", limit=lambda: FixedWindow(150, 2, whole_seconds), calls=1000),
    Scenario(
        name="150 in 2 s, x-ratelimit headers",
        limit=lambda: FixedWindow(150, 2, whole_seconds, rate_headers=True),
        calls=1000,
    ),
]
LIMITS = {"200/s": 200.0, "100/s": 100.0, "150 i": 75.0}


def named(scenario: Scenario) -> str:
    return scenario.name


def assert_within(scenario: Scenario, outcome: Outcome, *, slower: float, more: float) -> None:
    """Nothing lost; so many times the ideal and one round trip; so many requests a call beside the first ones."""
    assert [] == outcome.lost
    assert outcome.elapsed <= slower * scenario.best() + scenario.latency
    assert outcome.requests - outcome.flying_at_first_refusal <= more * scenario.calls


@pytest.mark.parametrize("scenario", TABLE, ids=named)
def test_each_limit_is_used_to_the_full(scenario: Scenario) -> None:
    """At most 1.2 times the ideal and one round trip, and 1.1 requests a call, for every seed."""
    for seed in range(3):
        assert_within(scenario, simulate(scenario, seed=seed), slower=1.2, more=1.1)


@pytest.mark.parametrize("scenario", VARIANTS, ids=named)
def test_and_so_are_others(scenario: Scenario) -> None:
    """Other rates, bursts, latencies and positions: 1.35 times the ideal at most, and 1.15 requests a call."""
    assert_within(scenario, simulate(scenario), slower=1.35, more=1.15)


MOMENTS = [0.0, 0.1, 0.25, 0.5, 0.7, 0.95, 1.3, 1.85]  # when the second client begins


@pytest.mark.parametrize(
    ("scenario", "allowed"),
    list(zip(SHARED, [1, 0, 0, 2, 0], strict=True)),
    ids=lambda value: value.name if isinstance(value, Scenario) else "",
)
def test_two_clients_that_know_nothing_of_each_other_share_a_limit(scenario: Scenario, allowed: int) -> None:
    """Both finish, and together they use 85 % of it. Neither gets less than a third of its half, but at so many moments
    as are allowed.
    """
    limit = LIMITS[scenario.name[:5]]
    unfair: list[float] = []
    for late in MOMENTS:
        outcomes = simulate_two(scenario, late=late)
        begin, end = late + 0.5, min(outcome.elapsed for outcome in outcomes)
        rates = [sum(begin < at <= end for at in outcome.granted) / (end - begin) for outcome in outcomes]
        assert [[], []] == [outcome.lost for outcome in outcomes]
        assert 0.85 * limit <= sum(rates)
        if min(rates) < limit / 6:
            unfair.append(late)
        for outcome in outcomes:
            assert outcome.requests - outcome.flying_at_first_refusal <= 1.15 * scenario.calls
    assert len(unfair) <= allowed, unfair


def test_no_burst_after_a_hold() -> None:
    """When all 32 under way are refused with a delay, 16 at most go out at once after it; the rest as answers come."""
    outcome = simulate(Scenario(name="", limit=lambda: Outage(0.1, 1.0, ONE_SECOND)))
    back = [at for at in outcome.sent if at >= outcome.refused[0] + 1.0]
    assert sum(at < back[0] + LATENCY for at in back) <= 16
    assert [] == outcome.lost


def test_a_told_reset_is_more_exact_than_whole_seconds() -> None:
    """`Retry-After: 2` beside a reset in 1.5 s: refused calls go again at the reset, and not half a second later."""
    limit = partial(FixedWindow, 10, 1.5, whole_seconds, rate_headers=True)
    outcome = simulate(Scenario(name="", limit=limit, calls=20, workers=20))
    assert 10 == len(outcome.refused)
    assert 1.5 <= outcome.elapsed <= 1.5 + 10 * LATENCY
    assert [] == outcome.lost


def test_as_many_as_two_equal_windows_granted_are_sent_at_once_in_the_next() -> None:
    """The fourth window begins after 6 s. The last 150 of 600 calls take as long there as without a limit."""
    outcome = simulate(Scenario(name="", limit=partial(FixedWindow, 150, 2, whole_seconds)))
    last = [at for at in outcome.granted if at >= 6]
    assert 150 == len(last)
    assert last[-1] - last[0] <= 150 / 32 * LATENCY * 1.35


def test_the_picture_in_the_guide_is_what_the_simulation_gives() -> None:
    """docs/guides/rates.svg is drawn from the limiter as it is: `python tests/rates_over_time.py` renews it."""
    assert PICTURE.read_text(encoding="utf-8") == picture()

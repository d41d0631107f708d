"""A map of limits that the rate limiter was not built for: many rates, windows and numbers at once, and how it does.

python -m transport.variants    prints, from the directory of the tests, how many lie outside the bounds
"""

import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
from simulation import (
    Concurrency,
    FixedWindow,
    Make,
    OneOff,
    Outage,
    Outcome,
    Scenario,
    TokenBucket,
    Told,
    adaptive,
    milliseconds,
    no_header,
    simulate,
    simulate_two,
    whole_seconds,
)


LATENCY = 0.02
UNDISTURBED = 0.38  # 600 calls, 32 at once, 20 ms each
ONE_SECOND = [("Retry-After", "1")]
TOLD: Sequence[Told] = (no_header, whole_seconds, milliseconds)
STARTS = [0.033 * number for number in range(60)]  # when the second of two clients begins


def bucket(rate: float, burst: float, told: Told, **rest: Any) -> Scenario:
    """A bucket, with as many calls as take a while."""
    calls = 200 if rate <= 20 else 600
    extra = "".join(f", {key} {value:g}" for key, value in rest.items())
    name = f"{rate:g}/s, burst {burst:g}, {told.__name__}{extra}"
    return attrs.evolve(Scenario(name=name, limit=partial(TokenBucket, rate, burst, told), calls=calls), **rest)


def buckets() -> Iterator[Scenario]:
    """Rates and bursts, at 20 ms and 32 at once."""
    for rate, burst in itertools.product((5, 10, 20, 50, 100, 200, 400, 700, 1000), (1, 2, 5, 10, 20, 50, 100, 200)):
        told = (no_header, whole_seconds) if (rate + burst) % 3 else (no_header, milliseconds)
        yield from (bucket(rate, burst, one) for one in told)


def latencies() -> Iterator[Scenario]:
    """Responses after 5 to 300 ms, and 8 to 100 at once."""
    cases = itertools.product((50, 200), (1, 5, 20, 50), (0.005, 0.05, 0.1, 0.2, 0.3), (32, 100))
    for number, (rate, burst, latency, workers) in enumerate(cases):
        yield bucket(rate, burst, TOLD[number % 3], latency=latency, workers=workers)
    for workers, told in itertools.product((8, 16, 64, 100), (no_header, whole_seconds)):
        yield bucket(200, 50, told, workers=workers)
        yield bucket(100, 10, told, workers=workers, spread=0.5)


def slow_refusals() -> Iterator[Scenario]:
    """Refusals that take as long as other responses, so that silence says nothing."""
    cases = itertools.product((20, 50, 100, 200, 400, 700), (1, 5, 20, 50, 100, 200), (0.02, 0.1), (32, 100))
    for rate, burst, latency, workers in cases:
        yield bucket(rate, burst, no_header, latency=latency, refusal=latency, workers=workers)


def windows() -> Iterator[Scenario]:
    """So many in each window of 0.5 to 60 s: without a header, with Retry-After, with the rest of the window told."""
    cases = ((20, 0.5), (100, 0.5), (20, 1), (50, 1), (200, 1), (150, 2), (40, 5), (250, 5), (250, 10), (250, 60))
    for (count, period), told, workers in itertools.product(cases, (no_header, whole_seconds), (32, 100)):
        yield Scenario(
            name=f"{count} in {period:g} s, {told.__name__}, {workers} workers",
            limit=partial(FixedWindow, count, period, told),
            workers=workers,
            calls=200 if count / period <= 20 and period < 20 else 600,
        )
    for count, period in cases:
        yield Scenario(
            name=f"{count} in {period:g} s, told",
            limit=partial(FixedWindow, count, period, whole_seconds, rate_headers=True),
            calls=200 if count / period <= 20 and period < 20 else 600,
        )


def at_once(count: int, name: str, told: Sequence[tuple[str, str]] = (), **rest: Any) -> Scenario:
    workers = 100 if count > 28 else 32
    name = f"{count} at once, {name}"
    return attrs.evolve(Scenario(name=name, limit=partial(Concurrency, count, told), workers=workers), **rest)


def concurrent() -> Iterator[Scenario]:
    """2 to 64 at once: with and without Retry-After, quick and slow refusals, other latencies."""
    for count in (2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 40, 64):
        yield at_once(count, "no header")
        yield at_once(count, "Retry-After", ONE_SECOND)
        yield at_once(count, "refused late", refusal=LATENCY)
        yield at_once(count, "latency varies", spread=0.5, refusal=0.005)
        yield at_once(count, "200 ms", latency=0.2, spread=0.2)


def late() -> Iterator[Scenario]:
    """Timers that ring 2 or 5 ms late, as on a busy machine."""
    for lateness in (0.002, 0.005):
        for count in (2, 4, 8, 16, 20, 24, 28):
            yield at_once(count, f"late {lateness:g}", late=lateness, spread=0.2)
            yield at_once(count, f"Retry-After, late {lateness:g}", ONE_SECOND, late=lateness, spread=0.2)
            yield at_once(count, f"new connections, late {lateness:g}", late=lateness, opening=0.08, refusal=0.003)
        for rate, burst in itertools.product((50, 100, 200, 400), (1, 2, 5, 20, 50)):
            yield bucket(rate, burst, no_header if burst == 2 else whole_seconds, late=lateness)


def changes() -> Iterator[Scenario]:
    """Limits that fall or rise."""
    for told in (no_header, whole_seconds):
        for first, then, at in ((400, 60, 0.5), (300, 30, 1), (200, 100, 2), (60, 400, 2), (100, 200, 2), (30, 300, 3)):
            limit = partial(TokenBucket, [(0, first), (at, then)], 20, told)
            yield Scenario(name=f"{first}/s, after {at} s {then}/s, {told.__name__}", limit=limit, calls=800)
    for first, then, at in ((8, 24, 0.75), (4, 16, 1), (16, 4, 0.5), (24, 8, 0.3), (2, 28, 1)):
        yield Scenario(
            name=f"{first}, after {at} s {then} at once",
            limit=partial(Concurrency, [(0, first), (at, then)]),
            calls=800,
        )


def passing() -> Iterator[Scenario]:
    """Refusals that soon pass: single ones, several in a row, waves; 429, and 503 with Retry-After."""
    for position in (0, 1, 31, 100, 300, 599):
        for status in (429, 503):
            limit = partial(OneOff, [position], ONE_SECOND, status)
            yield Scenario(name=f"{status} at {position}", limit=limit, ideal=1 + UNDISTURBED)
        yield Scenario(name=f"429 at {position}, no header", limit=partial(OneOff, [position]), ideal=0.5 + UNDISTURBED)
    for number, position in itertools.product((2, 3, 5, 9, 20), (0, 200)):
        limit = partial(OneOff, range(position, position + number), ONE_SECOND)
        yield Scenario(name=f"{number} in a row from {position}", limit=limit, ideal=1 + UNDISTURBED)
    for apart in (20, 60, 150):
        limit = partial(OneOff, range(0, 600, apart), ONE_SECOND)
        yield Scenario(name=f"one of {apart}", limit=limit, ideal=1 + UNDISTURBED)
    for lasts, status in itertools.product((0.02, 0.1, 0.5), (429, 503)):
        wave = partial(Outage, 0.1, 0.1 + lasts, ONE_SECOND, status)
        yield Scenario(name=f"all refused for {lasts:g} s, {status}", limit=wave, ideal=max(1.0, lasts) + UNDISTURBED)
    yield Scenario(name="all refused for 0.02 s, no header", limit=partial(Outage, 0.1, 0.12), ideal=0.5 + UNDISTURBED)


def between(dice: random.Random, least: float, most: float) -> float:
    """A number by chance: as many below 10 as above, if the two are 1 and 100."""
    return math.exp(dice.uniform(math.log(least), math.log(most)))


def by_chance() -> Iterator[Scenario]:
    """160 buckets, 160 windows, 80 numbers at once and 80 changes, all by chance; so are latencies and the machine."""
    dice = random.Random(2026)
    for number in range(480):
        told = dice.choice(TOLD)
        rate, then = round(between(dice, 5, 1000)), round(between(dice, 20, 500))
        count, period = round(between(dice, 15, 400)), dice.choice((0.5, 1, 2, 3, 5, 10, 30))
        most, workers = round(between(dice, 2, 60)), dice.choice((8, 16, 32, 64, 100))
        burst, at = round(between(dice, 1, 200)), round(dice.uniform(0.2, 3), 2)
        slow = False
        limit: Callable[[], Any]
        if number % 6 < 2:
            name, slow = f"{rate}/s, burst {burst}, {told.__name__}", rate <= 20
            limit = partial(TokenBucket, rate, burst, told)
        elif number % 6 < 4:
            headers = dice.random() < 0.3
            name, slow = f"{count} in {period:g} s, {told.__name__}{', told' * headers}", count <= 20 * period
            limit = partial(FixedWindow, count, period, told, rate_headers=headers)
        elif number % 6 == 4:
            name, workers = f"{most} at once", max(workers, round(1.3 * most) + 2)
            limit = partial(Concurrency, most, dice.choice(((), ONE_SECOND)))
        else:
            first = round(between(dice, 20, 500))
            name = f"{first}/s, after {at:g} s {then}/s, {told.__name__}"
            limit = partial(TokenBucket, [(0, first), (at, then)], 10, told)
        yield Scenario(
            name=f"{name}, {workers} workers, number {number}",
            limit=limit,
            calls=200 if slow else 600,
            workers=workers,
            latency=round(between(dice, 0.005, 0.3), 3),
            refusal=dice.choice((None, None, 0.003, 0.01)),
            spread=dice.choice((0, 0, 0.2, 0.5)),
            opening=dice.choice((0, 0, 0.03)),
            late=dice.choice((0, 0, 0.001, 0.002)),
        )


SHARED = [
    Scenario(name="200/s, burst 50", limit=partial(TokenBucket, 200, 50, whole_seconds), calls=1000),
    Scenario(name="200/s, burst 20", limit=partial(TokenBucket, 200, 20), calls=1000),
    Scenario(name="100/s, burst 10", limit=partial(TokenBucket, 100, 10, milliseconds), calls=1000),
    Scenario(name="50/s, burst 5", limit=partial(TokenBucket, 50, 5, whole_seconds), calls=500),
    Scenario(name="200/s, burst 1", limit=partial(TokenBucket, 200, 1), calls=1000),
    Scenario(name="150 in 2 s", limit=partial(FixedWindow, 150, 2, whole_seconds), calls=1000),
    Scenario(name="150 in 2 s, told", limit=partial(FixedWindow, 150, 2, whole_seconds, rate_headers=True), calls=1000),
    Scenario(name="8 at once", limit=partial(Concurrency, 8), calls=1000),
]
PER_SECOND = [200, 200, 100, 50, 200, 75, 75, 400]

FAMILIES: dict[str, Callable[[], Iterator[Scenario]]] = {
    "buckets": buckets,
    "latencies": latencies,
    "slow refusals": slow_refusals,
    "windows": windows,
    "concurrent": concurrent,
    "late": late,
    "changes": changes,
    "passing": passing,
    "by chance": by_chance,
}


@attrs.frozen
class Verdict:
    """How a variant went: times the ideal, requests a call, calls lost."""

    scenario: Scenario
    slower: float
    more: float
    lost: int

    @classmethod
    def of(cls, scenario: Scenario, outcome: Outcome, best: float) -> "Verdict":
        return cls(
            scenario,
            (outcome.elapsed - scenario.latency) / best,
            (outcome.requests - outcome.flying_at_first_refusal) / scenario.calls,
            len(outcome.lost),
        )

    @property
    def inside(self) -> bool:
        return self.lost == 0 and self.slower <= 1.35 and self.more <= 1.15

    def __str__(self) -> str:
        return (
            f"{self.slower:5.2f} x the ideal, {self.more:5.3f} requests a call, {self.lost} lost: {self.scenario.name}"
        )


def verdict(scenario: Scenario, make: Make = adaptive, seed: int = 0) -> Verdict:
    return Verdict.of(scenario, simulate(scenario, make, seed), scenario.best())


def shares(scenario: Scenario, per_second: float, start: float, make: Make = adaptive) -> tuple[float, float]:
    """What two clients get together, and the slower one of its half, as parts of the limit while both run."""
    outcomes = simulate_two(scenario, make, late=start)
    begin, end = start + 0.5, min(outcome.elapsed for outcome in outcomes)
    rates = [sum(begin < at <= end for at in outcome.granted) / (end - begin) for outcome in outcomes]
    return sum(rates) / per_second, 2 * min(rates) / per_second


def main(names: Sequence[str]) -> None:
    for name in names or [*FAMILIES, "shared"]:
        if name == "shared":
            for scenario, per_second in zip(SHARED, PER_SECOND, strict=True):
                found = [shares(scenario, per_second, start) for start in STARTS]
                outside = sum(together < 0.85 or least < 1 / 3 for together, least in found)
                worst = min(least for _, least in found)
                print(f"two clients, {scenario.name}: {outside} of {len(found)} outside, least {worst:.2f} of its half")
            continue
        verdicts = [verdict(scenario) for scenario in FAMILIES[name]()]
        outside_of = [one for one in verdicts if not one.inside]
        mean = sum(one.slower for one in verdicts) / len(verdicts)
        print(f"{name}: {len(outside_of)} of {len(verdicts)} outside, {mean:.3f} x the ideal in the mean")
        for one in outside_of:
            print("   ", one)


if __name__ == "__main__":
    main(sys.argv[1:])

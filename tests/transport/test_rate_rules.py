"""The rules of `RateControl`, one by one, and what users see of them."""

import math
from functools import partial

import pytest
from doubles import FakeClock, reply_of
from simulation import (
    Concurrency,
    FixedWindow,
    Headers,
    OneOff,
    Scenario,
    TokenBucket,
    milliseconds,
    simulate,
    whole_seconds,
)

from evals_async._transport.limiter import AdaptiveLimiter, Statistics
from evals_async._transport.rate_control import RateControl


def refused_once(now: float = 0.0, took: float = 0.001) -> RateControl:
    """A limit of which one request was refused, after so many seconds."""
    control = RateControl(100, now)
    control.take(now)
    control.give(now + took)
    control.refused(now + took, now, 1, None)
    return control


def test_a_request_that_is_not_refused_soon_was_granted() -> None:
    """Refusals take 1 ms. A probe without a response after 4 ms ends the hold; its later response changes nothing."""
    control = refused_once()
    assert control.held()
    control.take(0.02, waited=True)
    assert control.next_turn(0.023) > 0.023
    assert control.held()
    control.next_turn(0.0245)
    assert not control.held()
    counted = control.counted
    control.give(0.3)
    control.granted(0.3, 0.02, 1)
    assert control.counted == counted == 1
    assert control.latency == pytest.approx(0.28)


def test_silence_is_none_if_refusals_are_as_slow_as_grants() -> None:
    """A server that refuses after 300 ms may still refuse a request of which nothing was heard for as long."""
    control = refused_once(took=0.3)
    control.take(1.0, waited=True)
    control.next_turn(1.5)
    assert control.held()


def test_a_silent_request_may_still_be_refused() -> None:
    """If silence was mistaken for a grant, the refusal counts, and the next one is expected later."""
    control = refused_once()
    control.take(0.02, waited=True)
    control.next_turn(0.0245)
    control.give(0.06)
    control.refused(0.06, 0.02, 1, None)
    assert control.silence > 0.1
    assert control.in_a_row == 0
    assert control.next_turn(0.06) > 0.06


@pytest.mark.parametrize("latency", [0.05, 0.2, 0.5])
def test_a_limit_is_found_as_soon_if_responses_take_long(latency: float) -> None:
    """200 a second, one at a time: the latency of grants does not delay the search, only that of refusals does."""
    limit = partial(TokenBucket, 200, 1)
    outcome = simulate(Scenario(name="", limit=limit, latency=latency, workers=100))
    assert outcome.elapsed <= 1.25 * 3.0 + latency
    assert outcome.requests - outcome.flying_at_first_refusal <= 1.1 * 600


@pytest.mark.parametrize("position", [0, 1, 2, 7])
@pytest.mark.parametrize("workers", [1, 4, 20])
def test_a_short_delay_costs_no_more_than_itself(position: int, workers: int) -> None:
    """One 429 with a delay of 5 ms, at any of the first requests: 20 calls are over as soon as without it, nearly."""
    limit = partial(OneOff, [position], [("retry-after-ms", "5")])
    undisturbed = 20 / workers * 0.02
    assert simulate(Scenario(name="", limit=limit, calls=20, workers=workers)).elapsed <= undisturbed + 0.15


@pytest.mark.parametrize(("slow", "fast", "at"), [(1, 200, 20.0), (5, 200, 10.0), (20, 400, 5.0)])
def test_a_limit_that_rises_far_is_used_again(slow: float, fast: float, at: float) -> None:
    """Also a very slow rate is no trap: at most 20 seconds after it has risen, it is used."""
    outcome = simulate(Scenario(name="", limit=partial(TokenBucket, [(0, slow), (at, fast)], 5)))
    assert outcome.elapsed <= at + (600 - slow * at) / fast + 20
    assert [] == outcome.lost


class FullAtReset(TokenBucket):
    """A bucket whose headers tell what remains, and when it will be full again."""

    def take(self, now: float) -> tuple[int, Headers]:
        status, told = super().take(now)
        full = (self.burst - self.tokens) / self.rate_at(now)
        return status, [
            *told,
            ("x-ratelimit-limit-requests", f"{self.burst:g}"),
            ("x-ratelimit-remaining-requests", str(int(self.tokens))),
            ("x-ratelimit-reset-requests", f"{1000 * full:.0f}ms"),
        ]


def test_a_rate_that_was_not_measured_does_not_fall_far() -> None:
    """A request a second after the last one was refused. That need not be the rate: another client may have taken the
    token.
    """
    control = RateControl(100, 0.0, start_rate=100.0)
    for sent_at, refused in ((1.0, True), (1.1, False), (2.1, True)):
        control.take(sent_at, waited=True)
        control.give(sent_at + 0.001)
        high = control.high
        if refused:
            control.refused(sent_at + 0.001, sent_at, 1, None)
        else:
            control.granted(sent_at + 0.001, sent_at, 1)
    assert 0.7 * high == control.high
    assert 25 < control.pace < 0.7 * high


def test_a_reset_that_moves_away_is_when_a_bucket_is_full() -> None:
    """The reset is later after each request: nothing waits for it, and the rate is used as without headers."""
    outcome = simulate(Scenario(name="", limit=partial(FullAtReset, 200, 50, milliseconds)))
    assert outcome.elapsed <= 1.2 * 2.77
    assert [] == outcome.lost
    one_by_one = Scenario(
        name="", limit=partial(FullAtReset, 1, 5, whole_seconds), calls=50, workers=1, pause=1.25, timeout=3
    )
    assert [] == simulate(one_by_one).lost


def test_a_reset_in_whole_seconds_is_a_window_all_the_same() -> None:
    """Rounding makes a reset seem to move, but it never grows while fewer requests remain."""
    control = RateControl(100, 0.0)
    for number in range(40):
        now = number / 20
        control.tell(now, now, 99 - number, math.ceil(2.0 - now))
    assert control.told(1.95)


@pytest.mark.parametrize(("rate", "burst", "latency"), [(500, 18, 0.16), (400, 10, 0.2), (300, 8, 0.25)])
def test_a_bucket_with_long_responses_is_soon_no_limit_at_once(rate: float, burst: int, latency: float) -> None:
    """All other calls are told to wait for a second, so nobody tests if more than `burst` at once are allowed. Then
    more are tried, because nothing more was refused: three latencies later, not twelve.
    """
    limit = partial(TokenBucket, rate, burst, whole_seconds)
    scenario = Scenario(name="", limit=limit, latency=latency, workers=100)
    outcome = simulate(scenario)
    assert outcome.elapsed <= 1.2 * scenario.best() + 1.0 + latency
    assert [] == outcome.lost


def test_a_ceiling_is_tested_again_when_the_latency_is_known() -> None:
    """10 a second, answered after 190 ms: a second request is refused after 10 ms, but not after 140."""
    limit = partial(TokenBucket, 10, 1)
    outcome = simulate(Scenario(name="", limit=limit, latency=0.19, refusal=0.01, workers=64, calls=100))
    assert outcome.elapsed <= 1.2 * 9.9 + 0.19


@pytest.mark.parametrize("seed", range(3))
def test_refusals_that_come_later_than_grants_cause_no_storm(seed: int) -> None:
    """Grants after 6 ms, refusals after 10: a request that was sent later may be granted before a refusal arrives."""
    limit = partial(TokenBucket, 108, 14)
    scenario = Scenario(name="", limit=limit, latency=0.006, refusal=0.01, spread=0.5, opening=0.03, workers=100)
    outcome = simulate(scenario, seed=seed)
    assert outcome.requests - outcome.flying_at_first_refusal <= 1.15 * scenario.calls


@pytest.mark.parametrize(("slow", "fast", "at"), [(60, 400, 1.0), (50, 350, 1.0), (100, 500, 0.5)])
def test_a_limit_that_rises_is_soon_used(slow: float, fast: float, at: float) -> None:
    """Five to seven times as much: within 1.35 times the ideal, and without many refusals."""
    scenario = Scenario(name="", limit=partial(TokenBucket, [(0, slow), (at, fast)], 20), calls=800)
    outcome = simulate(scenario)
    assert outcome.elapsed <= 1.35 * scenario.best() + scenario.latency
    assert outcome.requests - outcome.flying_at_first_refusal <= 1.1 * scenario.calls


def observed(limiter: AdaptiveLimiter, clock: FakeClock, status: int = 200, **headers: str) -> Statistics:
    """What the limiter says after one more response."""
    sent = clock.now
    assert limiter.try_acquire(sent)
    limiter.release()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    limiter.observe(reply_of(b"{}", status=status, headers=named), sent_at=sent)
    return limiter.statistics(requests=0, retries=0, throttles=0, bytes_received=0)


def test_statistics_tell_what_headers_tell() -> None:
    """30 requests in the next 10 s are 3 a second, told by headers, since the first of them."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(clock=clock)
    clock.now += 100
    told = {"x_ratelimit_remaining_requests": "30", "x_ratelimit_reset_requests": "10s"}
    seen = observed(limiter, clock, 200, **told)
    assert ("told", 0.0, None) == (seen.rate_source, seen.rate_since, seen.at_once)
    assert seen.rate == pytest.approx(3.0)
    clock.now += 2.0
    seen = limiter.statistics(requests=0, retries=0, throttles=0, bytes_received=0)
    assert seen.rate == pytest.approx(30 / 8)
    assert seen.rate_since == 2.0


def test_statistics_say_how_long_a_told_window_holds() -> None:
    """If nothing remains for 30 s, everybody waits so long, and not until the next probe."""
    clock = FakeClock()
    seen = observed(
        AdaptiveLimiter(clock=clock), clock, 429, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="30s"
    )
    assert 30.0 == pytest.approx(seen.held_for)


def test_statistics_tell_where_a_rate_comes_from() -> None:
    """`max_rate` is given. So is `start_rate`, until it has risen because nothing was refused."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_rate=50, clock=clock)
    seen = observed(limiter, clock)
    assert ("given", 50.0) == (seen.rate_source, seen.rate)
    limiter = AdaptiveLimiter(start_rate=50, clock=clock)
    assert ("given", 50.0) == ((seen := observed(limiter, clock)).rate_source, seen.rate)
    for _ in range(100):
        clock.now += 0.02
        seen = observed(limiter, clock)
    assert "unknown" == seen.rate_source
    assert 50 < (seen.rate or 0) < 500


def test_statistics_tell_a_limit_of_concurrent_requests() -> None:
    """`at_once` is the ceiling that was found, and `None` before."""
    limiters: list[AdaptiveLimiter] = []

    def make(clock: object) -> AdaptiveLimiter:
        limiters.append(AdaptiveLimiter(clock=clock))  # type: ignore[arg-type]  # the clock of the simulation
        return limiters[-1]

    simulate(Scenario(name="", limit=lambda: Concurrency(8)), make)
    seen = limiters[0].statistics(requests=0, retries=0, throttles=0, bytes_received=0)
    assert seen.at_once in {6, 7, 8, 9}
    assert seen.rate is None
    assert AdaptiveLimiter().statistics(requests=0, retries=0, throttles=0, bytes_received=0).at_once is None


def test_one_refusal_with_a_long_delay_fails_nobody_else() -> None:
    """`Retry-After: 20`, once, and calls with ten seconds: only the refused call fails, the others follow a probe."""
    limit = partial(OneOff, [40], [("Retry-After", "20")])
    outcome = simulate(Scenario(name="", limit=limit, timeout=10.0))
    assert 1 == len(outcome.lost)
    assert outcome.elapsed <= 0.38 + 0.25
    window = Scenario(name="", limit=partial(FixedWindow, 40, 60, whole_seconds), timeout=10.0)
    assert 560 == len((held := simulate(window)).lost)
    assert held.elapsed <= 0.2
    assert any("delays requests for" in str(error) for error in held.lost)

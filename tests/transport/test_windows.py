"""Limits per time window: when the next window opens is learned, and small windows cost few requests."""

import math
from functools import partial

import pytest
from simulation import FixedWindow, Scenario, Told, milliseconds, no_header, simulate, whole_seconds

from evals_async._transport.rate_control import RateControl
from evals_async._transport.windows import LARGE, Windows


def after(*windows: tuple[float, int], unsure: float = 0.0) -> Windows:
    """Windows that opened at those times, and the grants before each of them."""
    found = Windows()
    for opened, grants in windows:
        found.run = grants
        found.open_window(opened, 9.0, unsure)
        found.count_grants(ended=True)
    return found


def test_two_equal_windows_tell_how_much_the_next_one_grants() -> None:
    """A small window is used up after as many grants. One window, or two that differ, tell nothing."""
    found = after((10, 20), (20, 21))
    assert (True, False) == (found.equal, found.large)
    assert [False, True] == [found.used_up for found.run in (20, 21)]
    for unequal in (after((10, 20)), after((10, 20), (20, 22)), after((10, 2), (20, 2))):
        unequal.run = 100
        assert not unequal.used_up
        assert not unequal.large


def test_a_large_window_is_not_used_up() -> None:
    """There the pace costs more than a few refusals."""
    found = after((10, LARGE), (20, LARGE))
    found.run = LARGE
    assert (True, False) == (found.large, found.used_up)


def test_a_hold_that_is_no_end_of_a_window_ends_what_was_known() -> None:
    found = after((10, 20), (20, 20))
    found.run = 20
    found.count_grants(ended=False)
    found.run = 20
    assert not found.used_up


def test_the_next_window_opens_a_period_later() -> None:
    """Windows of 10 s. A test halves the time in which the next one may open, until it is known well enough."""
    found = after((10, 20), (20, 20), unsure=4.0)
    assert math.inf == found.next_window(21.0)
    found.run = 20
    assert [28, 38] == [found.next_window(now) for now in (21.0, 31.0)]
    for opened, unsure, test in ((30, 2.0, 39), (40, 1.0, 49.5), (50, 0.3, 60)):
        found.open_window(opened, 8.0, unsure)
        assert test == found.next_window(opened + 1)


@pytest.mark.parametrize(("apart", "least", "most"), [(10, 9, 9.9), (3600, 0, 2)])
def test_an_hour_between_two_programs_is_no_window(apart: float, least: float, most: float) -> None:
    """The last hold took 9 s. So the next window may open after 10 s, but it is not awaited for an hour."""
    control = RateControl(100, 0.0, start_rate=50.0)
    for opened in (apart, 2 * apart):
        control.run = 20
        control.open_window(opened, 9.0, 0.0)
        control.count_grants(ended=True)
    control.run, control.expected, control.in_a_row = 20, 9.0, 5  # the refusal that follows is the end of a window
    now = 2 * apart + 0.5
    control.take(now, waited=True)
    control.give(now)
    control.refused(now + 0.001, now, 1, None)
    assert control.held()
    assert least <= control.probe_at - now <= most


@pytest.mark.parametrize(("pause", "hold"), [(0.0, 0.07), (3600.0, 0.0)])
def test_a_hold_without_calls_is_not_measured(pause: float, hold: float) -> None:
    """After three refusals there is no call for an hour. That does not mean that the window is an hour long, or that it
    allows thousands of requests.
    """
    control, now = RateControl(100, 0.0, start_rate=50.0), 1.0
    for status in (429, 429, 429, 200):
        now = max(now, control.next_turn(now)) + (pause if status == 200 else 0.0)
        control.take(now)
        control.give(now + 0.001)
        if status == 200:
            control.granted(now + 0.001, now, 1)
        else:
            control.refused(now + 0.001, now, 1, None)
    assert not control.held()
    assert hold == pytest.approx(control.expected, abs=0.03)
    assert (pause == 0) == (control.last_run < math.inf)
    assert control.tokens <= 1.0


@pytest.mark.parametrize("told", [no_header, whole_seconds, milliseconds])
@pytest.mark.parametrize(("count", "period"), [(24, 10.0), (30, 30.0), (48, 3.0), (20, 5.0)])
def test_small_windows_cost_few_requests(count: int, period: float, told: Told) -> None:
    """Ten windows: from the third one on, one or two requests are refused in each."""
    scenario = Scenario(name="", limit=partial(FixedWindow, count, period, told), calls=10 * count, workers=16)
    outcome = simulate(scenario)
    assert sum(at > 2 * period for at in outcome.refused) <= 0.12 * scenario.calls
    assert outcome.elapsed <= 1.2 * scenario.best() + scenario.latency
    assert [] == outcome.lost


@pytest.mark.parametrize("told", [no_header, whole_seconds])
def test_a_lone_caller_is_not_lost_in_a_long_window(told: Told) -> None:
    """One call at a time, and 20 in each minute: the same call is the probe again and again, 26 times."""
    limit = partial(FixedWindow, 20, 60, told)
    outcome = simulate(Scenario(name="", limit=limit, calls=30, workers=1))
    assert [] == outcome.lost
    assert 60 <= outcome.elapsed <= 75


def test_grants_that_are_answered_after_the_refusal_count() -> None:
    """342 in 2 s, answered after 220 ms: a hundred of the first window are answered when its end is known. The second
    window is not thought to be smaller.
    """
    limit = partial(FixedWindow, 342, 2)
    outcome = simulate(Scenario(name="", limit=limit, workers=100, latency=0.22, spread=0.5))
    assert outcome.elapsed <= 1.2 * 2.78 + 0.22


@pytest.mark.parametrize("seed", range(3))
def test_a_window_of_the_headers_is_not_overrun_at_its_start(seed: int) -> None:
    """29 in 30 s, and a hundred workers. After the reset, 29 are sent until a response says what remains."""
    limit = partial(FixedWindow, 29, 30, no_header, rate_headers=True)
    outcome = simulate(Scenario(name="", limit=limit, calls=200, workers=100, latency=0.1, spread=0.2), seed=seed)
    assert sum(at > 1 for at in outcome.refused) <= 2 * 6
    assert [] == outcome.lost


@pytest.mark.parametrize("seed", range(3))
def test_responses_in_another_order_are_no_sign_of_other_clients(seed: int) -> None:
    """86 in 0.5 s, answered after 100 to 300 ms: one client uses them all."""
    limit = partial(FixedWindow, 86, 0.5, milliseconds, rate_headers=True)
    scenario = Scenario(name="", limit=limit, latency=0.2, spread=0.5)
    outcome = simulate(scenario, seed=seed)
    assert outcome.elapsed <= 1.2 * scenario.best() + scenario.latency

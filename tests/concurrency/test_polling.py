"""Waiting by asking again: intervals, deadlines, delays that the server asks for, and thousands of waits at once."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import assert_type

import attrs
import pytest
from doubles import FakeClock
from hypothesis import given, settings, strategies as st

from evals_async._concurrency.fanout import Progress
from evals_async._concurrency.polling import Pace, poll_many, poll_until
from evals_async.errors import (
    ConnectFailed,
    InvalidArgument,
    NotFound,
    QuotaExceeded,
    RateLimited,
    ServerError,
    TlsError,
    WaitTimeout,
)


@attrs.frozen
class State:
    status: str
    ask_again: float | None = None


QUEUED, DONE = State("queued"), State("completed")


def is_done(state: State) -> bool:
    return state.status == "completed"


def others() -> set[asyncio.Task[object]]:
    """The tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


class Script:
    """A thing whose states, or failures, are told in advance, the last one for ever."""

    def __init__(self, *states: State | Exception) -> None:
        self.states = list(states)
        self.looks = 0

    async def __call__(self) -> State:
        self.looks += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


# --- one wait -----------------------------------------------------------------------------------------------------


async def test_what_is_done_is_returned_at_once() -> None:
    """The first look is made without a pause."""
    clock = FakeClock()
    state = await poll_until(Script(DONE), is_done, clock=clock)
    assert_type(state, State)
    assert (state, clock.slept) == (DONE, [])


async def test_intervals_grow_up_to_a_cap() -> None:
    """From one second by half as much again, to thirty seconds."""
    clock = FakeClock(draws=(0.5,))
    await poll_until(Script(*[QUEUED] * 12, DONE), is_done, clock=clock)
    assert [round(seconds, 2) for seconds in clock.slept] == [
        *(1, 1.5, 2.25, 3.38, 5.06, 7.59, 11.39, 17.09, 25.63),
        *(30, 30, 30),
    ]


@pytest.mark.parametrize(("draw", "pauses"), [(0.0, [1.5, 3.0]), (1.0, [2.5, 5.0])])
async def test_jitter_goes_both_ways(draw: float, pauses: list[float]) -> None:
    """An interval is off by up to `jitter` of itself, either way."""
    clock = FakeClock(draws=(draw,))
    await poll_until(Script(QUEUED, QUEUED, DONE), is_done, clock=clock, pace=Pace(start=2, factor=2, jitter=0.25))
    assert clock.slept == pauses


async def test_unknown_states_are_waited_out() -> None:
    """Only `done` ends a wait; each state is shown to `on_poll`."""
    seen: list[str] = []
    script = Script(QUEUED, State("thinking"), State("almost"), DONE)
    await poll_until(script, is_done, clock=FakeClock(), on_poll=lambda state: seen.append(state.status))
    assert seen == ["queued", "thinking", "almost", "completed"]


@pytest.mark.parametrize(("draw", "pause"), [(0.0, 7.0), (1.0, 7.7)])
async def test_delay_asked_for_with_a_state(draw: float, pause: float) -> None:
    """A delay that comes with a state goes before the own interval, and is never cut short by jitter."""
    clock = FakeClock(draws=(draw,))
    script = Script(State("queued", ask_again=7), DONE)
    await poll_until(script, is_done, clock=clock, delay_of=lambda state: state.ask_again)
    assert clock.slept == [pytest.approx(pause)]


async def test_delay_asked_for_with_an_error() -> None:
    """A throttle that names a delay is waited out for that long, and the wait goes on."""
    clock = FakeClock(draws=(0.0,))
    script = Script(RateLimited("slow down", status=429, retry_after=12), DONE)
    assert await poll_until(script, is_done, clock=clock) == DONE
    assert clock.slept == [12]


@pytest.mark.parametrize("error", [ServerError("down", status=503), ConnectFailed("refused")])
async def test_passing_trouble_is_waited_out(error: Exception) -> None:
    """A server or a network in trouble does not end a wait, five times in a row; a state resets the count."""
    script = Script(*[error] * 5, QUEUED, *[error] * 5, DONE)
    assert await poll_until(script, is_done, clock=FakeClock()) == DONE
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        await poll_until(script, is_done, clock=FakeClock())
    assert caught.value is error
    assert script.looks == 6


@pytest.mark.parametrize(
    "error",
    [NotFound("gone", status=404), QuotaExceeded("pay", status=429), TlsError("self-signed"), ValueError("bug")],
)
async def test_lasting_trouble_ends_a_wait(error: Exception) -> None:
    """An error that time does not cure is raised at the first look."""
    script = Script(error)
    with pytest.raises(type(error)):
        await poll_until(script, is_done, clock=FakeClock())
    assert script.looks == 1


@given(timeout=st.floats(0.001, 500), draw=st.floats(0, 1), start=st.floats(0.1, 20))
@settings(deadline=None)
def test_no_wait_passes_its_deadline(timeout: float, draw: float, start: float) -> None:
    """Whatever the pace, a wait in vain ends within its time, with the last state, and not before nine tenths of it."""
    clock = FakeClock(draws=(draw,))
    begin = clock.monotonic()

    async def main() -> WaitTimeout:
        with pytest.raises(WaitTimeout) as caught:
            await poll_until(Script(QUEUED), is_done, clock=clock, timeout=timeout, pace=Pace(start=start))
        return caught.value

    error = asyncio.run(main())
    assert error.last == QUEUED
    assert isinstance(error, TimeoutError)
    assert 0.89 * timeout <= clock.monotonic() - begin <= timeout + 1e-9


async def test_last_look_is_just_before_the_end() -> None:
    """What is done in the last interval is still seen."""
    clock = FakeClock()
    begin = clock.monotonic()

    async def fetch() -> State:
        return DONE if clock.monotonic() - begin > 8.5 else QUEUED

    assert await poll_until(fetch, is_done, clock=clock, timeout=10) == DONE
    assert clock.monotonic() - begin == 9


async def test_delay_beyond_the_deadline_is_not_slept() -> None:
    """When the server asks for more time than there is left, the wait ends at once; the error is the cause."""
    clock = FakeClock()
    throttled = RateLimited("slow down", status=429, retry_after=60)
    with pytest.raises(WaitTimeout, match="not done within 30 seconds") as caught:
        await poll_until(Script(throttled), is_done, clock=clock, timeout=30)
    assert clock.slept == []
    assert (caught.value.last, caught.value.__cause__) == (None, throttled)


async def test_deadline_covers_a_look_that_hangs() -> None:
    """A request that does not answer is cut off by the deadline; the last state is that of the look before."""
    looks = 0

    async def fetch() -> State:
        nonlocal looks
        looks += 1
        if looks > 1:
            await asyncio.Event().wait()
        return QUEUED

    with pytest.raises(WaitTimeout) as caught:
        await poll_until(fetch, is_done, timeout=0.02, pace=Pace(start=0.001))
    assert caught.value.last == QUEUED
    assert others() == set()


async def test_timeout_of_the_request_is_not_the_deadline() -> None:
    """A TimeoutError that comes from the request is raised as it is, not as the end of the wait."""
    with pytest.raises(TimeoutError, match="mine") as caught:
        await poll_until(Script(TimeoutError("mine")), is_done, clock=FakeClock(), timeout=60)
    assert not isinstance(caught.value, WaitTimeout)


async def test_cancelled_wait_ends_at_once() -> None:
    """A wait that sleeps for minutes can be cancelled."""
    task = asyncio.create_task(poll_until(Script(QUEUED), is_done, pace=Pace(start=100, cap=100)))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_none_is_a_state() -> None:
    """A state may be `None`, and is returned as it came."""

    async def fetch() -> None:
        return None

    assert await poll_until(fetch, lambda _: True) is None  # type: ignore[func-returns-value]  # that is the point


@pytest.mark.parametrize(
    "pace",
    [
        lambda: Pace(start=0),
        lambda: Pace(factor=0.9),
        lambda: Pace(cap=0),
        lambda: Pace(jitter=1),
        lambda: Pace(max_failures=-1),
    ],
)
def test_senseless_paces_are_refused(pace: Callable[[], Pace]) -> None:
    """A pace that would stand still, run backwards or never rest is refused."""
    with pytest.raises(InvalidArgument, match="start and cap"):
        pace()


async def test_negative_timeout_is_refused() -> None:
    """Time that is up before it began is a mistake of the caller."""
    with pytest.raises(InvalidArgument, match="negative"):
        await poll_until(Script(DONE), is_done, timeout=-1)


# --- many waits ---------------------------------------------------------------------------------------------------


class Farm:
    """Things that are done after as many seconds as their number says; counts how many are looked at at once."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.begin = clock.monotonic()
        self.running = self.most = 0
        self.looks: dict[int, list[float]] = {}

    async def __call__(self, key: int) -> State:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        now = self.clock.monotonic() - self.begin
        self.looks.setdefault(key, []).append(now)
        return DONE if now >= key else QUEUED


async def test_many_waits_end_as_they_are_done() -> None:
    """Each wait is reported once it is done, the earlier ones first, whatever the order they were given in."""
    farm = Farm(FakeClock())
    keys = [60, 1, 20, 5, 20]
    stream = poll_many(farm, is_done, keys, clock=farm.clock)
    outcomes = [outcome async for outcome in stream]
    assert [outcome.key for outcome in outcomes] == [1, 5, 20, 20, 60]
    assert {outcome.value for outcome in outcomes} == {DONE}
    assert others() == set()


async def test_thousands_of_waits_share_the_pacing() -> None:
    """Of 3,000 waits at most `concurrency` are looked at at once, each at growing intervals, and none is lost."""
    farm = Farm(FakeClock(draws=(0.5,)))
    stream = poll_many(farm, is_done, range(3000), clock=farm.clock, pace=Pace(cap=200), concurrency=16)
    assert sorted([outcome.key async for outcome in stream]) == list(range(3000))
    assert farm.most == 16
    looks = farm.looks[2999]
    gaps = [late - early for early, late in itertools.pairwise(looks)]
    assert gaps[:4] == [pytest.approx(gap, abs=1.0) for gap in (1, 1.5, 2.25, 3.38)]
    assert max(gaps) <= 201


async def test_each_wait_fails_alone() -> None:
    """A wait that fails or is late is an outcome with its error and last state; the others are not touched."""

    async def fetch(key: str) -> State:
        if key == "gone":
            raise NotFound("no such run", status=404)
        return DONE if key == "good" else QUEUED

    clock = FakeClock()
    outcomes = {o.key: o async for o in poll_many(fetch, is_done, ["late", "gone", "good"], clock=clock, timeout=40)}
    assert outcomes["good"].unwrap() == DONE
    assert type(outcomes["gone"].error) is NotFound
    late = outcomes["late"].error
    assert isinstance(late, WaitTimeout)
    assert late.last == QUEUED
    assert clock.monotonic() <= 1_040


async def test_progress_of_many_waits() -> None:
    """The listener gets one report per wait that ended."""
    farm = Farm(FakeClock())
    events: list[Progress] = []
    _ = [o async for o in poll_many(farm, is_done, [1, 3], clock=farm.clock, on_progress=events.append)]
    assert events == [Progress(2, 1, 0, 2), Progress(2, 2, 0, 2)]


async def test_no_waits() -> None:
    """Nothing to wait for, nothing to report."""
    nothing: list[int] = []
    assert [o async for o in poll_many(Farm(FakeClock()), is_done, nothing)] == []


async def test_leaving_early_ends_all_waits() -> None:
    """Leaving the loop, with most waits asleep, leaves no task behind."""

    async def fetch(key: int) -> State:
        return DONE if key == 3 else QUEUED

    async with poll_many(fetch, is_done, range(100), concurrency=4) as stream:
        assert (await anext(stream)).key == 3
    assert others() == set()


async def test_look_that_resists_is_the_last() -> None:
    """A look that swallows its cancellation is not followed by another."""
    looked: list[int] = []

    async def fetch(key: int) -> State:
        looked.append(key)
        if key:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        return DONE

    async with poll_many(fetch, is_done, range(100), concurrency=2) as stream:
        assert (await anext(stream)).key == 0
        await asyncio.sleep(0)
    assert looked == [0, 1, 2]
    assert others() == set()


async def test_a_shorter_wait_is_not_held_up_by_a_longer_one() -> None:
    """One that was put back for a second is looked at before one that sleeps for a minute."""
    clock = FakeClock(draws=(0.0,))
    begin = clock.monotonic()
    looked: Iterator[float] = iter((60.0, 60.0))

    async def fetch(key: str) -> State:
        await asyncio.sleep(0)
        if key == "slow":
            return State("queued", ask_again=next(looked)) if clock.monotonic() - begin < 60 else DONE
        return DONE if clock.monotonic() - begin >= 2 else QUEUED

    stream = poll_many(fetch, is_done, ["slow", "fast"], clock=clock, delay_of=lambda s: s.ask_again, concurrency=1)
    assert (await anext(stream)).key == "fast"
    assert clock.monotonic() - begin < 5
    assert [outcome.key async for outcome in stream] == ["slow"]

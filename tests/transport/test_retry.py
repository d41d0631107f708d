"""Whether and when a call tries again: the pauses with known dice, and what each failure means for each kind."""

import asyncio
import itertools
from typing import Any, get_args

import attrs
import pytest
from doubles import FakeClock

from evals_async._transport import Budget, Kind, RetryPolicy, Timeouts
from evals_async._transport.retry import AT_LIMIT, RETRIES, Failure, RetryState, failure_of, retrying
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    ConfigurationError,
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    DecodeError,
    NotFound,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseMismatch,
    ResponseTruncated,
    ServerError,
    TlsError,
    UnexpectedRedirect,
)


POLICY = RetryPolicy()
KINDS: tuple[Kind, ...] = get_args(Kind)


def retries(
    policy: RetryPolicy = POLICY,
    kind: Kind = "read",
    *,
    draw: float = 1.0,
    end: float = 1e9,
    budget: float = 1e6,
) -> RetryState:
    return RetryState(attrs.evolve(policy, budget=budget), kind, FakeClock(draws=(draw,)), Budget(), end)


def wait_after(state: RetryState, error: RequestError, **facts: Any) -> float | None:
    """Seconds until the next attempt, or `None` for none."""
    return state.wait if state.may_retry(error, **facts) and not state.exhausted() else None


def pauses(state: RetryState, error: RequestError, count: int) -> list[float | None]:
    return [wait_after(state, error) for _ in range(count)]


def test_the_pauses_double_up_to_the_cap() -> None:
    """0.25 s doubled, 8 s at most, when the dice give all of it."""
    expected = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, None]
    assert expected == pauses(retries(RetryPolicy(attempts=11)), ServerError("", status=500), 11)


def test_the_pauses_are_full_jitter() -> None:
    """The dice choose from the whole of it, nothing included."""
    policy = RetryPolicy(attempts=4)
    assert [0.125, 0.25, 0.5] == pauses(retries(policy, draw=0.5), ServerError("", status=500), 3)
    assert [0.0, 0.0, 0.0] == pauses(retries(policy, draw=0.0), ServerError("", status=500), 3)


def test_the_pauses_after_a_429_begin_at_a_second() -> None:
    """1 s doubled, 30 s at most, for as many rounds as the policy allows."""
    expected = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None]
    assert expected == pauses(retries(RetryPolicy(throttle_rounds=7)), RateLimited("", status=429), 8)


@pytest.mark.parametrize(
    ("asked", "draw", "wait"), [(4.0, 0.0, 4.0), (0.4, 1.0, 0.5), (40.0, 1.0, 40.25), (60.0, 0.0, 60.0)]
)
def test_a_delay_of_the_server_is_kept(asked: float, draw: float, wait: float) -> None:
    """Never earlier, and later by a quarter of it or of a second at most."""
    assert wait == wait_after(retries(draw=draw), RateLimited("", status=429, retry_after=asked))


@pytest.mark.parametrize("error", [RateLimited("", status=429, retry_after=4.0), RateLimited("", status=429)])
def test_without_a_delay_of_its_own_a_request_waits_for_the_limiter_only(error: RateLimited) -> None:
    """At first. Then it waits as long as the server asks, so that it sends few test requests."""
    state = RetryState(
        POLICY, "read", FakeClock(draws=(0.0,)), Budget(), 1e9, limited=True, adaptive=True, own_delay=False
    )
    assert [0.0] * AT_LIMIT + [error.retry_after or 0.0] * 2 == pauses(state, error, AT_LIMIT + 2)


def test_without_an_adaptive_limiter_every_request_has_a_delay_of_its_own() -> None:
    """Nothing else would hold it back. It also has one after a failure that is no refusal."""
    clock, error = FakeClock(draws=(0.0,)), RateLimited("", status=429, retry_after=4.0)
    assert wait_after(RetryState(POLICY, "read", clock, Budget(), 1e9, own_delay=False), error) == 4.0
    given = RetryState(POLICY, "read", clock, Budget(), 1e9, limited=True, own_delay=False)  # it may not slow down
    assert wait_after(given, error) == 4.0
    limited = RetryState(POLICY, "read", clock, Budget(), 1e9, limited=True, adaptive=True, own_delay=False)
    assert wait_after(limited, ServerError("", status=500, retry_after=4.0)) == 4.0


def test_a_delay_above_the_policys_is_not_waited_for() -> None:
    """And the note tells both numbers."""
    strict = retries()
    assert wait_after(strict, RateLimited("", status=429, retry_after=61.0)) is None
    assert strict.note == "the server asks to wait 61 s; the client waits at most 60 s"
    assert 61.0 == wait_after(
        retries(RetryPolicy(max_server_delay=900), draw=0.0), RateLimited("", status=429, retry_after=61.0)
    )


def test_a_pause_that_ends_too_late_is_not_begun() -> None:
    """An attempt must have 0.2 s at least before the end of the call."""
    error = RateLimited("", status=429, retry_after=4.0)
    assert wait_after(retries(draw=0.0, end=1004.2), error) == 4.0
    late = retries(draw=0.0, end=1004.1)
    assert wait_after(late, error) is None
    assert "too late for the call" in (late.note or "")


def failing(failure: Failure) -> RequestError:
    return {
        "unsent": ConnectFailed(""),
        "unknown_host": ConnectFailed("", unknown_host=True),
        "throttled": RateLimited("", status=429),
        "unavailable": ServerError("", status=500),
        "lost": ConnectionDropped(""),
        "timed_out": DeadlineExceeded(""),
        "unreadable": DecodeError(""),
        "unclear": BodyTooLarge(""),
        "final": NotFound("", status=404),
    }[failure]


@pytest.mark.parametrize(("retry_after", "rounds"), [(None, 1.0), (3.0, 3.0)])
def test_tests_of_the_limiter_are_no_rounds(retry_after: float | None, rounds: float) -> None:
    """A limiter sends a waiting call to test the limit. 429s within the delay (without one, of a second) count once."""
    clock = FakeClock(draws=(1.0,))
    state = RetryState(RetryPolicy(throttle_rounds=2), "read", clock, Budget(), 1e9, limited=True, adaptive=True)
    error = RateLimited("", status=429, retry_after=retry_after)
    for _ in range(2):
        assert all(state.may_retry(error) for _ in range(30))
        clock.now += rounds
    assert not state.may_retry(error)
    assert state.note == "told 3 times to slow down"


def test_without_a_limiter_each_429_is_a_round() -> None:
    """Then the call itself decides when it is sent again."""
    state = retries(RetryPolicy(throttle_rounds=2))
    assert [True, True, False] == [state.may_retry(RateLimited("", status=429)) for _ in range(3)]


@pytest.mark.parametrize(("failure", "kind"), list(itertools.product(get_args(Failure), KINDS)))
def test_the_table(failure: Failure, kind: Kind) -> None:
    """As many retries as the table says, within the attempts; and whether the request may have been carried out."""
    policy = RetryPolicy(attempts=5, throttle_rounds=4)
    judge = retries(policy, kind)
    made = sum(wait is not None for wait in pauses(judge, failing(failure), 6))
    assert min(RETRIES[failure][kind], 4) == made
    doubtful = failure in ("unavailable", "lost", "timed_out", "unreadable", "unclear")
    assert judge.ambiguous == (doubtful and kind != "read")


@pytest.mark.parametrize(
    ("error", "sent", "failure"),
    [
        (TlsError(""), False, "final"),
        (QuotaExceeded("", status=429), True, "final"),
        (ApiError("", status=413), True, "final"),
        (ServerError("", status=501), True, "final"),
        (ServerError("", status=507), True, "unclear"),
        (ServerError("", status=503), True, "unavailable"),
        (ServerError("", status=503, retry_after=1.0), True, "throttled"),
        (ServerError("", status=500, retry_after=1.0), True, "unavailable"),
        (ConnectionDropped(""), False, "unsent"),
        (ResponseTruncated(""), True, "lost"),
        (ProtocolError(""), True, "lost"),
        (DeadlineExceeded(""), False, "final"),
        (ResponseMismatch(""), True, "unreadable"),
        (UnexpectedRedirect(""), True, "final"),
        (RequestError(""), True, "final"),
    ],
    ids=lambda value: str(value),
)
def test_what_a_failure_says(error: RequestError, sent: bool, failure: Failure) -> None:
    """Each error is one row of the table."""
    assert failure == failure_of(error, sent=sent)


def test_one_more_attempt_after_one_that_timed_out() -> None:
    """Whatever comes then, but a 429."""
    slow = retries(RetryPolicy(attempts=9))
    assert wait_after(slow, DeadlineExceeded("")) is not None
    assert wait_after(slow, RateLimited("", status=429)) is not None
    assert wait_after(slow, ServerError("", status=500)) is None
    assert slow.note == "tried once more after an attempt that timed out"


def test_doubt_stays() -> None:
    """What may have been carried out once may have been, however the later attempts fail."""
    judge = retries(kind="update")
    wait_after(judge, ServerError("", status=500))
    wait_after(judge, ConnectFailed(""))
    assert judge.ambiguous


@pytest.mark.parametrize("kind", KINDS)
def test_what_x_should_retry_can_and_cannot(kind: Kind) -> None:
    """`false` always ends; `true` opens what the table closes, but never for a create or a quota."""
    assert wait_after(retries(kind=kind), ServerError("", status=503), should_retry="false") is None
    opened = wait_after(retries(kind=kind), ApiError("", status=400), should_retry="true") is not None
    assert opened == (kind != "create")
    assert wait_after(retries(kind=kind), QuotaExceeded("", status=429), should_retry="true") is None
    assert (
        wait_after(retries(kind=kind), ServerError("", status=500), should_retry="true") is not None or kind == "create"
    )


def test_a_stale_connection_and_new_credentials_are_free_and_once() -> None:
    """They cost no attempt and no budget, and work where retries are off."""
    judge = retries(RetryPolicy(attempts=1), budget=0.0)
    assert 0.0 == wait_after(judge, ConnectionDropped(""), stale=True)
    assert wait_after(judge, ConnectionDropped(""), stale=True) is None
    assert 0.0 == wait_after(judge, ApiError("", status=401), renewed=True)
    assert wait_after(judge, ApiError("", status=401), renewed=True) is None
    assert wait_after(retries(RetryPolicy(attempts=1), "create"), ConnectionDropped(""), stale=True) is None


def test_the_budget_is_never_overdrawn_and_never_overfull() -> None:
    """Taken as a whole or not at all; each call's policy says how much there is."""
    budget = Budget()
    assert [True, False, True] == [budget.take(14.0, 20.0), budget.take(14.0, 20.0), budget.take(14.0, 28.0)]
    budget.give(100.0)
    assert 0.0 == budget.spent
    poor = retries(budget=13.0)
    assert wait_after(poor, ServerError("", status=500)) is None
    assert "budget" in (poor.note or "")
    assert wait_after(retries(budget=0.0), RateLimited("", status=429)) is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(attempts=-1),
        lambda: RetryPolicy(base=-1.0),
        lambda: RetryPolicy(cap=float("inf")),
        lambda: RetryPolicy(max_server_delay=float("nan")),
        lambda: RetryPolicy(attempts=2.5),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: RetryPolicy(attempts="3"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: RetryPolicy(base="1"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: RetryPolicy(cap=None),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: RetryPolicy(budget=True),
        lambda: RetryPolicy(throttle_rounds=-1),
        lambda: RetryPolicy(throttle_rounds=1.5),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: Timeouts(total=0.0),
        lambda: Timeouts(total="60"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested
        lambda: Timeouts(attempt=True),
        lambda: Timeouts(attempt=-1.0),
        lambda: Timeouts(connect=float("nan")),
    ],
)
def test_numbers_that_cannot_be(make: object) -> None:
    """Refused when they are given."""
    assert callable(make)
    with pytest.raises(ConfigurationError):
        make()


async def test_tenacity_is_given_one_object_per_call() -> None:
    """A hundred calls at once, each failing twice more, get each their own result, and every pause."""
    clock = FakeClock()
    told: list[RequestError] = []

    async def call(number: int) -> int:
        failures = [ServerError("third", status=500), ServerError("second", status=500)]

        async def attempt() -> int:
            await asyncio.sleep(0)
            if failures:
                raise failures.pop()
            return number

        state = retries(RetryPolicy(attempts=9))
        state.may_retry(ServerError("first", status=500))
        result: int = await retrying(state, state.may_retry, told.append, clock.sleep)(attempt)
        return result

    assert list(range(100)) == await asyncio.gather(*(call(number) for number in range(100)))
    assert sorted([0.5] * 100 + [1.0] * 100) == sorted(clock.slept)
    assert ["second"] * 100 + ["third"] * 100 == sorted(error.message for error in told)


def ignore(error: RequestError) -> None:
    """Nobody listens."""


@pytest.mark.parametrize(("attempts", "end"), [(2, 1e9), (9, 0.0)])
async def test_the_last_failure_is_raised_as_it_is(attempts: int, end: float) -> None:
    """No RetryError, no cause, no context: whether the policy or the time of the call ends it."""
    last = ServerError("last", status=500)

    async def attempt() -> int:
        raise last

    state = retries(RetryPolicy(attempts=attempts), end=end)
    state.may_retry(ServerError("first", status=500))
    with pytest.raises(ServerError) as caught:
        await retrying(state, state.may_retry, ignore, FakeClock().sleep)(attempt)
    assert last is caught.value
    assert (None, None) == (last.__cause__, last.__context__)
    assert state.note is not None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("ours"), KeyboardInterrupt()])
async def test_only_failed_requests_are_retried(error: BaseException) -> None:
    """Cancellation and other people's exceptions go through at once."""

    async def attempt() -> int:
        raise error

    state = retries()
    with pytest.raises(type(error)) as caught:
        await retrying(state, state.may_retry, ignore, FakeClock().sleep)(attempt)
    assert error is caught.value

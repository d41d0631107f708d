"""Many calls at once against a server that is dead, limited or hurt: the budget, the gate, the pace. In process."""

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Mapping

import pytest
from doubles import FakeClock, ScaledClock, reply_of
from transport.harness import KEY, POLICY, assert_plain, body_of, request

from evals_async._clock import Clock, Deadline
from evals_async._transport import (
    AdaptiveLimiter,
    Allowance,
    Pipeline,
    RateLimits,
    Request,
    Response,
    RetryPolicy,
    StaticKey,
    Timeouts,
    Transport,
)
from evals_async.errors import ConnectFailed, DeadlineExceeded, EvalsError, RateLimited, ServerError


Serve = Callable[[], Response]
LONG = Timeouts(total=1000.0, attempt=60.0)


def reply(status: int = 200, **headers: str) -> Response:
    return reply_of(b"{}", status=status, headers=[(k.replace("_", "-"), v) for k, v in headers.items()])


class ServerInProcess(Transport):
    """A transport whose server is a function; it answers after `latency` seconds of its clock."""

    def __init__(self, serve: Serve, clock: Clock, *, latency: float = 0.02, connections: int = 100) -> None:
        super().__init__("http://localhost", clock=clock, connections=connections)
        self.serve = serve
        self.latency = latency
        self.sent: list[float] = []
        self.under_way = 0
        self.most_under_way = 0

    def check(self) -> object:  # type: ignore[override]  # there is no session to give
        return None

    async def send(self, request: Request, headers: Mapping[str, str], query: object = (), **more: object) -> Response:
        self.sent.append(self.clock.monotonic())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.serve()
            await self.clock.sleep(self.latency)
        finally:
            self.under_way -= 1
        return answer


async def outcomes(pipeline: Pipeline, count: int, policy: RetryPolicy = POLICY) -> list[object]:
    """What becomes of that many calls at once."""
    calls: list[Awaitable[bytes]] = [
        pipeline.send(request(), body_of, timeouts=LONG, policy=policy) for _ in range(count)
    ]
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_dead_server_is_not_stormed() -> None:
    """L02: 200 calls send 200 requests and what the budget pays for, 35 more."""
    clock = ScaledClock(100.0)
    server = ServerInProcess(lambda: reply(503), clock)
    ended = await outcomes(Pipeline(server, StaticKey(KEY), clock=clock), 200)
    assert {ServerError} == {type(error) for error in ended}
    assert 200 + 500 // 14 == len(server.sent)
    noted = [error for error in ended if isinstance(error, ServerError) and "budget" in str(error)]
    assert 165 <= len(noted)
    assert_plain(noted[0])


async def test_successes_fill_the_budget_again() -> None:
    """A success gives one unit back, a success by a retry what the retry cost."""
    clock = ScaledClock(100.0)
    answers = [reply(503), reply(), reply()]
    server = ServerInProcess(lambda: answers.pop(0), clock, latency=0.0)
    pipeline = Pipeline(server, StaticKey(KEY), clock=clock)
    pipeline.budget.take(100.0, 500.0)
    await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    assert 100.0 == pipeline.budget.spent
    await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    assert 99.0 == pipeline.budget.spent


def limited_to(clock: Clock, per_second: int, **refusal: str) -> Serve:
    """A server with a limit for each second of its clock; a refusal has those headers, by default none."""
    seconds: dict[int, int] = {}

    def serve() -> Response:
        second = int(clock.monotonic())
        seconds[second] = seconds.get(second, 0) + 1
        return reply() if seconds[second] <= per_second else reply(429, **refusal)

    return serve


def refilled_at(clock: Clock, per_second: int, **refusal: str) -> Serve:
    """A server with a bucket of a second's tokens, which are refilled all the time."""
    tokens, filled = float(per_second), clock.monotonic()

    def serve() -> Response:
        nonlocal tokens, filled
        now = clock.monotonic()
        tokens, filled = min(per_second, tokens + (now - filled) * per_second), now
        if tokens < 1:
            return reply(429, **refusal)
        tokens -= 1
        return reply()

    return serve


class LeapingSelector(selectors.SelectSelector):
    """Where a loop would wait for its next timer, this moves the time there."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for any number of sleepers, in which sleep takes no real time."""

    def __init__(self) -> None:
        self.leaping = LeapingSelector()
        super().__init__(self.leaping)

    def time(self) -> float:
        return self.leaping.now


class VirtualClock:
    """The time of a `VirtualLoop`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time
        self.random = random.Random(0).random

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def loop_seconds(self, seconds: float, /) -> float:
        return seconds


def seconds_of(job: Callable[[Clock], Awaitable[None]]) -> float:
    """How long a job takes in virtual time."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        began = loop.time()
        await job(VirtualClock(loop))
        return loop.time() - began

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


async def workers(count: int, call: Callable[[], Awaitable[None]], calls: int) -> None:
    """That many calls, that many at a time."""
    turns = iter(range(calls))

    async def work() -> None:
        for _ in turns:
            await call()

    await asyncio.gather(*(work() for _ in range(count)))


async def test_a_limited_server_loses_no_call() -> None:
    """L03: 1,000 calls against 200 a second: none lost, 1,150 requests at most, twice the ideal time at most."""
    clock = ScaledClock(4.0)
    server = ServerInProcess(limited_to(clock, 200), clock)
    pipeline = Pipeline(server, StaticKey(KEY), clock=clock)
    began = clock.monotonic()
    ended = await outcomes(pipeline, 1000)
    assert [b"{}"] * 1000 == ended
    assert len(server.sent) <= 1150
    assert clock.monotonic() - began <= 10.0
    assert server.most_under_way <= 100
    assert len(server.sent) == pipeline.statistics().requests
    assert len(server.sent) - 1000 == pipeline.statistics().throttles == pipeline.statistics().retries


def test_a_limited_server_with_a_long_delay_is_used_well() -> None:
    """1,000 calls, 100 at a time, against 50 a second and `Retry-After: 5`: 20 s at best, 30 s at most."""

    async def job(clock: Clock) -> None:
        server = ServerInProcess(limited_to(clock, 50, retry_after="5"), clock)
        pipeline = Pipeline(server, StaticKey(KEY), clock=clock)

        async def call() -> None:
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=LONG, policy=POLICY)

        await workers(100, call, 1000)
        assert len(server.sent) <= 1100

    assert 20.0 <= seconds_of(job) <= 30.0


async def quick(dice: random.Random, status: int) -> None:
    await asyncio.sleep(0.02)


async def slow(dice: random.Random, status: int) -> None:
    await asyncio.sleep(0.3 + 0.3 * dice.random())


async def refusing_late(dice: random.Random, status: int) -> None:
    await asyncio.sleep(0.02 if status < 400 else 3.0 * dice.random())


@pytest.mark.parametrize("latency", [quick, slow, refusing_late])
@pytest.mark.parametrize("limit", [limited_to, refilled_at])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_limited_server_is_used_well_however_it_answers(
    limit: Callable[..., Serve], latency: Callable[[random.Random, int], Awaitable[None]], seed: int
) -> None:
    """However it counts, and if refusals of one burst come up to 3 s late, the job is done in 1.5 times the ideal."""

    async def job(clock: Clock) -> None:
        gate, serve, dice = (
            AdaptiveLimiter(slots=100, clock=clock),
            limit(clock, 50, retry_after="5"),
            random.Random(seed),
        )

        async def call() -> None:
            status = 0
            while status != 200:
                if not gate.try_acquire(gate.clock.monotonic()):
                    await gate.acquire(float("inf"))
                began = clock.monotonic()
                answer = serve()
                await latency(dice, answer.status)
                gate.release()
                gate.observe(answer, began)
                status = answer.status
                await clock.sleep(0.0 if status == 200 else 5.0 + 1.25 * dice.random())

        await workers(100, call, 1000)

    assert 20.0 <= seconds_of(job) <= 30.0


async def test_a_wave_of_429_comes_back_spread_out() -> None:
    """L04: 200 calls, each told once to wait a second: none early, none lost, and not all together."""
    clock = ScaledClock(20.0)
    answers = [reply(429, retry_after="1")] * 200
    server = ServerInProcess(lambda: answers.pop() if answers else reply(), clock, connections=200)
    began = clock.monotonic()
    assert [b"{}"] * 200 == await outcomes(Pipeline(server, StaticKey(KEY), clock=clock), 200)
    assert 400 == len(server.sent)
    assert server.sent[200] - began >= 1.0
    assert server.sent[-1] - server.sent[200] >= 0.2


async def test_a_429_holds_everyone() -> None:
    """While one call waits for the rate limit, a call that comes new waits with it."""
    clock = ScaledClock(20.0)
    answers = [reply(429, retry_after="2")]
    server = ServerInProcess(lambda: answers.pop() if answers else reply(), clock, latency=0.0)
    pipeline = Pipeline(server, StaticKey(KEY), clock=clock)
    first = asyncio.create_task(pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy()))
    await asyncio.sleep(0.01)
    assert 1.0 < pipeline.statistics().held_for <= 2.0
    await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    await first
    assert server.sent[1] - server.sent[0] >= 2.0


async def test_a_turn_that_cannot_come_in_time_is_refused_at_once() -> None:
    """A call whose deadline comes before the end of the pause does not wait for it, and sends nothing."""
    clock = ScaledClock(1.0)
    server = ServerInProcess(lambda: reply(429, retry_after="30"), clock, latency=0.0)
    pipeline = Pipeline(server, StaticKey(KEY), clock=clock)
    short = Timeouts(total=5.0)
    with pytest.raises(RateLimited):
        await pipeline.send(request(), body_of, timeouts=short, policy=RetryPolicy())
    with pytest.raises(DeadlineExceeded, match="holds requests back") as caught:
        await pipeline.send(request("create"), body_of, timeouts=short, policy=RetryPolicy())
    assert (0, False) == (caught.value.attempts, caught.value.maybe_executed)
    assert clock.monotonic() < 0.5
    assert 1 == len(server.sent)
    assert_plain(caught.value)
    assert pipeline.limiter.free == pipeline.limiter.slots


async def test_who_cannot_wait_takes_nobodys_turn() -> None:
    """Refused callers do not push the turns of the others back."""
    clock = FakeClock()
    gate = AdaptiveLimiter(slots=2, clock=clock)
    gate.observe(reply(429, retry_after="2"))
    for _ in range(50):
        with pytest.raises(DeadlineExceeded):
            await gate.acquire(clock.now + 1.0)
    await gate.acquire(clock.now + 10.0)
    assert 2.0 <= clock.slept[-1] <= 2.05


async def test_all_slots_taken_until_the_deadline() -> None:
    """A call that gets no slot in its time was not sent."""
    clock = ScaledClock(20.0)
    server = ServerInProcess(reply, clock, latency=60.0, connections=1)
    pipeline = Pipeline(server, StaticKey(KEY), clock=clock)
    first = asyncio.create_task(pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="all 1 connections were busy") as caught:
        await pipeline.send(request("create"), body_of, timeouts=Timeouts(total=1.0), policy=RetryPolicy())
    assert (0, False) == (caught.value.attempts, caught.value.maybe_executed)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert 1 == pipeline.limiter.free


async def test_a_slot_goes_to_who_has_waited_longest() -> None:
    """The queue at the gate is fair, and a slot that a cancelled waiter was just given is passed on."""
    gate = AdaptiveLimiter(slots=1, clock=ScaledClock(1.0))
    assert gate.try_acquire(gate.clock.monotonic())
    order: list[int] = []

    async def one(number: int) -> None:
        await gate.acquire(float("inf"))
        order.append(number)

    waiters = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    gate.release()
    waiters[0].cancel()  # its slot has come in the same turn of the loop
    await asyncio.sleep(0.001)
    gate.release()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert [1, 2] == order


def test_the_gate_lets_through_without_awaiting() -> None:
    """The usual case needs no coroutine."""
    gate = AdaptiveLimiter(slots=2, clock=FakeClock())
    assert [True, True, False] == [
        gate.try_acquire(gate.clock.monotonic()),
        gate.try_acquire(gate.clock.monotonic()),
        gate.try_acquire(gate.clock.monotonic()),
    ]
    gate.release()
    assert gate.try_acquire(gate.clock.monotonic())


def test_the_pace_is_cut_once_a_second_grows_by_a_tenth_and_ends_after_a_minute() -> None:
    """0.9 of what succeeded lately, a cut a second, 0.1 a success, off after 60 s without a 429."""
    clock = FakeClock()
    gate = AdaptiveLimiter(slots=100, clock=clock)

    def rate() -> float | None:
        return gate.statistics(retries=0, bytes_received=0).rate

    for _ in range(100):
        gate.observe(reply())
    assert rate() is None
    gate.observe(reply(429))
    assert rate() == pytest.approx(90.0)
    gate.observe(reply(429))
    assert rate() == pytest.approx(90.0)
    clock.now += 1.5
    gate.observe(reply())
    assert rate() == pytest.approx(90.1)
    clock.now += 59.0
    gate.observe(reply())
    assert rate() is None


def rate_of(gate: AdaptiveLimiter) -> float | None:
    return gate.statistics(retries=0, bytes_received=0).rate


def held_by(gate: AdaptiveLimiter) -> float:
    return gate.statistics(retries=0, bytes_received=0).held_for


def throttled(clock: FakeClock, *, successes: int = 100, delay: str = "5") -> AdaptiveLimiter:
    """A gate that has just heard of a limit of so many a second."""
    gate = AdaptiveLimiter(slots=100, clock=clock)
    for _ in range(successes):
        gate.observe(reply(), clock.now)
    gate.observe(reply(429, retry_after=delay), clock.now)
    return gate


def test_a_late_429_to_what_was_sent_before_a_cut_holds_and_counts_but_cuts_nothing() -> None:
    """However late: within the hold it prolongs it, after the hold it begins another; the pace stays."""
    clock = FakeClock()
    gate = throttled(clock)
    sent = clock.now
    for seconds, after in enumerate((3.0, 4.0, 20.0), 2):
        clock.now = sent + after
        gate.observe(reply(429, retry_after="5"), sent)
        assert (seconds, 5.0) == (gate.throttles, held_by(gate))
        assert rate_of(gate) == pytest.approx(90.0)
    clock.now += 6.0
    gate.observe(reply(429, retry_after="5"), clock.now - 0.5)
    assert rate_of(gate) == pytest.approx(40.5)


def test_late_successes_were_granted_before_the_cut() -> None:
    """A refusal that overtakes the successes of its burst does not make the pace that of the few that were quicker."""
    clock = FakeClock()
    gate = throttled(clock, successes=3)
    sent = clock.now
    assert rate_of(gate) == pytest.approx(2.7)
    for _ in range(47):
        clock.now += 0.01
        gate.observe(reply(), sent)
    assert rate_of(gate) == pytest.approx(45.0)


def test_what_succeeded_is_not_measured_over_a_hold() -> None:
    """After a hold of 1.5 s, 30 successes in 0.9 s are 30 a second, not the few of the time around the hold."""
    clock = FakeClock()
    gate = throttled(clock, successes=40, delay="1.5")
    clock.now += 0.1
    gate.observe(reply(), clock.now - 0.2)  # a late one, so that what is counted began before the hold ended
    clock.now += 1.4
    for _ in range(30):
        clock.now += 0.03
        gate.observe(reply(), clock.now - 0.01)
    gate.observe(reply(429), clock.now - 0.01)
    assert rate_of(gate) == pytest.approx(27.0)


def test_a_429_just_after_a_hold_takes_about_half_of_the_pace() -> None:
    """Nothing was measured yet, and nothing is no measure."""
    clock = FakeClock()
    gate = throttled(clock)
    clock.now += 5.1
    gate.observe(reply(429, retry_after="5"), clock.now - 0.05)
    assert rate_of(gate) == pytest.approx(0.9 * 90.0 / 2)


def test_short_holds_do_not_make_cuts_more_frequent() -> None:
    """Refusals of requests that were sent after a cut, but within a second of it, hold and do not cut."""
    clock = FakeClock()
    gate = throttled(clock, delay="0.1")
    for after, rate in ((0.3, 90.0), (0.9, 90.0), (1.1, 81.0)):
        clock.now = 1_000.0 + after
        gate.observe(reply(429, retry_after="0.1"), clock.now - 0.1)
        assert rate_of(gate) == pytest.approx(rate)


def test_the_pace_is_never_raised_by_a_cut() -> None:
    """Even if more succeeded lately than the pace allows, because answers came together."""
    clock = FakeClock()
    gate = throttled(clock, successes=10)
    clock.now += 6.0
    for _ in range(30):
        gate.observe(reply(), clock.now - 0.1)
    assert rate_of(gate) == pytest.approx(9.6)
    gate.observe(reply(429), clock.now - 0.1)
    assert rate_of(gate) == pytest.approx(0.9 * 9.6)


@pytest.mark.parametrize(("delay", "steady"), [("1", 5.0), ("5", 25.0), ("60", 60.0)])
def test_the_pace_stays_below_what_was_granted_for_five_times_the_hold(delay: str, steady: float) -> None:
    """A minute at most; then it grows on, for the limit may have."""
    clock = FakeClock()
    gate = throttled(clock, delay=delay)
    for at in (float(delay) + 0.1, float(delay) + steady - 0.1):
        clock.now = 1_000.0 + at
        for _ in range(100):
            gate.observe(reply(), clock.now - 0.01)
        assert rate_of(gate) == pytest.approx(95.0, abs=0.11)
    clock.now += 0.1
    gate.observe(reply(), clock.now - 0.01)
    assert rate_of(gate) == pytest.approx(95.0 + 0.1, abs=0.11)
    clock.now = 1_000.0 + max(60.0, float(delay) + steady) + 0.1
    gate.observe(reply(), clock.now - 0.01)
    assert rate_of(gate) is None


def test_a_short_hold_does_not_end_the_steady_time_of_a_longer_one() -> None:
    """After `Retry-After: 5` and a late 429 without a delay the pace still waits for 25 s."""
    clock = FakeClock()
    gate = throttled(clock)
    clock.now += 1.0
    gate.observe(reply(429), 1_000.0)
    clock.now = 1_029.0
    for _ in range(100):
        gate.observe(reply(), clock.now - 0.01)
    assert rate_of(gate) == pytest.approx(95.0, abs=0.11)


def test_where_nothing_is_known_to_be_granted_the_pace_grows_at_once() -> None:
    """A first request that is refused says nothing of how many would not be."""
    clock = FakeClock()
    gate = throttled(clock, successes=0)
    clock.now += 6.0
    for _ in range(10):
        gate.observe(reply(), clock.now - 0.1)
    assert rate_of(gate) == pytest.approx(2.0)


@pytest.mark.parametrize(("asked", "allowed", "held"), [("200", 300.0, 200.0), ("200", 60.0, 60.0), ("200", 0.0, 0.0)])
async def test_a_429_holds_the_others_as_long_as_its_call_would_wait(asked: str, allowed: float, held: float) -> None:
    """With `max_server_delay=300`, `Retry-After: 200` holds everyone for 200 s: nobody asks again too early."""
    clock = FakeClock()
    gate = AdaptiveLimiter(slots=1, clock=clock)
    gate.observe(reply(429, retry_after=asked), clock.now, allowed)
    assert held == held_by(gate)
    await gate.acquire(float("inf"))
    assert held <= clock.now - 1_000.0 <= held + 0.05


def test_a_spent_allowance_holds_as_long_as_its_call_would_wait() -> None:
    """A reset in six minutes is waited for where the policy waits for it."""
    gate = AdaptiveLimiter(slots=1, clock=FakeClock())
    headers = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}
    gate.observe(reply(200, **headers), max_hold=900.0)
    assert 360.0 == held_by(gate)


def test_without_any_success_the_pace_is_half_of_what_was_sent() -> None:
    """And one request a second at the least."""
    clock = FakeClock()
    gate = AdaptiveLimiter(slots=100, clock=clock)
    for _ in range(40):
        assert gate.try_acquire(gate.clock.monotonic())
    gate.observe(reply(429))
    assert gate.statistics(retries=0, bytes_received=0).rate == pytest.approx(20.0)
    lone = AdaptiveLimiter(slots=1, clock=clock)
    lone.observe(reply(429))
    assert 1.0 == lone.statistics(retries=0, bytes_received=0).rate


def test_a_known_limit_bounds_the_pace() -> None:
    """`x-ratelimit-limit-requests` is per minute."""
    clock = FakeClock()
    gate = AdaptiveLimiter(slots=100, clock=clock)
    for _ in range(100):
        gate.observe(reply(x_ratelimit_limit_requests="600"))
    gate.observe(reply(429))
    standing = gate.statistics(retries=0, bytes_received=0)
    assert standing.rate == pytest.approx(10.0)
    assert RateLimits(Allowance(600)) == standing.limits


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2s"}, 2.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 60.0),
        ({"x_ratelimit_remaining_requests": "1", "x_ratelimit_reset_requests": "2s"}, 0.0),
        ({"retry_after": "5"}, 0.0),
    ],
)
def test_a_success_that_was_the_last_one_allowed_closes_the_gate(headers: dict[str, str], held: float) -> None:
    """Until the reset, or for a minute; S13: Retry-After on a success means nothing."""
    gate = AdaptiveLimiter(slots=1, clock=FakeClock())
    gate.observe(reply(200, **headers))
    assert held == gate.statistics(retries=0, bytes_received=0).held_for
    assert gate.try_acquire(gate.clock.monotonic()) == (held == 0.0)


async def test_credentials_are_asked_for_anew_on_each_attempt_and_their_failure_is_theirs() -> None:
    """What a provider raises comes through as it is, a TimeoutError too, and frees the slot."""

    class Failing(StaticKey):
        async def headers(self) -> Mapping[str, str]:
            raise TimeoutError("the identity service is slow")

    clock = ScaledClock(10.0)
    pipeline = Pipeline(ServerInProcess(reply, clock), Failing(KEY), clock=clock)
    with pytest.raises(TimeoutError, match="identity service") as caught:
        await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    assert not isinstance(caught.value, EvalsError)
    assert pipeline.limiter.free == pipeline.limiter.slots


async def test_hooks_see_each_attempt() -> None:
    """on_request and on_response once per attempt, on_retry once per pause, with what failed."""
    seen: list[object] = []
    clock = ScaledClock(100.0)
    answers = [reply(503), reply()]
    pipeline = Pipeline(
        ServerInProcess(lambda: answers.pop(0), clock),
        StaticKey(KEY),
        clock=clock,
        on_request=lambda request: seen.append(request.route),
        on_response=lambda request, reply, seconds: seen.append((reply.status, seconds > 0)),
        on_retry=lambda request, error, wait: seen.append((type(error), 0 <= wait <= 0.25)),
    )
    await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    route = "/evals/{eval_id}"
    assert [route, (503, True), (ServerError, True), route, (200, True)] == seen


async def test_a_call_that_was_never_sent_can_be_sent_again() -> None:
    """ConnectFailed is retried for a create; here the transport says so itself."""
    clock = ScaledClock(100.0)

    def serve() -> Response:
        raise ConnectFailed("refused")

    server = ServerInProcess(serve, clock)
    with pytest.raises(ConnectFailed) as caught:
        await Pipeline(server, StaticKey(KEY), clock=clock).send(
            request("create"), body_of, timeouts=LONG, policy=RetryPolicy()
        )
    assert (3, 3) == (caught.value.attempts, len(server.sent))


def test_a_delay_that_the_policy_allows_holds_the_calls_that_come_meanwhile() -> None:
    """With `max_server_delay=300` and `Retry-After: 200` nobody asks earlier, and everyone is answered."""

    async def job(clock: Clock) -> None:
        answers = [reply(429, retry_after="200")]
        server = ServerInProcess(lambda: answers.pop() if answers else reply(), clock)
        pipeline = Pipeline(server, StaticKey(KEY), clock=clock)

        async def call(after: float) -> None:
            await clock.sleep(after)
            policy = RetryPolicy(max_server_delay=300.0)
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=LONG, policy=policy)

        began = clock.monotonic()
        await asyncio.gather(call(0.0), call(1.0), call(100.0))
        assert 4 == len(server.sent)
        assert server.sent[1] - began >= 200.0

    assert 200.0 <= seconds_of(job) <= 210.0

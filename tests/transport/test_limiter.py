"""Many calls at once against a server that is dead, limited or hurt: the budget, the limiter, the queue. In process."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from doubles import FakeClock, ScaledClock, reply_of
from simulation import seconds_of
from transport.harness import KEY, POLICY, assert_plain, body_of, request

from evals_async._clock import SYSTEM_CLOCK, Clock, alarm_of
from evals_async._transport import (
    AdaptiveLimiter,
    Allowance,
    Auth,
    Pipeline,
    RateLimits,
    Request,
    Response,
    RetryPolicy,
    StaticKey,
    Timeouts,
    Transport,
)
from evals_async._transport.rate_control import RateControl
from evals_async._transport.slots import Slots
from evals_async._transport.state import CallState
from evals_async.errors import (
    ConfigurationError,
    ConnectFailed,
    DeadlineExceeded,
    EvalsError,
    RateLimited,
    RequestError,
    ServerError,
    WrongLoop,
)


Serve = Callable[[], Response]
LONG = Timeouts(total=1000.0, attempt=60.0)


def response(status: int = 200, **headers: str) -> Response:
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
        self.pool.alarm = alarm_of(asyncio.get_running_loop())
        return None

    async def send(self, call: CallState[Any], headers: Mapping[str, str]) -> Response:
        self.sent.append(self.clock.monotonic())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.serve()
            await self.clock.sleep(self.latency)
        finally:
            self.under_way -= 1
        return answer


def piped(
    server: "ServerInProcess",
    auth: Auth | None = None,
    *,
    on_request: Callable[[Request], None] | None = None,
    on_response: Callable[[Request, Response, float], None] | None = None,
    on_retry: Callable[[Request, RequestError, float], None] | None = None,
) -> Pipeline:
    """A pipeline as a client has it."""
    return Pipeline(
        server,
        auth or StaticKey(KEY),
        clock=server.clock,
        limiter=AdaptiveLimiter(max_in_flight=server.connections, clock=server.clock),
        on_request=on_request,
        on_response=on_response,
        on_retry=on_retry,
    )


async def outcomes(pipeline: Pipeline, count: int, policy: RetryPolicy = POLICY) -> list[object]:
    """What becomes of that many calls at once."""
    calls: list[Awaitable[bytes]] = [
        pipeline.send(request(), body_of, timeouts=LONG, policy=policy) for _ in range(count)
    ]
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_dead_server_is_not_stormed() -> None:
    """L02: 200 calls send 200 requests and what the budget pays for, 35 more."""
    clock = ScaledClock(100.0)
    server = ServerInProcess(lambda: response(503), clock)
    ended = await outcomes(piped(server), 200)
    assert {ServerError} == {type(error) for error in ended}
    assert 200 + 500 // 14 == len(server.sent)
    noted = [error for error in ended if isinstance(error, ServerError) and "budget" in str(error)]
    assert 165 <= len(noted)
    assert_plain(noted[0])


async def test_successes_fill_the_budget_again() -> None:
    """A success gives one unit back, a success by a retry what the retry cost."""
    clock = ScaledClock(100.0)
    answers = [response(503), response(), response()]
    server = ServerInProcess(lambda: answers.pop(0), clock, latency=0.0)
    pipeline = piped(server)
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
        return response() if seconds[second] <= per_second else response(429, **refusal)

    return serve


def refilled_at(clock: Clock, per_second: int, **refusal: str) -> Serve:
    """A server with a bucket of a second's tokens, which are refilled all the time."""
    tokens, filled = float(per_second), clock.monotonic()

    def serve() -> Response:
        nonlocal tokens, filled
        now = clock.monotonic()
        tokens, filled = min(per_second, tokens + (now - filled) * per_second), now
        if tokens < 1:
            return response(429, **refusal)
        tokens -= 1
        return response()

    return serve


async def workers(count: int, call: Callable[[], Awaitable[None]], calls: int) -> None:
    """That many calls, that many at a time."""
    turns = iter(range(calls))

    async def work() -> None:
        for _ in turns:
            await call()

    await asyncio.gather(*(work() for _ in range(count)))


def test_a_limited_server_loses_no_call() -> None:
    """L03: 1,000 calls against 200 a second: none lost, 1,150 requests at most, 1.2 times the ideal time at most."""

    async def job(clock: Clock) -> None:
        server = ServerInProcess(limited_to(clock, 200), clock)
        pipeline = piped(server)
        assert [b"{}"] * 1000 == await outcomes(pipeline, 1000)
        assert len(server.sent) <= 1150
        assert server.most_under_way <= 100
        standing = pipeline.statistics()
        assert len(server.sent) == standing.requests
        assert len(server.sent) - 1000 == standing.throttles == standing.retries

    assert 4.0 <= seconds_of(job) <= 1.2 * 4.04 + 0.02


def test_a_limited_server_with_a_long_delay_is_used_well() -> None:
    """1,000 calls, 100 at a time, against 50 a second and `Retry-After: 5`: 20 s at best, 30 s at most."""

    async def job(clock: Clock) -> None:
        server = ServerInProcess(limited_to(clock, 50, retry_after="5"), clock)
        pipeline = piped(server)

        async def call() -> None:
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=LONG, policy=POLICY)

        await workers(100, call, 1000)
        assert len(server.sent) <= 1300

    assert 20.0 <= seconds_of(job) <= 30.0


async def test_a_wave_of_429_comes_back_spread_out() -> None:
    """L04: 200 calls, each told once to wait a second: none early, none lost, and not all together."""
    clock = ScaledClock(20.0)
    answers = [response(429, retry_after="1")] * 200
    server = ServerInProcess(lambda: answers.pop() if answers else response(), clock, connections=200)
    began = clock.monotonic()
    assert [b"{}"] * 200 == await outcomes(piped(server), 200)
    assert 400 == len(server.sent)
    assert server.sent[200] - began >= 1.0
    assert server.sent[-1] - server.sent[200] >= 0.2


def test_a_429_holds_everyone_but_one_probe() -> None:
    """A refused call waits as long as it was told; of those that come meanwhile, one at a time finds out how it is."""

    async def job(clock: Clock) -> None:
        answers = [response(429, retry_after="2"), response(429, retry_after="2")]
        server = ServerInProcess(lambda: answers.pop() if answers else response(), clock, latency=0.0)
        pipeline = piped(server)

        async def call() -> None:
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=LONG, policy=POLICY)

        first = asyncio.create_task(call())
        await asyncio.sleep(0.001)
        standing = pipeline.statistics()
        assert 0.009 == pytest.approx(standing.held_for, abs=0.001)
        assert 1 == standing.throttles
        assert ("unknown", None) == (standing.rate_source, standing.rate)
        await asyncio.gather(first, *(call() for _ in range(9)))
        after = [at - server.sent[0] for at in server.sent]
        assert 0.01 == pytest.approx(after[1], abs=0.001)  # the first probe, which is refused
        assert 0.023 == pytest.approx(after[2], abs=0.001)  # the second, which is not: then all others, but the refused
        assert [10, 0, 2] == [sum(low <= at < high for at in after) for low, high in ((0, 0.2), (0.2, 2), (2, 2.4))]

    assert 2.0 <= seconds_of(job) <= 2.4


async def test_a_turn_that_cannot_come_in_time_is_refused_at_once() -> None:
    """After one probe was refused, a call whose deadline comes before the end of the hold fails, and sends nothing."""
    clock = ScaledClock(1.0)
    server = ServerInProcess(lambda: response(429, retry_after="30"), clock, latency=0.0)
    pipeline = piped(server)
    short = Timeouts(total=5.0)
    for _ in range(2):  # the second is the probe: a single refusal may be all that the server wanted to refuse
        with pytest.raises(RateLimited):
            await pipeline.send(request(), body_of, timeouts=short, policy=RetryPolicy())
    with pytest.raises(DeadlineExceeded, match="delays requests for") as caught:
        await pipeline.send(request("create"), body_of, timeouts=short, policy=RetryPolicy())
    assert (0, False) == (caught.value.attempts, caught.value.maybe_executed)
    assert clock.monotonic() < 0.5
    assert 2 == len(server.sent)
    assert_plain(caught.value)
    assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_who_cannot_wait_takes_nobodys_turn() -> None:
    """Refused callers do not push the turns of the others back, and are told how long the limit holds them."""

    async def job(clock: Clock) -> None:
        limiter = AdaptiveLimiter(max_in_flight=2, clock=clock)
        await refuse_twice(limiter, clock, retry_after="2")
        for _ in range(50):
            with pytest.raises(DeadlineExceeded, match=r"delays requests for 1.99 s, too long for this call"):
                await limiter.acquire(clock.monotonic() + 1.0)
        assert 1 == await limiter.acquire(clock.monotonic() + 10.0)

    assert 0.02 <= await asyncio.to_thread(seconds_of, job) <= 0.03


def refuse(limiter: AdaptiveLimiter, clock: Clock, **headers: str) -> None:
    """Let the limiter see a request that is refused."""
    assert 1 == limiter.try_acquire(clock.monotonic())
    sent = clock.monotonic()
    limiter.release()
    limiter.observe(response(429, **headers), sent_at=sent, among=1)


async def refuse_twice(limiter: AdaptiveLimiter, clock: Clock, **headers: str) -> None:
    """Let the limiter see a refused request, and a probe that is refused too: the delay is true."""
    refuse(limiter, clock, **headers)
    assert 1 == await limiter.acquire(clock.monotonic() + 1000.0)
    sent = clock.monotonic()
    limiter.release()
    limiter.observe(response(429, **headers), sent_at=sent, among=1)


async def test_those_who_wait_already_are_told_at_once() -> None:
    """A call that waits in the queue fails when a refusal makes its turn impossible, not at its deadline."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_in_flight=1, clock=clock)
    await refuse_twice(limiter, clock, retry_after="30")
    clock.now += 5.0
    sent = clock.monotonic()
    assert 1 == limiter.try_acquire(sent)
    short = asyncio.create_task(limiter.acquire(clock.monotonic() + 20.0))
    long = asyncio.create_task(limiter.acquire(clock.monotonic() + 60.0))
    await asyncio.sleep(0)
    limiter.release()
    limiter.observe(response(429, retry_after="30"), sent_at=sent)
    with pytest.raises(DeadlineExceeded, match="25 s"):
        await asyncio.wait_for(short, 0.5)
    assert 1 == await asyncio.wait_for(long, 1.0)  # the probe


async def test_all_slots_taken_until_the_deadline() -> None:
    """A call that gets no slot in its time was not sent."""
    clock = ScaledClock(20.0)
    server = ServerInProcess(response, clock, latency=60.0, connections=1)
    pipeline = piped(server)
    first = asyncio.create_task(pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="all 1 connections were busy") as caught:
        await pipeline.send(request("create"), body_of, timeouts=Timeouts(total=1.0), policy=RetryPolicy())
    assert (0, False) == (caught.value.attempts, caught.value.maybe_executed)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_a_turn_goes_to_who_has_waited_longest() -> None:
    """The queue is fair, and a turn that a cancelled call was just given is passed on."""
    clock = ScaledClock(1.0)
    limiter = AdaptiveLimiter(max_in_flight=1, clock=clock)
    assert limiter.try_acquire(clock.monotonic())
    order: list[int] = []

    async def one(number: int) -> None:
        await limiter.acquire(float("inf"))
        order.append(number)

    waiters = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    limiter.release()
    waiters[0].cancel()  # its turn has come in the same round of the loop
    await asyncio.sleep(0.001)
    limiter.release()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert [1, 2] == order


async def test_a_slot_goes_to_who_has_waited_longest() -> None:
    """So do the connections'."""
    slots = Slots(1, ScaledClock(1.0))
    assert slots.try_acquire()
    order: list[int] = []

    async def one(number: int) -> None:
        await slots.acquire(float("inf"))
        order.append(number)

    waiters = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    slots.release()
    waiters[0].cancel()
    await asyncio.sleep(0.001)
    slots.release()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert ([1, 2], 1, 0) == (order, slots.taken, slots.waiting)


async def cancelled(acquire: Callable[[float], Awaitable[object]], count: int) -> float:
    """The processor's seconds to cancel that many waiting calls, the last one first."""
    calls = [asyncio.ensure_future(acquire(math.inf)) for _ in range(count)]
    await asyncio.sleep(0)
    began = time.process_time()
    for call in reversed(calls):
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    return time.process_time() - began


@pytest.mark.measures_time
@pytest.mark.parametrize("kind", ["limiter", "slots"])
async def test_many_calls_that_wait_are_cancelled_in_linear_time(kind: str) -> None:
    """Eight times as many calls cost about eight times as much, not 64 times as much."""
    limiter, slots = AdaptiveLimiter(max_in_flight=1), Slots(1, SYSTEM_CLOCK)
    assert (1, True) == (limiter.try_acquire(SYSTEM_CLOCK.monotonic()), slots.try_acquire())
    acquire = limiter.acquire if kind == "limiter" else slots.acquire
    few, many = await cancelled(acquire, 2_500), await cancelled(acquire, 20_000)
    assert many < 24 * few


async def test_a_limiter_waits_by_its_clock() -> None:
    """With a test's clock, neither a hold nor the delay of a refused call takes real time."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(clock=clock)
    refuse(limiter, clock, retry_after="40")
    assert 1 == await limiter.acquire(clock.now + 100)  # the first probe
    await limiter.pause(40.0)
    assert [pytest.approx(0.01), 40.0] == clock.slept


def test_a_limiter_goes_on_in_the_next_event_loop() -> None:
    """What was learned stays. A call that a closed loop left waiting holds nobody up."""
    limiter = AdaptiveLimiter(max_in_flight=1)

    async def one(calls: int) -> list[int]:
        now = SYSTEM_CLOCK.monotonic()
        waiting = [asyncio.ensure_future(limiter.acquire(now + 60.0)) for _ in range(calls)]
        await asyncio.sleep(0)
        done = [task.result() for task in waiting if task.done()]
        for _ in done:
            limiter.release()
        return done

    def leave() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(one(3))
        loop.close()  # with two calls that wait

    leave()
    assert [1] == asyncio.run(one(1))
    assert [1] == asyncio.run(one(1))


async def test_a_limiter_is_used_in_one_event_loop_at_a_time() -> None:
    """In a second loop, in another thread, a call that has to wait fails clearly, and does not wait for ever."""
    limiter = AdaptiveLimiter(max_in_flight=1)
    assert 1 == await limiter.acquire(SYSTEM_CLOCK.monotonic() + 60.0)

    async def elsewhere() -> None:
        with pytest.raises(WrongLoop, match="one limiter per loop"):
            await limiter.acquire(SYSTEM_CLOCK.monotonic() + 60.0)
        with pytest.raises(WrongLoop):
            await limiter.pause(60.0)

    await asyncio.to_thread(asyncio.run, elsewhere())


def test_a_request_is_always_allowed_in_the_end() -> None:
    """A single request that is refused at a confirmed ceiling of one never makes the ceiling zero."""
    control, now = RateControl(8, 0.0), 0.0
    for among in (1, 2, *[1] * 17):
        now = max(now, control.next_turn(now)) + 0.001
        control.take(now, waited=True)
        control.give(now + 0.001)
        if among == 2:
            control.refused(now + 0.001, now, among, None)
        else:
            control.granted(now + 0.001, now, among)
    assert control.proven
    for _ in range(10):
        now = max(now, control.next_turn(now)) + 0.002
        assert now < math.inf
        control.take(now, waited=True)
        control.give(now + 0.001)
        control.refused(now + 0.001, now, 1, None)


def test_a_turn_without_waiting() -> None:
    """The usual case needs no coroutine, and says how many are under way."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_in_flight=2, clock=clock)
    assert [1, 2, 0] == [limiter.try_acquire(clock.monotonic()) for _ in range(3)]
    limiter.release()
    assert 2 == limiter.try_acquire(clock.monotonic())


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2s"}, 2.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 60.0),
        ({"x_ratelimit_remaining_requests": "1", "x_ratelimit_reset_requests": "2s"}, 0.0),
        ({"retry_after": "5"}, 0.0),
    ],
)
def test_a_success_that_was_the_last_one_allowed_holds_everyone(headers: dict[str, str], held: float) -> None:
    """Until the reset, or for a minute; S13: Retry-After on a success means nothing."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_in_flight=5, clock=clock)
    assert 1 == limiter.try_acquire(clock.monotonic())
    limiter.release()
    limiter.observe(response(200, **headers), sent_at=clock.now)
    standing = limiter.statistics(requests=0, retries=0, throttles=0, bytes_received=0)
    assert held == pytest.approx(standing.held_for)
    assert ("told" if "retry_after" not in headers else "unknown") == standing.rate_source
    assert limiter.try_acquire(clock.monotonic()) == (held == 0.0)
    if not held:
        limiter.release()
    clock.now += held
    assert limiter.try_acquire(clock.monotonic())


def test_no_more_are_sent_than_remain() -> None:
    """With three left in the window and two under way, one more may go."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_in_flight=5, clock=clock)
    sent = clock.now
    assert [1, 2, 3] == [limiter.try_acquire(clock.monotonic()) for _ in range(3)]
    limiter.release()
    limiter.observe(
        response(x_ratelimit_limit_requests="9", x_ratelimit_remaining_requests="3", x_ratelimit_reset_requests="1s"),
        sent_at=sent,
    )
    assert [3, 0] == [limiter.try_acquire(clock.monotonic()) for _ in range(2)]
    limits = limiter.statistics(requests=0, retries=0, throttles=0, bytes_received=0).limits
    assert RateLimits(Allowance(9, 3, 1.0)) == limits


@pytest.mark.parametrize(("asked", "allowed", "held"), [("200", 300.0, 200.0), ("200", 60.0, 60.0)])
async def test_a_429_holds_the_others_as_long_as_its_call_would_wait(asked: str, allowed: float, held: float) -> None:
    """With `max_server_delay=300`, `Retry-After: 200` is told to who would have to wait longer than it can."""
    clock = FakeClock()
    limiter = AdaptiveLimiter(max_in_flight=1, clock=clock)
    for _ in range(2):
        assert await limiter.acquire(clock.now + 1000.0)
        limiter.release()
        limiter.observe(response(429, retry_after=asked), sent_at=clock.now, max_hold=allowed)
    with pytest.raises(DeadlineExceeded, match=f"{held:g} s"):
        await limiter.acquire(clock.now + held - 1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_rate": 0},
        {"start_rate": -1.0},
        {"max_in_flight": 0},
        {"max_in_flight": True},
        {"max_rate": float("nan")},
        {"max_rate": "5"},
    ],
)
def test_rates_that_cannot_be(options: dict[str, Any]) -> None:
    """Zero, negative values and what is not a number are refused when the limiter is made."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        AdaptiveLimiter(**options)


async def test_credentials_are_asked_for_anew_on_each_attempt_and_their_failure_is_theirs() -> None:
    """What a provider raises comes through as it is, a TimeoutError too, and frees the slot."""

    class Failing(StaticKey):
        async def headers(self) -> Mapping[str, str]:
            raise TimeoutError("the identity service is slow")

    clock = ScaledClock(10.0)
    pipeline = piped(ServerInProcess(response, clock), Failing(KEY))
    with pytest.raises(TimeoutError, match="identity service") as caught:
        await pipeline.send(request(), body_of, timeouts=LONG, policy=RetryPolicy())
    assert not isinstance(caught.value, EvalsError)
    assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_hooks_see_each_attempt() -> None:
    """on_request and on_response once per attempt, on_retry once per pause, with what failed."""
    seen: list[object] = []
    clock = ScaledClock(100.0)
    answers = [response(503), response()]
    pipeline = piped(
        ServerInProcess(lambda: answers.pop(0), clock),
        on_request=lambda request: seen.append(request.route),
        on_response=lambda request, response, seconds: seen.append((response.status, seconds > 0)),
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
        await piped(server).send(request("create"), body_of, timeouts=LONG, policy=RetryPolicy())
    assert (3, 3) == (caught.value.attempts, len(server.sent))


def test_a_refused_call_waits_as_long_as_its_policy_allows() -> None:
    """With `max_server_delay=300` and `Retry-After: 200` it asks after 200 s; calls that come meanwhile are probes."""

    async def job(clock: Clock) -> None:
        answers = [response(429, retry_after="200")]
        server = ServerInProcess(lambda: answers.pop() if answers else response(), clock)
        pipeline = piped(server)

        async def call(after: float) -> None:
            await clock.sleep(after)
            policy = RetryPolicy(max_server_delay=300.0)
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=LONG, policy=policy)

        began = clock.monotonic()
        await asyncio.gather(call(0.0), call(1.0), call(100.0))
        assert [0, 1, 100, 200] == [int(at - began) for at in server.sent]

    assert 200.0 <= seconds_of(job) <= 201.0


@pytest.mark.parametrize("number", [0.5, 2.5])
def test_a_number_of_requests_at_once_is_whole(number: float) -> None:
    """A part of a request is our own error, not a `TypeError` from inside."""
    at_once: Any = number
    with pytest.raises(ConfigurationError, match="max_in_flight must be a whole number"):
        AdaptiveLimiter(max_in_flight=at_once)


def test_a_refused_call_waits_until_the_earliest_end_of_the_hold() -> None:
    """Told to wait 2 s, and after a second again 2 s: delays are rounded up, so the first one is more exact."""

    async def job(clock: Clock) -> None:
        limiter = AdaptiveLimiter(clock=clock)
        began = clock.monotonic()
        for _ in range(3):  # the third one is the probe that confirms the hold
            assert limiter.try_acquire(clock.monotonic()) or await limiter.acquire(math.inf)
            sent = clock.monotonic()
            limiter.release()
            limiter.observe(response(429, retry_after="2"), sent_at=sent, among=1, max_hold=60.0)
            await clock.sleep(0.5)
        await limiter.pause(2.0)
        assert 2.0 <= clock.monotonic() - began <= 2.3

    seconds_of(job)

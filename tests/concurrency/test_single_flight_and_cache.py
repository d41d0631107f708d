"""One answer for many: single flight and the bounded cache."""

import asyncio
import contextvars
import gc
import pickle
import traceback
import weakref
from collections.abc import Callable
from typing import assert_type

import pytest
from hypothesis import given, strategies as st

from evals_async._concurrency.cache import Cache, LRUCache
from evals_async._concurrency.single_flight import SingleFlight
from evals_async.errors import InvalidArgument, NotFound


def others() -> set[asyncio.Task[object]]:
    """The tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def turns(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


class Caller:
    """A call that runs until it is let go, and counts."""

    def __init__(self, error: Callable[[], BaseException] | None = None) -> None:
        self.begun = self.cancelled = 0
        self.go = asyncio.Event()
        self.error = error

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error()
        return f"answer {self.begun}"


# --- single flight ------------------------------------------------------------------------------------------------


async def test_a_failure_waits_for_no_collection() -> None:
    """The errors of those who wait, and all that their frames hold, are gone with the last who looks at them."""
    flights, call = SingleFlight(), Caller(lambda: NotFound("No such run.", status=404))
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(3)]
    await turns()
    gc.collect()
    gc.disable()
    try:
        call.go.set()
        errors = [weakref.ref(error) for error in await asyncio.gather(*waiters, return_exceptions=True) if error]
        del waiters
        await turns()
        assert [None] * 3 == [error() for error in errors]
    finally:
        gc.enable()


async def test_many_waiters_share_one_call() -> None:
    """A hundred concurrent calls with one key are one call; another key is another call."""
    flights, call, other = SingleFlight(), Caller(), Caller()
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(100)]
    stranger = asyncio.create_task(flights.run("run_2", other))
    await turns()
    call.go.set()
    other.go.set()
    assert set(await asyncio.gather(*waiters)) == {"answer 1"}
    assert await stranger == "answer 1"
    assert (call.begun, other.begun) == (1, 1)


async def test_nothing_is_remembered() -> None:
    """One call after the other is two calls."""
    flights, call = SingleFlight(), Caller()
    call.go.set()
    answer = await flights.run("run_1", call)
    assert_type(answer, str)
    assert (answer, await flights.run("run_1", call)) == ("answer 1", "answer 2")


@pytest.mark.parametrize("doomed", [0, 1])
async def test_cancelled_waiter_does_not_hurt_the_others(doomed: int) -> None:
    """One of two who wait is cancelled, and the other gets an answer: of the one call, or where it was made by the one
    who is gone, of a second one that the other makes.
    """
    flights, call = SingleFlight(), Caller()
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(2)]
    await turns()
    waiters[doomed].cancel()
    await turns()
    assert waiters[doomed].cancelled()
    call.go.set()
    assert await waiters[1 - doomed] == ("answer 2" if doomed == 0 else "answer 1")
    assert (call.begun, call.cancelled) == ((2, 1) if doomed == 0 else (1, 0))


async def test_the_turn_goes_on_until_somebody_takes_it() -> None:
    """Of those who wait the first still there makes the call anew; one that leaves with the turn passes it on."""
    flights, call = SingleFlight(), Caller()
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(5)]
    await turns()
    waiters[1].cancel()
    waiters[0].cancel()
    await turns(1)  # the turn is with the third, which has not noticed
    waiters[2].cancel()
    await turns()
    call.go.set()
    assert await asyncio.gather(*waiters[3:]) == ["answer 2"] * 2
    assert (call.begun, call.cancelled) == (2, 1)
    assert all(waiter.cancelled() for waiter in waiters[:3])


async def test_waiter_cancelled_while_the_call_lands() -> None:
    """A waiter that is cancelled in the very turn in which the call ends is cancelled; the other gets the answer."""
    flights = SingleFlight()
    go = asyncio.Event()

    async def call() -> str:
        await go.wait()
        asyncio.get_running_loop().call_soon(waiters[1].cancel)
        return "answer"

    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(2)]
    await turns()
    go.set()
    assert await waiters[0] == "answer"
    await asyncio.wait(waiters)
    assert waiters[1].cancelled()


async def test_call_ends_with_its_last_waiter() -> None:
    """When the last one leaves the call is cancelled, and is gone when he is; the next to ask calls anew."""
    flights, call = SingleFlight(), Caller()
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(2)]
    await turns()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert (call.begun, call.cancelled) == (1, 1)
    assert others() == set()
    call.go.set()
    assert await flights.run("run_1", call) == "answer 2"


async def test_who_asks_while_a_call_is_being_cancelled_calls_anew() -> None:
    """A call that was given up is shared with nobody, also while it takes its time to end."""
    flights = SingleFlight()
    begun: list[int] = []
    ended: list[int] = []

    async def slow_to_end() -> int:
        begun.append(len(begun))
        if len(begun) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                await turns(10)
                ended.append(0)
        return begun[-1]

    first = asyncio.create_task(flights.run("run_1", slow_to_end))
    await turns()
    first.cancel()
    await turns()
    assert await flights.run("run_1", slow_to_end) == 1
    assert ended == []
    await asyncio.wait([first])
    assert first.cancelled()
    assert ended == [0]


async def test_who_leads_anew_takes_along_those_who_wait() -> None:
    """Those who wait for a call that was given up need not wait for its end: they get what the next one to ask gets."""
    flights, call, wait = SingleFlight(), Caller(), asyncio.Event()

    async def never_ends() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await wait.wait()
        return "never"

    first = asyncio.create_task(flights.run("run_1", never_ends))
    waiter = asyncio.create_task(flights.run("run_1", call))
    await turns()
    first.cancel()
    await turns()
    later = asyncio.create_task(flights.run("run_1", call))
    await turns()
    call.go.set()
    assert ("answer 1", "answer 1") == (await waiter, await later)
    assert not first.done()
    wait.set()
    await asyncio.wait([first])
    assert first.cancelled()
    assert "answer 2" == await flights.run("run_1", call)


async def test_who_asks_when_a_call_has_just_failed_calls_anew() -> None:
    """A failure is not given to those who ask after it; they share a call of their own."""
    flights, call = SingleFlight(), Caller()
    later: list[asyncio.Task[str]] = []

    def ask() -> None:
        later.append(asyncio.create_task(flights.run("run_1", call)))

    async def failing() -> str:
        asyncio.get_running_loop().call_soon(ask)
        raise NotFound("no such run", status=404)

    with pytest.raises(NotFound):
        await flights.run("run_1", failing)
    ask()
    await turns()
    call.go.set()
    assert await asyncio.gather(*later) == ["answer 1", "answer 1"]


async def test_failure_reaches_all_and_is_forgotten() -> None:
    """All who wait get the failure; who asks afterwards gets a new call."""
    flights, call = SingleFlight(), Caller(lambda: NotFound("no such run", status=404))
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(3)]
    await turns()
    call.go.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [(type(result), str(result)) for result in results] == [(NotFound, "404 NotFound: no such run")] * 3
    call.error = None
    assert await flights.run("run_1", call) == "answer 2"


async def test_each_waiter_has_an_error_of_his_own() -> None:
    """Notes and tracebacks of one waiter's error do not show up in another's; the cause and the origin are in all."""
    flights = SingleFlight()
    go = asyncio.Event()

    async def call() -> str:
        await go.wait()
        try:
            raise OSError("reset")
        except OSError as cause:
            error = NotFound("no such run", status=404)
            error.add_note("from the call")
            raise error from cause

    async def waiter(name: str) -> NotFound:
        try:
            await flights.run("run_1", call)
        except NotFound as error:
            error.add_note(name)
            return error
        raise AssertionError("no error came")

    tasks = [asyncio.create_task(waiter(name)) for name in ("a", "b", "c")]
    await turns()
    go.set()
    errors = await asyncio.gather(*tasks)
    assert len({id(error) for error in errors}) == 3
    assert [error.__notes__ for error in errors] == [["from the call", name] for name in "abc"]
    for error in errors:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames.count("waiter") == 1
        assert frames[-1] == "call"
        assert isinstance(error.__cause__, OSError)
        assert pickle.loads(pickle.dumps(error)).status == 404


class Stubborn(Exception):
    """An exception that cannot be copied."""

    def __copy__(self) -> "Stubborn":
        raise TypeError("not me")


class Chameleon(Exception):
    """An exception whose copy is something else."""

    def __copy__(self) -> Exception:
        return ValueError("another")


@pytest.mark.parametrize("kind", [Stubborn, Chameleon])
async def test_error_that_cannot_be_copied_is_shared(kind: type[Exception]) -> None:
    """An exception that has no faithful copy is given to everyone as it is."""
    flights, call = SingleFlight(), Caller(kind)
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(2)]
    await turns()
    call.go.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert results[0] is results[1]
    assert type(results[0]) is kind


async def test_cancellation_inside_the_call_reaches_the_waiters() -> None:
    """A call that ends as cancelled from within ends its waiters the same way, and is forgotten."""
    flights, call = SingleFlight(), Caller(asyncio.CancelledError)
    waiters = [asyncio.create_task(flights.run("run_1", call)) for _ in range(2)]
    await turns()
    call.go.set()
    await asyncio.wait(waiters)
    assert [waiter.cancelled() for waiter in waiters] == [True, True]
    call.error = None
    assert await flights.run("run_1", call) == "answer 2"


async def test_call_runs_in_the_task_of_the_first() -> None:
    """The call sees the context variables and the task of the first who asked: nothing is made for one alone."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")

    async def call() -> tuple[str, bool]:
        return var.get(), asyncio.current_task() is mine

    mine = asyncio.current_task()
    var.set("mine")
    assert await SingleFlight().run("run_1", call) == ("mine", True)


def test_each_loop_has_its_own_flights() -> None:
    """A call left behind by a loop that died is not waited for in the next loop."""
    flights = SingleFlight()

    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    async def answer() -> str:
        return "now"

    loop = asyncio.new_event_loop()
    left = loop.create_task(flights.run("run_1", hang))
    loop.run_until_complete(asyncio.sleep(0))
    try:
        assert asyncio.run(flights.run("run_1", answer)) == "now"
    finally:
        left.cancel()
        loop.run_until_complete(asyncio.wait([left]))
        loop.close()


# --- cache --------------------------------------------------------------------------------------------------------


async def test_cache_is_bounded_by_count() -> None:
    """The value unused for longest goes first; reading is using."""
    cache: Cache = LRUCache(max_items=2)
    await cache.put("a", b"1")
    await cache.put("b", b"2")
    assert await cache.get("a") == b"1"
    await cache.put("c", b"3")
    assert [await cache.get(key) for key in "abc"] == [b"1", None, b"3"]


async def test_cache_is_bounded_by_bytes() -> None:
    """Values go until the rest fits; one that can never fit is not kept, and pushes nothing out."""
    cache = LRUCache(max_bytes=10)
    await cache.put("a", b"x" * 4)
    await cache.put("b", b"x" * 4)
    await cache.put("c", b"x" * 5)
    assert [await cache.get(key) for key in "abc"] == [None, b"x" * 4, b"x" * 5]
    await cache.put("d", b"x" * 11)
    assert [await cache.get(key) for key in "bcd"] == [b"x" * 4, b"x" * 5, None]
    await cache.put("b", b"x" * 11)
    assert await cache.get("b") is None


@given(puts=st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=12)), max_size=40))
def test_cache_never_exceeds_its_bounds(puts: list[tuple[str, bytes]]) -> None:
    """After any puts, what can be read fits both bounds, is what was put last, and the newest that fits is there."""
    cache = LRUCache(max_items=3, max_bytes=20)

    async def main() -> dict[str, bytes]:
        for key, value in puts:
            await cache.put(key, value)
        found = {key: await cache.get(key) for key in "abcdef"}
        return {key: value for key, value in found.items() if value is not None}

    kept = asyncio.run(main())
    assert len(kept) <= 3
    assert sum(map(len, kept.values())) <= 20
    latest = dict(puts)
    assert all(latest[key] == value for key, value in kept.items())
    if puts:
        assert kept[puts[-1][0]] == puts[-1][1]


@pytest.mark.parametrize(("items", "size"), [(0, 1), (1, 0)])
def test_cache_of_size_zero_is_refused(items: int, size: int) -> None:
    """A bound below one makes no cache."""
    with pytest.raises(InvalidArgument, match="at least 1"):
        LRUCache(items, size)

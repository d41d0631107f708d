"""Many calls at once: order, bounds, back-pressure, failures, and every way in which an iteration can end."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import assert_type, cast

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from evals_async._concurrency.fanout import FanOut, Outcome, Progress, fan_out, gather_many, merge
from evals_async.errors import EvalsError, InvalidArgument, PartialFailure


PROMPT = 0.05  # seconds in which everything has to be gone


def others() -> set[asyncio.Task[object]]:
    """The tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def turns(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


async def for_ever(key: object) -> object:
    await asyncio.Event().wait()
    return key


class Work:
    """A call that counts how many of it run, and whose results can be counted while they live."""

    def __init__(self) -> None:
        self.running = self.most = self.calls = self.cancelled = 0
        self.alive: weakref.WeakSet[Result] = weakref.WeakSet()

    async def __call__(self, number: int) -> "Result":
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(number % 4):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        result = Result(number)
        self.alive.add(result)
        return result


@attrs.frozen(eq=False)
class Result:
    number: int


# --- order, bounds, memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
async def test_ten_thousand_items_in_bounded_memory(ordered: bool) -> None:
    """Of 10,000 items none is lost or doubled, never more than `concurrency` run, and few results are alive."""
    work = Work()
    got: list[int] = []
    most_alive = 0
    async for outcome in fan_out(work, range(10_000), concurrency=20, ordered=ordered):
        got.append(outcome.unwrap().number)
        most_alive = max(most_alive, len(work.alive))
    assert got == list(range(10_000)) if ordered else sorted(got) == list(range(10_000))
    assert work.most == 20
    assert most_alive <= 20 * (4 if ordered else 2) + 1
    assert others() == set()


async def test_unordered_outcomes_come_as_they_complete() -> None:
    """A slow call does not hold back the others."""
    release = asyncio.Event()

    async def fn(key: str) -> str:
        if key == "slow":
            await release.wait()
        return key

    keys: list[str] = []
    async for outcome in fan_out(fn, ["slow", "a", "b", "c", "d", "e"], concurrency=2):
        keys.append(outcome.key)
        if len(keys) == 5:
            release.set()
    assert keys == ["a", "b", "c", "d", "e", "slow"]


async def test_ordered_window_is_bounded() -> None:
    """While the first call hangs, an ordered fan-out runs ahead by four times its concurrency, and no further."""
    release = asyncio.Event()
    begun: list[int] = []

    async def fn(number: int) -> int:
        begun.append(number)
        if number == 0:
            await release.wait()
        return number

    stream = fan_out(fn, iter(range(1000)), concurrency=3, ordered=True)
    first = asyncio.ensure_future(anext(stream))
    await turns(50)
    assert begun == list(range(12))
    release.set()
    assert (await first).key == 0
    assert [outcome.key async for outcome in stream] == list(range(1, 1000))


async def test_slow_consumer_slows_the_workers() -> None:
    """An endless source is taken from only as far as the consumer has come, and a little ahead."""
    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    async with fan_out(double, endless(), concurrency=4) as stream:
        for step in range(1, 20):
            await anext(stream)
            await turns(20)
            assert len(taken) <= step + 8


@given(
    delays=st.lists(st.integers(0, 5), max_size=40),
    bad=st.sets(st.integers(0, 39)),
    concurrency=st.integers(1, 9),
)
@settings(deadline=None, max_examples=60)
def test_ordered_outcomes_are_those_of_a_plain_loop(delays: list[int], bad: set[int], concurrency: int) -> None:
    """Whatever the calls take and whichever fail, an ordered fan-out gives what one call after the other would."""

    async def fn(number: int) -> int:
        await turns(delays[number])
        if number in bad:
            raise LookupError(number)
        return number * 3

    async def main() -> list[tuple[int, int | str]]:
        stream = fan_out(fn, range(len(delays)), concurrency=concurrency, ordered=True)
        return [(o.key, o.unwrap() if o.ok else str(o.error)) async for o in stream]

    expected = [(n, str(n) if n in bad else n * 3) for n in range(len(delays))]
    assert asyncio.run(main()) == expected


@pytest.mark.parametrize("concurrency", [0, -1, 257])
def test_concurrency_has_bounds(concurrency: int) -> None:
    """Concurrency outside of 1..256 is refused before anything starts."""
    with pytest.raises(InvalidArgument, match="between 1 and 256"):
        fan_out(double, [1], concurrency=concurrency)


async def test_nothing_to_do() -> None:
    """No items, no outcomes; asking again gives none either."""
    nothing: list[int] = []
    stream = fan_out(double, nothing)
    assert [outcome async for outcome in stream] == []
    assert [outcome async for outcome in stream] == []


async def test_few_items_start_few_workers() -> None:
    """Three items do not start 256 workers."""
    stream: FanOut[str, object] = fan_out(for_ever, ["a", "b", "c"], concurrency=256)
    waiting = asyncio.ensure_future(anext(stream))
    await turns()
    assert len(others()) == 3 + 1
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_calls_see_the_context_of_the_consumer() -> None:
    """Context variables (a tracing span, a request id) reach every call."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    var.set("span-1")

    async def fn(_: int) -> str:
        return var.get()

    assert [o.value async for o in fan_out(fn, range(3), ordered=True)] == ["span-1"] * 3


# --- sources ------------------------------------------------------------------------------------------------------


class Feed:
    """An async source that must not be asked twice at the same time, and notes that it was closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.closed = False

    async def __call__(self) -> AsyncIterator[int]:
        try:
            while self.taken < self.count:
                await asyncio.sleep(0)
                self.taken += 1
                yield self.taken
        finally:
            self.closed = True


async def test_async_source_is_read_by_one_worker_at_a_time() -> None:
    """An async generator, which forbids concurrent use, feeds many workers."""
    feed = Feed(100)
    got = [o.unwrap() async for o in fan_out(double, feed(), concurrency=7, ordered=True)]
    assert got == [n * 2 for n in range(1, 101)]
    assert feed.closed


async def test_async_source_is_closed_when_the_consumer_leaves() -> None:
    """An async generator that was given is closed together with the fan-out, and was read lazily."""
    feed = Feed(100)
    async with fan_out(double, feed(), concurrency=2) as stream:
        await anext(stream)
    assert feed.closed
    assert feed.taken <= 5
    assert others() == set()


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_error_of_the_source_is_raised_after_what_was_done(asynchronous: bool) -> None:
    """An iterable that raises ends the fan-out: finished outcomes come first, running calls are cancelled."""
    work = Work()

    def broken() -> Iterator[int]:
        yield from (0, 4, 8)
        yield 3
        raise OSError("disk")

    async def broken_later() -> AsyncIterator[int]:
        for number in broken():
            yield number

    got: list[int] = []

    async def consume() -> None:
        async for outcome in stream:
            got.append(outcome.key)  # noqa: PERF401  # a comprehension would lose what came before the error

    stream = fan_out(work, broken_later() if asynchronous else broken(), concurrency=1 if asynchronous else 5)
    with pytest.raises(OSError, match="disk"):
        await consume()
    assert got == ([0, 4, 8, 3] if asynchronous else [0, 4, 8])
    assert work.cancelled == (0 if asynchronous else 1)
    assert work.running == 0
    assert others() == set()
    assert [outcome async for outcome in stream] == []


# --- failures -----------------------------------------------------------------------------------------------------


async def test_one_failure_does_not_lose_the_others() -> None:
    """A call that fails gives an outcome with its error; the others have their values."""

    async def fn(number: int) -> int:
        if number == 2:
            raise LookupError("no such run")
        return number

    outcomes = [o async for o in fan_out(fn, range(4), ordered=True)]
    assert [o.value for o in outcomes] == [0, 1, None, 3]
    assert [o.ok for o in outcomes] == [True, True, False, True]
    with pytest.raises(LookupError, match="no such run"):
        outcomes[2].unwrap()


class Halt(BaseException):
    """Neither an Exception nor known to asyncio."""


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, Halt])
async def test_what_is_no_exception_passes_through(kind: type[BaseException]) -> None:
    """CancelledError, KeyboardInterrupt and their like are no outcome: they reach the consumer, and all workers end."""

    async def fn(number: int) -> object:
        if number == 3:
            raise kind
        return await for_ever(number)

    with pytest.raises(kind):
        _ = [outcome async for outcome in fan_out(fn, range(10), concurrency=5)]
    assert others() == set()


async def test_kept_error_keeps_no_other_outcome() -> None:
    """An error that is kept does not keep, by way of its traceback, what other calls gave."""

    async def fn(number: int) -> Result:
        if number == 0:
            raise LookupError
        return Result(number)

    errors: list[Exception] = []
    alive: weakref.WeakSet[Result] = weakref.WeakSet()
    async for outcome in fan_out(fn, range(20), concurrency=1):
        if outcome.error is not None:
            errors.append(outcome.error)
        else:
            alive.add(outcome.unwrap())
        del outcome
    gc.collect()
    assert len(errors) == 1
    assert len(alive) == 0


async def test_types_go_through() -> None:
    """The types of keys and values are known to type checkers in every way of calling many."""

    async def name_of(number: int) -> str:
        return str(number)

    async for outcome in fan_out(name_of, [1]):
        assert_type(outcome, Outcome[int, str])
        assert_type(outcome.unwrap(), str)
        if outcome.error is None:
            assert_type(outcome.value, str | None)
    assert_type(await gather_many(name_of, [1]), tuple[str, ...])
    assert_type(await gather_many(name_of, [1], on_error="return"), tuple[str | Exception, ...])
    assert_type(merge(lambda parent: Listing(parent, 1), ["a"]), FanOut[str, str])


# --- leaving ------------------------------------------------------------------------------------------------------


async def test_break_cancels_the_workers() -> None:
    """Leaving an `async for` is enough: all workers are gone within a few turns of the loop, without `aclose`."""
    work = Work()

    async def fn(number: int) -> object:
        return await (work(number) if number == 0 else for_ever(number))

    async for _ in fan_out(fn, range(100), concurrency=10):
        break
    await turns()
    assert others() == set()
    assert work.calls == 1


async def test_error_in_the_consumer_cancels_the_workers() -> None:
    """An exception in the body of the loop ends the workers, too."""

    async def fn(number: int) -> object:
        return number if number == 0 else await for_ever(number)

    async def consume() -> None:
        async for outcome in fan_out(fn, range(100), concurrency=10):
            raise ValueError(outcome.key)

    with pytest.raises(ValueError, match="0"):
        await consume()
    await turns()
    assert others() == set()


async def test_context_manager_waits_for_the_workers() -> None:
    """After `async with fan_out(...)` no worker is left, not even one that takes its time to clean up."""
    tidied: list[int] = []

    async def fn(number: int) -> object:
        try:
            return number if number == 0 else await for_ever(number)
        finally:
            await turns(5)
            tidied.append(number)

    async with fan_out(fn, range(100), concurrency=4) as stream:
        assert (await anext(stream)).key == 0
    assert others() == set()
    assert sorted(tidied) == [0, 1, 2, 3, 4]
    await stream.aclose()


@pytest.mark.virtual_time
async def test_cancelled_consumer_takes_the_workers_along() -> None:
    """Cancelling a task that iterates ends it and every worker within 50 ms, and starts no further call."""
    begun: list[int] = []

    async def fn(number: int) -> object:
        begun.append(number)
        return await for_ever(number)

    async def consume() -> list[Outcome[int, object]]:
        return [outcome async for outcome in fan_out(fn, iter(range(1000)), concurrency=50)]

    task = asyncio.create_task(consume())
    await turns()
    start = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - start < PROMPT
    assert begun == list(range(50))
    assert others() == set()


async def test_worker_that_resists_cancellation_takes_no_further_item() -> None:
    """A call that turns its cancellation into an error ends its worker all the same."""
    begun: list[int] = []

    async def fn(number: int) -> None:
        begun.append(number)
        try:
            await for_ever(number)
        except asyncio.CancelledError:
            raise OSError("connection lost") from None

    stream: FanOut[int, None] = fan_out(fn, iter(range(1000)), concurrency=2)
    waiting = asyncio.ensure_future(anext(stream))
    await turns()
    await stream.aclose()
    assert begun == [0, 1]
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_two_at_once_one_cancelled() -> None:
    """Two fan-outs over one function do not disturb each other, also when one is cancelled in the middle."""
    work = Work()

    async def consume() -> list[int]:
        return [o.key async for o in fan_out(work, range(500), concurrency=5, ordered=True)]

    doomed, kept = asyncio.create_task(consume()), asyncio.create_task(consume())
    await turns(20)
    doomed.cancel()
    assert await kept == list(range(500))
    assert doomed.cancelled()
    assert others() == set()


async def test_two_consumers_of_one_fan_out_are_refused() -> None:
    """A second task that waits on the same iterator gets an error; the first goes on."""
    go = asyncio.Event()

    async def fn(number: int) -> int:
        await go.wait()
        return number

    stream = fan_out(fn, [7])
    first = asyncio.ensure_future(anext(stream))
    await turns()
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(stream)
    go.set()
    assert (await first).unwrap() == 7


async def test_closed_before_it_began() -> None:
    """Closing a fan-out that was never iterated is fine, and it then gives nothing."""
    stream = fan_out(double, range(5))
    await stream.aclose()
    assert [outcome async for outcome in stream] == []


def test_dropped_after_its_loop() -> None:
    """A fan-out that outlives its event loop is dropped without a word."""
    kept: list[FanOut[str, object]] = []

    async def main() -> None:
        async def fn(key: str) -> object:
            return key if key == "a" else await for_ever(key)

        stream = fan_out(fn, ["a", "b"])
        kept.append(stream)
        await anext(stream)

    asyncio.run(main())
    kept.clear()
    gc.collect()


async def test_failure_while_others_wait_for_capacity() -> None:
    """What was done before a worker failed is still given, also when the other workers are stalled."""
    fall = asyncio.Event()

    async def fn(number: int) -> int:
        if number == 0:
            await fall.wait()
            raise Halt
        return number

    stream = fan_out(fn, iter(range(100)), concurrency=2)
    got = [(await anext(stream)).key]
    await turns(10)
    fall.set()
    await turns(10)
    got += [(await anext(stream)).key for _ in range(3)]
    with pytest.raises(Halt):
        await anext(stream)
    assert got == [1, 2, 3, 4]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks() -> None:
    """Workers that run at once, as eager tasks do, change nothing."""
    if sys.version_info >= (3, 12):
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            assert loop.run_until_complete(gather_many(double, range(500), concurrency=256)) == tuple(range(0, 1000, 2))
        finally:
            loop.close()


# --- progress -----------------------------------------------------------------------------------------------------


async def test_progress_is_reported() -> None:
    """After each call the listener gets the counts; the total is known for a list and unknown for a generator."""
    events: list[Progress] = []

    async def fn(number: int) -> int:
        if number == 1:
            raise LookupError
        return number

    _ = [o async for o in fan_out(fn, [0, 1, 2], concurrency=1, on_progress=events.append)]
    assert events == [Progress(1, 1, 0, 3), Progress(2, 2, 1, 3), Progress(3, 3, 1, 3)]
    events.clear()
    _ = [o async for o in fan_out(fn, iter([0]), on_progress=events.append)]
    assert events == [Progress(1, 1, 0, None)]


async def test_error_of_the_listener_is_raised() -> None:
    """A progress listener that raises ends the fan-out with its error."""

    def listen(progress: Progress) -> None:
        raise ValueError(progress.done)

    with pytest.raises(ValueError, match="1"):
        _ = [o async for o in fan_out(double, range(5), on_progress=listen)]
    assert others() == set()


# --- gather_many --------------------------------------------------------------------------------------------------


async def test_gather_keeps_order_and_duplicates() -> None:
    """The results stand in the order of the items, and an item that comes twice is there twice."""
    assert await gather_many(double, [3, 1, 3, 2], concurrency=2) == (6, 2, 6, 4)


async def odd_fails(number: int) -> int:
    if number % 2:
        raise LookupError(f"no {number}")
    return await double(number)


async def test_gather_raises_with_what_arrived() -> None:
    """The failure of some carries the results of the others and the errors, both by key."""
    with pytest.raises(EvalsError) as caught:
        await gather_many(odd_fails, [4, 3, 2, 1, 4])
    failure = cast("PartialFailure[int, int]", caught.value)
    assert type(failure) is PartialFailure
    assert dict(failure.results) == {4: 8, 2: 4}
    assert {key: str(error) for key, error in failure.errors.items()} == {3: "no 3", 1: "no 1"}
    assert [str(error) for error in failure.exceptions] == ["no 3", "no 1"]


async def test_gather_returns_errors_in_place() -> None:
    """With `on_error="return"` each error stands where its result would."""
    results = await gather_many(odd_fails, [4, 3, 2], on_error="return")
    assert [r if isinstance(r, int) else str(r) for r in results] == [8, "no 3", 4]


async def test_gather_refuses_an_unknown_on_error() -> None:
    """A misspelt `on_error` is refused, not taken for the default."""
    with pytest.raises(InvalidArgument, match="on_error"):
        await gather_many(double, [1], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]  # the wrong value is the point


# --- merge --------------------------------------------------------------------------------------------------------


class Listing:
    """The items of one parent, as an async iterable that counts those that are open."""

    running = 0

    def __init__(self, parent: str, count: int, *, fails: bool = False) -> None:
        self.parent = parent
        self.count = count
        self.fails = fails

    async def __aiter__(self) -> AsyncIterator[str]:
        Listing.running += 1
        try:
            for number in range(self.count):
                await asyncio.sleep(0)
                yield f"{self.parent}{number}"
            if self.fails:
                raise LookupError(self.parent)
        finally:
            Listing.running -= 1


async def test_merge_gives_every_item_with_its_parent() -> None:
    """All items of all streams arrive, those of one stream in order, no more streams open than allowed."""
    most = 0
    got: dict[str, list[str]] = {}
    async for outcome in merge(lambda p: Listing(p, 30), list("abcdefgh"), concurrency=3):
        most = max(most, Listing.running)
        got.setdefault(outcome.key, []).append(outcome.unwrap())
    assert got == {p: [f"{p}{n}" for n in range(30)] for p in "abcdefgh"}
    assert most == 3
    assert others() == set()


async def test_merge_survives_a_stream_that_fails() -> None:
    """A stream that fails gives its items, then one outcome with its error; the others are whole."""
    streams = {"a": Listing("a", 2, fails=True), "b": Listing("b", 3)}
    events: list[Progress] = []
    outcomes = [o async for o in merge(streams.__getitem__, list("abc"), on_progress=events.append)]
    assert [o.value for o in outcomes if o.key == "b"] == ["b0", "b1", "b2"]
    assert [(o.value, str(o.error or "")) for o in outcomes if o.key == "a"] == [("a0", ""), ("a1", ""), (None, "a")]
    assert [type(o.error) for o in outcomes if o.key == "c"] == [KeyError]
    assert events[-1] == Progress(3, 3, 2, 3)


async def test_merge_waits_for_a_slow_consumer_and_closes_its_streams() -> None:
    """Streams are read only a little ahead of the consumer, and are closed when he leaves."""
    given: list[int] = []

    async def numbers(_: str) -> AsyncIterator[int]:
        try:
            for number in range(1000):
                given.append(number)
                yield number
        finally:
            given.append(-1)

    async with merge(numbers, ["a"]) as stream:
        assert await anext(stream) == Outcome("a", 0)
        await turns(20)
        assert len(given) <= 4
    assert given[-1] == -1
    assert others() == set()


class Resistant:
    """An async iterator that is never done, and takes a cancellation for a reason to go on."""

    def __init__(self) -> None:
        self.steps = 0

    def __aiter__(self) -> "Resistant":
        return self

    async def __anext__(self) -> int:
        self.steps += 1
        if self.steps > 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        return self.steps


async def test_merge_ends_streams_that_resist() -> None:
    """A stream that swallows its cancellation is not asked for more."""
    endless = Resistant()
    async with merge(lambda _: endless, ["a"]) as stream:
        assert (await anext(stream)).value == 1
        await turns()
    assert endless.steps == 2
    assert others() == set()


@pytest.mark.parametrize("items", ["evalrun_1", b"evalrun_1"])
async def test_one_id_is_not_many(items: str | bytes) -> None:
    """A single id where many are expected is refused, and not taken for its characters."""

    async def call(item: object) -> object:
        return item

    with pytest.raises(InvalidArgument, match="put it into a list"):
        fan_out(call, items)

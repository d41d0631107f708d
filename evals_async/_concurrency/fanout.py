"""Many concurrent calls with a limit: `fan_out`, `gather_many`, and `merge` for many listings.

Workers take items from one source and put results into one queue, which a single consumer reads. A worker reserves a
place in the queue *before* it takes the next item. So a slow consumer slows the workers, and memory does not grow with
the number of items. There is no task per item.

`FanOut` is a class and not an async generator because of `break`. The event loop finalises an abandoned generator some
time later. Only the consumer refers to a `FanOut`; the workers refer to its channel. So CPython deletes it as soon as
`break` leaves the `async for`, and its workers are cancelled in the same iteration of the loop. If you keep it in a
variable, or if the workers must have ended on the next line, use `async with fan_out(...) as outcomes:` (or
`contextlib.aclosing`). This waits for the workers.

This module does not depend on endpoints, clients or pages.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, Literal, Self, TypeAlias, TypeVar, cast, overload

import attrs

from evals_async._concurrency.channel import Channel, Items, ItemSource, Job, close
from evals_async._numbers import whole_number
from evals_async.errors import InvalidArgument, PartialFailure


K = TypeVar("K")
V = TypeVar("V")
H = TypeVar("H", bound=Hashable)
K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)

DEFAULT_CONCURRENCY = 32
MOST_WORKERS = 256
CAPACITY_PER_WORKER = 2  # one running call, one result that waits for the consumer
ORDERED_CAPACITY_PER_WORKER = 4  # more, so that one slow call does not stop the other workers at once


@attrs.frozen
class Outcome(Generic[K_co, V_co]):
    """The outcome of one call. `key` is the item of the call. Either `error` is set, or `value` is the result."""

    key: K_co
    value: V_co | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.error is None

    def unwrap(self) -> V_co:
        """Return the value, or raise `error` if the call failed."""
        if self.error is not None:
            raise self.error
        return cast("V_co", self.value)


@attrs.frozen
class Progress:
    """The progress of a fan-out: the numbers of calls that are `started`, `done` (including failed ones) and
    `failed`.

    `total` is the number of all items, or `None` if it is unknown.
    """

    started: int
    done: int
    failed: int
    total: int | None


OnProgress: TypeAlias = Callable[[Progress], object]


class ProgressCounter:
    """Counts calls for `Progress`. Without a callback, no `Progress` is made."""

    def __init__(self, total: int | None, listener: OnProgress | None) -> None:
        self.started = self.done = self.failed = 0
        self.total = total
        self.listener = listener

    def begin(self) -> None:
        self.started += 1

    def end(self, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        if self.listener is not None:
            self.listener(Progress(self.started, self.done, self.failed, self.total))


class FanOut(AsyncIterator[Outcome[K, V]]):
    """The outcomes of many calls, as an async iterator and an async context manager. `fan_out` and `merge` return
    it.

    The calls start when the first outcome is requested. Anything that ends the iteration early (leaving the loop,
    `aclose`, an error in the consumer or in the iterable, a cancellation) cancels every worker.
    """

    def __init__(
        self,
        job: Job[Outcome[K, V]],
        workers: int,
        capacity: int,
        cleanup: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._job = job
        self._workers = workers
        self._channel: Channel[Outcome[K, V]] = Channel(capacity)
        self._cleanup = cleanup
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __anext__(self) -> Outcome[K, V]:
        channel = self._channel
        if not channel.ready:
            await self._wait()
            if not channel.ready:
                raise StopAsyncIteration
        outcome = channel.ready.popleft()
        channel.release()
        return outcome

    async def _wait(self) -> None:
        channel = self._channel
        if channel.reader is not None:
            raise RuntimeError("two tasks iterate over the same fan-out; make one fan-out for each task")
        try:
            if self._loop is None and not channel.closed:
                self._loop = asyncio.get_running_loop()
                channel.start(self._job, self._workers)
            await channel.arrival()
        except BaseException:
            await self.aclose()
            raise
        if not channel.ready:
            failure, channel.failure = channel.failure, None
            await self.aclose()
            if failure is not None:
                raise failure

    async def aclose(self) -> None:
        """Cancel every worker and wait until all have ended. A second call has no effect."""
        channel = self._channel
        channel.close()
        channel.ready.clear()
        if pending := [task for task in channel.tasks if not task.done()]:
            await asyncio.wait(pending)
        if self._cleanup is not None:
            await self._cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The garbage collector may call this in any thread.
        channel, loop = self._channel, self._loop
        if loop is not None and channel.working and not channel.closed and not loop.is_closed():
            loop.call_soon_threadsafe(channel.close)


def checked_concurrency(concurrency: int, total: int | None) -> int:
    """Validate the number of workers. Raises `InvalidArgument` if it is not from 1 to 256."""
    concurrency = whole_number(concurrency, "concurrency", least=-sys.maxsize)
    if not 1 <= concurrency <= MOST_WORKERS:
        raise InvalidArgument(f"concurrency must be between 1 and {MOST_WORKERS}, got {concurrency!r}")
    return concurrency if total is None else max(1, min(concurrency, total))


async def attempt(fn: Callable[[K], Awaitable[V]], key: K) -> Outcome[K, V]:
    try:
        return Outcome(key, await fn(key))
    except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
        return Outcome(key, error=error)


def fan_out(
    fn: Callable[[K], Awaitable[V]],
    items: Items[K],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    ordered: bool = False,
    on_progress: OnProgress | None = None,
) -> FanOut[K, V]:
    """Call `fn` for each of `items`, at most `concurrency` (1..256) at once, and yield one `Outcome` per item.

    Outcomes come in the order in which the calls end, or with `ordered` in the order of the items. `items` may be
    endless: it is read at most twice `concurrency` items ahead of the consumer (four times if ordered). An async
    generator is closed at the end.

    If a call fails, its outcome has `error`, and the other calls continue. `CancelledError`, `KeyboardInterrupt` and
    errors of the iterable itself are raised. `on_progress` is called with a `Progress` after each call. Raises
    `InvalidArgument` for a `concurrency` out of range.
    """
    source = ItemSource(items)
    workers = checked_concurrency(concurrency, source.total)
    progress = ProgressCounter(source.total, on_progress)
    held: dict[int, Outcome[K, V]] = {}
    following = 0

    def deliver(channel: Channel[Outcome[K, V]], number: int, outcome: Outcome[K, V]) -> None:
        nonlocal following
        progress.end(not outcome.ok)
        if not ordered:
            channel.put(outcome)
            return
        held[number] = outcome
        while following in held:
            channel.put(held.pop(following))
            following += 1

    async def job(channel: Channel[Outcome[K, V]]) -> None:
        # No outcome is kept in a variable here: an error that the user keeps would keep this frame and its variables
        # alive.
        while await channel.reserve():
            taken = await source.take()
            if taken is None:
                channel.release()
                return
            progress.begin()
            deliver(channel, taken[0], await attempt(fn, taken[1]))

    capacity = workers * (ORDERED_CAPACITY_PER_WORKER if ordered else CAPACITY_PER_WORKER)
    return FanOut(job, workers, capacity, source.aclose)


def merge(
    fn: Callable[[K], AsyncIterable[V]],
    items: Items[K],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    on_progress: OnProgress | None = None,
) -> FanOut[K, V]:
    """Read the async iterables `fn(item)` of many items, at most `concurrency` (1..256) at once.

    Each value is yielded as an `Outcome` with the item as key. If a stream fails, an outcome with `error` follows its
    values, and the other streams continue. The values of one stream keep their order. A stream is opened when a worker
    starts it. It is closed when it ends, or when the iteration ends. `Progress` counts streams. Raises
    `InvalidArgument` for a `concurrency` out of range.
    """
    source = ItemSource(items)
    workers = checked_concurrency(concurrency, source.total)
    progress = ProgressCounter(source.total, on_progress)

    async def job(channel: Channel[Outcome[K, V]]) -> None:
        while await channel.reserve():
            taken = await source.take()
            if taken is None:
                channel.release()
                return
            parent = taken[1]
            progress.begin()
            error = await drain(channel, parent, fn)
            progress.end(error is not None)
            if error is None:
                channel.release()
            else:
                channel.put(Outcome(parent, error=error))

    return FanOut(job, workers, workers * CAPACITY_PER_WORKER, source.aclose)


async def drain(channel: Channel[Outcome[K, V]], parent: K, fn: Callable[[K], AsyncIterable[V]]) -> Exception | None:
    """Put all values of the stream `fn(parent)` into reserved places. Returns the exception that ended it, if any.
    One place stays reserved.
    """
    iterator: AsyncIterator[V] | None = None
    try:
        iterator = aiter(fn(parent))
        async for thing in iterator:
            channel.put(Outcome(parent, thing))
            if not await channel.reserve():
                break
    except Exception as error:  # noqa: BLE001  # whatever a call raises is its outcome
        return error
    finally:
        await close(iterator)
    return None


@overload
async def gather_many(
    fn: Callable[[H], Awaitable[V]],
    items: Items[H],
    *,
    concurrency: int = ...,
    on_error: Literal["raise"] = ...,
    on_progress: OnProgress | None = ...,
) -> tuple[V, ...]: ...


@overload
async def gather_many(
    fn: Callable[[H], Awaitable[V]],
    items: Items[H],
    *,
    concurrency: int = ...,
    on_error: Literal["return"],
    on_progress: OnProgress | None = ...,
) -> tuple[V | Exception, ...]: ...


async def gather_many(
    fn: Callable[[H], Awaitable[V]],
    items: Items[H],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    on_error: Literal["raise", "return"] = "raise",
    on_progress: OnProgress | None = None,
) -> tuple[V | Exception, ...]:
    """Call `fn` for each of `items`, at most `concurrency` (1..256) at once, and return the results in the order of
    the items.

    A failure does not stop the other calls. When all calls are done, `on_error="raise"` raises `PartialFailure` with
    the results and the errors by key. `on_error="return"` puts each error into the list instead of the result. To stop
    at the first failure, iterate over `fan_out` and call `unwrap()`.

    For an item that occurs twice, two calls are made. A `PartialFailure` has its last result and its last error. Raises
    `InvalidArgument` for a `concurrency` out of range or another `on_error`.
    """
    check_on_error(on_error)
    outcomes: list[Outcome[H, V]] = []
    async with fan_out(fn, items, concurrency=concurrency, ordered=True, on_progress=on_progress) as stream:
        outcomes.extend([outcome async for outcome in stream])
    return results_of(outcomes, on_error)


def check_on_error(on_error: str) -> None:
    """Raise `InvalidArgument` for a value that is neither "raise" nor "return"."""
    if on_error not in ("raise", "return"):
        raise InvalidArgument(f'on_error must be "raise" or "return", got {on_error!r}')


def results_of(outcomes: Sequence[Outcome[H, V]], on_error: Literal["raise", "return"]) -> tuple[V | Exception, ...]:
    """Return the results of many calls in their order. Errors are in the list, or are raised as `PartialFailure`."""
    if on_error == "raise" and not all(outcome.ok for outcome in outcomes):
        errors = {outcome.key: outcome.error for outcome in outcomes if outcome.error is not None}
        raise PartialFailure[H, V].of({outcome.key: outcome.unwrap() for outcome in outcomes if outcome.ok}, errors)
    return tuple(outcome.unwrap() if outcome.error is None else outcome.error for outcome in outcomes)

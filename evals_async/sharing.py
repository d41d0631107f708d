"""One answer for many who ask: `SingleFlight` for those who ask at the same time, `Cache` for those who ask later.

What is worth sharing, and under which key, is decided above. Nothing here knows an endpoint.
"""

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from evals_async.errors import InvalidArgument


V = TypeVar("V")


class Flight:
    """One running call, and the futures of those who wait for it."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self.waiters: set[asyncio.Future[None]] = set()
        self.shared = False
        task.add_done_callback(self.land)

    def land(self, task: "asyncio.Task[Any]") -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if not task.cancelled():
            task.exception()  # each waiter raises it; if all have left, it is nobody's


class SingleFlight:
    """Concurrent calls with one key share one running call.

    The call runs in a task of its own, in the context (`contextvars`) of the first who asked. A waiter that is
    cancelled leaves alone; the call is cancelled when the last one leaves, and he waits until it is gone. A failure
    reaches everyone who waits, as an exception object of his own, and is forgotten: the next to ask calls anew. Each
    event loop has its own flights.
    """

    def __init__(self) -> None:
        self.loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Flight]] = WeakKeyDictionary()

    async def run(self, key: Hashable, call: Callable[[], Awaitable[V]]) -> V:
        """The result of the call that runs under `key`; if none does, `call()` is begun. Raises what it raises."""
        loop = asyncio.get_running_loop()
        flights = self.loops.setdefault(loop, {})
        flight = flights.get(key)
        if flight is None or flight.task.done():
            flight = flights[key] = Flight(loop.create_task(awaited(call)))
        else:
            flight.shared = True
        task = flight.task
        waiter = loop.create_future()
        flight.waiters.add(waiter)
        try:
            await waiter
        finally:
            flight.waiters.discard(waiter)
            if (task.done() or not flight.waiters) and flights.get(key) is flight:
                del flights[key]
            if not task.done() and not flight.waiters:
                task.cancel()
                await asyncio.wait([task])
        return outcome_of(cast("asyncio.Task[V]", task), flight.shared)


async def awaited(call: Callable[[], Awaitable[V]]) -> V:
    return await call()


def outcome_of(task: "asyncio.Task[V]", shared: bool) -> V:
    """The task's result, or its exception: a copy for everyone, if it was shared.

    One exception object raised in several tasks would collect the tracebacks and notes of all of them.
    """
    error = task.exception() if shared and not task.cancelled() else None
    if error is not None:
        raise twin_of(error)
    return task.result()


def twin_of(error: BaseException) -> BaseException:
    """A copy with the same cause and the traceback so far; the error itself, if its class cannot be copied."""
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    if hasattr(error, "__notes__"):
        twin.__notes__ = list(error.__notes__)
    return twin.with_traceback(error.__traceback__)


class Cache(Protocol):
    """Where answers are kept that never change again. Bring your own (Redis, a file): two methods, bytes in and bytes
    out.
    """

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, or `None`."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, for as long as the cache sees fit."""
        ...


class LRUCache:
    """A `Cache` in memory: at most `max_items` values of at most `max_bytes` in all; the one unused for longest goes
    first.

    A value larger than `max_bytes` is not kept. Raises `InvalidArgument` for a bound below 1.
    """

    def __init__(self, max_items: int = 1024, max_bytes: int = 32 * 1024 * 1024) -> None:
        if max_items < 1 or max_bytes < 1:
            raise InvalidArgument(f"max_items and max_bytes must be at least 1, got {max_items!r} and {max_bytes!r}")
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.values: OrderedDict[str, bytes] = OrderedDict()
        self.size = 0

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, which are now the last used, or `None`."""
        value = self.values.get(key)
        if value is not None:
            self.values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, and let go of what there is no room for."""
        self.size -= len(self.values.pop(key, b""))
        if len(value) > self.max_bytes:
            return
        self.values[key] = value
        self.size += len(value)
        while self.size > self.max_bytes or len(self.values) > self.max_items:
            self.size -= len(self.values.popitem(last=False)[1])

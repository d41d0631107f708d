"""One answer for many who ask: `SingleFlight` for those who ask at the same time, `Cache` for those who ask later.

What is worth sharing, and under which key, is decided above. Nothing here knows an endpoint.
"""

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Coroutine, Hashable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from evals_async.errors import InvalidArgument


V = TypeVar("V")


SharedResult: TypeAlias = tuple[Any, BaseException | None]
"""What became of a call: its value, or its error."""

TAKE_OVER: SharedResult = (None, None)
"""What a waiter is told (this very object) whose turn it is to make the call."""


class SingleFlight:
    """Concurrent calls with one key share one running call.

    The call runs in the task of the first who asked, so that one that nobody shares costs next to nothing. A waiter
    that is cancelled leaves alone; when the one who makes the call is cancelled, the next one makes it anew; when the
    last one leaves, it is over. A failure reaches everyone who waits, as an exception object of his own, and is
    forgotten: the next to ask calls anew. Only calls of one event loop share.
    """

    def __init__(self) -> None:
        self.leaders: dict[Hashable, asyncio.Task[object]] = {}  # who makes the calls
        self.waiters: dict[Hashable, list[tuple[asyncio.Future[SharedResult], asyncio.Task[object]]]] = {}

    async def run(self, key: Hashable, call: Coroutine[Any, Any, V]) -> V:
        """The result of the call that runs under `key`; if none does, of `call`, which is closed where it is not
        needed. Raises what the call raises.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # whatever awaits a call runs in a task
        leader = self.leaders.get(key)
        if leader is not None and leader.get_loop() is not task.get_loop():
            return await call
        if leader is not None and not leader.cancelling():  # one that was told to end is followed no more
            outcome = await self.follow(key, task, call)
            if outcome is not TAKE_OVER:
                try:
                    if outcome[1] is not None:
                        raise outcome[1]
                    return cast("V", outcome[0])
                finally:
                    del outcome, leader, task  # see below
        self.leaders[key] = task
        outcome = TAKE_OVER
        try:
            value = await call
            outcome = (value, None)
            return value
        except BaseException as error:
            if not (isinstance(error, asyncio.CancelledError) and task.cancelling()):
                outcome = (None, error)
            raise
        finally:
            self.leave(key, task, outcome)
            # Or this frame and an error's traceback would hold each other until the next collection.
            del outcome, leader, task

    async def follow(
        self, key: Hashable, task: asyncio.Task[object], instead: Coroutine[Any, Any, object]
    ) -> SharedResult:
        """What became of the call that runs; or `TAKE_OVER`, and only then the one `instead` is not closed."""
        waiter: asyncio.Future[SharedResult] = task.get_loop().create_future()
        self.waiters.setdefault(key, []).append((waiter, task))
        outcome: SharedResult | None = None
        try:
            outcome = await waiter
            return outcome
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result() is TAKE_OVER:
                self.leave(key, task, TAKE_OVER)  # the turn had come, at the same moment
            raise
        finally:
            if outcome is not TAKE_OVER:
                instead.close()

    def leave(self, key: Hashable, task: asyncio.Task[object], outcome: SharedResult) -> None:
        """Tell those who wait what became of the call that `task` made; or let the first of them make it anew."""
        if self.leaders.get(key) is not task:
            return  # another leads, and those who wait are his
        waiters = self.waiters.get(key)
        while waiters and outcome is TAKE_OVER:
            waiter, leader = waiters.pop(0)
            if not waiter.done():
                self.leaders[key] = leader
                waiter.set_result(TAKE_OVER)
                return
        del self.leaders[key]
        if waiters is None:
            return
        value, error = outcome
        # Emptied, for the frames of those who wait hold it, and their errors hold the frames.
        for waiter, _ in self.waiters.pop(key):
            if not waiter.done():
                waiter.set_result((value, None if error is None else twin_of(error)))


def twin_of(error: BaseException) -> BaseException:
    """A copy with the same cause and the traceback so far; the error itself, if its class cannot be copied."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  # a class that cannot be copied may say so in any way
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
        self.size: int = 0

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

"""Concurrent calls for the same thing share one request: `SingleFlight`.

The code that makes the calls decides which calls may share, and under which key.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, Unpack, cast


E = TypeVar("E", bound=BaseException)
V = TypeVar("V")
Ts = TypeVarTuple("Ts")


SharedResult: TypeAlias = tuple[Any, BaseException | None]
"""The result of a call: its value, or its error."""

TAKE_OVER: SharedResult = (None, None)
"""A marker (compared with `is`): the waiter must make the call itself."""


class SingleFlight:
    """Concurrent calls with one key share one running call.

    The call runs in the task of the first caller, so a call that is not shared costs little. A cancelled waiter ends
    only its own wait. If the task that makes the call is cancelled, the next waiter makes the call again. Every waiter
    gets its own copy of an exception. Errors are not cached: the next caller makes a new call. Only calls of one event
    loop are shared.
    """

    def __init__(self) -> None:
        self.leaders: dict[Hashable, asyncio.Task[object]] = {}  # the tasks that make the calls
        self.waiters: dict[Hashable, list[tuple[asyncio.Future[SharedResult], asyncio.Task[object]]]] = {}

    async def run(
        self,
        key: Hashable,
        call: Callable[[Unpack[Ts]], Awaitable[V]],
        *args: *Ts,
        copy_of: Callable[[V], V] | None = None,
    ) -> V:
        """Return the result of the running call for `key`. If there is none, call `call(*args)`.

        Raises the error of the call. With `copy_of`, the first caller gets the result itself, and each waiter gets a
        copy.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine always runs in a task here
        leader = self.leaders.get(key)
        if leader is not None and leader.get_loop() is not task.get_loop():
            if not leader.get_loop().is_closed():
                return await call(*args)
            # Its loop was closed while the call ran, so the call will never end.
            leader = None
            self.leaders.pop(key, None)
            self.waiters.pop(key, None)
        if leader is not None and not leader.cancelling():  # a task that is being cancelled gives no result
            outcome = await self.follow(key, task)
            if outcome is not TAKE_OVER:
                try:
                    if outcome[1] is not None:
                        raise outcome[1]
                    value = cast("V", outcome[0])
                    return value if copy_of is None else copy_of(value)
                finally:
                    del outcome, leader, task  # see below
        self.leaders[key] = task
        outcome = TAKE_OVER
        try:
            value = await call(*args)
            outcome = (value, None)
            return value
        except BaseException as error:
            if not (isinstance(error, asyncio.CancelledError) and task.cancelling()):
                outcome = (None, error)
            raise
        finally:
            if self.waiters:
                self.leave(key, task, outcome)
            elif self.leaders.get(key) is task:
                del self.leaders[key]
            # Otherwise this frame and the traceback of an error refer to each other until the next garbage collection.
            del outcome, leader, task

    async def follow(self, key: Hashable, task: asyncio.Task[object]) -> SharedResult:
        """Wait for the result of the running call, or for `TAKE_OVER`."""
        waiter: asyncio.Future[SharedResult] = task.get_loop().create_future()
        self.waiters.setdefault(key, []).append((waiter, task))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result() is TAKE_OVER:
                self.leave(key, task, TAKE_OVER)  # this waiter was chosen to make the call at the same moment
            raise

    def leave(self, key: Hashable, task: asyncio.Task[object], outcome: SharedResult) -> None:
        """Give the result of the call of `task` to the waiters, or let the first waiter make the call again."""
        if self.leaders.get(key) is not task:
            return  # another task makes the call now, and the waiters wait for its result
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
        # Cleared: the frames of the waiters refer to it, and their errors refer to the frames.
        for waiter, _ in self.waiters.pop(key):
            if not waiter.done():
                waiter.set_result((value, None if error is None else twin_of(error)))


def twin_of(error: E) -> E:
    """Return a copy of an error with the same cause and traceback. Returns the error itself if it cannot be copied."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  # a class that cannot be copied may raise anything
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    if hasattr(error, "__notes__"):
        twin.__notes__ = list(error.__notes__)
    return twin.with_traceback(error.__traceback__)

"""Concurrent calls for the same thing share one request: `SingleFlight`.

Which calls may share, and under which key, is decided by the caller. Nothing here knows an endpoint.
"""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeAlias, TypeVar, cast


E = TypeVar("E", bound=BaseException)
V = TypeVar("V")


SharedResult: TypeAlias = tuple[Any, BaseException | None]
"""What became of a call: its value, or its error."""

TAKE_OVER: SharedResult = (None, None)
"""The result (this very object) that tells a waiter to make the call itself."""


class SingleFlight:
    """Concurrent calls with one key share one running call.

    The call runs in the task of the first caller, so a call that nobody shares costs next to nothing. The cancellation
    of a waiter ends only its own waiting. When the task that makes the call is cancelled, the next waiter makes the
    call again; when there is none, the call is over. A failure reaches every waiter as an exception object of its own,
    and is forgotten: the next caller calls again. Only calls of one event loop share.
    """

    def __init__(self) -> None:
        self.leaders: dict[Hashable, asyncio.Task[object]] = {}  # who makes the calls
        self.waiters: dict[Hashable, list[tuple[asyncio.Future[SharedResult], asyncio.Task[object]]]] = {}

    async def run(self, key: Hashable, call: Coroutine[Any, Any, V], *, copy_of: Callable[[V], V] | None = None) -> V:
        """The result of the call that runs under `key`; if none does, of `call`, which is closed where it is not
        needed. Raises what the call raises.

        With `copy_of`, each waiter gets a copy of the result, and only the first caller the result itself.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # whatever awaits a call runs in a task
        leader = self.leaders.get(key)
        if leader is not None and leader.get_loop() is not task.get_loop():
            if not leader.get_loop().is_closed():
                return await call
            # Its loop was closed while the call ran: nobody will ever finish it.
            leader = None
            self.leaders.pop(key, None)
            self.waiters.pop(key, None)
        if leader is not None and not leader.cancelling():  # one that was told to end is followed no more
            outcome = await self.follow(key, task, call)
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
            value = await call
            outcome = (value, None)
            return value
        except BaseException as error:
            if not (isinstance(error, asyncio.CancelledError) and task.cancelling()):
                outcome = (None, error)
            raise
        finally:
            self.leave(key, task, outcome)
            # Otherwise this frame and an error's traceback keep each other alive until the next collection.
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
            return  # another task makes the call now, and the waiters are waiting for that one
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


def twin_of(error: E) -> E:
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

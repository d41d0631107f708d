"""One answer for many who ask: `SingleFlight` for those who ask at the same time, `Cache` for those who ask later.

What is worth sharing, and under which key, is decided above. Nothing here knows an endpoint.
"""

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple, Unpack, cast

from evals_async.errors import InvalidArgument


V = TypeVar("V")
Ts = TypeVarTuple("Ts")


class Flight:
    """A call that runs in the task of who asked first, and the futures of those who wait for it."""

    __slots__ = ("cancelling", "leader", "waiters")

    def __init__(self, leader: asyncio.Task[object]) -> None:
        self.leader = leader  # the task that makes the call
        self.cancelling = leader.cancelling()
        self.waiters: list[asyncio.Future[Outcome]] = []

    @property
    def is_given_up(self) -> bool:
        """Was the task that makes the call told to end?"""
        return self.leader.cancelling() > self.cancelling

    def hand_over(self) -> bool:
        """Let the first who still waits make the call anew; false if nobody does."""
        while self.waiters:
            waiter = self.waiters.pop(0)
            if not waiter.done():
                waiter.set_result(TAKE_OVER)
                return True
        return False

    def land(self, outcome: "Outcome") -> None:
        value, error = outcome
        # Emptied, for the frames of those who wait hold it, and their errors hold the frames.
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result((value, None if error is None else twin_of(error)))


Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What became of a call: its value, or its error."""

TAKE_OVER: Outcome = (None, None)
"""What a waiter is told (this very object) whose turn it is to make the call."""


class SingleFlight:
    """Concurrent calls with one key share one running call.

    The call runs in the task of the first who asked, so that one that nobody shares costs next to nothing. A waiter
    that is cancelled leaves alone; when the one who makes the call is cancelled, the next one makes it anew; when the
    last one leaves, it is over. A failure reaches everyone who waits, as an exception object of his own, and is
    forgotten: the next to ask calls anew. Each event loop has its own flights.
    """

    def __init__(self) -> None:
        self.flights: dict[Hashable, Flight] = {}

    async def run(self, key: Hashable, call: Callable[[Unpack[Ts]], Awaitable[V]], *arguments: *Ts) -> V:
        """The result of the call that runs under `key`; if none does, of `call(*arguments)`. Raises what it raises."""
        flights, task = self.flights, asyncio.current_task()
        assert task is not None  # noqa: S101  # whatever awaits a call runs in a task
        key = (key, task.get_loop())
        flight = flights.get(key)
        if flight is None or flight.is_given_up:
            flight = flights[key] = Flight(task)
        else:
            outcome = await follow(flight, task.get_loop().create_future())
            if outcome is not TAKE_OVER:
                try:
                    if outcome[1] is not None:
                        raise outcome[1]
                    return cast("V", outcome[0])
                finally:
                    del outcome, flight, task  # see below
            flight.leader, flight.cancelling = task, task.cancelling()
        outcome = TAKE_OVER
        try:
            value = await call(*arguments)
            outcome = (value, None)
            return value
        except BaseException as error:
            if not (isinstance(error, asyncio.CancelledError) and flight.is_given_up):
                outcome = (None, error)
            raise
        finally:
            if outcome is not TAKE_OVER or not flight.hand_over():
                if flights.get(key) is flight:
                    del flights[key]
                if flight.waiters:
                    flight.land(outcome)
            # Or this frame and an error's traceback would hold each other until the next collection.
            del outcome, flight, task


async def follow(flight: Flight, waiter: "asyncio.Future[Outcome]") -> Outcome:
    """What became of the call, or `TAKE_OVER`."""
    flight.waiters.append(waiter)
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled() and waiter.result() is TAKE_OVER:
            flight.hand_over()  # the turn had come, at the same moment
        raise


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

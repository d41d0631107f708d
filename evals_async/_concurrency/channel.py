"""The queues between many workers and one consumer: workers take items from an `ItemSource` and put results into a
`Channel`.

`fanout` and `polling` use them. A worker reserves a place in the channel before it starts an item. So a slow consumer
slows the workers, and memory does not grow with the number of items.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sized
from typing import Any, Generic, TypeAlias, TypeVar

from evals_async.errors import InvalidArgument


K = TypeVar("K")
V = TypeVar("V")

Items: TypeAlias = Iterable[K] | AsyncIterable[K]
"""Any iterable or async iterable. It is read lazily, one item at a time."""


def refuse_one(items: object) -> None:
    """Raise `InvalidArgument` for a single id where many are expected. Otherwise its characters would be the items."""
    if isinstance(items, str | bytes):
        raise InvalidArgument(f"expected many items, got one {type(items).__name__}: put it into a list")


class ItemSource(Generic[K]):
    """One iterator for many workers. The lock is needed because an async iterator allows one `anext` at a time."""

    def __init__(self, items: Items[K]) -> None:
        self.total: int | None = None  # if it is known
        self.count: int = 0
        self.ended: bool = False
        self.lock: asyncio.Lock = asyncio.Lock()
        self.later: AsyncIterator[K] | None = None
        self.now: Iterable[K] = ()
        refuse_one(items)
        if isinstance(items, AsyncIterable):
            self.later = aiter(items)
        else:
            self.now = iter(items)
            self.total = len(items) if isinstance(items, Sized) else None

    async def take(self) -> tuple[int, K] | None:
        """Return the next item with its number, or `None` after the last one."""
        if self.later is None:
            for item in self.now:
                self.count += 1
                return self.count - 1, item
            return None
        async with self.lock:
            if not self.ended:
                async for item in self.later:
                    self.count += 1
                    return self.count - 1, item
                self.ended = True
            return None

    async def aclose(self) -> None:
        """Close the iterator if it has an `aclose` method."""
        if self.later is not None:
            await close(self.later)


async def close(iterator: object) -> None:
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()


class Channel(Generic[V]):
    """A bounded queue between workers and one consumer.

    `capacity` is the limit of waiting values and of calls that are still making a value, together.
    """

    def __init__(self, capacity: int) -> None:
        self.free: int = capacity
        self.ready: deque[V] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.reader: asyncio.Future[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.working: int = 0
        self.failure: BaseException | None = None
        self.closed: bool = False

    def start(self, job: Job[V], workers: int) -> None:
        self.working = workers
        for _ in range(workers):
            self.tasks.append(asyncio.create_task(self.work(job)))

    async def work(self, job: Job[V]) -> None:
        # An exception that ends a worker (from the iterable, a cancellation, Ctrl-C) is raised in the consumer.
        try:
            await job(self)
        except BaseException as error:  # noqa: BLE001  # raised again in the consumer
            if not self.closed:
                self.failure = error
                self.close()
        finally:
            self.working -= 1
            if not self.working:
                self.wake()

    async def reserve(self) -> bool:
        """Wait for a free place in the queue and reserve it. Returns false after the end."""
        if self.free > 0:
            self.free -= 1
        else:
            waiter = asyncio.get_running_loop().create_future()
            self.waiting.append(waiter)
            await waiter
        return not self.closed

    def release(self) -> None:
        """Release one reserved place. If a worker waits for a place, it gets this one at once, so that no other worker
        can take it first.
        """
        self.free += 1
        while self.waiting and self.free > 0:
            waiter = self.waiting.popleft()
            if not waiter.done():
                self.free -= 1
                waiter.set_result(None)
                return

    def put(self, value: V) -> None:
        """Put a value into its reserved place. After the end, the value is dropped."""
        if not self.closed:
            self.ready.append(value)
            self.wake()

    def put_all(self, values: Iterable[V]) -> None:
        """Put any number of values into one reserved place. The next place is free when the consumer has taken as many
        values as are too many.
        """
        before = len(self.ready)
        if not self.closed:
            self.ready.extend(values)
            self.free -= len(self.ready) - before - 1
            self.wake()

    def wake(self) -> None:
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)

    async def arrival(self) -> None:
        """Wait until a value is ready or the channel has ended."""
        while not self.ready and self.working and not self.closed:
            self.reader = asyncio.get_running_loop().create_future()
            try:
                await self.reader
            finally:
                self.reader = None

    def close(self) -> None:
        """Cancel every worker. Does not wait for them."""
        self.closed = True
        for task in self.tasks:
            task.cancel()
        self.wake()


Job: TypeAlias = Callable[[Channel[V]], Coroutine[Any, Any, None]]
"""The work of one worker."""

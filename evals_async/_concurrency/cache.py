"""Responses that never change again, kept: the `Cache` protocol, `LRUCache`, one in memory, and `CacheGuard`, which
keeps a cache's troubles from the calls.

What is worth keeping, and under which key, is decided by the caller. Nothing here knows an endpoint.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from evals_async._clock import Clock
from evals_async.errors import InvalidArgument


T = TypeVar("T")

LONGEST = 0.25  # seconds that a call waits for its cache
AVOIDED = 5.0  # seconds that a cache is not asked after it took too long
TOLD_EVERY = 60.0  # seconds between two log lines about one cache

logger = logging.getLogger("evals_async")


class Cache(Protocol):
    """Keeps responses that never change. To write your own (Redis, a file), implement two methods with bytes."""

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, or `None`."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, for as long as the cache sees fit."""
        ...


class LRUCache:
    """A `Cache` in memory: at most `max_items` values, of at most `max_bytes` in total. The least
    recently used value is dropped first.

    A value larger than `max_bytes` is not kept. Raises `InvalidArgument` for a bound below 1.
    """

    def __init__(self, max_items: int = 1024, max_bytes: int = 32 * 1024 * 1024) -> None:
        if max_items < 1 or max_bytes < 1:
            raise InvalidArgument(f"max_items and max_bytes must be at least 1, got {max_items!r} and {max_bytes!r}")
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._size: int = 0

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._size

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, which are now the last used, or `None`."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, and drop the values unused for longest until both bounds hold."""
        self._size -= len(self._values.pop(key, b""))
        if len(value) > self._max_bytes:
            return
        self._values[key] = value
        self._size += len(value)
        while self._size > self._max_bytes or len(self._values) > self._max_items:
            self._size -= len(self._values.popitem(last=False)[1])


class CacheGuard:
    """A cache that fails no call and holds none up: what it raises is a miss, and it has a quarter of a second.

    After it took longer than that, it is not asked for five seconds. One WARNING a minute says what is wrong, by the
    name of the exception alone: its text may hold an address and a password.
    """

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self.cache = cache
        self.clock = clock
        self.avoided_until = -math.inf
        self.silent_until = -math.inf

    async def get(self, key: str, seconds: float = math.inf) -> bytes | None:
        """What is kept under `key`, if it comes within `seconds` and the bound."""
        found = await self.guarded(lambda: self.cache.get(key), seconds)
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes, seconds: float = math.inf) -> None:
        """Keep `value` under `key`, if that can be done in time."""
        await self.guarded(lambda: self.cache.put(key, value), seconds)

    async def guarded(self, act: Callable[[], Awaitable[T]], seconds: float) -> T | None:
        if self.clock.monotonic() < self.avoided_until or seconds <= 0:
            return None
        try:
            with self.clock.timeout(min(LONGEST, seconds)):
                return await act()
        except TimeoutError as error:
            self.avoided_until = self.clock.monotonic() + AVOIDED
            self.tell(error)
        except Exception as error:  # noqa: BLE001  # whatever a cache raises, the server can be asked
            self.tell(error)
        return None

    def tell(self, error: Exception) -> None:
        now = self.clock.monotonic()
        if now >= self.silent_until:
            self.silent_until = now + TOLD_EVERY
            logger.warning(
                "the cache %s fails (%s): calls go to the server", type(self.cache).__name__, type(error).__name__
            )

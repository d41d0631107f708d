"""A cache for responses that cannot change any more: the `Cache` protocol, `LRUCache` in memory, and `CacheGuard`,
which protects calls from failures of a cache.

The code that uses the cache decides what is stored, and under which key.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from evals_async._clock import Clock
from evals_async.errors import InvalidArgument


T = TypeVar("T")

LONGEST = 0.25  # seconds that a call waits for the cache
AVOIDED = 5.0  # seconds without the cache after it took too long
WARNING_INTERVAL = 60.0  # seconds between two warnings about one cache

logger = logging.getLogger("evals_async")


class Cache(Protocol):
    """A cache for responses that cannot change any more. To write your own (Redis, a file), implement these two
    methods.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the bytes that are stored under `key`, or `None`."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store `value` under `key`. The cache may drop it at any time."""
        ...


class LRUCache:
    """A `Cache` in memory with at most `max_items` values and `max_bytes` bytes in total.

    The least recently used value is dropped first. A value larger than `max_bytes` is not stored. Raises
    `InvalidArgument` for a limit below 1.
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
        """The number of stored bytes."""
        return self._size

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, key: str) -> bytes | None:
        """Return the bytes that are stored under `key`, or `None`. They become the most recently used."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Store `value` under `key`, and drop the least recently used values until both limits are met."""
        self._size -= len(self._values.pop(key, b""))
        if len(value) > self._max_bytes:
            return
        self._values[key] = value
        self._size += len(value)
        while self._size > self._max_bytes or len(self._values) > self._max_items:
            self._size -= len(self._values.popitem(last=False)[1])


class CacheGuard:
    """A wrapper that protects calls from failures and delays of a cache.

    An exception of the cache counts as a miss. A call waits at most 0.25 s for the cache. After a timeout the cache is
    not used for 5 s. A WARNING, at most one per minute, gives the class of the exception. It leaves out the message,
    which may contain a password.
    """

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self.cache = cache
        self.clock = clock
        self.avoided_until = -math.inf
        self.silent_until = -math.inf

    async def get(self, key: str, seconds: float = math.inf) -> bytes | None:
        """Return what is stored under `key`, or `None`. Waits at most `seconds`, and at most the limit of this
        class.
        """
        found = await self.guarded(lambda: self.cache.get(key), seconds)
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes, seconds: float = math.inf) -> None:
        """Store `value` under `key`, if the cache is fast enough."""
        await self.guarded(lambda: self.cache.put(key, value), seconds)

    async def guarded(self, act: Callable[[], Awaitable[T]], seconds: float) -> T | None:
        if self.clock.monotonic() < self.avoided_until or seconds <= 0:
            return None
        try:
            with self.clock.timeout(min(LONGEST, seconds)):
                return await act()
        except TimeoutError as error:
            self.avoided_until = self.clock.monotonic() + AVOIDED
            self.log_failure(error)
        except Exception as error:  # noqa: BLE001  # a cache may raise anything; the call then goes to the server
            self.log_failure(error)
        return None

    def log_failure(self, error: Exception) -> None:
        now = self.clock.monotonic()
        if now >= self.silent_until:
            self.silent_until = now + WARNING_INTERVAL
            logger.warning(
                "the cache %s failed (%s); calls go to the server", type(self.cache).__name__, type(error).__name__
            )

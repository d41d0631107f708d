"""Responses that never change again, kept: the `Cache` protocol, and `LRUCache`, one in memory.

What is worth keeping, and under which key, is decided by the caller. Nothing here knows an endpoint.
"""

from collections import OrderedDict
from typing import Protocol

from evals_async.errors import InvalidArgument


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
    """A `Cache` in memory: at most `max_items` values, of at most `max_bytes` in total. The value unused for longest is
    dropped first.

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

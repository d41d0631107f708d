"""The connection to Redis and its event loop, the time that Redis has for a response, and what may be said about a
failure.
"""

import asyncio
import contextlib
import errno
import logging
import math
import os
from collections.abc import Coroutine
from typing import Any, Protocol

from evals_async._clock import Clock
from evals_async._extras import extra_missing
from evals_async.errors import ClientClosed, ConfigurationError, MissingExtra, WrongLoop


REDIS_TIMEOUT = 0.05  # seconds to wait for Redis; after that, calls continue without it
SLICES = 5  # parts of this time
TRY_AGAIN = 1.0  # seconds until the next attempt to use Redis; a response may be so late and still be used
TELL_AGAIN = 60.0  # seconds between two warnings

INHERITED: list[object] = []  # connections of a parent process: closing one here could disturb the parent's event loop

logger = logging.getLogger("evals_async")


class Connection(Protocol):
    """The methods of Redis's client that are used here. Its own types depend on its version."""

    async def execute_command(self, *command: str | bytes | int) -> Any: ...

    def pipeline(self, transaction: bool = True) -> Any: ...

    async def aclose(self) -> None: ...


def connected(url: str) -> Connection:
    """Return a client that tries nothing twice. It connects at the first command.

    Raises `MissingExtra`, and `ConfigurationError` for an invalid URL. No message contains a part of the URL.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise MissingExtra(extra_missing("Redis needs", "redis")) from None
    kind: Any = Redis  # its annotations are incomplete
    try:
        redis = kind.from_url(
            url, socket_timeout=TRY_AGAIN, socket_connect_timeout=TRY_AGAIN, retry=Retry(NoBackoff(), 0)
        )
        redis.connection_pool.make_connection()  # it checks the options in the URL
    except Exception:  # noqa: BLE001  # the client raises errors of many kinds, and their messages may contain a password
        raise ConfigurationError(
            "invalid Redis URL; special characters in its password must be encoded, and its options must be known"
        ) from None
    connection: Connection = redis
    return connection


class RedisLink:
    """The connection to Redis of one limiter or cache. It belongs to one event loop until that loop is closed.

    `what` names its owner in errors. Raises the errors of `connected`.
    """

    def __init__(self, url: str, what: str) -> None:
        self.url = url
        self.what = what
        self.redis = connected(url)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pid = os.getpid()
        self.closed = False

    def here(self) -> bool:
        """Whether the connection can be used in the running event loop."""
        return not self.closed and self.loop is running_loop()

    def elsewhere(self) -> bool:
        """Whether the event loop of the connection is another one that is not closed."""
        if self.loop is None or self.loop is running_loop() or self.forked():
            return False
        return not self.loop.is_closed()

    def forked(self) -> bool:
        """Whether this process was forked since the last use."""
        return os.getpid() != self.pid

    def enter(self) -> None:
        """Make a connection of the running event loop.

        Raises `ClientClosed` after `end`, and `WrongLoop` if the loop of the last connection is not closed.
        """
        if self.closed:
            raise ClientClosed(f"this {self.what} is closed; enter it again with `async with`, or make a new one")
        if self.elsewhere():
            raise WrongLoop(f"this {self.what} was first used in another event loop; make one per loop, inside it")
        self.abandon()
        self.redis, self.loop, self.pid = connected(self.url), asyncio.get_running_loop(), os.getpid()

    def abandon(self) -> None:
        if self.forked():
            INHERITED.append(self.redis)
        else:
            abandon(self.redis)

    def end(self) -> bool:
        """Refuse all later uses. Returns whether the connection belongs to the running event loop. Raises `WrongLoop`
        as `enter` does.
        """
        if self.elsewhere():
            raise WrongLoop(f"this {self.what} is used in another event loop; close it there")
        here, self.closed = self.here(), True
        return here

    async def close(self) -> None:
        """Close the connection."""
        if self.loop is running_loop():
            await self.redis.aclose()
        else:
            self.abandon()
        self.loop = None

    def open(self) -> None:
        """Allow uses again after `end`."""
        self.closed = False


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def abandon(redis: Any) -> None:
    """Close connections whose event loop is closed, without the warnings of Redis's client and of asyncio."""
    pool = redis.connection_pool
    # None of this has public names, and each of them may be missing in another version.
    idle, used = getattr(pool, "_available_connections", ()), getattr(pool, "_in_use_connections", ())
    for connection in (*idle, *used):
        writer = getattr(connection, "_writer", None)
        if writer is not None:
            from evals_async._transport.connection import close_socket  # here, because it imports aiohttp

            with contextlib.suppress(RuntimeError):  # the loop is closed, but the transport knows now that it is too
                writer.transport.abort()
            close_socket(writer.transport)
            connection._writer = connection._reader = None  # noqa: SLF001  # as after its own `disconnect`


def reason_of(error: BaseException) -> str:
    """Return what failed: the classes of an error and of its cause, or the name of the cause's error number.

    Messages of Redis and of its client may repeat a command, a host or a password, so they are left out.
    """
    name, cause = type(error).__name__, error.__cause__ or error.__context__
    if isinstance(cause, OSError):
        name += f", {errno.errorcode.get(cause.errno or 0, type(cause).__name__)}"
    return f"Redis does not respond ({name})"


class Warnings:
    """Logs that Redis is not used, at most once a minute."""

    def __init__(self, consequence: str, clock: Clock) -> None:
        self.consequence = consequence
        self.clock = clock
        self.silent_until = -math.inf

    def warn(self, reason: str) -> None:
        now = self.clock.monotonic()
        if now >= self.silent_until:
            self.silent_until = now + TELL_AGAIN
            logger.warning("%s; %s", reason, self.consequence)


class PendingResponse:
    """The response to a command, or to several. It may come late: `in_time` does not cancel the command."""

    def __init__(self, command: Coroutine[Any, Any, Any], clock: Clock) -> None:
        self.clock = clock
        self.task = asyncio.get_running_loop().create_task(command, name="evals_async.redis.command")

    async def in_time(self) -> bool:
        """Wait for the response. Returns whether it, or an error, came in time.

        The time is counted in slices, because a process that was busy finds the end of a slice and the response at the
        same moment. So it does not take its own delay for one of Redis.
        """
        for _ in range(SLICES):
            with contextlib.suppress(TimeoutError), self.clock.timeout(REDIS_TIMEOUT / SLICES):
                await asyncio.wait([self.task])
            if self.task.done():
                return True
        return False

    async def response(self) -> Any:
        """Return the response, also a late one. Raises the errors of Redis's client, and `TimeoutError`."""
        with self.clock.timeout(TRY_AGAIN):
            await asyncio.wait([self.task])
        return self.task.result()

    async def end(self) -> None:
        """Cancel the command if it has no response. Its connection is closed then."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()  # otherwise asyncio would log it, with its message

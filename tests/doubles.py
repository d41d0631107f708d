"""What stands in for time and for the pipeline in the tests, and a response without a server. The other doubles are
real: a local server, a raw socket server.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from multidict import CIMultiDict

from evals_async import EvalsClient, Request, Response, RetryPolicy, Timeouts
from evals_async._clock import Deadline
from evals_async._transport import Pipeline
from evals_async.resources import CallDefaults, Caller


T = TypeVar("T")


def reply_of(body: bytes = b"", *, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """An answer with these headers."""
    return Response(status=status, headers=CIMultiDict(headers), body=body)


def loop_time() -> float:
    """The time of the loop that runs, which may be virtual."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:  # a clock that is made before its loop: loops count as the machine does
        return time.monotonic()


class FakeClock:
    """A clock that jumps: a sleep takes no time, is written down, and moves the clock. For one sleeper at a time.

    `draws` are the random numbers to give, the last one for ever.
    """

    def __init__(
        self, *, now: float = 1_000.0, epoch: float = 1_700_000_000.0, draws: tuple[float, ...] = (0.5,)
    ) -> None:
        self.now = now
        self.epoch = epoch - now
        self.draws = list(draws)
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.epoch + self.now

    def random(self) -> float:
        return self.draws.pop(0) if len(self.draws) > 1 else self.draws[0]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def loop_seconds(self, seconds: float, /) -> float:
        return seconds


class ScaledClock:
    """The event loop's time, `speed` times as fast: sixty seconds at speed 100 are 0.6.

    For many sleepers at once, over real sockets. What must not depend on the machine runs in virtual time besides.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.start = loop_time()
        self.rng = random.Random(0)

    def monotonic(self) -> float:
        return (loop_time() - self.start) * self.speed

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic()

    def random(self) -> float:
        return self.rng.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(self.loop_seconds(seconds))

    def loop_seconds(self, seconds: float, /) -> float:
        return seconds / self.speed


class PipelineDouble(Pipeline):
    """A pipeline whose responses come from a function. It never sends, and it tries once."""

    def __init__(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        self.respond = respond
        self.clock = FakeClock()

    async def send(self, request: Request, read: Callable[[Response], Awaitable[T]], **options: Any) -> T:
        return await read(await self.respond(request))


def caller_over(respond: Callable[[Request], Awaitable[Response]], **more: Any) -> Caller:
    """A caller without a network; `more` are a single flight, a cache and its scope."""
    defaults = CallDefaults(timeouts=Timeouts(), retry=RetryPolicy(), headers={}, query=())
    return Caller(PipelineDouble(respond), defaults, **more)


def caller_of(client: EvalsClient) -> Caller:
    """What a client sends with, for tests of what no user sees."""
    return client._caller  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above

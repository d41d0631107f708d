"""Stop watches: CPU time of this process, wall time, and how busy the server was meanwhile; in rounds, A B A B.

CPU time is what counts: other work on the machine stretches the wall time of whoever is measured at that moment, and
the CPU time less. Of several rounds the median is shown, and a ratio is the median of the ratios within the rounds:
clients that take their turns one right after the other meet the same conditions.
"""

import asyncio
import contextlib
import gc
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs


K = TypeVar("K")
T = TypeVar("T")

TESTS = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@attrs.frozen
class Measured:
    """What a client took for a unit of work: CPU seconds, wall seconds, the share of a core that the server used."""

    cpu: float
    wall: float
    server: float = 0.0


class Server:
    """The server's process."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:  # closes its input, which ends it
            pass

    def url(self, latency: int = 0) -> str:
        """The base URL behind which every answer takes so many milliseconds."""
        return f"http://127.0.0.1:{self.port}/{latency}/v1"

    def cpu(self) -> float:
        """CPU seconds so far; 0 where the system does not tell."""
        return cpu_of_process(self.process.pid)

    async def measure(self, work: Awaitable[object], units: int) -> Measured:
        """What the work took, per unit."""
        gc.collect()
        busy, cpu, wall = self.cpu(), time.process_time(), time.perf_counter()
        await work
        cpu, wall, busy = time.process_time() - cpu, time.perf_counter() - wall, self.cpu() - busy
        return Measured(cpu / units, wall / units, busy / wall)


def cpu_of_process(pid: int) -> float:
    """CPU seconds of a process so far; 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/stat")
    if not status.exists():
        return 0.0
    fields = status.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def middle_ratio(of: Iterable[float], to: Iterable[float]) -> float:
    """The median of the ratios within the rounds."""
    return statistics.median(one / other for one, other in zip(of, to, strict=True))


@attrs.frozen
class Rounds:
    """What a client took in each round."""

    measured: tuple[Measured, ...]

    @property
    def cpu(self) -> float:
        return statistics.median(m.cpu for m in self.measured)

    @property
    def wall(self) -> float:
        return statistics.median(m.wall for m in self.measured)

    @property
    def server(self) -> float:
        return max(m.server for m in self.measured)

    def times(self, other: Self, what: Callable[[Measured], float]) -> float:
        """How many times as quick as the other one, in the same round."""
        return middle_ratio(map(what, other.measured), map(what, self.measured))

    def more_than(self, other: Self) -> float:
        """How much more CPU time than the other one, in the same round."""
        return statistics.median(one.cpu - less.cpu for one, less in zip(self.measured, other.measured, strict=True))


def in_turns(names: Iterable[K], work: Callable[[K], T], rounds: int) -> dict[K, list[T]]:
    """What the work of each gave in every round; they take turns: A B C, C B A, ..."""
    seen: dict[K, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        for name in reversed(seen) if number % 2 else seen:
            seen[name].append(work(name))
    return seen


def in_rounds(
    names: Iterable[str], work: Callable[[str], Coroutine[Any, Any, Measured]], rounds: int
) -> dict[str, Rounds]:
    """Every client, measured in turns, each time in an event loop of its own."""
    seen = in_turns(names, lambda name: asyncio.run(work(name)), rounds)
    return {name: Rounds(tuple(measured)) for name, measured in seen.items()}


async def crowd(one: Callable[[str], Awaitable[object]], names: Sequence[str], concurrency: int) -> None:
    """One call per name, so many at a time."""
    left = iter(names)

    async def worker() -> None:
        for name in left:
            await one(name)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


def cpu_of(work: Callable[[], object], repeat: int = 1) -> float:
    """CPU seconds of one call, of so many in a row."""
    began = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - began) / repeat


@contextlib.contextmanager
def nothing_old_collected() -> Generator[None]:
    """What stands already is not looked at by the garbage collector meanwhile.

    In one process stand the modules of all clients: a full collection takes 55 ms, which would hit whoever is measured
    at that moment.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Stall:
    """For how long the loop was held at the worst, in seconds of this thread's CPU time."""

    longest = 0.0


@contextlib.asynccontextmanager
async def stall_watch() -> AsyncGenerator[Stall]:
    """Goes round with the loop, and looks how long each round took."""
    stall = Stall()

    async def tick() -> None:
        seen = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            stall.longest = max(stall.longest, now - seen)
            seen = now

    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield stall
    finally:
        await asyncio.sleep(0)
        task.cancel()


def environment() -> dict[str, str]:
    """What child processes get: these modules, and bytecode that is kept from one start to the next."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(TESTS)}


def child(code: str, *arguments: str) -> tuple[float, str]:
    """The CPU time of a Python process that runs `code`, in seconds, and what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - began.ru_utime - began.ru_stime, ended.stdout.strip()

"""Time and random numbers. No other module reads a clock or makes random numbers.

All code that waits, measures time or needs random numbers takes a `Clock`. The library uses `SystemClock`. Tests pass
their own clock, so that no test sleeps.
"""

import asyncio
import math
import random
import threading
import time
from contextlib import AbstractContextManager
from operator import attrgetter
from types import TracebackType
from typing import Protocol


class Clock(Protocol):
    """The interface of a source of time and random numbers. All durations are in seconds."""

    def monotonic(self) -> float:
        """Return seconds that never decrease. Only differences between two values have a meaning."""
        ...

    def time(self) -> float:
        """Return the seconds since the epoch, from the wall clock."""
        ...

    def random(self) -> float:
        """Return a uniformly distributed random number in [0, 1)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`. A cancellation ends the wait at once."""
        ...

    def timeout(self, seconds: float) -> AbstractContextManager[object]:
        """Return a context manager that raises `TimeoutError` after `seconds`, which may be infinite."""
        ...

    def loop_seconds(self, seconds: float, /) -> float:
        """Convert seconds of this clock to seconds of the event loop. They differ only if a test's clock runs
        faster.
        """
        ...


class Alarm:
    """One timer for all deadlines of an event loop. It is set to the earliest deadline, and then to the next one.

    Nearly all deadlines end before their time. They then cost an entry in a dict, and no timer of the event loop, as
    `asyncio.timeout` would need for each of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: dict[TaskDeadline, None] = {}  # in the order in which they were set
        self.timer: asyncio.TimerHandle | None = None
        self.rings = math.inf

    def set(self, at: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.rings = at
        self.timer = self.loop.call_at(at, self.ring)

    def ring(self) -> None:
        now = max(self.rings, self.loop.time())  # timers may fire a little early
        self.timer, self.rings = None, math.inf
        for deadline in sorted((one for one in self.waiting if one.end <= now), key=attrgetter("end")):
            self.waiting.pop(deadline, None)
            deadline.passed = True
            deadline.task.cancel()
        earliest = min((one.end for one in self.waiting), default=math.inf)
        if earliest < math.inf:
            self.set(earliest)


class Alarms(threading.local):
    """The alarm of the event loop that runs in this thread."""

    latest: Alarm | None = None


ALARMS = Alarms()


def alarm_of(loop: asyncio.AbstractEventLoop) -> Alarm:
    """The alarm of the running event loop."""
    alarm = ALARMS.latest
    if alarm is None or alarm.loop is not loop:
        alarm = ALARMS.latest = Alarm(loop)
    return alarm


class TaskDeadline:
    """A `Deadline` of a task that is known already. It can be entered again, each time for `seconds`."""

    __slots__ = ("alarm", "cancelling", "end", "passed", "seconds", "task")

    def __init__(self, task: asyncio.Task[object], alarm: Alarm, seconds: float) -> None:
        self.task = task
        self.cancelling = task.cancelling()
        self.alarm = alarm
        self.seconds = seconds  # of the event loop
        self.passed = False

    def __enter__(self) -> None:
        alarm = self.alarm
        self.passed = False
        self.end = end = alarm.loop.time() + self.seconds
        alarm.waiting[self] = None
        if end < alarm.rings:
            alarm.set(end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alarm.waiting.pop(self, None)
        if self.passed and self.task.uncancel() <= self.cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


class Deadline(TaskDeadline):
    """A context manager that raises `TimeoutError` after a number of seconds.

    It works like `asyncio.timeout`, also with other cancellations of the task, but it is entered and left without
    `await`.
    """

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline works inside a task only")
        super().__init__(task, alarm_of(loop), self.seconds)
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            del self.task  # otherwise an error that refers to this object would live until the next garbage collection


class SystemClock:
    """The time of the machine, the timers of the event loop, and the random numbers of the process."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
    random = staticmethod(random.random)
    timeout = Deadline
    loop_seconds = staticmethod(float)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()

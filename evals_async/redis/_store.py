"""`Store`: the state of one quota in Redis, as this process knows it."""

import contextlib
import os
import uuid
from collections.abc import Callable

from evals_async._clock import Clock
from evals_async.redis._connection import PendingResponse, RedisLink
from evals_async.redis._state import EXCHANGE, FAR, GONE, LOOK, Offset, State, Write


KEPT = 300  # seconds until Redis deletes an unused state
SAME, OLD, TAKEN = 1, 0, 2  # responses of the script
SMOOTH = 8  # responses in a moving average
SPACING = 0.01  # seconds between the writes of all processes, or longer if Redis or this process is slow
SPREAD = 0.001  # seconds for each other process; they write at random times in it, so that they do not collide
UNREAD = "?"  # a version that no state has: the script only reads


class Store:
    """Reads and writes the state of a quota. `late` is called if Redis does not respond in time."""

    def __init__(self, link: RedisLink, name: str, clock: Clock, late: Callable[[], None]) -> None:
        self.link = link
        self.key = f"evals-async:limit:{{{name}}}"
        self.clock = clock
        self.late = late
        self.me = ""  # the name of this process
        self.state: State | None = None  # the last written or read state
        self.version = UNREAD
        self.serial = 0  # the number of the last write
        self.unclear: list[Write] = []  # writes whose response was lost: Redis has executed at most one of them
        self.offset = Offset()
        self.took = 0.0  # seconds from a command to its response, a moving average

    def now(self) -> float:
        """Return the time of the Redis server."""
        return self.clock.monotonic() + self.offset.seconds

    def rename(self) -> None:
        """Give this process a new name. Two processes with one name would write different states as one version."""
        self.me = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def forget(self) -> None:
        self.unclear.clear()
        self.state, self.version = None, UNREAD

    async def exchange(self, state: State | None, write: Write, *, lease: int) -> tuple[int, bool]:
        """Write the state, or only read. Returns the first number of the script's response, and whether it came in
        time. If another process has changed the state, it is stored here.
        """
        began = self.clock.monotonic()
        version, data = f"{self.me}:{write.serial}", b"" if state is None else bytes(state)
        if data:
            self.unclear.append(write)
        words = (self.key, self.version, version, data, 1000 * KEPT, self.me, lease)
        pending = PendingResponse(self.link.redis.execute_command("EVAL", EXCHANGE, 1, *words), self.clock)
        try:
            in_time = await pending.in_time()
            if not in_time:
                self.late()
            answer, seconds, micros, held, stored = await pending.response()
        finally:
            await pending.end()
        ended = self.clock.monotonic()
        self.took += (ended - began - self.took) / SMOOTH
        self.offset.measure(began, ended, int(seconds) + int(micros) / 1e6)
        if answer == SAME and data:
            self.version, self.state = version, state
            self.unclear.clear()
        if answer == OLD:
            self.version = held.decode() if isinstance(held, bytes) else str(held)
            self.state = None
            if stored:
                with contextlib.suppress(ValueError):  # the state of another version of this package is written anew
                    self.state = State.of(stored)
        return int(answer), in_time

    def executed(self) -> Write | None:
        """Return the write that was executed although its response was lost. Its observations are not written again."""
        members = {} if self.state is None else self.state.members
        _, _, executed, _ = members.get(self.me, (0, 0.0, -1, False))
        now, unclear, self.unclear = self.now(), self.unclear, []
        for write in unclear:
            if write.serial == executed or now - write.at >= GONE:  # after this time, the state says nothing about it
                return write
        return None

    def spacing(self) -> float:
        """Return the seconds in which one process can read and write the state."""
        return max(SPACING, 2 * self.took)

    def turn(self) -> float:
        """Return the seconds in which each process can read and write the state once."""
        return min(FAR, self.spacing() * self.running())

    def spread(self) -> float:
        """Return the seconds over which the processes spread what they write at the same time."""
        return min(LOOK, SPREAD * (self.running() - 1))

    def until_free(self) -> float:
        """Return the longest time to wait for a process that has a lease."""
        paced = self.state is not None and self.state.paced(self.now())
        return self.turn() if paced else self.spread()

    def running(self) -> int:
        """Return the number of processes in the state, with this one."""
        return 1 if self.state is None else max(1, len(self.state.members))

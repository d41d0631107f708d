"""An event loop that waits for no timer: where nobody has anything to do, its time moves on to the next one at once.

Unlike the loop of `simulation`, this one carries real sockets and threads. A test on it (mark it `virtual_time`) is as
exact on a slow machine as on a fast one: however long a request takes, no time passes while it is under way.
"""

import asyncio
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURN = 10e-6  # seconds that a turn of the loop takes: somebody who never waits does not stop the time
ARRIVAL = 0.001  # real seconds that are left for what comes from the network, after everything sent has arrived
STUCK = 60.0  # real seconds after which nobody is expected any more


class SkippingSelector(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, this moves the time there, if nothing is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic()
        self.threads = 0  # jobs that are under way in other threads
        self.children: list[asyncio.SubprocessTransport] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.sender = socket.create_connection(server.getsockname())
            self.receiver, _ = server.accept()
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += TURN
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if timeout is None or self.threads:
            events = super().select(STUCK)
            assert events, "everybody waits, and nothing will ever happen"
            return events
        if self.children:
            return self.with_children(timeout)
        if events := self.arrived():
            return events
        self.now += timeout
        return []

    def arrived(self) -> list[tuple[selectors.SelectorKey, int]]:
        """What is on its way: what was sent over the loopback arrives before what is sent now."""
        self.sender.send(b"x")
        self.receiver.recv(1)
        return super().select(ARRIVAL)

    def with_children(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait like any loop: the time of a process is the machine's."""
        began = time.monotonic()
        events = super().select(timeout)
        self.now += time.monotonic() - began if events else timeout
        self.children = [child for child in self.children if child.get_returncode() is None]
        return events

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()
        super().close()


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop in which sleep takes no real time. While a thread works for it, its time stands; while a process that it
    started runs, its time is the machine's.
    """

    def __init__(self) -> None:
        self.skipping = SkippingSelector()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        job = super().run_in_executor(executor, func, *args)
        self.skipping.threads += 1
        job.add_done_callback(self.back)
        return job

    async def subprocess_exec(self, *args: Any, **options: Any) -> tuple[asyncio.SubprocessTransport, Any]:
        transport, protocol = await super().subprocess_exec(*args, **options)
        self.skipping.children.append(transport)
        return transport, protocol

    def back(self, _: asyncio.Future[Any]) -> None:
        self.skipping.threads -= 1

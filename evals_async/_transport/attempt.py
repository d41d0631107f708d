"""What is known of one attempt: `AttemptState`. Written by the connector, read by the pipeline."""

from contextvars import ContextVar
from typing import Protocol

from evals_async._clock import Deadline


class Droppable(Protocol):
    """The end of a connection that can be told not to be used again, and that knows what broke it."""

    def force_close(self) -> None: ...

    def exception(self) -> BaseException | None: ...


class AttemptState(Deadline):
    """One attempt of a request, while its time lasts: a deadline that is entered once.

    `sent` is false as long as it is certain that no byte of the request left; `reused` tells that its connection had
    served another request before; `received` counts the decoded bytes of the body. `ends` is the monotonic time at
    which it is given up, by the client's clock; `seconds` is how long that is, by the loop's.
    """

    __slots__ = ("connection", "ends", "received", "reused", "sent")

    def __init__(self, seconds: float, ends: float) -> None:
        self.seconds = seconds  # and no call of the base's: of these, each attempt makes one
        self.ends = ends
        self.sent = False
        self.reused = False
        self.received = 0
        self.connection: Droppable | None = None

    def drop(self) -> None:
        """Let the connection not be used again: what came over it cannot be trusted."""
        if self.connection is not None:
            self.connection.force_close()


CURRENT: ContextVar[AttemptState] = ContextVar("evals_async_trip")
"""The attempt that the running task is on. The connector is called by aiohttp, which can hand nothing else through."""

"""The limit of concurrent requests to the number of connections: `Slots`. Rates are in `limiter`."""

import asyncio
from collections import OrderedDict

from evals_async._clock import Clock
from evals_async.errors import DeadlineExceeded


class Slots:
    """A limit of concurrent requests to the number of connections. Calls wait here, in order, and not in the
    connector.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        self.count = count
        self._clock = clock
        self._free = count
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # any call can leave it in constant time

    @property
    def taken(self) -> int:
        return self.count - self._free

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def try_acquire(self) -> bool:
        """Take a free slot without waiting, which is the usual case."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def acquire(self, end: float) -> None:
        """Wait for a slot. Raises `DeadlineExceeded` if none comes before `end`."""
        turn = asyncio.get_running_loop().create_future()
        self._queue[turn] = None
        try:
            with self._clock.timeout(end - self._clock.monotonic()):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise DeadlineExceeded(f"all {self.count} connections were busy until the deadline of this call") from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():
            self.release()  # it got the slot at the same moment
        else:
            self._queue.pop(turn, None)

    def release(self) -> None:
        """Give the slot to the call that has waited longest."""
        while self._queue:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

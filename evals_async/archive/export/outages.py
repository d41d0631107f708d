"""`OutagePolicy`: how long an export waits for a server that fails. All workers of an export share it.

The client has already retried each request. The waits here last up to minutes and are reported. Nothing here sends a
request.
"""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from evals_async._clock import Clock
from evals_async.archive.values import Waiting
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    DeadlineExceeded,
    DecodeError,
    EvalsError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    TlsError,
    TransportError,
    Unauthenticated,
)


P = ParamSpec("P")
T = TypeVar("T")

ROUNDS = 5  # failures of one request while others succeed, until its error is raised
LONGEST_PAUSE = 30.0  # seconds
MAX_SERVER_DELAY = 900.0  # seconds; a longer delay of the server ends the export
LONGEST_DELAYS = 3600.0  # seconds of delays of the server, one after the other, without a success
FIRST_TRIES = 3
FIRST_CONTACT = 8.0  # seconds of failures before the first response, so that a mistyped address fails quickly
FIRST_ANSWER = 30.0  # seconds without any response before the first one; some servers are slow
SILENT = (
    "the server has not responded within {seconds:g} s; if it is slow, give it more time: --first-answer SECONDS, or "
    "first_answer=...: {error}"
)


class TryAgain(EvalsError):
    """The server does not respond for a long time, or sends a delay that is too long. Try again later."""


def is_fatal(error: Exception) -> bool:
    """Return whether no other request can succeed: the key is rejected, the quota is used up, or a bug in our code."""
    return not isinstance(error, RequestError) or isinstance(error, Unauthenticated | QuotaExceeded | TlsError)


def error_text(error: EvalsError) -> str:
    """Return the text of an error to store, with advice if the user can solve it."""
    if isinstance(error, BodyTooLarge):
        return f"{error}; to accept more: --max-body SIZE, or EvalsClient(max_body=...)"
    return str(error)


class OutagePolicy:
    """`await outages.call(attempt, ...)`: repeats an attempt while it may succeed.

    If one request keeps failing while others succeed, its error is raised after 5 failures. If no request succeeds for
    `max_outage` seconds, or for an hour more if the server sends delays, all calls raise `TryAgain`. If `probe` then
    succeeds (a request that a server that is up answers), the server is not down, and the call raises its own error.
    Before the first response they raise it earlier: after 8 seconds of failures, or after `first_answer` seconds
    without a response. `on_wait` is called with each wait, and with `None` when the server responds again.
    """

    def __init__(
        self,
        clock: Clock,
        max_outage: float,
        on_wait: Callable[[Waiting | None], object] | None = None,
        *,
        first_answer: float = FIRST_ANSWER,
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.clock = clock
        self.max_outage = max_outage
        self.first_answer = first_answer
        self.on_wait = on_wait
        self.probe = probe
        self.successes = 0
        self.last_success = clock.monotonic()
        self.delayed_until = 0.0  # a delay that the server sent does not count as an outage
        self.waiting = False

    async def call(self, attempt: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of `attempt(...)`. Raises its last error, or `TryAgain`."""
        rounds, alone, before = 0, 0, self.successes
        while True:
            try:
                value = await attempt(*args, **kwargs)
            except RequestError as error:
                if not error.transient:
                    raise
                rounds += 1
                # A failure only counts if another request succeeded meanwhile. Otherwise the server is down.
                alone += self.successes > before
                before = self.successes
                if alone >= ROUNDS:
                    raise
                await self.wait(error, rounds)
            else:
                self.succeeded()
                return value

    def succeeded(self) -> None:
        self.successes += 1
        self.last_success = self.clock.monotonic()
        if self.waiting:
            self.waiting = False
            if self.on_wait is not None:
                self.on_wait(None)

    async def wait(self, error: RequestError, rounds: int) -> None:
        delay = error.retry_after if isinstance(error, ApiError) else None
        if delay is not None and delay > MAX_SERVER_DELAY:
            raise TryAgain(f"the server asks to wait {delay:.0f} s: {error}") from error
        now = self.clock.monotonic()
        silence = now - max(self.last_success, self.delayed_until)
        if now - self.last_success > self.max_outage + LONGEST_DELAYS:
            raise TryAgain(f"the server only asks to wait, for {now - self.last_success:.0f} s: {error}") from error
        # An error response shows that the server is there.
        no_contact = not self.successes and isinstance(error, TransportError | DecodeError)
        if no_contact and isinstance(error, DeadlineExceeded) and silence >= self.first_answer:
            raise TryAgain(SILENT.format(seconds=self.first_answer, error=error)) from error
        most = min(self.max_outage, FIRST_CONTACT) if no_contact else self.max_outage
        if silence > self.max_outage or (silence > most and rounds >= FIRST_TRIES):
            if await self.responds():
                raise error
            what = "the server cannot be reached" if no_contact else f"nothing succeeded for {silence:.0f} s"
            raise TryAgain(f"{what}: {error}") from error
        pause = min(LONGEST_PAUSE, 2.0**rounds) * (0.5 + self.clock.random() / 2)
        if rounds == 1 and (delay is not None or isinstance(error, RateLimited)):
            pause = 0.0  # the client's rate limiter already delays the next request
        if delay is not None and delay > pause:
            pause = delay
            self.delayed_until = max(self.delayed_until, now + delay)
        self.report_wait(error, now, max(now + pause, now - silence + most) if delay is None else now + pause)
        await self.clock.sleep(pause)

    async def responds(self) -> bool:
        """Return whether the server is up, and only the requests that were made fail."""
        if self.probe is None:
            return False
        try:
            await self.probe()
        except RequestError:
            return False
        self.succeeded()
        return True

    def report_wait(self, error: RequestError, now: float, until: float) -> None:
        """Report a wait, with its times converted from the monotonic clock to seconds since the epoch."""
        self.waiting = True
        if self.on_wait is not None:
            offset = self.clock.time() - now
            self.on_wait(Waiting(why=str(error), since=self.last_success + offset, until=until + offset))

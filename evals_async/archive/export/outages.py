"""How long to bear a server that fails: `OutagePolicy`, shared by everyone who copies.

The client has retried each request by its own rules before anything comes here: these waits are of minutes, and are
told. Nothing here sends.
"""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from evals_async._clock import Clock
from evals_async.archive.values import Waiting
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    DeadlineExceeded,
    EvalsError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    TlsError,
    Unauthenticated,
)


P = ParamSpec("P")
T = TypeVar("T")

ROUNDS = 5  # failures of one thing, while others succeed, after which it is given up
LONGEST_PAUSE = 30.0  # seconds
MAX_SERVER_DELAY = 900.0  # seconds that the server may ask to wait
FIRST_TRIES = 3
FIRST_CONTACT = 8.0  # seconds of failures before the first answer: a mistyped address should not be waited for
FIRST_ANSWER = 30.0  # seconds that a server may be silent before its first answer: some are slow and alive
SILENT = (
    "the server has not answered within {seconds:g} s; if it is slow, give it more time: --first-answer SECONDS, or "
    "first_answer=...: {error}"
)


class TryAgain(EvalsError):
    """The server does not answer for long, or asks for a longer pause than is waited for. Later it may."""


def is_fatal(error: Exception) -> bool:
    """Whether no other request can succeed either: the key is refused, the quota is used up, our own misuse."""
    return not isinstance(error, RequestError) or isinstance(error, Unauthenticated | QuotaExceeded | TlsError)


def told(error: EvalsError) -> str:
    """An error in words to keep, with the cure where the user has one."""
    if isinstance(error, BodyTooLarge):
        return f"{error}; to accept more: --max-body SIZE, or EvalsClient(max_body=...)"
    return str(error)


class OutagePolicy:
    """`await outages.call(attempt, ...)`: the attempt is repeated while it may still succeed.

    One thing that keeps failing while others succeed raises its error after a few rounds. When nothing succeeds at all
    for `max_outage` seconds, everyone gets `TryAgain`. Before the first contact that comes sooner: after a few
    failures, or when the server has been silent for `first_answer` seconds. `tell` is called with what is waited for,
    and with `None` when the server answers again.
    """

    def __init__(
        self,
        clock: Clock,
        max_outage: float,
        tell: Callable[[Waiting | None], object] | None = None,
        *,
        first_answer: float = FIRST_ANSWER,
    ) -> None:
        self.clock = clock
        self.max_outage = max_outage
        self.first_answer = first_answer
        self.tell = tell
        self.successes = 0
        self.last_success = clock.monotonic()
        self.asked_until = 0.0  # a pause that the server asked for is no outage
        self.waiting = False

    async def call(self, attempt: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `attempt` returns in the end. Raises its last error, or `TryAgain`."""
        rounds, alone, before = 0, 0, self.successes
        while True:
            try:
                value = await attempt(*args, **kwargs)
            except RequestError as error:
                if not error.transient:
                    raise
                rounds += 1
                # Counted only where others succeeded meanwhile: when nothing does, the server is down.
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
            if self.tell is not None:
                self.tell(None)

    async def wait(self, error: RequestError, rounds: int) -> None:
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None and asked > MAX_SERVER_DELAY:
            raise TryAgain(f"the server asks to wait {asked:.0f} s: {error}") from error
        now = self.clock.monotonic()
        silence = now - max(self.last_success, self.asked_until)
        # A server that answers with an error is there.
        no_contact = not self.successes and not isinstance(error, ApiError)
        if no_contact and isinstance(error, DeadlineExceeded) and silence >= self.first_answer:
            raise TryAgain(SILENT.format(seconds=self.first_answer, error=error)) from error
        most = min(self.max_outage, FIRST_CONTACT) if no_contact else self.max_outage
        if silence > self.max_outage or (silence > most and rounds >= FIRST_TRIES):
            what = "the server cannot be reached" if no_contact else f"nothing succeeded for {silence:.0f} s"
            raise TryAgain(f"{what}: {error}") from error
        pause = min(LONGEST_PAUSE, 2.0**rounds) * (0.5 + self.clock.random() / 2)
        if rounds == 1 and (asked is not None or isinstance(error, RateLimited)):
            pause = 0.0  # a limit is no outage: the client's limiter finds out when the next request may go
        if asked is not None and asked > pause:
            pause = asked
            self.asked_until = max(self.asked_until, now + asked)
        self.tell_of(error, now, max(now + pause, now - silence + most) if asked is None else now + pause)
        await self.clock.sleep(pause)

    def tell_of(self, error: RequestError, now: float, until: float) -> None:
        """Report a wait. The clock of the day is told, not that of the machine."""
        self.waiting = True
        if self.tell is not None:
            day = self.clock.time() - now
            self.tell(Waiting(why=str(error), since=self.last_success + day, until=until + day))

"""How long to bear a server that fails: `OutagePolicy`, shared by everyone who copies.

The client has retried each request by its own rules before anything comes here; this is the patience of hours, not of
seconds. Nothing here sends.
"""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from evals_async._clock import Clock
from evals_async.errors import (
    ApiError,
    BodyTooLarge,
    EvalsError,
    QuotaExceeded,
    RequestError,
    TlsError,
    Unauthenticated,
)


P = ParamSpec("P")
T = TypeVar("T")

ROUNDS = 5  # failures of one thing, while others succeed, after which it is given up
LONGEST_PAUSE = 30.0  # seconds
MAX_SERVER_DELAY = 900.0  # seconds that the server may ask to wait
FIRST_PATIENCE = 20.0  # seconds until the first success: a mistyped address should not be waited for


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
    for `patience` seconds, everyone gets `TryAgain`.
    """

    def __init__(self, clock: Clock, patience: float) -> None:
        self.clock = clock
        self.patience = patience
        self.successes = 0
        self.last_success = clock.monotonic()

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
                self.successes += 1
                self.last_success = self.clock.monotonic()
                return value

    async def wait(self, error: RequestError, rounds: int) -> None:
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None and asked > MAX_SERVER_DELAY:
            raise TryAgain(f"the server asks to wait {asked:.0f} s: {error}") from error
        silence = self.clock.monotonic() - self.last_success
        patience = self.patience if self.successes else min(self.patience, FIRST_PATIENCE)
        if silence > patience:
            raise TryAgain(f"nothing succeeded for {silence:.0f} s: {error}") from error
        await self.clock.sleep(min(LONGEST_PAUSE, 2.0**rounds) * (0.5 + self.clock.random() / 2))

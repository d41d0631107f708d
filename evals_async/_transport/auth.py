"""How a request proves who sends it: a key, Azure's key, or tokens from a provider such as azure-identity.

Secrets live here and in `SecretHeaders`, which show themselves in no repr and refuse to be pickled or copied. Nothing
here performs I/O of its own, and nothing here reads the environment.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Final, NoReturn, Protocol, TypeAlias

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async.errors import ConfigurationError


class ExpiringToken(Protocol):
    """What azure-identity's credentials return: the token, and when it ends, in seconds since the epoch."""

    @property
    def token(self) -> str: ...

    @property
    def expires_on(self) -> float: ...


Token: TypeAlias = str | ExpiringToken
TokenProvider: TypeAlias = Callable[[], Awaitable[Token]] | Callable[[], Token]

TOKEN_KEPT = 120.0  # seconds before the provider is asked again; providers keep tokens too, this saves the asking
SHORTEST_SECRET = 8  # characters
TOKEN_MARGIN = 30.0  # seconds before its end that a token is no longer used: the server's clock is not ours


class SecretHeaders(dict[str, str]):
    """Headers whose values are in no repr, so in no traceback that shows local variables, and in no pickle."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("headers that hold a key are neither pickled nor copied")


def merged_headers(*groups: Mapping[str, str]) -> SecretHeaders:
    """All headers of those groups; of a name in several, in whatever case, the last one."""
    found = {name.lower(): (name, value) for group in groups for name, value in group.items()}
    return SecretHeaders(found.values())


class Auth(Protocol):
    """Gives the headers that prove who sends a request."""

    async def headers(self) -> Mapping[str, str]:
        """The headers for one attempt; asked anew for each."""
        ...

    def refused(self, headers: Mapping[str, str]) -> bool:
        """The server answered 401 to these headers: is it worth asking for others?"""
        return False


class NoKey(Enum):
    """The type of `NO_KEY`, which is given as `api_key` where an endpoint wants no credentials at all."""

    NO_KEY = "NO_KEY"

    def __repr__(self) -> str:
        return "NO_KEY"


NO_KEY: Final = NoKey.NO_KEY
NO_CREDENTIALS = SecretHeaders()


class Anonymous(Auth):
    """Sends no credentials."""

    async def headers(self) -> Mapping[str, str]:
        return NO_CREDENTIALS


class MissingKey(Auth):
    """Stands for a key that was not given. A client without one can still verify webhooks."""

    async def headers(self) -> NoReturn:
        raise ConfigurationError(
            "no API key: pass api_key= or set OPENAI_API_KEY (for Azure, AZURE_OPENAI_API_KEY or a token provider); "
            "for a server that wants none, pass api_key=NO_KEY"
        )


class StaticKey(Auth):
    """An API key, sent as `Authorization: Bearer …`. Raises `ConfigurationError` for a key that cannot be one."""

    def __init__(self, key: str) -> None:
        if (fault := fault_of(key, "api_key")) is not None:
            del key  # a traceback may show local variables
            raise ConfigurationError(fault)
        self.given = self.headers_with(key)

    def headers_with(self, key: str) -> SecretHeaders:
        return SecretHeaders({"Authorization": f"Bearer {key}"})

    async def headers(self) -> Mapping[str, str]:
        return self.given

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a key and is neither pickled nor copied")


class AzureKey(StaticKey):
    """A key of an Azure resource, sent as `api-key: …`. Raises `ConfigurationError` for a key that cannot be one."""

    def headers_with(self, key: str) -> SecretHeaders:
        return SecretHeaders({"api-key": key})


class BearerTokens(Auth):
    """Tokens from a provider, such as azure-identity's `get_bearer_token_provider`, sent as `Authorization: Bearer …`.

    The provider takes no arguments and returns a token, or an awaitable of one; a token is a string, or has `.token`
    and `.expires_on`. A provider that is no coroutine function runs in a thread, because those of azure-identity do
    network I/O. A token is used for two minutes at most, for shorter where it ends earlier, and no longer after a 401.
    Requests that need a token at the same time wait for one call of the provider, and one of them that is cancelled
    does not disturb the others. What the provider raises comes through as it is.
    """

    def __init__(self, provider: TokenProvider, *, clock: Clock = SYSTEM_CLOCK) -> None:
        if not callable(provider):
            raise ConfigurationError("the token provider must be callable without arguments")
        self.provider = provider
        self.clock = clock
        self.given = SecretHeaders()
        self.good_until = -1.0
        self.asking: asyncio.Task[None] | None = None

    async def headers(self) -> Mapping[str, str]:
        while self.clock.monotonic() >= self.good_until:
            if self.asking is None or self.asking.done():
                self.asking = asyncio.create_task(self.ask())
                self.asking.add_done_callback(heard)
            # Shielded: the task belongs to everyone who waits for it, so nobody's cancellation may end it.
            await asyncio.shield(self.asking)
        return self.given

    async def ask(self) -> None:
        provider = self.provider
        answer = provider() if inspect.iscoroutinefunction(provider) else await asyncio.to_thread(provider)
        token = await answer if inspect.isawaitable(answer) else answer
        kept = TOKEN_KEPT
        if not isinstance(token, str):
            kept = min(kept, token.expires_on - TOKEN_MARGIN - self.clock.time())
            token = token.token
        if (fault := fault_of(token, "the token")) is not None:
            del answer, token  # a traceback may show local variables
            raise ConfigurationError(fault)
        self.given = SecretHeaders({"Authorization": f"Bearer {token}"})
        # A token that is about to end is still given to those who wait for it now.
        self.good_until = self.clock.monotonic() + max(kept, 1.0)

    def refused(self, headers: Mapping[str, str]) -> bool:
        if headers is self.given:  # and not a newer one already
            self.good_until = -1.0
        return True

    def __repr__(self) -> str:
        return "BearerTokens(<hidden>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("BearerTokens holds a token and is neither pickled nor copied")


def fault_of(value: object, name: str) -> str | None:
    """Why `value` cannot be sent as a secret, in words that do not hold it; `None` if it can."""
    if not isinstance(value, str):
        return f"{name} must be a str, not {type(value).__name__}"
    if not value:
        return f"{name} is empty"
    if value[:7].lower() == "bearer ":
        return f"{name} begins with 'Bearer': give the key alone"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} contains whitespace, control or non-ASCII characters; was it read from a file with its newline?"
    return None


def heard(task: asyncio.Task[None]) -> None:
    """Look at how a task ended, in case everyone who waited for it has left; or asyncio would complain."""
    if not task.cancelled():
        task.exception()


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The values in authentication headers that must not be shown, without the word `Bearer`.

    Those of a few characters are none, and would be found in every text.
    """
    values = (value.removeprefix("Bearer ") for value in headers.values())
    return tuple(value for value in values if len(value) >= SHORTEST_SECRET)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text`, with every secret in it replaced by `[redacted]`."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return text

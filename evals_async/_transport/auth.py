"""How a request proves who sends it: a key, Azure's key, or tokens from a provider such as azure-identity.

Secrets live here and in `SecretHeaders`, which show themselves in no repr and refuse to be pickled or copied. Nothing
here performs I/O of its own, and nothing here reads the environment.
"""

import asyncio
import inspect
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from hashlib import sha256
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


CREDENTIALS = frozenset({"authorization", "api-key"})
"""The headers, in lower case, that prove who sends a request."""

SECRET_NAME = re.compile(
    r"auth|cookie|api-?key|access-key|subscription-key|token|secret|passw|credential", re.IGNORECASE
)

NOTHING: frozenset[str] = frozenset()


class SecretHeaders(dict[str, str]):
    """Headers whose values are in no repr, so in no traceback that shows local variables, and in no pickle.

    `decided` are the names of credentials that whoever calls gave or took away; see `Auth.replaced_by`.
    """

    decided: frozenset[str] = NOTHING

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("headers that hold a key are neither pickled nor copied")


def merged_headers(*groups: Mapping[str, str | None]) -> SecretHeaders:
    """All headers of those groups; of a name in several, in whatever case, the last one. `None` takes one away."""
    found = {name.lower(): (name, value) for group in groups for name, value in group.items()}
    merged = SecretHeaders((name, value) for name, value in found.values() if value is not None)
    decided = CREDENTIALS & found.keys()
    for group in groups:
        if isinstance(group, SecretHeaders):
            decided |= group.decided
    if decided:
        merged.decided = decided
    return merged


class Auth(Protocol):
    """Gives the headers that prove who sends a request.

    `replaced_by` are the headers, in lower case, in whose place none of these are sent: a caller who gives one of them
    says who he is. `identity` is the same for the same credentials, and shows nothing of them; `None` where they may be
    others for each request, so that nothing may be shared among requests.
    """

    replaced_by: frozenset[str] = CREDENTIALS
    identity: str | None = None

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

    identity = "anonymous"

    async def headers(self) -> Mapping[str, str]:
        return NO_CREDENTIALS


class MissingKey(Auth):
    """Stands for a key that was not given. A client without one can still verify webhooks."""

    identity = "missing"

    async def headers(self) -> NoReturn:
        raise ConfigurationError(
            "no API key: pass api_key= or set OPENAI_API_KEY (for Azure, AZURE_OPENAI_API_KEY or a token provider); "
            "for a server that wants none, pass api_key=NO_KEY"
        )


class StaticKey(Auth):
    """An API key, sent as `Authorization: Bearer …`. Raises `ConfigurationError` for a key that cannot be one."""

    replaced_by = frozenset({"authorization"})

    def __init__(self, key: str, name: str = "api_key", *, replaced_by: frozenset[str] | None = None) -> None:
        if replaced_by is not None:
            self.replaced_by = replaced_by
        if (fault := fault_of(key, name)) is not None:
            del key  # a traceback may show local variables
            raise ConfigurationError(fault)
        self.given = self.headers_with(key)
        self.identity = digest_of(key)

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

    replaced_by = CREDENTIALS

    def headers_with(self, key: str) -> SecretHeaders:
        return SecretHeaders({"api-key": key})


class CachedTokens:
    """A token provider whose tokens may be kept: give it as `api_key` where all requests are of one identity.

    A token is used for two minutes at most, for shorter where it ends earlier, and no longer after a 401. Requests that
    need a token at the same time wait for one call of the provider. `scope` names whose tokens they are: clients and
    processes that give the same one find each other's runs in a shared cache. Without it, what is cached is this
    client's own.
    """

    def __init__(self, provider: TokenProvider, *, scope: str | None = None) -> None:
        if not callable(provider):
            raise ConfigurationError("the token provider must be callable without arguments")
        self._provider = provider
        self._scope = scope


class AskedTokens(Auth):
    """Tokens from a function that is asked for each attempt, so that each request may have another; sent as
    `Authorization: Bearer …`.

    A function that is no coroutine function runs in a thread, because it may read a file or the network; it sees the
    context variables of the call. What it raises comes through as it is.
    """

    def __init__(self, provider: TokenProvider, *, replaced_by: frozenset[str] = CREDENTIALS) -> None:
        if not callable(provider):
            raise ConfigurationError("the token provider must be callable without arguments")
        self.provider = provider
        self.replaced_by = replaced_by
        self.given = SecretHeaders()

    async def headers(self) -> Mapping[str, str]:
        headers, _ = await asked(self.provider)
        if headers != self.given:  # the same object for the same token: then what is made of it is not made anew
            self.given = headers
            return headers
        return self.given

    def refused(self, headers: Mapping[str, str]) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a token and is neither pickled nor copied")


class BearerTokens(AskedTokens):
    """Tokens from a provider, such as azure-identity's `get_bearer_token_provider`, that are kept; see `CachedTokens`.

    One of the requests that wait for a token together may be cancelled without disturbing the others.
    """

    def __init__(
        self,
        provider: TokenProvider,
        *,
        clock: Clock = SYSTEM_CLOCK,
        scope: str | None = None,
        replaced_by: frozenset[str] = CREDENTIALS,
    ) -> None:
        super().__init__(provider, replaced_by=replaced_by)
        self.clock = clock
        self.identity = secrets.token_hex(16) if scope is None else f"scope {scope}"
        self.good_until = -1.0
        self.asking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, tokens: CachedTokens, *, clock: Clock, replaced_by: frozenset[str]) -> "BearerTokens":
        provider, scope = tokens._provider, tokens._scope  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # above
        return cls(provider, clock=clock, scope=scope, replaced_by=replaced_by)

    async def headers(self) -> Mapping[str, str]:
        while self.clock.monotonic() >= self.good_until:
            asking = self.asking
            if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
                asking = self.asking = asyncio.create_task(self.ask())
                asking.add_done_callback(heard)
            # Shielded: the task belongs to everyone who waits for it, so nobody's cancellation may end it.
            await asyncio.shield(asking)
        return self.given

    async def ask(self) -> None:
        self.given, ends = await asked(self.provider)
        kept = TOKEN_KEPT if ends is None else min(TOKEN_KEPT, ends - TOKEN_MARGIN - self.clock.time())
        # A token that is about to end is still given to those who wait for it now.
        self.good_until = self.clock.monotonic() + max(kept, 1.0)

    def refused(self, headers: Mapping[str, str]) -> bool:
        if headers is self.given:  # and not a newer one already
            self.good_until = -1.0
        return True


async def asked(provider: TokenProvider) -> tuple[SecretHeaders, float | None]:
    """The headers with the token that `provider` gives now, and when it ends, if the token says so."""
    answer = provider() if is_coroutine_function(provider) else await asyncio.to_thread(provider)
    token: object = await answer if inspect.isawaitable(answer) else answer
    ends: float | None = None
    if not isinstance(token, str) and isinstance(text := getattr(token, "token", None), str):
        ends, token = getattr(token, "expires_on", None), text
    if (fault := fault_of(token, "the token")) is not None or not isinstance(token, str):
        del answer, token  # a traceback may show local variables
        raise ConfigurationError(fault)
    return SecretHeaders({"Authorization": f"Bearer {token}"}), ends


def is_coroutine_function(provider: TokenProvider) -> bool:
    """Whether calling it runs nothing yet: an `async def`, as a function or as an object's `__call__`."""
    return inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(getattr(provider, "__call__", None))  # noqa: B004


def digest_of(secret: str) -> str:
    """What stands for a secret where it must be told from others and must not be shown."""
    return sha256(secret.encode()).hexdigest()[:32]


def identity_of(auth: Auth, headers: SecretHeaders) -> str | None:
    """As whom requests with these headers go out: as the caller says in them, or by `auth`; `None` if that varies."""
    if headers.decided.isdisjoint(auth.replaced_by):
        return auth.identity
    given = sorted((name.lower(), value) for name, value in headers.items() if name.lower() in CREDENTIALS)
    return digest_of(repr(given))


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
    """The values in authentication headers that must not be shown, without words like `Bearer` before them.

    Those of a few characters are none, and would be found in every text.
    """
    pieces = (piece for value in headers.values() for piece in re.split(r"[\s;,]+", value))
    return tuple(piece for piece in pieces if len(piece) >= SHORTEST_SECRET)


def secret_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a caller's headers whose names say that they are secret."""
    return SecretHeaders((name, value) for name, value in headers.items() if SECRET_NAME.search(name))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text`, with every secret in it replaced by `[redacted]`."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return text

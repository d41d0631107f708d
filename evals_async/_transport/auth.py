"""The credentials of requests: a key, Azure's key, or tokens from a provider such as azure-identity.

Objects that hold secrets have a repr without them, and cannot be pickled or copied. This module does no I/O and does
not read the environment.
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
    """The result of azure-identity's credentials: the token, and its expiry time in seconds since the epoch."""

    @property
    def token(self) -> str: ...

    @property
    def expires_on(self) -> float: ...


Token: TypeAlias = str | ExpiringToken
TokenProvider: TypeAlias = Callable[[], Awaitable[Token]] | Callable[[], Token]

TOKEN_KEPT = 120.0  # seconds; providers keep tokens too, but each call of a provider takes time
SHORTEST_SECRET = 8  # characters
LONGEST_REFRESH = 30.0  # seconds; then the next request that needs a token calls the provider again
TOKEN_MARGIN = 30.0  # seconds before its expiry; the clock of the server may differ from ours


CREDENTIALS = frozenset({"authorization", "api-key"})
"""The names of the headers with credentials, in lower case."""

SECRET_NAME = re.compile(
    r"auth|cookie|api-?key|access-key|subscription-key|token|secret|passw|credential", re.IGNORECASE
)

NOTHING: frozenset[str] = frozenset()


class SecretHeaders(dict[str, str]):
    """Headers whose values are in no repr and no pickle, and so in no traceback with local variables.

    `decided` are the names of the credential headers that the caller set or removed; see `Auth.replaced_by`.
    """

    decided: frozenset[str] = NOTHING

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("headers that hold a key cannot be pickled or copied")


def merged_headers(*groups: Mapping[str, str | None]) -> SecretHeaders:
    """Merge groups of headers. Names are compared without case, and the last value is used. `None` removes a header."""
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
    """Returns the headers with the credentials of a request.

    `replaced_by` are header names in lower case. If the caller sets or removes one of them, these credentials are not
    sent. `asks` is true if `headers` may have to wait for a function. `identity` is equal for equal credentials, and
    does not reveal them. It is `None` if each request may have other credentials, so that requests must not share
    results.
    """

    replaced_by: frozenset[str] = CREDENTIALS
    asks: bool = False
    identity: str | None = None

    async def headers(self) -> Mapping[str, str]:
        """Return the headers for one attempt. This is called again for each attempt."""
        ...

    def refused(self, headers: Mapping[str, str]) -> bool:
        """Handle a 401 for these headers. Returns whether another attempt may have other credentials."""
        return False


class NoKey(Enum):
    """The type of `NO_KEY`. Pass it as `api_key` to a server that needs no credentials."""

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
    """The credentials of a client without a key. It can verify webhooks, but each request raises
    `ConfigurationError`.
    """

    identity = "missing"

    async def headers(self) -> NoReturn:
        raise ConfigurationError(
            "no API key: pass api_key= or set OPENAI_API_KEY (for Azure, AZURE_OPENAI_API_KEY or a token provider); "
            "for a server that needs no key, pass api_key=NO_KEY"
        )


class StaticKey(Auth):
    """An API key, sent as `Authorization: Bearer …`. Raises `ConfigurationError` for an invalid key."""

    replaced_by = frozenset({"authorization"})

    def __init__(self, key: str, name: str = "api_key", *, replaced_by: frozenset[str] | None = None) -> None:
        if replaced_by is not None:
            self.replaced_by = replaced_by
        if (fault := fault_of(key, name)) is not None:
            del key  # a traceback may show local variables
            raise ConfigurationError(fault)
        self.given = self.headers_with(key)
        self.identity = identity_in(self.given)

    def headers_with(self, key: str) -> SecretHeaders:
        return SecretHeaders({"Authorization": f"Bearer {key}"})

    async def headers(self) -> Mapping[str, str]:
        return self.given

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a key and cannot be pickled or copied")


class AzureKey(StaticKey):
    """A key of an Azure resource, sent as `api-key: …`. Raises `ConfigurationError` for an invalid key."""

    replaced_by = CREDENTIALS

    def headers_with(self, key: str) -> SecretHeaders:
        return SecretHeaders({"api-key": key})


class CachedTokens:
    """A token provider whose tokens are kept. Pass it as `api_key` if all requests use one identity.

    A token is used for at most two minutes, and never after 30 s before its expiry or after a 401. Requests that need a
    token at the same time wait for one call of the provider. A call of more than 30 s is cancelled when the next
    request needs a token, and the provider is called again.

    `scope` names the identity of the tokens. Clients and processes with the same `scope` share their entries in a
    shared cache. Without it, only clients with this object use them. Raises `ConfigurationError` if `provider` is not
    callable.
    """

    def __init__(self, provider: TokenProvider, *, scope: str | None = None) -> None:
        if not callable(provider):
            raise ConfigurationError("the token provider must be callable without arguments")
        self._provider = provider
        self._identity = secrets.token_hex(16) if scope is None else f"scope {scope}"


class UncachedTokens(Auth):
    """Tokens from a function that is called for each attempt, sent as `Authorization: Bearer …`.

    A function that is not a coroutine function runs in a thread, because it may read a file or use the network. It has
    the context variables of the call. Its exceptions are raised unchanged.
    """

    asks = True

    def __init__(self, provider: TokenProvider, *, replaced_by: frozenset[str] = CREDENTIALS) -> None:
        if not callable(provider):
            raise ConfigurationError("the token provider must be callable without arguments")
        self.provider = provider
        self.replaced_by = replaced_by
        self.given = SecretHeaders()

    async def headers(self) -> Mapping[str, str]:
        headers, _ = await request_token(self.provider)
        if headers != self.given:  # the same object for the same token, so that merged headers can be cached
            self.given = headers
            return headers
        return self.given

    def refused(self, headers: Mapping[str, str]) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a token and cannot be pickled or copied")


class BearerTokens(UncachedTokens):
    """Kept tokens from a provider, such as azure-identity's `get_bearer_token_provider`; see `CachedTokens`.

    If one of the requests that wait for a token is cancelled, the others still get the token.
    """

    def __init__(
        self,
        provider: TokenProvider,
        *,
        clock: Clock = SYSTEM_CLOCK,
        identity: str | None = None,
        replaced_by: frozenset[str] = CREDENTIALS,
    ) -> None:
        super().__init__(provider, replaced_by=replaced_by)
        self.clock = clock
        self.identity = secrets.token_hex(16) if identity is None else identity
        self.good_until = -1.0
        self.refreshing: asyncio.Task[None] | None = None
        self.asked_at = 0.0

    @classmethod
    def of(cls, tokens: CachedTokens, *, clock: Clock, replaced_by: frozenset[str]) -> "BearerTokens":
        provider, identity = tokens._provider, tokens._identity  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # above
        return cls(provider, clock=clock, identity=identity, replaced_by=replaced_by)

    async def headers(self) -> Mapping[str, str]:
        while (now := self.clock.monotonic()) >= self.good_until:
            refreshing = self.refreshing
            if refreshing is not None and not self.in_time(refreshing, now):
                refreshing = None
            if refreshing is None:
                refreshing = self.refreshing = asyncio.create_task(self.refresh())
                refreshing.add_done_callback(retrieve_exception)
                self.asked_at = now
            # Several requests wait for the task, so the cancellation of one must not cancel it.
            await asyncio.wait((refreshing,))
            if refreshing is self.refreshing:
                refreshing.result()
        return self.given

    def in_time(self, refreshing: "asyncio.Task[None]", now: float) -> bool:
        """Whether a request can wait for this call of the provider. If it takes too long, it is cancelled."""
        if refreshing.done() or refreshing.get_loop() is not asyncio.get_running_loop():
            return False
        if now - self.asked_at < LONGEST_REFRESH:
            return True
        refreshing.cancel()
        return False

    async def refresh(self) -> None:
        self.given, ends = await request_token(self.provider)
        kept = TOKEN_KEPT if ends is None else min(TOKEN_KEPT, ends - TOKEN_MARGIN - self.clock.time())
        # The requests that wait now get the token, even if it expires soon.
        self.good_until = self.clock.monotonic() + max(kept, 1.0)

    def refused(self, headers: Mapping[str, str]) -> bool:
        if headers is self.given:  # false if a newer token is already in use
            self.good_until = -1.0
        return True


async def request_token(provider: TokenProvider) -> tuple[SecretHeaders, float | None]:
    """Call `provider`. Returns the headers with its token, and the expiry time of the token, if it has one."""
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
    """Whether a call only makes a coroutine: an `async def` function, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(getattr(provider, "__call__", None))  # noqa: B004


def digest_of(secret: str) -> str:
    """Return a digest of a secret: it distinguishes secrets without revealing them."""
    return sha256(secret.encode()).hexdigest()[:32]


async def credentials_for(headers: SecretHeaders, auth: Auth) -> Mapping[str, str]:
    """Return the credentials that an attempt with these headers needs: none if the caller's headers have some."""
    decided = headers.decided
    if not decided or decided.isdisjoint(auth.replaced_by):
        return await auth.headers()
    return NO_CREDENTIALS


def identity_of(auth: Auth, headers: SecretHeaders) -> str | None:
    """Return the identity of requests with these headers: from the caller's headers, or from `auth`. `None` if it
    varies.
    """
    if headers.decided.isdisjoint(auth.replaced_by):
        return auth.identity
    return identity_in(headers)


def identity_in(headers: SecretHeaders) -> str:
    """Return the identity of the credentials in these headers. A key has the same one as a header with that key."""
    return digest_of(
        repr(sorted((name.lower(), value) for name, value in headers.items() if name.lower() in CREDENTIALS))
    )


def fault_of(value: object, name: str) -> str | None:
    """Return the reason why `value` cannot be sent as a secret, or `None`. The text does not contain the value."""
    if not isinstance(value, str):
        return f"{name} must be a str, not {type(value).__name__}"
    if not value:
        return f"{name} is empty"
    if value[:7].lower() == "bearer ":
        return f"{name} starts with 'Bearer': pass the key without it"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} contains whitespace, control or non-ASCII characters, perhaps the newline of a file"
    return None


def retrieve_exception(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a task whose waiters may all be cancelled. Otherwise asyncio would log a warning."""
    if not task.cancelled():
        task.exception()


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secret values in credential headers, without words like `Bearer` before them.

    Values with less than 8 characters are left out, because they may occur in any text.
    """
    pieces = (piece for value in headers.values() for piece in re.split(r"[\s;,]+", value))
    return tuple(piece for piece in pieces if len(piece) >= SHORTEST_SECRET)


def secret_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a caller whose names suggest secret values."""
    return SecretHeaders((name, value) for name, value in headers.items() if SECRET_NAME.search(name))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with every secret in it replaced by `[redacted]`."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return text

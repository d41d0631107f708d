"""`EvalsClient`: settings become a pipeline, a pipeline becomes namespaces. Nothing here knows an endpoint."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypedDict, TypeVar, Unpack, cast

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._concurrency.sharing import Cache, SingleFlight
from evals_async._settings import Settings, azure_from_environment, checked_headers, from_environment
from evals_async._transport import (
    Auth,
    AzureKey,
    BearerTokens,
    Pipeline,
    Request,
    Response,
    RetryPolicy,
    StaticKey,
    Statistics,
    Timeouts,
    TokenProvider,
    Transport,
)
from evals_async._transport.auth import SecretHeaders
from evals_async._transport.call import usual_headers
from evals_async._transport.transport import MAX_BODY
from evals_async.errors import ConfigurationError, RequestError
from evals_async.resources import OMIT, Caller, Evals, Files, Graders, Omit
from evals_async.resources._requests import checked_path, merged, parameters
from evals_async.webhooks import Webhooks


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """How a client behaves, whoever it talks to. All are optional."""

    timeout: float | Timeouts | None
    """Seconds for a whole call: all attempts, pauses and the body.

    Default: 60. `Timeouts` says more; `None` is without end.
    """
    max_retries: int
    """How often a failed attempt is repeated. Default: 2."""
    retry: RetryPolicy
    """Everything about repeating; goes before `max_retries`."""
    default_headers: Mapping[str, str] | None
    """Headers for every request."""
    default_query: Mapping[str, object] | None
    """Query parameters for every request."""
    session: "aiohttp.ClientSession"
    """Your own session, never closed here; the five settings that follow are then its owner's business."""
    trace_configs: "Sequence[aiohttp.TraceConfig]"
    """Tracing, for OpenTelemetry's aiohttp instrumentation and the like."""
    max_connections: int
    """Connections, and so requests under way, at once. Default: 100."""
    proxy: str
    """The URL of a proxy."""
    trust_env: bool
    """Take the proxy from HTTP_PROXY and the like; netrc is never read. Default: no."""
    ssl: "tls.SSLContext | bool"
    """What to trust. Default: what the system trusts."""
    max_body: int
    """The largest answer that is read, in decoded bytes. Default: 32 MiB."""
    single_flight: bool
    """Let concurrent reads of one thing share one request. Default: yes."""
    cache: Cache
    """Where runs that are over are kept; see `LRUCache`. Default: nowhere.

    It asks nobody for a key: clients with different rights need caches of their own.
    """
    on_request: Callable[[Request], None]
    """Called before each attempt."""
    on_response: Callable[[Request, Response, float], None]
    """Called after each answer, with the seconds it took."""
    on_retry: Callable[[Request, RequestError, float], None]
    """Called before each pause, with what failed and the seconds until the next attempt."""
    clock: Clock
    """Time and chance; for tests."""


class NoKey(Auth):
    """What stands for a key that was not given. A client without one can still verify webhooks."""

    async def headers(self) -> NoReturn:
        raise ConfigurationError(
            "no API key: pass api_key= or set OPENAI_API_KEY (for Azure, AZURE_OPENAI_API_KEY or a token provider)"
        )


@attrs.frozen(kw_only=True)
class ConnectionOptions:
    """What a client and its `with_options` copies differ in."""

    timeouts: Timeouts
    retry: RetryPolicy
    headers: Mapping[str, str] = attrs.field(repr=False)
    query: tuple[tuple[str, str], ...]
    usual_headers: SecretHeaders = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: usual_headers(self.headers), takes_self=True)
    )


class EvalsClient:
    """The Evals API, awaited: `client.evals`, `client.files`, `client.graders`, `client.webhooks`.

    A client is cheap to make and touches neither loop nor network until the first call; from then on it belongs to that
    call's event loop. Make one per process, share it between all tasks, and close it: `async with`, or `await
    client.close()`.
    """

    def __init__(
        self,
        *,
        api_key: str | TokenProvider | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        webhook_secret: str | None = None,
        allow_http: bool = False,
        **options: Unpack[ClientOptions],
    ) -> None:
        """A client of OpenAI's service, or of any server that speaks its API.

        Each argument has an environment variable: OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID,
        OPENAI_WEBHOOK_SECRET. `api_key` may be a function that returns a token or an awaitable of one; it is asked
        again as tokens expire. A path and a query in the base URL are kept; plain http is for loopback, unless
        `allow_http`. Raises `ConfigurationError` for settings that cannot be right; that a key is missing is told at
        the first call.
        """
        provider, key = (api_key, None) if callable(api_key) else (None, api_key)
        settings = from_environment(
            api_key=key,
            base_url=base_url,
            organization=organization,
            project=project,
            webhook_secret=webhook_secret,
            allow_http=allow_http,
        )
        self.furnish(settings, auth_of(settings, StaticKey, provider, options), options)

    @classmethod
    def azure(
        cls,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        token_provider: TokenProvider | None = None,
        api_version: str | None = None,
        allow_http: bool = False,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """A client of an Azure OpenAI resource, or of a Microsoft Foundry project.

        `endpoint` (AZURE_OPENAI_ENDPOINT) is `https://NAME.openai.azure.com`, or a project's
        `https://NAME.services.ai.azure.com/api/projects/PROJECT`; `/openai/v1` is added. `api_key`
        (AZURE_OPENAI_API_KEY) goes out as `api-key`; projects take tokens only:
        `azure.identity.aio.get_bearer_token_provider(credential, "https://ai.azure.com/.default")`. `api_version` is
        needed by the older `/openai/evals?api-version=...` alone. Raises `ConfigurationError`.
        """
        settings = azure_from_environment(
            endpoint=endpoint, api_key=api_key, api_version=api_version, allow_http=allow_http
        )
        client = cls.__new__(cls)
        client.furnish(settings, auth_of(settings, AzureKey, token_provider, options), options)
        return client

    def furnish(self, settings: Settings, auth: Auth, options: ClientOptions) -> None:
        """Build what all copies of the client share. Raises `TypeError` for an option that there is not."""
        if unknown := options.keys() - ClientOptions.__annotations__.keys():
            raise TypeError(f"unexpected keyword argument: {', '.join(sorted(unknown))}")
        # An option given as None is one that was not given; only for `timeout` it means something else.
        options = cast("ClientOptions", {k: v for k, v in options.items() if v is not None or k == "timeout"})
        clock = options.get("clock", SYSTEM_CLOCK)
        transport = Transport(
            settings.base_url,
            session=options.get("session"),
            trace_configs=options.get("trace_configs", ()),
            proxy=options.get("proxy"),
            trust_env=options.get("trust_env", False),
            connections=whole(options.get("max_connections", 100), "max_connections", least=1),
            max_body=whole(options.get("max_body", MAX_BODY), "max_body", least=1),
            ssl=options.get("ssl", True),
            clock=clock,
            owner=type(self).__name__,
        )
        pipeline = Pipeline(
            transport,
            auth,
            clock=clock,
            on_request=options.get("on_request"),
            on_response=options.get("on_response"),
            on_retry=options.get("on_retry"),
        )
        named = {"OpenAI-Organization": settings.organization, "OpenAI-Project": settings.project}
        terms = ConnectionOptions(
            timeouts=timeouts_of(options.get("timeout", 60.0)),
            retry=options.get("retry") or RetryPolicy(attempts=retries(options.get("max_retries", 2)) + 1),
            headers={name: value for name, value in named.items() if value}
            | checked_headers(options.get("default_headers") or {}),
            query=parameters(**(options.get("default_query") or {})),
        )
        flight = SingleFlight() if options.get("single_flight", True) else None
        self.arrange(settings, pipeline, terms, clock, flight, options.get("cache"))

    def arrange(
        self,
        settings: Settings,
        pipeline: Pipeline,
        terms: ConnectionOptions,
        clock: Clock,
        flight: SingleFlight | None,
        cache: Cache | None,
    ) -> None:
        """Put the namespaces over what is shared, on these terms."""
        self.settings = settings
        self.pipeline = pipeline
        self.terms = terms
        self.clock = clock
        self.flight = flight
        self.cache = cache
        call = Caller(self.dispatch, clock, flight=flight, cache=cache, scope=scope_of(settings, terms))
        self.evals: Evals = Evals(call)
        self.files: Files = Files(call)
        self.graders: Graders = Graders(call)
        self.webhooks: Webhooks = Webhooks(settings.webhook_secret, clock)

    def send(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[T]],
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> Coroutine[Any, Any, T]:
        """What `read` makes of the answer to `request`, on this client's terms. For endpoints that no resource has.

        Raises `InvalidArgument`, at once, for a path that is not percent-encoded.
        """
        checked_path(request.path)
        return self.dispatch(request, read, timeout=timeout, settle=settle)

    def dispatch(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[T]],
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> Coroutine[Any, Any, T]:
        """`send`, for a path that was made of a route and quoted ids: the resources'."""
        terms = self.terms
        return self.pipeline.send(
            request,
            read,
            timeouts=terms.timeouts if timeout is OMIT else timeouts_of(timeout),
            policy=terms.retry,
            headers=terms.usual_headers,
            query=terms.query,
            settle=settle,
        )

    def with_options(
        self,
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
    ) -> Self:
        """A client on other terms that shares everything else: connections, limits, key. Closing one closes both.

        `headers` and `query` are added to the ones that this client sends; `default_headers` and `default_query` are
        the official client's names for them.
        """
        terms = self.terms
        headers = {**(default_headers or {}), **(headers or {})}
        query = {**(default_query or {}), **(query or {})}
        if max_retries is not None:
            retry = retry or attrs.evolve(terms.retry, attempts=retries(max_retries) + 1)
        changed = ConnectionOptions(
            timeouts=terms.timeouts if timeout is OMIT else timeouts_of(timeout),
            retry=retry or terms.retry,
            headers={**terms.headers, **checked_headers(headers)},
            query=merged(terms.query, parameters(**query)),
        )
        twin = type(self).__new__(type(self))
        # Other headers may mean another answer: reads are shared among calls on the same terms only.
        flight = None if self.flight is None else SingleFlight()
        twin.arrange(self.settings, self.pipeline, changed, self.clock, flight, self.cache)
        return twin

    @property
    def with_raw_response(self) -> "ClientWithRawResponse":
        """The same methods, answering with status, headers and exact bytes; `parse()` gives the object."""
        return ClientWithRawResponse(self)

    def statistics(self) -> Statistics:
        """What this client has done since it was made, and how its gate stands."""
        return self.pipeline.statistics()

    async def close(self) -> None:
        """End the calls under way with `ClientClosed` and close the connections. A second time does nothing."""
        await self.pipeline.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.settings.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds a key and connections, and is neither pickled nor copied; make one per process")


class ClientWithRawResponse:
    """An `EvalsClient` whose methods answer with `RawResponse`."""

    def __init__(self, client: EvalsClient) -> None:
        self.evals = client.evals.with_raw_response
        self.files = client.files.with_raw_response
        self.graders = client.graders.with_raw_response


def auth_of(
    settings: Settings, key_kind: type[StaticKey], provider: TokenProvider | None, options: ClientOptions
) -> Auth:
    """How a client proves who it is: by tokens, if there is a provider, or else by its key, if there is one."""
    if provider is not None:
        return BearerTokens(provider, clock=options.get("clock", SYSTEM_CLOCK))
    return NoKey() if settings.api_key is None else key_kind(settings.api_key.reveal())


def scope_of(settings: Settings, terms: ConnectionOptions) -> str:
    """What the keys of a cache begin with: the base URL, and a digest of the headers and the query that are sent
    everywhere, since others may mean another answer. A digest, because a header may be secret.
    """
    if not terms.headers and not terms.query:
        return settings.base_url
    sent = repr((sorted(terms.headers.items()), terms.query)).encode()
    return f"{settings.base_url}#{sha256(sent).hexdigest()[:16]}"


def timeouts_of(timeout: float | Timeouts | None) -> Timeouts:
    """The timeouts for a call of so many seconds.

    Where more than a minute is given, one attempt may take a third of it. `None` is without any end.
    """
    if isinstance(timeout, Timeouts):
        return timeout
    if timeout is None:
        return Timeouts(total=None, attempt=None)
    total = seconds(timeout)
    return Timeouts(total=total, attempt=max(20.0, total / 3))


def seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigurationError(f"timeout must be a number of seconds above 0, Timeouts, or None, not {timeout!r:.80}")
    return timeout


def retries(count: object) -> int:
    """How often a failed attempt is repeated, 0 to 10."""
    return whole(count, "max_retries", least=0, most=10)


def whole(value: object, name: str, *, least: int, most: int | None = None) -> int:
    """A whole number in its range. Raises `ConfigurationError`, naming the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"from {least}" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{name} must be a whole number {span}, not {value!r:.80}")
    return value

"""`EvalsClient`: the settings, the pipeline that is made of them, and the resources that send through it.

Nothing here knows an endpoint.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack, overload

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._concurrency.cache import Cache
from evals_async._concurrency.single_flight import SingleFlight
from evals_async._options import ClientOptions, defaults_of, given_options, given_timeout, retries, whole
from evals_async._settings import (
    Settings,
    azure_from_environment,
    checked_headers,
    follow_log_variable,
    from_environment,
)
from evals_async._transport import (
    NO_KEY,
    AdaptiveLimiter,
    Anonymous,
    Auth,
    AzureKey,
    BearerTokens,
    Kind,
    Method,
    MissingKey,
    NoKey,
    Pipeline,
    Request,
    Response,
    RetryPolicy,
    Sink,
    StaticKey,
    Statistics,
    Timeouts,
    TokenProvider,
    Transport,
)
from evals_async._transport.transport import MAX_BODY
from evals_async.resources import OMIT, CallDefaults, Caller, Evals, Files, Graders, Omit
from evals_async.resources._requests import checked_path, json_body, merged, parameters, request as build_request
from evals_async.webhooks import Webhooks


if TYPE_CHECKING:
    pass

T = TypeVar("T")

SETTINGS = frozenset(
    {"api_key", "base_url", "organization", "project", "webhook_secret", *ClientOptions.__annotations__}
) - {"clock"}
"""What a client is made with, and what cannot be assigned to it afterwards."""

KINDS: Mapping[Method, Kind] = {"GET": "read", "POST": "create", "DELETE": "delete"}
"""What a request does, unless its caller says otherwise."""


class EvalsClient:
    """The Evals API, awaited: `client.evals`, `client.files`, `client.graders`, `client.webhooks`.

    A client is cheap to make and touches neither loop nor network until the first call; from then on it belongs to that
    call's event loop. Make one per process, share it between all tasks, and close it: `async with`, or `await
    client.close()`.
    """

    def __init__(
        self,
        *,
        api_key: str | NoKey | TokenProvider | None = None,
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
        again as tokens expire. `NO_KEY` sends no credentials, whatever the environment says. A path and a query in the
        base URL are kept; plain http is for loopback, unless `allow_http`. Raises `ConfigurationError` for settings
        that cannot be right; that a key is missing is told at the first call.
        """
        settings = from_environment(
            api_key=None if api_key is NO_KEY or callable(api_key) else api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            webhook_secret=webhook_secret,
            allow_http=allow_http,
        )
        self._set_up(settings, auth_of(settings, StaticKey, api_key, options), options)

    @classmethod
    def azure(
        cls,
        *,
        endpoint: str | None = None,
        api_key: str | NoKey | None = None,
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
            endpoint=endpoint,
            api_key=None if api_key is NO_KEY else api_key,
            api_version=api_version,
            allow_http=allow_http,
        )
        client = cls.__new__(cls)
        auth = auth_of(settings, AzureKey, token_provider or api_key, options)
        client._set_up(settings, auth, options)  # noqa: SLF001  # its own class
        return client

    def _set_up(self, settings: Settings, auth: Auth, options: ClientOptions) -> None:
        """Build what all copies of the client share. Raises `TypeError` for an option that there is not."""
        options = given_options(options)
        follow_log_variable()
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
            limiter=options["limiter"]
            if "limiter" in options
            else AdaptiveLimiter(max_in_flight=transport.connections, clock=clock),
            on_request=options.get("on_request"),
            on_response=options.get("on_response"),
            on_retry=options.get("on_retry"),
        )
        defaults = defaults_of(settings, options)
        flight = SingleFlight() if options.get("single_flight", True) else None
        self._open_namespaces(settings, pipeline, defaults, flight, options.get("cache"))

    def _open_namespaces(
        self,
        settings: Settings,
        pipeline: Pipeline,
        defaults: CallDefaults,
        flight: SingleFlight | None,
        cache: Cache | None,
    ) -> None:
        """Make the resources, which send through `pipeline` with these defaults."""
        scope = scope_of(settings, defaults)
        self._settings = settings
        self._caller = Caller(pipeline, defaults, flight=flight, cache=cache, scope=scope)
        self.evals: Evals = Evals(self._caller)
        self.files: Files = Files(self._caller)
        self.graders: Graders = Graders(self._caller)
        self.webhooks: Webhooks = Webhooks(settings.webhook_secret, pipeline.clock)

    @property
    def base_url(self) -> str:
        """The URL that every path is relative to, without a slash at its end."""
        return self._settings.base_url

    @property
    def api_key(self) -> str | None:
        """The key that was given, or found in the environment; `None` for a function, `NO_KEY` and a missing key."""
        key = self._settings.api_key
        return None if key is None or not isinstance(self._caller.pipeline.auth, StaticKey) else key.reveal()

    @property
    def timeout(self) -> float | Timeouts | None:
        """Seconds that a call may take; `None` is without end, and `Timeouts` says more."""
        return given_timeout(self._caller.defaults.timeouts)

    @property
    def max_retries(self) -> int:
        """How often a failed attempt is repeated."""
        return self._caller.defaults.retry.attempts - 1

    @property
    def organization(self) -> str | None:
        """The organization that requests name, if they name one (OPENAI_ORG_ID)."""
        return self._settings.organization

    @property
    def project(self) -> str | None:
        """The project that requests name, if they name one (OPENAI_PROJECT_ID)."""
        return self._settings.project

    @property
    def has_credentials(self) -> bool:
        """Whether requests can be sent: there is a key, a token provider, or `NO_KEY`."""
        return not isinstance(self._caller.pipeline.auth, MissingKey)

    @property
    def clock(self) -> Clock:
        """Where this client takes time and chance from; for code that waits or measures on its behalf."""
        return self._caller.clock

    def request(
        self,
        method: Method,
        route: str,
        *,
        ids: Sequence[str] = (),
        kind: Kind | None = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        sink: Sink | None = None,
    ) -> Request:
        """A request for an endpoint that no resource has; `send` sends it.

        `route` is the path below the base URL, with a name in braces for each of the `ids`, in their order
        (`/evals/{eval_id}`); ids are percent-encoded. `kind` decides when it may be sent again: `read` for GET,
        `create` (which is never sent twice) for POST, `delete` for DELETE, if not given. A parameter of `query` that is
        `None` is left out. `body` is sent as JSON. `sink` takes the body of a successful response instead of memory.
        Raises `InvalidArgument` for what cannot be sent.
        """
        return build_request(
            method,
            checked_path(route, "the route"),
            kind or KINDS[method],
            {"extra_headers": headers},
            tuple(ids),
            query=parameters(**(query or {})),
            body=None if body is None else json_body(**body),
            sink=sink,
        )

    @overload
    async def send(self, request: Request, *, timeout: float | Timeouts | Omit | None = OMIT) -> Response: ...

    @overload
    async def send(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[T]],
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
    ) -> T: ...

    async def send(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[Any]] | None = None,
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
    ) -> Any:
        """The response to `request`, or what `read` makes of it, with this client's limits, retries and defaults.

        `read` is called inside the retries: a `DecodeError` or `ResponseMismatch` that it raises counts as a failed
        attempt. Raises a `RequestError` for every response without success, and `InvalidArgument` for a path that is
        not percent-encoded.
        """
        checked_path(request.path, "the path")
        return await self._caller.send(request, read or whole_response, timeout=timeout)

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
        """A client with other defaults that shares everything else: connections, limits, key. Closing one closes both.

        `headers` and `query` are added to the ones that this client sends; `default_headers` and `default_query` are
        the official client's names for them.
        """
        defaults = self._caller.defaults
        headers = {**(default_headers or {}), **(headers or {})}
        query = {**(default_query or {}), **(query or {})}
        if max_retries is not None:
            retry = retry or attrs.evolve(defaults.retry, attempts=retries(max_retries) + 1)
        changed = CallDefaults(
            timeouts=defaults.timeouts if timeout is OMIT else Timeouts.of(timeout),
            retry=retry or defaults.retry,
            headers={**defaults.headers, **checked_headers(headers)},
            query=merged(defaults.query, parameters(**query)),
        )
        twin = type(self).__new__(type(self))
        # Other headers may mean another response: reads are shared among calls with the same defaults only.
        flight = None if self._caller.flight is None else SingleFlight()
        pipeline, cache = self._caller.pipeline, self._caller.cache
        twin._open_namespaces(self._settings, pipeline, changed, flight, cache)  # noqa: SLF001  # its own class
        return twin

    copy = with_options

    @property
    def with_raw_response(self) -> "ClientWithRawResponse":
        """The same methods, answering with status, headers and exact bytes; `parse()` gives the object."""
        return ClientWithRawResponse(self)

    def statistics(self) -> Statistics:
        """What this client has done since it was made, and how its rate limiter stands."""
        return self._caller.pipeline.statistics()

    async def close(self) -> None:
        """End the calls under way with `ClientClosed` and close the connections. A second time does nothing."""
        await self._caller.pipeline.close()

    def is_closed(self) -> bool:
        """Whether `close` was called, on this client or on one that shares its connections."""
        return self._caller.pipeline.transport.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __setattr__(self, name: str, value: object) -> None:
        if name in SETTINGS:
            raise AttributeError(
                f"a client does not change: use client.with_options({name}=...), which gives a new one"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds a key and connections, and is neither pickled nor copied; make one per process")


class ClientWithRawResponse:
    """An `EvalsClient` whose methods answer with `RawResponse`."""

    def __init__(self, client: EvalsClient) -> None:
        self.evals = client.evals.with_raw_response
        self.files = client.files.with_raw_response
        self.graders = client.graders.with_raw_response


async def whole_response(response: Response) -> Response:
    return response


def auth_of(
    settings: Settings,
    key_kind: type[StaticKey],
    given: str | NoKey | TokenProvider | None,
    options: ClientOptions,
) -> Auth:
    """How a client proves who it is: not at all, by tokens, or by the key in its settings, if there is one."""
    if given is NO_KEY:
        return Anonymous()
    if callable(given):
        return BearerTokens(given, clock=options.get("clock", SYSTEM_CLOCK))
    return MissingKey() if settings.api_key is None else key_kind(settings.api_key.reveal())


def scope_of(settings: Settings, defaults: CallDefaults) -> str:
    """What the keys of a cache begin with: the base URL, and a digest of the headers and the query that are sent
    everywhere, since others may mean another response. A digest, because a header may be secret.
    """
    if not defaults.headers and not defaults.query:
        return settings.base_url
    sent = repr((sorted(defaults.headers.items()), defaults.query)).encode()
    return f"{settings.base_url}#{sha256(sent).hexdigest()[:16]}"

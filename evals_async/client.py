"""`EvalsClient`: its settings, the pipeline that they make, and the resources that send requests through it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, TypeVar, Unpack, overload

from evals_async._callers import Callers, auth_of, replaced_headers
from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._loading import load_all, load_first
from evals_async._omit import OMIT, Omit, given
from evals_async._options import ClientOptions, changed_options, first_options, given_timeout
from evals_async._settings import (
    Settings,
    azure_from_environment,
    changed_settings,
    follow_log_variable,
    from_environment,
)
from evals_async._transport import (
    NO_KEY,
    Auth,
    CachedTokens,
    Kind,
    Method,
    MissingKey,
    NoKey,
    Request,
    Response,
    RetryPolicy,
    Sink,
    StaticKey,
    Statistics,
    Timeouts,
    TokenProvider,
)
from evals_async.resources._caller import Caller
from evals_async.resources._requests import checked_path, json_body, parameters, request as build_request
from evals_async.resources.evals import Evals


if TYPE_CHECKING:
    from evals_async.resources.files import Files
    from evals_async.resources.graders import Graders
    from evals_async.webhooks import Webhooks

T = TypeVar("T")

Key: TypeAlias = str | NoKey | TokenProvider | CachedTokens

SETTINGS = frozenset(
    {"api_key", "base_url", "organization", "project", "webhook_secret", *ClientOptions.__annotations__}
) - {"clock"}
"""The settings of a client. They cannot be assigned after the client was made."""

KINDS: Mapping[Method, Kind] = {"GET": "read", "POST": "create", "DELETE": "delete"}
"""The default kind of a request, by its method."""


class EvalsClient:
    """An asynchronous client of the Evals API: `client.evals`, `client.files`, `client.graders`, `client.webhooks`.

    A new client uses neither the event loop nor the network until it is entered or first used. From then on it works in
    that event loop only, until the loop is closed.

    Make one client per process, share it between all tasks, and close it: use `async with`, or `await client.close()`.
    For other keys, projects or base URLs, make copies with `with_options`. Copies share the connections.
    """

    def __init__(
        self,
        *,
        api_key: Key | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        webhook_secret: str | None = None,
        allow_http: bool = False,
        **options: Unpack[ClientOptions],
    ) -> None:
        """Make a client of OpenAI's service, or of another server with the same API.

        Each argument has an environment variable: OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID,
        OPENAI_WEBHOOK_SECRET. `api_key` may be a function that returns a token or an awaitable token. It is called for
        each attempt, so each request may have another key. Reads are then not shared and not cached. If all tokens
        belong to one identity, wrap the function in `CachedTokens`. `NO_KEY` sends no credentials, even if the
        environment has a key. A path and a query in the base URL are kept. Plain http is accepted for loopback only,
        unless `allow_http` is set. Raises `ConfigurationError` for invalid settings. A missing key raises it at the
        first call.
        """
        key: Any = given(api_key)
        settings = from_environment(
            api_key=text_of(key),
            base_url=given(base_url),
            organization=given(organization),
            project=given(project),
            webhook_secret=given(webhook_secret),
            allow_http=allow_http,
        )
        self._set_up(settings, key, options)

    @classmethod
    def azure(
        cls,
        *,
        endpoint: str | None = None,
        api_key: Key | None = None,
        token_provider: TokenProvider | CachedTokens | None = None,
        azure_ad_token: str | None = None,
        api_version: str | None = None,
        allow_http: bool = False,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Make a client of an Azure OpenAI resource, or of a Microsoft Foundry project.

        `endpoint` (AZURE_OPENAI_ENDPOINT) is `https://NAME.openai.azure.com`, or
        `https://NAME.services.ai.azure.com/api/projects/PROJECT` for a project. `/openai/v1` is added if it is missing.

        `api_key` (AZURE_OPENAI_API_KEY) is sent in the header `api-key`. Projects accept tokens only. Pass
        `azure.identity.aio.get_bearer_token_provider(credential, "https://ai.azure.com/.default")` as `token_provider`;
        its tokens are kept as `CachedTokens` describes. Or pass one token as `azure_ad_token` (AZURE_OPENAI_AD_TOKEN),
        which has priority over a key from the environment.

        Only the older path `/openai/evals?api-version=...` needs `api_version`. Raises `ConfigurationError` for invalid
        settings.
        """
        settings = azure_from_environment(
            endpoint=endpoint,
            api_key=text_of(api_key),
            token=azure_ad_token,
            api_version=api_version,
            allow_http=allow_http,
        )
        client = cls.__new__(cls)
        if token_provider is not None and not isinstance(token_provider, CachedTokens):
            token_provider = CachedTokens(token_provider)
        client._set_up(settings, token_provider or api_key, options)  # noqa: SLF001  # its own class
        return client

    def _set_up(self, settings: Settings, key: Key | None, options: ClientOptions) -> None:
        """Make the parts of a client. Raises `TypeError` for an unknown option."""
        follow_log_variable()
        options = first_options(settings, options)
        auth = auth_of(settings, key, options.get("clock", SYSTEM_CLOCK))
        callers = Callers(settings, options, type(self).__name__)
        self._open_namespaces(callers, settings, auth, options, callers.first(settings, auth, options))

    def _open_namespaces(
        self, callers: Callers, settings: Settings, auth: Auth, options: ClientOptions, caller: Caller
    ) -> None:
        self._callers = callers
        self._settings = settings
        self._auth = auth
        self._options = options
        self._caller = caller
        self.evals: Evals = Evals(caller)
        if settings.webhook_secret is not None:
            _ = self.webhooks  # an invalid secret is refused here

    # These three are imported at their first use: most programs use one of them, or none.

    @cached_property
    def files(self) -> "Files":
        """The files with the rows of evals."""
        from evals_async.resources.files import Files

        return Files(self._caller)

    @cached_property
    def graders(self) -> "Graders":
        """Graders without an eval."""
        from evals_async.resources.graders import Graders

        return Graders(self._caller)

    @cached_property
    def webhooks(self) -> "Webhooks":
        """The check of webhooks with the secret of this client."""
        from evals_async.webhooks import Webhooks

        return Webhooks(self._settings.webhook_secret, self._caller.clock)

    @property
    def base_url(self) -> str:
        """The URL that every path is relative to, without a trailing slash."""
        return self._settings.base_url

    @property
    def api_key(self) -> str | None:
        """The key from the argument or the environment. `None` for a function, for `NO_KEY`, and if there is no key."""
        settings = self._settings
        key = settings.api_key if settings.token is None and isinstance(self._auth, StaticKey) else None
        return None if key is None else key.reveal()

    @property
    def timeout(self) -> float | Timeouts | None:
        """The timeout of a call in seconds. `None` means no limit. See `Timeouts`."""
        return given_timeout(self._caller.defaults.timeouts)

    @property
    def max_retries(self) -> int:
        """The maximum number of retries of a call."""
        return self._caller.defaults.retry.attempts - 1

    @property
    def organization(self) -> str | None:
        """The organization that is sent with requests (OPENAI_ORG_ID), or `None`."""
        return self._settings.organization

    @property
    def project(self) -> str | None:
        """The project that is sent with requests (OPENAI_PROJECT_ID), or `None`."""
        return self._settings.project

    @property
    def has_credentials(self) -> bool:
        """Whether requests can be sent: there is a key, a token provider, a header with credentials, or `NO_KEY`."""
        return bool(self._caller.defaults.all_headers.plain.decided) or not isinstance(self._auth, MissingKey)

    @property
    def clock(self) -> Clock:
        """The source of time and random numbers of this client, for code that must use the same clock."""
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
        """Make a request for an endpoint that has no method in a resource. `send` sends it.

        `route` is the path below the base URL, with a name in braces for each of the `ids`, in their order
        (`/evals/{eval_id}`). Ids are percent-encoded. `kind` decides when the request may be sent again. Its default is
        `read` for GET, `create` (sent again only if the server did not carry it out) for POST, and `delete` for DELETE.

        A parameter of `query` that is `None` is left out. `body` is sent as JSON. The body of a successful response is
        written to `sink`, if it is given, and is not kept in memory. Raises `InvalidArgument` for values that cannot be
        sent.
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
        """Send `request` with the limits, retries and defaults of this client. Returns the response, or the result
        of `read(response)`.

        `read` is called inside the retries: if it raises `DecodeError` or `ResponseMismatch`, the attempt has failed.
        Raises a `RequestError` if no successful response came, and `InvalidArgument` for a path that is not
        percent-encoded.
        """
        checked_path(request.path, "the path")
        return await self._caller.send(request, read or whole_response, timeout=timeout)

    def with_options(
        self,
        *,
        api_key: Key | None = None,
        organization: str | None = None,
        project: str | None = None,
        base_url: str | None = None,
        webhook_secret: str | None = None,
        timeout: float | Timeouts | Omit | None = OMIT,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str | Omit] | None = None,
        query: Mapping[str, object] | None = None,
        default_headers: Mapping[str, str | Omit] | None = None,
        default_query: Mapping[str, object] | None = None,
        set_default_headers: Mapping[str, str | Omit] | None = None,
        set_default_query: Mapping[str, object] | None = None,
    ) -> Self:
        """Return a client with other settings. Both share the connections, and closing one closes both.

        A copy with other credentials, another organization, project or base URL has its own rate limiter and retry
        budget. It shares no reads and no cached objects with the others. Two copies with the same key share one
        limiter. The client keeps the limiters of the last thousand keys, and of all keys with running calls. `None`
        means: unchanged. `headers` and `query` are added to those that this client sends. `default_headers` and
        `default_query` are the official client's names for the same. `set_default_headers` and `set_default_query`
        replace them. `OMIT` as a value removes a header or a parameter. A new key, organization or
        project has priority over a header of this client with an older one. Raises `ConfigurationError` for invalid
        settings.
        """
        key: Any = given(api_key)
        settings = changed_settings(
            self._settings,
            api_key=text_of(key),
            base_url=given(base_url),
            organization=given(organization),
            project=given(project),
            webhook_secret=given(webhook_secret),
        )
        options = changed_options(
            self._options,
            replaced=replaced_headers(settings, key, given(organization), given(project)),
            timeout=timeout,
            max_retries=given(max_retries),
            retry=given(retry),
            headers=headers,
            query=query,
            default_headers=default_headers,
            default_query=default_query,
            set_default_headers=set_default_headers,
            set_default_query=set_default_query,
        )
        auth = self._auth if key is None else auth_of(settings, key, self.clock)
        twin = type(self).__new__(type(self))
        caller = self._callers.next(self._caller, settings, auth, options)
        twin._open_namespaces(self._callers, settings, auth, options, caller)  # noqa: SLF001  # its own class
        return twin

    copy = with_options

    @property
    def with_raw_response(self) -> "ClientWithRawResponse":
        """The same methods, but they return a `RawResponse` with status, headers and exact bytes. Its `parse()`
        returns the object.
        """
        return ClientWithRawResponse(self)

    def statistics(self) -> Statistics:
        """Return the counts of the calls with these credentials, and the state of their rate limiter.

        The copies of a client that send the same credentials to the same base URL are counted together, also copies
        that no longer exist.
        """
        return self._caller.pipeline.statistics()

    async def close(self) -> None:
        """Close the connections, also those of all copies. Running calls raise `ClientClosed`. A second call has no
        effect.
        """
        await self._caller.pipeline.close()

    def is_closed(self) -> bool:
        """Whether `close` was called on this client or on one that shares its connections."""
        return self._caller.pipeline.transport.pool.closed

    async def prepare(self) -> None:
        """Load all modules and make all decoders that calls may need, in a thread. No request is sent.

        A web backend awaits this at its start. Otherwise the first call of each kind loads what it needs, and holds the
        event loop for some milliseconds.
        """
        await asyncio.to_thread(load_all)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(load_first)  # the first call would hold the event loop for a tenth of a second
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __setattr__(self, name: str, value: object) -> None:
        if name in SETTINGS:
            raise AttributeError(
                f"a client cannot be changed: use client.with_options({name}=...), which returns a new one"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client cannot be pickled or copied, because it holds a key and connections; make one per process"
        )


class ClientWithRawResponse:
    """An `EvalsClient` whose methods return a `RawResponse`."""

    def __init__(self, client: EvalsClient) -> None:
        self.evals = client.evals.with_raw_response
        self.files = client.files.with_raw_response
        self.graders = client.graders.with_raw_response


async def whole_response(response: Response) -> Response:
    return response


def text_of(key: Key | None) -> str | None:
    """Return the key if it is a text. Another type is returned too: the check that follows refuses it."""
    text: Any = key
    return None if key is NO_KEY or isinstance(key, CachedTokens) or callable(key) else text

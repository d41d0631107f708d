"""The calls to one endpoint, through an `EvalsClient` with its limiter, retry budget and connections. It counts
calls that may be billed twice.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Self, TypeVar

from evals_async import (
    NO_KEY,
    ApiError,
    ConfigurationError,
    ConnectFailed,
    DecodeError,
    EvalsClient,
    NoKey,
    RateLimited,
    Request,
    RequestError,
    Response,
    RetryPolicy,
    Timeouts,
)
from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._json import JSONObject, NotJSON, as_array, as_object, dump, parse
from evals_async.inference.endpoints import Endpoint


T = TypeVar("T")

ATTEMPTS = 5  # attempts per call, including the first one
UNBILLED = frozenset({500, 501, 503})  # the server did not do the work; 502 and 504 may come from a proxy


SETTINGS: Mapping[str, str] = {
    "base_url (OPENAI_BASE_URL)": "base_url",
    "pass allow_http=True": "set allow_http = true",
    "pass the key as api_key": "name the environment variable of the key as api_key_env",
    "api_key ": "the key of api_key_env ",
}
"""What an error of the client calls an argument, and what it is in a model map."""


class Traffic:
    """The calls to one endpoint."""

    def __init__(self, client: EvalsClient, counted: dict[int, int]) -> None:
        self._client = client
        self._counted = counted

    @classmethod
    def to(
        cls,
        name: str,
        endpoint: Endpoint,
        environ: Mapping[str, str],
        *,
        retry: RetryPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Self:
        """Make the client for an entry of the map. Raises `ConfigurationError`, which names the entry."""
        key: str | NoKey = NO_KEY
        if endpoint.api_key_env is not None:
            key = environ.get(endpoint.api_key_env) or NO_KEY
            if key is NO_KEY:
                raise ConfigurationError(
                    f'models."{name}": the environment variable {endpoint.api_key_env} (api_key_env) is not set'
                )
        counted: dict[int, int] = {}

        def on_retry(request: Request, error: RequestError, wait: float) -> None:
            if may_be_billed(error):
                counted[id(request)] = counted.get(id(request), 0) + 1

        try:
            client = EvalsClient(
                base_url=endpoint.base_url,
                api_key=key,
                # Given, even if empty: the values in the environment are for another server.
                organization="",
                project="",
                webhook_secret="unused",  # noqa: S106  # webhooks are not used here
                allow_http=endpoint.allow_http,
                max_connections=endpoint.concurrency,
                retry=retry or RetryPolicy(attempts=ATTEMPTS),
                on_retry=on_retry,
                clock=clock,
            ).with_options(set_default_headers=endpoint.headers)  # without those of OPENAI_CUSTOM_HEADERS
        except ConfigurationError as error:
            text = str(error)
            for argument, setting in SETTINGS.items():
                text = text.replace(argument, setting)
            raise ConfigurationError(f'models."{name}": {text}') from None
        return cls(client, counted)

    async def send(
        self, route: str, body: JSONObject, read: Callable[[Response], Awaitable[T]], timeout: float | None
    ) -> tuple[T, int]:
        """Send a POST. Returns the result of `read` and the number of earlier attempts that may have been billed."""
        request = self._request(route, body)
        # An attempt may use the whole timeout: if a slow response were cut off, it would be billed twice.
        timeouts = timeouts_of(timeout)
        try:
            value = await self._client.send(request, read, timeout=timeouts)
            return value, self._counted.get(id(request), 0)
        finally:
            self._counted.pop(id(request), None)

    def _request(self, route: str, body: JSONObject) -> Request:
        """Make a POST that is sent again if its response was lost. A completion changes no state on the server, it
        is only billed. Raises `InvalidArgument`.
        """
        try:
            return Request("POST", route, route, "update", body=dump(body))
        except NotJSON:  # the client encodes models, dates and similar values, or raises the error
            return self._client.request("POST", route, kind="update", body=body)

    async def names(self, timeout: float | None) -> tuple[str, ...]:
        """Return the model names that the endpoint lists: GET /models. Raises `RequestError`."""
        response = await self._client.send(self._client.request("GET", "/models"), timeout=timeout)
        try:
            listed = as_object(parse(response.body)) or {}
        except NotJSON as error:
            raise DecodeError(f"the list of models is not JSON: {error}", body=response.body) from None
        entries = [as_object(entry) or {} for entry in as_array(listed.get("data")) or ()]
        return tuple(name for entry in entries if isinstance(name := entry.get("id"), str))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


@lru_cache(maxsize=64)
def timeouts_of(seconds: float | None) -> Timeouts:
    """Return the timeouts for a call of so many seconds, with one attempt or several."""
    return Timeouts(total=seconds, attempt=seconds)


def may_be_billed(error: RequestError) -> bool:
    """Whether the work of a failed attempt may have been done and billed."""
    if isinstance(error, RateLimited | ConnectFailed):
        return False
    return not (isinstance(error, ApiError) and error.status in UNBILLED)

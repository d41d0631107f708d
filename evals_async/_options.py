"""The options of a client: what may be given, what is checked before any I/O, and what every call makes of them."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

import attrs

from evals_async._clock import Clock
from evals_async._concurrency.cache import Cache
from evals_async._omit import Omit, is_omitted
from evals_async._settings import Settings, checked_headers
from evals_async._transport import Limiter, Request, Response, RetryPolicy, Timeouts
from evals_async._transport.auth import SecretHeaders
from evals_async.errors import ConfigurationError, RequestError
from evals_async.resources import CallDefaults
from evals_async.resources._requests import parameters, taken_away


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp


class ClientOptions(TypedDict, total=False):
    """How a client behaves, whoever it talks to. All are optional."""

    timeout: float | Timeouts | None
    """Seconds for a whole call: all attempts, pauses and the body.

    Default: 60. `Timeouts` says more; `None` is without end.
    """
    max_retries: int
    """How often a failed attempt is repeated: any whole number from 0. Default: 2."""
    retry: RetryPolicy
    """Everything about repeating; goes before `max_retries`."""
    default_headers: Mapping[str, str | Omit] | None
    """Headers for every request; `OMIT` as a value takes one away that the client would send.

    An `Authorization` (for Azure also an `api-key`) goes before the client's own key.
    """
    default_query: Mapping[str, object] | None
    """Query parameters for every request."""
    session: "aiohttp.ClientSession"
    """Your own session, never closed here; the five settings that follow are then its owner's business."""
    trace_configs: "Sequence[aiohttp.TraceConfig]"
    """Tracing, for OpenTelemetry's aiohttp instrumentation and the like."""
    max_connections: int
    """Connections, and so requests under way, at once. Default: 100."""
    proxy: str
    """The URL of a proxy, http or https; `host:port` means http."""
    trust_env: bool
    """Take the proxy from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; netrc is never read. Default: no."""
    ssl: "tls.SSLContext | bool"
    """What to trust. Default: what the system trusts."""
    max_body: int
    """The largest answer that is read, in decoded bytes. Default: 32 MiB."""
    single_flight: bool
    """Let concurrent reads of one thing share one request. Default: yes."""
    cache: Cache
    """Where runs that are over are kept; see `LRUCache`. Default: nowhere.

    What one key has put into it is found by nobody with another key. It has a quarter of a second for each call, and
    what it raises counts as a miss.
    """
    limiter: "Limiter | None"
    """What holds requests back under a rate limit: an `AdaptiveLimiter` of your own, perhaps shared with other clients,
    or any other `Limiter`. `None` sends as fast as the connections allow; a call then waits its own Retry-After only.

    Default: an `AdaptiveLimiter` of this client.
    """
    on_request: Callable[[Request], None]
    """Called before each attempt."""
    on_response: Callable[[Request, Response, float], None]
    """Called after each answer, with the seconds it took."""
    on_retry: Callable[[Request, RequestError, float], None]
    """Called before each pause, with what failed and the seconds until the next attempt."""
    clock: Clock
    """Time and chance; for tests."""


def given_options(options: ClientOptions) -> ClientOptions:
    """The options that were given: `None`, and the official client's `NOT_GIVEN`, mean for most that they were not.

    Raises `TypeError` for an option that there is not.
    """
    if unknown := options.keys() - ClientOptions.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument: {', '.join(sorted(unknown))}")
    none_means_something = {"timeout", "limiter"}
    kept = {
        name: value
        for name, value in options.items()
        if not is_omitted(value) and (value is not None or name in none_means_something)
    }
    return cast("ClientOptions", kept)


def first_options(settings: Settings, options: ClientOptions) -> ClientOptions:
    """The options of a client: those that were given, and the headers of the environment below the ones given."""
    options = given_options(options)
    options["default_headers"] = merged_defaults(settings.headers, taken_away(options.get("default_headers") or {}))
    return options


def changed_options(
    options: ClientOptions,
    *,
    timeout: object,
    max_retries: int | None,
    retry: RetryPolicy | None,
    headers: Mapping[str, str | Omit] | None,
    default_headers: Mapping[str, str | Omit] | None,
    set_default_headers: Mapping[str, str | Omit] | None,
    query: Mapping[str, object] | None,
    default_query: Mapping[str, object] | None,
    set_default_query: Mapping[str, object] | None,
) -> ClientOptions:
    """The options of a copy; see `EvalsClient.with_options`. Raises `ConfigurationError`."""
    changed = cast("ClientOptions", {**options})
    if not is_omitted(timeout):
        changed["timeout"] = cast("float | Timeouts | None", timeout)
    if retry is not None:
        changed["retry"] = retry
    elif max_retries is not None:
        changed["retry"] = with_retries(policy_of(options), max_retries)
    more_headers, more_query = (
        {**(default_headers or {}), **(headers or {})},
        {**(default_query or {}), **(query or {})},
    )
    if set_default_headers is not None and more_headers:
        raise ConfigurationError("give set_default_headers, which replaces the headers, or headers, which adds to them")
    if set_default_query is not None and more_query:
        raise ConfigurationError("give set_default_query, which replaces the query, or query, which adds to it")
    kept = {} if set_default_headers is not None else options.get("default_headers") or {}
    changed["default_headers"] = merged_defaults(kept, taken_away(set_default_headers or more_headers))
    before = {} if set_default_query is not None else options.get("default_query") or {}
    changed["default_query"] = {**before, **(set_default_query or more_query)}
    return changed


def merged_defaults(headers: Mapping[str, Any], later: Mapping[str, Any]) -> SecretHeaders:
    """Both as one, whatever the case of the names; `None` stays, since it takes away what the client would send."""
    found = {name.lower(): (name, value) for group in (headers, later) for name, value in group.items()}
    return SecretHeaders(checked_headers(dict(found.values())))


def defaults_of(settings: Settings, options: ClientOptions) -> CallDefaults:
    """What every call of a client with these options sends and keeps to."""
    named = {"OpenAI-Organization": settings.organization, "OpenAI-Project": settings.project}
    return CallDefaults(
        timeouts=Timeouts.of(options.get("timeout", 60.0)),
        retry=policy_of(options),
        headers=merged_defaults(
            {name: value for name, value in named.items() if value}, options.get("default_headers") or {}
        ),
        query=parameters(**(options.get("default_query") or {})),
    )


def given_timeout(timeouts: Timeouts) -> float | Timeouts | None:
    """What was given as `timeout`: seconds or `None`, where they say the same as the `Timeouts`."""
    return timeouts.total if timeouts == Timeouts.of(timeouts.total) else timeouts


def policy_of(options: ClientOptions) -> RetryPolicy:
    return options.get("retry") or with_retries(RetryPolicy(), options.get("max_retries", 2))


def with_retries(policy: RetryPolicy, count: object) -> RetryPolicy:
    """That policy with so many retries, any number from 0; `math.inf`, as the official client has it, is no bound.

    More retries than the 429s that a call would bear are also borne when they are 429s.
    """
    number = whole(sys.maxsize if count == math.inf else count, "max_retries", least=0)
    return attrs.evolve(policy, attempts=number + 1, throttle_rounds=max(policy.throttle_rounds, number))


def whole(value: object, name: str, *, least: int) -> int:
    """A whole number in its range. Raises `ConfigurationError`, naming the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number from {least}, not {value!r:.80}")
    return value

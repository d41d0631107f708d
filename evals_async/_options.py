"""The options of a client: their types, their checks before any I/O, and the defaults for calls."""

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
from evals_async.resources._caller import CallDefaults
from evals_async.resources._requests import parameters, taken_away


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp


class ClientOptions(TypedDict, total=False):
    """The options of a client, for any server. All are optional."""

    timeout: float | Timeouts | None
    """Seconds for a whole call: all attempts, pauses and the body. Default: 60. `None` means no limit. `Timeouts` sets
    more values.
    """
    max_retries: int
    """The maximum number of retries of a call: a whole number from 0. Default: 2."""
    retry: RetryPolicy
    """All settings of retries. It has priority over `max_retries`."""
    default_headers: Mapping[str, str | Omit] | None
    """Headers for every request. `OMIT` as a value removes a header that the client would send.

    An `Authorization` header (for Azure also `api-key`) replaces the client's own key.
    """
    default_query: Mapping[str, object] | None
    """Query parameters for every request."""
    session: "aiohttp.ClientSession"
    """Your own session. The client never closes it. The settings of the session replace the options
    `trace_configs`, `proxy`, `trust_env` and `ssl`.
    """
    trace_configs: "Sequence[aiohttp.TraceConfig]"
    """Trace configurations of aiohttp, for example from OpenTelemetry's aiohttp instrumentation."""
    max_connections: int
    """The maximum number of connections, and so of concurrent requests. Default: 100."""
    proxy: str
    """The URL of a proxy, `http://` or `https://`. `host:port` means http."""
    trust_env: bool
    """Read the proxy from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. netrc is never read. Default: false."""
    ssl: "tls.SSLContext | bool"
    """The TLS context, which says what certificates are trusted. Default: those that the system trusts."""
    max_body: int
    """The maximum size of a response body in decoded bytes. Default: 32 MiB. A larger body raises `BodyTooLarge`."""
    single_flight: bool
    """Concurrent reads of the same object share one request. Default: true."""
    cache: Cache
    """A cache for runs that have ended; see `LRUCache`. Default: no cache.

    Clients with different keys never share entries. A call waits at most 0.25 s for the cache. An exception of the
    cache counts as a miss.
    """
    limiter: "Limiter | None"
    """The rate limiter: an `AdaptiveLimiter`, which several clients may share, or another `Limiter`.

    With `None` requests are sent as fast as the connections allow. A call then waits only for its own Retry-After.
    Default: a new `AdaptiveLimiter` for this client.
    """
    on_request: Callable[[Request], None]
    """Called before each attempt."""
    on_response: Callable[[Request, Response, float], None]
    """Called after each response, with the seconds that it took."""
    on_retry: Callable[[Request, RequestError, float], None]
    """Called before each pause between attempts, with the error and the seconds until the next attempt."""
    clock: Clock
    """The source of time and random numbers, for tests."""


MAPPINGS = frozenset(
    {"headers", "query", "default_headers", "default_query", "set_default_headers", "set_default_query"}
)
PROTOCOLS: Mapping[str, type] = {"limiter": Limiter, "cache": Cache, "clock": Clock}
HOOKS = frozenset({"on_request", "on_response", "on_retry"})
SWITCHES = frozenset({"single_flight", "trust_env"})


def check_kinds(options: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for an option of the wrong type. The message never contains the value, which may be a
    secret.
    """
    for name, value in options.items():
        if value is not None and (fault := fault_of(name, value)) is not None:
            raise ConfigurationError(f"{name} must be {fault}")


def fault_of(name: str, value: object) -> str | None:
    """Return what an option must be, if `value` is not that."""
    found = f"not {f'the class {value.__name__}' if isinstance(value, type) else type(value).__name__}"
    if name in MAPPINGS:
        if not isinstance(value, Mapping):
            return f"a mapping of names to values, {found}"
        wrong = next((each for each in cast("Mapping[object, object]", value) if not isinstance(each, str)), None)
        return None if wrong is None else f"a mapping whose names are str, not {type(wrong).__name__}"
    if name in PROTOCOLS:
        methods = [each for each in vars(PROTOCOLS[name]) if not each.startswith("_")]
        missing = [each for each in methods if isinstance(value, type) or not callable(getattr(value, each, None))]
        return f"an object with the methods {', '.join(methods)}, {found}" if missing else None
    if name in HOOKS:
        return None if callable(value) else f"callable, {found}"
    if name in SWITCHES:
        return None if isinstance(value, bool) else f"True or False, {found}"
    if name == "retry":
        return None if isinstance(value, RetryPolicy) else f"a RetryPolicy, {found}"
    if name == "session":
        return None if hasattr(value, "connector") else f"an aiohttp.ClientSession, {found}"
    if name == "trace_configs":
        return None if isinstance(value, Sequence) and not isinstance(value, str) else f"a list, {found}"
    if name == "ssl":
        known = isinstance(value, bool) or hasattr(value, "wrap_bio") or hasattr(value, "fingerprint")
        return None if known else f"an SSLContext, True or False, {found}"
    return None


def given_options(options: ClientOptions) -> ClientOptions:
    """Return the options that were given.

    `None` and the official client's `NOT_GIVEN` mean "not given", except that `timeout` and `limiter` may be `None`.
    Raises `TypeError` for an unknown option.
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
    """Return the options of a new client. Headers from the environment are added; given headers have priority."""
    options = given_options(options)
    check_kinds(options)
    options["default_headers"] = merged_defaults(settings.headers, taken_away(options.get("default_headers") or {}))
    return options


def changed_options(
    options: ClientOptions,
    *,
    replaced: frozenset[str],
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
    """Return the options of a copy of the client; see `EvalsClient.with_options`. The copy does not inherit the headers
    `replaced`. Raises `ConfigurationError`.
    """
    check_kinds(
        {
            "retry": retry,
            "headers": headers,
            "default_headers": default_headers,
            "set_default_headers": set_default_headers,
            "query": query,
            "default_query": default_query,
            "set_default_query": set_default_query,
        }
    )
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
        raise ConfigurationError(
            "pass either set_default_headers, which replaces the headers, or headers, which adds to them"
        )
    if set_default_query is not None and more_query:
        raise ConfigurationError("pass either set_default_query, which replaces the query, or query, which adds to it")
    before_headers = {} if set_default_headers is not None else options.get("default_headers") or {}
    kept = {name: value for name, value in before_headers.items() if name.lower() not in replaced}
    changed["default_headers"] = merged_defaults(kept, taken_away(set_default_headers or more_headers))
    before = {} if set_default_query is not None else options.get("default_query") or {}
    changed["default_query"] = {**before, **(set_default_query or more_query)}
    return changed


def merged_defaults(headers: Mapping[str, Any], later: Mapping[str, Any]) -> SecretHeaders:
    """Merge headers; names are compared without case. `None` is kept, because it removes a header that the client would
    send.
    """
    found = {name.lower(): (name, value) for group in (headers, later) for name, value in group.items()}
    return SecretHeaders(checked_headers(dict(found.values())))


def defaults_of(settings: Settings, options: ClientOptions) -> CallDefaults:
    """Return the defaults of every call of a client with these options."""
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
    """Return the value of `timeout` as the user gave it: seconds or `None` if they mean the same as the `Timeouts`."""
    return timeouts.total if timeouts == Timeouts.of(timeouts.total) else timeouts


def policy_of(options: ClientOptions) -> RetryPolicy:
    return options.get("retry") or with_retries(RetryPolicy(), options.get("max_retries", 2))


def with_retries(policy: RetryPolicy, count: object) -> RetryPolicy:
    """Return the policy with `count` retries, from 0. `math.inf` means no limit, as in the official client.

    If `count` is more than `throttle_rounds`, then `throttle_rounds` grows to it.
    """
    number = whole(sys.maxsize if count == math.inf else count, "max_retries", least=0)
    return attrs.evolve(policy, attempts=number + 1, throttle_rounds=max(policy.throttle_rounds, number))


def whole(value: object, name: str, *, least: int) -> int:
    """Validate a whole number of at least `least`. Raises `ConfigurationError`, which names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number from {least}, not {value!r:.80}")
    return value

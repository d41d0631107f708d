"""The options of a client: what may be given, what is checked before any I/O, and what every call makes of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from evals_async._clock import Clock
from evals_async._concurrency.cache import Cache
from evals_async._settings import Settings, checked_headers
from evals_async._transport import Limiter, Request, Response, RetryPolicy, Timeouts
from evals_async.errors import ConfigurationError, RequestError
from evals_async.resources import CallDefaults
from evals_async.resources._requests import parameters


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
    """The options that were given: `None` means for most that they were not.

    Raises `TypeError` for an option that there is not.
    """
    if unknown := options.keys() - ClientOptions.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument: {', '.join(sorted(unknown))}")
    kept = {k: v for k, v in options.items() if v is not None or k in {"timeout", "limiter"}}
    return cast("ClientOptions", kept)


def defaults_of(settings: Settings, options: ClientOptions) -> CallDefaults:
    """What every call of a client with these options sends and keeps to."""
    named = {"OpenAI-Organization": settings.organization, "OpenAI-Project": settings.project}
    return CallDefaults(
        timeouts=Timeouts.of(options.get("timeout", 60.0)),
        retry=options.get("retry") or RetryPolicy(attempts=retries(options.get("max_retries", 2)) + 1),
        headers={name: value for name, value in named.items() if value}
        | checked_headers(options.get("default_headers") or {}),
        query=parameters(**(options.get("default_query") or {})),
    )


def given_timeout(timeouts: Timeouts) -> float | Timeouts | None:
    """What was given as `timeout`: seconds or `None`, where they say the same as the `Timeouts`."""
    return timeouts.total if timeouts == Timeouts.of(timeouts.total) else timeouts


def retries(count: object) -> int:
    """How often a failed attempt is repeated, 0 to 10."""
    return whole(count, "max_retries", least=0, most=10)


def whole(value: object, name: str, *, least: int, most: int | None = None) -> int:
    """A whole number in its range. Raises `ConfigurationError`, naming the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"from {least}" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{name} must be a whole number {span}, not {value!r:.80}")
    return value

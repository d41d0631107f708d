"""`Callers` makes the `Caller` of a client and of each copy of it.

All callers share the connections. There is one limiter and one retry budget for each set of credentials at each base
URL. Callers share reads and cached runs only if they send the same credentials, headers and query.
"""

from collections.abc import Callable, Sequence
from inspect import ismethod
from weakref import WeakValueDictionary

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._concurrency.cache import CacheGuard
from evals_async._concurrency.single_flight import SingleFlight
from evals_async._options import ClientOptions, defaults_of, whole
from evals_async._settings import Settings
from evals_async._transport import (
    NO_KEY,
    AdaptiveLimiter,
    Anonymous,
    Auth,
    AzureKey,
    BearerTokens,
    CachedTokens,
    Limiter,
    MissingKey,
    NoKey,
    Pipeline,
    Pipelines,
    StaticKey,
    TokenProvider,
    Transport,
    UncachedTokens,
    checked_proxy,
)
from evals_async._transport.auth import CREDENTIALS, digest_of, identity_of
from evals_async._transport.transport import MAX_BODY
from evals_async.resources._caller import CallDefaults, Caller


AUTHORIZATION = frozenset({"authorization"})


class Callers:
    """Makes callers that share connections; see the docstring of the module."""

    def __init__(self, settings: Settings, options: ClientOptions, owner: str) -> None:
        self.options = options
        self.clock = options.get("clock", SYSTEM_CLOCK)
        proxy = options.get("proxy")
        self.transport = Transport(
            settings.base_url,
            session=options.get("session"),
            trace_configs=options.get("trace_configs", ()),
            proxy=None if proxy is None else checked_proxy(proxy, "proxy"),
            trust_env=options.get("trust_env", False),
            connections=whole(options.get("max_connections", 100), "max_connections", least=1),
            max_body=whole(options.get("max_body", MAX_BODY), "max_body", least=1),
            ssl=options.get("ssl", True),
            clock=self.clock,
            owner=owner,
        )
        cache = options.get("cache")
        self.cache = None if cache is None else CacheGuard(cache, self.clock)
        self.pipelines = Pipelines()
        self.transports: WeakValueDictionary[str, Transport] = WeakValueDictionary(
            {self.transport.base_url: self.transport}
        )
        self.made: WeakValueDictionary[Sequence[object], Caller] = WeakValueDictionary()

    def first(self, settings: Settings, auth: Auth, options: ClientOptions) -> Caller:
        """Return the caller of the client itself, with the limiter from its options."""
        defaults = defaults_of(settings, options)
        identity = sender_of(settings, auth, defaults)
        if "limiter" in options:
            pipeline = self.pipeline(settings, auth, identity, limiter=options["limiter"], limited=False)
        else:
            pipeline = self.pipeline(settings, auth, identity)
        self.pipelines.alive[identity] = pipeline
        return self.caller(settings, pipeline, defaults)

    def next(self, before: Caller, settings: Settings, auth: Auth, options: ClientOptions) -> Caller:
        """Return the caller of a copy of the client. `before` is the caller of the client that was copied."""
        defaults = defaults_of(settings, options)
        identity = sender_of(settings, auth, defaults)
        pipeline = before.pipeline
        if pipeline.identity != identity:
            # A limiter from the options is used with the original key only.
            limited = options.get("limiter", self) is not None
            pipeline = self.pipelines.get(
                identity,
                lambda: self.pipeline(settings, auth, identity, limited=limited, used=self.pipelines.touch),
            )
        return self.caller(settings, pipeline, defaults)

    def pipeline(
        self,
        settings: Settings,
        auth: Auth,
        identity: str,
        *,
        limiter: Limiter | None = None,
        limited: bool = True,
        used: Callable[[Pipeline], object] | None = None,
    ) -> Pipeline:
        transport = self.transports.get(settings.base_url)
        if transport is None:
            transport = self.transports[settings.base_url] = self.transport.at(settings.base_url)
        return Pipeline(
            transport,
            auth,
            clock=self.clock,
            limiter=limiter,
            new_limiter=self.new_limiter if limited else None,
            identity=identity,
            used=used,
            on_request=self.options.get("on_request"),
            on_response=self.options.get("on_response"),
            on_retry=self.options.get("on_retry"),
        )

    def new_limiter(self) -> Limiter:
        return AdaptiveLimiter(max_in_flight=self.transport.connections, clock=self.clock)

    def caller(self, settings: Settings, pipeline: Pipeline, defaults: CallDefaults) -> Caller:
        who = identity_of(pipeline.auth, defaults.all_headers.plain)
        scope = scope_of(settings, str(who), defaults)
        terms = (id(pipeline), scope, defaults.timeouts, defaults.retry)
        caller = self.made.get(terms)
        if caller is None:
            single_flight = self.options.get("single_flight", True) and who is not None
            caller = self.made[terms] = Caller(
                pipeline,
                defaults,
                flight=SingleFlight() if single_flight else None,
                cache=None if who is None else self.cache,
                scope=scope,
            )
        return caller


def sender_of(settings: Settings, auth: Auth, defaults: CallDefaults) -> str:
    """Return a text that is equal for the same base URL, credentials, organization and project."""
    # A function is the same sender in each copy that it is passed to. Its pipeline keeps it alive, so its id is unique.
    # A bound method is a new object each time, so its parts are used.
    provider = getattr(auth, "provider", auth)
    parts = (provider.__self__, provider.__func__) if ismethod(provider) else (provider,)
    who = identity_of(auth, defaults.all_headers.plain) or f"object {[*map(id, parts)]}"
    headers = {name.lower(): value for name, value in defaults.all_headers.plain.items()}
    named = (headers.get("openai-organization"), headers.get("openai-project"))
    return digest_of(repr((settings.base_url, who, named)))


def scope_of(settings: Settings, who: str, defaults: CallDefaults) -> str:
    """Return the prefix of cache keys: the base URL, and a digest of the default credentials, headers and query.

    These values may change the response, so different values must not share cache entries.
    """
    headers = sorted((name.lower(), value or "") for name, value in defaults.headers.items())
    return f"{settings.base_url}#{digest_of(repr((who, headers, defaults.query)))}"


def replaced_headers(settings: Settings, key: object, organization: str | None, project: str | None) -> frozenset[str]:
    """Return the names of the default headers that a copy with these settings does not inherit. Otherwise a header with
    the process's key would be sent instead of the key that was given for the copy.
    """
    replaced = AUTHORIZATION if key is not None else frozenset[str]()
    if key is not None and settings.azure:
        replaced = CREDENTIALS
    if organization is not None:
        replaced |= {"openai-organization"}
    return replaced if project is None else replaced | {"openai-project"}


def auth_of(settings: Settings, given: str | NoKey | TokenProvider | CachedTokens | None, clock: Clock) -> Auth:
    """Return the credentials of a client: none, tokens, or the key in its settings."""
    replaced_by = CREDENTIALS if settings.azure else AUTHORIZATION
    if given is NO_KEY:
        return Anonymous()
    if isinstance(given, CachedTokens):
        return BearerTokens.of(given, clock=clock, replaced_by=replaced_by)
    if callable(given):
        return UncachedTokens(given, replaced_by=replaced_by)
    if settings.token is not None:
        return StaticKey(settings.token.reveal(), "the token (AZURE_OPENAI_AD_TOKEN)", replaced_by=replaced_by)
    if settings.api_key is None:
        return MissingKey()
    return (AzureKey if settings.azure else StaticKey)(settings.api_key.reveal())

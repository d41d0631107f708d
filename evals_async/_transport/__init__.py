"""Bytes and headers: sends one HTTP request, and everything that makes it reliable. No models here, and neither aiohttp
nor tenacity at import.

A module imports from those above it:

    messages     Request and Response, as plain values
    auth         keys and tokens, and the headers that hold them
    delays       how long a server asks to wait
    failures     what an error status means
    retry        timeouts, retry policy, the table of failures, the retries of one call; tenacity
    limit_state  what is known about a limit: measurements, holds, headers
    rate_control the algorithm of the rate limiter: what responses change, and when the next request may go
    limiter      the rate limiter that all calls share
    state        what is known of one call, and of one attempt
    proxies      which proxy requests go through
    connection   what is built on aiohttp's classes; imported when the first session is opened
    direct       one attempt over a connection of the pool, without the session: the usual way
    pool         the session that all copies of a client share, and its life
    transport    one attempt to one base URL, by one of the two ways
    pipeline     one call: limiter, credentials, transport, judgement, retries
    pipelines    one pipeline for each set of credentials
"""

from evals_async._transport.auth import (
    NO_KEY,
    Anonymous,
    Auth,
    AzureKey,
    BearerTokens,
    CachedTokens,
    ExpiringToken,
    MissingKey,
    NoKey,
    StaticKey,
    TokenProvider,
    UncachedTokens,
)
from evals_async._transport.delays import Allowance, RateLimits, server_delay
from evals_async._transport.failures import error_for
from evals_async._transport.limiter import AdaptiveLimiter, Limiter, Statistics
from evals_async._transport.messages import Kind, Method, Request, Response, Sink, Upload
from evals_async._transport.pipeline import Pipeline
from evals_async._transport.pipelines import Pipelines
from evals_async._transport.pool import ConnectionPool
from evals_async._transport.proxies import checked_proxy
from evals_async._transport.retry import Budget, RetryPolicy, Timeouts
from evals_async._transport.state import Read, Resolve
from evals_async._transport.transport import Transport


__all__ = [
    "NO_KEY",
    "AdaptiveLimiter",
    "Allowance",
    "Anonymous",
    "Auth",
    "AzureKey",
    "BearerTokens",
    "Budget",
    "CachedTokens",
    "ConnectionPool",
    "ExpiringToken",
    "Kind",
    "Limiter",
    "Method",
    "MissingKey",
    "NoKey",
    "Pipeline",
    "Pipelines",
    "RateLimits",
    "Read",
    "Request",
    "Resolve",
    "Response",
    "RetryPolicy",
    "Sink",
    "StaticKey",
    "Statistics",
    "Timeouts",
    "TokenProvider",
    "Transport",
    "UncachedTokens",
    "Upload",
    "checked_proxy",
    "error_for",
    "server_delay",
]

"""Bytes and headers: one HTTP exchange, and everything that makes it reliable. No models, and neither aiohttp nor
tenacity at import.

Lines above are lower: a module imports from those above it.

    exchange     Request and Response, as plain values
    auth         keys and tokens, and the headers that hold them
    trip         what is known of one attempt
    delays       how long a server asks to wait
    failures     what a failed answer means
    policy       the numbers of sending again, and the table
    retry        whether one call tries again, and when; the only doorway to tenacity
    limits       the gate that all calls share
    connection   the only doorway to aiohttp's client
    transport    the session's life, one attempt
    call         the notes of one call
    pipeline     the onion
"""

from evals_async._transport.auth import (
    NO_KEY,
    Anonymous,
    Auth,
    AzureKey,
    BearerTokens,
    ExpiringToken,
    MissingKey,
    NoKey,
    StaticKey,
    TokenProvider,
)
from evals_async._transport.call import Read
from evals_async._transport.delays import Allowance, RateLimits, server_delay
from evals_async._transport.failures import error_for
from evals_async._transport.limiter import AdaptiveLimiter, Statistics
from evals_async._transport.messages import Kind, Method, Request, Response, Sink, Upload
from evals_async._transport.pipeline import Pipeline, Resolve
from evals_async._transport.policy import RetryPolicy, Timeouts
from evals_async._transport.retry import Budget
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
    "ExpiringToken",
    "Kind",
    "Method",
    "MissingKey",
    "NoKey",
    "Pipeline",
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
    "Upload",
    "error_for",
    "server_delay",
]

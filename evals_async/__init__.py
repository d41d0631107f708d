"""The asyncio client SDK for the Evals API: typed, bounded, resumable, with a local server.

    from evals_async import EvalsClient

    async with EvalsClient() as client:
        run = await client.evals.runs.retrieve("evalrun_...", eval_id="eval_...")

The house, from the ground. A module imports from lower floors only; inside a room, only from the modules above it.

    6  __init__, __main__    the public names
    6  cli/                  the command line; the only room that prints
    6  pytest_plugin         fixtures for users' tests
    5  archive/              a complete, resumable, verified copy of everything
    4  client                EvalsClient: settings to pipeline to namespaces
    3  resources/            one method per endpoint
    3  webhooks              verify, read and sign webhooks
    2  server/               the Evals API over a store; knows nothing of codec, models and wire
    2  wire/                 bytes and headers: one HTTP exchange, made reliable
    2  codec/                JSON to models and back
    1  models/               frozen attrs classes, one per thing of the API
    1  store/                SQLite: rows keep the exact JSON received
    1  settings fanout pagination polling sharing    engines that know no endpoint
    0  errors clock jsontext

Importing this package imports none of them: a name is looked up when it is first used. That keeps `import evals_async`
at one or two milliseconds, where aiohttp alone takes over a hundred.
"""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from evals_async.client import ClientOptions as ClientOptions, EvalsClient as EvalsClient
    from evals_async.clock import Clock as Clock
    from evals_async.codec import decode as decode, encode as encode
    from evals_async.errors import (
        ApiError as ApiError,
        ArchiveError as ArchiveError,
        Attempt as Attempt,
        BadRequest as BadRequest,
        BadSignature as BadSignature,
        BodyTooLarge as BodyTooLarge,
        ClientClosed as ClientClosed,
        ConfigurationError as ConfigurationError,
        Conflict as Conflict,
        ConnectFailed as ConnectFailed,
        ConnectionDropped as ConnectionDropped,
        DeadlineExceeded as DeadlineExceeded,
        DecodeError as DecodeError,
        EvalsError as EvalsError,
        ForkedClient as ForkedClient,
        InvalidArgument as InvalidArgument,
        LifecycleError as LifecycleError,
        MissingExtra as MissingExtra,
        NotFound as NotFound,
        PaginationError as PaginationError,
        PartialFailure as PartialFailure,
        PermissionDenied as PermissionDenied,
        ProtocolError as ProtocolError,
        QuotaExceeded as QuotaExceeded,
        RateLimited as RateLimited,
        RequestError as RequestError,
        ResponseError as ResponseError,
        ResponseMismatch as ResponseMismatch,
        ResponseTruncated as ResponseTruncated,
        RunFailed as RunFailed,
        ServerError as ServerError,
        TimestampOutOfRange as TimestampOutOfRange,
        TlsError as TlsError,
        TransportError as TransportError,
        Unauthenticated as Unauthenticated,
        UnexpectedRedirect as UnexpectedRedirect,
        Unprocessable as Unprocessable,
        WaitTimeout as WaitTimeout,
        WebhookError as WebhookError,
        WrongLoop as WrongLoop,
    )
    from evals_async.fanout import (
        FanOut as FanOut,
        Outcome as Outcome,
        Progress as Progress,
        fan_out as fan_out,
        gather_many as gather_many,
        merge as merge,
    )
    from evals_async.models import (
        Eval as Eval,
        EvalRun as EvalRun,
        File as File,
        OutputItem as OutputItem,
        Unknown as Unknown,
    )
    from evals_async.pagination import Page as Page, Pager as Pager
    from evals_async.polling import Pace as Pace, poll_many as poll_many, poll_until as poll_until
    from evals_async.resources import (
        OMIT as OMIT,
        CallOptions as CallOptions,
        RawResponse as RawResponse,
        RunKey as RunKey,
    )
    from evals_async.sharing import Cache as Cache, LRUCache as LRUCache
    from evals_async.wire import RetryPolicy as RetryPolicy, Statistics as Statistics, Timeouts as Timeouts

HOMES = {
    "client": "ClientOptions EvalsClient",
    "clock": "Clock",
    "codec": "decode encode",
    "errors": """
        ApiError ArchiveError Attempt BadRequest BadSignature BodyTooLarge ClientClosed ConfigurationError
        Conflict ConnectFailed ConnectionDropped DeadlineExceeded DecodeError EvalsError ForkedClient
        InvalidArgument LifecycleError MissingExtra NotFound PaginationError PartialFailure PermissionDenied
        ProtocolError QuotaExceeded RateLimited RequestError ResponseError ResponseMismatch
        ResponseTruncated RunFailed ServerError TimestampOutOfRange TlsError TransportError Unauthenticated
        UnexpectedRedirect Unprocessable WaitTimeout WebhookError WrongLoop
    """,
    "fanout": "FanOut Outcome Progress fan_out gather_many merge",
    "models": "Eval EvalRun File OutputItem Unknown",
    "pagination": "Page Pager",
    "polling": "Pace poll_many poll_until",
    "resources": "OMIT CallOptions RawResponse RunKey",
    "sharing": "Cache LRUCache",
    "wire": "RetryPolicy Statistics Timeouts",
}
"""Which module each public name is made in."""

PLACES = {name: module for module, names in HOMES.items() for name in names.split()}

__all__ = sorted(PLACES)  # pyright: ignore[reportUnsupportedDunderAll]  # computed; the names are those imported above


if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
        globals()[name] = value  # so that the next look-up finds it without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})

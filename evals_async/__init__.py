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
    1  settings              arguments and environment, checked
    1  channel fanout listing pagination polling sharing    engines that know no endpoint
    0  errors clock jsontext

Importing this package imports none of them: a name is looked up when it is first used. That keeps `import evals_async`
at one or two milliseconds, where aiohttp alone takes over a hundred.
"""

from importlib import import_module


# Type checkers know the name. To import it from typing takes three times as long as all of this file.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from evals_async.client import ClientOptions as ClientOptions
    from evals_async.client import EvalsClient as EvalsClient
    from evals_async.clock import Clock as Clock
    from evals_async.codec import decode as decode
    from evals_async.codec import encode as encode
    from evals_async.errors import (
        ApiError as ApiError,
    )
    from evals_async.errors import (
        ArchiveError as ArchiveError,
    )
    from evals_async.errors import (
        Attempt as Attempt,
    )
    from evals_async.errors import (
        BadRequest as BadRequest,
    )
    from evals_async.errors import (
        BadSignature as BadSignature,
    )
    from evals_async.errors import (
        BodyTooLarge as BodyTooLarge,
    )
    from evals_async.errors import (
        ClientClosed as ClientClosed,
    )
    from evals_async.errors import (
        ConfigurationError as ConfigurationError,
    )
    from evals_async.errors import (
        Conflict as Conflict,
    )
    from evals_async.errors import (
        ConnectFailed as ConnectFailed,
    )
    from evals_async.errors import (
        ConnectionDropped as ConnectionDropped,
    )
    from evals_async.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from evals_async.errors import (
        DecodeError as DecodeError,
    )
    from evals_async.errors import (
        EvalsError as EvalsError,
    )
    from evals_async.errors import (
        ForkedClient as ForkedClient,
    )
    from evals_async.errors import (
        InvalidArgument as InvalidArgument,
    )
    from evals_async.errors import (
        LifecycleError as LifecycleError,
    )
    from evals_async.errors import (
        MissingExtra as MissingExtra,
    )
    from evals_async.errors import (
        NotFound as NotFound,
    )
    from evals_async.errors import (
        PaginationError as PaginationError,
    )
    from evals_async.errors import (
        PartialFailure as PartialFailure,
    )
    from evals_async.errors import (
        PermissionDenied as PermissionDenied,
    )
    from evals_async.errors import (
        ProtocolError as ProtocolError,
    )
    from evals_async.errors import (
        QuotaExceeded as QuotaExceeded,
    )
    from evals_async.errors import (
        RateLimited as RateLimited,
    )
    from evals_async.errors import (
        RequestError as RequestError,
    )
    from evals_async.errors import (
        ResponseError as ResponseError,
    )
    from evals_async.errors import (
        ResponseMismatch as ResponseMismatch,
    )
    from evals_async.errors import (
        ResponseTruncated as ResponseTruncated,
    )
    from evals_async.errors import (
        RunFailed as RunFailed,
    )
    from evals_async.errors import (
        ServerError as ServerError,
    )
    from evals_async.errors import (
        TimestampOutOfRange as TimestampOutOfRange,
    )
    from evals_async.errors import (
        TlsError as TlsError,
    )
    from evals_async.errors import (
        TransportError as TransportError,
    )
    from evals_async.errors import (
        Unauthenticated as Unauthenticated,
    )
    from evals_async.errors import (
        UnexpectedRedirect as UnexpectedRedirect,
    )
    from evals_async.errors import (
        Unprocessable as Unprocessable,
    )
    from evals_async.errors import (
        WaitTimeout as WaitTimeout,
    )
    from evals_async.errors import (
        WebhookError as WebhookError,
    )
    from evals_async.errors import (
        WrongLoop as WrongLoop,
    )
    from evals_async.fanout import (
        FanOut as FanOut,
    )
    from evals_async.fanout import (
        OnProgress as OnProgress,
    )
    from evals_async.fanout import (
        Outcome as Outcome,
    )
    from evals_async.fanout import (
        Progress as Progress,
    )
    from evals_async.fanout import (
        fan_out as fan_out,
    )
    from evals_async.fanout import (
        gather_many as gather_many,
    )
    from evals_async.fanout import (
        merge as merge,
    )
    from evals_async.models import (
        Eval as Eval,
    )
    from evals_async.models import (
        EvalRun as EvalRun,
    )
    from evals_async.models import (
        File as File,
    )
    from evals_async.models import (
        OutputItem as OutputItem,
    )
    from evals_async.models import (
        Unknown as Unknown,
    )
    from evals_async.pagination import Page as Page
    from evals_async.pagination import Pager as Pager
    from evals_async.polling import Pace as Pace
    from evals_async.polling import poll_many as poll_many
    from evals_async.polling import poll_until as poll_until
    from evals_async.resources import (
        OMIT as OMIT,
    )
    from evals_async.resources import (
        CallOptions as CallOptions,
    )
    from evals_async.resources import (
        Omit as Omit,
    )
    from evals_async.resources import (
        RawResponse as RawResponse,
    )
    from evals_async.resources import (
        RunKey as RunKey,
    )
    from evals_async.sharing import Cache as Cache
    from evals_async.sharing import LRUCache as LRUCache
    from evals_async.wire import (
        Reply as Reply,
    )
    from evals_async.wire import (
        Request as Request,
    )
    from evals_async.wire import (
        RetryPolicy as RetryPolicy,
    )
    from evals_async.wire import (
        Statistics as Statistics,
    )
    from evals_async.wire import (
        Timeouts as Timeouts,
    )
    from evals_async.wire import (
        TokenProvider as TokenProvider,
    )

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
    "fanout": "FanOut OnProgress Outcome Progress fan_out gather_many merge",
    "models": "Eval EvalRun File OutputItem Unknown",
    "pagination": "Page Pager",
    "polling": "Pace poll_many poll_until",
    "resources": "OMIT CallOptions Omit RawResponse RunKey",
    "sharing": "Cache LRUCache",
    "wire": "Reply Request RetryPolicy Statistics Timeouts TokenProvider",
}
"""Which module each public name is made in."""

PLACES = {name: module for module, names in HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # to type checkers public is what the imports above rename to itself, and nothing else
    __all__ = sorted(PLACES)  # noqa: PLE0605  # computed

    def __getattr__(name: str) -> object:
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
        globals()[name] = value  # so that the next look-up finds it without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})

"""The asyncio client SDK for the Evals API: typed, bounded, resumable, with a local server.

    from evals_async import EvalsClient

    async with EvalsClient() as client:
        run = await client.evals.runs.retrieve("evalrun_...", eval_id="eval_...")

The packages and their layers are drawn in docs/architecture.md, and checked as import contracts (pyproject.toml).

Importing this package imports none of them: a name is looked up when it is first used. That keeps `import evals_async`
at one or two milliseconds, where aiohttp alone takes over a hundred.
"""

from evals_async._names import lazy_names


# Type checkers know the name. To import it from typing takes three times as long as all of this file.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from evals_async._clock import Clock as Clock
    from evals_async._codec import decode as decode, encode as encode
    from evals_async._concurrency.cache import Cache as Cache, LRUCache as LRUCache
    from evals_async._concurrency.fanout import (
        FanOut as FanOut,
        OnProgress as OnProgress,
        Outcome as Outcome,
        Progress as Progress,
        fan_out as fan_out,
        gather_many as gather_many,
        merge as merge,
    )
    from evals_async._concurrency.polling import Pace as Pace, poll_many as poll_many, poll_until as poll_until
    from evals_async._omit import OMIT as OMIT, Omit as Omit
    from evals_async._options import ClientOptions as ClientOptions
    from evals_async._transport import (
        NO_KEY as NO_KEY,
        AdaptiveLimiter as AdaptiveLimiter,
        CachedTokens as CachedTokens,
        Limiter as Limiter,
        NoKey as NoKey,
        Request as Request,
        Response as Response,
        RetryPolicy as RetryPolicy,
        Statistics as Statistics,
        Timeouts as Timeouts,
        TokenProvider as TokenProvider,
    )
    from evals_async.client import EvalsClient as EvalsClient
    from evals_async.comparison import compare as compare
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
    from evals_async.models import (
        Eval as Eval,
        EvalRun as EvalRun,
        File as File,
        OutputItem as OutputItem,
        Unknown as Unknown,
    )
    from evals_async.pagination import Page as Page, Pager as Pager
    from evals_async.resources import (
        CallOptions as CallOptions,
        RawResponse as RawResponse,
        RunKey as RunKey,
    )
    from evals_async.tables import arrow_batches as arrow_batches, to_arrow as to_arrow, to_rows as to_rows

HOMES = {
    "_clock": "Clock",
    "_codec": "decode encode",
    "_concurrency.cache": "Cache LRUCache",
    "_concurrency.fanout": "FanOut OnProgress Outcome Progress fan_out gather_many merge",
    "_concurrency.polling": "Pace poll_many poll_until",
    "_omit": "OMIT Omit",
    "_options": "ClientOptions",
    "_transport": """
        NO_KEY AdaptiveLimiter CachedTokens Limiter NoKey Request Response RetryPolicy Statistics Timeouts TokenProvider
    """,
    "client": "EvalsClient",
    "comparison": "compare",
    "errors": """
        ApiError ArchiveError Attempt BadRequest BadSignature BodyTooLarge ClientClosed
        ConfigurationError Conflict ConnectFailed ConnectionDropped DeadlineExceeded DecodeError
        EvalsError ForkedClient InvalidArgument LifecycleError MissingExtra NotFound PaginationError
        PartialFailure PermissionDenied ProtocolError QuotaExceeded RateLimited RequestError
        ResponseError ResponseMismatch ResponseTruncated RunFailed ServerError TimestampOutOfRange
        TlsError TransportError Unauthenticated UnexpectedRedirect Unprocessable WaitTimeout
        WebhookError WrongLoop
    """,
    "models": "Eval EvalRun File OutputItem Unknown",
    "pagination": "Page Pager",
    "resources": "CallOptions RawResponse RunKey",
    "tables": "arrow_batches to_arrow to_rows",
}
"""Which module each public name is made in."""


PLACES = {name: module for module, names in HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # to type checkers public is what the imports above rename to itself, and nothing else
    __all__ = sorted(PLACES)  # noqa: PLE0605  # computed
    __getattr__, __dir__ = lazy_names(__name__, PLACES)

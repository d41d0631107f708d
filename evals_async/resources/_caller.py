"""`Caller`: sends the requests of a resource, and decodes the responses to objects and listings.

All resources of a client share one `Caller`. It does not depend on endpoints.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import attrs

from evals_async._codec import copied, decode, decode_large_page, decode_page
from evals_async._concurrency.cache import Cache, CacheGuard
from evals_async._concurrency.single_flight import SingleFlight
from evals_async._omit import OMIT, Omit, given, is_omitted
from evals_async._paging.listing import Fetch, PageBody
from evals_async._paging.pages import Pager
from evals_async._transport import Pipeline, Request, Resolve, Response, RetryPolicy, Timeouts
from evals_async._transport.state import CallState, UsualHeaders
from evals_async.errors import ResponseError, ResponseMismatch
from evals_async.resources._requests import (
    NO_OPTIONS,
    CallOptions,
    merged,
    paging_of,
    parameters,
    segment,
)


T = TypeVar("T")

Ids: TypeAlias = tuple[str, ...]

NOTICED = 0.01  # seconds; if the cache takes longer, the timeout of the request is reduced
LARGE_PAGE = 512 * 1024  # bytes; a larger page is decoded in parts, so that other tasks can run in between


@attrs.frozen(kw_only=True)
class CallDefaults:
    """The default timeouts, retry policy, headers and query of the calls of a client. `with_options` changes them
    in a copy.
    """

    timeouts: Timeouts
    retry: RetryPolicy
    headers: Mapping[str, str | None] = attrs.field(repr=False)
    query: tuple[tuple[str, str], ...]
    all_headers: UsualHeaders = attrs.field(
        init=False,
        repr=False,
        eq=False,
        default=attrs.Factory(lambda self: UsualHeaders(self.headers), takes_self=True),
    )


class Fetched(NamedTuple, Generic[T]):
    """An object and its response. The response is `None` if the object came from the cache, or was inferred."""

    value: T
    response: Response | None = None


def copy_of(fetched: Fetched[Any]) -> Fetched[Any]:
    """Return a copy for another caller. The free-form JSON in an object is mutable, so callers must not share it."""
    return Fetched(copied(fetched.value), fetched.response)


class Identity:
    """The attributes that identify an object: the ids of its parents, and its own id."""

    def __init__(self, *names: str) -> None:
        self.names = names
        only = names[0]
        self.of: Callable[[object], object] = (
            attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, only),)
        )

    def check(self, value: object, ids: Ids) -> None:
        """Raise `ResponseMismatch` if an id differs from the requested id. A connection may deliver another
        request's response.
        """
        if self.of(value) == ids:
            return
        for name, asked in zip(self.names, ids, strict=True):
            got = getattr(value, name)
            if got is not None and got != asked:
                raise ResponseMismatch(f"requested {name} {asked!r}, got {got!r}", asked=asked, got=str(got))

    def check_all(self, values: Sequence[object], items: Callable[[], Sequence[object]], ids: Ids) -> None:
        """Check every object of a page. `items` makes the objects of `values`. It is used only if an id differs."""
        if [*map(self.of, values)].count(ids) == len(values):
            return
        for item in items():
            self.check(item, ids)


Expected: TypeAlias = tuple[Identity, Ids]
"""The ids that an object in a response must have, or the parent ids that the objects of a listing must have."""


def decode_expected(body: bytes, shape: type[T], expected: Expected | None) -> T:
    """Decode a body to an object and check its ids. Raises `DecodeError` or `ResponseMismatch`."""
    value = decode(body, shape)
    if expected is not None:
        identity, ids = expected
        identity.check(value, ids)
    return value


async def read_object(shape: type[T], expected: Expected | None, response: Response) -> Fetched[T]:
    return Fetched(decode_expected(response.body, shape, expected), response)


class YieldingLock:
    """A lock for the decoding of pages. The next page is decoded only after the task of the previous page has run.

    Pages of many listings arrive at the same time. If all were decoded before the first is used, its records would no
    longer be in the processor's caches. The event loop would also be blocked for the time of all pages.
    """

    def __init__(self) -> None:
        self.lock: asyncio.Lock = asyncio.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self.loop:  # the previous loop is closed
            self.loop, self.lock = loop, asyncio.Lock()
        await self.lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The loop first runs the task that waits for the page, and then the next waiter of this lock.
        asyncio.get_running_loop().call_soon(self.lock.release)


class Caller:
    """Sends the calls of one client: `fetch` for one object, `listing` for many, `send` for other responses.

    `flight` lets concurrent reads of one object share a request. `cache` stores objects that cannot change any more,
    under keys that start with `scope`. Both are optional.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        defaults: CallDefaults,
        *,
        flight: SingleFlight | None = None,
        cache: Cache | None = None,
        scope: str = "",
    ) -> None:
        self.pipeline = pipeline
        self.defaults = defaults
        self.clock = pipeline.clock
        self.flight = flight
        self.cache = cache if cache is None or isinstance(cache, CacheGuard) else CacheGuard(cache, self.clock)
        self.scope = scope
        self.page_lock: YieldingLock = YieldingLock()
        self.watch: Callable[[CallState[Any]], None] | None = None  # is given each call before its first attempt

    def send(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[T]],
        *,
        timeout: float | Timeouts | Omit | None = OMIT,
        resolve: Resolve[T] | None = None,
    ) -> Coroutine[Any, Any, T]:
        """Send `request` with the defaults of this client, and return the result of `read`. See `Pipeline.send`."""
        defaults = self.defaults
        return self.pipeline.send(
            request,
            read,
            timeouts=defaults.timeouts if timeout is OMIT or is_omitted(timeout) else Timeouts.of(timeout),
            policy=defaults.retry,
            headers=defaults.all_headers,
            query=defaults.query,
            resolve=resolve,
            watch=self.watch,
        )

    def fetch(
        self,
        request: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        expected: Expected | None = None,
        resolve: Resolve[Fetched[T]] | None = None,
        share: bool = False,
        final: Callable[[T], bool] | None = None,
    ) -> Coroutine[Any, Any, Fetched[T]]:
        """Return the object of the response. Its ids must be the expected ones.

        With `share`, concurrent calls for the same path share one request, and an object that is `final` may come from
        the cache. A call with its own options is never shared.
        """
        flight, cache = self.flight, self.cache
        if share and not options and cache is not None and final is not None:
            if flight is None:
                return self.cached(request, shape, expected, cache, final)
            return flight.run(request.path, self.cached, request, shape, expected, cache, final, copy_of=copy_of)
        read = partial(read_object, shape, expected)
        if share and not options and flight is not None:
            return flight.run(request.path, self.send, request, read, copy_of=copy_of)
        return self.send(request, read, timeout=options.get("timeout", OMIT), resolve=resolve)

    async def cached(
        self, request: Request, shape: type[T], expected: Expected | None, cache: CacheGuard, final: Callable[[T], bool]
    ) -> Fetched[T]:
        """Return the object from the cache, or else from the server. If it is `final`, its exact bytes are stored
        in the cache.

        A cache entry is checked like a response. An invalid entry counts as a miss. The time of the cache is part of
        the timeout of the call.
        """
        key, start = self.scope + request.path, self.clock.monotonic()
        timeouts = self.defaults.timeouts
        total = math.inf if timeouts.total is None else timeouts.total
        if (kept := await self.kept(key, shape, expected, cache, total)) is not None:
            return Fetched(kept)
        spent = self.clock.monotonic() - start
        if spent >= NOTICED and total < math.inf:
            timeouts = attrs.evolve(timeouts, total=max(total - spent, NOTICED))
        fetched = await self.send(request, partial(read_object, shape, expected), timeout=timeouts)
        if fetched.response is not None and final(fetched.value):
            await cache.put(key, fetched.response.body, start + total - self.clock.monotonic())
        return fetched

    async def kept(
        self, key: str, shape: type[T], expected: Expected | None, cache: CacheGuard, seconds: float = math.inf
    ) -> T | None:
        """Return the cached object for `key`, or `None` if there is no valid entry or the cache is too slow."""
        if (found := await cache.get(key, seconds)) is not None:
            with suppress(ResponseError):
                return decode_expected(found, shape, expected)
        return None

    def pages(
        self, request: Request, shape: type[T], options: CallOptions = NO_OPTIONS, *, expected: Expected | None = None
    ) -> Fetch[T]:
        """Return the function that fetches the pages of a listing. All objects must have the expected parent ids."""

        async def read(response: Response) -> PageBody[T]:
            if len(response.body) < LARGE_PAGE:
                async with self.page_lock:
                    body = decode_page(response.body, shape)
            else:
                body = await decode_large_page(response.body, shape)
            if expected is not None:
                identity, ids = expected
                identity.check_all(body.entries, lambda: tuple(body), ids)
            return body

        _, size, extra = paging_of(options)
        if size is not None:
            extra = tuple(pair for pair in extra if pair[0] != "limit")  # the argument `limit` has this value

        async def fetch(after: str | None, limit: int | None) -> PageBody[T]:
            query = merged(request.query, parameters(after=after, limit=limit))
            page = attrs.evolve(request, query=merged(query, extra) if extra else query)
            return await self.send(page, read, timeout=options.get("timeout", OMIT))

        return fetch

    def listing(
        self,
        request: Request,
        shape: type[T],
        options: CallOptions,
        *,
        after: str | None,
        limit: int | None,
        max_limit: int = 100,
        expected: Expected | None = None,
        shrink: Callable[[Exception], bool] | None = None,
    ) -> Pager[T]:
        """Return a listing. All objects must have the expected parent ids. `after` and `limit` in `extra_query`
        have priority.
        """
        first, size, _ = paging_of(options)
        after, limit = first if first is not None else given(after), size or given(limit)
        if after is not None:
            segment(after, "after")
        fetch = self.pages(request, shape, options, expected=expected)
        return Pager(fetch, after=after, limit=limit, max_limit=max_limit, shrink=shrink)


class Resource:
    """The base class of the resources of a client."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

"""`Caller`: how a resource sends a request and decodes its answer, as an object or a listing; and answers as they came.

A resource holds a `Caller`, not the client. Nothing here knows an endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import attrs

from evals_async._clock import Clock
from evals_async._codec import decode, decode_large_page, decode_page
from evals_async._concurrency.sharing import Cache, SingleFlight
from evals_async._paging.pages import Page, PageBody, Pager
from evals_async._transport.messages import Request, Response
from evals_async.errors import ResponseError, ResponseMismatch
from evals_async.resources._requests import NO_OPTIONS, OMIT, CallOptions, Omit, merged, parameters, segment


T = TypeVar("T")
P = ParamSpec("P")

Ids: TypeAlias = tuple[str, ...]

LARGE_PAGE = 512 * 1024  # bytes from which a page is decoded in slices, between which others get their turn


class Send(Protocol):
    """How a request goes out: with every policy applied, through `read`, which makes the value of a good reply."""

    def __call__(
        self,
        request: Request,
        read: Callable[[Response], Awaitable[T]],
        *,
        timeout: float | Omit | None = OMIT,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> Coroutine[Any, Any, T]: ...


@attrs.frozen(kw_only=True)
class RawResponse(Generic[T]):
    """An answer as it came: status, headers (lower-case names) and exact bytes; `parse()` gives what the call would
    have.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str | None
    content: bytes = attrs.field(repr=False)
    parser: Callable[[], T] = attrs.field(repr=False, eq=False)

    def parse(self) -> T:
        """The object that the body describes. Raises `DecodeError` or `ResponseMismatch`, as the call itself would."""
        return self.parser()


Look: TypeAlias = tuple[T, Response | None]
"""An object that was read, and the reply that brought it; `None` when it came from the cache."""


class Identity:
    """The attributes in which an object tells which one it is: the ids of what it belongs to, and its own."""

    def __init__(self, *names: str) -> None:
        self.names = names
        only = names[0]
        self.of: Callable[[object], object] = (
            attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, only),)
        )

    def check(self, value: object, ids: Ids) -> None:
        """Raise `ResponseMismatch` when an id is not the one asked for: pools have delivered others' answers."""
        if self.of(value) == ids:
            return
        for name, asked in zip(self.names, ids, strict=True):
            got = getattr(value, name)
            if got is not None and got != asked:
                raise ResponseMismatch(f"asked for {name} {asked!r}, got {got!r}", asked=asked, got=str(got))

    def is_of_all(self, values: Sequence[object], ids: Ids) -> bool:
        """Do all objects have these ids? A look at each in Python would be a twentieth of a page's time."""
        return [*map(self.of, values)].count(ids) == len(values)


Asked: TypeAlias = tuple[Identity, Ids]
"""Which object an answer must be, or which ones the objects of a listing must belong to."""


def object_of(body: bytes, shape: type[T], asked: Asked | None) -> T:
    """The object that a body describes, if it is the one `asked` for."""
    value = decode(body, shape)
    if asked is not None:
        identity, ids = asked
        identity.check(value, ids)
    return value


async def look_at(shape: type[T], identity: Identity, ids: Ids, reply: Response) -> Look[T]:
    value = decode(reply.body, shape)
    identity.check(value, ids)
    return value, reply


class YieldingLock:
    """Lets through one at a time, and the next one not before the loop has gone on to who waits for what came of it.

    Pages of many listings come at the same time. If all were decoded before the first is used, its records would be out
    of the processor's caches when its items are made of them: that took a third longer for each page, and the loop was
    held for the time of all.
    """

    def __init__(self) -> None:
        self.lock: asyncio.Lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self.lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Who waits for the page is called by the loop right after this, and only then the next one here.
        asyncio.get_running_loop().call_soon(self.lock.release)


class Caller:
    """How a resource talks to the service: `one` object, or a `listing` of them.

    `flight` lets concurrent reads of one thing share a request. `cache` keeps objects that never change again, under
    names that begin with `scope`. Either may be missing.
    """

    def __init__(
        self,
        send: Send,
        clock: Clock,
        *,
        flight: SingleFlight | None = None,
        cache: Cache | None = None,
        scope: str = "",
    ) -> None:
        self.send = send
        self.clock = clock
        self.flight = flight
        self.cache = cache
        self.scope = scope
        self.page_lock: YieldingLock = YieldingLock()

    def raw(self) -> RawCaller:
        """The same, with answers as they came."""
        return RawCaller(self.send, self.clock)

    async def one(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        asked: Asked | None = None,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        """The object that answers `wanted`; its ids must be the ones `asked` for."""

        async def read(reply: Response) -> T:
            return object_of(reply.body, shape, asked)

        return await self.send(wanted, read, timeout=options.get("timeout", OMIT), settle=settle)

    def look(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        asked: Asked,
        final: Callable[[T], bool] | None = None,
    ) -> Coroutine[Any, Any, Look[T]]:
        """`one`, for a read, with the reply that brought it: concurrent calls for the same thing share a request, and
        what is `final` comes from the cache.

        A call with options of its own is made on its own.
        """
        if options:
            return self.looked(wanted, shape, asked, options)
        if self.cache is None or final is None:
            look = self.looked(wanted, shape, asked)
        else:
            look = self.cached(wanted, shape, asked, self.cache, final)
        return look if self.flight is None else self.flight.run(wanted.path, look)

    def looked(
        self, wanted: Request, shape: type[T], asked: Asked, options: CallOptions = NO_OPTIONS
    ) -> Coroutine[Any, Any, Look[T]]:
        return self.send(wanted, partial(look_at, shape, *asked), timeout=options.get("timeout", OMIT))

    async def cached(
        self, wanted: Request, shape: type[T], asked: Asked, cache: Cache, final: Callable[[T], bool]
    ) -> Look[T]:
        """The object from the cache, or from the server and then, if `final`, into the cache, as it came.

        What the cache gives back is checked as an answer is: an entry that is damaged counts as none.
        """
        key = self.scope + wanted.path
        if (kept := await cache.get(key)) is not None:
            with suppress(ResponseError):
                return object_of(kept, shape, asked), None
        value, reply = await self.looked(wanted, shape, asked)
        if reply is not None and final(value):
            await cache.put(key, reply.body)
        return value, reply

    def listing(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions,
        *,
        after: str | None,
        limit: int | None,
        max_limit: int = 100,
        asked: Asked | None = None,
        shrink: Callable[[Exception], bool] | None = None,
    ) -> Pager[T]:
        """A listing of objects whose ids agree with `asked`."""

        async def read(reply: Response) -> PageBody[T]:
            if len(reply.body) < LARGE_PAGE:
                async with self.page_lock:
                    body = decode_page(reply.body, shape)
            else:
                body = await decode_large_page(reply.body, shape)
            if asked is not None:
                identity, ids = asked
                if not identity.is_of_all(body.entries, ids):
                    for item in body:
                        identity.check(item, ids)
            return body

        async def fetch(after: str | None, limit: int | None) -> PageBody[T]:
            page = attrs.evolve(wanted, query=merged(wanted.query, parameters(after=after, limit=limit)))
            return await self.send(page, read, timeout=options.get("timeout", OMIT))

        if after is not None:
            segment(after, "after")
        return Pager(fetch, after=after, limit=limit, max_limit=max_limit, shrink=shrink)


class RawCaller(Caller):
    """A `Caller` whose methods return `RawResponse`s.

    What came is all there is to return, so nothing is shared, cached, or settled by a second look. The classes
    `...WithRawResponse` say so to type checkers, see `raw`.
    """

    async def one(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        asked: Asked | None = None,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        async def read(reply: Response) -> Any:
            return raw_response(reply, lambda: object_of(reply.body, shape, asked))

        return cast("T", await self.send(wanted, read, timeout=options.get("timeout", OMIT)))

    def looked(
        self, wanted: Request, shape: type[T], asked: Asked, options: CallOptions = NO_OPTIONS
    ) -> Coroutine[Any, Any, Look[T]]:
        async def read(reply: Response) -> Any:
            return raw_response(reply, lambda: object_of(reply.body, shape, asked)), reply

        return cast("Coroutine[Any, Any, Look[T]]", self.send(wanted, read, timeout=options.get("timeout", OMIT)))

    def listing(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions,
        *,
        after: str | None,
        limit: int | None,
        max_limit: int = 100,
        asked: Asked | None = None,
        shrink: Callable[[Exception], bool] | None = None,
    ) -> Pager[T]:
        replies: list[Response] = []

        async def send(
            request: Request,
            read: Callable[[Response], Awaitable[Any]],
            *,
            timeout: float | Omit | None = OMIT,
            settle: Callable[[], Awaitable[Any]] | None = None,
        ) -> Any:
            async def keep(reply: Response) -> Any:
                replies.append(reply)
                return await read(reply)

            return await self.send(request, keep, timeout=timeout, settle=settle)

        async def first() -> RawResponse[Page[T]]:
            pager = Caller(send, self.clock).listing(
                wanted, shape, options, after=after, limit=limit, max_limit=max_limit, asked=asked, shrink=shrink
            )
            page = await pager
            return raw_response(replies[-1], lambda: page)

        return cast("Pager[T]", first())


def raw_response(reply: Response, parse: Callable[[], T]) -> RawResponse[T]:
    return RawResponse(
        status=reply.status,
        # Of a repeated header the first one stays.
        headers={name.lower(): value for name, value in reversed([*reply.headers.items()])},
        request_id=reply.request_id,
        content=reply.body,
        parser=parse,
    )


def raw(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[RawResponse[T]]]:
    """A method of a resource that stands on a `RawCaller`, with the type that it then has."""
    return cast("Callable[P, Awaitable[RawResponse[T]]]", method)

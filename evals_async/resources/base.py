"""What every resource stands on: `Call`, which sends a request and decodes its answer; ids; paths; per-call options.

A resource holds a `Call`, not the client. Nothing here knows an endpoint.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Final, Generic, Literal, NotRequired, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar, cast
from urllib.parse import quote

import attrs

from evals_async import jsontext
from evals_async.clock import Clock
from evals_async.codec import decode, decode_page, encode
from evals_async.errors import InvalidArgument, ResponseMismatch
from evals_async.jsontext import JSONValue
from evals_async.pagination import Page, PageBody, Pager
from evals_async.sharing import Cache, SingleFlight
from evals_async.wire.exchange import Kind, Reply, Request, Sink, Upload


T = TypeVar("T")
P = ParamSpec("P")

Order: TypeAlias = Literal["asc", "desc"]

LONGEST_ID = 256  # characters; the longest seen, an Azure dataset URI, has 180
SHOWN_OF_AN_ID = 40


class Omit(Enum):
    """The type of `OMIT`, a parameter that was not given, where `None` means something else: an explicit null."""

    OMIT = "OMIT"

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit.OMIT


class CallOptions(TypedDict):
    """What any call may be given beside its own arguments. To set it for many calls, use `client.with_options(...)`."""

    timeout: NotRequired[float]
    """Seconds for the whole call: attempts, pauses and body."""
    extra_headers: NotRequired[Mapping[str, str]]
    """Headers to add; they win over the client's own."""
    extra_query: NotRequired[Mapping[str, object]]
    """Query parameters to add."""
    extra_body: NotRequired[Mapping[str, object]]
    """Fields to add to a JSON body."""


NO_OPTIONS: CallOptions = {}


class Send(Protocol):
    """How a request goes out: with every policy applied, through `read`, which makes the value of a good reply."""

    async def __call__(
        self,
        request: Request,
        read: Callable[[Reply], Awaitable[T]],
        *,
        timeout: float | None = None,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T: ...


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


def segment(value: object, name: str) -> str:
    """An id as exactly one percent-encoded path segment (RFC 3986, 3.3).

    Raises `InvalidArgument`, naming the argument, for what is no id: not a str, empty, `.` or `..`, longer than 256
    characters, with white space, control characters or lone surrogates in it.
    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a str, not {type(value).__name__}")
    shown = ascii(value[:SHOWN_OF_AN_ID])
    if not value:
        raise InvalidArgument(f"{name} is empty: the request would go to the listing instead")
    if value in (".", ".."):
        raise InvalidArgument(f"{name} is {shown}: a server would take it for another path")
    if len(value) > LONGEST_ID:
        raise InvalidArgument(f"{name} has {len(value)} characters, more than {LONGEST_ID}: {shown}...")
    if not value.isprintable() or any(character.isspace() for character in value):
        raise InvalidArgument(f"{name} contains white space or characters that cannot be printed: {shown}")
    return quote(value, safe="")


def parameters(**values: object) -> tuple[tuple[str, str], ...]:
    """Query parameters: those that are not `None`, as text."""
    return tuple((name, text_of(name, value)) for name, value in values.items() if value is not None)


def text_of(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidArgument(f"{name} must be a str or a number, not {type(value).__name__}")


def json_body(**fields: object) -> dict[str, JSONValue]:
    """A request body of the fields that are given: `OMIT` leaves one out, `None` sends a null."""
    body: dict[str, JSONValue] = {}
    for name, value in fields.items():
        if value is not OMIT:
            try:
                body[name] = encode(value)
            except InvalidArgument as error:
                raise InvalidArgument(f"{name}: {error}") from None
    return body


def request(
    method: Literal["GET", "POST", "DELETE"],
    route: str,
    kind: Kind,
    options: CallOptions,
    *,
    ids: Mapping[str, object] = {},
    query: tuple[tuple[str, str], ...] = (),
    body: dict[str, JSONValue] | None = None,
    upload: Upload | None = None,
    sink: Sink | None = None,
) -> Request:
    """The request for a route whose `{names}` are `ids`, with a call's options in it."""
    path = route.format_map({name: segment(value, name) for name, value in ids.items()}) if ids else route
    headers = dict(options.get("extra_headers", {}))
    content: bytes | Upload | None = upload
    if body is not None:
        body |= json_body(**options.get("extra_body", {}))
        headers["content-type"] = "application/json"
        try:
            content = jsontext.dump(body)
        except jsontext.NotJSON as reason:
            raise InvalidArgument(f"the body of {method} {route} is no JSON: {reason}") from None
    query += parameters(**options.get("extra_query", {}))
    return Request(
        method=method, route=route, path=path, kind=kind, query=query, headers=headers, body=content, sink=sink
    )


def same_object(value: object, asked: Mapping[str, str]) -> None:
    """Raise `ResponseMismatch` when an id of the object is not the one asked for: pools have delivered others' answers."""
    for name, expected in asked.items():
        got = getattr(value, name, None)
        if got is not None and got != expected:
            raise ResponseMismatch(f"asked for {name} {expected!r}, got {got!r}", asked=expected, got=str(got))


class Call:
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

    def raw(self) -> "RawCall":
        """The same, with answers as they came."""
        return RawCall(self.send, self.clock)

    async def one(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        asked: Mapping[str, str] = {},
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        """The object that answers `wanted`; its ids must be the ones `asked` for."""

        async def read(reply: Reply) -> T:
            value = decode(reply.body, shape)
            same_object(value, asked)
            return value

        return await self.send(wanted, read, timeout=options.get("timeout"), settle=settle)

    async def shared(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions,
        *,
        asked: Mapping[str, str],
        final: Callable[[T], bool] | None = None,
    ) -> T:
        """`one`, for a read: concurrent calls for the same thing share a request, and what is `final` comes from the
        cache.

        A call with options of its own is made on its own.
        """
        if options:
            return await self.one(wanted, shape, options, asked=asked)

        async def fetch() -> T:
            if self.cache is None or final is None:
                return await self.one(wanted, shape, asked=asked)
            return await self.cached(wanted, shape, asked, self.cache, final)

        return await (fetch() if self.flight is None else self.flight.run((shape, wanted.path), fetch))

    async def cached(
        self, wanted: Request, shape: type[T], asked: Mapping[str, str], cache: Cache, final: Callable[[T], bool]
    ) -> T:
        """The object from the cache, or from the server and then, if `final`, into the cache."""
        key = self.scope + wanted.path
        kept = await cache.get(key)
        if kept is not None:
            return decode(kept, shape)
        value = await self.one(wanted, shape, asked=asked)
        if final(value):
            await cache.put(key, jsontext.dump(encode(value)))
        return value

    def listing(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions,
        *,
        after: str | None,
        limit: int | None,
        max_limit: int = 100,
        asked: Mapping[str, str] = {},
        shrink: Callable[[Exception], bool] | None = None,
    ) -> Pager[T]:
        """A listing of objects whose ids agree with `asked`."""

        async def read(reply: Reply) -> PageBody[T]:
            body = decode_page(reply.body, shape)
            for item in body.data:
                same_object(item, asked)
            return body

        async def fetch(after: str | None, limit: int | None) -> PageBody[T]:
            page = attrs.evolve(wanted, query=parameters(after=after, limit=limit) + wanted.query)
            return await self.send(page, read, timeout=options.get("timeout"))

        if after is not None:
            segment(after, "after")
        return Pager(fetch, after=after, limit=limit, max_limit=max_limit, shrink=shrink)


class RawCall(Call):
    """A `Call` whose methods return `RawResponse`s.

    The classes `...WithRawResponse` say so to type checkers, see `raw`.
    """

    async def one(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions = NO_OPTIONS,
        *,
        asked: Mapping[str, str] = {},
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        async def read(reply: Reply) -> Any:
            def parse() -> T:
                value = decode(reply.body, shape)
                same_object(value, asked)
                return value

            return raw_response(reply, parse)

        return cast("T", await self.send(wanted, read, timeout=options.get("timeout")))

    def listing(
        self,
        wanted: Request,
        shape: type[T],
        options: CallOptions,
        *,
        after: str | None,
        limit: int | None,
        max_limit: int = 100,
        asked: Mapping[str, str] = {},
        shrink: Callable[[Exception], bool] | None = None,
    ) -> Pager[T]:
        replies: list[Reply] = []

        async def send(
            request: Request,
            read: Callable[[Reply], Awaitable[Any]],
            *,
            timeout: float | None = None,
            settle: Callable[[], Awaitable[Any]] | None = None,
        ) -> Any:
            async def keep(reply: Reply) -> Any:
                replies.append(reply)
                return await read(reply)

            return await self.send(request, keep, timeout=timeout, settle=settle)

        async def first() -> RawResponse[Page[T]]:
            pager = Call(send, self.clock).listing(
                wanted, shape, options, after=after, limit=limit, max_limit=max_limit, asked=asked, shrink=shrink
            )
            page = await pager
            return raw_response(replies[-1], lambda: page)

        return cast("Pager[T]", first())


def raw_response(reply: Reply, parse: Callable[[], T]) -> RawResponse[T]:
    return RawResponse(
        status=reply.status,
        headers=dict(reversed(reply.headers)),  # of a repeated header the first one stays
        request_id=reply.request_id,
        content=reply.body,
        parser=parse,
    )


def raw(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[RawResponse[T]]]:
    """A method of a resource that stands on a `RawCall`, with the type that it then has."""
    return cast("Callable[P, Awaitable[RawResponse[T]]]", method)

"""Raw responses: `raw` calls a method of a resource and returns the response together with the object."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from evals_async._transport import Method, Response
from evals_async._transport.state import CallState
from evals_async.errors import DecodeError, ResponseError, ResponseMismatch
from evals_async.resources._caller import Caller, Resource


T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", bound=Resource)

HARMLESS = frozenset({"after", "limit", "order", "order_by", "purpose", "status", "api-version"})
HIDDEN = "..."
"""The text that `url` shows for other parameters, because their values may be a signature or a key."""


class ResponseHeaders(Mapping[str, str]):
    """The headers of a response.

    Lookups ignore case; iteration gives lower-case names. If a header was sent more than once, a lookup returns its
    first value, and `get_list` returns all values.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Mapping[str, str] | tuple[tuple[str, str], ...] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_list(self, name: str) -> list[str]:
        """Return all values of a header, in their order. The list is empty if the header is missing."""
        return [*self._values.get(name.lower(), [])]

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)!r})"


@attrs.frozen(kw_only=True)
class RawResponse(Generic[T]):
    """A response with status, headers and exact bytes. `parse()` returns the object that the normal call returns.

    `headers` ignores the case of names. `url` is the URL of the request with its query; values that may be secret are
    shown as `...`. `elapsed` is the duration of the last attempt, from sending until the whole response was received.
    `retries_taken` is the number of failed attempts before it.
    """

    status: int
    headers: ResponseHeaders = attrs.field(repr=False)
    request_id: str | None
    content: bytes = attrs.field(repr=False)
    method: Method = attrs.field(repr=False)
    url: str = attrs.field(repr=False)
    elapsed: timedelta = attrs.field(repr=False)
    retries_taken: int = attrs.field(repr=False)
    _result: T | ResponseError = attrs.field(alias="result", repr=False, eq=False)

    @property
    def status_code(self) -> int:
        """The same as `status`."""
        return self.status

    @property
    def text(self) -> str:
        """`content` decoded as UTF-8. Invalid bytes become U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def parse(self) -> T:
        """Return the object of the body. Each call returns the same object. Raises `DecodeError` or
        `ResponseMismatch`, as the normal call does.
        """
        if isinstance(self._result, ResponseError):
            raise self._result
        return self._result


class RecordingCaller(Caller):
    """The `Caller` of one raw call, which stores the last response.

    It uses neither single flight nor the cache, and does not resolve ambiguous writes, because it must return a
    response.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller.pipeline, caller.defaults)
        self.watch = self.record
        self.response: Response | None = None
        self.call: CallState[Any] | None = None
        self.seconds = 0.0

    def record(self, call: CallState[Any]) -> None:
        """Keep the call, and from now on each response that it reads."""
        read = call.read

        async def keep_and_read(response: Response) -> Any:
            self.response = response
            self.seconds = self.clock.monotonic() - call.began
            return await read(response)

        call.read, call.resolve = keep_and_read, None
        self.call = call

    def raw(self, result: T | ResponseError) -> RawResponse[T]:
        """Return the stored response together with its object."""
        response, call = self.response, self.call
        assert response is not None  # noqa: S101  # every method reads a response
        assert call is not None  # noqa: S101  # every response has a call
        return RawResponse(
            status=response.status,
            headers=ResponseHeaders(tuple(response.headers.items())),
            request_id=response.request_id,
            content=response.body,
            method=call.request.method,
            url=shown_url(self.pipeline.transport.base_url, call.request.path, tuple(call.query)),
            elapsed=timedelta(seconds=self.seconds),
            retries_taken=len(call.history),
            result=result,
        )


def shown_url(base_url: str, path: str, query: tuple[tuple[str, str], ...]) -> str:
    """Return the URL of a request without parameter values that may be secret."""
    base = urlsplit(base_url)
    pairs = dict(parse_qsl(base.query, keep_blank_values=True)) | dict(query)
    shown = urlencode({name: value if name in HARMLESS else HIDDEN for name, value in pairs.items()})
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, shown, ""))


def raw(resource: R, method: Callable[Concatenate[R, P], Awaitable[T]]) -> Callable[P, Awaitable[RawResponse[T]]]:
    """Call a method of a resource with a `RecordingCaller`, and return the response together with the object."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[T]:
        recorder = RecordingCaller(resource._caller)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # above
        result: T | ResponseError
        try:
            result = await method(type(resource)(recorder), *args, **kwargs)
        except (DecodeError, ResponseMismatch) as error:  # `parse` raises the error of an invalid body
            if recorder.response is None:
                raise
            result = error
        return recorder.raw(result)

    update_wrapper(call, getattr(resource, method.__name__, method))
    return call

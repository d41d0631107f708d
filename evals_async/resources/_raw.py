"""Raw responses: `raw` makes of a resource's method one that returns the response beside the object."""

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
"""What `url` shows of every other parameter: a signature or a key may stand in it."""


class ResponseHeaders(Mapping[str, str]):
    """The headers of a response. A name may be asked for in any case; the names themselves are in lower case.

    Of a header that came more than once this is the first value; `get_list` gives all.
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
        """Every value of that header, in order; an empty list if it did not come."""
        return [*self._values.get(name.lower(), [])]

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)!r})"


@attrs.frozen(kw_only=True)
class RawResponse(Generic[T]):
    """A response as it came: status, headers and exact bytes; `parse()` gives what the call would have returned.

    `headers` are asked for in any case. `url` is the request's, with its query, but for values that may be secret,
    which are shown as `...`. `elapsed` is the time from the sending of the last attempt until its whole response was
    there, `retries_taken` how many attempts failed before it.
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
        """`content` as UTF-8, which JSON is. What is no UTF-8 is shown as U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def parse(self) -> T:
        """The object that the body describes, the same one each time.

        Raises `DecodeError` or `ResponseMismatch`, as the call itself would.
        """
        if isinstance(self._result, ResponseError):
            raise self._result
        return self._result


class RecordingCaller(Caller):
    """The `Caller` of one raw call: it keeps the last response that was read. It has neither single flight nor cache,
    and it resolves nothing, because only a response can be returned.
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
        """The response that was kept, with what was made of it."""
        response, call = self.response, self.call
        assert response is not None  # noqa: S101  # whatever a method returns was read from one
        assert call is not None  # noqa: S101  # and belongs to a call
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
    """The URL of a request without the values of parameters that may be secret."""
    base = urlsplit(base_url)
    pairs = dict(parse_qsl(base.query, keep_blank_values=True)) | dict(query)
    shown = urlencode({name: value if name in HARMLESS else HIDDEN for name, value in pairs.items()})
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, shown, ""))


def raw(resource: R, method: Callable[Concatenate[R, P], Awaitable[T]]) -> Callable[P, Awaitable[RawResponse[T]]]:
    """A resource's method, called with a caller that records: it returns the response beside what the method made."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[T]:
        recorder = RecordingCaller(resource._caller)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # above
        result: T | ResponseError
        try:
            result = await method(type(resource)(recorder), *args, **kwargs)
        except (DecodeError, ResponseMismatch) as error:  # a body that cannot be read is told by `parse`
            if recorder.response is None:
                raise
            result = error
        return recorder.raw(result)

    update_wrapper(call, getattr(resource, method.__name__, method))
    return call

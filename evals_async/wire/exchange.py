"""What goes out and what comes back, as plain values: `Request` and `Reply`.

Bytes and headers only. Nothing here performs I/O, and nothing here knows of models.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import attrs


Kind: TypeAlias = Literal["read", "create", "update", "cancel", "delete"]
"""What a request does, which decides when it may be sent again (see `retry`)."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def text_of(header: bytes) -> str:
    """The text of a header's name or value; bytes that are no UTF-8 become surrogates."""
    return header.decode("utf-8", "surrogateescape")


class Sink(Protocol):
    """Where a body goes that is too large to be held: a file, usually."""

    def restart(self) -> None:
        """Forget what was written: the body comes again from its beginning."""
        ...

    def write(self, chunk: bytes, /) -> object:
        """Take the next bytes of the body."""
        ...


@attrs.frozen(kw_only=True)
class Upload:
    """A multipart form with one file (RFC 7578).

    A path is opened anew for every attempt, so that each sends the same bytes.
    """

    filename: str
    source: bytes | os.PathLike[str] = attrs.field(repr=False)
    fields: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/octet-stream"


@attrs.frozen(kw_only=True)
class Request:
    """One request, before a base URL, a key and a deadline are given to it.

    `path` is percent-encoded, begins with a slash and is relative to the base URL. `route` is its template
    (`/evals/{eval_id}`), the only form that is logged. `sink`, where given, takes the body of a successful answer, and
    the reply's own body is empty.
    """

    method: Literal["GET", "POST", "DELETE"]
    route: str
    path: str
    kind: Kind
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes | Upload | None = attrs.field(default=None, repr=False)
    sink: Sink | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Reply:
    """One answer: its status, its headers in order, repeated ones kept, as bytes, and its decoded body."""

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers as text, with lower-case names. Made when they are asked for: of most answers they never are."""
        return tuple([(text_of(name).lower(), text_of(value)) for name, value in self.raw_headers])

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all_headers(self, name: str) -> list[str]:
        """Every header of that lower-case name."""
        return [value for key, value in self.headers if key == name]

    @property
    def request_id(self) -> str | None:
        """The server's name for the request: `x-request-id`, or one of Azure's."""
        for name in ("x-request-id", "apim-request-id", "x-ms-request-id"):
            if value := self.header(name):
                return value
        return None

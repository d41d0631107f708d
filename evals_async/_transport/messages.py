"""Requests and responses as plain values: `Request` and `Response`.

They have bytes and headers only. This module performs no I/O, and does not depend on models.
"""

import os
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import attrs


if TYPE_CHECKING:
    from attrs import frozen as value
    from multidict import MultiMapping
else:
    # Frozen for type checkers. At run time, creating a frozen object takes twice as long, and each call creates both.
    from attrs import define as value

Method: TypeAlias = Literal["GET", "POST", "DELETE"]

Kind: TypeAlias = Literal["read", "create", "update", "cancel", "delete"]
"""What a request does. This decides when it may be sent again (see `retry`)."""

VERSION = "0.1.0"
"""The version of this package, as in pyproject.toml. Reading it from the metadata would be slower than all imports."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
USUAL: Mapping[str, str] = MappingProxyType(
    {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": f"evals-async/{VERSION}"}
)
"""The default headers of every request."""

Headers: TypeAlias = "MultiMapping[str]"
"""The headers of a response: a mapping whose keys are case-insensitive, and may occur more than once."""


class Sink(Protocol):
    """Receives a body that is too large for memory: usually a file."""

    def restart(self) -> None:
        """Discard the written bytes: the body starts again."""
        ...

    def write(self, chunk: bytes, /) -> object:
        """Write the next bytes of the body."""
        ...


@attrs.frozen(kw_only=True)
class Upload:
    """A multipart form with one file (RFC 7578).

    A path is opened for every attempt, so each sends the same bytes. `headers` belong to the part of the file.
    """

    filename: str
    source: bytes | os.PathLike[str] = attrs.field(repr=False)
    fields: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()
    boundary: str = attrs.field(init=False, repr=False, eq=False, factory=lambda: uuid.uuid4().hex)


@value
class Request:
    """One request, without base URL, key and deadline.

    `path` is percent-encoded, starts with a slash, and is relative to the base URL. `route` is its template
    (`/evals/{eval_id}`). Only the template is logged. A header that is `None` removes a default header. If there
    is a `sink`, it receives the body of a successful response, and `Response.body` is empty.

    A request that a limit refused waits for the delay in its own response, even if the limiter allows other requests
    before. With `own_delay=False`, its first retries wait for an adaptive limiter only.
    """

    method: Method
    route: str
    path: str
    kind: Kind
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str | None] = attrs.field(default=NO_HEADERS, repr=False)
    body: bytes | Upload | None = attrs.field(default=None, repr=False)
    sink: Sink | None = attrs.field(default=None, repr=False)
    own_delay: bool = attrs.field(default=True, repr=False)


@value
class Response:
    """One response: its status, its headers, and its body, decompressed."""

    status: int
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the first header with this name, or `None`."""
        return self.headers.get(name)

    def all_headers(self, name: str) -> list[str]:
        """Return all headers with this name, in order."""
        return self.headers.getall(name, [])

    @property
    def request_id(self) -> str | None:
        """The id of the request on the server: `x-request-id`, or the header that Azure sends."""
        for name in ("x-request-id", "apim-request-id", "x-ms-request-id"):
            if value := self.header(name):
                return value
        return None

"""What goes out and what comes back, as plain values: `Request` and `Response`.

Bytes and headers only. Nothing here performs I/O, and nothing here knows of models.
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
    # Frozen for who checks types. At run time, to make a frozen object takes twice as long, and of these two each call
    # makes one.
    from attrs import define as value

Method: TypeAlias = Literal["GET", "POST", "DELETE"]

Kind: TypeAlias = Literal["read", "create", "update", "cancel", "delete"]
"""What a request does, which decides when it may be sent again (see `retry`)."""

VERSION = "0.1.0"
"""Of this package, as in pyproject.toml: to read it from the metadata takes longer than all other imports."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
USUAL: Mapping[str, str] = MappingProxyType(
    {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": f"evals-async/{VERSION}"}
)
"""What every request says, unless it says otherwise."""

Headers: TypeAlias = "MultiMapping[str]"
"""An answer's headers: a mapping whose keys may be asked for in any case, and may come more than once."""


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

    A path is opened anew for every attempt, so that each sends the same bytes. `headers` are those of the file's part.
    """

    filename: str
    source: bytes | os.PathLike[str] = attrs.field(repr=False)
    fields: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()
    boundary: str = attrs.field(init=False, repr=False, eq=False, factory=lambda: uuid.uuid4().hex)


@value
class Request:
    """One request, before a base URL, a key and a deadline are given to it.

    `path` is percent-encoded, begins with a slash and is relative to the base URL. `route` is its template
    (`/evals/{eval_id}`), the only form that is logged. A header that is `None` takes away the client's own. `sink`,
    where given, takes the body of a successful answer, and the response's own body is empty.
    """

    method: Method
    route: str
    path: str
    kind: Kind
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str | None] = attrs.field(default=NO_HEADERS, repr=False)
    body: bytes | Upload | None = attrs.field(default=None, repr=False)
    sink: Sink | None = attrs.field(default=None, repr=False)


@value
class Response:
    """One answer: its status, its headers, and its decoded body."""

    status: int
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return self.headers.get(name)

    def all_headers(self, name: str) -> list[str]:
        """Every header of that name, in order."""
        return self.headers.getall(name, [])

    @property
    def request_id(self) -> str | None:
        """The server's name for the request: `x-request-id`, or one of Azure's."""
        for name in ("x-request-id", "apim-request-id", "x-ms-request-id"):
            if value := self.header(name):
                return value
        return None

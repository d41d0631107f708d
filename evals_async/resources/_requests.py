"""Building requests: ids become path segments, parameters become the query, fields become the body.

All values are checked before any I/O.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NotRequired, TypeAlias, TypedDict
from urllib.parse import quote

from evals_async import _json
from evals_async._codec import encode
from evals_async._json import JSONValue
from evals_async._omit import Omit, given, is_official, is_omitted
from evals_async._transport.auth import SecretHeaders
from evals_async._transport.messages import NO_HEADERS, Kind, Method, Request, Sink, Upload
from evals_async.errors import InvalidArgument, shown


Query: TypeAlias = tuple[tuple[str, str], ...]

LONGEST_ID = 256  # characters; the longest known id, an Azure dataset URI, has 180

NAME = re.compile(r"{(\w+)}")  # an id in a route
PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")  # percent-encoded (RFC 3986, 3.3)


class CallOptions(TypedDict):
    """The options of every call. To set them for many calls, use `client.with_options(...)`."""

    timeout: NotRequired[float | None]
    """Seconds for the whole call: attempts, pauses and body. `None` means no limit."""
    extra_headers: NotRequired[Mapping[str, str | Omit] | None]
    """Headers to add. They replace the client's headers, also its key. `OMIT` as a value removes a header of the
    client.
    """
    extra_query: NotRequired[Mapping[str, object] | None]
    """Query parameters to add. They replace the parameters of the call."""
    extra_body: NotRequired[Mapping[str, object] | None]
    """Fields to add to the body. They replace the fields of the call. In an upload they become fields of the form,
    in a cancel or a delete a JSON body. For a GET they raise `InvalidArgument`, because a GET has no body.
    """


NO_OPTIONS: CallOptions = {}


def segment(value: object, name: str) -> str:
    """Encode an id as exactly one path segment (RFC 3986, 3.3).

    Raises `InvalidArgument`, which names the argument, for an invalid id. An id must be a str of 1 to 256 characters,
    not `.` or `..`, without white space, control characters and lone surrogates.
    """
    if type(value) is str and value.isidentifier() and value.isascii() and len(value) <= LONGEST_ID:
        return value  # most ids need no encoding
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a str, not {type(value).__name__}")
    text = shown(value)
    if not value:
        raise InvalidArgument(f"{name} is empty: the request would go to the listing instead")
    if value in (".", ".."):
        raise InvalidArgument(f"{name} is {text}: as a path segment it has another meaning")
    if len(value) > LONGEST_ID:
        raise InvalidArgument(f"{name} has {len(value)} characters, more than {LONGEST_ID}: {value[:40]!a}...")
    if not value.isprintable() or any(character.isspace() for character in value):
        raise InvalidArgument(f"{name} contains white space or characters that cannot be printed: {text}")
    return quote(value, safe="")


def parameters(**values: object) -> Query:
    """Return the query parameters that are given and not `None`, as text."""
    return tuple(
        (name, text_of(name, value)) for name, value in values.items() if value is not None and not is_omitted(value)
    )


def text_of(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    with suppress(InvalidArgument):
        if isinstance(plain := encode(value), str | int | float):
            return str(plain)
    raise InvalidArgument(f"{name} must be a str or a number, not {type(value).__name__}")


def json_body(**fields: object) -> dict[str, JSONValue]:
    """Return a request body. A field that is `OMIT` is left out, and `None` becomes null."""
    body: dict[str, JSONValue] = {}
    for name, value in fields.items():
        if not is_omitted(value):
            try:
                body[name] = encode(value)
            except InvalidArgument as error:
                raise InvalidArgument(f"{name}: {error}") from None
    return body


@cache
def template_of(route: str) -> tuple[str, tuple[str, ...]]:
    """Return a route (`/evals/{eval_id}`) as a format string (`/evals/%s`), and the names in it."""
    return NAME.sub("%s", route), tuple(NAME.findall(route))


def path_of(route: str, ids: tuple[object, ...]) -> str:
    """Return the path of a route. `ids` are the values of the `{names}` in the route, in their order.

    Raises `InvalidArgument` for ids that cannot be sent.
    """
    template, names = template_of(route)
    if len(ids) != len(names):
        raise InvalidArgument(f"the route {route} has {len(names)} names, but {len(ids)} ids were given")
    return template % tuple(map(segment, ids, names))


def request(
    method: Method,
    route: str,
    kind: Kind,
    options: CallOptions,
    ids: tuple[object, ...] = (),
    *,
    query: Query = (),
    body: dict[str, JSONValue] | None = None,
    upload: Upload | None = None,
    sink: Sink | None = None,
    own_delay: bool = True,
) -> Request:
    """Make the request for a route. See `path_of` for `ids`, and `Request` for `own_delay`.

    Raises `InvalidArgument` for values that cannot be sent, and `TypeError` for an unknown option.
    """
    path = path_of(route, ids)
    headers = extra_headers(options) if options else NO_HEADERS
    content: bytes | Upload | None = upload
    extra = given(options.get("extra_body")) if options and upload is None else None
    if extra and method == "GET":
        raise InvalidArgument(f"extra_body: a GET has no body, and {route} would ignore it; use extra_query")
    if body is not None or extra:
        body = (body or {}) | json_body(**(extra or {}))
        try:
            content = _json.dump(body)
        except _json.NotJSON as reason:
            raise InvalidArgument(f"the body of {method} {route} cannot be encoded as JSON: {reason}") from None
    if options and (more := given(options.get("extra_query"))):
        query = merged(query, parameters(**more))
    return Request(method, route, path, kind, query, headers, content, sink, own_delay)


def checked_path(path: str, name: str) -> str:
    """Check a path or a route from the user. Raises `InvalidArgument` if it could change the request line, the
    query or a header.
    """
    if not PATH.fullmatch(NAME.sub("x", path) if name == "the route" else path):
        raise InvalidArgument(f"{name} {ascii(path)[:60]} must start with a slash and be percent-encoded")
    return path


def extra_headers(options: CallOptions) -> Mapping[str, str | None]:
    """Return the headers in a call's options. Raises `TypeError` for an unknown option."""
    if unknown := options.keys() - CallOptions.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument: {', '.join(sorted(unknown))}")
    for name in ("extra_headers", "extra_query", "extra_body"):
        found = given(options.get(name))
        if found is not None and not isinstance(found, Mapping):
            raise InvalidArgument(f"{name} must be a mapping, not {type(found).__name__}")
    headers = given(options.get("extra_headers"))
    return SecretHeaders(taken_away(headers)) if headers else NO_HEADERS


def taken_away(headers: Mapping[str, str | Omit]) -> dict[str, Any]:
    """Replace `OMIT`, and the official client's `omit`, by `None`, which removes a header. `NOT_GIVEN` is left out."""
    return {
        name: None if is_omitted(value) else value
        for name, value in headers.items()
        if not is_official(value, {"NotGiven"})
    }


def merged(query: Query, later: Query) -> Query:
    """Merge two queries. If both have a parameter, the value of `later` is used."""
    return tuple((dict(query) | dict(later)).items())


def paging_of(options: CallOptions) -> tuple[Any, int | None, Query]:
    """Return `after`, `limit`, and all parameters except `after`, of a listing's `extra_query`.

    They have priority over the arguments. `after` applies to the first page only. A page size that is not a number is
    sent unchanged.
    """
    extra = (given(options.get("extra_query")) if options else None) or {}
    limit = extra.get("limit")
    size = limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
    return extra.get("after"), size, parameters(**{name: value for name, value in extra.items() if name != "after"})

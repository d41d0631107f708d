"""How a request is put together: ids become path segments, parameters a query, fields a body. And a call's options.

All of it is checked before any I/O. Nothing here knows an endpoint, and nothing sends.
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

LONGEST_ID = 256  # characters; the longest seen, an Azure dataset URI, has 180

NAME = re.compile(r"{(\w+)}")  # of an id, in a route
PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")  # percent-encoded (RFC 3986, 3.3)


class CallOptions(TypedDict):
    """What any call may be given beside its own arguments. To set it for many calls, use `client.with_options(...)`."""

    timeout: NotRequired[float | None]
    """Seconds for the whole call: attempts, pauses and body. `None` is without end."""
    extra_headers: NotRequired[Mapping[str, str | Omit] | None]
    """Headers to add; they win over the client's own, also over its key. `OMIT` as a value takes the client's away."""
    extra_query: NotRequired[Mapping[str, object] | None]
    """Query parameters to add; they win over the call's own."""
    extra_body: NotRequired[Mapping[str, object] | None]
    """Fields to add to the body; they win over the call's own. An upload gets them as fields of its form, a cancel or a
    delete as a JSON body. A GET has no body, and refuses them."""


NO_OPTIONS: CallOptions = {}


def segment(value: object, name: str) -> str:
    """An id as exactly one percent-encoded path segment (RFC 3986, 3.3).

    Raises `InvalidArgument`, naming the argument, for what is no id: not a str, empty, `.` or `..`, longer than 256
    characters, with white space, control characters or lone surrogates in it.
    """
    if type(value) is str and value.isidentifier() and value.isascii() and len(value) <= LONGEST_ID:
        return value  # as nearly all ids: needs no quoting
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a str, not {type(value).__name__}")
    text = shown(value)
    if not value:
        raise InvalidArgument(f"{name} is empty: the request would go to the listing instead")
    if value in (".", ".."):
        raise InvalidArgument(f"{name} is {text}: a server would take it for another path")
    if len(value) > LONGEST_ID:
        raise InvalidArgument(f"{name} has {len(value)} characters, more than {LONGEST_ID}: {value[:40]!a}...")
    if not value.isprintable() or any(character.isspace() for character in value):
        raise InvalidArgument(f"{name} contains white space or characters that cannot be printed: {text}")
    return quote(value, safe="")


def parameters(**values: object) -> Query:
    """Query parameters: those that are given and not `None`, as text."""
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
    """A request body of the fields that are given: `OMIT` leaves one out, `None` sends a null."""
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
    """A route (`/evals/{eval_id}`) as a format (`/evals/%s`), and the names in it."""
    return NAME.sub("%s", route), tuple(NAME.findall(route))


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
) -> Request:
    """The request for a route whose `{names}` are `ids`, in their order, with a call's options in it.

    Raises `InvalidArgument` for what cannot be sent, and `TypeError` for an option that there is not.
    """
    template, names = template_of(route)
    if len(ids) != len(names):
        raise InvalidArgument(f"the route {route} has {len(names)} names, and {len(ids)} ids are given")
    path = template % tuple(map(segment, ids, names))
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
            raise InvalidArgument(f"the body of {method} {route} is no JSON: {reason}") from None
    if options and (more := given(options.get("extra_query"))):
        query = merged(query, parameters(**more))
    return Request(method, route, path, kind, query, headers, content, sink)


def checked_path(path: str, name: str) -> str:
    """A path or a route from outside. Raises `InvalidArgument` for one that would be another line, query or header."""
    if not PATH.fullmatch(NAME.sub("x", path) if name == "the route" else path):
        raise InvalidArgument(f"{name} {ascii(path)[:60]} must begin with a slash and be percent-encoded")
    return path


def extra_headers(options: CallOptions) -> Mapping[str, str | None]:
    """The headers in a call's options; and here it is told if there are options that there are not."""
    if unknown := options.keys() - CallOptions.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument: {', '.join(sorted(unknown))}")
    for name in ("extra_headers", "extra_query", "extra_body"):
        found = given(options.get(name))
        if found is not None and not isinstance(found, Mapping):
            raise InvalidArgument(f"{name} must be a mapping, not {type(found).__name__}")
    headers = given(options.get("extra_headers"))
    return SecretHeaders(taken_away(headers)) if headers else NO_HEADERS


def taken_away(headers: Mapping[str, str | Omit]) -> dict[str, Any]:
    """Headers that are `OMIT`, or the official client's `omit`, as `None`: they take one away. `NOT_GIVEN` is none."""
    return {
        name: None if is_omitted(value) else value
        for name, value in headers.items()
        if not is_official(value, {"NotGiven"})
    }


def merged(query: Query, later: Query) -> Query:
    """Both queries as one: of a parameter in both, the later value stands."""
    return tuple((dict(query) | dict(later)).items())


def paging_of(options: CallOptions) -> tuple[Any, int | None, Query]:
    """What a call's `extra_query` says of a listing: where it begins, how long its pages are, and all but the former.

    It wins over the call's arguments; but nobody can mean each page to begin at the same place. A page size that is no
    number is sent as it is.
    """
    extra = (given(options.get("extra_query")) if options else None) or {}
    limit = extra.get("limit")
    size = limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
    return extra.get("after"), size, parameters(**{name: value for name, value in extra.items() if name != "after"})

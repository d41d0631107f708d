"""Parse the bytes of a page: the exact text of each object, and the columns to store it with.

An object that is not JSON or has no id is kept as bytes and reported. The other objects of its page are not affected.
Nothing here performs I/O or uses models.
"""

import hashlib
from collections.abc import Iterator, Sequence

import attrs

from evals_async import _json
from evals_async._json import JSONObject, NotJSON, as_array, as_object
from evals_async._store import TABLES, Kind, Row
from evals_async.archive.export.ledger import Damaged
from evals_async.errors import DecodeError, ResponseMismatch
from evals_async.models.runs import TERMINAL_STATUSES


MOST_DEPTH = 200  # levels of a data source that are searched for files
WRITTEN_BY_USERS = frozenset({"content", "template", "metadata"})  # fields of a data source without references


@attrs.frozen(kw_only=True)
class ListingPage:
    """One page: its rows with their parsed bodies, its damaged objects, and the values for the next cursor."""

    rows: tuple[Row, ...]
    bodies: tuple[JSONObject, ...] = attrs.field(repr=False)
    damaged: tuple[Damaged, ...]
    ids: tuple[str, ...]
    last_id: str | None
    has_more: bool | None
    size: int


def unusable(expected: str, got: str, body: bytes) -> DecodeError:
    return DecodeError(f"expected {expected}, got {got}", expected=expected, got=got, body=body)


def page_of(body: bytes, kind: Kind, parents: Sequence[str]) -> ListingPage:
    """Parse a page of a listing of `kind` under `parents`.

    Raises `DecodeError` if the body is not a page, and `ResponseMismatch` if an object has other parents.
    """
    try:
        envelope = _json.members(body)
        texts = _json.elements(envelope.get("data", b""))
        last_id = _json.parse(envelope.get("last_id", b"null"))
        has_more = _json.parse(envelope.get("has_more", b"null"))
    except NotJSON as reason:
        raise unusable("a page of a listing", str(reason), body) from None
    if has_more is not None and not isinstance(has_more, bool):
        raise unusable("has_more to be a boolean", repr(has_more)[:40], body)
    found = [parse_object(text, kind, parents) for text in texts]
    whole = [thing for thing in found if not isinstance(thing, Damaged)]
    return ListingPage(
        rows=tuple(row for row, _ in whole),
        bodies=tuple(value for _, value in whole),
        damaged=tuple(thing for thing in found if isinstance(thing, Damaged)),
        ids=tuple(thing.id if isinstance(thing, Damaged) else thing[0].key[-1] for thing in found),
        last_id=last_id if isinstance(last_id, str) and last_id else None,
        has_more=has_more,
        size=len(body),
    )


def parse_object(text: bytes, kind: Kind, parents: Sequence[str]) -> tuple[Row, JSONObject] | Damaged:
    """Return the row of one object with its exact text, or `Damaged` with the reason."""
    try:
        value = as_object(_json.parse(text))
        if value is None:
            return Damaged(substitute_id(text), "not a JSON object", text)
        check_parents(value, kind, parents)
        row = Row.of(kind, value, parents=parents, text=text.decode())
        if row.key[-1] != value["id"]:  # no request can name it: its children would look deleted
            return Damaged(row.key[-1], "its id contains a lone surrogate", text)
        return row, value
    except ValueError as reason:  # NotJSON, a missing id, or invalid UTF-8
        return Damaged(readable_id(text) or substitute_id(text), str(reason)[:200], text)


def check_parents(value: JSONObject, kind: Kind, parents: Sequence[str]) -> None:
    """Raise `ResponseMismatch` for an object of other parents: the response belongs to another request."""
    for name, asked in zip(TABLES[kind].parents, parents, strict=True):
        got = value.get(name)
        if isinstance(got, str) and got and got != asked:
            raise ResponseMismatch(f"asked for {name} {asked!r}, got {got!r}", asked=asked, got=got)


def readable_id(text: bytes) -> str | None:
    """Return the id of an object that may be damaged, if it can be read."""
    try:
        found = _json.parse(_json.members(text).get("id", b"null"))
    except NotJSON:
        return None
    return found if isinstance(found, str) and found else None


def substitute_id(text: bytes) -> str:
    """Return a name for an object without an id; equal bytes have equal names."""
    return f"no-id-{hashlib.sha256(text).hexdigest()[:16]}"


# --- fields of a run --------------------------------------------------------------------------------------------------


def has_ended(run: JSONObject) -> bool:
    """Return whether the run has a final status."""
    return run.get("status") in TERMINAL_STATUSES


def counted(run: JSONObject, name: str = "total") -> int | None:
    """Return the count of a run's items: all items, or those with one result."""
    found = (as_object(run.get("result_counts")) or {}).get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def created(body: JSONObject) -> float | None:
    found = body.get("created_at")
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def file_ids(run: JSONObject) -> tuple[str, ...]:
    """Return the ids of the files that a run's data source refers to, each once."""
    return tuple(dict.fromkeys(references(run.get("data_source"), 0)))


def references(value: object, depth: int) -> Iterator[str]:
    if depth > MOST_DEPTH:
        return
    node = as_object(value)
    if node is not None:
        found = node.get("id")
        if node.get("type") == "file_id" and isinstance(found, str) and found:
            yield found
        for name, inner in node.items():
            if name not in WRITTEN_BY_USERS:
                yield from references(inner, depth + 1)
    else:
        for inner in as_array(value) or ():
            yield from references(inner, depth + 1)

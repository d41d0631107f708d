"""From the bytes of an answer to what is kept of it: each object's text exactly as it came, and what finds it again.

An object that is no JSON, or has no id, is kept as bytes and reported; the others of its page are kept as always.
Nothing here performs I/O, and nothing here is a model.
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


MOST_DEPTH = 200  # levels in which a data source is searched for files
WRITTEN_BY_USERS = frozenset({"content", "template", "metadata"})  # of a data source: nothing in there is a reference


@attrs.frozen(kw_only=True)
class Arrivals:
    """One page: the rows to keep, their parsed objects beside them, what is damaged, and how the listing goes on."""

    rows: tuple[Row, ...]
    bodies: tuple[JSONObject, ...] = attrs.field(repr=False)
    damaged: tuple[Damaged, ...]
    ids: tuple[str, ...]
    last_id: str | None
    has_more: bool | None
    size: int


def unusable(expected: str, got: str, body: bytes) -> DecodeError:
    return DecodeError(f"expected {expected}, got {got}", expected=expected, got=got, body=body)


def page_of(body: bytes, kind: Kind, parents: Sequence[str]) -> Arrivals:
    """What is on a page of a listing of `kind` under `parents`.

    Raises `DecodeError` for what is no page at all, and `ResponseMismatch` for objects of other parents.
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
    found = [arrival(text, kind, parents) for text in texts]
    whole = [thing for thing in found if not isinstance(thing, Damaged)]
    return Arrivals(
        rows=tuple(row for row, _ in whole),
        bodies=tuple(value for _, value in whole),
        damaged=tuple(thing for thing in found if isinstance(thing, Damaged)),
        ids=tuple(thing.id if isinstance(thing, Damaged) else thing[0].key[-1] for thing in found),
        last_id=last_id if isinstance(last_id, str) and last_id else None,
        has_more=has_more,
        size=len(body),
    )


def arrival(text: bytes, kind: Kind, parents: Sequence[str]) -> tuple[Row, JSONObject] | Damaged:
    """The row of one object with its exact text, or what is wrong with it."""
    try:
        value = as_object(_json.parse(text))
        if value is None:
            return Damaged(stand_in(text), "it is no object", text)
        check_parents(value, kind, parents)
        return Row.of(kind, value, parents=parents, text=text.decode()), value
    except ValueError as reason:  # NotJSON, no id, bytes that are no UTF-8
        return Damaged(readable_id(text) or stand_in(text), str(reason)[:200], text)


def check_parents(value: JSONObject, kind: Kind, parents: Sequence[str]) -> None:
    """Raise `ResponseMismatch` for an object that says that it belongs elsewhere: the answer is another request's."""
    for name, asked in zip(TABLES[kind].parents, parents, strict=True):
        got = value.get(name)
        if isinstance(got, str) and got and got != asked:
            raise ResponseMismatch(f"asked for {name} {asked!r}, got {got!r}", asked=asked, got=got)


def readable_id(text: bytes) -> str | None:
    """The id of an object of which something else is broken."""
    try:
        found = _json.parse(_json.members(text).get("id", b"null"))
    except NotJSON:
        return None
    return found if isinstance(found, str) and found else None


def stand_in(text: bytes) -> str:
    """What to call an object without an id: the same bytes have the same name."""
    return f"no-id-{hashlib.sha256(text).hexdigest()[:16]}"


# --- what a run says of itself --------------------------------------------------------------------------------------


def is_over(run: JSONObject) -> bool:
    """Will the run stay as it is?"""
    return run.get("status") in TERMINAL_STATUSES


def counted(run: JSONObject, name: str = "total") -> int | None:
    """The number of items that a run says it has, or of those with one outcome."""
    found = (as_object(run.get("result_counts")) or {}).get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def created(body: JSONObject) -> float | None:
    found = body.get("created_at")
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def file_ids(run: JSONObject) -> tuple[str, ...]:
    """The files that a run's data source refers to, each once."""
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

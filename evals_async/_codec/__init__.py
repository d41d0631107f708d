"""JSON to models and back: `decode`, `decode_page`, `structure` and `encode`.

`decode` parses the text, takes the hook that cattrs has for the class, and the hook makes the object (`conversion`).
Before that it asks `quick`, which makes the same object in a fraction of the time where the text holds nothing unknown,
and says `None` where it does. Nothing here knows an endpoint, and nothing performs I/O.
"""

import asyncio
from typing import Any, Literal, TypeVar

import attrs

from evals_async import _json
from evals_async._codec import quick
from evals_async._codec.conversion import converter, encode
from evals_async._codec.fill import source_of
from evals_async._codec.mismatch import Mismatch
from evals_async._json import JSONValue
from evals_async._paging.listing import PageBody
from evals_async.errors import DecodeError
from evals_async.models.base import Model


__all__ = [
    "converter",
    "copied",
    "decode",
    "decode_large_page",
    "decode_page",
    "encode",
    "parse",
    "prepare",
    "source_of",
    "structure",
]

T = TypeVar("T")
M = TypeVar("M", bound=Model)

SLICE = 128 * 1024  # bytes of items that are read in one turn of the event loop: a quarter of a millisecond


@attrs.frozen(kw_only=True, repr=False)
class Envelope(Model):
    """What a listing's page is wrapped in. Azure leaves the two ids out; some servers leave `has_more` out."""

    object: Literal["list"] | None = None
    data: tuple[JSONValue, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None


def structure(value: object, shape: type[T], body: bytes = b"") -> T:
    """The object of class `shape` that a parsed JSON value describes; an error keeps `body`, what it was parsed from.

    Raises `DecodeError`, as `decode` does. The value is taken over: do not change it afterwards.
    """
    try:
        made: T = converter.get_structure_hook(shape)(value, shape)
    except Mismatch as mismatch:
        error = [refused(mismatch, body)]
    else:
        return made
    # Outside the except block, so that the error stands alone, without the traceback that led to it. And popped: that
    # the error's traceback holds this frame is enough, or bodies of megabytes would wait for the collector.
    raise error.pop()


def decode(data: bytes, shape: type[T]) -> T:
    """The object of class `shape` that the JSON document `data` describes.

    Raises `DecodeError` when the bytes are no JSON, or not that JSON: a wrong type, a missing id, another kind of
    object.
    """
    found: T | None = quick.read(data, shape)
    return structure(parse(data), shape, data) if found is None else found


def decode_page(data: bytes, shape: type[T]) -> PageBody[T]:
    """One page of a listing: the envelope `{object, data, first_id, last_id, has_more}` around objects of class
    `shape`.

    Only `data` is required; a `has_more` that is neither a boolean, null nor missing raises `DecodeError`, as `decode`
    does.
    """
    found: PageBody[T] | None = quick.read_page(data, shape)
    if found is not None:
        return found
    envelope = structure(parse(data), Envelope, data)
    hook = converter.get_structure_hook(shape)
    items: list[T] = []
    try:
        for entry in envelope.data:
            items.append(hook(entry, shape))  # noqa: PERF401  # its length is the index in the error's path
    except Mismatch as mismatch:
        error = [refused(mismatch.within(f"[{len(items)}]").within(".data"), data)]
    else:
        return PageBody(
            entries=tuple(items),
            first_id=envelope.first_id,
            last_id=envelope.last_id,
            has_more=envelope.has_more,
            extra=envelope.extra,
        )
    raise error.pop()


async def decode_large_page(data: bytes, shape: type[T]) -> PageBody[T]:
    """`decode_page` for a body of megabytes, in slices: the event loop gets its turn after each.

    The body is cut into the texts of its items first, which takes a millisecond for a megabyte. They are read into
    structs, which the collector does not look at; each becomes an object when it is asked for.
    """
    split = quick.split(data)
    if split is None:
        return decode_page(data, shape)
    structs: list[Any] = []
    done = 0
    for text in split.entries:
        struct = quick.read_struct(text, shape)
        if struct is None:
            return await structure_large_page(split, data, shape)
        structs.append(struct)
        done += len(text)
        if done >= SLICE:
            done = 0
            await asyncio.sleep(0)
    return PageBody(tuple(structs), split.first_id, split.last_id, split.has_more, split.extra, quick.fill_of(shape))


async def structure_large_page(split: PageBody[memoryview], data: bytes, shape: type[T]) -> PageBody[T]:
    """The same for a page with items that only hooks can read: they are made at once."""
    items: list[T] = []
    done = 0
    try:
        for text in split.entries:
            items.append(decode(bytes(text), shape))
            done += len(text)
            if done >= SLICE:
                done = 0
                await asyncio.sleep(0)
    except DecodeError:
        return decode_page(data, shape)  # which knows where in the page the error is
    return PageBody(tuple(items), split.first_id, split.last_id, split.has_more, split.extra)


def prepare(*shapes: Any) -> None:
    """Make what decodes objects and pages of these classes now, so that the first answer does not pay for it."""
    quick.prepare(*shapes)


def copied(value: M) -> M:
    """An equal model that shares nothing with `value` that could be changed: its free-form JSON is its own."""
    return structure(encode(value), type(value))


def parse(data: bytes) -> JSONValue:
    """The value of a JSON document, or a `DecodeError` that says what came instead."""
    try:
        return _json.parse(data)
    except _json.NotJSON as reason:
        start = data.lstrip()[:1]
        got = "nothing" if not start else "HTML" if start == b"<" else "text that is no JSON"
        text = f"$: expected JSON, got {got} ({reason})"
        error = [DecodeError(text, at="$", expected="JSON", got=got, body=data)]
    raise error.pop()


def refused(mismatch: Mismatch, body: bytes) -> DecodeError:
    """The public form of a mismatch."""
    text = f"{mismatch.path}: expected {mismatch.expected}, got {mismatch.got}"
    return DecodeError(text, at=mismatch.path, expected=mismatch.expected, got=mismatch.got, body=body)

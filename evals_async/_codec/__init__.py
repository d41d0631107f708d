"""JSON to models and back: `decode`, `decode_page`, `structure` and `encode`.

`decode` parses the text, and the cattrs hook of the class makes the object (`conversion`). Before that, it calls
`quick`, which makes the same object in a fraction of the time. If the text has anything unknown, `quick` returns
`None`. This module does not depend on endpoints, and performs no I/O.
"""

import asyncio
from typing import Any, Literal, TypeVar

import attrs

from evals_async import _json
from evals_async._codec import quick
from evals_async._codec.conversion import converter, encode
from evals_async._codec.fill import source_of
from evals_async._codec.mismatch import Mismatch
from evals_async._codec.quick import prepare
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

SLICE = 128 * 1024  # bytes of items that are decoded before other tasks run


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Envelope(Model):
    """The object around the items of a page. Azure does not send the two ids; some servers do not send `has_more`."""

    object: Literal["list"] | None = None
    data: tuple[JSONValue, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None


def structure(value: object, shape: type[T], body: bytes = b"") -> T:
    """Return the object of class `shape` for a parsed JSON value. `body` is the text, for errors.

    Raises `DecodeError`, as `decode` does. The object keeps parts of the value, so do not change the value afterwards.
    """
    try:
        made: T = converter().get_structure_hook(shape)(value, shape)
    except Mismatch as mismatch:
        error = [refused(mismatch, body)]
    else:
        return made
    # Outside the except block, so that the error has no context. It is popped, so that this frame, which its traceback
    # holds, does not hold the error: otherwise bodies of megabytes would wait for the garbage collector.
    raise error.pop()


def decode(data: bytes, shape: type[T]) -> T:
    """Return the object of class `shape` for the JSON document `data`.

    Raises `DecodeError` if the bytes are not JSON, or another document: a wrong type, a missing id, or another kind of
    object.
    """
    found: T | None = quick.read(data, shape)
    return structure(parse(data), shape, data) if found is None else found


def decode_page(data: bytes, shape: type[T]) -> PageBody[T]:
    """Return a page of a listing: `{object, data, first_id, last_id, has_more}` with objects of class `shape` as data.

    Only `data` is required. Raises `DecodeError` as `decode` does, also for a `has_more` of another type.
    """
    found: PageBody[T] | None = quick.read_page(data, shape)
    if found is not None:
        return found
    envelope = structure(parse(data), Envelope, data)
    hook = converter().get_structure_hook(shape)
    items: list[T] = []
    try:
        for entry in envelope.data:
            items.append(hook(entry, shape))  # noqa: PERF401  # the length is the index in the path of an error
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
    """Decode a page of megabytes as `decode_page` does, in parts. Other tasks run after each part.

    The body is first split into the texts of its items. The texts are decoded to structs, which the garbage collector
    ignores. Each struct becomes an object at the first access.
    """
    split = quick.split(data)
    if split is None:
        return decode_page(data, shape)
    kind: Any = shape
    decode_item, fill = quick.reader_of(kind)
    structs: list[Any] = []
    done = 0
    try:
        for text in split.entries:
            structs.append(decode_item(text))
            done = await pause(done + len(text))
    except quick.REFUSED:
        return await structure_large_page(split, data, shape)
    return PageBody(tuple(structs), split.first_id, split.last_id, split.has_more, split.extra, fill)


async def structure_large_page(split: PageBody[memoryview], data: bytes, shape: type[T]) -> PageBody[T]:
    """Decode a large page with items that only the hooks can decode. Its objects are made at once."""
    items: list[T] = []
    done = 0
    try:
        for text in split.entries:
            items.append(decode(bytes(text), shape))
            done = await pause(done + len(text))
    except DecodeError:
        return decode_page(data, shape)  # its error has the path in the page
    return PageBody(tuple(items), split.first_id, split.last_id, split.has_more, split.extra)


async def pause(done: int) -> int:
    """Let other tasks run after each `SLICE` of bytes. Return how many bytes were decoded since the last pause."""
    if done < SLICE:
        return done
    await asyncio.sleep(0)
    return 0


def copied(value: M) -> M:
    """Return an equal model with its own free-form JSON, so that no mutable part is shared with `value`."""
    return structure(encode(value), type(value))


def parse(data: bytes) -> JSONValue:
    """Return the value of a JSON document. Raises `DecodeError`, with the kind of text that was received."""
    try:
        return _json.parse(data)
    except _json.NotJSON as reason:
        start = data.lstrip()[:1]
        got = "nothing" if not start else "HTML" if start == b"<" else "text that is no JSON"
        text = f"$: expected JSON, got {got} ({reason})"
        error = [DecodeError(text, at="$", expected="JSON", got=got, body=data)]
    raise error.pop()


def refused(mismatch: Mismatch, body: bytes) -> DecodeError:
    """Return the public error for a mismatch."""
    text = f"{mismatch.path}: expected {mismatch.expected}, got {mismatch.got}"
    return DecodeError(text, at=mismatch.path, expected=mismatch.expected, got=mismatch.got, body=body)

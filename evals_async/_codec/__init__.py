"""JSON to models and back: `decode`, `decode_page`, `structure` and `encode`.

The only room that uses cattrs. One converter carries hook factories for every type that a model may have as a field
(see `models.base`): `leaves` for what has no fields, `unions` for unions by tag, `classes` for models, whose functions
are written as source on first use. cattrs' own factories were tried first: they check no types, drop unknown fields,
cannot tell missing from null, and a tagged union with a default loses the fields of what it does not know.

The law: `encode(decode(body)) == body`, with unknown fields, unknown variants, nulls and missing fields as they came.
Nothing here knows an endpoint, and nothing performs I/O.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast, overload

import attrs
import cattrs

from evals_async import _json
from evals_async._codec.classes import model_hook, model_unhook, source_of
from evals_async._codec.leaves import (
    PRIMITIVES,
    free_hook,
    is_array,
    is_free,
    is_literal,
    is_map,
    is_model,
    is_union,
    literal_hook,
    map_hook,
    primitive_hook,
    tuple_hook,
)
from evals_async._codec.mismatch import Mismatch
from evals_async._codec.records import Reader, Records
from evals_async._codec.unions import union_hook
from evals_async._json import JSONValue
from evals_async._paging.pages import PageBody
from evals_async.errors import DecodeError, InvalidArgument
from evals_async.models.base import Model, Unknown


__all__ = ["converter", "decode", "decode_large_page", "decode_page", "encode", "source_of", "structure"]

T = TypeVar("T")

SLICE = 128 * 1024  # bytes of items that are decoded in one turn of the event loop: half a millisecond, mostly


@attrs.frozen(kw_only=True, repr=False)
class Envelope(Model):
    """What a listing's page is wrapped in. Azure leaves the two ids out; some servers leave `has_more` out."""

    object: Literal["list"] | None = None
    data: tuple[JSONValue, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None


@overload
def encode(value: Model) -> dict[str, JSONValue]: ...
@overload
def encode(value: object) -> JSONValue: ...
def encode(value: object) -> JSONValue:
    """The JSON value of a model, or of mappings and sequences with models anywhere in them.

    Raises `InvalidArgument` for an object that JSON has no form for, for a mapping with keys that are no strings, and
    for what is nested too deeply, or for ever.
    """
    try:
        return encoded(value)
    except RecursionError:
        raise InvalidArgument("nested too deeply for JSON") from None


def encoded(value: object) -> JSONValue:
    # One frame of Python a level and none of C, so no comprehensions (3.11) and no `map` (3.12 allows C few): whatever
    # depth the parser takes can be written out again.
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Model | Unknown):
        unstructured: JSONValue = converter.unstructure(value)
        return unstructured
    if isinstance(value, Mapping):
        members: dict[str, JSONValue] = {}
        for key, member in cast("Mapping[object, object]", value).items():
            if not isinstance(key, str):
                raise InvalidArgument(f"JSON objects have strings as keys, not {key!r}")
            members[key] = encoded(member)
        return members
    if isinstance(value, list | tuple):
        elements: list[JSONValue] = []
        for element in cast("list[object]", value):
            elements.append(encoded(element))  # noqa: PERF401  # see above
        return elements
    raise InvalidArgument(f"{type(value).__name__} has no form in JSON: {value!r:.80}")


def encoder_of(model: type[Model]) -> Callable[[Any], dict[str, Any]]:
    return model_unhook(model, encoded)


converter = cattrs.Converter(detailed_validation=False)
"""Structures and unstructures every model."""

for primitive in PRIMITIVES:
    converter.register_structure_hook(primitive, primitive_hook(primitive))
for applies, factory in (
    (is_map, map_hook),
    (is_array, tuple_hook),
    (is_literal, literal_hook),
    (is_free, free_hook),  # after is_map: JSONObject is a mapping too, and the last factory that applies is asked
    (is_union, union_hook),
    (is_model, model_hook),
):
    converter.register_structure_hook_factory(applies, factory)
converter.register_unstructure_hook_factory(is_model, encoder_of)
converter.register_unstructure_hook(Unknown, lambda unknown: encoded(unknown.raw))

records = Records(converter)
readers: dict[Any, Reader] = {}
page_readers: dict[Any, Reader] = {}
splitter = records.page_splitter()


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
    read = readers.get(shape) or reader_of(shape)
    found: T | None = read(data)
    return structure(parse(data), shape, data) if found is None else found


def reader_of(shape: Any) -> Reader:
    """The quick way of a shape, see `records`."""
    found = readers[shape] = records.reader(shape)
    return found


def page_reader_of(shape: Any) -> Reader:
    found = page_readers[shape] = records.page_reader(shape)
    return found


def decode_page(data: bytes, shape: type[T]) -> PageBody[T]:
    """One page of a listing: the envelope `{object, data, first_id, last_id, has_more}` around objects of class
    `shape`.

    Only `data` is required; a `has_more` that is neither a boolean, null nor missing raises `DecodeError`, as `decode`
    does.
    """
    read = page_readers.get(shape) or page_reader_of(shape)
    page: PageBody[T] | None = read(data)
    if page is not None:
        return page
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

    The body is cut into the texts of its items first, which takes a millisecond for a megabyte.
    """
    split: PageBody[bytes] | None = splitter(data)
    if split is None:
        return decode_page(data, shape)
    items: list[T] = []
    done = 0
    try:
        for text in split.entries:
            items.append(decode(text, shape))
            done += len(text)
            if done >= SLICE:
                done = 0
                await asyncio.sleep(0)
    except DecodeError:
        return decode_page(data, shape)  # which knows where in the page the error is
    return PageBody(tuple(items), split.first_id, split.last_id, split.has_more, split.extra)


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

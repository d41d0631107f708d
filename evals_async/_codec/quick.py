"""Fast decoding: msgspec decodes JSON text without unknown parts into structs, and models are filled from the structs.

Each model has a struct class with the same fields. msgspec checks types and refuses unknown fields in C. The remaining
work is to move the values, to distinguish null from missing, and to choose the member of a union (see `fill`). If
msgspec refuses a text (an unknown field or variant, a wrong type, invalid JSON), the functions here return `None`. Then
the hooks decode the body: they accept every valid body, and report the position of an error. For a body that both
accept, the results are equal. A test checks this for every class.

Decoding does not depend on earlier bodies. A class has one struct and one function, made on first use or by `prepare`.
"""

import types
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import attrs
import msgspec

from evals_async._codec.fill import (
    Each,
    EachValue,
    Fill,
    Filling,
    OneClass,
    OneOf,
    OneOfTags,
    StructField,
    Words,
    fill_of_variant,
    made_later,
)
from evals_async._codec.shapes import (
    PRIMITIVES,
    is_array,
    is_literal,
    is_map,
    is_model,
    is_open_literal,
    is_optional,
    is_union,
    literals,
    tags_of,
    union_of,
    wire_fields,
    wire_name,
    without_none,
)
from evals_async._json import JSONObject, JSONValue
from evals_async._paging.listing import PageBody
from evals_async.models.base import NOTHING_EXTRA, Model, Unknown


REFUSED = (ValueError, RecursionError)
"""The errors of msgspec for refused text; its own errors are ValueErrors."""

ENVELOPE: list[Any] = [
    ("object", Literal["list"] | None, None),
    ("first_id", str | None, None),
    ("last_id", str | None, None),
    ("has_more", bool | None, None),
]
"""The fields of a page except its items."""


class NoStructError(Exception):
    """A type has no struct, so only the hooks can decode it."""


class Read(NamedTuple):
    """How values of a type are decoded: the type for msgspec, and how the value of the model is made from it."""

    kind: Any
    filling: Filling | None = None


Reader: TypeAlias = tuple[Callable[[bytes | memoryview], Any], Fill]
"""How documents of a type are decoded: text to struct, and struct to model."""


def read(data: bytes | memoryview, shape: Any) -> Any:
    """Return the object of class `shape` for the text `data`, or `None` if msgspec refuses it."""
    decode, fill = reader_of(shape)
    try:
        found = decode(data)
    except REFUSED:
        return None
    return fill(found)


def read_page(data: bytes, shape: Any) -> PageBody[Any] | None:
    """Return a page whose objects are made at the first access, or `None` if msgspec refuses it."""
    decode, fill = page_reader_of(shape)
    try:
        page = decode(data)
    except REFUSED:
        return None
    return page_around(page.data, page, fill)


def split(data: bytes) -> PageBody[memoryview] | None:
    """Return a page with the texts of its items, which are valid JSON, or `None` if msgspec refuses it."""
    try:
        page = splitter().decode(data)
    except REFUSED:
        return None
    return page_around(page.data, page, None)


def page_around(entries: tuple[Any, ...], page: Any, fill: Fill | None) -> PageBody[Any]:
    return PageBody(entries, page.first_id, page.last_id, page.has_more, NOTHING_EXTRA, fill)


def prepare(*shapes: Any) -> None:
    """Make the decoders of these types and of their pages, so that the first response does not take this time."""
    for shape in shapes:
        page_reader_of(shape)


@cache
def splitter() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(page_struct(msgspec.Raw))


@cache
def reader_of(shape: Any) -> Reader:
    """Return how documents of a type are decoded. Without a struct, each text is refused."""
    try:
        kind, filling = place(shape)
    except NoStructError:
        return refuse, unchanged
    return msgspec.json.Decoder(kind).decode, filling.function() if filling else unchanged


@cache
def page_reader_of(shape: Any) -> Reader:
    """Return how pages of objects of a type are decoded: text to struct, and the struct of an item to its model."""
    decode, fill = reader_of(shape)
    return decode if decode is refuse else msgspec.json.Decoder(page_struct(place(shape).kind)).decode, fill


def refuse(data: object) -> Any:
    raise ValueError("only the hooks can decode this type")


def page_struct(entry: Any) -> Any:
    return msgspec.defstruct(
        "Page", [("data", array_of(entry)), *ENVELOPE], forbid_unknown_fields=True, kw_only=True, gc=False
    )


def unchanged(value: Any) -> Any:
    return value


def place(shape: Any) -> Read:
    """Return how a field of this type is decoded. Raises `NoStructError`."""
    if is_model(shape):
        return of_model(shape)
    if is_open_literal(shape):
        return Read(str, Words(literals(shape)))
    if is_union(shape):
        return of_union(shape)
    if is_array(shape):
        element = place(get_args(shape)[0])
        return Read(array_of(element.kind), None if element.filling is None else Each(element.filling))
    if shape == JSONValue:
        return Read(Any)
    if shape == JSONObject:
        return Read(dict[str, Any])
    if shape is float:
        return Read(int | float)  # for a float alone, a 1 would become 1.0
    if shape in PRIMITIVES or is_literal(shape):
        return Read(shape)
    if is_map(shape):
        value = place(get_args(shape)[1])
        return Read(dict[str, value.kind], None if value.filling is None else EachValue(value.filling))  # type: ignore[name-defined]
    raise NoStructError(shape)


def columns_of(model: type[Model]) -> list[StructField]:
    columns: list[StructField] = []
    for field in wire_fields(model):
        kind, filling = place(without_none(field.type))
        repeats, deferred = bool(field.metadata.get("repeats")), bool(field.metadata.get("deferred"))
        columns.append(
            StructField(field.name, wire_name(field), kind, filling, is_optional(field.type), repeats, deferred)
        )
    return columns


def struct_of(name: str, columns: list[StructField], tag: str | None = None) -> Any:
    """Return the struct class with these fields. An optional field may be UNSET (missing) or `None` (null)."""
    fields: list[Any] = [
        (column.name, Any if column.kind is Any else column.kind | None | msgspec.UnsetType, msgspec.UNSET)
        if column.optional
        else (column.name, column.kind)
        for column in columns
    ]
    return msgspec.defstruct(
        name,
        fields,
        rename={column.name: column.wire for column in columns},
        tag=tag,
        tag_field=None if tag is None else "type",
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,  # a tree of structs and plain values has no cycles
    )


@cache
def of_model(model: Any) -> Read:
    """Return how values are decoded if only this class is expected."""
    columns = columns_of(model)
    return Read(struct_of(model.__name__, columns), OneClass(model, columns))


@cache
def of_variant(model: Any, tag: str) -> Read:
    """Return how values are decoded if the tag selects this class."""
    columns = [column for column in columns_of(model) if column.name != "type"]
    return Read(struct_of(model.__name__, columns, tag), OneClass(model, columns, tag))


@cache
def of_union(union: Any) -> Read:
    members = [member for member in get_args(union) if member not in (type(None), Unknown)]
    models = [member for member in members if is_model(member)]
    if models and any(map(is_map, members)):
        raise NoStructError(union)  # msgspec cannot tell them apart
    reads = [place(member) for member in members if not is_model(member)]
    if len(models) > 1 and any("" in (tags_of(model) or ()) for model in models):
        reads.append(of_merged(models, union))
    elif len(models) > 1:
        reads.extend(variants(models, is_open=Unknown in get_args(union)))
    else:
        reads.extend(map(of_model, models))
    if len(reads) == 1:
        return reads[0]
    table = {class_of(read.kind): read.filling for read in reads if read.filling is not None}
    return Read(union_of([read.kind for read in reads]), OneOf(table) if table else None)


def variants(models: list[Any], *, is_open: bool) -> list[Read]:
    """Return how the members of a union with tags are decoded. In an open union, a class without a tag is refused: the
    hooks decode it.
    """
    found: list[Read] = []
    for model in models:
        tags = tags_of(model) or ()
        try:
            if len(tags) != 1:
                raise NoStructError(model)
            found.append(of_variant(model, tags[0]))
        except NoStructError:
            if not is_open:
                raise
    return found


def of_merged(models: list[type[Model]], union: Any) -> Read:
    """Return one struct with the fields of all members of a union. One member may have no tag."""
    merged: dict[str, StructField] = {}
    for model in models:
        for column in columns_of(model):
            if column.name != "type" and merged.setdefault(column.name, column).kind != column.kind:
                raise NoStructError(union)
    tags = [tag for model in models for tag in tags_of(model) or ()]
    names = StructField("type", "type", Literal[*[tag for tag in tags if tag]], None, optional=True)
    columns = [names, *[attrs.evolve(column, optional=True) for column in merged.values()]]
    makers = {
        tag: partial(fill_of_variant, model, columns_of(model), set(merged), union)
        for model in models
        for tag in tags_of(model) or ()
    }
    return Read(struct_of("Merged", columns), OneOfTags(made_later(makers, {})))


def array_of(kind: Any) -> Any:
    """Return the type of an array, for a type that is known at run time only.

    It is a tuple, because the garbage collector stops tracking tuples of untracked values.
    """
    return types.GenericAlias(tuple, (kind, ...))


def class_of(kind: Any) -> Any:
    """Return the class of the values that msgspec makes for a type."""
    return getattr(kind, "__origin__", kind)

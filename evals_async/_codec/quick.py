"""The quick way: JSON text that holds nothing unknown is read by msgspec into structs, and models are filled from them.

For each model there is a struct class with the same fields. msgspec checks types and refuses unknown fields in C; what
is left is to move the values, to tell null from missing, and to choose among the members of unions (see `fill`).
Whatever msgspec refuses (an unknown field, an unknown variant, a wrong type, text that it cannot read) is "not mine":
the hooks take every body, and know where an error is. So this module decides nothing: a body that it takes gives the
model that the hooks give, and a test holds every class to that.

`read`, `read_page` and `split` are all that others use. Nothing is learnt from the bodies that come: a class has one
struct and one function, made on first use or by `prepare`.
"""

import types
from collections.abc import Callable
from functools import cache
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
    fill_of_class,
    fill_of_variant,
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
"""What msgspec raises for text that is not for this module; its own errors are ValueErrors."""

ENVELOPE: list[Any] = [
    ("object", Literal["list"] | None, None),
    ("first_id", str | None, None),
    ("last_id", str | None, None),
    ("has_more", bool | None, None),
]
"""What a page has beside its items."""


class NoStructError(Exception):
    """No struct can stand for a type: it is left to the hooks."""


class Read(NamedTuple):
    """How values of a type are read: the type that msgspec reads, and how the model's value is made of that."""

    kind: Any
    filling: Filling | None = None


Reader: TypeAlias = tuple[Callable[[bytes | memoryview], Any], Fill]
"""How documents of a type are read: text to struct, and struct to model."""


def read(data: bytes | memoryview, shape: Any) -> Any:
    """The object of class `shape` that the text `data` describes; `None` for "not mine"."""
    reader = reader_of(shape)
    if reader is None:
        return None
    decode, fill = reader
    try:
        found = decode(data)
    except REFUSED:
        return None
    return fill(found)


def read_page(data: bytes, shape: Any) -> PageBody[Any] | None:
    """A page of objects of class `shape`, which are filled when they are asked for; `None` for "not mine"."""
    reader = page_reader_of(shape)
    if reader is None:
        return None
    decode, fill = reader
    try:
        page = decode(data)
    except REFUSED:
        return None
    return page_around(page.data, page, fill)


def read_struct(data: bytes | memoryview, shape: Any) -> Any:
    """The struct of an object, to be filled by `fill_of(shape)`; `None` for "not mine"."""
    reader = reader_of(shape)
    if reader is None:
        return None
    try:
        return reader[0](data)
    except REFUSED:
        return None


def fill_of(shape: Any) -> Fill:
    """What makes a model of such a struct."""
    reader = reader_of(shape)
    if reader is None:
        raise NoStructError(shape)
    return reader[1]


def split(data: bytes) -> PageBody[memoryview] | None:
    """A page with the texts of its items, which are checked to be JSON and nothing more; `None` for "not mine"."""
    try:
        page = splitter().decode(data)
    except REFUSED:
        return None
    return page_around(page.data, page, None)


def page_around(entries: tuple[Any, ...], page: Any, fill: Fill | None) -> PageBody[Any]:
    return PageBody(entries, page.first_id, page.last_id, page.has_more, NOTHING_EXTRA, fill)


def prepare(*shapes: Any) -> None:
    """Make what reads documents and pages of these types, so that the first answer does not pay for it."""
    for shape in shapes:
        page_reader_of(shape)


@cache
def splitter() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(page_struct(msgspec.Raw))


@cache
def reader_of(shape: Any) -> Reader | None:
    """How documents of a type are read; `None` if only the hooks can."""
    try:
        kind, filling = place(shape)
    except NoStructError:
        return None
    return msgspec.json.Decoder(kind).decode, filling.function() if filling else unchanged


@cache
def page_reader_of(shape: Any) -> Reader | None:
    reader = reader_of(shape)
    if reader is None:
        return None
    return msgspec.json.Decoder(page_struct(place(shape).kind)).decode, reader[1]


def page_struct(entry: Any) -> Any:
    return msgspec.defstruct(
        "Page", [("data", array_of(entry)), *ENVELOPE], forbid_unknown_fields=True, kw_only=True, gc=False
    )


def unchanged(value: Any) -> Any:
    return value


def place(shape: Any) -> Read:
    """How a field of that type is read. Raises `NoStructError`."""
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
        repeats = bool(field.metadata.get("repeats"))
        columns.append(StructField(field.name, wire_name(field), kind, filling, is_optional(field.type), repeats))
    return columns


def struct_of(name: str, columns: list[StructField], tag: str | None = None) -> Any:
    """The struct class with these fields. What may be missing is UNSET then, and `None` if it is null."""
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
    """Where only this class is expected."""
    columns = columns_of(model)
    return Read(struct_of(model.__name__, columns), OneClass(model, columns, None, fill_of_class(model, columns)))


@cache
def of_variant(model: Any, tag: str) -> Read:
    """Where its tag must tell the class from others."""
    columns = [column for column in columns_of(model) if column.name != "type"]
    return Read(
        struct_of(model.__name__, columns, tag), OneClass(model, columns, tag, fill_of_class(model, columns, tag))
    )


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
    """The members of a union that a tag tells apart. An open union may do without one: an object of that class is "not
    mine" then.
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
    """One struct for all members of a union, one of which may come without its tag: it has the fields of all."""
    merged: dict[str, StructField] = {}
    for model in models:
        for column in columns_of(model):
            if column.name != "type" and merged.setdefault(column.name, column).kind != column.kind:
                raise NoStructError(union)
    tags = [tag for model in models for tag in tags_of(model) or ()]
    names = StructField("type", "type", Literal[*[tag for tag in tags if tag]], None, optional=True)
    columns = [names, *[attrs.evolve(column, optional=True) for column in merged.values()]]
    fills = {
        tag: fill_of_variant(model, columns_of(model), set(merged), union)
        for model in models
        for tag in tags_of(model) or ()
    }
    return Read(struct_of("Merged", columns), OneOfTags(fills))


def array_of(kind: Any) -> Any:
    """The type of an array, for a type that no checker can know.

    Tuples and not lists, because the collector lets go of a tuple that has nothing for it.
    """
    return types.GenericAlias(tuple, (kind, ...))


def class_of(kind: Any) -> Any:
    """The class of the values that msgspec makes for a type."""
    return getattr(kind, "__origin__", kind)

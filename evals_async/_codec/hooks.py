"""The structure hooks for cattrs, with one factory for each kind of field type. Those of unions are in `unions`.

A hook takes a value of a parsed document. It returns the value for the model, or raises `Mismatch`. The hooks of cattrs
itself are not used: they check no types, drop unknown fields, and do not distinguish a missing field from null.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

import attrs

from evals_async._codec.mismatch import Mismatch, choice, json_type, met, required
from evals_async._codec.shapes import (
    PRIMITIVES,
    is_array,
    is_literal,
    is_open_literal,
    is_optional,
    is_union,
    literals,
    shared_names,
    shared_strings,
    unfrozen,
    wire_fields,
    wire_name,
    without_none,
)
from evals_async._json import JSONObject, JSONValue
from evals_async._omit import OMIT
from evals_async.models.base import NOTHING_EXTRA, Model


if TYPE_CHECKING:
    from cattrs import BaseConverter


Hook: TypeAlias = Callable[[Any, Any], Any]
"""A cattrs structure hook: it converts a value. cattrs passes the type as the second argument; it is not used."""


def free_hook(shape: Any) -> Hook:
    if shape == JSONValue:
        return lambda value, _: value
    return lambda value, _: mapping(value)


def primitive_hook(shape: Any) -> Hook:
    accepted = PRIMITIVES[shape]

    def structure_primitive(value: Any, _: Any) -> Any:
        if type(value) not in accepted:
            raise Mismatch(shape.__name__, json_type(value))
        return value

    return structure_primitive


def literal_hook(shape: Any) -> Hook:
    allowed = literals(shape)
    expected = choice(allowed)

    def structure_literal(value: Any, _: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise Mismatch(expected, met(expected, value))
        return allowed[value]

    return structure_literal


def open_literal_hook(shape: Any) -> Hook:
    known = literals(shape)

    def structure_word(value: Any, _: Any) -> Any:
        if type(value) is not str:
            raise Mismatch("str", json_type(value))
        return known.get(value, value)

    return structure_word


def repeated_hook(value: Any, _: Any) -> Any:
    """Return a string that is equal in many objects: equal strings are one object."""
    if type(value) is not str:
        raise Mismatch("str", json_type(value))
    return shared_strings[value]


def tuple_hook(shape: Any, converter: "BaseConverter") -> Hook:
    element = get_args(shape)[0]
    hook = converter.get_structure_hook(element)

    def structure_tuple(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise Mismatch("array", json_type(value))
        made: list[Any] = []
        try:
            for entry in cast("list[object]", value):
                made.append(hook(entry, element))  # noqa: PERF401  # the length is the index in the path of an error
        except Mismatch as mismatch:
            raise mismatch.within(f"[{len(made)}]") from None
        return tuple(made)

    return structure_tuple


def mapping(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise Mismatch("object", json_type(value))
    return cast("dict[str, Any]", value)


def map_hook(shape: Any, converter: "BaseConverter") -> Hook:
    element = get_args(shape)[1]
    hook = converter.get_structure_hook(element)

    def structure_map(value: Any, _: Any) -> Any:
        entries = mapping(value)
        key = ""
        made: dict[str, Any] = {}
        try:
            for key, entry in entries.items():
                made[key] = hook(entry, element)
        except Mismatch as mismatch:
            raise mismatch.within(f".{key}") from None
        return made

    return structure_map


@attrs.frozen
class FieldReader:
    """How one field of a model is decoded."""

    name: str
    wire: str
    hook: Hook
    optional: bool
    expected: str  # for the error if a required field is missing


def field_reader(field: "attrs.Attribute[Any]", converter: "BaseConverter") -> FieldReader:
    shape = without_none(field.type)
    hook = repeated_hook if field.metadata.get("repeats") else converter.get_structure_hook(shape)
    return FieldReader(field.name, wire_name(field), hook, is_optional(field.type), expected_of(shape))


def expected_of(shape: Any) -> str:
    """Return the expected type of a missing field, for an error message."""
    if is_literal(shape):
        return choice(literals(shape))
    if is_open_literal(shape):
        return "str"
    if shape in PRIMITIVES:
        return str(shape.__name__)
    if is_array(shape):
        return "array"
    return kinds_of(shape) if is_union(shape) else "object"


def kinds_of(union: Any) -> str:
    names = [expected_of(member) for member in get_args(union)]
    return " or ".join(dict.fromkeys(names))


def model_hook(model: type[Model], converter: "BaseConverter") -> Hook:
    """Return the hook that converts a JSON object to a `model`: its fields one by one, then the unknown fields."""
    readers = [field_reader(field, converter) for field in wire_fields(model)]
    known = {reader.wire for reader in readers}
    twin = unfrozen(model)

    def structure_model(value: Any, _: Any) -> Any:
        entries = mapping(value)
        made = twin()
        nulls: list[str] = []
        for field in readers:
            found = entries.get(field.wire)
            if found is not None:
                try:
                    found = field.hook(found, None)
                except Mismatch as mismatch:
                    raise mismatch.within(f".{field.wire}") from None
            elif not field.optional:
                raise required(f".{field.wire}", field.expected, field.wire in entries)
            elif field.wire in entries:
                nulls.append(field.wire)
            setattr(made, field.name, found)
        made.extra = extra_of(entries, known)
        made.nulls = shared_names[frozenset(nulls)]
        made.__class__ = model
        return made

    return structure_model


def extra_of(entries: dict[str, Any], known: set[str]) -> JSONObject:
    """Return the fields that the class does not define."""
    if entries.keys() <= known:
        return NOTHING_EXTRA
    return {name: value for name, value in entries.items() if name not in known}


def model_unhook(model: type[Model], encode: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """Return the function that converts a `model` to a JSON object: fields, received nulls, unknown fields."""
    fields = [(field.name, wire_name(field)) for field in wire_fields(model)]

    def unstructure_model(value: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, wire in fields:
            found = getattr(value, name)
            if found is not None and (written := encode(found)) is not OMIT:
                made[wire] = written
        for name in value.nulls:
            made.setdefault(name, None)
        if value.extra is not NOTHING_EXTRA:
            made.update(encode(value.extra))
        return made

    return unstructure_model

"""Hooks for the types that are neither class nor union: strings and numbers, literals, tuples, maps, free-form JSON.

They serve where such a type stands inside another one (the elements of a tuple, the members of a union). Fields of a
class have the same checks written inline, see `classes`.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from operator import length_hint
from typing import Any, Literal, TypeAlias, Union, cast, get_args, get_origin

import cattrs

from evals_async._codec.mismatch import Mismatch, choice, json_type, met
from evals_async._json import JSONObject, JSONValue
from evals_async.models.base import Model


Hook: TypeAlias = Callable[[Any, Any], Any]
"""A cattrs structure hook: (value, type) to object. The type is only there because cattrs gives it."""

PRIMITIVES: dict[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (float, int)}
"""Which Python types of a parsed document a field type takes.

`bool` is no `int` here, and an `int` is a fine `float`, kept as it is.
"""

UNIONS = (Union, types.UnionType)


def is_model(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, Model)


def is_union(shape: Any) -> bool:
    return get_origin(shape) in UNIONS and shape != JSONValue


def is_literal(shape: Any) -> bool:
    return get_origin(shape) is Literal


def is_array(shape: Any) -> bool:
    return get_origin(shape) is tuple


def is_map(shape: Any) -> bool:
    return get_origin(shape) is Mapping


def is_free(shape: Any) -> bool:
    """Is it JSON that passes through untouched?"""
    return shape in (JSONValue, JSONObject)


def literals(shape: Any) -> dict[str, str]:
    """The values of a Literal, each leading to the one object that all models share."""
    values: tuple[str, ...] = get_args(shape)
    return {value: value for value in values}


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


def tuple_hook(shape: Any, converter: cattrs.BaseConverter) -> Hook:
    element = get_args(shape)[0]
    if element == JSONValue:
        return array_hook
    hook = converter.get_structure_hook(element)

    def structure_tuple(value: Any, _: Any) -> Any:
        entries = array(value)
        rest = iter(entries)
        try:
            return tuple([hook(entry, None) for entry in rest])
        except Mismatch as mismatch:
            raise mismatch.within(last_taken(entries, rest)) from None

    return structure_tuple


def last_taken(entries: list[object], rest: Iterator[object]) -> str:
    """The step to the entry that was taken last: `rest` tells how many are left, so that counting costs nothing."""
    return f"[{len(entries) - length_hint(rest) - 1}]"


def array_hook(value: Any, _: Any) -> tuple[Any, ...]:
    return tuple(array(value))


def array(value: object) -> list[object]:
    if type(value) is not list:
        raise Mismatch("array", json_type(value))
    return cast("list[object]", value)


def mapping(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise Mismatch("object", json_type(value))
    return cast("dict[str, Any]", value)


def map_hook(shape: Any, converter: cattrs.BaseConverter) -> Hook:
    element = get_args(shape)[1]
    hook = converter.get_structure_hook(element)

    def structure_map(value: Any, _: Any) -> Any:
        entries = mapping(value)
        key = ""
        made: dict[str, Any] = {}
        try:
            for key, entry in entries.items():
                made[key] = hook(entry, None)
        except Mismatch as mismatch:
            raise mismatch.within(f".{key}") from None
        return made

    return structure_map

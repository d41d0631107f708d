"""The converter: cattrs with a hook for every type that a field of a model may have; and the way back, `encode`.

The law: `encode(structure(body)) == body`, with unknown fields, unknown variants, nulls and missing fields as they
came.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast, overload

from evals_async._codec.hooks import (
    free_hook,
    literal_hook,
    map_hook,
    model_hook,
    model_unhook,
    primitive_hook,
    tuple_hook,
)
from evals_async._codec.inputs import simpler
from evals_async._codec.shapes import PRIMITIVES, is_array, is_free, is_literal, is_map, is_model, is_union
from evals_async._codec.unions import union_hook
from evals_async._json import JSONValue
from evals_async._omit import OMIT, is_omitted
from evals_async.errors import InvalidArgument
from evals_async.models.base import Model, Unknown


if TYPE_CHECKING:
    from cattrs import Converter

NOTHING = cast("JSONValue", OMIT)
"""What `encoded` gives for a member that was not given."""


@overload
def encode(value: Model) -> dict[str, JSONValue]: ...
@overload
def encode(value: object) -> JSONValue: ...
def encode(value: object) -> JSONValue:
    """The JSON value of a model, or of mappings and sequences with models anywhere in them.

    Dates become ISO 8601; dataclasses, attrs classes and pydantic's models become objects; whatever can be gone through
    becomes an array. A member of a mapping that is `OMIT` (or the official client's `NOT_GIVEN`) is left out.
    Raises `InvalidArgument` for an object that JSON has no form for, for a mapping with keys that are no strings, and
    for what is nested too deeply, or for ever.
    """
    try:
        made = encoded(value)
    except RecursionError:
        raise InvalidArgument("nested too deeply for JSON") from None
    if made is NOTHING:
        raise InvalidArgument(f"{value!r} is no value")
    return made


def encoded(value: object) -> JSONValue:
    # One frame of Python a level and none of C, so no comprehensions (3.11) and no `map` (3.12 allows C few): whatever
    # depth the parser takes can be written out again.
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Model | Unknown):
        unstructured: JSONValue = converter().unstructure(value)
        return unstructured
    if isinstance(value, Mapping):
        members: dict[str, JSONValue] = {}
        for key, member in cast("Mapping[object, object]", value).items():
            if not isinstance(key, str):
                raise InvalidArgument(f"JSON objects have strings as keys, not {key!r}")
            if (made := encoded(member)) is not NOTHING:
                members[key] = made
        return members
    if isinstance(value, list | tuple):
        elements: list[JSONValue] = []
        for element in cast("list[object]", value):
            if (made := encoded(element)) is NOTHING:
                raise InvalidArgument("an element of an array cannot be left out")
            elements.append(made)
        return elements
    return NOTHING if is_omitted(value) else encoded(simpler(value))


def encoder_of(model: type[Model]) -> Callable[[Any], dict[str, Any]]:
    return model_unhook(model, encoded)


@cache
def converter() -> "Converter":
    """Return the object that structures and unstructures every model. It is made at its first use, because most
    responses are decoded without it, and cattrs takes long to import.
    """
    from cattrs import Converter

    made = Converter(detailed_validation=False)
    for primitive in PRIMITIVES:
        made.register_structure_hook(primitive, primitive_hook(primitive))
    for applies, factory in (
        (is_map, map_hook),
        (is_array, tuple_hook),
        (is_literal, literal_hook),
        (is_free, free_hook),  # after is_map: JSONObject is a mapping too, and the last factory that applies is asked
        (is_union, union_hook),
        (is_model, model_hook),
    ):
        made.register_structure_hook_factory(applies, factory)
    made.register_unstructure_hook_factory(is_model, encoder_of)
    made.register_unstructure_hook(Unknown, lambda unknown: encoded(unknown.raw))
    return made

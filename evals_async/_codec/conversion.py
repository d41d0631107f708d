"""The converter, which is cattrs with a hook for each type of a model's field, and `encode`, the opposite direction.

The law is `encode(structure(body)) == body`. It includes unknown fields, unknown variants, nulls and missing fields.
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
"""The result of `encoded` for a member that was not given."""


@overload
def encode(value: Model) -> dict[str, JSONValue]: ...
@overload
def encode(value: object) -> JSONValue: ...
def encode(value: object) -> JSONValue:
    """Return the JSON value of a model, or of mappings and sequences that contain models.

    Dates become ISO 8601. Dataclasses, attrs classes and pydantic models become objects. Other iterables become arrays.
    A member of a mapping is left out if it is `OMIT`, or `NOT_GIVEN` of the official client. Raises `InvalidArgument`
    for an object without a JSON form, for a mapping with keys that are not strings, and for a value that is nested too
    deeply or contains itself.
    """
    try:
        made = encoded(value)
    except RecursionError:
        raise InvalidArgument("nested too deeply for JSON") from None
    if made is NOTHING:
        raise InvalidArgument(f"{value!r} is no value")
    return made


def encoded(value: object) -> JSONValue:
    # Each level of nesting uses one Python frame and no C frame. So this function encodes every depth that the parser
    # accepts. A comprehension (in 3.11) or a `map` (in 3.12) would reduce the depth.
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
        (is_free, free_hook),  # after is_map: a JSONObject is a mapping too, and the last matching factory is used
        (is_union, union_hook),
        (is_model, model_hook),
    ):
        made.register_structure_hook_factory(applies, factory)
    made.register_unstructure_hook_factory(is_model, encoder_of)
    made.register_unstructure_hook(Unknown, lambda unknown: encoded(unknown.raw))
    return made

"""Bodies as servers may send them: those in `payloads/`, the smallest ones, and any that the model classes allow.

The last are hypothesis strategies, made from the classes. A field that may be missing is sometimes there, sometimes
missing and sometimes null; unknown fields and unknown variants come too.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, cast, get_args, get_origin

import attrs
from hypothesis import strategies as st

from evals_async import models
from evals_async._json import JSONObject, JSONValue
from evals_async.models import Model, Unknown


Json: TypeAlias = Any
"""A value of a JSON document."""

PAYLOADS = Path(__file__).parent / "payloads"

CLASSES: list[type[Model]] = [
    value
    for name in models.PLACES
    if isinstance(value := getattr(models, name), type) and issubclass(value, Model) and value is not Model
]
"""Every model class that the package shows."""

KINDS: dict[str, Json] = {"str": "text", "int": 7, "float": 0.5, "bool": True, "object": {}, "array": []}
"""One value of each kind of JSON value but null."""


def payload(name: str) -> Json:
    """The body in that file."""
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))


def fields_of(model: type[Model]) -> dict[str, Any]:
    """The types of a model's fields, by their names on the wire."""
    own = [field for field in attrs.fields(model) if field.name not in ("extra", "nulls")]
    return {field.metadata.get("wire", field.name): field.type for field in own}


def is_free(shape: Any) -> bool:
    return shape in (JSONValue, JSONObject)


def members(shape: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(shape) if get_origin(shape) in (Union, UnionType) and not is_free(shape) else (shape,)


def may_be_missing(shape: Any) -> bool:
    return shape == JSONValue or type(None) in members(shape)


def is_model(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, Model)


def kinds(shape: Any) -> set[str]:
    """Which kinds of JSON values a field type takes."""
    found: set[str] = set()
    for member in members(shape):
        if member == JSONValue:
            found |= set(KINDS)
        elif member is float:
            found |= {"float", "int"}
        elif member in (str, int, bool):
            found.add(cast("type", member).__name__)
        elif get_origin(member) is Literal:
            found.add("str")
        elif get_origin(member) is tuple:
            found.add("array")
        elif member is not type(None):  # a model, a map, an object of the user's own, an unknown variant
            found.add("object")
    return found


def smallest(shape: Any) -> Json:
    """The smallest value that a field type takes; of a model, only what it requires."""
    member = members(shape)[0]
    if get_origin(member) is Literal:
        return get_args(member)[0]
    if is_model(member):
        return {name: smallest(kind) for name, kind in fields_of(member).items() if not may_be_missing(kind)}
    return KINDS[min(kinds(member))]


# --- strategies -------------------------------------------------------------------------------------------------------

texts = st.text(max_size=6)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
names = st.sampled_from(["_hidden", "new_field", "ünïcode", "", "extra", "nulls", "__class__", "sample.output_text"])
objects = st.dictionaries(texts | names, scalars | st.lists(scalars, max_size=2), max_size=2)
free = scalars | st.lists(scalars, max_size=2) | objects


def tagged(kind: str, rest: Json) -> Json:
    return {**rest, "type": f"x_{kind}"}


def joined(known: Json, extra: Json) -> Json:
    return known | extra


SIMPLE: dict[Any, st.SearchStrategy[Json]] = {
    str: texts,
    int: st.integers(-(2**70), 2**70),
    float: numbers,
    bool: st.booleans(),
    type(None): st.none(),
    Unknown: st.builds(tagged, texts, objects),
}


@cache
def values(shape: Any) -> st.SearchStrategy[Json]:
    """Any value that a field type takes."""
    if shape == JSONValue:
        return free
    if shape == JSONObject:
        return objects
    if shape in SIMPLE:
        return SIMPLE[shape]
    if is_model(shape):
        return bodies(shape)
    origin = get_origin(shape)
    if origin is Literal:
        return st.sampled_from(get_args(shape))
    if origin is tuple:
        return st.lists(values(get_args(shape)[0]), max_size=2)
    if origin is Mapping:
        return st.dictionaries(texts, values(get_args(shape)[1]), max_size=2)
    return st.one_of([values(member) for member in members(shape)])


@cache
def bodies(model: type[Model]) -> st.SearchStrategy[Json]:
    """Any body of a model."""
    fields = fields_of(model)
    required = {name: values(shape) for name, shape in fields.items() if not may_be_missing(shape)}
    optional = {name: values(shape) for name, shape in fields.items() if may_be_missing(shape)}
    extras = st.dictionaries(names.filter(lambda name: name not in fields), free, max_size=2)
    return st.builds(joined, st.fixed_dictionaries(required, optional=optional), extras)

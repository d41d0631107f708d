"""Functions about the types of models' fields, the unfrozen twin of a model's class, and tables of shared strings.

Both `hooks` and `quick` use them. This module does not read JSON.
"""

import types
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from evals_async._json import JSONObject, JSONValue
from evals_async.models.base import NO_NULLS, Model


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PRIMITIVES: dict[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (float, int)}
"""The Python types of a parsed document that a field type accepts.

A `bool` is not accepted as an `int`. An `int` is accepted as a `float`, and stays an `int`.
"""

UNIONS = (Union, types.UnionType)

MOST_KEPT = 1024  # entries of a `Memo`
LONGEST_SHARED = 128  # characters of a string that is shared


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
    """Return whether it is the type of free-form JSON, which is not converted."""
    return shape in (JSONValue, JSONObject)


def is_optional(shape: Any) -> bool:
    """Return whether a field of this type may be missing or null."""
    return shape == JSONValue or (is_union(shape) and type(None) in get_args(shape))


def union_of(members: list[Any]) -> Any:
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


def without_none(shape: Any) -> Any:
    """Return the type without `None`."""
    if not is_union(shape):
        return shape
    return union_of([member for member in get_args(shape) if member is not type(None)])


def literals(shape: Any) -> dict[str, str]:
    """Return the values of a Literal, or of all Literals in a union. Each maps to the object that models share."""
    members = get_args(shape) if is_union(shape) else (shape,)
    return {value: value for member in members if is_literal(member) for value in get_args(member)}


def is_open_literal(shape: Any) -> bool:
    """Return whether it is a union of Literals and `str`: some known strings, and any other string."""
    members = get_args(shape) if is_union(shape) else ()
    return str in members and bool(literals(shape)) and all(m is str or is_literal(m) for m in members)


def tags_of(model: type[Model]) -> tuple[str, ...] | None:
    """Return the values of a model's closed `type` tag, or `None` if it has no closed tag.

    If the tag is optional, the values include `""` for a missing tag.
    """
    for field in attrs.fields(model):
        if field.name == "type":
            members = get_args(field.type) if is_union(field.type) else (field.type,)
            if str in members:
                return None
            tags = tuple(literals(field.type))
            return (*tags, "") if type(None) in members else tags
    return None


def wire_name(field: "attrs.Attribute[Any]") -> str:
    """Return the name of the field in JSON."""
    name: str = field.metadata.get("wire", field.name)
    return name


def wire_fields(model: type[Model]) -> "list[attrs.Attribute[Any]]":
    """Return the fields of a model that are in its JSON: all except `extra` and `nulls`."""
    return [field for field in attrs.fields(model) if field.name not in ("extra", "nulls")]


def unfrozen(model: type[Model]) -> type:
    """Return the unfrozen twin of a model's class: a subclass with the same layout, whose fields can be assigned.

    An object is made as the twin, filled by assignment, and then its `__class__` becomes `model`. This takes a third of
    the time of the frozen `__init__`. CPython allows this assignment between classes of the same layout. A test checks
    it for every model.
    """
    deferred = [field.name for field in wire_fields(model) if field.metadata.get("deferred")]
    plain = {
        # The slots of deferred fields, without their properties.
        **{name: getattr(model, name).fset.__self__ for name in deferred},
        # Both are needed: they share one slot of the type. With only one, each assignment calls a Python function.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
        "__init__": object.__init__,
    }
    return type(model.__name__, (model,), {"__slots__": (), **plain})


class Memo(dict[K, V]):
    """A table of values that are made at the first access. It is cleared when it is full, so its size is bounded."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= MOST_KEPT:
            self.clear()
        return self.setdefault(key, self.make(key))


class Strings(dict[str, str]):
    """A table with one object for equal strings, because names of models and graders are repeated in every run."""

    def __missing__(self, text: str) -> str:
        if len(text) > LONGEST_SHARED:
            return text
        if len(self) >= MOST_KEPT:
            self.clear()
        return self.setdefault(text, text)


shared_strings = Strings()
shared_names: Memo[frozenset[str], frozenset[str]] = Memo(lambda names: names or NO_NULLS)
"""Sets of the names of null fields. Many runs have equal sets, which are one object."""

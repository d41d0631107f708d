"""Questions about the types that fields of models have, and the unfrozen twin of a model's class.

`hooks` and `quick` both read models by these answers; nothing here reads JSON.
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
"""Which Python types of a parsed document a field type takes.

`bool` is no `int` here, and an `int` is a fine `float`, kept as it is.
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
    """Is it JSON that passes through untouched?"""
    return shape in (JSONValue, JSONObject)


def is_optional(shape: Any) -> bool:
    """May a field of that type be missing, or null?"""
    return shape == JSONValue or (is_union(shape) and type(None) in get_args(shape))


def union_of(members: list[Any]) -> Any:
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


def without_none(shape: Any) -> Any:
    """The type without `None`: what a value must be that is there."""
    if not is_union(shape):
        return shape
    return union_of([member for member in get_args(shape) if member is not type(None)])


def literals(shape: Any) -> dict[str, str]:
    """The values of a Literal, or of all Literals in a union, each leading to the one object that all models share."""
    members = get_args(shape) if is_union(shape) else (shape,)
    return {value: value for member in members if is_literal(member) for value in get_args(member)}


def is_open_literal(shape: Any) -> bool:
    """Is it a union of Literals and `str`: certain words, and any other?"""
    members = get_args(shape) if is_union(shape) else ()
    return str in members and bool(literals(shape)) and all(m is str or is_literal(m) for m in members)


def tags_of(model: type[Model]) -> tuple[str, ...] | None:
    """The values of a model's closed `type` tag; `None` for a model without one.

    An optional tag contributes "" for "no tag".
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
    """The field's name in JSON."""
    name: str = field.metadata.get("wire", field.name)
    return name


def wire_fields(model: type[Model]) -> "list[attrs.Attribute[Any]]":
    """The fields of a model that stand in its JSON: all but the two book-keeping ones of `Model`."""
    return [field for field in attrs.fields(model) if field.name not in ("extra", "nulls")]


def unfrozen(model: type[Model]) -> type:
    """The unfrozen twin of a model's class: a subclass of the same layout, whose instances can be filled by plain
    assignment, and then be declared to be of `model`.

    That takes a third of the time of the frozen `__init__`. CPython allows it (`__class__` assignment between classes
    of the same layout, which it sees at once where one adds nothing to the other); a test holds every model to it.
    """
    deferred = [field.name for field in wire_fields(model) if field.metadata.get("deferred")]
    plain = {
        # The slots of deferred fields, without their properties.
        **{name: getattr(model, name).fset.__self__ for name in deferred},
        # Both, or CPython goes through Python for every assignment: the two share one slot of the type.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
        "__init__": object.__init__,
    }
    return type(model.__name__, (model,), {"__slots__": (), **plain})


class Memo(dict[K, V]):
    """Values that are made when they are first asked for. When it is full, it is emptied: it never grows for ever."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= MOST_KEPT:
            self.clear()
        return self.setdefault(key, self.make(key))


class Strings(dict[str, str]):
    """One object for equal strings: the names of models and graders repeat in every run that is kept."""

    def __missing__(self, text: str) -> str:
        if len(text) > LONGEST_SHARED:
            return text
        if len(self) >= MOST_KEPT:
            self.clear()
        return self.setdefault(text, text)


shared_strings = Strings()
shared_names: Memo[frozenset[str], frozenset[str]] = Memo(lambda names: names or NO_NULLS)
"""The names of fields that are null: a hundred thousand runs have the same handful of sets."""

"""Hooks for unions: one look at the value's JSON type, and for objects one at the tag.

A union is open where `Unknown` is a member: an object with another tag, or one that lacks what its class requires, is
kept whole as `Unknown`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs

from evals_async.codec.leaves import PRIMITIVES, Hook, is_model, is_union
from evals_async.codec.mismatch import Incomplete, Mismatch, choice, json_type, wrong
from evals_async.models.base import Model, Unknown


def tags_of(model: type[Model]) -> tuple[str, ...] | None:
    """The values of a model's closed `type` tag; `None` for a model without one.

    An optional tag contributes "" for "no tag".
    """
    for field in attrs.fields(model):
        if field.name == "type":
            members = get_args(field.type) if is_union(field.type) else (field.type,)
            if str in members:
                return None
            tags = [tag for member in members if get_origin(member) is Literal for tag in get_args(member)]
            return (*tags, "") if type(None) in members else tuple(tags)
    return None


class Alternatives:
    """The members of a union, sorted by the kind of JSON value that each of them takes."""

    def __init__(self, shape: Any) -> None:
        self.tagged: dict[str, Any] = {}
        self.untagged: Any = None
        self.open = False
        self.by_type: dict[type, Any] = {}
        for member in get_args(shape):
            self.sort_in(member)

    def sort_in(self, member: Any) -> None:
        if member is Unknown:
            self.open = True
        elif is_model(member):
            tags = tags_of(member)
            self.tagged.update(dict.fromkeys(tags or (), member))
            if tags is None or "" in tags:
                self.untagged = member
        elif get_origin(member) is Mapping:
            self.untagged = member
        elif get_origin(member) is tuple:
            self.by_type[list] = member
        elif get_origin(member) is Literal:
            self.by_type.setdefault(str, member)
        elif member is type(None):
            self.by_type[type(None)] = member
        else:
            self.by_type.update(dict.fromkeys(PRIMITIVES[member], member))

    @property
    def expected(self) -> str:
        kinds = [json_type(kind()) for kind in self.by_type]
        if self.tagged or self.untagged is not None or self.open:
            kinds.append("object")
        return " or ".join(kinds)


def union_hook(shape: Any, converter: cattrs.BaseConverter) -> Hook:
    """A dispatcher for `shape`.

    The hooks of its members are fetched when a value first needs them, so that unions may be recursive, and what never
    comes costs nothing.
    """
    alternatives = Alternatives(shape)
    by_type = alternatives.by_type
    plain = frozenset(kind for kind, member in by_type.items() if not get_origin(member))
    hooks: dict[Any, Hook] = {}

    def hook_for(member: Any) -> Hook:
        if member not in hooks:
            hooks[member] = converter.get_structure_hook(member)
        return hooks[member]

    structure_object = object_hook(alternatives, hook_for)

    def structure_union(value: Any, _: Any) -> Any:
        kind: type[object] = type(value)
        if kind in plain:
            return value
        if kind is dict and structure_object is not None:
            return structure_object(value)
        if kind not in by_type:
            raise Mismatch(alternatives.expected, json_type(value))
        member = by_type[kind]
        return hook_for(member)(value, member)

    return structure_union


def object_hook(alternatives: Alternatives, hook_for: Callable[[Any], Hook]) -> Callable[[dict[str, Any]], Any] | None:
    """The part of a dispatcher that takes objects, if any member does."""
    tagged, untagged, is_open = alternatives.tagged, alternatives.untagged, alternatives.open
    if not tagged and untagged is None and not is_open:
        return None

    ready: dict[str, Hook] = {}

    def structure_object(value: dict[str, Any]) -> Any:
        tag = value.get("type")
        hook = ready.get(tag) if type(tag) is str else None
        if hook is None:
            member = member_for(tag)
            if member is None:
                return Unknown(type=tag if isinstance(tag, str) else None, raw=value)
            hook = hook_for(member)
            if isinstance(tag, str) and tag in tagged:
                ready[tag] = hook
        try:
            return hook(value, None)
        except Incomplete:
            if not is_open:
                raise
        return Unknown(type=tag if isinstance(tag, str) else None, raw=value)

    def member_for(tag: object) -> Any:
        member = tagged.get(tag) if isinstance(tag, str) else None
        if member is None and not (is_open and isinstance(tag, str)):
            member = untagged
        if member is None and not is_open:
            raise wrong(".type", choice(tagged), tag)
        return member

    return structure_object

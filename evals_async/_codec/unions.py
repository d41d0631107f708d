"""Hooks for unions: the JSON type of the value, and the tag of an object, select the member.

A union with the member `Unknown` is open: an object with another tag, or without a required field, becomes an
`Unknown`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from evals_async._codec.hooks import Hook, open_literal_hook
from evals_async._codec.mismatch import Incomplete, Mismatch, choice, json_type, wrong
from evals_async._codec.shapes import PRIMITIVES, is_model, is_open_literal, tags_of
from evals_async.models.base import Unknown


if TYPE_CHECKING:
    from cattrs import BaseConverter


class Alternatives:
    """The members of a union, by the kind of JSON value that each member accepts."""

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
        if self.takes_objects:
            kinds.append("object")
        return " or ".join(kinds)

    @property
    def takes_objects(self) -> bool:
        return bool(self.tagged) or self.untagged is not None or self.open

    def member_for(self, tag: object) -> Any:
        """Return the member for an object with this tag, or `None` if only `Unknown` accepts it."""
        member = self.tagged.get(tag) if isinstance(tag, str) else None
        if member is None and not (self.open and isinstance(tag, str)):
            member = self.untagged
        if member is None and not self.open:
            raise wrong(".type", choice(self.tagged), tag)
        return member


def union_hook(shape: Any, converter: "BaseConverter") -> Hook:
    """Return the hook of a union.

    The hook of a member is made when a value first needs it. So unions may be recursive, and unused members cost
    nothing.
    """
    if is_open_literal(shape):
        return open_literal_hook(shape)
    alternatives = Alternatives(shape)
    by_type = alternatives.by_type
    plain = frozenset(kind for kind, member in by_type.items() if not get_origin(member))
    structure_object = object_hook(alternatives, converter)

    def structure_union(value: Any, _: Any) -> Any:
        kind = cast("type[object]", type(value))
        if kind in plain:
            return value
        if kind is dict and alternatives.takes_objects:
            return structure_object(value, None)
        if kind not in by_type:
            raise Mismatch(alternatives.expected, json_type(value))
        return converter.get_structure_hook(by_type[kind])(value, None)

    # Most unions have only objects as members, so only the tag is checked.
    return structure_union if by_type else structure_object


def object_hook(alternatives: Alternatives, converter: "BaseConverter") -> Hook:
    """Return the hook for the objects of a union, by their tags."""
    ready: dict[object, Hook] = {}

    def prepare(tag: object) -> Hook:
        member = alternatives.member_for(tag)
        if member is None:
            return unknown
        hook = converter.get_structure_hook(member)
        if isinstance(tag, str) and tag in alternatives.tagged:  # unknown tags are not stored: the table stays small
            ready[tag] = hook
        return hook

    def structure_object(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(alternatives.expected, json_type(value))
        entries = cast("dict[str, object]", value)
        tag = entries.get("type")
        try:
            return ((ready.get(tag) if type(tag) is str else None) or prepare(tag))(entries, None)
        except Incomplete:
            if not alternatives.open:
                raise
        return unknown(entries, None)

    return structure_object


def unknown(value: dict[str, object], _: Any) -> Unknown:
    tag = value.get("type")
    return Unknown(type=tag if isinstance(tag, str) else None, raw=value)

"""Unions: told apart by tag or by kind of value, open where a class for the rest is missing, recursive too."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs
import pytest

from evals_async._codec import encode, structure
from evals_async._json import JSONObject
from evals_async.errors import DecodeError
from evals_async.models import Model, Unknown


@attrs.frozen(kw_only=True, repr=False)
class Circle(Model):
    type: Literal["circle"] = "circle"
    radius: float


@attrs.frozen(kw_only=True, repr=False)
class Square(Model):
    type: Literal["square", "rectangle"]
    sides: tuple[int, ...]
    label: "Literal['a', 'b'] | str | None" = None


@attrs.frozen(kw_only=True, repr=False)
class Group(Model):
    type: Literal["group"] = "group"
    members: "tuple[Shape, ...]" = attrs.field(hash=False)
    named: "Mapping[str, Shape] | None" = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class Untagged(Model):
    width: int


Shape: TypeAlias = Circle | Square | Group | Unknown
Closed: TypeAlias = Circle | Square
Several: TypeAlias = str | int | tuple[Circle, ...] | Circle | Mapping[str, int] | None
WithUntagged: TypeAlias = Circle | Untagged
Free: TypeAlias = str | JSONObject

attrs.resolve_types(Group, globals())
attrs.resolve_types(Square, globals())


def made(value: object, shape: Any) -> Any:
    return structure(value, shape)


def refused(value: object, shape: Any) -> tuple[str, str, str]:
    with pytest.raises(DecodeError) as caught:
        structure(value, shape)
    return caught.value.at, caught.value.expected, caught.value.got


def test_by_tag() -> None:
    """The tag decides; a class may have several."""
    assert Circle(radius=1) == made({"type": "circle", "radius": 1}, Shape)
    assert Square(type="rectangle", sides=(1, 2)) == made({"type": "rectangle", "sides": [1, 2]}, Shape)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "triangle", "angles": [1]},
        {"type": "Circle", "radius": 1},
        {"type": 7},
        {"type": None},
        {"type": ["circle"]},
        {"radius": 1},
        {},
    ],
)
def test_unknown_tags_of_open_unions(value: dict[str, Any]) -> None:
    """An object of another kind is kept as it is, and is never taken for one that it may resemble."""
    unknown = made(value, Shape)
    assert Unknown(type=tag if isinstance(tag := value.get("type"), str) else None, raw=value) == unknown
    assert value == encode(unknown)


@pytest.mark.parametrize("value", [{"type": "circle"}, {"type": "circle", "radius": None}, {"type": "square"}])
def test_incomplete_variants(value: dict[str, Any]) -> None:
    """A variant that lacks what its class requires is kept as `Unknown` where that may be, and refused where not."""
    assert Unknown(type=value["type"], raw=value) == made(value, Shape)
    at, _, got = refused(value, Closed)
    assert at in ("$.radius", "$.sides")
    assert got == ("null" if "radius" in value else "nothing")


def test_wrong_types_in_variants() -> None:
    """A wrong type is a mistake, not another variant: it is refused with its place, in open unions too."""
    assert ("$.radius", "float", "str") == refused({"type": "circle", "radius": "1"}, Shape)
    assert ("$.sides[1]", "int", "float") == refused({"type": "square", "sides": [1, 1.5]}, Shape)


def test_incomplete_parts_make_the_nearest_union_unknown() -> None:
    """What is unknown stays small: the nearest union around it, and nothing above."""
    value = {"type": "group", "members": [{"type": "circle", "radius": 1}, {"type": "circle"}]}
    group = made(value, Shape)
    assert (Circle(radius=1), Unknown(type="circle", raw={"type": "circle"})) == group.members
    assert value == encode(group)


@pytest.mark.parametrize("value", ["circle", 7, 1.5, True, None, [], [{}]])
def test_what_is_no_object(value: object) -> None:
    """An open union of objects is open for objects only."""
    at, expected, _ = refused(value, Shape)
    assert ("$", "object") == (at, expected)


def test_closed_unions() -> None:
    """A closed union names the tags that it knows."""
    tags = "'circle' or 'square' or 'rectangle'"
    assert ("$.type", tags, "'triangle'") == refused({"type": "triangle"}, Closed)
    assert ("$.type", tags, "int") == refused({"type": 7}, Closed)
    assert ("$.type", tags, "null") == refused({}, Closed)


def test_by_kind_of_value() -> None:
    """Strings, numbers, arrays, objects and null each have their member; a bool is no number."""
    values: list[tuple[object, object]] = [
        ("x", "x"),
        (7, 7),
        (None, None),
        ([{"type": "circle", "radius": 1}], (Circle(radius=1),)),
        ({"type": "circle", "radius": 1}, Circle(radius=1)),
        ({"a": 1}, {"a": 1}),
    ]
    for value, expected in values:
        assert expected == made(value, Several)
    assert ("$", "str or int or array or null or object", "bool") == refused(True, Several)
    assert ("$[0].radius", "float", "bool") == refused([{"type": "circle", "radius": True}], Several)
    assert ("$.a", "int", "str") == refused({"a": "x"}, Several)


def test_a_member_without_a_tag() -> None:
    """One member may have no tag: it takes every object that has none."""
    assert Untagged(width=1) == made({"width": 1}, WithUntagged)
    assert Circle(radius=1) == made({"type": "circle", "radius": 1}, WithUntagged)


def test_free_form_members() -> None:
    """Free-form objects pass through untouched, as the very object that was parsed."""
    value = {"any": [{"thing": None}]}
    assert value is made(value, Free)
    assert "x" == made("x", Free)


def test_recursive_unions() -> None:
    """A union may hold itself, at any depth; the path of a mistake leads all the way down."""
    inner: dict[str, Any] = {"type": "circle", "radius": 1}
    for depth in range(100):
        named = {"n": inner}
        inner = {"type": "group", "members": [] if depth % 2 else [inner]} | ({"named": named} if depth % 2 else {})
    value = inner
    assert value == encode(made(value, Shape))
    bottom = inner
    path = "$"
    while bottom["type"] == "group":
        path += ".members[0]" if bottom["members"] else ".named.n"
        bottom = bottom["members"][0] if bottom["members"] else bottom["named"]["n"]
    bottom["radius"] = "wide"
    assert (f"{path}.radius", "float", "str") == refused(value, Shape)


def test_words_that_are_known_or_not() -> None:
    """An open word is any string, and those that are known are shared."""
    words = ["a", chr(97), "zebra"]
    squares = [made({"type": "square", "sides": [], "label": word}, Shape) for word in words]
    assert words == [square.label for square in squares]
    assert squares[0].label is squares[1].label
    assert ("$.label", "str", "int") == refused({"type": "square", "sides": [], "label": 7}, Shape)

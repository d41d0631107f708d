"""`Mismatch`: a JSON value that is not what a field wants, and the path to it.

Only this package sees it; callers get a `DecodeError`.
"""

from collections.abc import Iterable
from typing import Any, Self


JSON_TYPES: dict[type, str] = {
    str: "str",
    bool: "bool",
    int: "int",
    float: "float",
    dict: "object",
    list: "array",
    type(None): "null",
}


def json_type(value: object) -> str:
    """The name that a value's JSON type has in error messages."""
    return JSON_TYPES.get(type(value), type(value).__name__)


def choice(values: Iterable[str]) -> str:
    """How error messages name what a closed Literal allows."""
    return " or ".join(map(repr, values))


def met(expected: str, value: object) -> str:
    """What came: the value itself where certain strings were expected, else its type."""
    return repr(value)[:80] if expected.startswith("'") and type(value) is str else json_type(value)


class Mismatch(Exception):
    """A value does not fit.

    `steps` is the way to it, innermost first, as it is collected while the exception passes upwards.
    """

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self.steps: list[str] = []

    def within(self, step: str) -> Self:
        self.steps.append(step)
        return self

    @property
    def path(self) -> str:
        return "$" + "".join(reversed(self.steps))


class Incomplete(Mismatch):
    """A required field is missing or null.

    A union answers it with `Unknown`: the object is kept, and no class is claimed for it.
    """


def wrong(step: str, expected: str, value: Any) -> Mismatch:
    """The mismatch of a field's value; `step` is `.name`."""
    return Mismatch(expected, met(expected, value)).within(step)


def required(step: str, expected: str, is_null: bool) -> Incomplete:
    """The mismatch of a required field that is null or not there."""
    return Incomplete(expected, "null" if is_null else "nothing").within(step)

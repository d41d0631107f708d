"""`Mismatch`: the error for a JSON value that does not fit its field, with the path of the value.

It is internal to this package: callers receive a `DecodeError`.
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
    """Return the name of a value's JSON type for an error message."""
    return JSON_TYPES.get(type(value), type(value).__name__)


def choice(values: Iterable[str]) -> str:
    """Return the allowed values of a closed Literal for an error message."""
    return " or ".join(map(repr, values))


def met(expected: str, value: object) -> str:
    """Return the received value for an error message: the value itself if certain strings were expected, or else its
    type.
    """
    return repr(value)[:80] if expected.startswith("'") and type(value) is str else json_type(value)


class Mismatch(Exception):
    """A value does not fit its field.

    `steps` is the path of the value, the innermost step first. Each caller adds its step while the exception passes.
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
    """A required field is missing or null. An open union then returns the object as `Unknown`."""


def wrong(step: str, expected: str, value: Any) -> Mismatch:
    """Return the mismatch for the value of a field. `step` is `.name`."""
    return Mismatch(expected, met(expected, value)).within(step)


def required(step: str, expected: str, is_null: bool) -> Incomplete:
    """Return the mismatch for a required field that is null or missing."""
    return Incomplete(expected, "null" if is_null else "nothing").within(step)

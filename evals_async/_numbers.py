"""Checks of numbers that users pass, before any I/O."""

import math
import operator
from typing import Any

from evals_async.errors import InvalidArgument


def whole_number(value: object, name: str, *, least: int = 1) -> int:
    """Validate a whole number of at least `least`, of any integer type (also numpy's).

    Raises `InvalidArgument`, which names the argument. A `bool` and a `str` are refused: `"5"` may be a mistake.
    """
    number: Any = value
    try:
        found = None if isinstance(value, bool) else operator.index(number)
    except TypeError:
        found = None
    if found is None:
        raise InvalidArgument(f"{name} must be a whole number, not {shown(value)}")
    if found < least:
        raise InvalidArgument(f"{name} must be at least {least}, got {found}")
    return found


def seconds(value: object, name: str) -> float:
    """Validate a number of seconds from 0, of any numeric type. Raises `InvalidArgument`, which names the argument."""
    number: Any = value
    textual = isinstance(value, bool | str | bytes | bytearray)
    try:
        found = None if textual else float(number)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found != found:  # noqa: PLR0124  # NaN
        raise InvalidArgument(f"{name} must be a number of seconds, not {shown(value)}")
    if found < 0:
        raise InvalidArgument(f"{name} must not be negative, got {found:g}")
    return number if isinstance(number, int) else found  # keeps an int, so that messages show it as given


def float_of(value: float) -> float:
    """Return a number of JSON as a float. Integers have any size in JSON: one that is too large becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '...'} ({type(value).__name__})"

"""JSON text to values and back: the only doorway to the JSON library.

msgspec does the work; the standard library takes over where msgspec is not installed, and for the documents that
msgspec refuses although they are JSON (a lone surrogate). Both ways `NaN`, `Infinity` and numbers beyond a float's
range are refused, and integers of any size stay exact integers. Nothing here knows of models.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeAlias, cast


# Not recursive: type hints that name themselves cannot be resolved at run time by attrs, Sphinx and the like, outside
# this module.
JSONValue: TypeAlias = Mapping[str, object] | Sequence[object] | str | int | float | bool | None
JSONObject: TypeAlias = Mapping[str, object]


def as_object(value: object) -> JSONObject | None:
    """The value of a JSON document, if it is an object. (After `isinstance`, type checkers only half know what it is.)"""
    return cast("JSONObject", value) if isinstance(value, Mapping) else None


def as_array(value: object) -> Sequence[object] | None:
    """The value of a JSON document, if it is an array."""
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else None


class NotJSON(ValueError):
    """The bytes are no JSON document. The text says why, in the parser's words."""


def refuse_constant(text: str) -> NoReturn:
    raise NotJSON(f"{text} is not JSON")


def finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJSON(f"the number {text[:40]} is out of range")
    return value


def parse_with_stdlib(data: bytes) -> JSONValue:
    try:
        value: JSONValue = json.loads(data, parse_constant=refuse_constant, parse_float=finite_float)
    except RecursionError:
        raise NotJSON("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise NotJSON(str(error)) from None
    return value


parse_fast: Callable[[bytes], JSONValue]
try:
    import msgspec
except ImportError:  # a platform without a wheel: slower, not different
    parse_fast = parse_with_stdlib
else:
    parse_fast = msgspec.json.Decoder().decode


def parse(data: bytes) -> JSONValue:
    """The value of a JSON document; of duplicate keys the last one wins (RFC 8259 leaves it open).

    A byte order mark is skipped. Raises `NotJSON`, whatever is wrong with the bytes: empty, cut short, not UTF-8,
    nested too deeply.
    """
    try:
        return parse_fast(data)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        # The second look costs only documents that are broken, or that msgspec is stricter about than RFC 8259.
        return parse_with_stdlib(data)


def dump(value: JSONValue) -> bytes:
    """The compact UTF-8 text of a value. Raises `NotJSON` for what has none: NaN, an object that is no JSON value."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: only its escape can be sent
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from None


def canonical(value: JSONValue) -> bytes:
    """The one text of a value:

    sorted keys, no spaces, ASCII. Two values are the same JSON exactly when these bytes are equal.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()

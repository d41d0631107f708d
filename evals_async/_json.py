"""JSON text to values and back.

msgspec does the work; the standard library takes over for the documents that msgspec refuses although they are JSON (a
lone surrogate). Both ways `NaN`, `Infinity` and numbers beyond a float's range are refused, and integers of any size
stay exact integers. `members` and `elements` cut a document into the exact texts of its parts, for those who keep what
came as it came. Nothing here knows of models.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NoReturn, TypeAlias, cast

import msgspec


# Not recursive: type hints that name themselves cannot be resolved at run time by attrs, Sphinx and the like, outside
# this module.
JSONValue: TypeAlias = Mapping[str, object] | Sequence[object] | str | int | float | bool | None
JSONObject: TypeAlias = Mapping[str, object]

ARRAYS = (list, tuple)


def as_object(value: object) -> JSONObject | None:
    """The value of a JSON document, if it is an object. (Type checkers only half know it after `isinstance`.)"""
    # A dict is looked at first: to ask an abstract class takes ten times as long.
    return cast("JSONObject", value) if type(value) is dict or isinstance(value, Mapping) else None


def as_array(value: object) -> Sequence[object] | None:
    """The value of a JSON document, if it is an array."""
    return cast("Sequence[object]", value) if isinstance(value, ARRAYS) else None


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
        # Decoded here: json.loads takes UTF-16 too, and surrogates encoded as if they were characters.
        text = data.decode("utf-8-sig")
        value: JSONValue = json.loads(text, parse_constant=refuse_constant, parse_float=finite_float)
    except RecursionError:
        raise NotJSON("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise NotJSON(str(error)) from None
    return value


# A string, however long, or what opens, closes and divides. Possessive, so that no text makes it slow.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def cut(data: bytes, ends: bytes) -> list[bytes]:
    """The parts of an object or array, as they stand between its commas; `ends` are its two brackets.

    Looks at strings and brackets only: of any depth, and whatever is wrong inside a part stays in that part.
    """
    text = data.removeprefix(BYTE_ORDER_MARK).strip()
    if text[:1] != ends[:1]:
        raise NotJSON(f"expected {ends[:1].decode()!r}")
    depth, begin, parts = 0, 1, list[bytes]()
    for token in TOKEN.finditer(text):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
            if not depth:
                if mark != ends[1:] or token.end() != len(text):
                    break
                last = text[begin : token.start()].strip()
                return [*parts, last] if last or parts else []
        elif mark == b'"':  # a string without an end
            break
        elif mark == b"," and depth == 1:
            parts.append(text[begin : token.start()].strip())
            begin = token.end()
    raise NotJSON("brackets or quotes do not match")


def members_by_hand(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in cut(data, b"{}"):
        key = TOKEN.match(part)
        name = parse(key[0]) if key else None
        rest = part[key.end() :].lstrip() if key else b""
        if not isinstance(name, str) or rest[:1] != b":":
            raise NotJSON("a member without a name")
        found[name] = rest[1:].lstrip()
    return found


def elements_by_hand(data: bytes) -> list[bytes]:
    return cut(data, b"[]")


parse_fast: Callable[[bytes], JSONValue] = msgspec.json.Decoder().decode
# A Raw is a view of the bytes that were not decoded.
members_fast = cast("Callable[[bytes], Mapping[str, memoryview]]", msgspec.json.Decoder(dict[str, msgspec.Raw]).decode)
elements_fast = cast("Callable[[bytes], Sequence[memoryview]]", msgspec.json.Decoder(list[msgspec.Raw]).decode)


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


def members(data: bytes) -> dict[str, bytes]:
    """The exact text of each member of a JSON object, by name; of duplicate names the last one stands.

    The texts are not looked into: one that is no JSON harms no other. Raises `NotJSON` for a broken object.
    """
    try:
        return {name: bytes(text) for name, text in members_fast(data).items()}
    except (ValueError, RecursionError):
        return members_by_hand(data)


def elements(data: bytes) -> list[bytes]:
    """The exact text of each element of a JSON array; otherwise as `members`."""
    try:
        return [bytes(text) for text in elements_fast(data)]
    except (ValueError, RecursionError):
        return elements_by_hand(data)


@cache
def encoder(*, ascii_only: bool, sort_keys: bool = False, indent: int | None = None) -> Callable[[object], str]:
    """The encoder of one form; `json.dumps` makes one for each value. A cycle is a `RecursionError`."""
    separators = (",", ":") if indent is None else None
    return json.JSONEncoder(
        ensure_ascii=ascii_only,
        allow_nan=False,
        check_circular=False,
        sort_keys=sort_keys,
        indent=indent,
        separators=separators,
    ).encode


def text_of(value: JSONValue, *, ascii_only: bool, sort_keys: bool = False, indent: int | None = None) -> str:
    try:
        return encoder(ascii_only=ascii_only, sort_keys=sort_keys, indent=indent)(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from None


def dump(value: JSONValue, *, indent: int | None = None) -> bytes:
    """The UTF-8 text of a value, on one line or indented. Raises `NotJSON` for what has none: NaN, an object
    that is no JSON value.
    """
    try:
        return text_of(value, ascii_only=False, indent=indent).encode()
    except UnicodeEncodeError:  # a lone surrogate: only its escape can be sent
        return text_of(value, ascii_only=True, indent=indent).encode()


def canonical(value: JSONValue) -> bytes:
    """The one text of a value: sorted keys, no spaces, ASCII. Raises `NotJSON`, as `dump` does.

    Two values are the same JSON exactly when these bytes are equal.
    """
    return text_of(value, ascii_only=True, sort_keys=True).encode()

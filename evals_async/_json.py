"""JSON text to values and back.

msgspec decodes and encodes. The standard library decodes the documents that msgspec refuses although they are JSON (a
lone surrogate). Both refuse `NaN`, `Infinity` and numbers beyond the range of a float. Integers of any size are exact.
`members` and `elements` cut a document into the exact texts of its parts, for code that stores the received text.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, TypeAlias, cast

import msgspec


# Not recursive: outside this module, attrs and Sphinx cannot resolve recursive type hints at run time.
JSONValue: TypeAlias = Mapping[str, object] | Sequence[object] | str | int | float | bool | None
JSONObject: TypeAlias = Mapping[str, object]

ARRAYS = (list, tuple)
OBJECTS = frozenset({dict})
NO_OBJECTS = frozenset({type(None), str, int, float, bool, list, tuple})


def as_object(value: Any) -> JSONObject | None:
    """Return the value if it is a JSON object, else `None`."""
    # The types of parsed JSON are checked first: to ask an abstract class is slow. And `type`, not `isinstance`, from
    # which type checkers would infer keys and values of unknown types.
    if type(value) in OBJECTS or (type(value) not in NO_OBJECTS and issubclass(type(value), Mapping)):
        found: JSONObject = value
        return found
    return None


def as_array(value: Any) -> Sequence[object] | None:
    """Return the value if it is a JSON array, else `None`."""
    if not issubclass(type(value), ARRAYS):
        return None
    found: Sequence[object] = value
    return found


class NotJSON(ValueError):
    """The bytes are not a JSON document. The message is the reason that the parser gives."""


def refuse_constant(text: str) -> NoReturn:
    raise NotJSON(f"{text} is not JSON")


def finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJSON(f"the number {text[:40]} is out of range")
    return value


def parse_with_stdlib(data: bytes) -> JSONValue:
    try:
        # Decoded here, because json.loads would accept UTF-16 and encoded surrogates too.
        text = data.decode("utf-8-sig")
        value: JSONValue = json.loads(text, parse_constant=refuse_constant, parse_float=finite_float)
    except RecursionError:
        raise NotJSON("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise NotJSON(str(error)) from None
    return value


# A string, or one of the characters that open, close and separate. Possessive, so that no input makes it slow.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def cut(data: bytes, ends: bytes) -> list[bytes]:
    """Yield the parts of an object or array between its commas. `ends` are its two brackets.

    Only strings and brackets are read. So any depth is accepted, and an error inside a part does not affect other
    parts.
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
        elif mark == b'"':  # a string that does not end
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
            raise NotJSON("a member has no name")
        found[name] = rest[1:].lstrip()
    return found


def elements_by_hand(data: bytes) -> list[bytes]:
    return cut(data, b"[]")


parse_fast: Callable[[bytes], JSONValue] = msgspec.json.Decoder().decode
# A Raw is a view of bytes that were not decoded.
members_fast = cast("Callable[[bytes], Mapping[str, memoryview]]", msgspec.json.Decoder(dict[str, msgspec.Raw]).decode)
elements_fast = cast("Callable[[bytes], Sequence[memoryview]]", msgspec.json.Decoder(list[msgspec.Raw]).decode)


def parse(data: bytes) -> JSONValue:
    """Return the value of a JSON document. If a key is repeated, its last value is used.

    A byte order mark is skipped. Raises `NotJSON` if the bytes are empty, truncated, not UTF-8, nested too deeply, or
    invalid in another way.
    """
    try:
        return parse_fast(data)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        # A second parser costs time only for invalid documents, and for those where msgspec is stricter than RFC 8259.
        return parse_with_stdlib(data)


def members(data: bytes) -> dict[str, bytes]:
    """Return the exact text of each member of a JSON object, by name. If a name is repeated, its last text is used.

    The texts are not parsed, so an invalid text does not affect the others. Raises `NotJSON` for an invalid object.
    """
    try:
        return {name: bytes(text) for name, text in members_fast(data).items()}
    except (ValueError, RecursionError):
        return members_by_hand(data)


def elements(data: bytes) -> list[bytes]:
    """Return the exact text of each element of a JSON array, under the same rules as `members`."""
    try:
        return [bytes(text) for text in elements_fast(data)]
    except (ValueError, RecursionError):
        return elements_by_hand(data)


@cache
def encoder(*, ascii_only: bool, sort_keys: bool = False, indent: int | None = None) -> Callable[[object], str]:
    """Return a cached encoder for one format. `json.dumps` would make one for each value. A cycle raises
    `RecursionError`.
    """
    separators = (",", ":") if indent is None else None
    return json.JSONEncoder(
        ensure_ascii=ascii_only,
        allow_nan=False,
        check_circular=False,
        sort_keys=sort_keys,
        indent=indent,
        separators=separators,
    ).encode


ASCII = encoder(ascii_only=True)
CANONICAL = encoder(ascii_only=True, sort_keys=True)
encode_fast: Callable[[object], bytes] = msgspec.json.Encoder().encode
encode_sorted: Callable[[object], bytes] = msgspec.json.Encoder(order="sorted").encode
FLAT = frozenset({type(None), str, int, bool})  # numbers with a fraction have several notations
DELETE = b"\x7f"  # the only character of ASCII that msgspec does not escape, but the standard library does
UNFIT = (TypeError, ValueError, OverflowError, RecursionError)  # what msgspec raises for what it does not write


def text_of(value: JSONValue, write: Callable[[object], str]) -> str:
    try:
        return write(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from None


def dump(value: JSONValue, *, indent: int | None = None) -> bytes:
    """Return the UTF-8 text of a value, on one line or indented.

    Raises `NotJSON` for values that JSON does not have: NaN, and objects of other types.
    """
    if indent is None:
        # msgspec writes null for NaN, and dates and the like as strings. What is read back as an equal value is JSON.
        # To write and read takes a third of the time that the standard library takes to write.
        try:
            text = encode_fast(value)
            if parse_fast(text) == value:
                return text
        except UNFIT:
            pass  # the standard library writes it, or says what is wrong
    try:
        return text_of(value, encoder(ascii_only=False, indent=indent)).encode()
    except UnicodeEncodeError:  # a lone surrogate: it must be escaped
        return text_of(value, encoder(ascii_only=True, indent=indent)).encode()


def text_of_parsed(value: JSONValue) -> str:
    """Return the compact text of a value that `parse` made, or of dicts and lists of such values.

    It does not check what `dump` checks: floats must be finite. Raises `NotJSON` as `dump` does.
    """
    try:
        return encode_fast(value).decode()
    except UNFIT:  # a lone surrogate, an integer of 20 digits
        return text_of(value, ASCII)


def canonical(value: JSONValue) -> bytes:
    """Return the canonical text of a value: sorted keys, no spaces, ASCII.

    Two values are the same JSON exactly if these bytes are equal. Raises `NotJSON`, as `dump` does.
    """
    fields = as_object(value)
    if fields is not None and FLAT.issuperset(map(type, fields.values())):
        # msgspec writes the same text for such an object if all its characters are printable ASCII.
        try:
            text = encode_sorted(fields)
        except UNFIT:
            return text_of(value, CANONICAL).encode()
        if text.isascii() and DELETE not in text:
            return text
    return text_of(value, CANONICAL).encode()

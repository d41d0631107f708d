"""JSON text to values and back: what counts as JSON, what stays exact; msgspec makes it faster and not different."""

import datetime
import json
import math
from decimal import Decimal
from functools import reduce
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from evals_async import _json
from evals_async._json import JSONValue, NotJSON, canonical, dump, elements, members, parse, text_of_parsed


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


STDLIB = SimpleNamespace(
    parse=_json.parse_with_stdlib,
    members=_json.members_by_hand,
    elements=_json.elements_by_hand,
    dump=_json.dump,
    NotJSON=_json.NotJSON,
)
"""What stands in for msgspec, for documents that it refuses."""
BOTH = pytest.mark.parametrize("json_of", [_json, STDLIB], ids=["msgspec", "stdlib"])


READABLE: dict[str, tuple[bytes, object]] = {
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "white space around": (b" \n[1]\t\r\n", [1]),
    "duplicate keys: the last one wins": (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
    "beyond 64 bits": (b"[18446744073709551616, -9223372036854775809]", [2**64, -(2**63) - 1]),
    "4,000 digits": (b"1" * 4000, int("1" * 4000)),
    "an escaped NUL": (rb'"a\u0000b"', "a\x00b"),
    "a lone surrogate": (rb'"\ud800"', "\ud800"),
    "a surrogate pair": (rb'"\ud83d\ude00"', "😀"),
    "too small for a float": (b"1e-999", 0.0),
    "a whole number with an exponent": (b"1e2", 100.0),
}


@BOTH
@pytest.mark.parametrize(("data", "value"), READABLE.values(), ids=READABLE.keys())
def test_what_can_be_read(json_of: Any, data: bytes, value: object) -> None:
    """Unusual documents that are JSON are read, and no number loses a digit."""
    parsed = json_of.parse(data)
    assert value == parsed
    assert type(value) is type(parsed)


REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "HTML": b"<html><body>502</body></html>",
    "cut short": b'{"id": "eval_1", "na',
    "two documents": b'{"a": 1}{"a": 2}',
    "garbage after": b'{"a": 1} oops',
    "comment": b'{"a": 1} // why',
    "trailing comma": b"[1,]",
    "single quotes": b"{'a': 1}",
    "NaN": b"NaN",
    "NaN inside": b'{"score": NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "1e999": b'{"score": 1e999}',
    "-1e999": b"-1e999",
    "100,000 digits": b"1" * 100_000,
    "a raw NUL": b'"a\x00b"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without its mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "latin-1": '"é"'.encode("latin-1"),
    "a surrogate encoded as UTF-8": b'"\xed\xa0\x80"',
    "an overlong encoding": b'"\xc0\xaf"',
    "100,000 brackets": b"[" * 100_000,
    "100,000 braces": b'{"a":' * 100_000,
    "200,000 brackets, closed": b"[" * 100_000 + b"]" * 100_000,
}


@BOTH
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_json(json_of: Any, data: bytes) -> None:
    """Everything else is refused with one error, which says why in a short sentence."""
    with pytest.raises(json_of.NotJSON) as caught:
        json_of.parse(data)
    assert 0 < len(str(caught.value)) < 200


@BOTH
@given(value=values)
def test_a_value_survives_its_text(json_of: Any, value: JSONValue) -> None:
    """What is written is read again as it was, and the standard library agrees that it is JSON."""
    data = json_of.dump(value)
    assert canonical(value) == canonical(json_of.parse(data)) == canonical(json.loads(data))


pieces = st.sampled_from(
    [
        *(bytes([number]) for number in b'{}[]",:\\ \n0123456789.-+eEtrufalsn/'),
        b"\xef\xbb\xbf",
        b'"a"',
        b"\\u",
        b"\xc3",
        b"\xa9",
    ]
)


@given(data=st.lists(pieces, max_size=12).map(b"".join) | st.binary(max_size=8))
@settings(max_examples=1000)
def test_msgspec_makes_no_difference(data: bytes) -> None:
    """Any bytes are the same value, or no JSON, with msgspec and without."""
    results: list[object] = []
    for read in (parse, STDLIB.parse):
        try:
            results.append(canonical(read(data)))
        except ValueError:
            results.append("no JSON")
    assert results[0] == results[1]


def test_lone_surrogates_can_be_sent() -> None:
    """Text that UTF-8 has no bytes for goes out as its escape; all other text goes out as it is."""
    assert rb'["\ud800","\u00e9"]' == dump(["\ud800", "é"])
    assert '["é"]'.encode() == dump(["é"])


LOOP: list[object] = []
LOOP.append(LOOP)
DEEP = reduce(lambda inner, _: [inner], range(100_000), list[object]())


@pytest.mark.parametrize("write", [dump, canonical])
@pytest.mark.parametrize(
    "value",
    [
        *(math.nan, [math.inf], {"a": object()}, {"a": b"bytes"}, {(1, 2): 3}, LOOP, DEEP),
        *({"a": datetime.date(2026, 1, 1)}, [Decimal(1)], [{1}], [UUID(int=1)]),  # which msgspec would write
    ],
    ids=["nan", "inf", "object", "bytes", "key", "loop", "deep", "time", "decimal", "set", "uuid"],
)
def test_what_has_no_text(write: object, value: object) -> None:
    """What JSON has no form for is refused, in both writings alike."""
    assert callable(write)
    with pytest.raises(NotJSON):
        write(value)


@given(value=values)
def test_parsed_values_are_written_without_a_check(value: JSONValue) -> None:
    """The quick text of what was parsed is read again as it was; a lone surrogate becomes its escape."""
    assert canonical(parse(text_of_parsed(value).encode())) == canonical(value)
    assert r'["\ud800"]' == text_of_parsed(["\ud800"])


def test_canonical_text() -> None:
    """The canonical text does not depend on the order of keys, and tells numbers of different kinds apart."""
    assert rb'{"a":[1,1.0,true,null],"\u00e9":"x"}' == canonical({"é": "x", "a": [1, 1.0, True, None]})


@BOTH
@given(value=st.dictionaries(st.text(), values, max_size=4), spaced=st.booleans())
def test_members_are_exact(json_of: Any, value: dict[str, JSONValue], spaced: bool) -> None:
    """Each member of an object comes out as the very text that stood there."""
    data = json.dumps(value, indent=2 if spaced else None).encode()
    cut = json_of.members(data)
    assert value.keys() == cut.keys()
    assert all(text in data and text == text.strip() for text in cut.values())
    assert canonical(value) == canonical({name: json_of.parse(text) for name, text in cut.items()})


@BOTH
@given(value=st.lists(values, max_size=4), spaced=st.booleans())
def test_elements_are_exact(json_of: Any, value: list[JSONValue], spaced: bool) -> None:
    """Each element of an array comes out as the very text that stood there."""
    data = json.dumps(value, indent=2 if spaced else None).encode()
    cut = json_of.elements(data)
    assert all(text in data for text in cut)
    assert canonical(value) == canonical([json_of.parse(text) for text in cut])


@BOTH
def test_parts_that_are_no_json_harm_no_other(json_of: Any) -> None:
    """A part that is nested too deeply, or has a lone surrogate, is cut out like any other."""
    deep = b"[" * 2000 + b"]" * 2000
    assert {"a": deep, "b": b"1"} == json_of.members(b'\xef\xbb\xbf{"a": ' + deep + b', "b": 1}')
    assert [rb'"\ud800, ]"', b"2"] == json_of.elements(rb'["\ud800, ]", 2]')


@pytest.mark.parametrize("data", [b"", b"{", b"[1", b'{"a": 1]', b"{1: 2}", b'{"a" 1}', b"[]", b"7"])
def test_broken_objects(data: bytes) -> None:
    """What is no whole object cannot be cut into members."""
    with pytest.raises(NotJSON):
        members(data)


@pytest.mark.parametrize("data", [b"", b"[", b"[1}", b"{}", b"[1] 2", b"7"])
def test_broken_arrays(data: bytes) -> None:
    """What is no whole array cannot be cut into elements."""
    with pytest.raises(NotJSON):
        elements(data)


def test_a_value_that_holds_itself_has_no_text() -> None:
    """It is refused, like everything that is no JSON."""
    value: list[object] = []
    value.append({"again": value})
    for write in (dump, canonical):
        with pytest.raises(NotJSON):
            write(value)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_canonical_text_of_flat_objects(value: dict[str, JSONValue]) -> None:
    """Rows are mostly flat: the text of such an object is that of the standard library, character by character."""
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert canonical(value) == expected.encode()
    ascii_only = {key.encode("ascii", "ignore").decode(): "".join(map(chr, range(128))) for key in value}
    assert canonical(ascii_only) == json.dumps(ascii_only, sort_keys=True, separators=(",", ":")).encode()

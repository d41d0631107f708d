"""Exact texts: an object or an array is cut into its parts as they came, by the fast way and by hand alike."""

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evals_async import _json
from evals_async._json import NotJSON, elements, elements_by_hand, members, members_by_hand
from evals_async._store import Database, Row
from evals_async.archive.export import ledger
from evals_async.archive.verify.hashing import object_hash


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
LAYOUTS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=5), st.sampled_from(LAYOUTS))
def test_elements_are_the_texts_between_the_commas(values: list[Any], layout: dict[str, Any]) -> None:
    """Each element is a part of the document's text, and has the value that a JSON parser finds."""
    data = json.dumps(values, **layout).encode("utf-8", "surrogatepass")
    found = elements_by_hand(data)
    assert values == [json.loads(each) for each in found]
    assert all(each in data for each in found)
    assert found == elements(data)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from(LAYOUTS))
def test_members_are_the_texts_behind_the_names(values: dict[str, Any], layout: dict[str, Any]) -> None:
    """Each member is found by its name, with any value."""
    data = json.dumps(values, **layout).encode("utf-8", "surrogatepass")
    found = members_by_hand(data)
    assert values == {name: json.loads(each) for name, each in found.items()}
    assert found == members(data)


@pytest.mark.parametrize("data", [b"", b"[", b"[1", b'["a]', b"[1]]", b"[1}", b"{", b"<html>", b"[1] 2"])
def test_what_is_no_array_is_refused(data: bytes) -> None:
    """A truncated text, and a text that is not an array, raise `NotJSON`."""
    with pytest.raises(NotJSON):
        elements(data)


@pytest.mark.parametrize("data", [b"{", b'{"a":1', b'{"a"}', b"{1:2}", b'{"a":1,}', b"[]"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    """A truncated text, and a text that is not an object, raise `NotJSON`."""
    with pytest.raises(NotJSON):
        members(data)


def test_a_broken_part_stays_in_its_place() -> None:
    """An invalid element does not affect the other elements."""
    data = b'[{"a":1},{"b":NaN,"c":"\xff"},' + b"[" * 5000 + b"]" * 5000 + b'," ]"]'
    found = elements(data)
    assert [b'{"a":1}', b'{"b":NaN,"c":"\xff"}', b'" ]"'] == [found[0], found[1], found[3]]
    assert 1 == _json.parse(members(found[0])["a"])


# --- what the store remembers of a pass -------------------------------------------------------------------------------


async def test_a_file_that_came_by_itself_is_new_to_the_listing() -> None:
    """A file that was fetched because a run names it is no sign that the listing of files does not move on, and is not
    taken for missing.
    """
    async with await Database.open() as database:
        row = Row.of("files", {"id": "file-1", "purpose": "evals"})
        await database.atomic(ledger.upsert, "files", -3, [row])
        assert set() == await database.call(ledger.known, "files", (), 3, ["file-1"])
        await database.atomic(ledger.mark_missing, "files", (), 3)
        assert 0 == (await database.call(ledger.missing))["files"]
        await database.atomic(ledger.upsert, "files", 3, [row])
        assert {"file-1"} == await database.call(ledger.known, "files", (), 3, ["file-1"])
        await database.atomic(ledger.mark_missing, "files", (), 4)
        assert 1 == (await database.call(ledger.missing))["files"]


@pytest.mark.parametrize("levels", [100, 480, 700, 900])
def test_deep_json_has_a_hash(levels: int) -> None:
    """Every JSON text that can be parsed has a hash, also if it is nested deeply."""
    text = b'{"id":"x","deep":' + b"[" * levels + b"]" * levels + b"}"
    assert 64 == len(object_hash(text))

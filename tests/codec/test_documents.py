"""Bodies that are broken, odd or hostile: each is decoded or refused with `DecodeError`, and nothing else happens."""

import gzip
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from bodies import CLASSES, bodies
from hypothesis import given, settings, strategies as st

from evals_async._codec import decode, decode_page, encode, structure
from evals_async._json import canonical
from evals_async.errors import DecodeError, EvalsError
from evals_async.models import (
    DataSourceConfig,
    Eval,
    EvalRun,
    Grader,
    InputMessages,
    OutputItem,
    RunDataSource,
    WebhookEvent,
)


def refusal(data: bytes, shape: Any = EvalRun) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data, shape)
    return caught.value


BROKEN: dict[str, tuple[bytes, str]] = {
    "HTML": (b"<html><h1>502 Bad Gateway</h1></html>", "HTML"),
    "HTML after white space": (b"\r\n <!DOCTYPE html>", "HTML"),
    "nothing": (b"", "nothing"),
    "white space": (b" \n\t", "nothing"),
    "cut short": (b'{"id": "evalrun_1", "sta', "text that is no JSON"),
    "two documents": (b'{"id": "a"}{"id": "b"}', "text that is no JSON"),
    "garbage after": (b'{"id": "a"} ok', "text that is no JSON"),
    "comments": (b'{"id": "a" /* mine */}', "text that is no JSON"),
    "UTF-16": ('{"id": "a"}'.encode("utf-16"), "text that is no JSON"),
    "latin-1": ('{"id": "é"}'.encode("latin-1"), "text that is no JSON"),
    "bad UTF-8": (b'{"id": "\xff\xfe"}', "text that is no JSON"),
    "still compressed": (gzip.compress(b'{"id": "a"}'), "text that is no JSON"),
    "NaN": (b'{"id": "a", "created_at": NaN}', "text that is no JSON"),
    "Infinity": (b'{"id": "a", "created_at": Infinity}', "text that is no JSON"),
    "beyond a float": (b'{"id": "a", "metadata": {"x": 1e999}}', "text that is no JSON"),
    "100,000 digits": (b'{"id": "a", "created_at": ' + b"1" * 100_000 + b"}", "text that is no JSON"),
    "100,000 brackets": (b"[" * 100_000, "text that is no JSON"),
}


@pytest.mark.parametrize(("data", "got"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_json(data: bytes, got: str) -> None:
    """The error says what came instead, in a short line, keeps every byte, and hangs on to nothing else."""
    for error in (refusal(data), page_refusal(data)):
        assert ("$", "JSON", got, data) == (error.at, error.expected, error.got, error.body)
        assert str(error).startswith(f"DecodeError: $: expected JSON, got {got} (")
        assert len(str(error)) < 300
        assert (None, None) == (error.__cause__, error.__context__)
        assert vars(error) == vars(pickle.loads(pickle.dumps(error)))


def page_refusal(data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode_page(data, EvalRun)
    return caught.value


OTHER_JSON: dict[str, tuple[bytes, str, str, str]] = {
    "array": (b"[]", "$", "object", "array"),
    "null": (b"null", "$", "object", "null"),
    "string": (b'"id"', "$", "object", "str"),
    "number": (b"7", "$", "object", "int"),
    "fraction": (b"7.5", "$", "object", "float"),
    "true": (b"true", "$", "object", "bool"),
    "empty object": (b"{}", "$.id", "str", "nothing"),
    "an error": (b'{"error": {"message": "no"}}', "$.id", "str", "nothing"),
    "a page": (b'{"object": "list", "data": []}', "$.object", "'eval.run'", "'list'"),
    "another object": (b'{"object": "eval", "id": "e"}', "$.object", "'eval.run'", "'eval'"),
    "an id that is null": (b'{"id": null}', "$.id", "str", "null"),
    "an id that is a number": (b'{"id": 7}', "$.id", "str", "int"),
}


@pytest.mark.parametrize(("data", "at", "expected", "got"), OTHER_JSON.values(), ids=OTHER_JSON.keys())
def test_what_is_other_json(data: bytes, at: str, expected: str, got: str) -> None:
    """JSON that is no run is refused, with the place, what was expected there, and what came."""
    error = refusal(data)
    assert (at, expected, got, data) == (error.at, error.expected, error.got, error.body)
    assert f"DecodeError: {at}: expected {expected}, got {got}" == str(error)
    assert error.__context__ is None


NUMBERS: list[tuple[bytes, object]] = [
    (b"9223372036854775808", 2**63),
    (b"-9223372036854775809", -(2**63) - 1),
    (b"1" * 4000, int("1" * 4000)),
    (b"-0", 0),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS, ids=["2**63", "below -2**63", "4,000 digits", "-0"])
def test_whole_numbers_stay_whole(text: bytes, number: object) -> None:
    """A whole number of any size is exact, and goes out as it came."""
    run = decode(
        b'{"id": "r", "status": "queued", "created_at": ' + text + b', "metadata": {"n": ' + text + b"}}", EvalRun
    )
    assert (number, int, {"n": number}) == (run.created_at, type(run.created_at), run.metadata)


@pytest.mark.parametrize("text", [b"1.0", b"1e30", b"1E2", b"-0.0"])
def test_fractions_are_no_whole_numbers(text: bytes) -> None:
    """A float never passes for a count or a time, however whole it looks."""
    error = refusal(b'{"id": "r", "status": "queued", "created_at": ' + text + b"}")
    assert ("$.created_at", "int", "float") == (error.at, error.expected, error.got)


def test_numbers_where_fractions_belong() -> None:
    """A whole number is a fine score, and stays whole on its way out."""
    item = decode(
        b'{"id": "o", "status": "queued", "results": [{"name": "g", "score": 1, "passed": true}]}', OutputItem
    )
    assert item.results is not None
    assert "1" == repr(item.results[0].score)
    assert b'{"id":"o","results":[{"name":"g","passed":true,"score":1}],"status":"queued"}' == canonical(encode(item))


ODD: dict[str, tuple[bytes, str]] = {
    "byte order mark": (b'\xef\xbb\xbf{"id": "r", "status": "queued"}', "r"),
    "white space around": (b'\n {"id": "r", "status": "queued"} \r\n', "r"),
    "a lone surrogate": (rb'{"id": "r\ud800", "status": "s"}', "r\ud800"),
    "NUL": (rb'{"id": "r\u0000", "status": "s"}', "r\x00"),
    "duplicate keys": (b'{"id": "first", "id": "r", "status": "s"}', "r"),
    "an emoji": (rb'{"id": "\ud83d\ude00", "status": "s"}', "😀"),
}


@pytest.mark.parametrize(("data", "run_id"), ODD.values(), ids=ODD.keys())
def test_what_is_odd_but_json(data: bytes, run_id: str) -> None:
    """What is odd is decoded, and can be written and read again; of duplicate keys the last one wins."""
    run = decode(data, EvalRun)
    assert run_id == run.id
    assert run == decode(canonical(encode(run)), EvalRun)


def test_one_odd_item_does_not_spoil_a_page() -> None:
    """A lone surrogate or a NUL in one item leaves the page usable."""
    page = decode_page(
        rb'{"data": [{"id": "1", "status": ""}, {"id": "2", "status": "", "name": "\ud800\u0000"}], "has_more": null}',
        EvalRun,
    )
    assert ["1", "2"] == [run.id for run in page]


PAGES: dict[str, tuple[bytes, str, str]] = {
    "no data": (b'{"object": "list"}', "$.data", "nothing"),
    "null data": (b'{"data": null}', "$.data", "null"),
    "data that is no array": (b'{"data": {}}', "$.data", "object"),
    "an item that is no object": (b'{"data": [{"id": "1", "status": "queued"}, 7]}', "$.data[1]", "int"),
    "a mistake in an item": (
        b'{"data": [{"id": "1", "status": "queued"}, {"id": "2", "status": 7}]}',
        "$.data[1].status",
        "int",
    ),
    "has_more that is none": (b'{"data": [], "has_more": "yes"}', "$.has_more", "str"),
    "has_more that is a number": (b'{"data": [], "has_more": 1}', "$.has_more", "int"),
    "a cursor that is none": (b'{"data": [], "last_id": 7}', "$.last_id", "int"),
    "one object": (b'{"object": "eval.run", "id": "r", "status": "queued"}', "$.object", "'eval.run'"),
    "an array": (b"[]", "$", "array"),
}


@pytest.mark.parametrize(("data", "at", "got"), PAGES.values(), ids=PAGES.keys())
def test_what_is_no_page(data: bytes, at: str, got: str) -> None:
    """A page that cannot be trusted is refused, with the place of the mistake in the whole body."""
    error = page_refusal(data)
    assert (at, got, data) == (error.at, error.got, error.body)


def test_what_pages_hold() -> None:
    """A page has its items, its cursors and whatever else the server put beside them."""
    page = decode_page(
        b'{"data": [{"id": "1", "status": ""}], "first_id": "1", "last_id": "x", "has_more": true, "n": 9}',
        EvalRun,
    )
    assert ("1", "x", True, {"n": 9}) == (page.first_id, page.last_id, page.has_more, page.extra)
    bare = decode_page(b'{"data": [], "has_more": null}', EvalRun)
    assert ((), None, None, None) == (tuple(bare), bare.first_id, bare.last_id, bare.has_more)


def test_structure_keeps_the_body() -> None:
    """A value that was parsed elsewhere is structured in the same way, and the error keeps what it came from."""
    assert EvalRun(id="r", status="queued") == structure({"id": "r", "status": "queued"}, EvalRun)
    with pytest.raises(DecodeError) as caught:
        structure({"id": 7}, EvalRun, b"the body")
    assert ("$.id", b"the body") == (caught.value.at, caught.value.body)


# --- anything at all --------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(
                ["id", "type", "data", "data_source", "source", "testing_criteria", "results", "sample", "input"]
            ),
            inner
            | st.sampled_from(
                ["string_check", "label_model", "multi", "custom", "jsonl", "completions", "responses", "eval.run"]
            ),
            max_size=6,
        )
    ),
    max_leaves=20,
)
UNIONS: list[Any] = [Grader, DataSourceConfig, RunDataSource, InputMessages, WebhookEvent]


@pytest.mark.parametrize("shape", [*CLASSES, *UNIONS], ids=lambda shape: getattr(shape, "__name__", str(shape)[:40]))
@given(value=anything)
@settings(max_examples=12, deadline=None)
def test_any_json_decodes_or_is_refused(shape: Any, value: object) -> None:
    """Whatever JSON a server sends, the outcome is an object that holds all of it, or a `DecodeError`."""
    data = json.dumps(value).encode()
    try:
        made = decode(data, shape)
    except DecodeError as error:
        assert data == error.body  # noqa: PT017  # whether there is an error is what varies
    else:
        assert canonical(json.loads(data)) == canonical(encode(made))


@given(data=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@settings(max_examples=300)
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """Whatever bytes a server sends, nothing but a `DecodeError` comes of them."""
    for read in (decode, decode_page):
        try:
            read(data, Eval)
        except EvalsError as error:
            assert type(error) is DecodeError  # noqa: PT017


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_one_thing_wrong(data: st.DataObject) -> None:
    """A good body in which any one value is replaced decodes or is refused, and is never bent."""
    model: Any = data.draw(st.sampled_from(CLASSES))
    body = data.draw(bodies(model))
    holder, key = body, data.draw(st.sampled_from(sorted(body) or ["id"]))
    while isinstance(holder.get(key), dict) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = data.draw(anything)
    text = json.dumps(body).encode()
    try:
        made = decode(text, model)
    except DecodeError:
        return
    assert canonical(json.loads(text)) == canonical(encode(made))


# --- depth ------------------------------------------------------------------------------------------------------------

HOSTILE = """
import sys, time
from evals_async._codec import decode, decode_page, prepare
from evals_async.errors import DecodeError
from evals_async.models import Eval, EvalRun, MultiGrader
prepare(Eval, EvalRun, MultiGrader)
depth = 100_000
bodies = [
    b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth,
    b'{"id": "r", "status": "queued", "metadata": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}",
    b'{"id": "r", "status": "queued", "data_source": ' + b'{"source":' * depth + b"1" + b"}" * depth + b"}",
    b'{"type": "multi", "name": "n", "calculate_output": "", "graders": ' + b"[" * depth + b"]" * depth + b"}",
]
for body in bodies:
    for read in (decode, decode_page):
        for shape in (Eval, EvalRun, MultiGrader):
            began = time.process_time()
            try:
                read(body, shape)
            except DecodeError as error:
                assert "nested too deeply" in str(error), str(error)
            else:
                sys.exit("decoded")
            took = time.process_time() - began
            assert took < 5 * 0.05, took  # the machine may be slow
print("well")
"""


@pytest.mark.measures_time
def test_hostile_depth() -> None:
    """100,000 levels are refused in less than 50 ms of CPU time, and do not end the process."""
    child = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=False)
    assert ("well\n", "", 0) == (child.stdout, child.stderr, child.returncode)


@pytest.mark.parametrize("depth", [10, 100, 500, 800])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_what_can_be_read_can_be_written(depth: int, opening: str, closing: str) -> None:
    """Free-form JSON of any depth that the parser takes comes out as it went in."""
    inner = opening * depth + "1" + closing * depth
    body = f'{{"id":"r","status":"queued","metadata":{{"deep":{inner}}},"new":{inner}}}'.encode()
    assert canonical(json.loads(body)) == canonical(encode(decode(body, EvalRun)))

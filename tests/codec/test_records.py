"""Records: the quick way of reading gives what the hooks give, for every class and every body, or leaves it to them."""

import asyncio
import json
from typing import Any, cast

import attrs
import pytest
from bodies import CLASSES, bodies
from hypothesis import given, settings, strategies as st

from evals_async import _codec as codec
from evals_async._codec import decode, decode_large_page, decode_page, encode, records, source_of, structure
from evals_async._codec.makers import Filler
from evals_async._codec.records import GENERAL_TURNS, LEARNING, Reader, Records
from evals_async._json import JSONValue
from evals_async._paging.pages import PageBody
from evals_async.errors import DecodeError
from evals_async.models import Eval, EvalRun, Model, OutputItem, TokenUsage
from evals_async.models.runs import ErrorInfo


def quick(model: Any, body: object) -> Any:
    """What the quick way alone makes of a body; `None` if it leaves it to the hooks."""
    return records.reader(model)(json.dumps(body).encode())


def same(one: object, other: object) -> bool:
    """Are two values equal, of the same types, with the same nulls and the same extra fields, all the way down?"""
    if type(one) is not type(other):
        return False
    if isinstance(one, Model):
        names = [field.name for field in attrs.fields(type(one))]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        ours, theirs = cast("tuple[object, ...]", one), cast("tuple[object, ...]", other)
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return one == other and repr(one) == repr(other)


def item(number: int, **fields: object) -> dict[str, object]:
    message = {"role": "user", "content": "Hi", "tool_calls": None}
    sample = {"input": [message], "output": [], "error": {"code": None, "message": None}, "seed": 1, "top_p": 1.0}
    return {"object": "eval.run.output_item", "id": f"item_{number}", "status": "pass", "sample": sample, **fields}


def page(items: list[dict[str, object]], **fields: object) -> bytes:
    return json.dumps({"object": "list", "data": items, "last_id": "item_9", "has_more": True, **fields}).encode()


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: str(model.__name__))
@settings(max_examples=60)
@given(data=st.data())
def test_records_give_what_hooks_give(model: Any, data: st.DataObject) -> None:
    """A body that the quick way takes is the very model that the hooks make, types and nulls included."""
    body = data.draw(bodies(model))
    found = quick(model, body)
    if found is not None:
        assert same(structure(json.loads(json.dumps(body)), model), found)
        assert encode(found) == body
        listed = records.page_reader(model)(page([cast("dict[str, object]", body)]))
        assert same(found, *listed)


def nulls_in(value: object, found: dict[type[Model], frozenset[str]]) -> dict[type[Model], frozenset[str]]:
    """Which fields of which models are null, anywhere in it."""
    if isinstance(value, Model):
        found[type(value)] = found.get(type(value), frozenset()) | value.nulls
        for field in attrs.fields(type(value)):
            nulls_in(getattr(value, field.name), found)
    elif isinstance(value, tuple):
        for one in cast("tuple[object, ...]", value):
            nulls_in(one, found)
    return found


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: str(model.__name__))
@settings(max_examples=10)
@given(data=st.data())
def test_nulls_where_they_are_expected(model: Any, data: st.DataObject) -> None:
    """Records that expect the nulls of a body take it as those do that expect null everywhere, and make the same of it;
    what records take that expect none is the same, too.
    """
    body = json.dumps(data.draw(bodies(model))).encode()
    found = records.reader(model)(body)
    if found is not None:
        expected = nulls_in(found, {})
        assert same(found, Records(codec.converter, expected).reader(model)(body))
        without = Records(codec.converter, {}).reader(model)(body)
        assert same(found, without) if not any(expected.values()) else without is None or same(found, without)


@attrs.frozen(kw_only=True, repr=False)
class Probe(Model):
    """A class that no other test has ever read."""

    id: str
    note: str | None = None
    size: int | None = None
    free: JSONValue = None


def test_nulls_are_learnt() -> None:
    """After some documents null is expected where it has come; a null elsewhere goes to the hooks, and is then expected
    too.
    """
    reader = records.reader(Probe)
    noted, sized = b'{"id": "p", "note": null}', b'{"id": "p", "size": null}'
    assert [("note",)] * LEARNING == [tuple(reader(noted).nulls) for _ in range(LEARNING)]
    assert "o.size = record.size\n" in source_of(Probe, "fill")
    assert {"free"} == reader(b'{"id": "p", "free": null}').nulls  # JSON of any kind may be null
    assert reader(sized) is None
    hooked = structure(json.loads(sized), Probe)
    assert [None] * GENERAL_TURNS == [reader(sized) for _ in range(GENERAL_TURNS)]
    assert same(hooked, reader(sized))
    assert [{"note"}, set(), 3] == [
        reader(noted).nulls,
        reader(b'{"id": "p"}').nulls,
        reader(b'{"id": "p", "size": 3}').size,
    ]


def test_usual_bodies_are_taken() -> None:
    """A body as the service sends it goes the quick way: otherwise nothing would show that it is gone."""
    assert quick(OutputItem, item(1)) is not None
    run = {"object": "eval.run", "id": "r", "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "f"}}}
    assert same(structure(run, EvalRun), quick(EvalRun, run))


@pytest.mark.parametrize(
    "body",
    [
        {"prompt_tokens": 1, "new_field": 2},
        {"prompt_tokens": "1"},
        {"prompt_tokens": 1.0},
        {"prompt_tokens": True},
        [],
        None,
    ],
)
def test_surprises_are_left_to_the_hooks(body: object) -> None:
    """An unknown field, a number that is no integer and another kind of value are not for records to judge."""
    assert quick(TokenUsage, body) is None


def test_numbers_stay_as_they_came() -> None:
    """A whole number in a field for floats stays an int, and an integer of any size is exact."""
    found = decode(json.dumps({"id": "i", "sample": {"temperature": 1, "seed": 2**80}}).encode(), OutputItem)
    assert found.sample is not None
    assert (type(found.sample.temperature), found.sample.seed) == (int, 2**80)


def test_empty_errors_are_one_object() -> None:
    """The error that says that there is none is made once, and is what the hooks make."""
    first, second = (quick(ErrorInfo, {"code": None, "message": None}) for _ in range(2))
    assert first is second
    assert same(structure({"code": None, "message": None}, ErrorInfo), first)
    assert decode(b"{}", ErrorInfo).nulls == frozenset()


def test_source_can_be_read() -> None:
    """The function that fills a class is source that can be shown."""
    Records(codec.converter).reader(TokenUsage)
    shown = source_of(TokenUsage, "fill")
    assert "def fill_TokenUsage(record):" in shown
    assert "v = record.total_tokens\n    if v is None: bits |= 4\n    elif v is MISSING: v = None" in shown


def test_vain_attempts_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a body with surprises the next ones go straight to the hooks, and one in a while is tried."""
    reader = Reader((int, lambda value: value))
    tried: list[bytes | memoryview] = []
    assert reader.functions is not None
    read, make = reader.functions

    def noted(data: bytes | memoryview) -> Any:
        tried.append(data)
        return read(data)

    monkeypatch.setattr(reader, "functions", (noted, make))
    assert [reader(b"1"), reader(b"'")] == [1, None]
    assert [reader(b"1") for _ in range(GENERAL_TURNS + 1)] == [None] * GENERAL_TURNS + [1]
    assert len(tried) == 3


# --- pages ------------------------------------------------------------------------------------------------------------


def envelope_of(body: PageBody[Any]) -> tuple[object, ...]:
    return body.first_id, body.last_id, body.has_more, body.extra


PAGES = [
    page([item(number) for number in range(5)]),
    page([]),
    page([item(1), item(2, new_field=[1])]),
    page([item(1)], new_field={"a": 1}),
    page([item(1)], first_id=None, has_more=None),
]


@pytest.mark.parametrize("body", PAGES)
async def test_all_ways_to_a_page_are_one(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is the same by records, by hooks, and in slices, with whatever surprises it has."""
    monkeypatch.setattr(codec, "SLICE", 100)
    monkeypatch.setattr(codec.splitter, "skip", 0)
    monkeypatch.setitem(codec.page_readers, OutputItem, records.page_reader(OutputItem))
    by_records = decode_page(body, OutputItem)
    monkeypatch.setitem(codec.page_readers, OutputItem, Reader((Any, None)))
    by_hooks = decode_page(body, OutputItem)
    in_slices = await decode_large_page(body, OutputItem)
    for other in (by_records, in_slices):
        assert same(tuple(by_hooks), tuple(other))
        assert envelope_of(by_hooks) == envelope_of(other)


def test_items_are_made_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page holds what was read; an object is made of it for whoever asks, and is his."""
    monkeypatch.setitem(codec.page_readers, OutputItem, records.page_reader(OutputItem))
    body = decode_page(page([item(1), item(2)]), OutputItem)
    assert not any(isinstance(entry, Model) for entry in body.entries)
    first, again = next(iter(body)), next(iter(body))
    assert isinstance(first, OutputItem)
    assert same(first, again)
    assert first is not again
    assert ["item_1", "item_2"] == [entry.id for entry in body.entries]


def test_what_hooks_may_refuse_is_made_at_once() -> None:
    """Where hooks have a part in an item, a mistake in it is found when the page is read, and not when it is used."""
    grader: dict[str, object] = {"type": "multi", "name": "m", "graders": {}}
    eval_: dict[str, object] = {"id": "e", "testing_criteria": [grader]}
    assert all(isinstance(entry, Eval) for entry in decode_page(page([eval_]), Eval).entries)
    grader["graders"] = "none"
    with pytest.raises(DecodeError, match=r"\$\.data\[0\]\.testing_criteria"):
        decode_page(page([eval_]), Eval)


async def test_a_large_page_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a page is decoded in slices, the other tasks of the loop have their turns."""
    monkeypatch.setattr(codec, "SLICE", 1000)
    monkeypatch.setattr(codec.splitter, "skip", 0)
    turns = 0
    task = asyncio.create_task(decode_large_page(page([item(number) for number in range(50)]), OutputItem))
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(task.result().entries) == 50
    assert turns > 10


@pytest.mark.parametrize("slices", [False, True])
async def test_errors_say_where_in_the_page(slices: bool) -> None:
    """A wrong item is named by its place, whichever way the page is read."""
    body = page([item(1), item(2, created_at="now")])
    with pytest.raises(DecodeError) as caught:
        await decode_large_page(body, OutputItem) if slices else decode_page(body, OutputItem)
    assert ("$.data[1].created_at", "int", "str") == (caught.value.at, caught.value.expected, caught.value.got)
    assert body == caught.value.body


def test_each_class_has_a_record() -> None:
    """Every class that the package shows can be read the quick way."""
    for model in CLASSES:
        assert isinstance(records.of_model(model, tagged=False)[1], Filler)

"""The quick way gives what the hooks give, for every class and every body, or leaves it to them."""

import asyncio
import gc
import json
from typing import Any, cast

import attrs
import pytest
from bodies import CLASSES, bodies
from hypothesis import given, settings, strategies as st

from evals_async import _codec as codec
from evals_async._codec import decode, decode_large_page, decode_page, encode, quick, structure
from evals_async._paging.listing import PageBody
from evals_async.errors import DecodeError
from evals_async.models import EvalRun, Model, MultiGrader, OutputItem, TokenUsage
from evals_async.models.runs import ErrorInfo


EVERY: list[Any] = [*CLASSES]


def quickly(model: Any, body: object) -> Any:
    """What the quick way alone makes of a body; `None` if it leaves it to the hooks."""
    return quick.read(json.dumps(body).encode(), model)


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
def test_both_ways_agree(model: Any, data: st.DataObject) -> None:
    """A body that the quick way takes is the very model that the hooks make, types and nulls included."""
    body = data.draw(bodies(model))
    found = quickly(model, body)
    if found is not None:
        assert same(structure(json.loads(json.dumps(body)), model), found)
        assert encode(found) == body
        listed = quick.read_page(page([cast("dict[str, object]", body)]), model)
        assert listed is not None
        assert same(found, *listed)


def test_usual_bodies_are_taken() -> None:
    """A body as the service sends it goes the quick way: otherwise nothing would show that it is gone."""
    assert quickly(OutputItem, item(1)) is not None
    run = {
        "object": "eval.run",
        "id": "r",
        "status": "queued",
        "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "f"}},
    }
    assert same(structure(run, EvalRun), quickly(EvalRun, run))


NULLS = ["name", "model", "created_at", "result_counts", "per_model_usage", "error", "metadata", "data_source"]


@given(nulls=st.sets(st.sampled_from(NULLS)), missing=st.sets(st.sampled_from(NULLS)))
def test_null_may_come_anywhere(nulls: set[str], missing: set[str]) -> None:
    """Every optional field may be null or missing: it is no surprise, whatever came before."""
    body: dict[str, object] = {"id": "r", "status": "queued", **dict.fromkeys(nulls - missing)}
    run = quickly(EvalRun, body)
    assert run is not None
    assert nulls - missing == run.nulls


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
    """An unknown field, a number that is no integer and another kind of value are not for structs to judge."""
    assert quickly(TokenUsage, body) is None


MESSAGE = {"role": "user", "content": "{{ item.q }}"}
CONTENTS = [
    {"text": "a"},
    {"type": None, "text": "a"},
    {"type": "input_text", "text": "a"},
    {"type": "output_text", "text": "a"},
    {"type": "input_image", "image_url": "u", "detail": None},
    {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    ["a", {"text": "b"}, {"type": "input_text", "text": "c"}],
    {"type": "input_text", "image_url": "u"},
    {"type": "input_text", "text": "a", "image_url": None},
    {"type": "input_image", "image_url": None},
    {},
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("tag", [{"type": "template"}, {"type": None}, {}])
def test_members_without_their_tag(tag: dict[str, object], content: object) -> None:
    """Azure leaves tags out. What may come without goes the quick way all the same, and is what the hooks make, also
    where an object lacks something or has fields of another kind.
    """
    messages = {**tag, "template": [{**MESSAGE, "content": content}]}
    source = {"type": "completions", "source": {"type": "file_id", "id": "f"}, "input_messages": messages}
    body: dict[str, object] = {"id": "r", "status": "queued", "data_source": source}
    found = quickly(EvalRun, body)
    assert found is not None
    assert same(structure(json.loads(json.dumps(body)), EvalRun), found)
    assert body == encode(found)


def test_numbers_stay_as_they_came() -> None:
    """A whole number in a field for floats stays an int, and an integer of any size is exact."""
    found = decode(
        json.dumps({"id": "i", "status": "queued", "sample": {"temperature": 1, "seed": 2**80}}).encode(), OutputItem
    )
    assert found.sample is not None
    assert (type(found.sample.temperature), found.sample.seed) == (int, 2**80)


def test_empty_errors_are_one_object() -> None:
    """The error that says that there is none is made once, and is what the hooks make."""
    first, second = (quickly(ErrorInfo, {"code": None, "message": None}) for _ in range(2))
    assert first is second
    assert same(structure({"code": None, "message": None}, ErrorInfo), first)
    assert decode(b"{}", ErrorInfo).nulls == frozenset()


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


def no_reader(_: object) -> quick.Reader:
    """Return the reader of a class without a struct."""
    return quick.refuse, quick.unchanged


@pytest.mark.parametrize("body", PAGES)
async def test_all_ways_to_a_page_are_one(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is the same by structs, by hooks, and in slices, with whatever surprises it has."""
    monkeypatch.setattr(codec, "SLICE", 100)
    in_slices = await decode_large_page(body, OutputItem)
    found = decode_page(body, OutputItem)
    monkeypatch.setattr(quick, "page_reader_of", no_reader)
    by_hooks = decode_page(body, OutputItem)
    for other in (found, in_slices):
        assert same(tuple(by_hooks), tuple(other))
        assert envelope_of(by_hooks) == envelope_of(other)


@pytest.mark.parametrize("large", [False, True])
async def test_items_are_made_when_asked_for(large: bool) -> None:
    """A page holds what was read; an object is made of it for whoever asks, and is his. The collector has nothing to
    look at until then.
    """
    text = page([item(1), item(2)])
    body = await decode_large_page(text, OutputItem) if large else decode_page(text, OutputItem)
    assert not any(isinstance(entry, Model) or gc.is_tracked(entry) for entry in body.entries)
    first, again = next(iter(body)), next(iter(body))
    assert isinstance(first, OutputItem)
    assert same(first, again)
    assert first is not again
    assert ["item_1", "item_2"] == [entry.id for entry in body.entries]


async def test_a_large_page_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a page is decoded in slices, the other tasks of the loop have their turns; also where only hooks can."""
    monkeypatch.setattr(codec, "SLICE", 1000)
    for surprise in ("run_id", "new_field"):
        turns = 0
        text = page([item(number, **{surprise: None}) for number in range(50)])
        task = asyncio.create_task(decode_large_page(text, OutputItem))
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


def test_each_class_has_a_struct() -> None:
    """Every class that the package shows can be read the quick way, but for the one whose graders may be a map."""
    assert [MultiGrader] == [model for model in EVERY if quick.reader_of(model)[0] is quick.refuse]


def test_prepared_classes_have_their_readers() -> None:
    """After `prepare` nothing is written any more when the first body comes."""

    @attrs.frozen(kw_only=True, repr=False)
    class Fresh(EvalRun):
        pass

    codec.prepare(Fresh)
    made = quick.reader_of.cache_info().misses, quick.page_reader_of.cache_info().misses
    assert "r" == decode(b'{"id": "r", "status": "queued"}', Fresh).id
    assert 1 == len(decode_page(b'{"data": [{"id": "r", "status": "queued"}]}', Fresh).entries)
    assert made == (quick.reader_of.cache_info().misses, quick.page_reader_of.cache_info().misses)

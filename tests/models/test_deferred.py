"""Deferred fields: their values are made at the first read, and nothing else shows that."""

import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest
from bodies import CLASSES

from evals_async._codec import decode, encode, structure
from evals_async.models import EvalRun, OutputItem
from evals_async.models.base import MAKERS
from evals_async.models.output_items import Sample


SAMPLE = {"input": [{"role": "user", "content": "Hi"}], "output": [], "model": "m", "seed": None}
ITEM: dict[str, Any] = {
    "object": "eval.run.output_item",
    "id": "item_1",
    "status": "pass",
    "results": [{"name": "Tone", "passed": True, "sample": SAMPLE}],
    "sample": SAMPLE,
}
RUN: dict[str, Any] = {
    "id": "run_1",
    "status": "completed",
    "data_source": {
        "type": "completions",
        "source": {"type": "file_id", "id": "file_1"},
        "input_messages": {"template": [{"role": "user", "content": {"text": "{{ item.q }}"}}]},
    },
}
BODIES: list[tuple[type[Any], dict[str, Any]]] = [(OutputItem, ITEM), (EvalRun, RUN)]
DEFERRED = [(model, field.name) for model in CLASSES for field in attrs.fields(model) if field.metadata.get("deferred")]


def unread(model: type[Any] = OutputItem, body: dict[str, Any] = ITEM) -> Any:
    return decode(json.dumps(body).encode(), model)


def stored(value: object, name: str) -> Any:
    """What stands in the slot of a deferred field."""
    return getattr(type(value), name).fset.__self__.__get__(value)


def test_values_are_made_at_the_first_read() -> None:
    """Decoding makes no sample; the first read makes it, and the second read returns the same object."""
    item = unread()
    assert not isinstance(stored(item, "sample"), Sample)
    assert isinstance(item.sample, Sample)
    assert stored(item, "sample") is item.sample
    assert item.sample is item.sample


def test_functions_are_made_once() -> None:
    """The function that makes a value is generated at the first read, and then stands in the table itself."""
    for model, body, name in ((OutputItem, ITEM, "sample"), (EvalRun, RUN, "data_source")):
        value = unread(model, body)
        kind = cast("type[object]", type(stored(value, name)))
        assert getattr(value, name) is not None
        assert MAKERS[kind].__name__.startswith("fill_")


USES: dict[str, Callable[[Any], object]] = {
    "equal": lambda value: value,
    "repr": repr,
    "encode": encode,
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "evolve": lambda value: attrs.evolve(value, status="other"),
    "as a dict": attrs.asdict,
}


@pytest.mark.parametrize(("model", "body"), BODIES)
@pytest.mark.parametrize("use", USES)
def test_uses_read_the_field(model: type[Any], body: dict[str, Any], use: str) -> None:
    """Each use of an unread object gives what it gives for the same object made by the hooks."""
    made = structure(json.loads(json.dumps(body)), model)
    assert USES[use](unread(model, body)) == USES[use](made)
    assert USES[use](made) == USES[use](unread(model, body))


@pytest.mark.parametrize(("model", "body"), BODIES)
def test_hashes_read_the_field(model: type[Any], body: dict[str, Any]) -> None:
    """An unread object has the hash of an equal one that was read."""
    read = unread(model, body)
    repr(read)
    assert hash(unread(model, body)) == hash(read)


@pytest.mark.parametrize(("model", "name"), DEFERRED)
def test_deferred_fields_are_frozen(model: type[Any], name: str) -> None:
    """No deferred field can be assigned or deleted, and a field that is not given is `None`."""
    required = {"id": "i", "status": "s"} if "id" in attrs.fields_dict(model) else {}
    value = model(**required)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(value, name)
    assert getattr(value, name) is None


def test_threads_read_equal_values() -> None:
    """Threads that read a field at the same time get equal objects, and one of them is kept."""
    expected = structure(json.loads(json.dumps(ITEM)), OutputItem).sample
    for _ in range(50):
        item = unread()
        seen: list[Any] = []
        start = threading.Barrier(4)

        def read(item: Any = item, seen: list[Any] = seen, start: threading.Barrier = start) -> None:
            start.wait(10)
            seen.append(item.sample)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert seen == [expected] * 4
        assert item.sample is item.sample


def test_subclasses_read_the_field() -> None:
    """A subclass that a user defines has the field too."""

    @attrs.frozen(kw_only=True)
    class Marked(OutputItem):
        mark: str = ""

    assert Marked(id="i", status="pass", sample=Sample(model="m"), mark="x").sample == Sample(model="m")

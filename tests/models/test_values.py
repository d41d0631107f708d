"""What every model is as a Python value: frozen, slotted, comparable, hashable, copyable, picklable, readable."""

import copy
import importlib
import json
import pickle
import pkgutil
from typing import Any

import attrs
import pytest
from bodies import CLASSES, payload, smallest

from evals_async import models
from evals_async._codec import decode, encode
from evals_async.models import (
    Eval,
    EvalRun,
    GraderResult,
    Message,
    Model,
    MultiGrader,
    OutputItem,
    ResultCounts,
    SamplingParams,
    StringCheckGrader,
    Unknown,
)


every_class = pytest.mark.parametrize("model", CLASSES, ids=[model.__name__ for model in CLASSES])


def least(model: type[Model], **more: object) -> Any:
    return decode(json.dumps(smallest(model) | more).encode(), model)


def test_public_names() -> None:
    """Each name that is shown exists, once."""
    assert [] == [name for name in models.PLACES if not hasattr(models, name)]


def test_every_class_is_public() -> None:
    """No class that stands for a JSON object is hidden, except those that are only bases of others."""
    found: set[type[Model]] = set()
    for module in pkgutil.iter_modules(models.__path__):
        names = vars(importlib.import_module(f"evals_async.models.{module.name}")).values()
        found |= {value for value in names if isinstance(value, type) and issubclass(value, Model)}
    bases = {base for model in found for base in model.__mro__[1:]}
    assert set(CLASSES) == found - bases


def test_every_module_is_only_reached_through_names_that_are_public() -> None:
    """The typed mappings and the aliases of what methods take are shown, too."""
    params = importlib.import_module("evals_async.models.params")
    own = {name for name in vars(params) if name.endswith("Param")}
    assert own <= set(models.PLACES)


@every_class
def test_documented(model: type[Model]) -> None:
    """Each class says what it is."""
    assert model.__doc__
    assert not model.__doc__.startswith("Method generated")


@every_class
def test_frozen_and_slotted(model: type[Model]) -> None:
    """No field can be set or removed, and no other attribute added."""
    value = least(model)
    for field in attrs.fields(model):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(value, field.name)
    with pytest.raises(AttributeError):
        value.something_else = 1
    assert not hasattr(value, "__dict__")


@every_class
def test_only_keywords(model: Any) -> None:
    """Fields are given by name, so that new ones may come in any place."""
    with pytest.raises(TypeError, match="positional"):
        model("x")


@every_class
def test_survives_copies_and_pickles(model: type[Model]) -> None:
    """Copied, deeply copied and pickled, a model is equal, hashes the same, and is written the same."""
    value = least(model, surprise={"deep": [1, None]})
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), attrs.evolve(value)):
        assert (value, hash(value), encode(value)) == (twin, hash(twin), encode(twin))
        assert type(twin) is model


@every_class
def test_extra_counts_when_compared(model: type[Model]) -> None:
    """Two bodies that differ in an unknown field are two values."""
    assert least(model, surprise=1) != least(model, surprise=2)
    assert least(model, surprise=1) == least(model, surprise=1)


def test_null_and_missing_compare_equal_and_are_told_apart() -> None:
    """`null` and a missing field mean the same; what came is still known, and is written again."""
    null, missing = (
        decode(b'{"id": "r", "status": "queued", "error": null}', EvalRun),
        decode(b'{"id": "r", "status": "queued"}', EvalRun),
    )
    assert null == missing
    assert hash(null) == hash(missing)
    assert (frozenset({"error"}), frozenset()) == (null.nulls, missing.nulls)
    assert ({"id": "r", "status": "queued", "error": None}, {"id": "r", "status": "queued"}) == (
        encode(null),
        encode(missing),
    )


def test_made_by_hand_equals_decoded() -> None:
    """A model written in Python is the one that the same JSON gives."""
    text = b'{"type": "string_check", "name": "a", "input": "b", "reference": "c", "operation": "eq"}'
    by_hand = StringCheckGrader(name="a", input="b", reference="c", operation="eq")
    assert decode(text, StringCheckGrader) == by_hand
    assert json.loads(text) == encode(by_hand)


def test_defaults_are_not_sent() -> None:
    """A field that was not given is not written: the server's own default counts."""
    assert {} == encode(SamplingParams())
    assert {"role": "user", "content": "hi"} == encode(Message(role="user", content="hi"))


def test_changing_a_field_that_was_null() -> None:
    """`attrs.evolve` gives a field that came as null a value, and the value is what is written."""
    run = decode(b'{"id": "r", "status": "queued", "name": null}', EvalRun)
    assert {"id": "r", "status": "queued", "name": "nightly"} == encode(attrs.evolve(run, name="nightly"))


def test_map_of_graders_can_be_hashed() -> None:
    """A grader that holds a map hashes without it."""
    part = StringCheckGrader(name="a", input="b", reference="c", operation="eq")
    one = MultiGrader(name="m", graders={"a": part}, calculate_output="a")
    two = MultiGrader(name="m", graders={"b": part}, calculate_output="a")
    assert hash(one) == hash(two)
    assert one != two


def test_repr_shows_what_is_there() -> None:
    """A repr names the class and the fields that are set, and unknown ones; what is missing is left out."""
    assert "ResultCounts(total=4, passed=3)" == repr(ResultCounts(total=4, passed=3))
    assert "GraderResult(name='a', extra={'mood': 1})" == repr(GraderResult(name="a", extra={"mood": 1}))
    assert "Unknown(type='x', raw={'type': 'x'})" == repr(Unknown(type="x", raw={"type": "x"}))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("run_jsonl_file_content", EvalRun), ("eval_custom_all_graders", Eval), ("item_pass_string_check", OutputItem)],
)
def test_repr_stays_short(name: str, shape: type[Model]) -> None:
    """However large a body is, its repr fits a screen: each field shows its beginning."""
    text = repr(decode(json.dumps(payload(name)).encode(), shape))
    assert len(text) < 1500
    assert text.startswith(f"{shape.__name__}(id=")


def test_classes_are_never_equal() -> None:
    """Objects of two classes with the same values differ, also where one class extends the other."""

    @attrs.frozen(kw_only=True, repr=False, eq=False)
    class Sub(StringCheckGrader):
        pass

    values: dict[str, Any] = {"name": "a", "input": "b", "reference": "c", "operation": "eq"}
    assert StringCheckGrader(**values) != Sub(**values)
    assert Sub(**values) == Sub(**values)
    assert {Sub(**values), Sub(**values)} == {Sub(**values)}
    assert StringCheckGrader(**values) != values

"""What goes out: models, mappings and sequences, mixed as the caller likes; and what has no form in JSON."""

import copy
import datetime
import json
import math
from collections import OrderedDict
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from evals_async._codec import decode, encode
from evals_async._json import canonical, dump
from evals_async.errors import InvalidArgument
from evals_async.models import (
    CustomDataSourceConfig,
    EvalRun,
    FileContent,
    FileContentRow,
    JsonlDataSource,
    Message,
    MultiGrader,
    StringCheckGrader,
    TemplateMessages,
    Unknown,
)


CHECK = StringCheckGrader(name="g", input="i", reference="r", operation="eq")
CHECK_JSON = {"type": "string_check", "name": "g", "input": "i", "reference": "r", "operation": "eq"}


class Color(StrEnum):
    RED = "red"


ORDERED: OrderedDict[str, int] = OrderedDict(c=2)

MIXED: dict[str, tuple[object, object]] = {
    "a model": (CHECK, CHECK_JSON),
    "models in a list": ([CHECK, CHECK_JSON], [CHECK_JSON, CHECK_JSON]),
    "models in a tuple": ((CHECK,), [CHECK_JSON]),
    "a model in a mapping": ({"graders": {"a": CHECK}}, {"graders": {"a": CHECK_JSON}}),
    "a mapping in a model": (
        JsonlDataSource(source=FileContent(content=(FileContentRow(item={"a": [1, {"b": CHECK}]}),))),
        {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": [1, {"b": CHECK_JSON}]}}]}},
    ),
    "a model in extra": (
        EvalRun(id="r", status="queued", extra={"grader": CHECK}),
        {"id": "r", "status": "queued", "grader": CHECK_JSON},
    ),
    "a model in what is unknown": (Unknown(type="x", raw={"a": CHECK}), {"a": CHECK_JSON}),
    "other mappings": (MappingProxyType({"a": ORDERED}), {"a": {"c": 2}}),
    "an enum": ({"color": Color.RED}, {"color": "red"}),
    "plain values": ([None, True, 0, -1.5, "x", [], {}], [None, True, 0, -1.5, "x", [], {}]),
    "graders by name": (
        MultiGrader(name="m", graders={"a": CHECK}, calculate_output="a"),
        {"type": "multi", "name": "m", "graders": {"a": CHECK_JSON}, "calculate_output": "a"},
    ),
    "messages": (
        TemplateMessages(template=(Message(role="user", content="hi"),)),
        {"type": "template", "template": [{"role": "user", "content": "hi"}]},
    ),
}


@pytest.mark.parametrize(("value", "expected"), MIXED.values(), ids=MIXED.keys())
def test_models_and_mappings_mixed(value: object, expected: Any) -> None:
    """Our classes and plain mappings may be mixed at any depth."""
    assert canonical(expected) == canonical(encode(value))


def loop() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


FORMLESS: dict[str, object] = {
    "object": object(),
    "bytes": b"bytes",
    "set": {1, 2},
    "complex": 1j,
    "timedelta": datetime.timedelta(1),
    "class": EvalRun,
    "in a list": [1, object()],
    "in a mapping": {"a": {"b": object()}},
    "in a model": EvalRun(id="r", status="queued", metadata={"a": object()}),
    "in extra": EvalRun(id="r", status="queued", extra={"a": b""}),
    "an int as key": {1: 2},
    "None as key": {"a": {None: 2}},
    "a loop": loop(),
}


@pytest.mark.parametrize("value", FORMLESS.values(), ids=FORMLESS.keys())
def test_what_has_no_form(value: object) -> None:
    """What JSON has no form for is refused, wherever it stands, in a short sentence."""
    with pytest.raises(
        InvalidArgument, match=r"has no form in JSON|class EvalRun was given|strings as keys|nested too deeply"
    ) as caught:
        encode(value)
    assert len(str(caught.value)) < 200


def test_what_is_not_set_is_left_out() -> None:
    """`None` is left out, unless it came as a null."""
    assert {"id": "r", "status": "queued"} == encode(EvalRun(id="r", status="queued", name=None))
    assert {"id": "r", "status": "queued", "name": None} == encode(
        decode(b'{"id": "r", "status": "queued", "name": null}', EvalRun)
    )
    assert CHECK_JSON == encode(CHECK)
    assert {"type": "custom", "item_schema": {}} == encode(CustomDataSourceConfig(item_schema={}))


def test_the_result_is_the_callers_own() -> None:
    """Changing what was encoded changes no model."""
    body = (
        b'{"id": "r", "status": "s", "metadata": {"a": [1]}, "new": {"b": [2]}, "data_source": {"type": "x", "c": [3]}}'
    )
    run = decode(body, EvalRun)
    made: Any = encode(run)
    kept = copy.deepcopy(made)
    for value in (made["metadata"]["a"], made["new"]["b"], made["data_source"]["c"]):
        value.append("changed")
    assert kept == encode(run) == json.loads(body)


def test_numbers_without_text_pass_and_are_refused_as_text() -> None:
    """NaN is a Python float; that JSON has no text for it is told by who writes the text."""
    made = encode({"score": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(made)

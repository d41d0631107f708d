"""What became of a row: verdicts, errors and explanations, as each server tells them."""

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from bodies import payload

from evals_async._codec import decode, decode_page, encode
from evals_async.models import (
    ErrorInfo,
    GraderResult,
    InputImage,
    OutputItem,
    OutputText,
    Sample,
    SampleMessage,
    Unknown,
)


def item(name: str) -> OutputItem:
    return decode(json.dumps(payload(name)).encode(), OutputItem)


def results_of(name: str) -> tuple[GraderResult, ...]:
    results = item(name).results
    assert results
    return results


@pytest.mark.parametrize(
    ("name", "passed", "is_error"),
    [
        ("item_pass_string_check", True, False),
        ("item_fail_score_model_with_hash", False, False),
        ("item_error_openai", None, True),
        ("item_foundry_completed", False, False),
        ("item_foundry_grader_error", None, True),
        ("item_foundry_item_error", None, True),
        ("item_foundry_empty_error_string_ids", True, False),
        ("item_tool_calls_and_null_content", True, False),
    ],
)
def test_verdict(name: str, passed: bool | None, is_error: bool) -> None:
    """Each server's way to say passed, failed and errored is understood."""
    value = item(name)
    assert (passed, is_error) == (value.passed, value.is_error)


def result(passed: bool | None, status: str | None = None) -> GraderResult:
    return GraderResult(passed=passed, status=status)


@pytest.mark.parametrize(
    ("status", "results", "passed"),
    [
        ("completed", (result(True), result(True)), True),
        ("completed", (result(True), result(False)), False),
        ("completed", (result(True), result(None, "skipped")), True),
        ("completed", (result(None, "skipped"),), None),
        ("completed", (result(True), result(None, "error")), None),
        ("completed", (), None),
        ("completed", None, None),
        ("new_status", (result(True),), True),
        ("pass", (result(False),), True),
        ("fail", None, False),
        ("error", (result(True),), None),
    ],
)
def test_passed(status: str, results: tuple[GraderResult, ...] | None, passed: bool | None) -> None:
    """The server's verdict counts; without one, every result must have passed, skipped ones aside."""
    assert passed is OutputItem(id="i", status=status, results=results).passed


@pytest.mark.parametrize(
    ("status", "error", "is_error"),
    [
        ("completed", ErrorInfo(code="x"), True),
        ("completed", ErrorInfo(code="", message=""), False),
        ("completed", "no connection", True),
        ("fail", ErrorInfo(code="x"), False),
        ("error", None, True),
    ],
)
def test_error_of_the_sample(status: str, error: ErrorInfo | str | None, is_error: bool) -> None:
    """A sample that failed is an error, unless the status says that there is a verdict all the same."""
    assert is_error == OutputItem(id="i", status=status, sample=Sample(error=error)).is_error


def test_error_of_a_grader() -> None:
    """A grader failed when its status says so, or its conversation does."""
    graders = results_of("item_foundry_grader_error")
    assert [True, False] == [grader.is_error for grader in graders]
    assert GraderResult(passed=False, sample=Sample(error=ErrorInfo(message="refused"))).is_error
    assert not GraderResult(passed=False, sample=Sample()).is_error


def test_explanation_of_a_score_model() -> None:
    """The steps inside the answer of a model grader are told one to a line."""
    results = results_of("item_fail_score_model_with_hash")
    expected = "Compare the answer with the reference. Both name Lima.\nLook for detail. There is none."
    assert expected == results[0].explanation
    assert "Depth" == results[0].plain_name


def test_explanation_of_foundry() -> None:
    """Foundry's reason is the explanation."""
    results = results_of("item_foundry_completed")
    assert ["It reads well.", "It reads well.", "It reads well.", None] == [r.explanation for r in results]


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("It is fine.", "It is fine."),
        ("", ""),
        ('{"result": 1}', '{"result": 1}'),
        ('{"steps": "none"}', '{"steps": "none"}'),
        ('{"steps": []}', '{"steps": []}'),
        ('{"steps": [1, null, {"description": 2}]}', '{"steps": [1, null, {"description": 2}]}'),
        ('{"steps": [{"conclusion": "So it is."}, {"description": "Then?"}]}', "So it is.\nThen?"),
        ('["steps"]', '["steps"]'),
        ('{"steps": [{"conclusion": "cut sho', '{"steps": [{"conclusion": "cut sho'),
        ("\ud800", "\ud800"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_explanation_of_other_texts(text: str, explanation: str) -> None:
    """What is not made of steps is told as it is, and nothing that a model writes can make this fail."""
    sample = Sample(output=(SampleMessage(role="assistant", content=text),))
    assert explanation == GraderResult(sample=sample).explanation


def test_no_explanation() -> None:
    """A grader without a model has none."""
    assert results_of("item_pass_string_check")[0].explanation is None
    assert GraderResult(sample=Sample(output=())).explanation is None
    assert GraderResult().plain_name is None


def test_output_text() -> None:
    """The model's answer is the text of its last message; a call of tools has none."""
    samples = [item(name).sample for name in ("item_pass_string_check", "item_tool_calls_and_null_content")]
    assert ["Lima", None] == [None if sample is None else sample.output_text for sample in samples]


def page_of(name: str) -> list[OutputItem]:
    return list(decode_page(json.dumps(payload(name)).encode(), OutputItem))


def test_output_text_of_an_agent() -> None:
    """Foundry writes an agent's content parts as JSON into the text: what is told is the text that stands in them."""
    [agent] = page_of("items_page_foundry_agent")
    target = page_of("items_page_foundry_target")
    assert agent.sample is not None
    assert "At nine." == agent.sample.output_text
    assert ["quality", "delivery"] == [item.sample.output_text for item in target if item.sample is not None]


PART: dict[str, object] = {"type": "output_text", "text": "a", "annotations": []}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        (None, None),
        (OutputText(text="a"), "a"),
        ((OutputText(text="a"), "b", InputImage(image_url="u")), "ab"),
        (InputImage(image_url="u"), None),
        ((Unknown(type="text", raw={"type": "text", "text": "a"}), Unknown(type="x", raw={"text": "b"})), "a"),
        (Unknown(type="text", raw={"type": "text", "text": 7}), None),
        (json.dumps([PART, PART]), "aa"),
        (json.dumps([PART, {"type": "refusal"}]), "a"),
        (json.dumps([{**PART, "text": 7}]), json.dumps([{**PART, "text": 7}])),
        (json.dumps([PART, 7]), json.dumps([PART, 7])),
        (json.dumps([PART])[:-1], json.dumps([PART])[:-1]),
        ('[{"an": "output_text"}]', '[{"an": "output_text"}]'),
    ],
)
def test_text_of_a_message(content: Any, text: str | None) -> None:
    """The text of all parts; a text that only looks like parts is told as it is."""
    assert text == SampleMessage(content=content).text
    assert text == Sample(output=(SampleMessage(content=content),)).output_text


def test_label_of_a_label_model() -> None:
    """Where the server gives no label, it is the one that the grader's model chose."""
    items = page_of("items_page_azure_label_model")
    assert ["mismatch", "match"] == [result.label for item in items for result in item.results or ()]
    assert ["They differ.", "They are the same."] == [
        (result.explanation or "").removeprefix("Compare the two topics. ")
        for item in items
        for result in item.results or ()
    ]


@pytest.mark.parametrize(
    ("label", "answer", "expected"),
    [
        ("pass", '{"result": "no"}', "pass"),
        (False, '{"result": "no"}', False),
        (None, '{"result": 0.5}', None),
        (None, '{"steps": []}', None),
        (None, "no", None),
        (None, "[]", None),
        (None, None, None),
    ],
)
def test_label(label: str | bool | None, answer: str | None, expected: str | bool | None) -> None:
    """What the server says counts; a score is no label, and nothing that a model writes makes this fail."""
    given = GraderResult(label=label, sample=Sample(output=(SampleMessage(content=answer),)))
    assert expected == given.label
    assert label == GraderResult(label=label).label
    assert {} == encode(GraderResult())
    assert ("label='x'" in repr(GraderResult(label="x"))) is True
    assert "x" == attrs.evolve(GraderResult(), label="x").label


def test_values_of_foundry() -> None:
    """A result keeps all that Foundry says, whatever type it chose for it."""
    results = results_of("item_foundry_completed")
    assert ("fluency", 2, 3) == (results[1].metric, results[1].score, results[1].threshold)
    assert {"dimension_scores": [{"id": "intent", "score": 5, "applicable": True}]} == results[2].properties
    assert (True, False) == (results[3].score, results[3].label)


def test_hash_of_the_row() -> None:
    """A name with a leading underscore on the wire has one without here."""
    assert 64 == len(item("item_fail_score_model_with_hash").datasource_item_content_hash or "")


def test_created() -> None:
    """The time of creation is there as a datetime, too."""
    assert datetime(2025, 6, 27, 5, 2, 10, tzinfo=UTC) == item("item_pass_string_check").created
    assert item("item_foundry_item_error").created is None

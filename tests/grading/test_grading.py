"""Grades by table: string checks, text similarity, and what cannot be graded here."""

import importlib
import math
from types import ModuleType

import pytest
from hypothesis import example, given, strategies as st

from evals_async._json import NotJSON, parse
from evals_async.grading import Grade, grade
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import METRICS, Unavailable


CAT = "the cat sat on the mat"


async def check(kind: str, text: str, reference: str) -> Grade:
    grader = {"type": "string_check", "operation": kind, "input": "{{item.x}}", "reference": "{{item.y}}"}
    return await grade(grader, item={"x": text, "y": reference})


@pytest.mark.parametrize(
    ("operation", "text", "reference", "passed"),
    [
        ("eq", "Hardware", "Hardware", True),
        ("eq", "Hardware", "hardware", False),
        ("eq", "Hardware", "Hardware ", False),
        ("eq", "", "", True),
        ("eq", "ä", "a\u0308", False),
        ("ne", "a", "b", True),
        ("ne", "a", "a", False),
        ("like", "It is Hardware.", "Hardware", True),
        ("like", "It is Hardware.", "hardware", False),
        ("like", "Hard", "Hardware", False),
        ("like", "anything", "", True),
        ("like", "100 %", "%", True),
        ("ilike", "It is HARDWARE.", "hardware", True),
        ("ilike", "STRASSE", "straße", True),
        ("ilike", "Hard", "hardware", False),
    ],
)
async def test_string_checks(operation: str, text: str, reference: str, passed: bool) -> None:
    """Equality is of every character; `like` asks if the input contains the reference, `ilike` whatever the case."""
    assert await check(operation, text, reference) == Grade(score=1.0 if passed else 0.0, passed=passed)


@pytest.mark.parametrize(
    ("metric", "text", "reference", "score"),
    [
        ("fuzzy_match", "The CAT!", "the cat", 1.0),
        ("fuzzy_match", "abc", "xyz", 0.0),
        ("bleu", CAT, CAT, 1.0),
        ("bleu", "a dog", CAT, 0.0),
        ("bleu", "Hardware", "Hardware", 1.0),
        ("bleu", "two words", "two words", 1.0),
        ("bleu", "", "", 1.0),
        ("bleu", "", CAT, 0.0),
        ("gleu", CAT, CAT, 1.0),
        ("gleu", "dogs bark", CAT, 0.0),
        ("rouge_1", "the cat", CAT, 0.5),
        ("rouge_1", CAT, CAT, 1.0),
        ("rouge_2", "the cat", CAT, 1 / 3),
        ("rouge_3", "the cat sat", CAT, 0.4),
        ("rouge_4", "the cat sat on", CAT, 0.5),
        ("rouge_5", CAT, CAT, 1.0),
        ("rouge_l", "cat mat", CAT, 0.5),
        ("rouge_l", "", CAT, 0.0),
    ],
)
def test_similarity(metric: str, text: str, reference: str, score: float) -> None:
    """The metrics of the named libraries, from 0 to 1."""
    assert math.isclose(METRICS[metric](text, reference), score, abs_tol=1e-9)


async def test_the_threshold_decides() -> None:
    """A score that reaches the threshold passes."""
    grader = {"type": "text_similarity", "input": "the cat", "reference": CAT, "evaluation_metric": "rouge_1"}
    given = [await grade({**grader, "pass_threshold": limit}, item={}) for limit in (0.4, 0.5, 0.6)]
    assert [each.passed for each in given] == [True, True, False]


@pytest.mark.parametrize(
    ("grader", "code", "reason"),
    [
        ({"type": "azure_ai_evaluator"}, "grader_unavailable", "graders of type azure_ai_evaluator are not"),
        (
            {"type": "text_similarity", "evaluation_metric": "levenshtein"},
            "grader_unavailable",
            "unknown metric levenshtein",
        ),
        ({"type": "string_check", "operation": "matches"}, "grader_unavailable", "unknown operation matches"),
        (
            {"type": "string_check", "operation": "eq", "input": "{{ sample.output_text }}", "reference": ""},
            "invalid_variable_error",
            "{{ sample.output_text }}",
        ),
        (
            {"type": "string_check", "operation": "eq", "input": "{{ item.a.b }}", "reference": ""},
            "invalid_variable_error",
            "{{ item.a.b }}",
        ),
    ],
)
async def test_what_cannot_be_graded_says_why(grader: dict[str, object], code: str, reason: str) -> None:
    """No guess and no made-up score: the grade has an error with the reason, and neither score nor verdict."""
    given = await grade(grader, item={})
    assert (given.score, given.passed) == (None, None)
    assert given.error is not None
    assert given.error["code"] == code
    assert reason in str(given.error["message"])
    assert given.result("x") == {"name": "x", "score": None, "passed": None, "sample": {"error": given.error}}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""

    def nothing_installed(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", nothing_installed)
    for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_l"):
        with pytest.raises(Unavailable, match=r"pip install '\.\[graders\]'"):
            METRICS[metric]("a", "b")


def test_meteor_without_its_data_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk comes without WordNet; the error says how to get it."""
    nltk = importlib.import_module("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(Unavailable, match=r"nltk\.downloader wordnet"):
        METRICS["meteor"]("a cat", "the cat")


ASKED: dict[str, object] = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
MESSAGE: dict[str, object] = {"role": "assistant", "content": "4", "tool_calls": [ASKED]}
RESPONSE: list[dict[str, object]] = [
    {"type": "reasoning", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
    {"type": "function_call", "id": "fc", "call_id": "1", "name": "f", "arguments": '{"x": 1}'},
]


@pytest.mark.parametrize(
    "sample",
    [
        {"output_text": "4", "output_tools": [ASKED]},
        {"choices": [{"message": MESSAGE}]},
        {"output": [MESSAGE], "finish_reason": "stop", "model": "gpt-4.1-2025-04-14"},
        {"output": RESPONSE},
    ],
)
async def test_a_sample_of_any_form_can_be_graded(sample: dict[str, object]) -> None:
    """A row's own sample, a chat completion, an archived item's sample, and a response: all paths work on each."""
    paths = {
        "output_text": "4",
        "output_json": "4",
        "output[0].content": "4",
        "choices[0].message.content": "4",
        "output_tools[0].function.name": "f",
        "output_tools[0].function.arguments.x": "1",
        "output[0].tool_calls[0].function.arguments.x": "1",
    }
    for path, expected in paths.items():
        criterion = {
            "type": "string_check",
            "operation": "eq",
            "input": f"{{{{sample.{path}}}}}",
            "reference": expected,
        }
        assert (await grade(criterion, item={}, sample=sample)).passed is True, path


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        ({"output_text": "own", "choices": [{"message": {"content": "other"}}]}, "own"),
        ({"choices": []}, None),
        ({"output": []}, None),
        ({}, None),
        (
            {"output": [{"role": "assistant", "content": '[{"type": "output_text", "text": "December 12."}]'}]},
            "December 12.",
        ),
        ({"output": [{"role": "assistant", "content": '[{"type": "other"}]'}]}, '[{"type": "other"}]'),
        (
            {
                "output": [
                    {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
                ]
            },
            "ab",
        ),
    ],
)
def test_the_text_of_a_sample(sample: dict[str, object], text: str | None) -> None:
    """What the sample says itself stays; parts are put together, also those that Foundry writes as JSON text."""
    assert sample_namespace(sample).get("output_text") == text


def test_a_text_that_is_no_json_has_no_output_json() -> None:
    """A placeholder that asks for it says so."""
    assert "output_json" not in sample_namespace({"output_text": "plain"})
    assert sample_namespace({"output_text": "1", "output_json": {"own": 2}})["output_json"] == {"own": 2}


@given(st.text() | st.text('truefalsn[]{}"0- \n\ufeff,:', max_size=8))
@example("\ufeff null ")
@example("nullify")
@example("-1")
@example("5 o'clock")
def test_any_text_is_read_as_json_or_not(text: str) -> None:
    """The quick look at how a text begins changes nothing: there is an `output_json` where the parser reads one."""
    found = sample_namespace({"output_text": text})
    try:
        value = parse(text.encode())
    except NotJSON:
        assert "output_json" not in found
    else:
        assert found["output_json"] == value

"""Grades by table: string checks, text similarity, and what cannot be graded here."""

import importlib
import math
from types import ModuleType

import pytest

from evals_async.grading.graders import Grade, grade, sample_namespace
from evals_async.grading.similarity import METRICS, Unavailable


CAT = "the cat sat on the mat"


def check(kind: str, text: str, reference: str) -> Grade:
    grader = {"type": "string_check", "operation": kind, "input": "{{item.x}}", "reference": "{{item.y}}"}
    return grade(grader, {"item": {"x": text, "y": reference}})


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
def test_string_checks(operation: str, text: str, reference: str, passed: bool) -> None:
    """Equality is of every character; `like` asks if the input contains the reference, `ilike` whatever the case."""
    assert check(operation, text, reference) == Grade(1.0 if passed else 0.0, passed)


@pytest.mark.parametrize(
    ("metric", "text", "reference", "score"),
    [
        ("fuzzy_match", "The CAT!", "the cat", 1.0),
        ("fuzzy_match", "abc", "xyz", 0.0),
        ("bleu", CAT, CAT, 1.0),
        ("bleu", "a dog", CAT, 0.0),
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


def test_the_threshold_decides() -> None:
    """A score that reaches the threshold passes."""
    grader = {"type": "text_similarity", "input": "the cat", "reference": CAT, "evaluation_metric": "rouge_1"}
    assert [grade({**grader, "pass_threshold": limit}, {}).passed for limit in (0.4, 0.5, 0.6)] == [True, True, False]


@pytest.mark.parametrize(
    ("grader", "reason"),
    [
        ({"type": "score_model"}, "needs a model"),
        ({"type": "label_model"}, "needs a model"),
        ({"type": "python"}, "runs no Python code"),
        ({"type": "azure_ai_evaluator"}, "no grader of type azure_ai_evaluator"),
        ({"type": "text_similarity", "evaluation_metric": "cosine"}, "embedding model"),
    ],
)
def test_what_cannot_be_graded_says_why(grader: dict[str, object], reason: str) -> None:
    """No guess and no made-up score: the reason is raised."""
    with pytest.raises(Unavailable, match=reason):
        grade(grader, {})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""

    def nothing_installed(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", nothing_installed)
    for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_l"):
        with pytest.raises(Unavailable, match=r"pip install 'evals-async\[graders\]'"):
            METRICS[metric]("a", "b")


def test_meteor_without_its_data_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk comes without WordNet; the error says how to get it."""
    nltk = importlib.import_module("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(Unavailable, match=r"nltk\.downloader wordnet"):
        METRICS["meteor"]("a cat", "the cat")


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ({"output_text": '{"a": 1}'}, {"output_text": '{"a": 1}', "output_json": {"a": 1}}),
        ({"output_text": "plain"}, {"output_text": "plain"}),
        ({"output_text": "1", "output_json": {"own": 2}}, {"output_text": "1", "output_json": {"own": 2}}),
        ({"choices": []}, {"choices": []}),
        (
            {"choices": [{"message": {"content": "x", "tool_calls": [{"id": "1"}]}}]},
            {
                "choices": [{"message": {"content": "x", "tool_calls": [{"id": "1"}]}}],
                "output_text": "x",
                "output_tools": [{"id": "1"}],
            },
        ),
    ],
)
def test_the_sample_namespace_is_completed(sample: dict[str, object], expected: dict[str, object]) -> None:
    """Text, tools and JSON of the output are derived from the choices where the sample lacks them."""
    assert sample_namespace(sample) == expected

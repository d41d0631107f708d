"""The names of graders, and the shapes that a multi grader has."""

import json

import pytest
from bodies import payload

from evals_async._codec import decode
from evals_async.models import (
    Eval,
    GraderRun,
    GraderValidation,
    LabelModelGrader,
    MultiGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
    TokenUsage,
    Unknown,
    without_uuid,
)


UUID4 = "0b7c3a51-6d1e-4f0a-9c2b-5a1d3e7f9b60"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (f"Right capital-{UUID4}", "Right capital"),
        (f"two\nlines-{UUID4}", "two\nlines"),
        (f"a-{UUID4}-{UUID4}", f"a-{UUID4}"),
        ("Right capital", "Right capital"),
        (f"-{UUID4}", f"-{UUID4}"),  # nothing would be left of it
        (UUID4, UUID4),
        (f"a-{UUID4} ", f"a-{UUID4} "),
        (f"a-{UUID4}\n", f"a-{UUID4}\n"),
        (f"a-{UUID4.upper()}", f"a-{UUID4.upper()}"),
        ("a-0b7c3a51-6d1e-1f0a-9c2b-5a1d3e7f9b60", "a-0b7c3a51-6d1e-1f0a-9c2b-5a1d3e7f9b60"),  # of version 1
        ("", ""),
    ],
)
def test_without_uuid(name: str, plain: str) -> None:
    """Only what the server appends is taken off: one hyphen and one lower-case UUID of version 4, at the very end."""
    assert plain == without_uuid(name)


def test_graders_have_their_plain_name() -> None:
    """A grader tells its name as the user gave it, whether the server put the UUID there or into its id."""
    evaluation = decode(json.dumps(payload("eval_custom_all_graders")).encode(), Eval)
    graders = [grader for grader in evaluation.testing_criteria or () if not isinstance(grader, Unknown)]
    assert ["Right capital", "Close enough", "Tone", "Depth", "Short", "Coherence"] == [g.plain_name for g in graders]
    assert f"Right capital-{UUID4}" == graders[0].id
    renamed = StringCheckGrader(name=f"Tone-{UUID4}", input="a", reference="b", operation="ne")
    assert "Tone" == renamed.plain_name


def multi(name: str) -> MultiGrader:
    grader = decode(json.dumps(payload(name)).encode(), GraderValidation).grader
    assert isinstance(grader, MultiGrader)
    return grader


def test_multi_grader_of_one() -> None:
    """The specification has one grader in `graders`."""
    assert isinstance(multi("grader_validation_multi_one").graders, TextSimilarityGrader)


def test_multi_grader_of_an_array() -> None:
    """The specification's own example has an array."""
    graders = multi("grader_validation_multi_array").graders
    assert isinstance(graders, tuple)
    assert [TextSimilarityGrader, StringCheckGrader, Unknown] == [type(grader) for grader in graders]


def test_multi_grader_of_a_map() -> None:
    """The guide has names for the graders."""
    graders = multi("grader_validation_multi_map").graders
    assert isinstance(graders, dict)
    assert {"a": TextSimilarityGrader, "b": LabelModelGrader, "c": Unknown} == {k: type(v) for k, v in graders.items()}


def test_numbers_keep_their_form() -> None:
    """An integer where a number is expected stays an integer."""
    evaluation = decode(json.dumps(payload("eval_custom_all_graders")).encode(), Eval)
    assert evaluation.testing_criteria is not None
    grader = evaluation.testing_criteria[3]
    assert isinstance(grader, ScoreModelGrader)
    assert ((0, 5), [int, int], 3.5) == (grader.range, list(map(type, grader.range or ())), grader.pass_threshold)


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("grader_run_token_usage_int", 63),
        ("grader_run_token_usage_null", None),
        (
            "grader_run_token_usage_object",
            TokenUsage(total_tokens=63, completion_tokens=3, prompt_tokens=60, cached_tokens=0),
        ),
    ],
)
def test_token_usage_of_a_grader_run(name: str, usage: object) -> None:
    """It is a number in the specification, and an object in its example."""
    run = decode(json.dumps(payload(name)).encode(), GraderRun)
    assert run.metadata is not None
    assert usage == run.metadata.token_usage
    assert run.metadata.errors is not None
    assert (True, False) == (run.metadata.errors.python_grader_runtime_error, run.metadata.errors.other_error)

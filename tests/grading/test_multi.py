"""Multi graders: a formula over the scores of parts."""

from typing import Any

import pytest

from evals_async.grading import grade
from evals_async.inference import Models, Rule, ScriptedModels


SAME: dict[str, Any] = {
    "type": "string_check",
    "name": "same",
    "operation": "eq",
    "input": "{{item.x}}",
    "reference": "a",
}
JUDGE: dict[str, Any] = {
    "type": "score_model",
    "name": "judge",
    "model": "m",
    "input": [{"role": "user", "content": "?"}],
}


@pytest.mark.parametrize("graders", [{"same": SAME}, [SAME], SAME])
async def test_parts_in_every_form(graders: object) -> None:
    """A map, an array, a single grader: the parts' scores go into the formula by name."""
    criterion = {"type": "multi", "name": "all", "graders": graders, "calculate_output": "0.25 + 0.5 * same"}
    given = await grade(criterion, item={"x": "a"})
    assert (given.score, given.passed) == (0.75, None)
    assert given.parts["same"].score == 1.0


async def test_usage_of_judges_is_summed() -> None:
    """Two judges of one model are two calls of it, and a threshold decides."""
    criterion = {
        "type": "multi",
        "graders": {"one": JUDGE, "two": JUDGE, "same": SAME},
        "calculate_output": "(one + two + same) / 3",
        "pass_threshold": 0.4,
    }
    async with ScriptedModels(Rule(result=0.5)) as scripted, Models.from_endpoint(scripted.base_url) as models:
        given = await grade(criterion, item={"x": "b"}, models=models)
    assert given.score == pytest.approx(1 / 3)
    assert given.passed is False
    assert given.usage["m-scripted"]["invocation_count"] == 2


@pytest.mark.parametrize(
    ("graders", "formula", "code", "reason"),
    [
        ({"same": SAME, "judge": JUDGE}, "same", "model_unavailable", "judge: a score_model grader needs a model"),
        (
            {"same": {**SAME, "input": "{{item.y}}"}},
            "same",
            "invalid_variable_error",
            "same: there is no value at {{ item.y }}",
        ),
        ({"same": SAME}, "same + other", "formula_parse_error", "no grader named other"),
        ({"same": SAME}, "1 / 0", "formula_parse_error", "division"),
    ],
)
async def test_one_part_that_fails_is_the_error_of_all(graders: object, formula: str, code: str, reason: str) -> None:
    """No score is made up from the parts that could be graded; these are kept."""
    given = await grade({"type": "multi", "graders": graders, "calculate_output": formula}, item={"x": "a"})
    assert given.score is None
    assert given.error is not None
    assert given.error["code"] == code
    assert reason in str(given.error["message"])
    assert "same" in given.parts

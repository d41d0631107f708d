"""The endpoints of graders, over a real socket."""

from typing import Any

import pytest
from plainhttp import EXACT, PlainHttp


RUN, VALIDATE = "/fine_tuning/alpha/graders/run", "/fine_tuning/alpha/graders/validate"
CLOSE = {
    "type": "text_similarity",
    "name": "close",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "rouge_1",
}
JUDGE = {"type": "score_model", "name": "judge", "model": "m", "input": [{"role": "user", "content": "x"}]}
CODE = {"type": "python", "name": "code", "source": "def grade(sample, item): return 1"}


def multi(graders: object, formula: str) -> dict[str, object]:
    return {"type": "multi", "name": "all", "graders": graders, "calculate_output": formula}


async def run(http: PlainHttp, grader: object, sample: str = "a", **item: object) -> Any:
    answer = await http.post(RUN, {"grader": grader, "model_sample": sample, "item": {"answer": "a", **item}})
    assert answer.status == 200
    return answer.json


async def test_a_grader_can_be_run(http: PlainHttp) -> None:
    """The reward, and the metadata of the reference with all its errors false."""
    answer = await run(http, EXACT)
    metadata = answer["metadata"]
    errors = metadata.pop("errors")
    assert metadata == {
        "name": "Exact",
        "type": "string_check",
        "execution_time": 0.0,
        "scores": {},
        "token_usage": None,
        "sampled_model_name": None,
    }
    assert len(errors) == 14
    assert [value for value in errors.values() if value is not False] == [None, None, None]
    assert {key: value for key, value in answer.items() if key != "metadata"} == {
        "reward": 1.0,
        "sub_rewards": {},
        "model_grader_token_usage_per_model": {},
    }
    assert (await run(http, EXACT, "b"))["reward"] == 0.0
    assert round((await run(http, CLOSE, "a b"))["reward"], 6) == 0.666667


async def test_the_sample_is_read_as_json_where_it_is_json(http: PlainHttp) -> None:
    """`sample.output_json` is there for a sample that is JSON."""
    grader = {**EXACT, "input": "{{sample.output_json.label[0]}}"}
    assert (await run(http, grader, '{"label": ["a"]}'))["reward"] == 1.0


@pytest.mark.parametrize(
    "graders",
    [
        {"exact": EXACT, "close": CLOSE},
        [{**EXACT, "name": "exact"}, CLOSE],
    ],
)
async def test_a_multi_grader_computes_its_formula(http: PlainHttp, graders: object) -> None:
    """By name, whether the graders come as a map or as an array; the parts are told."""
    answer = await run(http, multi(graders, "0.25 * exact + 0.75 * close ^ 2"))
    assert (answer["reward"], answer["sub_rewards"]) == (1.0, {"exact": 1.0, "close": 1.0})


async def test_a_multi_grader_of_one(http: PlainHttp) -> None:
    """The reference's form: one grader object."""
    assert (await run(http, multi(CLOSE, "close / 2")))["reward"] == 0.5


@pytest.mark.parametrize(
    ("grader", "error"),
    [
        (JUDGE, "model_grader_server_error"),
        (CODE, "python_grader_server_error"),
        ({**CLOSE, "evaluation_metric": "cosine"}, "other_error"),
        ({**EXACT, "reference": "{{item.none.x}}"}, "invalid_variable_error"),
        (multi(CLOSE, "close +"), "formula_parse_error"),
        (multi({"judge": JUDGE}, "judge"), "model_grader_server_error"),
    ],
)
async def test_what_cannot_be_graded_is_in_the_errors(http: PlainHttp, grader: object, error: str) -> None:
    """200, no reward, and the one error that happened."""
    answer = await run(http, grader)
    metadata = answer["metadata"]
    assert (answer["reward"], [name for name, on in metadata["errors"].items() if on is True]) == (0.0, [error])


async def test_a_valid_grader_is_echoed(http: PlainHttp) -> None:
    """Validation answers with the grader."""
    for grader in (EXACT, CLOSE, JUDGE, CODE, multi([CLOSE], "close")):
        answer = await http.post(VALIDATE, {"grader": grader})
        assert (answer.status, answer.json) == (200, {"grader": grader})


@pytest.mark.parametrize("path", [RUN, VALIDATE])
@pytest.mark.parametrize(
    ("grader", "code", "param"),
    [
        (..., "missing_required_parameter", "grader"),
        ({"type": "label_model"}, "invalid_value", "grader.type"),
        ({**EXACT, "operation": "is"}, "invalid_value", "grader.operation"),
        ({**CODE, "source": None}, "invalid_type", "grader.source"),
        (multi([{"type": "string_check"}], "x"), "missing_required_parameter", "grader.graders[0].name"),
        (multi({"a": multi(CLOSE, "close")}, "a"), "invalid_value", "grader.graders.a.type"),
    ],
)
async def test_a_wrong_grader_is_refused(http: PlainHttp, path: str, grader: object, code: str, param: str) -> None:
    """400 names the parameter by its path."""
    body: dict[str, object] = {"model_sample": "x"} if grader is ... else {"model_sample": "x", "grader": grader}
    assert (await http.post(path, body)).problem == (400, code, param)


async def test_validation_reads_the_formula(http: PlainHttp) -> None:
    """A formula with an unknown name, or an open bracket, is told at validation."""
    for formula in ("close + other", "0.5 * close)"):
        answer = await http.post(VALIDATE, {"grader": multi([CLOSE], formula)})
        assert answer.problem == (400, "invalid_value", "grader.calculate_output")

"""Graders that ask a model, against a scripted endpoint: what is asked, what is kept, and what a bad answer does."""

import json
from typing import Any, Literal

import pytest

from evals_async.grading import Grade, grade
from evals_async.grading.judges import answer_in
from evals_async.inference import Models, Rule, ScriptedModels


STEPS = [{"description": "Compare the two themes.", "conclusion": "They differ."}]
LABEL: dict[str, Any] = {
    "type": "label_model",
    "name": "label-audit",
    "model": "gpt-5-mini",
    "input": [{"role": "user", "content": "The reference is {{item.theme}}. The proposal is {{item.draft}}."}],
    "labels": ["match", "mismatch"],
    "passing_labels": ["match"],
}
SCORE: dict[str, Any] = {
    "type": "score_model",
    "name": "quality",
    "model": "judge",
    "input": [{"role": "system", "content": "Be strict."}, {"role": "user", "content": "{{ sample.output_text }}"}],
    "range": [1, 7],
    "sampling_params": {"temperature": 0.2, "seed": 7, "max_completions_tokens": 100, "top_p": None},
}
ITEM = {"theme": "materials", "draft": "support"}

Ability = Literal["json_schema", "json_object", "none"]


async def judged(
    criterion: dict[str, Any], *rules: Rule, structured: Ability = "json_schema"
) -> tuple[Grade, list[Any]]:
    """The grade by a judge with these rules, and the bodies that it was sent."""
    async with (
        ScriptedModels(*rules, structured_output=structured) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        given = await grade(criterion, item=ITEM, sample={"output_text": "An answer"}, models=models)
        return given, [seen.body for seen in scripted.requests]


async def test_a_label_is_kept_as_the_service_keeps_it() -> None:
    """The result has the shape of a captured one: input, output, finish_reason, dated model, usage, error and more."""
    given, [body] = await judged(LABEL, Rule(result="mismatch", steps=STEPS))
    assert (given.score, given.passed, given.label, given.error, given.cause) == (0.0, False, "mismatch", None, None)
    assert given.steps == tuple(STEPS)
    assert given.sample is not None
    usage = given.sample["usage"]
    assert given.result("label-audit-1") == {
        "name": "label-audit-1",
        "score": 0.0,
        "passed": False,
        "sample": {
            "input": [{"role": "user", "content": "The reference is materials. The proposal is support."}],
            "output": [
                {
                    "role": "assistant",
                    "content": json.dumps({"steps": STEPS, "result": "mismatch"}, separators=(",", ":")),
                }
            ],
            "finish_reason": "stop",
            "model": "gpt-5-mini-scripted",
            "usage": usage,
            "error": None,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": None,
            "max_completion_tokens": None,
        },
    }
    assert given.usage == {"gpt-5-mini-scripted": {"invocation_count": 1, **usage}}  # type: ignore[dict-item]  # JSON
    asked = body["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["properties"]["result"] == {"type": "string", "enum": ["match", "mismatch"]}
    assert asked["schema"]["required"] == ["steps", "result"]


async def test_a_passing_label() -> None:
    """A label in `passing_labels` gives 1."""
    given, _ = await judged(LABEL, Rule(result="match"))
    assert (given.score, given.passed, given.label) == (1.0, True, "match")


@pytest.mark.parametrize(
    ("result", "score", "passed"),
    [(5.5, 5.5, True), (4, 4.0, True), (3.9, 3.9, False), (99, 7.0, True), (-3, 1.0, False)],
)
async def test_a_score_is_clamped_and_the_middle_passes(result: float, score: float, passed: bool) -> None:
    """Outside its range a score is the nearest end; without a threshold the middle of the range passes."""
    given, [body] = await judged(SCORE, Rule(result=result))
    assert (given.score, given.passed) == (score, passed)
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0.2, 7, 100)
    assert "top_p" not in body
    assert body["messages"] == [
        {"role": "system", "content": "Be strict."},
        {"role": "user", "content": "An answer"},
    ]


async def test_the_own_threshold_and_the_usual_range() -> None:
    """`pass_threshold` goes before the middle; without a range it is [0, 1]."""
    given, _ = await judged({**SCORE, "range": None, "pass_threshold": 0.9}, Rule(result=0.8))
    assert (given.score, given.passed) == (0.8, False)
    given, _ = await judged({**SCORE, "range": None}, Rule(result=0.5))
    assert given.passed is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"steps": [], "result": 5}', 5.0),
        ('Sure!\n```json\n{"steps": [], "result": 5}\n```\nDone.', 5.0),
        (
            '<think>{"result": 1}</think> The end: {"steps": [{"description": "a", "conclusion": "b"}], "result": 6}',
            6.0,
        ),
        ('{"result": "6.5"}', 6.5),
        (" 3 ", 3.0),
    ],
)
async def test_text_is_read_tolerantly(text: str, expected: float) -> None:
    """Where there is no structured output: a fenced block, the last object, or the bare result."""
    given, bodies = await judged(SCORE, Rule(text=text), structured="none")
    assert given.score == expected
    assert ["response_format" in body for body in bodies] == [True, True, False]
    assert "does not support structured output" in given.notes[0]


@pytest.mark.parametrize("criterion", [LABEL, SCORE])
@pytest.mark.parametrize("text", ["", "I cannot say.", '{"result": null}', '{"result": {"a": 1}}', "{" * 3000, "[1]"])
async def test_an_answer_that_cannot_be_read_gives_zero(criterion: dict[str, Any], text: str) -> None:
    """After all forms were tried: score 0, not passed, the cause in its sample, all calls in its usage."""
    given, bodies = await judged(criterion, Rule(text=text))
    assert (given.score, given.passed, given.error) == (0.0, False, None)
    assert given.cause is not None
    assert given.cause["code"] == "model_grader_parse_error"
    assert given.result("x")["sample"] == {**(given.sample or {}), "error": given.cause}
    assert len(bodies) == 3
    assert [usage["invocation_count"] for usage in given.usage.values()] == [3]


async def test_a_refusal_and_a_cut_answer_are_told() -> None:
    """The cause says that the judge refused, or that its tokens ended; no other form is tried."""
    given, bodies = await judged(SCORE, Rule(refusal="I will not."))
    assert given.cause == {"code": "model_grader_refusal_error", "message": "the judge refused: I will not."}
    assert len(bodies) == 1
    given, bodies = await judged(SCORE, Rule(text='{"steps": [', finish_reason="length"))
    assert given.cause is not None
    assert "cut it off" in str(given.cause["message"])
    assert len(bodies) == 1


async def test_what_an_endpoint_refuses_is_remembered() -> None:
    """The first grade finds out what the endpoint takes; the next ones ask for that at once, and say so."""
    async with (
        ScriptedModels(Rule(result=5), structured_output="json_object") as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        given = [await grade(SCORE, item=ITEM, sample={"output_text": "x"}, models=models) for _ in range(3)]
    assert [each.score for each in given] == [5.0] * 3
    assert all("does not support JSON schemas" in each.notes[0] for each in given)
    assert [seen.status for seen in scripted.requests] == [400, 200, 200, 200]
    last: Any = scripted.requests[-1].body
    assert last["response_format"] == {"type": "json_object"}
    first = last["messages"][0]
    assert first["role"] == "system"
    assert first["content"].startswith("Be strict.\n\nAnswer with one JSON object")


async def test_an_endpoint_that_ignores_the_schema() -> None:
    """Prose in answer to a schema: the next form is tried, and remembered as what works."""
    rules = Rule(when=lambda asked: "response_format" in asked.body, text="Well..."), Rule(result=5)
    given, bodies = await judged(SCORE, *rules)
    assert given.score == 5.0
    assert len(bodies) == 3


async def test_a_bad_answer_of_a_judge_that_works_costs_one_call() -> None:
    """Once an answer was read, a bad one is just that: no other form is tried."""
    async with (
        ScriptedModels(Rule(result=5, times=1), Rule(text="no")) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        given = [await grade(SCORE, item=ITEM, sample={"output_text": "x"}, models=models) for _ in range(2)]
    assert [each.score for each in given] == [5.0, 0.0]
    assert scripted.request_count == 2


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule(status=401, message="Incorrect API key"), "401"),
        (Rule(status=400, message="context too long", code="context_length_exceeded"), "context too long"),
    ],
)
async def test_a_judge_that_fails_is_an_error(rule: Rule, reason: str) -> None:
    """Not carried out is no grade: no score, no verdict, the endpoint's words."""
    given, _ = await judged(SCORE, rule)
    assert (given.score, given.passed) == (None, None)
    assert given.error is not None
    assert given.error["code"] == "model_grader_server_error"
    assert reason in str(given.error["message"])


async def test_without_a_model_for_the_judge() -> None:
    """Without models, or with none of that name: the error says what there is."""
    given = await grade(SCORE, item={}, sample={"output_text": "x"})
    assert given.error == {
        "code": "model_unavailable",
        "message": "a score_model grader needs a model, but there is no model map",
    }
    async with Models.from_mapping({"models": {"other": {"base_url": "http://127.0.0.1:1"}}}) as models:
        given = await grade(SCORE, item={}, sample={"output_text": "x"}, models=models)
    assert given.error is not None
    assert given.error["message"] == "no endpoint is configured for the model judge; configured: other"


async def test_a_judge_sees_images() -> None:
    """Parts keep their type on the way to the endpoint; in the sample an image is shown by its URL."""
    parts = [
        {"type": "input_text", "text": "Is it {{item.theme}}?"},
        {"type": "input_image", "image_url": "https://e.com/{{item.draft}}.png"},
    ]
    given, [body] = await judged({**SCORE, "input": [{"role": "user", "content": parts}]}, Rule(result=7))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Is it materials?"},
        {"type": "image_url", "image_url": {"url": "https://e.com/support.png"}},
    ]
    assert given.sample is not None
    assert given.sample["input"] == [
        {"role": "user", "content": "Is it materials?<image>https://e.com/support.png</image>"}
    ]


async def test_cosine_by_embeddings() -> None:
    """Equal texts have 1, others less; the model is the service's unless the criterion names one."""
    criterion = {
        "type": "text_similarity",
        "evaluation_metric": "cosine",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "pass_threshold": 0.9,
    }
    async with ScriptedModels() as scripted, Models.from_endpoint(scripted.base_url) as models:
        same = await grade(criterion, item={"answer": "the cat"}, sample={"output_text": "the cat"}, models=models)
        other = await grade(criterion, item={"answer": "the cat"}, sample={"output_text": "a dog"}, models=models)
        empty = await grade(criterion, item={"answer": "the cat"}, sample={"output_text": ""}, models=models)
    assert same.score == pytest.approx(1.0)
    assert (same.passed, other.passed, empty.score) == (True, False, 0.0)
    assert list(same.usage) == ["text-embedding-3-large-scripted"]
    without = await grade(criterion, item={"answer": "a"}, sample={"output_text": "b"})
    assert without.error is not None
    assert without.error["code"] == "model_unavailable"


async def test_retries_that_may_be_billed_are_counted() -> None:
    """A judge's lost answer is in the grade's count."""
    given, _ = await judged(SCORE, Rule(drop=True, times=1), Rule(result=5))
    assert (given.score, given.billed_retries) == (5.0, 1)


@pytest.mark.parametrize(
    "hostile", ["{" * 100_000, '{"a":' * 20_000, "```json\n" * 20_000, '{"result": ' + "9" * 100_000]
)
def test_reading_is_bounded(hostile: str) -> None:
    """A text that only looks like answers is given up on, quickly."""
    assert answer_in(hostile) is None

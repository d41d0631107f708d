"""Runs that are carried out: rows are graded by scripted judges, embeddings and python graders."""

import json
from collections.abc import Mapping

import pytest
from executing import ECHO, Executing, content, executing, one, sampling
from plainhttp import EXACT, PlainHttp

from evals_async.inference import Models, Rule, ScriptedModels
from evals_async.server import LocalServer


LABEL: Mapping[str, object] = {
    "type": "label_model",
    "name": "Tone",
    "model": "o9-mini",
    "input": [{"role": "user", "content": "Tone of: {{ sample.output_text }}"}],
    "labels": ["kind", "rude"],
    "passing_labels": ["kind"],
}
SCORE: Mapping[str, object] = {
    "type": "score_model",
    "name": "Quality",
    "model": "o9-mini",
    "input": [{"role": "user", "content": "Quality of: {{ sample.output_text }}"}],
    "range": [0, 10],
    "pass_threshold": 7,
}
CODE: Mapping[str, object] = {
    "type": "python",
    "name": "Length",
    "source": "def grade(sample, item):\n    return len(sample['output_text']) / 4\n",
    "pass_threshold": 0.5,
}
JUDGES = (
    Rule(contains="Tone of: bad", result="rude", steps=[{"description": "Read", "conclusion": "It is rude"}]),
    Rule(contains="Tone of:", result="kind"),
    Rule(contains="Quality of:", result=8),
    ECHO,
)


async def test_judges_grade_what_was_sampled() -> None:
    """What a judge was asked and said is in the result; its calls and tokens are counted beside those of sampling."""
    async with executing(*JUDGES) as running:
        run, (good, bad) = await running.carry_out(sampling("good", "bad"), LABEL, SCORE, EXACT)
    assert [[entry["score"] for entry in item["results"]] for item in (good, bad)] == [[1.0, 8.0, 1.0], [0.0, 8.0, 1.0]]
    assert [item["status"] for item in (good, bad)] == ["pass", "fail"]
    sample = bad["results"][0]["sample"]
    assert sample["input"] == [{"role": "user", "content": "Tone of: bad"}]
    said = json.loads(sample["output"][0]["content"])
    assert said == {"steps": [{"description": "Read", "conclusion": "It is rude"}], "result": "rude"}
    assert (sample["model"], sample["error"], sample["finish_reason"]) == ("o9-mini-scripted", None, "stop")
    assert bad["results"][2]["sample"] is None
    calls = {entry["model_name"]: entry["invocation_count"] for entry in run["per_model_usage"]}
    assert calls == {"gpt-4.1-scripted": 2, "o9-mini-scripted": 4}
    assert run["execution"]["calls"] == 6
    assert run["execution"]["tokens"] == sum(entry["total_tokens"] for entry in run["per_model_usage"])


async def test_a_degraded_judge_is_told_in_the_run() -> None:
    """An endpoint without structured output is asked in another way, with the same grade, and the run says so."""
    async with executing(*JUDGES, scripted={"structured_output": "none"}) as running:
        run, (item,) = await running.carry_out({"type": "jsonl", "source": content("a")}, TEXT_LABEL)
        page = await running.http.send("GET", run["report_url"], headers={"Accept": "text/html"})
    assert item["status"] == "pass"
    assert item["results"][0]["sample"]["degraded"] == run["execution"]["notes"][0]["text"]
    assert (page.status, page.headers["Content-Type"].split(";")[0]) == (200, "text/html")
    assert b"without structured output" in page.body
    [note] = run["execution"]["notes"]
    assert note["rows"] == 1
    assert "structured" in note["text"]


TEXT_LABEL = {**LABEL, "input": [{"role": "user", "content": "Tone of: {{ item.answer }}"}]}


async def test_a_judge_that_cannot_be_asked_makes_the_item_an_error() -> None:
    """Its result has the endpoint's words and no score; the other criteria are graded and counted."""
    refusing = Rule(contains="Tone of:", status=400, message="the judge is on strike", code="strike")
    async with executing(refusing, *JUDGES) as running:
        run, (item,) = await running.carry_out(sampling("good"), LABEL, SCORE)
    tone, quality = item["results"]
    assert (tone["score"], tone["passed"], quality["score"]) == (None, None, 8.0)
    assert "on strike" in tone["sample"]["error"]["message"]
    assert item["status"] == "error"
    assert item["sample"]["output"] == [{"role": "assistant", "content": "good"}]
    assert [(entry["passed"], entry["failed"]) for entry in run["per_testing_criteria_results"]] == [(0, 0), (1, 0)]


async def test_cosine_is_graded_by_embeddings() -> None:
    """Two equal texts are as close as can be; the embeddings count as a call of their model."""
    cosine = {
        **EXACT,
        "type": "text_similarity",
        "evaluation_metric": "cosine",
        "pass_threshold": 0.99,
    }
    async with executing() as running:
        run, (item,) = await running.carry_out(sampling("the same words"), cosine)
    assert item["results"][0]["score"] == pytest.approx(1.0)
    assert len(run["per_model_usage"]) == 2


async def test_python_graders_run_where_they_are_on() -> None:
    """Off: an error that says how to switch them on. Trusted: the source's own score."""
    async with executing() as running:
        _, (item,) = await running.carry_out(sampling("good"), CODE)
        assert "--python-graders" in item["results"][0]["sample"]["error"]["message"]
    async with executing(python_graders="trusted") as running:
        run, items = await running.carry_out(sampling("good", "x"), CODE)
        assert [item["results"][0]["score"] for item in items] == [1.0, 0.25]
        assert run["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}


async def test_a_source_without_grade_fails_the_run_before_anything_is_paid() -> None:
    """The run's error says what is missing."""
    async with executing(python_graders="trusted") as running:
        run, items = await running.carry_out(sampling("a"), {**CODE, "source": "def score(a, b): return 1"})
        assert running.models.request_count == 0
    assert (run["status"], run["error"]["code"], items) == ("failed", "invalid_grader", [])
    assert "`grade`" in run["error"]["message"]


async def test_single_graders_are_run_by_models_too() -> None:
    """The endpoint for a single grader: a judge's reward, its tokens, and the model that was asked."""
    async with executing(*JUDGES) as running:
        answer = await running.http.post(
            "/fine_tuning/alpha/graders/run", {"grader": SCORE, "model_sample": "good", "item": {}}
        )
    assert answer.json["reward"] == 8.0
    metadata = answer.json["metadata"]
    assert metadata["sampled_model_name"] == "o9-mini-scripted"
    assert answer.json["model_grader_token_usage_per_model"] == {"o9-mini-scripted": metadata["token_usage"]}
    assert metadata["token_usage"]["total_tokens"] > 0


async def test_what_a_run_cost_is_told_where_prices_are_known() -> None:
    """Sampling and judging together, by the prices of the model map."""
    async with ScriptedModels(*JUDGES) as scripted:
        endpoint = {"base_url": scripted.base_url, "prices": {"input": 2.0, "output": 8.0}}
        async with (
            Models.from_mapping({"models": {"*": endpoint}}) as models,
            LocalServer(models=models) as server,
            PlainHttp(server) as http,
        ):
            run, _ = await Executing(server, scripted, http).carry_out(sampling("good", "bad"), LABEL)
    prompt, completion = (
        sum(entry[name] for entry in run["per_model_usage"]) for name in ("prompt_tokens", "completion_tokens")
    )
    assert run["execution"]["cost"] == pytest.approx((2 * prompt + 8 * completion) / 1_000_000)


async def test_nothing_that_an_endpoint_says_breaks_a_run() -> None:
    """Names and numbers that no column can hold, scores that JSON cannot hold: the row is told, the others go on."""
    usage = {"prompt_tokens": 10**40, "completion_tokens": -5, "total_tokens": 10**40}
    rules = (
        Rule(contains="Say: huge", text="huge", usage=usage),
        Rule(contains="Say: text", text="\x00 \U0001f928 \u2028"),
        ECHO,
    )
    odd = {**EXACT, "name": "Lone \ud800 surrogate", "operation": "ne", "reference": "x"}
    code = {**CODE, "source": "def grade(sample, item):\n    return float('nan')\n"}
    async with executing(*rules, python_graders="trusted") as running:
        run, items = await running.carry_out(sampling("huge", "text", "plain") | {"model": "m-\ud800"}, odd, code)
    assert run["status"] == "completed"
    assert [item["datasource_item"]["answer"] for item in items] == ["huge", "text", "plain"]
    assert [entry["passed"] for entry in run["per_testing_criteria_results"]] == [3, 0]
    assert [item["results"][1]["score"] for item in items] == [0.0] * 3
    assert one(run, "per_model_usage")["invocation_count"] == 3

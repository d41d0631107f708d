"""Runs that are carried out: rows are sampled and graded by scripted models, counted, and kept."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from executing import ECHO, Executing, content, executing, sampling
from plainhttp import EXACT, PlainHttp

from evals_async.inference import Models, Rule, ScriptedModels
from evals_async.server import LocalServer


def one(run: Any, name: str) -> Any:
    """The only entry of an array of a run."""
    [entry] = run[name]
    return entry


@pytest.mark.parametrize(("kind", "path"), [("completions", "/chat/completions"), ("responses", "/responses")])
async def test_rows_are_sampled_and_graded(kind: str, path: str) -> None:
    """Each row is asked once by the API of its kind; counts, usage and items tell the same story."""
    async with executing(Rule(contains="Say: no", text="yes"), ECHO) as running:
        run, items = await running.carry_out(sampling("a", "no", "c", kind=kind), EXACT)
        assert [request.path for request in running.models.requests] == [path] * 3
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 1, "passed": 2}
    assert [item["status"] for item in items] == ["pass", "fail", "pass"]
    assert (run["model"], one(run, "per_model_usage")["model_name"]) == ("gpt-4.1", "gpt-4.1-scripted")
    assert one(run, "per_model_usage")["invocation_count"] == 3
    tokens = sum(item["sample"]["usage"]["total_tokens"] for item in items)
    assert one(run, "per_model_usage")["total_tokens"] == tokens > 0
    counted = one(run, "per_testing_criteria_results")
    assert (counted["passed"], counted["failed"]) == (2, 1)
    assert {entry["name"] for item in items for entry in item["results"]} == {counted["testing_criteria"]}
    assert run["execution"] == {"calls": 3, "tokens": tokens, "billed_retries": 0, "cost": None, "notes": []}


async def test_the_sample_of_an_item_is_what_was_asked_and_said() -> None:
    """Rendered messages as text, the answer, the dated model, usage, and the parameters under the names of the API."""
    params = {"temperature": 0, "top_p": 0.5, "seed": 7, "max_completion_tokens": 9}
    async with executing() as running:
        _, (item,) = await running.carry_out(sampling("a", sampling_params=params), EXACT)
        body = running.models.requests[0].body
    assert body.items() >= params.items()
    sample = item["sample"]
    assert sample["input"] == [{"role": "developer", "content": "Say it again."}, {"role": "user", "content": "Say: a"}]
    assert sample["output"] == [{"role": "assistant", "content": "a"}]
    assert sample["usage"].keys() == {"total_tokens", "completion_tokens", "prompt_tokens", "cached_tokens"}
    rest = {name: sample[name] for name in sample.keys() - {"input", "output", "usage"}}
    assert rest == {**params, "finish_reason": "stop", "model": "gpt-4.1-scripted", "error": None}


async def test_responses_spell_the_limit_of_tokens_in_their_own_way() -> None:
    """The plural that the API has there is taken, sent as the endpoint knows it, and shown as it came."""
    async with executing() as running:
        source = sampling("a", kind="responses", sampling_params={"max_completions_tokens": 9})
        _, (item,) = await running.carry_out(source, EXACT)
        assert running.models.requests[0].body["max_output_tokens"] == 9
    assert item["sample"]["max_completions_tokens"] == 9
    assert "max_completion_tokens" not in item["sample"]


async def test_tools_are_passed_and_calls_are_graded() -> None:
    """A tool call of the model is in the item's sample, and a path leads into its arguments."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    check = {**EXACT, "input": "{{ sample.output_tools[0].function.arguments.city }}"}
    async with executing(Rule(tool_calls=[{"name": "weather", "arguments": {"city": "Rome"}}])) as running:
        _, (item,) = await running.carry_out(sampling("Rome", sampling_params={"tools": [tool]}), check)
        assert running.models.requests[0].body["tools"] == [tool]
    assert item["status"] == "pass"
    assert item["sample"]["finish_reason"] == "tool_calls"
    [output] = item["sample"]["output"]
    assert output["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}


async def test_pictures_and_messages_of_rows_reach_the_model() -> None:
    """An item_reference is a list of messages; parts keep their types; a picture is shown by its address."""
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "https://x.example/a.png"},
    ]
    row = {"item": {"input": [{"role": "user", "content": parts}], "answer": "a"}}
    source = {
        "type": "completions",
        "model": "m",
        "source": {"type": "file_content", "content": [row]},
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }
    async with executing(Rule(text="a")) as running:
        _, (item,) = await running.carry_out(source, EXACT)
        sent: Any = running.models.requests[0].body["messages"]
    assert [part["type"] for part in sent[0]["content"]] == ["text", "image_url"]
    assert item["sample"]["input"] == [{"role": "user", "content": "What is it?<image>https://x.example/a.png</image>"}]


async def test_rows_that_cannot_be_sampled_are_errors_with_the_endpoints_words() -> None:
    """Refused by the endpoint, and a placeholder that leads nowhere: errored, each criterion with the reason, and the
    other rows are graded.
    """
    refused = Rule(contains="Say: bad", status=400, message="this content is not welcome", code="content_policy")
    source = sampling("a", "bad")
    rows: Any = source["source"]
    rows["content"].append({"item": {"other": 1}})
    async with executing(refused, ECHO) as running:
        run, items = await running.carry_out(source, EXACT, {**EXACT, "name": "Again"})
    assert run["result_counts"] == {"total": 3, "errored": 2, "failed": 0, "passed": 1}
    assert [entry["passed"] for entry in run["per_testing_criteria_results"]] == [1, 1]
    for item, code, words in zip(
        items[1:], ("content_policy", "invalid_variable_error"), ("not welcome", "item.answer"), strict=True
    ):
        error = item["sample"]["error"]
        assert (item["status"], error["code"]) == ("error", code)
        assert words in error["message"]
        assert [(entry["passed"], entry["score"], entry["sample"]["error"]) for entry in item["results"]] == [
            (None, None, error)
        ] * 2
        assert item["sample"]["output"] == [{"role": "assistant", "content": ""}]
        assert item["sample"]["finish_reason"] == "error"
    assert run["execution"]["calls"] == 2


async def test_an_endpoint_that_knows_less_is_asked_as_it_can_and_the_run_says_so() -> None:
    """No /responses and no role developer: translated, answered, and noted with the number of rows."""
    async with executing(scripted={"responses": False, "developer": False}, run_concurrency=1) as running:
        run, items = await running.carry_out(sampling("a", "b", kind="responses"), EXACT)
    assert [item["status"] for item in items] == ["pass", "pass"]
    notes = run["execution"]["notes"]
    assert [note["rows"] for note in notes] == [2, 2]
    assert "/responses" in notes[0]["text"]
    assert "developer" in notes[1]["text"]


async def test_rows_with_samples_and_jsonl_rows_are_not_sampled() -> None:
    """Without a model and messages what a row brings is graded, and a row that brings nothing says what is missing;
    jsonl rows are never sampled.
    """
    given: list[dict[str, object]] = [{"item": {"answer": "a"}, "sample": {"output_text": "a"}}, {"item": {}}]
    rows = {"type": "file_content", "content": given}
    async with executing() as running:
        run, (graded, errored) = await running.carry_out({"type": "completions", "source": rows}, EXACT)
        assert (graded["status"], errored["status"]) == ("pass", "error")
        assert "`model`" in errored["sample"]["error"]["message"]
        run, (alone, _) = await running.carry_out(
            {"type": "jsonl", "source": content("a", "b")}, {**EXACT, "input": "a"}
        )
        assert (alone["status"], alone["sample"]) == ("pass", None)
        assert run["per_model_usage"] == []
        assert running.models.request_count == 0


async def test_a_deployed_model_of_foundry_is_sampled_like_any_other() -> None:
    """A target of type azure_ai_model is a model to ask, with its own parameters."""
    target = {"type": "azure_ai_model", "model": "gpt-5-nano", "sampling_params": {"temperature": 0}}
    source = sampling("a") | {"type": "azure_ai_target_completions", "target": target}
    async with executing() as running:
        run, (item,) = await running.carry_out({k: v for k, v in source.items() if k != "model"}, EXACT)
        assert running.models.requests[0].body["temperature"] == 0
    assert item["status"] == "pass"
    assert one(run, "per_model_usage")["model_name"] == "gpt-5-nano-scripted"


async def test_rows_of_files_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read chunk by chunk, a line over two of them included; a broken line fails the run unpaid."""
    monkeypatch.setattr("evals_async.server.execution.preparing.CHUNK", 16)
    async with executing() as running:
        lines = [json.dumps({"item": {"answer": f"ä{number}"}}) for number in range(5)]
        file_id = (await running.http.upload("\n\n".join(lines).encode())).json["id"]
        source = sampling() | {"source": {"type": "file_id", "id": file_id}}
        run, items = await running.carry_out(source, EXACT)
        assert [item["datasource_item"]["answer"] for item in items] == [f"ä{number}" for number in range(5)]
        assert [item["status"] for item in items] == ["pass"] * 5
        asked = running.models.request_count
        file_id = (await running.http.upload("\n".join([*lines, "{"]).encode())).json["id"]
        run, items = await running.carry_out(source | {"source": {"type": "file_id", "id": file_id}}, EXACT)
        assert (run["status"], items, running.models.request_count) == ("failed", [], asked)
        assert run["error"]["message"].startswith("line 6 is no JSON")


@pytest.mark.parametrize("where", ["run", "judge"])
async def test_a_model_that_nothing_maps_to_is_refused_at_creation(where: str) -> None:
    """400 with the names that are mapped, and no run is made."""
    judge: dict[str, object] = {
        "type": "score_model",
        "name": "Judge",
        "model": "o9" if where == "judge" else "gpt-4.1",
        "input": [],
    }
    endpoint = {"base_url": "http://127.0.0.1:1/v1"}
    document = {"models": {"gpt-4.1": endpoint, "gpt-4o*": endpoint}}
    async with (
        Models.from_mapping(document) as models,
        LocalServer(models=models) as server,
        PlainHttp(server) as http,
    ):
        running = Executing(server, ScriptedModels(), http)
        path = await running.eval_path(EXACT, judge)
        source = sampling("a") | ({"model": "o9"} if where == "run" else {})
        answer = await http.post(f"{path}/runs", {"data_source": source})
        param = "data_source.model" if where == "run" else "testing_criteria[1].model"
        assert answer.problem == (400, "model_not_found", param)
        assert "'gpt-4.1' and 'gpt-4o*'" in answer.json["error"]["message"]
        assert (await http.get(f"{path}/runs")).json["data"] == []


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


# --- over time --------------------------------------------------------------------------------------------------------


async def test_counts_grow_while_the_run_goes_on() -> None:
    """Queued, in progress with the number of all rows and of those that are done, completed."""
    slow = Rule(contains="Say: slow", text="slow", latency=60)
    async with executing(slow, ECHO) as running:
        path = await running.eval_path(EXACT)
        made = (await running.http.post(f"{path}/runs", {"data_source": sampling("a", "b", "slow")})).json
        assert (made["status"], made["result_counts"]["total"]) == ("queued", 0)
        run_path = f"{path}/runs/{made['id']}"
        async with asyncio.timeout(10):
            while (run := (await running.http.get(run_path)).json)["result_counts"]["passed"] < 2:
                await asyncio.sleep(0.005)
        assert (run["status"], run["result_counts"]["total"]) == ("in_progress", 3)
        assert one(run, "per_model_usage")["invocation_count"] == 2
        [listed] = (await running.http.get(f"{path}/runs", status="in_progress")).json["data"]
        assert listed == run
        assert len((await running.http.get(f"{run_path}/output_items")).json["data"]) == 2


@pytest.mark.parametrize("suffix", ["", "/cancel"])
async def test_cancel_stops_within_a_second_and_keeps_what_is_done(suffix: str) -> None:
    """Canceled with the items and counts of the rows that were done; nothing is asked any more."""
    async with executing(Rule(contains="Say: slow", text="slow", latency=60), ECHO, run_concurrency=2) as running:
        run_path = await running.start(await running.eval_path(EXACT), sampling("a", "slow", "slow", "d"))
        async with asyncio.timeout(10):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        began = asyncio.get_running_loop().time()
        canceled = (await running.http.send("POST", run_path + suffix)).json
        assert asyncio.get_running_loop().time() - began < 1
        assert canceled["status"] == "canceled"
        run, items = await running.ended(run_path)
        assert run == canceled
        assert run["result_counts"] == {"total": 1, "errored": 0, "failed": 0, "passed": 1}
        assert [item["datasource_item"]["answer"] for item in items] == ["a"]
        assert (await running.http.send("POST", run_path + suffix)).json == canceled
        assert running.models.request_count == 3


async def test_a_deleted_run_is_stopped() -> None:
    """A run, and an eval with its runs, are gone although they were under way, and no call is made for them."""
    async with executing(Rule(text="slow", latency=60), run_concurrency=1) as running:
        path = await running.eval_path(EXACT)
        first, second = [await running.start(path, sampling("a", "b")) for _ in range(2)]
        async with asyncio.timeout(10):
            while running.models.request_count < 2:
                await asyncio.sleep(0.005)
        assert (await running.http.delete(first)).status == 200
        assert (await running.http.get(first)).status == 404
        assert (await running.http.delete(path)).status == 200
        assert (await running.http.get(second)).status == 404
        assert running.models.request_count == 2


async def test_rows_of_all_runs_share_the_server() -> None:
    """No more rows are worked on at once than the server allows, whatever the runs allow."""
    async with executing(Rule(text="x", latency=60), concurrency=3, run_concurrency=2) as running:
        path = await running.eval_path(EXACT)
        for _ in range(3):
            await running.start(path, sampling(*"abcd"))
        async with asyncio.timeout(10):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        for _ in range(20):
            await running.http.get(path)
        assert running.models.request_count == 3


async def test_a_limit_ends_the_run_as_failed_with_its_items() -> None:
    """No call beyond the limit is made; the run says which limit it was, and keeps what was paid for."""
    async with executing(max_calls=3) as running:
        run, items = await running.carry_out(sampling(*"abcdef"), EXACT)
        assert running.models.request_count == 3
    assert (run["status"], run["error"]["code"], len(items)) == ("failed", "max_calls_reached", 3)
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert one(run, "per_model_usage")["invocation_count"] == 3


async def test_tokens_are_limited_too() -> None:
    """No row is begun when so many tokens were used."""
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    async with executing(Rule(text="a", usage=usage), max_tokens=100, run_concurrency=1) as running:
        run, items = await running.carry_out(sampling(*"abcdef"), EXACT)
    assert (run["status"], run["error"]["code"], len(items)) == ("failed", "max_tokens_reached", 2)
    assert "100 tokens" in run["error"]["message"]


async def test_a_run_within_its_limits_completes() -> None:
    """Exactly as many calls as are allowed are no failure."""
    async with executing(max_calls=3) as running:
        run, _ = await running.carry_out(sampling(*"abc"), EXACT)
    assert run["status"] == "completed"


async def test_a_lost_answer_is_asked_for_again_and_counted() -> None:
    """What may have been billed twice is told."""
    async with executing(Rule(drop=True, times=1), ECHO) as running:
        run, (item,) = await running.carry_out(sampling("a"), EXACT)
    assert item["status"] == "pass"
    assert run["execution"]["billed_retries"] == 1


# --- after a restart --------------------------------------------------------------------------------------------------


async def test_the_next_server_goes_on_with_what_is_left(tmp_path: Path) -> None:
    """A server that was closed in the middle: the next one asks only about the rows that were not done."""
    store = tmp_path / "store.db"
    slow = Rule(contains="Say: slow", text="slow", latency=60)
    async with ScriptedModels(slow, ECHO) as models:
        async with LocalServer(store, models=models.base_url) as first, PlainHttp(first) as http:
            running = Executing(first, models, http)
            run_path = await running.start(await running.eval_path(EXACT), sampling("a", "b", "slow"))
            async with asyncio.timeout(10):
                while (await http.get(run_path)).json["result_counts"]["passed"] < 2:
                    await asyncio.sleep(0.005)
        models.rules[:] = [ECHO]
        models.requests.clear()
        async with LocalServer(store, models=models.base_url) as second, PlainHttp(second) as http:
            run, items = await Executing(second, models, http).ended(run_path)
        assert [request.prompt.splitlines()[-1] for request in models.requests] == ["Say: slow"]
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert [item["datasource_item"]["answer"] for item in items] == ["a", "b", "slow"]
    assert one(run, "per_model_usage")["invocation_count"] == 3


async def test_a_server_without_models_leaves_runs_to_be_carried_out_alone(tmp_path: Path) -> None:
    """What was begun with models waits for a server with models; it can be canceled meanwhile."""
    store = tmp_path / "store.db"
    async with executing(Rule(text="slow", latency=60), store=store) as running:
        path = await running.eval_path(EXACT)
        paths = [await running.start(path, sampling("a")) for _ in range(2)]
        async with asyncio.timeout(10):
            while running.models.request_count < 2:
                await asyncio.sleep(0.005)
    async with LocalServer(store, queued_seconds=0, running_seconds=0) as plain, PlainHttp(plain) as http:
        assert (await http.get(paths[0])).json["status"] == "in_progress"
        assert (await http.send("POST", f"{paths[0]}/cancel")).json["status"] == "canceled"
    async with executing(store=store) as running:
        assert (await running.ended(paths[0]))[0]["status"] == "canceled"
        assert (await running.ended(paths[1]))[0]["status"] == "completed"
        assert running.models.request_count == 1


async def test_a_store_that_cannot_be_written_to_delays_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process holds the file the run waits and can be read; then it goes on, and every row is there
    once.
    """
    monkeypatch.setattr("evals_async._store.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("evals_async.server.execution.executor.RETRY_SECONDS", (0.05,))
    store = tmp_path / "store.db"
    async with executing(Rule(contains="Say: b", text="b", latency=0.1), ECHO, store=store) as running:
        run_path = await running.start(await running.eval_path(EXACT), sampling("a", "b", "c"))
        async with asyncio.timeout(10):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(10):
                while "the store cannot be written to" not in caplog.text:
                    assert (await running.http.get(run_path)).json["status"] == "in_progress"
                    await asyncio.sleep(0.005)
            other.execute("ROLLBACK")
        run, items = await running.ended(run_path)
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert len(items) == 3


async def test_runs_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """More runs than are carried out at once stay queued, and come in their order."""
    monkeypatch.setattr("evals_async.server.execution.limits.MOST_RUNS", 1)
    async with executing(Rule(contains="Say: slow", text="slow", latency=60), ECHO) as running:
        path = await running.eval_path(EXACT)
        first = await running.start(path, sampling("slow"))
        second = await running.start(path, sampling("a"))
        async with asyncio.timeout(10):
            while running.models.request_count < 1:
                await asyncio.sleep(0.005)
        assert (await running.http.get(second)).json["status"] == "queued"
        await running.http.send("POST", f"{first}/cancel")
        assert (await running.ended(second))[0]["status"] == "completed"

"""Runs that are carried out: rows are sampled by scripted models, counted, and kept."""

import json
from typing import Any

import pytest
from executing import ECHO, Executing, content, executing, one, sampling
from plainhttp import EXACT, PlainHttp

from evals_async.inference import Models, Rule, ScriptedModels
from evals_async.server import LocalServer


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
    assert "/responses" in notes[1]["text"]
    assert "developer" in notes[0]["text"]


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


@pytest.mark.parametrize("bounds", [{"CHUNK": 16}, {"PIECE": 2}, {"PIECE_TEXT": 1}, {"ROWS_PER_STEP": 1}], ids=str)
async def test_rows_of_files_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int]) -> None:
    """A file is read chunk by chunk, a line over two of them included, and put down in pieces; a broken line fails the
    run unpaid.
    """
    for name, value in bounds.items():
        monkeypatch.setattr(f"evals_async.server.execution.preparing.{name}", value)
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
        assert run["error"]["message"].startswith("line 6 is not JSON")


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

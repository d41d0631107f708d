"""The official client creates, polls and reads evals that are carried out: each criterion, each source, and the shapes
that the service was seen to answer with.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import openai
import pytest
from waiting import LONGEST

from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer


USER = "Sort the ticket: "
JUDGES = (
    Rule(contains="Which label", result="right", steps=[{"description": "Compare", "conclusion": "They agree"}]),
    Rule(contains="Which score", result=0.75, steps=[{"description": "Read", "conclusion": "Fine"}]),
    Rule(text=lambda request: request.prompt.rsplit(USER, 1)[-1].strip()),
)
CONFIG: Any = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"ticket": {"type": "string"}, "label": {"type": "string"}}},
    "include_sample_schema": True,
}
COMPARED: Mapping[str, Any] = {"input": "{{ sample.output_text }}", "reference": "{{ item.label }}"}
ASKED: Any = [
    {"role": "developer", "content": "You are a careful judge."},
    {"role": "user", "content": "{question} fits {{ sample.output_text }} to {{ item.label }}?"},
]


def asked(question: str) -> Any:
    return [{**message, "content": message["content"].replace("{question}", question)} for message in ASKED]


CRITERIA: Mapping[str, Any] = {
    "string_check": {"type": "string_check", "name": "Exact", "operation": "eq", **COMPARED},
    "text_similarity": {
        "type": "text_similarity",
        "name": "Close",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.8,
        **COMPARED,
    },
    "cosine": {
        "type": "text_similarity",
        "name": "Near",
        "evaluation_metric": "cosine",
        "pass_threshold": 0.8,
        **COMPARED,
    },
    "label_model": {
        "type": "label_model",
        "name": "Labelled",
        "model": "gpt-5-mini",
        "input": asked("Which label"),
        "labels": ["right", "wrong"],
        "passing_labels": ["right"],
    },
    "score_model": {
        "type": "score_model",
        "name": "Scored",
        "model": "gpt-5-mini",
        "input": asked("Which score"),
        "range": [0, 1],
        "pass_threshold": 0.7,
    },
    "python": {
        "type": "python",
        "name": "Coded",
        "source": "def grade(sample, item):\n    return float(sample['output_text'] == item['label'])\n",
        "pass_threshold": 1.0,
    },
}
ROWS = [{"item": {"ticket": name, "label": name}} for name in ("Hardware", "Software", "Other")]
TEMPLATE: Any = {"type": "template", "template": [{"role": "user", "content": USER + "{{ item.ticket }}"}]}
AGAIN: Any = {"type": "item_reference", "item_reference": "item.input"}


@attrs.frozen
class Place:
    """A server that carries runs out, its models, and the official client of it."""

    server: LocalServer
    models: ScriptedModels
    client: openai.AsyncOpenAI

    async def ended(self, source: Any, *criteria: Any, config: Any = CONFIG) -> tuple[Any, list[Any], Any]:
        """A run that was polled until its end, its items by page, and its eval."""
        made = await self.client.evals.create(
            name="Tickets", data_source_config=config, testing_criteria=list(criteria)
        )
        run: Any = await self.client.evals.runs.create(made.id, name="Run", data_source=source)
        assert run.status == "queued"
        async with asyncio.timeout(LONGEST):
            while run.status in ("queued", "in_progress"):
                await asyncio.sleep(0.01)
                run = await self.client.evals.runs.retrieve(run.id, eval_id=made.id)
        items = [item async for item in self.client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=2)]
        return run, sorted(items, key=lambda item: item.datasource_item_id), made


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with (
        ScriptedModels(*JUDGES) as models,
        LocalServer(models=models.base_url, python_graders="trusted", record=True, api_key="local") as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
    ):
        yield Place(server, models, client)


def completions(**fields: Any) -> Any:
    source = {"type": "file_content", "content": ROWS}
    return {"type": "completions", "model": "gpt-4.1", "source": source, "input_messages": TEMPLATE, **fields}


# --- each criterion ---------------------------------------------------------------------------------------------------

RUN_FIELDS = {
    *("object", "id", "eval_id", "status", "model", "name", "created_at", "report_url", "result_counts"),
    *("per_model_usage", "per_testing_criteria_results", "data_source", "metadata", "error", "shared_with_openai"),
}
ITEM_FIELDS = {
    *("object", "id", "run_id", "eval_id", "created_at", "status", "datasource_item_id", "datasource_item"),
    *("results", "sample", "_datasource_item_content_hash"),
}
JUDGE_FIELDS = {"input", "output", "finish_reason", "model", "usage", "error", "temperature", "top_p"}
USAGE_FIELDS = {"total_tokens", "completion_tokens", "prompt_tokens", "cached_tokens"}


@pytest.mark.parametrize("kind", list(CRITERIA))
async def test_each_criterion_is_carried_out(place: Place, kind: str) -> None:
    """Created, polled and paged by the official client; every row passes, under the criterion's id with its suffix."""
    run, items, made = await place.ended(completions(), CRITERIA[kind])
    criterion = made.testing_criteria[0]
    name = CRITERIA[kind]["name"]
    assert criterion.id.startswith(f"{name}-")
    assert len(criterion.id) == len(name) + 37  # a UUID
    assert run.status == "completed", run.error
    assert run.to_dict().keys() == RUN_FIELDS | {"execution"}
    assert run.result_counts.to_dict() == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    [counted] = [entry.to_dict() for entry in run.per_testing_criteria_results]
    assert counted == {
        "testing_criteria": criterion.id,
        "testing_criteria_id": criterion.id,
        "passed": 3,
        "failed": 0,
    }
    for number, item in enumerate(items):
        body = item.to_dict()
        assert body.keys() == ITEM_FIELDS
        assert (item.datasource_item_id, item.datasource_item) == (number, ROWS[number]["item"])
        [result] = body["results"]
        assert result.keys() == {"name", "score", "passed", "sample"}
        assert (result["name"], result["passed"]) == (criterion.id, True)
        assert item.sample.output[0].content == ROWS[number]["item"]["label"]
    if kind in ("label_model", "score_model"):
        check_judgement(items[0].to_dict()["results"][0]["sample"], kind)


def check_judgement(sample: Any, kind: str) -> None:
    """A judge's whole exchange stands in its result: captured bodies have these fields, and the verdict as text."""
    assert sample.keys() >= JUDGE_FIELDS
    assert [message["role"] for message in sample["input"]] == ["developer", "user"]
    said = json.loads(sample["output"][0]["content"])
    assert said["result"] == {"label_model": "right", "score_model": 0.75}[kind]
    assert said["steps"][0].keys() == {"description", "conclusion"}
    assert sample["usage"].keys() == USAGE_FIELDS
    assert (sample["model"], sample["error"], sample["finish_reason"]) == ("gpt-5-mini-scripted", None, "stop")


async def test_all_criteria_at_once(place: Place) -> None:
    """Six criteria: results in their order, usage by the dated name of each model."""
    run, items, made = await place.ended(completions(), *CRITERIA.values())
    ids = [criterion.id for criterion in made.testing_criteria]
    assert [[result.name for result in item.results] for item in items] == [ids] * 3
    assert [entry.testing_criteria for entry in run.per_testing_criteria_results] == ids
    usage = {entry.model_name: entry for entry in run.per_model_usage}
    assert usage["gpt-4.1-scripted"].invocation_count == 3
    assert usage["gpt-5-mini-scripted"].invocation_count == 6
    assert all(entry.total_tokens == entry.prompt_tokens + entry.completion_tokens for entry in usage.values())


# --- each source ------------------------------------------------------------------------------------------------------


async def uploaded(place: Place, rows: list[Any]) -> str:
    data = "\n".join(map(json.dumps, rows)).encode()
    return (await place.client.files.create(file=("rows.jsonl", data), purpose="evals")).id


async def test_jsonl_rows_bring_their_samples_or_none(place: Place) -> None:
    """From the request and from a file: never sampled; without a sample the item has none."""
    rows = [{**row, "sample": {"output_text": row["item"]["label"]}} for row in ROWS]
    for source in ({"type": "file_content", "content": rows}, {"type": "file_id", "id": await uploaded(place, rows)}):
        run, items, _ = await place.ended({"type": "jsonl", "source": source}, CRITERIA["string_check"])
        assert (run.result_counts.passed, run.model) == (3, None)
        assert items[0].sample.output[0].content == "Hardware"
    item_only = {**CRITERIA["string_check"], "input": "{{ item.ticket }}"}
    run, items, _ = await place.ended({"type": "jsonl", "source": {"type": "file_content", "content": ROWS}}, item_only)
    assert run.result_counts.passed == 3
    assert [item.sample for item in items] == [None] * 3
    assert place.models.request_count == 0


@pytest.mark.parametrize("kind", ["completions", "responses"])
@pytest.mark.parametrize("where", ["content", "file"])
async def test_rows_are_sampled_from_content_and_files(place: Place, kind: str, where: str) -> None:
    """By the API of the run's kind, with a template."""
    source = completions(type=kind)
    if where == "file":
        source["source"] = {"type": "file_id", "id": await uploaded(place, ROWS)}
    run, items, _ = await place.ended(source, CRITERIA["string_check"])
    assert run.result_counts.passed == 3
    assert run.data_source.type == kind
    assert {request.path for request in place.models.requests} == {
        {"completions": "/chat/completions", "responses": "/responses"}[kind]
    }
    assert items[0].sample.input[0].content == USER + "Hardware"


async def test_messages_of_rows_are_sampled(place: Place) -> None:
    """An item_reference names a field that holds whole conversations."""
    rows = [
        {
            "item": {
                "input": [{"role": "system", "content": "Sort."}, {"role": "user", "content": USER + name}],
                "label": name,
            }
        }
        for name in ("Hardware", "Other")
    ]
    source = completions(source={"type": "file_content", "content": rows}, input_messages=AGAIN)
    run, items, _ = await place.ended(source, CRITERIA["string_check"])
    assert run.result_counts.passed == 2
    assert [message.role for message in items[0].sample.input] == ["system", "user"]


async def test_stored_completions_are_monitored_and_asked_again(place: Place) -> None:
    """What an application said through the official client is graded as it is, and again by another model."""
    for name in ("Hardware", "Other"):
        await place.client.chat.completions.create(
            model="gpt-4.1",
            messages=[{"role": "user", "content": USER + name}],
            store=True,
            metadata={"usecase": "tickets"},
        )
    config = {"type": "stored_completions", "metadata": {"usecase": "tickets"}}
    check = {**CRITERIA["label_model"], "input": asked("Which label")}
    check["input"] = [{"role": "user", "content": "Which label fits {{ item.input }} and {{ sample.output_text }}?"}]
    stored = {"type": "stored_completions", "metadata": {"usecase": "tickets"}}
    run, items, _ = await place.ended({"type": "completions", "source": stored}, check, config=config)
    assert run.result_counts.passed == 2
    assert [item.sample.output[0].content for item in items] == ["Hardware", "Other"]
    source = {"type": "completions", "source": stored, "model": "gpt-5", "input_messages": AGAIN}
    run, items, _ = await place.ended(source, check, config=config)
    assert {item.sample.model for item in items} == {"gpt-5-scripted"}


async def test_logged_responses_are_graded(place: Place) -> None:
    """An eval over logs finds what the official client's responses said."""
    await place.client.responses.create(model="gpt-4.1", input=USER + "Other", metadata={"usecase": "tickets"})
    source = {"type": "responses", "source": {"type": "responses", "metadata": {"usecase": "tickets"}, "limit": 10}}
    check = {**CRITERIA["string_check"], "reference": "Other"}
    run, items, _ = await place.ended(source, check, config={"type": "logs", "metadata": {"usecase": "tickets"}})
    assert (run.result_counts.passed, items[0].sample.output[0].content) == (1, "Other")


# --- the rest of a life -----------------------------------------------------------------------------------------------


async def test_items_are_filtered_and_runs_are_canceled(place: Place) -> None:
    """The filter on fail and pass, a cancel on the way, and a model that nothing maps to is taken by the pattern."""
    wrong = {**CRITERIA["string_check"], "reference": "Hardware"}
    run, _, made = await place.ended(completions(), wrong)
    listed: dict[str, list[Any]] = {
        status: [
            item.datasource_item["label"]
            async for item in place.client.evals.runs.output_items.list(run.id, eval_id=made.id, status=status)
        ]
        for status in ("pass", "fail")
    }
    assert (listed["pass"], sorted(listed["fail"])) == (["Hardware"], ["Other", "Software"])
    place.models.add(Rule(contains=USER, text="x", latency=60))
    under_way = await place.client.evals.runs.create(made.id, data_source=completions())
    canceled = await place.client.evals.runs.cancel(under_way.id, eval_id=made.id)
    assert canceled.status == "canceled"
    assert (await place.client.evals.runs.retrieve(under_way.id, eval_id=made.id)).status == "canceled"

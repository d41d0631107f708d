"""Definitions as people write them: the kinds of evals that guides show, from the official client to a finished run."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from waiting import LONGEST

from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer


@pytest.fixture
async def models() -> AsyncIterator[ScriptedModels]:
    async with ScriptedModels() as running:
        yield running


@pytest.fixture
async def client(models: ScriptedModels) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        LocalServer(models=models.base_url, python_graders="trusted", record=True) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as made,
    ):
        yield made


async def carried_out(client: openai.AsyncOpenAI, config: Any, criteria: Any, source: Any) -> tuple[Any, list[Any]]:
    """A run that was awaited, and its items in the order of the rows."""
    made = await client.evals.create(name="Use case", data_source_config=config, testing_criteria=criteria)
    run: Any = await client.evals.runs.create(made.id, name="Run", data_source=source)
    async with asyncio.timeout(LONGEST):
        while run.status not in ("completed", "failed", "canceled"):
            await asyncio.sleep(0.01)
            run = await client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert run.status == "completed", run.error
    items: list[Any] = [item.to_dict() async for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
    assert run.result_counts.errored == 0, [item["sample"]["error"] for item in items]
    return run, sorted(items, key=lambda item: item["datasource_item_id"])


def custom(**properties: Any) -> Any:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "custom", "item_schema": schema, "include_sample_schema": True}


def rows(*items: dict[str, Any]) -> Any:
    return {"type": "file_content", "content": [{"item": item} for item in items]}


async def test_two_prompts_are_compared_by_a_labelling_judge(
    client: openai.AsyncOpenAI, models: ScriptedModels
) -> None:
    """A summary of notifications, judged correct or not by a grader with a long rubric; one run for each prompt."""
    models.add(
        Rule(contains="short: ", model="gpt-4o", text="Two deliveries."),
        Rule(contains="long: ", model="gpt-4o", text="Far too much text."),
        Rule(contains="<summary>Two", model="o3-mini", result="correct"),
        Rule(contains="<summary>Far", model="o3-mini", result="incorrect"),
    )
    rubric = "Label it. <push>{{item.notifications}}</push><summary>{{sample.output_text}}</summary>"
    judge = {
        "type": "label_model",
        "name": "Push notification summary",
        "model": "o3-mini",
        "input": [{"role": "developer", "content": "You grade summaries."}, {"role": "user", "content": rubric}],
        "labels": ["correct", "incorrect"],
        "passing_labels": ["correct"],
    }
    passed: list[int] = []
    for prompt in ("short", "long"):
        template = [
            {"role": "developer", "content": f"{prompt}: summarise."},
            {"role": "user", "content": "<push>{{item.notifications}}</push>"},
        ]
        source = {
            "type": "completions",
            "source": rows({"notifications": "- parcel one\n- parcel two"}),
            "model": "gpt-4o",
            "input_messages": {"type": "template", "template": template},
            "sampling_params": {"seed": 42, "temperature": 0.7, "max_completion_tokens": 10_000, "top_p": 0.9},
        }
        run, _ = await carried_out(client, custom(notifications={"type": "string"}), [judge], source)
        passed.append(run.result_counts.passed)
    assert passed == [1, 0]


async def test_completions_of_an_application_are_monitored(client: openai.AsyncOpenAI, models: ScriptedModels) -> None:
    """Two versions of a prompt write their completions with metadata; one eval, one run for each version."""
    models.add(
        Rule(contains="Judge", model="o3-mini", when=lambda request: "good news" in request.prompt, result="correct"),
        Rule(contains="Judge", model="o3-mini", result="incorrect"),
        Rule(contains="v1", text="bad news"),
        Rule(contains="v2", text="good news"),
    )
    for version in ("v1", "v2"):
        for number in range(2):
            await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "developer", "content": version}, {"role": "user", "content": f"News {number}"}],
                store=True,
                metadata={"prompt_version": version, "usecase": "push"},
            )
    judge = {
        "type": "label_model",
        "name": "summary",
        "model": "o3-mini",
        "input": [
            {"role": "developer", "content": "Judge the answer."},
            {"role": "user", "content": "{{item.input}} answered {{sample.output_text}}"},
        ],
        "labels": ["correct", "incorrect"],
        "passing_labels": ["correct"],
    }
    config = {"type": "stored_completions", "metadata": {"usecase": "push"}}
    counts: list[int] = []
    for version in ("v1", "v2"):
        source = {"type": "stored_completions", "metadata": {"prompt_version": version}}
        run, items = await carried_out(client, config, [judge], {"type": "completions", "source": source})
        assert len(items) == 2
        counts.append(run.result_counts.passed)
    assert counts == [0, 2]


async def test_calls_of_tools_are_graded(client: openai.AsyncOpenAI, models: ScriptedModels) -> None:
    """A function of the Responses API: its arguments are read by a judge, by a string check, and by Python."""
    symbols = [{"name": "App", "symbol_type": "class"}, {"name": "run", "symbol_type": "function"}]
    models.add(
        Rule(contains="Score the symbols", result=1.0),
        Rule(contains="<code>", tool_calls=[{"name": "extract_symbols", "arguments": {"symbols": symbols}}]),
    )
    tool = {
        "type": "function",
        "name": "extract_symbols",
        "parameters": {"type": "object", "properties": {"symbols": {"type": "array"}}},
    }
    score = {
        "type": "score_model",
        "name": "Symbols",
        "model": "o3-mini",
        "input": [
            {"role": "system", "content": "Score the symbols."},
            {"role": "user", "content": "{{sample.output_tools[0].function.arguments.symbols}}"},
        ],
        "range": [0, 1],
        "pass_threshold": 0.5,
    }
    check = {
        "type": "string_check",
        "name": "First symbol",
        "input": "{{sample.output_tools[0].function.arguments.symbols[0].name}}",
        "reference": "{{ item.first }}",
        "operation": "eq",
    }
    code = {
        "type": "python",
        "name": "All symbols",
        "source": (
            "import json\n\n"
            "def grade(sample, item):\n"
            "    call = sample['output'][0]['tool_calls'][0]['function']\n"
            "    found = {entry['name'] for entry in json.loads(call['arguments'])['symbols']}\n"
            "    return len(found & set(item['names'])) / len(item['names'])\n"
        ),
        "pass_threshold": 1.0,
    }
    source = {
        "type": "responses",
        "source": rows({"code": "class App: ...", "first": "App", "names": ["App", "run"]}),
        "model": "gpt-4.1-mini",
        "input_messages": {
            "type": "template",
            "template": [
                {
                    "type": "message",
                    "role": "system",
                    "content": {"type": "input_text", "text": "Extract the symbols."},
                },
                {"type": "message", "role": "user", "content": {"type": "input_text", "text": "<code>{{item.code}}"}},
            ],
        },
        "sampling_params": {"seed": 42, "temperature": 0.7, "max_completions_tokens": 10_000, "tools": [tool]},
    }
    config = custom(code={"type": "string"}, first={"type": "string"}, names={"type": "array"})
    _, (item,) = await carried_out(client, config, [score, check, code], source)
    assert [result["score"] for result in item["results"]] == [1.0, 1.0, 1.0]
    assert item["status"] == "pass"
    judged = next(request for request in models.requests if request.model == "o3-mini")
    assert json.loads(judged.prompt.splitlines()[-1]) == symbols


async def test_structured_output_is_graded_by_code_and_by_its_fields(
    client: openai.AsyncOpenAI, models: ScriptedModels
) -> None:
    """A JSON schema for the answer, in the spelling of each API; `sample.output_json` in templates and in Python."""
    source_of_year = "def grade(sample, item):\n    return float(sample['output_json']['year'] == item['year'])\n"
    models.add(Rule(contains="Who", json={"name": "Ada", "year": 1815}))
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "year": {"type": "integer"}}}
    check = {
        "type": "string_check",
        "name": "Name",
        "input": "{{ sample.output_json.name }}",
        "reference": "{{ item.name }}",
        "operation": "eq",
    }
    code = {
        "type": "python",
        "name": "Year",
        "source": source_of_year,
        "pass_threshold": 0.5,
    }
    form = {"name": "person", "schema": schema, "strict": True}
    params: dict[str, dict[str, object]] = {
        "completions": {
            "response_format": {
                "type": "json_schema",
                "json_schema": form,
            }
        },
        "responses": {"text": {"format": {"type": "json_schema", **form}}},
    }
    for kind, sampling in params.items():
        source = {
            "type": kind,
            "source": rows({"name": "Ada", "year": 1815}),
            "model": "gpt-4.1",
            "input_messages": {"type": "template", "template": [{"role": "user", "content": "Who is {{item.name}}?"}]},
            "sampling_params": sampling,
        }
        run, _ = await carried_out(client, custom(name={"type": "string"}), [check, code], source)
        assert run.result_counts.passed == 1
        assert models.requests[-1].body.items() >= sampling.items()


async def test_pictures_are_sampled_and_judged(client: openai.AsyncOpenAI, models: ScriptedModels) -> None:
    """An image of the row goes to the model and to the judge as an image, and is shown by its address."""
    models.add(Rule(contains="Judge", result=0.9), Rule(contains="Describe", text="A cat."))
    picture = {"type": "input_image", "image_url": "{{ item.media_url }}", "detail": "auto"}
    judge = {
        "type": "score_model",
        "name": "Score Model Grader",
        "model": "o4-mini",
        "input": [
            {"role": "system", "content": "Judge the answer."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Answer: {{ sample.output_text }}"},
                    picture,
                    {"type": "input_text", "text": "Reference: {{ item.reference }}"},
                ],
            },
        ],
        "range": [0, 1],
        "pass_threshold": 0.5,
    }
    source = {
        "type": "responses",
        "source": rows({"prompt": "Describe it", "media_url": "https://x.example/cat.png", "reference": "cat"}),
        "model": "gpt-4o-mini",
        "input_messages": {
            "type": "template",
            "template": [
                {"type": "message", "role": "user", "content": {"type": "input_text", "text": "{{ item.prompt }}"}},
                {"type": "message", "role": "user", "content": picture},
            ],
        },
    }
    config = custom(prompt={"type": "string"}, media_url={"type": "string"}, reference={"type": "string"})
    _, (item,) = await carried_out(client, config, [judge], source)
    assert item["results"][0]["score"] == 0.9
    assert item["sample"]["input"][1]["content"] == "<image>https://x.example/cat.png</image>"
    said = item["results"][0]["sample"]["input"][1]["content"]
    assert "<image>https://x.example/cat.png</image>" in said
    judged = next(request for request in models.requests if request.model == "o4-mini")
    assert "https://x.example/cat.png" in json.dumps(judged.body["messages"], default=list)


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example/mcp", "require_approval": "never"},
        {"type": "web_search_preview"},
    ],
    ids=["mcp", "web search"],
)
async def test_hosted_tools_are_passed_on_as_they_are(
    client: openai.AsyncOpenAI, models: ScriptedModels, tool: dict[str, str]
) -> None:
    """An endpoint that has them carries them out; one that has none makes the rows errors, with its words."""
    models.add(Rule(contains="Ask", text="42"))
    check = {
        "type": "string_check",
        "name": "A",
        "input": "{{sample.output_text}}",
        "reference": "42",
        "operation": "eq",
    }
    source = {
        "type": "responses",
        "source": rows({"query": "Ask the docs"}),
        "model": "gpt-4.1",
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.query}}"}]},
        "sampling_params": {"tools": [tool], "temperature": 1.0, "max_completions_tokens": 100},
    }
    run, _ = await carried_out(client, custom(query={"type": "string"}), [{**check, "operation": "eq"}], source)
    assert run.result_counts.passed == 1
    assert models.requests[0].body["tools"] == [tool]

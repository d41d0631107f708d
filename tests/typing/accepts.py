"""Code that users write, which mypy and pyright must take as it is. Checked, never run; see test_typing.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, assert_type

import attrs

from evals_async import EvalsClient, FanOut, Outcome, Page, RawResponse, to_arrow, to_rows
from evals_async.archive import Archive
from evals_async.models import (
    AzureResponsesDataSource,
    CompletionsDataSource,
    CsvDataSource,
    CustomDataSourceConfig,
    CustomDataSourceConfigParam,
    DataSourceConfigInput,
    ErrorInfo,
    Eval,
    EvalDefinition,
    EvalRun,
    FileContent,
    FileContentRow,
    FileId,
    Grader,
    GraderInput,
    GraderResult,
    GraderRun,
    InputAudio,
    InputAudioData,
    InputImage,
    InputText,
    ItemReference,
    JsonlDataSource,
    LabelModelGrader,
    LogsDataSourceConfig,
    Message,
    MessageInput,
    MultiGrader,
    OutputItem,
    OutputText,
    PythonGrader,
    ResponsesDataSource,
    ResponsesSource,
    RunDataSource,
    RunDataSourceInput,
    RunDeleted,
    RunSucceededEvent,
    SamplingParams,
    ScoreModelGrader,
    StoredCompletionsSource,
    StringCheckGrader,
    StringCheckGraderParam,
    TemplateMessages,
    TextSimilarityGrader,
    Unknown,
    WebhookEvent,
    without_uuid,
)


# --- classes ---------------------------------------------------------------------------------------------------------

STRING = StringCheckGrader(name="a", input="{{ sample.output_text }}", reference="{{ item.answer }}", operation="eq")
SIMILAR = TextSimilarityGrader(name="b", input="x", reference="y", evaluation_metric="bleu", pass_threshold=1)
LABEL = LabelModelGrader(
    name="c",
    model="gpt-4.1",
    input=(Message(role="user", content="hi"), Unknown(type="x", raw={})),
    labels=("good", "bad"),
    passing_labels=("good",),
)
SCORE = ScoreModelGrader(name="d", model="o4-mini", input=(), range=(0, 5.5), sampling_params=SamplingParams(seed=1))
PYTHON = PythonGrader(name="e", source="def grade(sample, item): return 1.0", image_tag="2025-05-08")
MULTI = MultiGrader(name="f", graders={"a": STRING, "b": SIMILAR}, calculate_output="a + b")
PAIR = MultiGrader(name="f", graders=(STRING, SIMILAR), calculate_output="a + b")
PARTS = Message(
    role="user",
    content=(
        "plain",
        InputText(text="a"),
        OutputText(text="b"),
        InputImage(image_url="https://example.com/a.png", detail="low"),
        InputAudio(input_audio=InputAudioData(data="", format="wav")),
    ),
)
NEWER_OPERATION = StringCheckGrader(name="a", input="x", reference="y", operation="an operation of next year")
EVOLVED = attrs.evolve(STRING, operation="ilike")

# --- mappings --------------------------------------------------------------------------------------------------------

graders: list[GraderInput] = [
    {"type": "string_check", "name": "a", "input": "x", "reference": "y", "operation": "ilike"},
    {"type": "text_similarity", "name": "a", "input": "x", "reference": "y", "evaluation_metric": "rouge_l"},
    {
        "type": "label_model",
        "name": "a",
        "model": "gpt-4.1",
        "input": [
            {"role": "developer", "content": "plain"},
            {"type": "message", "role": "user", "content": {"type": "input_text", "text": "one part"}},
            {"role": "user", "content": ["plain", {"type": "input_image", "image_url": "x"}, InputText(text="y")]},
            PARTS,
        ],
        "labels": ["good", "bad"],
        "passing_labels": ("good",),
    },
    {
        "type": "score_model",
        "name": "a",
        "model": "o4-mini",
        "input": (Message(role="user", content="hi"),),
        "range": [0, 1],
        "pass_threshold": 0.5,
        "sampling_params": {"max_completions_tokens": 10, "reasoning_effort": None},
    },
    {"type": "python", "name": "a", "source": "…", "pass_threshold": 1},
    {"type": "azure_ai_evaluator", "name": "a", "evaluator_name": "builtin.coherence", "data_mapping": {"query": "x"}},
    {"type": "multi", "name": "a", "graders": STRING, "calculate_output": "a"},
    {"type": "multi", "name": "a", "graders": [STRING, SIMILAR], "calculate_output": "a"},
    {
        "type": "multi",
        "name": "a",
        "graders": {
            "a": STRING,
            "b": {"type": "string_check", "name": "b", "input": "x", "reference": "y", "operation": "eq"},
        },
        "calculate_output": "a + b",
    },
    STRING,
    LABEL,
    Unknown(type="vibe_check", raw={"type": "vibe_check"}),
]

configs: list[DataSourceConfigInput] = [
    {"type": "custom", "item_schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
    {"type": "custom", "item_schema": {}, "include_sample_schema": True},
    {"type": "logs"},
    {"type": "logs", "metadata": {"feature": "search"}},
    {"type": "stored_completions", "metadata": {"usecase": "chat"}},
    {"type": "azure_ai_source", "scenario": "red_team"},
    CustomDataSourceConfig(item_schema={"type": "object"}),
    LogsDataSourceConfig(metadata={"feature": "search"}),
]

rows: list[dict[str, Any]] = [{"item": {"question": "?", "answer": 1}}]
generated: RunDataSourceInput = {
    "type": "jsonl",
    "source": {"type": "file_content", "content": (FileContentRow(item={"n": n}) for n in range(3))},
}

sources: list[RunDataSourceInput] = [
    {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}},
    {"type": "jsonl", "source": FileId(id="file-1")},
    {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [{"item": {"a": [1, None]}}, FileContentRow(item={"a": 1})]},
    },
    {
        "type": "completions",
        "source": {"type": "stored_completions", "metadata": {"a": "b"}, "limit": 10, "created_after": None},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}, PARTS]},
        "model": "gpt-4.1",
        "sampling_params": {
            "temperature": 0,
            "max_completion_tokens": 10,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    },
    {
        "type": "responses",
        "source": {"type": "responses", "users": ["u"], "tools": ["web_search"], "reasoning_effort": "low", "limit": 5},
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        "sampling_params": SamplingParams(text={"format": {"type": "text"}}),
    },
    {
        "type": "responses",
        "source": ResponsesSource(model="gpt-5"),
        "input_messages": ItemReference(item_reference="x"),
    },
    {
        "type": "azure_ai_target_completions",
        "source": FileId(id="d"),
        "target": {"type": "azure_ai_agent", "name": "a"},
    },
    {"type": "azure_ai_responses", "item_generation_params": {"type": "response_retrieval"}},
    {"type": "csv", "source": {"type": "file_id", "id": "file-1"}},
    JsonlDataSource(source=FileContent(content=(FileContentRow(item={"a": 1}, sample={"output_text": "b"}),))),
    CompletionsDataSource(
        source=StoredCompletionsSource(limit=1),
        input_messages=TemplateMessages(template=(PARTS,)),
        sampling_params=SamplingParams(temperature=0, tools=({"type": "function"},)),
    ),
    ResponsesDataSource(source=FileId(id="file-1"), model="gpt-5"),
    AzureResponsesDataSource(item_generation_params={"type": "response_retrieval"}),
    CsvDataSource(source=FileId(id="file-1")),
]


class Row(TypedDict):
    """Rows and schemas may be typed by their owner."""

    question: str
    answer: str


def typed_rows(rows: Sequence[Row], schema: Mapping[str, object]) -> tuple[RunDataSourceInput, DataSourceConfigInput]:
    """Rows out of the user's own typed mappings."""
    config: CustomDataSourceConfigParam = {"type": "custom", "item_schema": schema}
    return {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": row} for row in rows]}}, config


def a_builder(name: str, operation: Literal["eq", "ne"]) -> StringCheckGraderParam:
    """A grader made in a function of the user's own."""
    return {"type": "string_check", "name": name, "input": "x", "reference": "y", "operation": operation}


# --- reading ---------------------------------------------------------------------------------------------------------


def reading(evaluation: Eval, run: EvalRun, item: OutputItem, grader: Grader, source: RunDataSource) -> None:
    """Fields and properties have the types that they should."""
    assert_type(evaluation.id, str)
    assert_type(evaluation.created, datetime | None)
    assert_type(evaluation.testing_criteria, tuple[Grader, ...] | None)
    assert_type(evaluation.to_create(), EvalDefinition)
    assert_type(run.status, Literal["queued", "in_progress", "completed", "failed", "canceled", "cancelled"] | str)
    print(run.status.upper())
    assert_type(run.pass_rate, float | None)
    assert_type(run.is_terminal, bool)
    assert_type(run.failure, ErrorInfo | None)
    assert_type(run.total_tokens, int | None)
    assert_type(item.results, tuple[GraderResult, ...] | None)
    assert_type(item.passed, bool | None)
    assert_type(without_uuid("a"), str)
    if isinstance(source, CompletionsDataSource):
        assert_type(source.model, str | None)
    match grader:
        case StringCheckGrader(operation=operation):
            assert_type(operation, Literal["eq", "ne", "like", "ilike"] | str)
        case Unknown(type=kind):
            assert_type(kind, str | None)
        case _:
            assert_type(grader.plain_name, str)


def hearing(event: WebhookEvent) -> str | None:
    """An event that is not of an unknown kind names its run."""
    if isinstance(event, RunSucceededEvent):
        return event.data.id
    return None if isinstance(event, Unknown) else event.run_id


# --- calling ---------------------------------------------------------------------------------------------------------


async def calling(client: EvalsClient, some: tuple[StringCheckGrader, ...], messages: list[MessageInput]) -> None:
    """Calls with classes, with mappings, and with both."""
    evaluation = await client.evals.create(
        name="Capitals",
        data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        testing_criteria=[
            {"type": "string_check", "name": "a", "input": "x", "reference": "y", "operation": "eq"},
            STRING,
            a_builder("b", "ne"),
            {
                "type": "label_model",
                "name": "c",
                "model": "m",
                "input": messages,
                "labels": ["a"],
                "passing_labels": ["a"],
            },
        ],
        metadata={"team": "search"},
    )
    assert_type(evaluation, Eval)
    await client.evals.create(data_source_config=CustomDataSourceConfig(item_schema={}), testing_criteria=some)
    await client.evals.create(data_source_config={"type": "logs"}, testing_criteria=(grader for grader in graders))
    await client.evals.create(**evaluation.to_create())
    run = await client.evals.runs.create(
        evaluation.id,
        data_source={
            "type": "completions",
            "model": "gpt-4.1",
            "source": {"type": "file_id", "id": "file-1"},
            "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]},
        },
        metadata={"team": "search"},
    )
    assert_type(run, EvalRun)
    await client.evals.runs.create(evaluation.id, data_source=JsonlDataSource(source=FileId(id="file-1")))
    async for listed in client.evals.runs.list(evaluation.id, status="completed"):
        assert_type(listed, EvalRun)
    async for item in client.evals.runs.output_items.list(run, status="fail"):
        assert_type(item, OutputItem)
    assert_type(await client.evals.runs.retrieve("r", eval_id="e"), EvalRun)
    assert_type(await client.evals.runs.retrieve(("e", "r")), EvalRun)
    assert_type(await client.evals.runs.retrieve(run, timeout=5), EvalRun)
    assert_type(await client.evals.runs.cancel(run, eval_id=run.eval_id), EvalRun)
    assert_type(await client.evals.runs.wait(("e", "r"), timeout=None, raise_on_failure=True), EvalRun)
    assert_type(await client.evals.runs.output_items.retrieve("i", run_id=("e", "r")), OutputItem)
    assert_type(await client.evals.runs.with_raw_response.retrieve("r", eval_id="e"), RawResponse[EvalRun])
    assert_type((await client.evals.runs.with_raw_response.delete(run)).parse(), RunDeleted)
    assert_type(await client.graders.run(grader=MULTI, model_sample="x", item={"a": 1}), GraderRun)


async def many(
    client: EvalsClient,
    ids: list[str],
    pairs: list[tuple[str, str]],
    runs: list[EvalRun],
    how: Literal["raise", "return"],
) -> None:
    """Many objects at once: what comes back follows from `on_error`, and each outcome has the key that was passed."""
    found = client.evals.runs
    assert_type(await found.retrieve_many(ids, eval_id="e"), tuple[EvalRun, ...])
    assert_type(await found.retrieve_many(runs, by_pages=True, concurrency=8), tuple[EvalRun, ...])
    assert_type(await found.retrieve_many(found.list("e")), tuple[EvalRun, ...])
    assert_type(await found.retrieve_many(pairs, on_error="raise"), tuple[EvalRun, ...])
    assert_type(await found.retrieve_many(pairs, on_error="return"), tuple[EvalRun | Exception, ...])
    for each in await found.retrieve_many(ids, eval_id="e", on_error="return"):
        if isinstance(each, Exception):
            continue
        assert_type(each, EvalRun)
    for either in await found.retrieve_many(runs, on_error=how):
        assert_type(either, EvalRun | Exception)
    async with found.stream_many(ids, eval_id="e") as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome[str, EvalRun])
            assert_type(outcome.unwrap(), EvalRun)
    assert_type(found.stream_many(pairs), FanOut[tuple[str, str], EvalRun])
    assert_type(found.wait_many(runs, timeout=5, raise_on_failure=True), FanOut[EvalRun, EvalRun])
    assert_type(found.wait_many(ids, eval_id="e"), FanOut[str, EvalRun])
    assert_type(found.output_items.list_many(runs, status="fail"), FanOut[EvalRun, OutputItem])
    assert_type(found.output_items.list_many(ids, eval_id="e"), FanOut[str, OutputItem])
    assert_type(await found.output_items.retrieve_many(ids, run_id=("e", "r")), tuple[OutputItem, ...])
    some = await found.output_items.retrieve_many(ids, run_id="r", eval_id="e", on_error="return")
    assert_type(some, tuple[OutputItem | Exception, ...])
    assert_type(await client.evals.retrieve_many(ids, on_error="return"), tuple[Eval | Exception, ...])


async def tables(client: EvalsClient, archive: Archive, runs: list[EvalRun], page: Page[EvalRun]) -> None:
    """Rows come at once from what is there, and are awaited from what is still to be read."""
    rows: list[dict[str, object]] = to_rows(runs)
    rows += to_rows(page)
    rows += to_rows(await client.evals.retrieve_many(["e"]))
    rows += to_rows([outcome async for outcome in client.evals.runs.list_many(["e"])])
    rows += await to_rows(client.evals.runs.list("e"))
    rows += await to_rows(client.evals.runs.list_many(["e"]))
    rows += await to_rows(archive.runs())
    rows += list(archive.table("runs"))
    await to_arrow(client.evals.runs.output_items.list_many(runs), table="results")

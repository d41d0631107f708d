"""Programs of those who come from the official client: each runs with both clients, and tells the same."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from openai.types.graders import StringCheckGrader

from evals_async import EvalsClient, encode
from evals_async.server import Fault, LocalServer, sample_tree


# The clients have no type in common: what they share is what is tested here.
Program = Callable[[Any, LocalServer], Awaitable[Any]]
CHECK: Any = {"type": "string_check", "name": "g", "input": "{{item.a}}", "reference": "{{item.b}}", "operation": "eq"}
MESSAGES: Any = [{"role": "user", "content": "{{item.a}}"}]
CONFIG: Any = {"type": "custom", "item_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
ROWS: Any = [{"item": {"a": "x", "b": "x"}}, {"item": {"a": "x", "b": "y"}}]
INLINE: Any = {"type": "file_content", "content": ROWS}
LINES = b'{"item": {"a": "1"}}\n{"item": {"a": "2"}}\n'
PROGRAMS: list[Program] = []


def program(run: Program) -> Program:
    PROGRAMS.append(run)
    return run


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer(api_key="k", queued_seconds=0, running_seconds=0) as running:
        await running.seed(**sample_tree(30, items=4))
        yield running


def plain(value: Any) -> Any:
    """A result as JSON, whichever client it is of."""
    if isinstance(value, openai.BaseModel):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [plain(each) for each in cast(list[Any], value)]
    return encode(value) if hasattr(value, "__attrs_attrs__") else value


async def first_run(client: Any) -> tuple[str, str]:
    evaluation = (await client.evals.list(limit=1, order="asc")).data[0]
    found = await client.evals.runs.list(evaluation.id, status="completed", limit=1)
    return evaluation.id, found.data[0].id


async def made(client: Any, **more: Any) -> Any:
    return await client.evals.create(name="n", data_source_config=CONFIG, testing_criteria=[CHECK], **more)


# --- evals and graders ------------------------------------------------------------------------------------------------


@program
async def create_custom(client: Any, server: LocalServer) -> Any:
    found = await made(client, metadata={"k": "v"})
    return [
        found.name,
        found.metadata,
        found.object,
        found.data_source_config.type,
        found.testing_criteria[0].operation,
    ]


@program
async def create_logs(client: Any, server: LocalServer) -> Any:
    config = {"type": "logs", "metadata": {"x": "y"}}
    found = await client.evals.create(data_source_config=config, testing_criteria=[CHECK])
    return [found.data_source_config.type, found.data_source_config.metadata]


@program
async def create_stored_completions(client: Any, server: LocalServer) -> Any:
    config = {"type": "stored_completions", "metadata": {"x": "y"}}
    return (await client.evals.create(data_source_config=config, testing_criteria=[CHECK])).data_source_config.type


@program
async def create_with_every_grader(client: Any, server: LocalServer) -> Any:
    criteria: list[Any] = [
        CHECK,
        {"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": "bleu"},
        {
            "type": "label_model",
            "name": "l",
            "model": "m",
            "input": MESSAGES,
            "labels": ["a", "b"],
            "passing_labels": ["a"],
        },
        {"type": "score_model", "name": "s", "model": "m", "input": MESSAGES, "range": [0, 1], "pass_threshold": 0.5},
        {"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0"},
    ]
    criteria[1]["pass_threshold"] = 0.5
    found = await client.evals.create(data_source_config=CONFIG, testing_criteria=criteria)
    return [(each.type, each.name) for each in found.testing_criteria]


@program
async def create_with_a_pydantic_grader(client: Any, server: LocalServer) -> Any:
    grader = StringCheckGrader(**CHECK)
    return (await client.evals.create(data_source_config=CONFIG, testing_criteria=[grader])).testing_criteria[0].name


@program
async def update_and_delete(client: Any, server: LocalServer) -> Any:
    one = await made(client)
    new = await client.evals.update(one.id, name="new", metadata={"a": "b"})
    gone = await client.evals.delete(one.id)
    return [new.name, new.metadata, gone.deleted, gone.object, gone.eval_id == one.id]


# --- runs and items ---------------------------------------------------------------------------------------------------


@program
async def run_and_poll(client: Any, server: LocalServer) -> Any:
    one = await made(client)
    run = await client.evals.runs.create(one.id, data_source={"type": "jsonl", "source": INLINE}, name="r")
    while run.status not in ("completed", "failed", "canceled"):
        await asyncio.sleep(0)
        run = await client.evals.runs.retrieve(run.id, eval_id=one.id)
    items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=one.id)]
    rates = [(each.passed, each.failed) for each in run.per_testing_criteria_results]
    return [run.status, run.result_counts, rates, [(item.status, item.datasource_item) for item in items]]


@program
async def run_completions(client: Any, server: LocalServer) -> Any:
    source = {
        "type": "completions",
        "model": "m",
        "input_messages": {"type": "template", "template": MESSAGES},
        "sampling_params": {"temperature": 0.2, "max_completion_tokens": 10},
        "source": INLINE,
    }
    found = (await client.evals.runs.create((await made(client)).id, data_source=source)).data_source
    return [found.model, found.sampling_params.temperature, found.input_messages.template[0].role, found.source.content]


@program
async def run_responses(client: Any, server: LocalServer) -> Any:
    source = {"type": "responses", "model": "m", "source": {"type": "responses", "model": "m", "created_after": 1}}
    found = (await client.evals.runs.create((await made(client)).id, data_source=source)).data_source
    return [found.type, found.source.created_after]


@program
async def run_over_a_file(client: Any, server: LocalServer) -> Any:
    file = await client.files.create(file=("rows.jsonl", LINES), purpose="evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = await client.evals.runs.create((await made(client)).id, data_source=source)
    gone = await client.evals.runs.delete(run.id, eval_id=run.eval_id)
    return [run.data_source.source.id == file.id, gone.deleted, gone.object, gone.run_id == run.id]


@program
async def items(client: Any, server: LocalServer) -> Any:
    eval_id, run_id = await first_run(client)
    passed = [item async for item in client.evals.runs.output_items.list(run_id, eval_id=eval_id, status="pass")]
    one = (await client.evals.runs.output_items.list(run_id=run_id, eval_id=eval_id)).data[0]
    same = await client.evals.runs.output_items.retrieve(output_item_id=one.id, eval_id=eval_id, run_id=run_id)
    return [len(passed), one.sample.usage.total_tokens, same]


@program
async def runs_of_a_status(client: Any, server: LocalServer) -> Any:
    eval_id, _ = await first_run(client)
    return [run.id async for run in client.evals.runs.list(eval_id, status="completed", order="desc")]


# --- pages ------------------------------------------------------------------------------------------------------------


@program
async def page_by_page(client: Any, server: LocalServer) -> Any:
    page = await client.evals.list(limit=3, order="desc", order_by="created_at")
    found = [[each.id for each in page.data]]
    while page.has_next_page():
        page = await page.get_next_page()
        found.append([each.id for each in page.data])
    return [found, page.has_more]


@program
async def every_way_to_iterate(client: Any, server: LocalServer) -> Any:
    whole = [each.id async for each in client.evals.list(limit=3)]
    page = await client.evals.list(limit=3)
    from_page = [each.id async for each in page]
    pages = [len(each.data) async for each in page.iter_pages()]
    after = await client.evals.list(limit=1, after=whole[0], order="asc")
    return [whole, from_page, pages, after.data[0].id]


# --- files ------------------------------------------------------------------------------------------------------------


@program
async def every_kind_of_file(client: Any, server: LocalServer) -> Any:
    kinds: list[Any] = [("rows.jsonl", LINES), ("rows.jsonl", io.BytesIO(LINES)), ("rows.jsonl", LINES, "text/plain")]
    made = [await client.files.create(file=each, purpose="evals") for each in kinds]
    return [(each.filename, each.purpose, each.status, each.bytes) for each in made]


@program
async def contents(client: Any, server: LocalServer) -> Any:
    file = await client.files.create(file=("rows.jsonl", LINES), purpose="evals")
    found = await client.files.content(file.id)
    copy = Path("copy.jsonl")
    found.write_to_file(copy)
    return [found.content, found.read(), found.text, list(found.iter_lines()), copy.read_bytes()]


@program
async def contents_as_json(client: Any, server: LocalServer) -> Any:
    file = await client.files.create(file=("one.jsonl", b'{"item": {"a": null}}'), purpose="evals")
    return (await client.files.content(file.id)).json()


@program
async def files_listed_and_deleted(client: Any, server: LocalServer) -> Any:
    file = await client.files.create(file=("z.jsonl", LINES), purpose="evals")
    found = await client.files.list(purpose="evals", limit=1, order="desc")
    gone = await client.files.delete(file.id)
    return [found.data[0].filename, gone.deleted, gone.object, gone.id == file.id]


# --- options, raw responses and errors --------------------------------------------------------------------------------


@program
async def options_of_a_copy(client: Any, server: LocalServer) -> Any:
    other = client.with_options(timeout=5, max_retries=0)
    named = client.with_options(default_headers={"X-A": "1"})
    await named.evals.list(limit=1)
    copied = client.copy(timeout=3)
    return [other.max_retries, other.timeout, copied.timeout, server.requests[-1].headers["x-a"], client.is_closed()]


@program
async def extras_of_a_call(client: Any, server: LocalServer) -> Any:
    await client.evals.list(limit=1, extra_headers={"X-Q": "7"}, extra_query={"zz": "1"}, timeout=30)
    seen = server.requests[-1]
    created = await made(client, extra_body={"share_with_openai": False})
    return [seen.headers["x-q"], dict(seen.query), created.object]


@program
async def what_is_not_given(client: Any, server: LocalServer) -> Any:
    await client.evals.list(limit=openai.NOT_GIVEN, after=openai.omit)
    return dict(server.requests[-1].query).get("after")


@program
async def raw_responses(client: Any, server: LocalServer) -> Any:
    eval_id, _ = await first_run(client)
    raw = await client.evals.with_raw_response.retrieve(eval_id)
    page = (await client.evals.with_raw_response.list(limit=2)).parse()
    return [
        *(raw.status_code, raw.method, raw.retries_taken, json.loads(raw.content)["id"], raw.parse().id),
        *(raw.headers["content-type"], raw.headers.get("Content-Type"), raw.request_id is None, len(page.data)),
    ]


@program
async def an_id_that_is_not_there(client: Any, server: LocalServer) -> Any:
    try:
        return await client.evals.retrieve("eval_nope")
    except Exception as error:  # the two clients have classes of their own
        told: Any = error
        return [told.status_code, told.code, told.param, told.type, told.request_id is None]


@program
async def a_body_that_is_wrong(client: Any, server: LocalServer) -> Any:
    try:
        return await client.evals.create(data_source_config={"type": "nope"}, testing_criteria=[])
    except Exception as error:
        told: Any = error
        return [told.status_code, told.param, told.type]


@program
async def a_limit_without_retries(client: Any, server: LocalServer) -> Any:
    server.faults.add(Fault(status=429, headers={"retry-after": "0"}))
    try:
        return await client.with_options(max_retries=0).evals.list(limit=1)
    except Exception as error:
        told: Any = error
        return told.status_code


@program
async def an_error_that_is_retried(client: Any, server: LocalServer) -> Any:
    server.faults.add(Fault(status=500, headers={"retry-after": "0"}))
    return len((await client.evals.list(limit=1)).data)


@program
async def many_at_once(client: Any, server: LocalServer) -> Any:
    ids = [each.id async for each in client.evals.list()]
    return [each.id for each in await asyncio.gather(*(client.evals.retrieve(eval_id) for eval_id in ids))]


@program
async def settings_that_can_be_read(client: Any, server: LocalServer) -> Any:
    return [client.api_key, str(client.base_url).rstrip("/"), client.max_retries]


@pytest.mark.parametrize("run", PROGRAMS, ids=lambda run: run.__name__)
async def test_both_clients_tell_the_same(
    run: Program, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the official client goes on with ours: the import and the constructor are all that changes."""
    monkeypatch.chdir(tmp_path)
    told: list[Any] = []
    for maker in (openai.AsyncOpenAI, EvalsClient):
        async with maker(base_url=server.base_url, api_key="k") as client, asyncio.timeout(60):
            told.append(plain(await run(client, server)))
    assert told[0] == told[1]


async def test_lines_of_a_file_end_at_line_feeds_alone(server: LocalServer) -> None:
    """A row that holds another separator of lines stays one row; an empty file has none."""
    rows: list[Any] = [{"item": {"a": "one\u2028two\x85three"}}, {"item": {}}]
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\r\n" for row in rows)
    async with EvalsClient(base_url=server.base_url, api_key="k") as client:
        file = await client.files.create(file=("rows.jsonl", data), purpose="evals")
        content = await client.files.content(file.id)
    assert rows == [json.loads(line) for line in content.iter_lines()]
    assert [] == list(type(content)(b"").iter_lines())
    with pytest.raises(ValueError, match=r"Extra data|JSON|trailing"):
        content.json()

"""The official client of the API, pointed at the local server: it must not notice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.evals.create_eval_jsonl_run_data_source_param import CreateEvalJSONLRunDataSourceParam

from evals_async.server import Fault, LocalServer, sample_tree


CONFIG: Any = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"answer": {"type": "string"}}},
    "include_sample_schema": True,
}
CRITERIA: Any = [
    {
        "type": "string_check",
        "name": "Exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
]


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer(api_key="local", queued_seconds=0, running_seconds=0.02) as running:
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="local") as made:
        yield made


def rows(count: int) -> CreateEvalJSONLRunDataSourceParam:
    content: Any = [
        {"item": {"answer": str(n)}, "sample": {"output_text": str(n if n % 3 else -1)}} for n in range(count)
    ]
    return {"type": "jsonl", "source": {"type": "file_content", "content": content}}


async def finished(client: openai.AsyncOpenAI, run_id: str, eval_id: str) -> str:
    """The status in which a run ends."""
    for _ in range(500):
        run = await client.evals.runs.retrieve(run_id, eval_id=eval_id)
        if run.status not in ("queued", "in_progress"):
            return run.status
        await asyncio.sleep(0.005)
    raise AssertionError("the run does not end")


async def test_the_life_of_an_eval(client: openai.AsyncOpenAI) -> None:
    """Create, retrieve, update, list and delete an eval."""
    made = await client.evals.create(name="First", data_source_config=CONFIG, testing_criteria=CRITERIA)
    assert (await client.evals.retrieve(made.id)).to_dict() == made.to_dict()
    assert (await client.evals.update(made.id, name="Second", metadata={"k": "v"})).name == "Second"
    others = [await client.evals.create(data_source_config=CONFIG, testing_criteria=CRITERIA) for _ in range(4)]
    listed = [entry.id async for entry in client.evals.list(limit=2, order="desc")]
    assert listed == [entry.id for entry in reversed([made, *others])]
    gone = await client.evals.delete(made.id)
    assert (gone.object, gone.deleted, gone.eval_id) == ("eval.deleted", True, made.id)
    with pytest.raises(openai.NotFoundError, match=f"No such eval: {made.id}"):
        await client.evals.retrieve(made.id)


async def test_the_life_of_a_run(client: openai.AsyncOpenAI) -> None:
    """Create a run, wait for it, page through its items, and delete it."""
    parent = await client.evals.create(data_source_config=CONFIG, testing_criteria=CRITERIA)
    run = await client.evals.runs.create(parent.id, data_source=rows(25), name="Run", metadata={"k": "v"})
    assert run.status == "queued"
    assert await finished(client, run.id, parent.id) == "completed"
    run_now = await client.evals.runs.retrieve(run.id, eval_id=parent.id)
    assert run_now.result_counts.to_dict() == {"total": 25, "errored": 0, "failed": 9, "passed": 16}
    assert run_now.per_testing_criteria_results[0].failed == 9
    items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=parent.id, limit=4)]
    assert [item.datasource_item_id for item in items] == list(range(25))
    failed = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=parent.id, status="fail")]
    assert [item.results[0].passed for item in failed] == [False] * 9
    one = await client.evals.runs.output_items.retrieve(items[3].id, eval_id=parent.id, run_id=run.id)
    assert one.to_dict() == items[3].to_dict()
    listed = [entry.id async for entry in client.evals.runs.list(parent.id, status="completed")]
    assert listed == [run.id]
    gone = await client.evals.runs.delete(run.id, eval_id=parent.id)
    assert (gone.object, gone.deleted, gone.run_id) == ("eval.run.deleted", True, run.id)


async def test_a_run_can_be_canceled() -> None:
    """Cancel a run that is under way."""
    async with (
        LocalServer(queued_seconds=1000) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="any") as client,
    ):
        parent = await client.evals.create(data_source_config=CONFIG, testing_criteria=CRITERIA)
        run = await client.evals.runs.create(parent.id, data_source=rows(1))
        assert (await client.evals.runs.cancel(run.id, eval_id=parent.id)).status == "canceled"


async def test_a_run_over_an_uploaded_file(client: openai.AsyncOpenAI) -> None:
    """Upload rows, run over them, read the file back, list and delete it."""
    data = b'{"item": {"answer": "a"}, "sample": {"output_text": "a"}}\n' * 3
    file = await client.files.create(file=("rows.jsonl", data), purpose="evals")
    parent = await client.evals.create(data_source_config=CONFIG, testing_criteria=CRITERIA)
    source: CreateEvalJSONLRunDataSourceParam = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = await client.evals.runs.create(parent.id, data_source=source)
    assert await finished(client, run.id, parent.id) == "completed"
    assert (await client.evals.runs.retrieve(run.id, eval_id=parent.id)).result_counts.passed == 3
    assert (await client.files.content(file.id)).content == data
    assert (await client.files.retrieve(file.id)).filename == "rows.jsonl"
    assert [entry.id async for entry in client.files.list(purpose="evals")] == [file.id]
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.content(file.id)


async def test_graders_can_be_tried(client: openai.AsyncOpenAI) -> None:
    """Run and validate a grader."""
    graders = client.fine_tuning.alpha.graders
    response = await graders.run(grader=CRITERIA[0], model_sample="a", item={"answer": "a"})
    assert (response.reward, response.metadata.errors.other_error) == (1.0, False)
    validated = await graders.validate(grader=CRITERIA[0])
    assert validated.grader is not None
    assert validated.grader.name == "Exact"


async def test_errors_are_the_clients_own(client: openai.AsyncOpenAI, server: LocalServer) -> None:
    """Codes, params and request ids reach the client's exceptions; a wrong key is its authentication error."""
    with pytest.raises(openai.BadRequestError) as refused:
        await client.evals.list(limit=101)
    assert (refused.value.code, refused.value.param) == ("integer_above_max_value", "limit")
    assert refused.value.request_id is not None
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").evals.list()
    server.faults.add(Fault(status=429, headers={"retry-after-ms": "1"}))
    assert (await client.evals.list()).data == []
    assert [seen.status for seen in server.requests] == [400, 401, 429, 200]


async def test_a_seeded_tree_can_be_walked(client: openai.AsyncOpenAI, server: LocalServer) -> None:
    """Everything of the sample tree is found by going from evals to runs to items."""
    tree = sample_tree(40)
    await server.seed(**tree)
    found = [
        item.id
        async for parent in client.evals.list()
        async for run in client.evals.runs.list(parent.id, limit=7)
        async for item in client.evals.runs.output_items.list(run.id, eval_id=parent.id, limit=5)
    ]
    assert sorted(found) == sorted(str(item["id"]) for item in tree["output_items"])

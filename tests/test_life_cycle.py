"""The whole life of an eval, as one program text that runs with the official client and with ours.

The program is written for the official client. To move it, the import and the constructor change, and nothing else.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from evals_async import Eval, EvalRun, EvalsClient, NotFound, OutputItem
from evals_async.models import FileContent, FileContentRow, JsonlDataSource, StringCheckGrader
from evals_async.server import LocalServer


PROGRAM = """
async def main(client, path):
    told = {}
    evaluation = await client.evals.create(
        name="capitals",
        data_source_config={
            "type": "custom",
            "item_schema": {"type": "object", "properties": {"country": {"type": "string"}}},
            "include_sample_schema": True,
        },
        testing_criteria=[
            {
                "type": "string_check",
                "name": "exact",
                "input": "{{ sample.output_text }}",
                "reference": "{{ item.capital }}",
                "operation": "eq",
            }
        ],
        metadata={"team": "geography"},
    )
    told["eval"] = (evaluation.name, evaluation.testing_criteria[0].type, evaluation.metadata)
    told["same"] = (await client.evals.retrieve(evaluation.id)).id == evaluation.id
    told["renamed"] = (await client.evals.update(evaluation.id, name="cities")).name
    told["listed"] = [found.name async for found in client.evals.list(order_by="created_at", order="desc", limit=2)]

    with open(path, "rb") as rows:
        file = await client.files.create(file=rows, purpose="evals")
    told["file"] = (file.filename, (await client.files.retrieve(file.id)).bytes)
    told["content"] = (await client.files.content(file.id)).text
    told["files"] = [found.id == file.id async for found in client.files.list(purpose="evals")]

    run = await client.evals.runs.create(
        evaluation.id,
        name="first",
        data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}},
    )
    told["created"] = (run.status, run.name, run.data_source.source.id == file.id)
    while run.status not in ("completed", "failed", "canceled"):
        await asyncio.sleep(0.005)
        run = await client.evals.runs.retrieve(run.id, eval_id=evaluation.id)
    counts = run.result_counts
    told["completed"] = (run.status, counts.total, counts.passed, counts.failed, counts.errored)

    page = await client.evals.runs.output_items.list(run.id, eval_id=evaluation.id, limit=2)
    told["pages"] = [len(page.data)]
    items = list(page.data)
    while page.has_next_page():
        page = await page.get_next_page()
        told["pages"].append(len(page.data))
        items.extend(page.data)
    told["items"] = sorted((item.datasource_item["country"], item.status, item.results[0].passed) for item in items)
    first = await client.evals.runs.output_items.retrieve(items[0].id, eval_id=evaluation.id, run_id=run.id)
    told["item"] = (first.id == items[0].id, first.run_id == run.id)
    failed = client.evals.runs.output_items.list(run.id, eval_id=evaluation.id, status="fail")
    told["failed"] = [item.datasource_item["country"] async for item in failed]

    other = await client.evals.runs.create(
        evaluation.id,
        data_source={
            "type": "jsonl",
            "source": {"type": "file_content", "content": [{"item": {"capital": "a"}, "sample": {"output_text": "a"}}]},
        },
    )
    told["canceled"] = (await client.evals.runs.cancel(other.id, eval_id=evaluation.id)).status
    told["runs"] = [found.status async for found in client.evals.runs.list(evaluation.id, order="asc")]
    told["completed runs"] = [
        found.id == run.id async for found in client.evals.runs.list(evaluation.id, status="completed")
    ]

    raw = await client.evals.with_raw_response.retrieve(evaluation.id)
    told["raw"] = (raw.headers.get("x-request-id", "")[:4], raw.parse().name)
    told["options"] = (await client.with_options(timeout=10, max_retries=0).evals.retrieve(evaluation.id)).name

    told["deleted run"] = (await client.evals.runs.delete(run.id, eval_id=evaluation.id)).deleted
    told["deleted eval"] = (await client.evals.delete(evaluation.id)).deleted
    told["deleted file"] = (await client.files.delete(file.id)).deleted
    told["left"] = [found.id async for found in client.evals.list()]
    try:
        await client.evals.retrieve(evaluation.id)
    except Exception as error:
        told["gone"] = type(error).__name__[:8]
    return told
"""

OFFICIAL = f"import asyncio\nfrom openai import AsyncOpenAI as Client\n{PROGRAM}"
OURS = f"import asyncio\nfrom evals_async import EvalsClient as Client\n{PROGRAM}"

ROWS = [
    {"item": {"country": country, "capital": capital}, "sample": {"output_text": answer}}
    for country, capital, answer in [
        ("France", "Paris", "Paris"),
        ("Peru", "Lima", "Lima"),
        ("Chad", "N'Djamena", "Moundou"),
        ("Japan", "Tokyo", "Tokyo"),
        ("Fiji", "Suva", "Suva"),
    ]
]


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer(queued_seconds=0.1, running_seconds=0.4) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "capitals.jsonl"
    made.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return made


async def told_by(program: str, server: LocalServer, path: Path) -> dict[str, Any]:
    """What the program tells when it has run."""
    names: dict[str, Any] = {}
    exec(program, names)
    async with names["Client"](base_url=server.base_url, api_key="sk-life-cycle-12") as client:
        told: dict[str, Any] = await names["main"](client, path)
        return told


async def test_a_program_for_the_official_client_runs_with_ours(server: LocalServer, path: Path) -> None:
    """With another import and another constructor, the same program tells the same."""
    ours = await told_by(OURS, server, path)
    assert await told_by(OFFICIAL, server, path) == ours
    assert "openai" in sys.modules
    text = path.read_text()
    assert {
        "eval": ("capitals", "string_check", {"team": "geography"}),
        "same": True,
        "renamed": "cities",
        "listed": ["cities"],
        "file": ("capitals.jsonl", len(text)),
        "content": text,
        "files": [True],
        "created": ("queued", "first", True),
        "completed": ("completed", 5, 4, 1, 0),
        "pages": [2, 2, 1],
        "items": [
            ("Chad", "fail", False),
            ("Fiji", "pass", True),
            ("France", "pass", True),
            ("Japan", "pass", True),
            ("Peru", "pass", True),
        ],
        "item": (True, True),
        "failed": ["Chad"],
        "canceled": "canceled",
        "runs": ["completed", "canceled"],
        "completed runs": [True],
        "raw": ("req_", "cities"),
        "options": "cities",
        "deleted run": True,
        "deleted eval": True,
        "deleted file": True,
        "left": [],
        "gone": "NotFound",
    } == ours


async def test_our_own_way(server: LocalServer) -> None:
    """The same life with our classes: typed inputs, one class per thing, waiting, many at once, no id said twice."""
    grader = StringCheckGrader(
        name="exact", input="{{ sample.output_text }}", reference="{{ item.capital }}", operation="eq"
    )
    rows = tuple(FileContentRow(item=row["item"], sample=row["sample"]) for row in ROWS)
    source = JsonlDataSource(source=FileContent(content=rows))
    async with EvalsClient(base_url=server.base_url, api_key="sk-life-cycle-12") as client:
        validated = await client.graders.validate(grader=grader)
        assert validated.grader is not None
        graded = await client.graders.run(grader=grader, model_sample="Lima", item={"capital": "Lima"})
        assert 1.0 == graded.reward

        evaluation = await client.evals.create(
            data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
            testing_criteria=[grader],
        )
        assert type(evaluation) is Eval
        runs = await asyncio.gather(*[client.evals.runs.create(evaluation.id, data_source=source) for _ in range(5)])
        done = [outcome.unwrap() async for outcome in client.evals.runs.wait_many(runs)]
        assert {run.id for run in runs} == {run.id for run in done}
        assert {(EvalRun, "completed", 0.8)} == {(type(run), run.status, run.pass_rate) for run in done}

        fetched = await client.evals.runs.retrieve_many([(evaluation.id, run.id) for run in runs])
        assert [run.id for run in runs] == [run.id for run in fetched]
        items = [outcome.unwrap() async for outcome in client.evals.runs.output_items.list_many(fetched)]
        assert (25, {OutputItem}) == (len(items), {type(item) for item in items})

        for run in fetched:
            assert (await client.evals.runs.delete(run)).deleted
        assert [] == await client.evals.runs.list(evaluation.id).collect()
        await client.evals.delete(evaluation.id)
        with pytest.raises(NotFound):
            await client.evals.retrieve(evaluation.id)

"""The life of a run, over a real socket and on a clock that the tests move."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeClock
from plainhttp import EXACT, PlainHttp, eval_request, row, run_request

from evals_async.server import LocalServer
from evals_async.server.runs import RunLifecycle


ZERO = {"total": 0, "errored": 0, "failed": 0, "passed": 0}


async def new_eval(http: PlainHttp, *criteria: Mapping[str, object]) -> tuple[str, list[str]]:
    """An eval's path, and the ids of its criteria."""
    made = (await http.post("/evals", eval_request(*criteria))).json
    return f"/evals/{made['id']}", [entry["id"] for entry in made["testing_criteria"]]


async def test_a_new_run_has_the_services_shape(http: PlainHttp, server: LocalServer, clock: FakeClock) -> None:
    """201, queued, zero counts, and null where nothing is known yet."""
    path, _ = await new_eval(http)
    request = run_request(row("a", "a"), name="First", metadata={"k": "v"})
    answer = await http.post(f"{path}/runs", request)
    run_id = answer.json["id"]
    assert answer.status == 201
    assert answer.json == {
        "object": "eval.run",
        "id": run_id,
        "eval_id": path.removeprefix("/evals/"),
        "report_url": f"{server.base_url}{path}/runs/{run_id}",
        "status": "queued",
        "model": None,
        "name": "First",
        "created_at": int(clock.time()),
        "result_counts": ZERO,
        "per_model_usage": None,
        "per_testing_criteria_results": None,
        "data_source": request["data_source"],
        "error": None,
        "metadata": {"k": "v"},
        "shared_with_openai": False,
    }
    assert run_id.startswith("evalrun_")
    assert (await http.get(f"{path}/runs/{run_id}")).json == answer.json


async def test_a_run_goes_through_its_states_with_the_clock(http: PlainHttp, clock: FakeClock) -> None:
    """Queued for ten seconds, in progress for twenty, then completed, and nothing in between changes it."""
    path, (criterion,) = await new_eval(http)
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cached_tokens": 1}
    rows = [row("a", "a", model="m-1", usage=usage), row("b", "x", model="m-1", usage=usage), row("c", "c")]
    run_path = f"{path}/runs/{(await http.post(f'{path}/runs', run_request(*rows))).json['id']}"
    states: list[str] = []
    for seconds in (9.5, 0.5, 19.5, 0.4, 0.1, 1000):
        clock.now += seconds
        states.append((await http.get(run_path)).json["status"])
    assert states == ["queued", "in_progress", "in_progress", "in_progress", "completed", "completed"]
    run = (await http.get(run_path)).json
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 1, "passed": 2}
    assert run["per_model_usage"] == [
        {
            "model_name": "m-1",
            "invocation_count": 2,
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "cached_tokens": 2,
        }
    ]
    assert run["per_testing_criteria_results"] == [
        {"testing_criteria": criterion, "testing_criteria_id": criterion, "passed": 2, "failed": 1}
    ]
    assert run["error"] is None


async def completed(http: PlainHttp, clock: FakeClock, path: str, request: dict[str, object]) -> tuple[Any, list[Any]]:
    """A run that was waited for, and its items."""
    run_path = f"{path}/runs/{(await http.post(f'{path}/runs', request)).json['id']}"
    clock.now += 30
    items = (await http.get(f"{run_path}/output_items", limit=100)).json["data"]
    return (await http.get(run_path)).json, items


async def test_an_output_item_has_the_services_shape(http: PlainHttp, clock: FakeClock) -> None:
    """The grade under the criterion's id, the row and its hash, and a whole sample."""
    path, (criterion,) = await new_eval(http)
    run, (item,) = await completed(http, clock, path, run_request(row("a", "b", model="m-1", seed=7)))
    assert item == {
        "object": "eval.run.output_item",
        "id": item["id"],
        "created_at": int(clock.time()),
        "run_id": run["id"],
        "eval_id": path.removeprefix("/evals/"),
        "status": "fail",
        "datasource_item_id": 0,
        "datasource_item": {"answer": "a"},
        "results": [{"name": criterion, "sample": None, "passed": False, "score": 0.0}],
        "sample": {
            "input": [],
            "output": [{"role": "assistant", "content": "b"}],
            "finish_reason": "stop",
            "model": "m-1",
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0},
            "error": None,
            "temperature": 1.0,
            "max_completion_tokens": None,
            "top_p": 1.0,
            "seed": 7,
        },
        "_datasource_item_content_hash": hashlib.sha256(b'{"answer":"a"}').hexdigest(),
    }
    one = await http.get(f"{path}/runs/{run['id']}/output_items/{item['id']}")
    assert (one.status, one.json) == (200, item)


async def test_output_items_are_listed_by_page_and_outcome(http: PlainHttp, clock: FakeClock) -> None:
    """In the order of the rows, in pages, and filtered by pass or fail."""
    path, _ = await new_eval(http)
    rows = [row("a", "a" if number % 3 else "b") for number in range(10)]
    run, items = await completed(http, clock, path, run_request(*rows))
    items_path = f"{path}/runs/{run['id']}/output_items"
    assert [item["datasource_item_id"] for item in items] == list(range(10))
    first = (await http.get(items_path, limit=4)).json
    second = (await http.get(items_path, limit=4, after=first["last_id"])).json
    assert [item["datasource_item_id"] for item in second["data"]] == [4, 5, 6, 7]
    failed = (await http.get(items_path, status="fail")).json["data"]
    assert [item["datasource_item_id"] for item in failed] == [0, 3, 6, 9]
    assert len((await http.get(items_path, status="pass")).json["data"]) == 6
    assert (await http.get(items_path, status="error")).problem == (400, "invalid_value", "status")
    assert (await http.get(items_path, limit=101)).problem == (400, "integer_above_max_value", "limit")
    assert (await http.get(items_path, after="gone")).problem == (404, "not_found", "after")
    assert (await http.get(f"{items_path}/gone")).problem == (404, "not_found", "output_item_id")
    assert (await http.get(f"{path}/runs/gone/output_items")).problem == (404, "not_found", "run_id")


@pytest.mark.parametrize("suffix", ["", "/cancel"])
@pytest.mark.parametrize("age", [0, 15])
async def test_a_run_can_be_canceled_by_both_paths(http: PlainHttp, clock: FakeClock, suffix: str, age: float) -> None:
    """Queued or in progress, by a bare POST or by /cancel: canceled for good, and it has no items."""
    path, _ = await new_eval(http)
    made = (await http.post(f"{path}/runs", run_request(row("a", "a")))).json
    run_path = f"{path}/runs/{made['id']}"
    clock.now += age
    answer = await http.send("POST", run_path + suffix)
    assert (answer.status, answer.json) == (200, {**made, "status": "canceled"})
    clock.now += 100
    assert (await http.get(run_path)).json == answer.json
    assert (await http.get(f"{run_path}/output_items")).json["data"] == []
    assert (await http.send("POST", run_path + suffix)).json == answer.json


async def test_a_run_that_has_ended_cannot_be_canceled(http: PlainHttp, clock: FakeClock) -> None:
    """400 for a completed run, 404 for one that is not there."""
    path, _ = await new_eval(http)
    run, _ = await completed(http, clock, path, run_request(row("a", "a")))
    assert (await http.send("POST", f"{path}/runs/{run['id']}/cancel")).problem == (400, None, "run_id")
    assert (await http.send("POST", f"{path}/runs/gone/cancel")).problem == (404, "not_found", "run_id")


async def test_runs_are_listed_by_status(http: PlainHttp, clock: FakeClock) -> None:
    """Listing looks at the clock, too, and keeps one status if asked to."""
    path, _ = await new_eval(http)
    ids: list[str] = []
    for _ in range(3):
        ids.append((await http.post(f"{path}/runs", run_request(row("a", "a")))).json["id"])
        clock.now += 15
    listed = {
        status: [run["id"] for run in (await http.get(f"{path}/runs", status=status)).json["data"]]
        for status in ("queued", "in_progress", "completed", "canceled", "failed")
    }
    assert listed == {
        "queued": [],
        "in_progress": [ids[2]],
        "completed": ids[:2],
        "canceled": [],
        "failed": [],
    }
    assert [run["id"] for run in (await http.get(f"{path}/runs", order="desc")).json["data"]] == ids[::-1]
    assert (await http.get(f"{path}/runs", status="done")).problem == (400, "invalid_value", "status")


async def test_a_run_can_be_deleted(http: PlainHttp, clock: FakeClock) -> None:
    """The service's object, then 404 for the run and its items."""
    path, _ = await new_eval(http)
    run, _ = await completed(http, clock, path, run_request(row("a", "a")))
    run_path = f"{path}/runs/{run['id']}"
    removed = await http.delete(run_path)
    assert (removed.status, removed.json) == (
        200,
        {"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]},
    )
    for answer in (await http.delete(run_path), await http.get(run_path), await http.get(f"{run_path}/output_items")):
        assert answer.problem == (404, "not_found", "run_id")


async def test_rows_can_come_from_an_uploaded_file(http: PlainHttp, clock: FakeClock) -> None:
    """A file_id source is read line by line; empty lines are no rows."""
    path, _ = await new_eval(http)
    lines = [json.dumps(row("ä", "ä")), "", json.dumps(row("b", "x")), "  "]
    file_id = (await http.upload("\r\n".join(lines).encode())).json["id"]
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}
    run, items = await completed(http, clock, path, {"data_source": source})
    assert run["data_source"] == source
    assert [item["status"] for item in items] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"item": {}}\n{"item": ', "line 2 is not JSON"),
        (b"[1]", "line 1 has no object `item`"),
        (b'{"item": {"x": ' + b"[" * 300 + b"]" * 300 + b"}}", "line 1 is not JSON: nested too deeply"),
    ],
)
async def test_a_run_over_a_broken_file_fails(http: PlainHttp, clock: FakeClock, content: bytes, reason: str) -> None:
    """The run ends as failed, and its error names the line."""
    path, _ = await new_eval(http)
    file_id = (await http.upload(content)).json["id"]
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}
    run, items = await completed(http, clock, path, {"data_source": source})
    error = run["error"]
    assert (run["status"], error["code"], items) == ("failed", "invalid_data_source", [])
    assert error["message"].startswith(reason)
    assert run["result_counts"] == ZERO


async def test_a_run_whose_file_was_deleted_fails(http: PlainHttp, clock: FakeClock) -> None:
    """A file that is gone before the run is carried out is the run's error."""
    path, _ = await new_eval(http)
    file_id = (await http.upload(b'{"item": {}}')).json["id"]
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}
    run_path = f"{path}/runs/{(await http.post(f'{path}/runs', {'data_source': source})).json['id']}"
    await http.delete(f"/files/{file_id}")
    clock.now += 30
    assert (await http.get(run_path)).json["error"]["message"] == f"the file {file_id} does not exist"


async def test_rows_without_a_sample_need_a_model(http: PlainHttp, clock: FakeClock) -> None:
    """Completions and responses are graded where rows bring a sample; the others are errored items that say why."""
    path, (criterion,) = await new_eval(http)
    for kind in ("completions", "responses"):
        request = run_request(row("a", "a"), {"item": {"answer": "a"}}, kind=kind)
        run, (graded, errored) = await completed(http, clock, path, request)
        assert (run["status"], graded["status"], errored["status"]) == ("completed", "pass", "error")
        assert run["result_counts"] == {"total": 2, "errored": 1, "failed": 0, "passed": 1}
        sample = errored["sample"]
        assert sample["error"]["code"] == "model_unavailable"
        assert "sample" in sample["error"]["message"]
        assert errored["results"] == [
            {"name": criterion, "sample": {"error": sample["error"]}, "passed": None, "score": None}
        ]
        assert sample["output"] == [{"role": "assistant", "content": ""}]
        assert sample["finish_reason"] == "error"
    assert [entry["name"] for entry in graded["results"]] == [criterion]


async def test_stored_answers_are_not_here(http: PlainHttp, clock: FakeClock) -> None:
    """A run over stored completions or responses fails with the reason."""
    path, _ = await new_eval(http)
    for kind, form in (("completions", "stored_completions"), ("responses", "responses")):
        run, _ = await completed(http, clock, path, {"data_source": {"type": kind, "source": {"type": form}}})
        assert run["status"] == "failed"
        assert f"a source of type {form}" in str(run["error"])


async def test_a_completions_run_echoes_normalised_messages(http: PlainHttp) -> None:
    """Messages come back typed in completions runs and as they were in responses runs; the model is lifted out."""
    path, _ = await new_eval(http)
    template = [{"role": "user", "content": "{{item.answer}}"}]
    echoes: list[object] = []
    for kind in ("completions", "responses"):
        request: Any = run_request({"item": {}}, kind=kind)
        request["data_source"] |= {"model": "m", "input_messages": {"type": "template", "template": template}}
        run = (await http.post(f"{path}/runs", request)).json
        assert (run["model"], run["data_source"]["sampling_params"]) == ("m", None)
        echoes.append(run["data_source"]["input_messages"]["template"])
    part = {"type": "input_text", "text": "{{item.answer}}"}
    assert echoes == [[{"type": "message", "role": "user", "content": part}], template]


async def test_errors_of_graders_are_told_in_the_item(http: PlainHttp, clock: FakeClock) -> None:
    """A grader that cannot grade here, or points nowhere, makes the item errored; the others' grades stay."""
    judge: dict[str, object] = {"type": "score_model", "name": "Judge", "model": "m", "input": []}
    code = {"type": "python", "name": "Code", "source": "def grade(sample, item): return 1"}
    lost = {**EXACT, "name": "Lost", "reference": "{{ item.missing }}"}
    path, criteria = await new_eval(http, EXACT, judge, code, lost)
    run, (item,) = await completed(http, clock, path, run_request(row("a", "a")))
    results, sample = item["results"], item["sample"]
    assert item["status"] == "error"
    assert [entry["name"] for entry in results] == criteria
    assert [(entry["passed"], entry["score"]) for entry in results] == [(True, 1.0), *[(None, None)] * 3]
    assert [entry["sample"] and entry["sample"]["error"]["code"] for entry in results] == [
        *(None, "model_unavailable", "grader_unavailable", "invalid_variable_error")
    ]
    assert "score_model" in sample["error"]["message"]
    assert run["per_testing_criteria_results"] == [
        {"testing_criteria": name, "testing_criteria_id": name, "passed": int(name == criteria[0]), "failed": 0}
        for name in criteria
    ]


WRONG_RUNS: list[tuple[object, str | None, str]] = [
    (
        {
            "type": "jsonl",
            "source": {"type": "file_content", "content": []},
            "input_messages": {"type": "item_reference"},
        },
        "missing_required_parameter",
        "data_source.input_messages.item_reference",
    ),
    (..., "missing_required_parameter", "data_source"),
    ({}, "missing_required_parameter", "data_source.type"),
    ({"type": "tsv"}, "invalid_value", "data_source.type"),
    ({"type": "csv"}, "missing_required_parameter", "data_source.source"),
    ({"type": "csv", "source": {"type": "file_content"}}, "invalid_value", "data_source.source.type"),
    ({"type": "azure_ai_target_completions"}, "missing_required_parameter", "data_source.target"),
    ({"type": "azure_ai_responses"}, "missing_required_parameter", "data_source.item_generation_params"),
    (
        {"type": "azure_ai_responses", "item_generation_params": {}},
        "missing_required_parameter",
        "data_source.item_generation_params.source",
    ),
    ({"type": "jsonl"}, "missing_required_parameter", "data_source.source"),
    ({"type": "jsonl", "source": {"type": "responses"}}, "invalid_value", "data_source.source.type"),
    ({"type": "jsonl", "source": {"type": "file_id"}}, "missing_required_parameter", "data_source.source.id"),
    ({"type": "jsonl", "source": {"type": "file_id", "id": "file-x"}}, None, "data_source.source.id"),
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": {}}},
        "invalid_type",
        "data_source.source.content",
    ),
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}, {}]}},
        "missing_required_parameter",
        "data_source.source.content[1].item",
    ),
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": []}, "input_messages": {"type": "x"}},
        "invalid_value",
        "data_source.input_messages.type",
    ),
]


@pytest.mark.parametrize(("source", "code", "param"), WRONG_RUNS)
async def test_a_wrong_run_is_refused(http: PlainHttp, source: object, code: str | None, param: str) -> None:
    """400 names the parameter by its path, and no run is made."""
    path, _ = await new_eval(http)
    body = {} if source is ... else {"data_source": source}
    assert (await http.post(f"{path}/runs", body)).problem == (400, code, param)
    assert (await http.get(f"{path}/runs")).json["data"] == []


async def test_a_run_needs_its_eval(http: PlainHttp) -> None:
    """No run without an eval."""
    answer = await http.post("/evals/eval_gone/runs", run_request(row("a", "a")))
    assert answer.problem == (404, "not_found", "eval_id")


async def test_a_large_run_is_graded_whole(http: PlainHttp, clock: FakeClock) -> None:
    """A thousand rows, graded off the loop, in their order and each once."""
    path, _ = await new_eval(http)
    run, items = await completed(http, clock, path, run_request(*(row(str(n), str(n)) for n in range(1000))))
    assert run["result_counts"] == {"total": 1000, "errored": 0, "failed": 0, "passed": 1000}
    assert [item["datasource_item"] for item in items] == [{"answer": str(number)} for number in range(100)]
    assert len({item["id"] for item in items}) == 100


async def test_seeded_runs_stay_as_they_are(http: PlainHttp, server: LocalServer, clock: FakeClock) -> None:
    """A run that this server did not begin is not brought forward, but it can be canceled."""
    run = {"object": "eval.run", "id": "evalrun_1", "eval_id": "eval_1", "created_at": 1, "status": "queued"}
    await server.seed(evals=[{"id": "eval_1", "created_at": 1}], runs=[run])
    clock.now += 1000
    assert (await http.get("/evals/eval_1/runs/evalrun_1")).json == run
    assert (await http.send("POST", "/evals/eval_1/runs/evalrun_1/cancel")).json == {**run, "status": "canceled"}


async def test_a_server_on_the_same_file_goes_on_where_the_last_one_stood(tmp_path: Path, clock: FakeClock) -> None:
    """Runs that were under way when a server closed are completed by the next."""
    path = tmp_path / "store.db"
    async with LocalServer(path, clock=clock, queued_seconds=10, running_seconds=20) as first, PlainHttp(first) as http:
        eval_path, _ = await new_eval(http)
        run_id = (await http.post(f"{eval_path}/runs", run_request(row("a", "a")))).json["id"]
        clock.now += 15
        assert (await http.get(f"{eval_path}/runs/{run_id}")).json["status"] == "in_progress"
    clock.now += 15
    async with LocalServer(path, clock=clock, queued_seconds=10, running_seconds=20) as later, PlainHttp(later) as http:
        run = (await http.get(f"{eval_path}/runs/{run_id}")).json
        assert (run["status"], run["result_counts"]["passed"]) == ("completed", 1)
        assert (await http.post("/evals", eval_request())).json["id"] != eval_path.removeprefix("/evals/")


async def test_a_run_that_was_deleted_while_it_began_is_forgotten(
    http: PlainHttp, server: LocalServer, clock: FakeClock
) -> None:
    """The runs of its eval are still listed and go on, and nothing of it is kept."""
    path, _ = await new_eval(http)
    made = (await http.post(f"{path}/runs", run_request(row("a", "a")))).json
    runs = server._running.runs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert isinstance(runs, RunLifecycle)
    pending = runs.pending[path.removeprefix("/evals/")]
    pending["evalrun_deleted"] = 0.0  # as if its start was noted after the deletion
    clock.now += 60
    [listed] = (await http.get(f"{path}/runs")).json["data"]
    assert (listed["id"], listed["status"]) == (made["id"], "completed")
    assert not pending

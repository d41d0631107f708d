"""The local server's answers, held to the OpenAPI document of the API.

The schemas beside this file are those of the document. The service itself does not keep to all of them; where its
captured answers differ, the local server answers as the service does, and `DIFFERENCES` is the whole list of it.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeClock
from jsonschema import Draft202012Validator
from plainhttp import EXACT, PlainHttp, eval_request, row, run_request
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from evals_async.server import LocalServer, sample_tree


FOLDER = Path(__file__).parent / "schemas"
SCHEMAS: Mapping[str, Any] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
REGISTRY: Registry[Any] = Registry[Any]().with_resources(
    (f"{name}.json", DRAFT202012.create_resource(schema)) for name, schema in SCHEMAS.items()
)

# Where the service was seen to differ from its own document: the place in the object, and what stands there instead.
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    "run": {
        "error": "null unless the run failed",
        "per_model_usage": "null until the run is completed",
        "per_testing_criteria_results": "null until the run is completed",
        "model": "null for a jsonl run, which samples nothing",
        "name": "null where none was given",
        "data_source": "sampling_params null where none were given",
    },
    "output_item": {
        "results/score": "null for a criterion that could not be carried out",
        "results/passed": "null for a criterion that could not be carried out",
        "sample": "null where the graders looked at the item alone",
        "sample/error": "null unless the row could not be sampled or graded",
        "sample/max_completion_tokens": "null, or under another name, for some sources",
        "sample/seed": "null where none was given",
    },
    "file": {
        "expires_at": "null for a file that does not expire",
        "status_details": "null",
        "purpose": "evals, which the document has for uploads only",
    },
    "list": {"first_id": "null on an empty page", "last_id": "null on an empty page"},
}


def departures(name: str, value: Any) -> set[str]:
    """The places where a value does not keep to a schema; positions in arrays are left out."""
    validator: Any = Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    return {
        "/".join(str(step) for step in error.absolute_path if isinstance(step, str))
        for error in validator.iter_errors(value)
    }


def undocumented(name: str, value: Any) -> set[str]:
    """The departures that the table does not know."""
    known: set[str] = set(DIFFERENCES.get(name, {}))
    if name.endswith("_list"):
        known = {f"data/{place}" for place in DIFFERENCES.get(name.removesuffix("_list"), {})}
        known |= set(DIFFERENCES["list"])
    return departures(name, value) - known


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def http(clock: FakeClock) -> AsyncIterator[PlainHttp]:
    async with LocalServer(clock=clock, queued_seconds=10, running_seconds=20) as server, PlainHttp(server) as client:
        yield client


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cached_tokens": 0}
FULL = row("a", "a", model="m", usage=USAGE, seed=1, max_completion_tokens=5)
JUDGE = {
    "type": "score_model",
    "name": "Judge",
    "model": "m",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "range": [0, 1],
}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_schemas_are_schemas(name: str) -> None:
    """Each file is a valid schema, and refuses something."""
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert departures(name, [])


async def test_evals_keep_to_the_document(http: PlainHttp) -> None:
    """Create, retrieve, update, list and delete of evals of every kind."""
    logs = {"type": "logs", "metadata": {"case": "chat"}}
    made = await http.post("/evals", eval_request(EXACT, JUDGE, metadata={"k": "v"}))
    other = await http.post("/evals", eval_request(data_source_config=logs))
    assert [(answer.status, undocumented("eval", answer.json)) for answer in (made, other)] == [(201, set())] * 2
    path = f"/evals/{made.json['id']}"
    for answer in (await http.get(path), await http.post(path, {"name": "New"})):
        assert (answer.status, undocumented("eval", answer.json)) == (200, set())
    assert undocumented("eval_list", (await http.get("/evals")).json) == set()
    assert undocumented("eval_list", (await http.get("/evals", after=other.json["id"])).json) == set()
    assert undocumented("eval_deleted", (await http.delete(path)).json) == set()


@pytest.mark.parametrize("kind", ["jsonl", "completions", "responses"])
async def test_runs_and_their_items_keep_to_the_document(http: PlainHttp, clock: FakeClock, kind: str) -> None:
    """Every state of a run, its items graded and errored, its lists, its end."""
    path = f"/evals/{(await http.post('/evals', eval_request(EXACT, JUDGE))).json['id']}/runs"
    made = await http.post(path, run_request(FULL, row("a", "b"), {"item": {"answer": "c"}}, kind=kind, name="First"))
    assert (made.status, undocumented("run", made.json)) == (201, set())
    run = f"{path}/{made.json['id']}"
    for seconds in (0, 15, 15):
        clock.now += seconds
        assert undocumented("run", (await http.get(run)).json) == set()
        assert undocumented("run_list", (await http.get(path)).json) == set()
    items = (await http.get(f"{run}/output_items")).json
    assert len(items["data"]) == 3
    assert undocumented("output_item_list", items) == set()
    for item in items["data"]:
        assert undocumented("output_item", (await http.get(f"{run}/output_items/{item['id']}")).json) == set()
    canceled = await http.send("POST", f"{path}/{(await http.post(path, run_request(FULL))).json['id']}/cancel")
    assert (canceled.status, undocumented("run", canceled.json)) == (200, set())
    assert undocumented("run_deleted", (await http.delete(run)).json) == set()


async def test_a_whole_run_keeps_to_the_document_in_all_but_its_error(http: PlainHttp, clock: FakeClock) -> None:
    """With a model, a name and whole samples, the nulls for `error` are all that is left of the differences."""
    path = f"/evals/{(await http.post('/evals', eval_request())).json['id']}/runs"
    request: Any = run_request(FULL, kind="completions", name="First")
    request["data_source"] |= {"model": "m", "sampling_params": {"seed": 1}}
    run = f"{path}/{(await http.post(path, request)).json['id']}"
    clock.now += 30
    assert departures("run", (await http.get(run)).json) == {"error"}
    assert departures("output_item_list", (await http.get(f"{run}/output_items")).json) == {"data/sample/error"}


async def test_files_keep_to_the_document(http: PlainHttp) -> None:
    """Upload, retrieve, list and delete."""
    made = await http.upload(b'{"item": {}}')
    path = f"/files/{made.json['id']}"
    assert undocumented("file", made.json) == undocumented("file", (await http.get(path)).json) == set()
    assert undocumented("file_list", (await http.get("/files")).json) == set()
    assert undocumented("file_deleted", (await http.delete(path)).json) == set()
    expiring = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert departures("file", (await http.upload(b"x", **expiring)).json) == {"status_details"}


async def test_graders_keep_to_the_document(http: PlainHttp) -> None:
    """Run and validate, with a reward and with an error."""
    path = "/fine_tuning/alpha/graders"
    for grader in (EXACT, JUDGE):
        body = {"grader": grader, "model_sample": "a", "item": {"answer": "a"}}
        assert departures("grader_run", (await http.post(f"{path}/run", body)).json) == set()
        assert departures("grader_validated", (await http.post(f"{path}/validate", body)).json) == set()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/evals?limit=0", 400),
        ("POST", "/evals", 400),
        ("GET", "/evals/none", 404),
        ("DELETE", "/evals/none/runs/none", 404),
        ("GET", "/files/none", 404),
        ("PUT", "/evals", 405),
        ("GET", "/nothing", 404),
    ],
)
async def test_errors_keep_to_the_document(http: PlainHttp, method: str, path: str, status: int) -> None:
    """Every error is an ErrorResponse."""
    answer = await http.send(method, path)
    assert (answer.status, departures("error", answer.json)) == (status, set())


def test_the_sample_tree_keeps_to_the_document() -> None:
    """What is shown in demonstrations has the shapes of the API, in each of its objects."""
    tree = sample_tree(40)
    bodies = [
        *(("eval", body) for body in tree["evals"]),
        *(("run", body) for body in tree["runs"]),
        *(("output_item", body) for body in tree["output_items"]),
        *(("file", body) for body in tree["files"]),
    ]
    assert [(name, undocumented(name, body)) for name, body in bodies if undocumented(name, body)] == []


async def test_the_table_of_differences_holds_nothing_else(http: PlainHttp, clock: FakeClock) -> None:
    """Each difference in the table is met: a line that is not true any more must go."""
    path = f"/evals/{(await http.post('/evals', eval_request())).json['id']}/runs"
    run = (await http.post(path, run_request(row("a", "a"), kind="completions"))).json
    clock.now += 30
    item = (await http.get(f"{path}/{run['id']}/output_items")).json["data"][0]
    item_only = {**EXACT, "input": "{{ item.answer }}"}
    other = f"/evals/{(await http.post('/evals', eval_request(JUDGE))).json['id']}/runs"
    later = (await http.post(other, run_request({"item": {"answer": "a"}}))).json
    graded = f"/evals/{(await http.post('/evals', eval_request(item_only))).json['id']}/runs"
    alone = (await http.post(graded, run_request({"item": {"answer": "a"}}))).json
    clock.now += 30
    errored = (await http.get(f"{other}/{later['id']}/output_items")).json["data"][0]
    without = (await http.get(f"{graded}/{alone['id']}/output_items")).json["data"][0]
    file = (await http.upload(b"x")).json
    empty = (await http.get(path, after=run["id"])).json
    met = {
        "run": departures("run", run),
        "output_item": {place for body in (item, errored, without) for place in departures("output_item", body)},
        "file": departures("file", file),
        "list": departures("run_list", empty),
    }
    assert met == {name: set(places) for name, places in DIFFERENCES.items()}
    assert all(re.fullmatch(r"[a-z].{3,}", reason) for places in DIFFERENCES.values() for reason in places.values())

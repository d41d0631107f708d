"""What only Microsoft Foundry can carry out is taken in, echoed, and told as errors with their reasons."""

from collections.abc import Mapping
from typing import Any

import pytest
from doubles import FakeClock
from plainhttp import EXACT, PlainHttp, eval_request, row, run_request


EVALUATOR: Mapping[str, object] = {
    "type": "azure_ai_evaluator",
    "name": "Coherence",
    "evaluator_name": "builtin.coherence",
    "initialization_parameters": {"deployment_name": "gpt-4o"},
    "data_mapping": {"query": "{{item.query}}", "response": "{{sample.output_text}}"},
}


async def completed(http: PlainHttp, clock: FakeClock, path: str, source: Mapping[str, object]) -> tuple[Any, Any]:
    """A run over `source` that was waited for, and its items."""
    made = await http.post(f"{path}/runs", {"data_source": source})
    assert made.status == 201, made.body
    assert made.json["data_source"].items() >= source.items()
    clock.now += 30
    run_path = f"{path}/runs/{made.json['id']}"
    return (await http.get(run_path)).json, (await http.get(f"{run_path}/output_items")).json["data"]


async def test_a_foundry_evaluator_is_an_error_beside_the_grades_of_others(http: PlainHttp, clock: FakeClock) -> None:
    """The criterion is echoed with an id; its result says who carries it out; the string check is still graded, and
    counted where the error is not.
    """
    made = (await http.post("/evals", eval_request(EXACT, EVALUATOR))).json
    exact, evaluator = made["testing_criteria"]
    assert evaluator.items() >= EVALUATOR.items()
    source = run_request(row("a", "a"))["data_source"]
    run, (item,) = await completed(http, clock, f"/evals/{made['id']}", source)  # type: ignore[arg-type]
    graded, errored = item["results"]
    assert (graded["name"], graded["passed"]) == (exact["id"], True)
    assert (errored["name"], errored["passed"], errored["score"]) == (evaluator["id"], None, None)
    assert errored["sample"]["error"]["message"] == "builtin.coherence works on Microsoft Foundry only"
    assert item["status"] == "error"
    assert run["result_counts"] == {"total": 1, "errored": 1, "failed": 0, "passed": 0}
    assert [(entry["passed"], entry["failed"]) for entry in run["per_testing_criteria_results"]] == [(1, 0), (0, 0)]


@pytest.mark.parametrize("scenario", ["responses", "red_team", "traces_preview"])
async def test_a_foundry_data_source_config_is_kept(http: PlainHttp, scenario: str) -> None:
    """`azure_ai_source` comes back with its scenario."""
    request = eval_request(EVALUATOR) | {"data_source_config": {"type": "azure_ai_source", "scenario": scenario}}
    made = await http.post("/evals", request)
    assert made.status == 201
    assert made.json["data_source_config"]["scenario"] == scenario
    without = request | {"data_source_config": {"type": "azure_ai_source"}}
    assert (await http.post("/evals", without)).problem == (
        *(400, "missing_required_parameter", "data_source_config.scenario"),
    )


ROWS: Mapping[str, object] = {"type": "file_content", "content": [{"item": {"answer": "a"}}, {"item": {"answer": "b"}}]}
TARGET: Mapping[str, object] = {
    "type": "azure_ai_target_completions",
    "source": ROWS,
    "target": {"type": "azure_ai_agent", "name": "my-agent"},
    "input_messages": {"type": "item_reference", "item_reference": "item.query"},
}
RETRIEVED: Mapping[str, object] = {
    "type": "azure_ai_responses",
    "item_generation_params": {"type": "response_retrieval", "source": ROWS, "data_mapping": {"response_id": "x"}},
}


@pytest.mark.parametrize("source", [TARGET, RETRIEVED], ids=["target completions", "responses"])
async def test_rows_of_foundry_sources_are_errors_with_the_reason(
    http: PlainHttp, clock: FakeClock, source: Mapping[str, object]
) -> None:
    """Each row is an errored item with one result per criterion, and each says that Foundry carries it out."""
    made = (await http.post("/evals", eval_request(EXACT, EVALUATOR))).json
    run, items = await completed(http, clock, f"/evals/{made['id']}", source)
    assert (run["status"], run["result_counts"]["errored"]) == ("completed", 2)
    names = [entry["id"] for entry in made["testing_criteria"]]
    assert [entry["testing_criteria"] for entry in run["per_testing_criteria_results"]] == names
    for item in items:
        assert [entry["name"] for entry in item["results"]] == names
        assert all("Foundry" in entry["sample"]["error"]["message"] for entry in item["results"])
        assert item["sample"]["error"]["code"] == "unsupported_data_source"


async def test_sources_that_make_their_rows_on_foundry_fail_with_the_reason(http: PlainHttp, clock: FakeClock) -> None:
    """A run over traces, red teaming and the like is taken, and ends as failed: there are no rows here."""
    made = (await http.post("/evals", eval_request())).json
    run, items = await completed(http, clock, f"/evals/{made['id']}", {"type": "azure_ai_red_team"})
    assert (run["status"], items) == ("failed", [])
    assert "azure_ai_red_team" in run["error"]["message"]


async def test_the_rows_of_a_csv_file_are_graded(http: PlainHttp, clock: FakeClock) -> None:
    """A row is an item of strings under the header's names; a quoted line break and a missing value are taken."""
    check = EXACT | {"input": "{{ item.answer }}", "reference": "{{ item.wanted }}"}
    path = f"/evals/{(await http.post('/evals', eval_request(check))).json['id']}"
    data = '\ufeffanswer,wanted\r\na,a\r\n"b\nc",b\r\nd\r\n'.encode()
    file_id = (await http.upload(data, "rows.csv")).json["id"]
    _, items = await completed(http, clock, path, {"type": "csv", "source": {"type": "file_id", "id": file_id}})
    assert [(item["datasource_item"], item["status"], item["sample"]) for item in items] == [
        ({"answer": "a", "wanted": "a"}, "pass", None),
        ({"answer": "b\nc", "wanted": "b"}, "fail", None),
        ({"answer": "d", "wanted": ""}, "fail", None),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the CSV file has no header"),
        (b"a,b\n1,2,3\n", "line 2 has 3 values, but the header has 2 names"),
        (b'a\n"x"y\n', "line 2 is not valid CSV"),
        (b"a\n\xff\n", "the CSV file is not UTF-8"),
    ],
)
async def test_a_broken_csv_file_fails_the_run(http: PlainHttp, clock: FakeClock, data: bytes, reason: str) -> None:
    """The run's error names the line."""
    path = f"/evals/{(await http.post('/evals', eval_request())).json['id']}"
    file_id = (await http.upload(data, "rows.csv")).json["id"]
    run, items = await completed(http, clock, path, {"type": "csv", "source": {"type": "file_id", "id": file_id}})
    assert (run["status"], items) == ("failed", [])
    assert run["error"]["message"].startswith(reason)

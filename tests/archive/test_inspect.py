"""Runs as logs of Inspect AI: written through its own classes, and read back by its own reader."""

import asyncio
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evals_async import EvalRun, EvalsClient, MissingExtra
from evals_async._codec import structure
from evals_async.archive import Archive, ConversionReport
from evals_async.archive.convert.convert import convert
from evals_async.archive.convert.inspect import Inspect, LogBuilder, arguments_of
from evals_async.models import Eval, OutputItem
from evals_async.server import LocalServer, sample_tree


pytest.importorskip("inspect_ai", reason='needs the extra "inspect"')
inspect_log: Any = import_module("inspect_ai.log")  # as if it had no types: they cost the checkers minutes

CHECK = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}


def log_of(
    items: list[dict[str, Any]], *, criteria: list[dict[str, Any]] | None = None, **run: Any
) -> tuple[Any, ConversionReport]:
    """The log of a run with those items, after it was written and read back as JSON."""
    report = ConversionReport()
    evaluation = structure({"id": "eval_1", "name": "Sums", "testing_criteria": criteria or [CHECK]}, Eval)
    made = structure(
        {"id": "run_1", "eval_id": "eval_1", "status": "completed", "created_at": 1_700_000_000, **run}, EvalRun
    )
    things = (structure({"id": f"item_{n}", "status": "pass", **each}, OutputItem) for n, each in enumerate(items))
    log = LogBuilder(Inspect.load(), evaluation, made, report).log(things)
    return inspect_log.EvalLog.model_validate_json(log.model_dump_json()), report


def by_result(report: ConversionReport) -> dict[str, list[str]]:
    """What a report says, by result."""
    return {
        result: sorted(each.what for each in report.remarks if each.result == result)
        for result in ("approximated", "dropped")
    }


async def test_every_run_is_a_log_that_inspect_reads(file: Path, tmp_path: Path) -> None:
    """`convert --to inspect`: one log per run, in which Inspect finds the rows, scores and tokens of the API."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(runs=11, items=6))
        client = EvalsClient(base_url=server.base_url, api_key="k")
        async with client, Archive.open(file) as archive:
            await archive.export(client)
            report = await archive.convert("inspect", tmp_path / "logs")
            runs = {run.id: run async for run in archive.runs()}
            items = {(run, item.id): item for run in runs for item in [each async for each in archive.items(runs[run])]}
    assert 11 == len(report.written) == len(inspect_log.list_eval_logs(str(tmp_path / "logs")))
    seen = 0
    for path in report.written:
        log: Any = await asyncio.to_thread(inspect_log.read_eval_log, str(path))
        run = runs[log.eval.run_id]
        assert {"completed": "success", "failed": "error"}.get(run.status, log.status) == log.status
        assert run.created is not None
        assert run.created.isoformat() == log.eval.created
        samples: list[Any] = log.samples or []
        for sample in samples:
            item = items[run.id, sample.metadata["item_id"]]
            seen += 1
            assert ((item.sample is not None and item.sample.output_text) or "") == sample.output.completion
            assert item.datasource_item == sample.metadata["item"]
            assert item.is_error == (sample.error is not None)
            scores = {result.plain_name: result.score for result in item.results or () if result.score is not None}
            assert scores == {name: score.value for name, score in sample.scores.items() if score.value == score.value}
            if item.sample is not None and item.sample.usage is not None:
                assert item.sample.usage.total_tokens == sample.output.usage.total_tokens
        total = sum(usage.total_tokens for usage in log.stats.model_usage.values())
        assert (run.total_tokens or 0) == total
    assert len(items) == seen > 30


async def test_means_are_those_of_the_service(file: Path, tmp_path: Path) -> None:
    """The pass rate of each scorer is that of the service's criterion."""
    async with LocalServer(file) as server:
        await server.seed(**sample_tree(runs=4, items=10))
    report = await asyncio.to_thread(convert, file, "inspect", tmp_path)
    async with Archive.open(file, read_only=True) as archive:
        runs = {run.id: run async for run in archive.runs()}
    for path in report.written:
        log = await asyncio.to_thread(inspect_log.read_eval_log, str(path))
        for result in runs[log.eval.run_id].per_testing_criteria_results or ():
            [score] = [each for each in log.results.scores if each.name == result.plain_name]
            passed, failed = result.passed or 0, result.failed or 0
            assert pytest.approx(passed / (passed + failed)) == score.metrics["pass_rate"].value


def test_targets_are_what_graders_compare_with() -> None:
    """The field that all graders compare with is the target; without one it is empty, and that is reported."""
    items = [{"datasource_item": {"answer": "4", "list": [1]}}]
    log, report = log_of(items)
    assert ("4", []) == (log.samples[0].target, by_result(report)["approximated"])
    log, report = log_of(items, criteria=[{**CHECK, "reference": "{{ item.list }}"}])
    assert "[1]" == log.samples[0].target.replace(" ", "")
    for criteria in (
        [CHECK, {**CHECK, "reference": "{{ item.list }}"}],
        [{**CHECK, "reference": "is {{ item.answer }}"}],
    ):
        log, report = log_of(items, criteria=criteria)
        assert ("", ["rows without a target"]) == (log.samples[0].target, by_result(report)["approximated"])
    assert {"answer": "4", "list": [1]} == log.samples[0].metadata["item"] == json.loads(log.samples[0].input)


def test_scorers_of_one_name_stay_apart() -> None:
    """Two graders that share a name are two scorers, each with its own values; what has no score is unscored."""
    results = [
        {"name": "g-a5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c11", "score": 1, "passed": True},
        {"name": "g-b5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c11", "score": 0.25, "passed": False},
        {"name": "h", "score": None, "passed": None, "status": "error"},
    ]
    log, report = log_of([{"results": results, "datasource_item": {"answer": "x"}}])
    scores = log.samples[0].scores
    assert (1.0, 0.25, True, False) == (
        scores["g"].value,
        scores["g #2"].value,
        scores["g"].metadata["passed"],
        scores["g #2"].metadata["passed"],
    )
    assert scores["h"].value != scores["h"].value  # NaN: unscored
    assert "grader_failed" == scores["h"].reason
    assert ["g", "g #2", "h"] == [each.name for each in log.results.scores]
    assert {"mean": 0.25, "pass_rate": 0.0} == {
        name: each.value for name, each in log.results.scores[1].metrics.items()
    }
    assert {} == log.results.scores[2].metrics
    assert ["results without a score"] == by_result(report)["approximated"]


def test_errors_of_rows_and_runs_are_errors() -> None:
    """A row that failed has its error; a run that failed is a log of status `error`, a cancelled one `cancelled`."""
    failed: dict[str, Any] = {
        "status": "error",
        "sample": {"error": {"code": "rate_limit", "message": "too many"}},
        "results": [],
    }
    log, _ = log_of(
        [failed, {"datasource_item": {"answer": "y"}}], status="failed", error={"code": "x", "message": "no luck"}
    )
    assert ("error", "no luck", "too many", None) == (
        log.status,
        log.error.message,
        log.samples[0].error.message,
        log.samples[1].error,
    )
    assert (2, 1) == (log.results.total_samples, log.results.completed_samples)
    assert ["cancelled", "cancelled", "started", "started"] == [
        log_of([], status=each)[0].status for each in ("canceled", "cancelled", "queued", "brand_new")
    ]


def test_messages_tool_calls_and_usage() -> None:
    """Messages keep their roles, tool calls their arguments, and cached tokens are counted beside the others."""
    sample: Mapping[str, Any] = {
        "input": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": "2+2?"},
            {"role": "tool", "content": "4", "tool_call_id": "c1"},
        ],
        "output": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
                    {"id": "c3", "type": "function", "function": {"name": "add", "arguments": "{broken"}},
                ],
            }
        ],
        "finish_reason": "tool_calls",
        "model": "gpt-a",
        "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, "cached_tokens": 20},
    }
    log, report = log_of([{"sample": sample, "datasource_item": {"answer": "x"}}])
    [found] = log.samples
    assert ["system", "user", "tool"] == [each.role for each in found.input]
    assert ["system", "user", "tool", "assistant"] == [each.role for each in found.messages]
    calls = found.output.message.tool_calls
    assert [("c2", "add", {"a": 2}, True), ("c3", "add", {"arguments": "{broken"}, False)] == [
        (each.id, each.function, each.arguments, each.parse_error is None) for each in calls
    ]
    assert ("tool_calls", 10, 20, 5, 35) == (
        found.output.stop_reason,
        found.output.usage.input_tokens,
        found.output.usage.input_tokens_cache_read,
        found.output.usage.output_tokens,
        found.output.usage.total_tokens,
    )
    assert ["arguments of tool calls"] == by_result(report)["approximated"]


def test_rows_sampled_twice_are_epochs() -> None:
    """Items of one row are samples of one id with different epochs; ids that are texts stay texts."""
    items = [{"datasource_item_id": each, "datasource_item": {"answer": "x"}} for each in (3, 3, "3", None)]
    log, _ = log_of(items)
    assert [(3, 1), (3, 2), ("3", 1), (3, 3)] == [(each.id, each.epoch) for each in log.samples]
    assert 3 == log.eval.config.epochs


@pytest.mark.parametrize(
    ("text", "arguments", "fine"),
    [
        ('{"a":1}', {"a": 1}, True),
        ("[1]", {"arguments": [1]}, False),
        (None, {}, True),
        ({"a": 1}, {"a": 1}, True),
        ("{", {"arguments": "{"}, False),
    ],
)
def test_arguments_are_objects(text: Any, arguments: Any, fine: bool) -> None:
    """What a model wrote as arguments is an object, or kept under one name."""
    found, problem = arguments_of(text)
    assert (arguments, fine) == (found, problem is None)


def test_without_inspect_the_extra_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error names the extra, and nothing is written."""

    async def seed() -> None:
        async with LocalServer(file) as server:
            await server.seed(**sample_tree(runs=1, items=1))

    asyncio.run(seed())
    monkeypatch.setitem(__import__("sys").modules, "inspect_ai.log", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[inspect\]'"):
        convert(file, "inspect", tmp_path / "out")
    assert not (tmp_path / "out").exists()

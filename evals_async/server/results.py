"""From rows to results: output items, counts per criterion, usage per model.

Pure functions of the JSON of an eval, a run and its rows. When a run is done, and where its rows are, is told in
`runs`.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from evals_async._json import JSONObject, NotJSON, as_array, as_object
from evals_async.grading.graders import grade_locally
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError
from evals_async.server.checks import parse_bounded
from evals_async.server.shapes import Ids, content_hash


NO_MODEL = "this server has no models: give each row a `sample` to grade"
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


class BadRows(ValueError):
    """The rows of a run cannot be read; the run fails."""


@attrs.frozen
class SourceRow:
    """One row of a data source."""

    item: JSONObject
    sample: JSONObject | None


def source_row(value: object, where: str) -> SourceRow:
    row = as_object(value) or {}
    item = as_object(row.get("item"))
    if item is None:
        raise BadRows(f"{where} has no object `item`")
    return SourceRow(item, as_object(row.get("sample")))


def rows_of_content(content: Iterable[object]) -> list[SourceRow]:
    """The rows that stand in a run's own data source."""
    return [source_row(value, f"row {number}") for number, value in enumerate(content, 1)]


def rows_of_file(data: bytes) -> list[SourceRow]:
    """The rows of a JSONL file; empty lines do not count. Raises `BadRows`, which names the line."""
    found: list[SourceRow] = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                value = parse_bounded(line)
            except NotJSON as error:
                raise BadRows(f"line {number} is no JSON: {error}") from None
            found.append(source_row(value, f"line {number}"))
    return found


def result_of(grader: JSONObject, namespaces: Mapping[str, object]) -> dict[str, object]:
    """One entry of an item's `results`; a grade that could not be given carries its error in `sample`."""
    name: object = grader.get("id") or grader.get("name")
    try:
        score, passed = grade_locally(grader, namespaces)
    except Unavailable as error:
        code, message = "grader_unavailable", str(error)
    except TemplateError as error:
        code, message = "invalid_variable_error", str(error)
    else:
        return {"name": name, "sample": None, "passed": passed, "score": score}
    return {"name": name, "sample": {"error": {"code": code, "message": message}}, "passed": False, "score": 0.0}


def error_of(result: Mapping[str, object]) -> object:
    sample = as_object(result["sample"])
    return sample["error"] if sample else None


def sample_of(row: SourceRow, run: JSONObject, error: object) -> dict[str, object]:
    """The `sample` of an output item: what the model was asked and said, where the row tells."""
    given = row.sample or {}
    namespace = sample_namespace(given)
    output: list[object] = []
    if "output_text" in namespace:
        output = [{"role": "assistant", "content": namespace["output_text"]}]
    counts = as_object(given.get("usage")) or {}
    return {
        "input": given.get("input") or [],
        "output": given.get("output") or output,
        "finish_reason": given.get("finish_reason") or "stop",
        "model": given.get("model") or run.get("model") or "",
        "usage": {name: counts.get(name, 0) for name in USAGE},
        "error": error,
        "temperature": given.get("temperature", 1.0),
        "max_completion_tokens": given.get("max_completion_tokens"),
        "top_p": given.get("top_p", 1.0),
        "seed": given.get("seed"),
    }


def output_item(
    ids: Ids, number: int, row: SourceRow, run: JSONObject, graders: Sequence[JSONObject]
) -> dict[str, object]:
    """The output item of a row: graded, or errored with the reason."""
    source = as_object(run["data_source"]) or {}
    needs_model = row.sample is None and source.get("type") != "jsonl"
    results: list[dict[str, object]] = []
    error: object = {"code": "model_unavailable", "message": NO_MODEL} if needs_model else None
    if not needs_model:
        namespaces: dict[str, object] = {"item": row.item}
        if row.sample is not None:
            namespaces["sample"] = sample_namespace(row.sample)
        results = [result_of(grader, namespaces) for grader in graders]
        error = next((found for result in results if (found := error_of(result))), None)
    passed = all(result["passed"] for result in results)
    return {
        "object": "eval.run.output_item",
        "id": ids.new("outputitem"),
        "created_at": int(ids.clock.time()),
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": "error" if error else "pass" if passed else "fail",
        "datasource_item_id": number,
        "datasource_item": row.item,
        "results": list(results),
        "sample": sample_of(row, run, error),
        "_datasource_item_content_hash": content_hash(row.item),
    }


def result_counts(items: Sequence[JSONObject]) -> dict[str, object]:
    """How many items there are of each outcome."""
    found = [item["status"] for item in items]
    return {
        "total": len(found),
        "errored": found.count("error"),
        "failed": found.count("fail"),
        "passed": found.count("pass"),
    }


def per_criterion(items: Sequence[JSONObject], graders: Sequence[JSONObject]) -> list[object]:
    """How many grades of each criterion passed and failed; errors are neither."""
    tally = {str(grader.get("id") or grader.get("name")): [0, 0] for grader in graders}
    for item in items:
        for result in map(as_object, as_array(item["results"]) or ()):
            if result and error_of(result) is None:
                tally[str(result["name"])][0 if result["passed"] else 1] += 1
    return [
        {"testing_criteria": name, "testing_criteria_id": name, "passed": passed, "failed": failed}
        for name, (passed, failed) in tally.items()
    ]


def per_model(items: Sequence[JSONObject]) -> list[object]:
    """The tokens of each model that the items name."""
    totals: dict[str, dict[str, int]] = {}
    for item in items:
        sample = as_object(item["sample"]) or {}
        model, usage = sample.get("model"), as_object(sample.get("usage"))
        if not isinstance(model, str) or not model or usage is None or item["status"] == "error":
            continue
        total = totals.setdefault(model, dict.fromkeys(("invocation_count", *USAGE), 0))
        total["invocation_count"] += 1
        for name in USAGE:
            count = usage[name]
            total[name] += count if isinstance(count, int) else 0
    return [{"model_name": model, **total} for model, total in totals.items()]


def finished(run: JSONObject, items: Sequence[JSONObject], graders: Sequence[JSONObject]) -> dict[str, object]:
    """The run when all its items are there."""
    return {
        **run,
        "status": "completed",
        "result_counts": result_counts(items),
        "per_model_usage": per_model(items),
        "per_testing_criteria_results": per_criterion(items, graders),
    }


def failed(run: JSONObject, message: str) -> dict[str, object]:
    """The run when its rows could not be had."""
    return {**run, "status": "failed", "error": {"code": "invalid_data_source", "message": message}}

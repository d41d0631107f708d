"""From rows to results: output items, counts per criterion, usage per model.

Pure functions of the JSON of an eval, a run and its rows.
"""

from collections.abc import Mapping, Sequence

from evals_async._json import JSONObject, as_array, as_object
from evals_async.grading.graders import grade_locally
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError
from evals_async.server.execution.source import FOUNDRY_SOURCES, SourceRow
from evals_async.server.shapes import Ids, content_hash


NO_MODEL = "this server has no models: give each row a `sample` to grade"
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def problem(code: str, message: str) -> dict[str, object]:
    """An `EvalApiError`, as samples and runs carry it."""
    return {"code": code, "message": message}


def criterion_name(grader: JSONObject) -> str:
    """What results call a criterion: its id, which clients map results by."""
    return str(grader.get("id") or grader.get("name"))


def error_result(grader: JSONObject, error: Mapping[str, object]) -> dict[str, object]:
    """The result of a criterion that could not be carried out: no score, neither passed nor failed, and the reason."""
    return {"name": criterion_name(grader), "sample": {"error": error}, "passed": None, "score": None}


def result_of(grader: JSONObject, namespaces: Mapping[str, object]) -> dict[str, object]:
    """One entry of an item's `results`."""
    if grader.get("type") == "azure_ai_evaluator":
        reason = f"{grader.get('evaluator_name')} is carried out by Microsoft Foundry only"
        return error_result(grader, problem("grader_unavailable", reason))
    try:
        score, passed = grade_locally(grader, namespaces)
    except Unavailable as error:
        return error_result(grader, problem("grader_unavailable", str(error)))
    except TemplateError as error:
        return error_result(grader, problem("invalid_variable_error", str(error)))
    return {"name": criterion_name(grader), "sample": None, "passed": passed, "score": score}


def error_of(result: Mapping[str, object]) -> object:
    """Why a criterion could not be carried out, or `None` when it was."""
    sample = as_object(result.get("sample"))
    return sample["error"] if sample and result.get("passed") is None else None


def sample_of(row: SourceRow, run: JSONObject, error: object) -> dict[str, object] | None:
    """The `sample` of an output item: what the model was asked and said, where the row tells.

    `None` where graders looked at the item alone. A sample with an error has one output without text, because readers
    of results take the first.
    """
    if row.sample is None and error is None:
        return None
    given = row.sample or {}
    text = sample_namespace(given).get("output_text", "")
    counts = as_object(given.get("usage")) or {}
    return {
        "input": given.get("input") or [],
        "output": given.get("output") or [{"role": "assistant", "content": text}],
        "finish_reason": given.get("finish_reason") or ("error" if error else "stop"),
        "model": given.get("model") or run.get("model") or "",
        "usage": {name: counts.get(name, 0) for name in USAGE},
        "error": error,
        "temperature": given.get("temperature", 1.0),
        "max_completion_tokens": given.get("max_completion_tokens"),
        "top_p": given.get("top_p", 1.0),
        "seed": given.get("seed"),
    }


def row_problem(row: SourceRow, run: JSONObject) -> dict[str, object] | None:
    """Why a row cannot be graded at all."""
    kind = str((as_object(run["data_source"]) or {}).get("type"))
    if kind in FOUNDRY_SOURCES:
        return problem("unsupported_data_source", FOUNDRY_SOURCES[kind])
    if row.sample is None and kind in ("completions", "responses"):
        return problem("model_unavailable", NO_MODEL)
    return None


def output_item(
    ids: Ids, number: int, row: SourceRow, run: JSONObject, graders: Sequence[JSONObject]
) -> dict[str, object]:
    """The output item of a row, with one result for each criterion in their order: graded, or errored with the
    reason.
    """
    error: object = None
    if cause := row_problem(row, run):
        error = cause
        results = [error_result(grader, cause) for grader in graders]
    else:
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
    tally = {criterion_name(grader): [0, 0] for grader in graders}
    for item in items:
        for result in map(as_object, as_array(item["results"]) or ()):
            if result and result["passed"] is not None:
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
    return {**run, "status": "failed", "error": problem("invalid_data_source", message)}

"""Output items as the service shapes them: from a row, its sample and its grades.

Pure functions of JSON.
"""

from collections.abc import Mapping, Sequence

from evals_async._json import JSONObject, as_object
from evals_async.server.execution.source import SourceRow
from evals_async.server.shapes import content_hash


USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def problem(code: str, message: str) -> dict[str, object]:
    """An `EvalApiError`, as samples and runs carry it."""
    return {"code": code, "message": message}


def criterion_name(criterion: JSONObject) -> str:
    """What results call a criterion: its id, which clients map results by."""
    return str(criterion.get("id") or criterion.get("name"))


def error_result(criterion: JSONObject, error: Mapping[str, object]) -> dict[str, object]:
    """The result of a criterion that could not be carried out: no score, neither passed nor failed, and the reason."""
    return {"name": criterion_name(criterion), "score": None, "passed": None, "sample": {"error": error}}


def error_of(result: Mapping[str, object]) -> object:
    """Why a criterion could not be carried out, or `None` when it was."""
    sample = as_object(result.get("sample"))
    return sample["error"] if sample and result.get("passed") is None else None


def own_sample(row: SourceRow, run: JSONObject) -> dict[str, object] | None:
    """The `sample` of the output item of a row that was not sampled: what the row brings, `None` where it brings
    nothing.
    """
    if row.sample is None:
        return None
    from evals_async.grading.samples import sample_namespace

    given = row.sample
    text = sample_namespace(given).get("output_text", "")
    counts = as_object(given.get("usage")) or {}
    return {
        "input": given.get("input") or [],
        "output": given.get("output") or [{"role": "assistant", "content": text}],
        "finish_reason": given.get("finish_reason"),
        "model": given.get("model") or run.get("model") or "",
        "usage": {name: counts.get(name, 0) for name in USAGE},
        "error": None,
        "temperature": given.get("temperature", 1.0),
        "max_completion_tokens": given.get("max_completion_tokens"),
        "top_p": given.get("top_p", 1.0),
        "seed": given.get("seed"),
    }


def errored_sample(run: JSONObject) -> dict[str, object]:
    """The `sample` of a row to which no model answered. It has one output, without text, because readers of results
    take the first.
    """
    return {
        "input": [],
        "output": [{"role": "assistant", "content": ""}],
        "finish_reason": None,
        "model": run.get("model") or "",
        "usage": dict.fromkeys(USAGE, 0),
        "error": None,
        "temperature": 1.0,
        "max_completion_tokens": None,
        "top_p": 1.0,
        "seed": None,
    }


def output_item(
    run: JSONObject,
    number: int,
    row: SourceRow,
    results: Sequence[Mapping[str, object]],
    sample: Mapping[str, object] | None,
    cause: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The output item of a row, but for its id and time. `cause` says why the row could not be sampled."""
    error = cause or next((found for result in results if (found := error_of(result))), None)
    if error is not None or sample is not None:
        sample = errored_sample(run) if sample is None else sample
        reason = sample.get("finish_reason") or ("error" if error else "stop")
        sample = {**sample, "error": error, "finish_reason": reason}
    passed = all(result["passed"] for result in results)
    return {
        "object": "eval.run.output_item",
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": "error" if error else "pass" if passed else "fail",
        "datasource_item_id": number,
        "datasource_item": row.item,
        "results": list(results),
        "sample": sample,
        "_datasource_item_content_hash": content_hash(row.item),
    }

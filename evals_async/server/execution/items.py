"""Output items in the form of the service, made from a row, its sample and its grades."""

from collections.abc import Mapping, Sequence

from evals_async._json import JSONObject, as_object
from evals_async.server.execution.source import SourceRow
from evals_async.server.shapes import content_hash


USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def problem(code: str, message: str) -> dict[str, object]:
    """Return an `EvalApiError`, as samples and runs contain it."""
    return {"code": code, "message": message}


def criterion_name(criterion: JSONObject) -> str:
    """Return the name of a criterion in results: its id, which clients use to match results."""
    return str(criterion.get("id") or criterion.get("name"))


def error_result(criterion: JSONObject, error: Mapping[str, object]) -> dict[str, object]:
    """Return the result of a criterion that could not be graded: score and `passed` are null, with the reason."""
    return {"name": criterion_name(criterion), "score": None, "passed": None, "sample": {"error": error}}


def error_of(result: Mapping[str, object]) -> JSONObject | None:
    """Return the reason why a criterion could not be graded, or `None`."""
    sample = as_object(result.get("sample"))
    return as_object(sample["error"]) if sample and result.get("passed") is None else None


def own_sample(row: SourceRow, run: JSONObject) -> dict[str, object] | None:
    """Return the `sample` of an output item without sampling: the sample of the row, or `None`."""
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
    """Return the `sample` of a row without a model response. It has one output without text, because readers of
    results take the first output.
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
    """Return the output item of a row, without id and time. `cause` is the reason if the row could not be sampled."""
    error, passed = cause, True
    for result in results:
        if not result["passed"]:
            passed = False
            error = error or error_of(result)
    if error is not None or sample is not None:
        sample = errored_sample(run) if sample is None else sample
        reason = sample.get("finish_reason") or ("error" if error else "stop")
        if error is not None or reason != sample.get("finish_reason"):
            sample = {**sample, "error": error, "finish_reason": reason}
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

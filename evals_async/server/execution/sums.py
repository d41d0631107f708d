"""The sums over the rows of a run, and the fields of a run that are made from them.

Runs in progress and ended runs use the same sums.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from evals_async._json import JSONObject, as_array, as_object
from evals_async._store.executions import AddedSums, SumKey, Sums
from evals_async._store.rows import text_column
from evals_async.server.execution.items import USAGE, criterion_name


OUTCOMES: Mapping[object, SumKey] = {
    "pass": ("items", "", "passed"),
    "fail": ("items", "", "failed"),
    "error": ("items", "", "errored"),
}
CALLS: SumKey = ("run", "", "calls")
TOKENS: SumKey = ("run", "", "tokens")
BILLED_RETRIES: SumKey = ("run", "", "billed_retries")
MODEL_FIELDS = ("invocation_count", *USAGE)


LARGEST = 2**40  # of one count, so that a million counts can be added in a column of the store


def count(value: object) -> int:
    """Return a count from JSON. An invalid count is 0, and a count that is too large is the largest one."""
    return min(value, LARGEST) if type(value) is int and value > 0 else 0


MOST_COST = 1000.0  # per row
NANO = 1_000_000_000  # costs are added as integers of a billionth, so the order does not change the sum


def add(sums: AddedSums, key: SumKey, number: int) -> None:
    """Add to one of the sums. `Counter`'s own methods are slower."""
    sums[key] = sums.get(key, 0) + number


def add_cost(sums: AddedSums, cost: float | None) -> None:
    """Add a cost to the sums, if it is known."""
    if cost is not None:
        add(sums, ("run", "", "nano_cost"), round(min(cost, MOST_COST) * NANO))


def add_item(sums: AddedSums, item: JSONObject) -> None:
    """Add one output item: its outcome, and the outcome of each criterion."""
    add(sums, OUTCOMES[item["status"]], 1)
    for result in map(as_object, as_array(item["results"]) or ()):
        if result is not None:
            passed = result["passed"]
            field = "errored" if passed is None else "passed" if passed else "failed"
            add(sums, key_of_criterion(str(result["name"]), field), 1)


@lru_cache(maxsize=256)
def key_of_criterion(name: str, field: str) -> SumKey:
    return "criterion", text_column(name), field


@lru_cache(maxsize=256)
def keys_of_model(model: str) -> tuple[SumKey, Sequence[tuple[str, SumKey]]]:
    """Return the keys of the sums of a model: of its calls, and of each field of its usage."""
    name = text_column(model)
    return ("model", name, "invocation_count"), [(field, ("model", name, field)) for field in USAGE]


def add_model(sums: AddedSums, model: str, usage: JSONObject, invocations: int = 1) -> None:
    """Add calls of a model, by the name in its responses."""
    calls, fields = keys_of_model(model)
    sums[calls] = sums.get(calls, 0) + invocations
    for field, key in fields:
        if number := usage.get(field):  # a count of zero needs no entry
            sums[key] = sums.get(key, 0) + count(number)


def add_calls(sums: AddedSums, calls: int, usage: JSONObject) -> None:
    """Add calls and their tokens to the limited sums of the run."""
    sums[CALLS] = sums.get(CALLS, 0) + calls
    sums[TOKENS] = sums.get(TOKENS, 0) + count(usage.get("total_tokens"))


def add_brought_usage(sums: AddedSums, item: JSONObject) -> None:
    """Add the model and the tokens in the sample of a row."""
    sample = as_object(item["sample"]) or {}
    model, usage = sample.get("model"), as_object(sample.get("usage"))
    if not isinstance(model, str) or not model or usage is None or item["status"] == "error":
        return
    add_model(sums, model, usage)


def sums_of_items(items: Iterable[JSONObject]) -> Sums:
    """Return the sums over output items, with the usage in their samples."""
    found: Sums = Counter()
    for item in items:
        add_item(found, item)
        add_brought_usage(found, item)
    return found


def done(sums: Sums) -> int:
    """Return the number of finished rows."""
    return sum(sums[key] for key in OUTCOMES.values())


def result_counts(sums: Sums, total: int | None = None) -> dict[str, object]:
    """Return the number of items of each outcome. `total` is the number of rows while the run is in progress."""
    counts = {field: sums["items", "", field] for field in ("errored", "failed", "passed")}
    return {"total": sum(counts.values()) if total is None else total, **counts}


def per_criterion(sums: Sums, criteria: Sequence[JSONObject]) -> list[object]:
    """Return the numbers of passed and failed grades of each criterion. Errors are in neither number."""
    names = [criterion_name(criterion) for criterion in criteria]
    return [
        {
            "testing_criteria": name,
            "testing_criteria_id": name,
            "passed": sums["criterion", text_column(name), "passed"],
            "failed": sums["criterion", text_column(name), "failed"],
        }
        for name in names
    ]


def per_model(sums: Sums) -> list[object]:
    """Return the calls and the tokens of each model."""
    names = dict.fromkeys(name for kind, name, _ in sums if kind == "model")
    return [
        {"model_name": name, **{field: sums["model", name, field] for field in MODEL_FIELDS}} for name in sorted(names)
    ]


def counted(run: JSONObject, sums: Sums, criteria: Sequence[JSONObject], total: int | None = None) -> dict[str, object]:
    """Return the run with its current counts."""
    return {
        **run,
        "result_counts": result_counts(sums, total),
        "per_model_usage": per_model(sums),
        "per_testing_criteria_results": per_criterion(sums, criteria),
    }

"""What is counted over the rows of a run, and the fields of a run that are made of it.

The same counts serve a run under way and one that has ended. Pure functions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from evals_async._json import JSONObject, as_array, as_object
from evals_async._store.executions import Sums
from evals_async._store.rows import text_column
from evals_async.server.execution.items import USAGE, criterion_name


OUTCOMES: Mapping[object, str] = {"pass": "passed", "fail": "failed", "error": "errored"}
MODEL_FIELDS = ("invocation_count", *USAGE)


LARGEST = 2**40  # of one count: so many can be added up a million times in a column of the store


def count(value: object) -> int:
    """A count as it came in JSON; what is none counts as 0, and what cannot be true as the largest."""
    return max(0, min(value, LARGEST)) if isinstance(value, int) and not isinstance(value, bool) else 0


MOST_COST = 1000.0  # of a row
NANO = 1_000_000_000  # costs are summed as whole numbers of a billionth: no rounding adds up, whatever the order


def cost_sums(cost: float | None) -> Sums:
    """What a cost adds to the sums; nothing where no price is known."""
    return Counter() if cost is None else Counter({("run", "", "nano_cost"): round(min(cost, MOST_COST) * NANO)})


def item_sums(item: JSONObject) -> Sums:
    """What one output item adds: its own outcome, and that of each criterion."""
    found: Sums = Counter({("items", "", OUTCOMES[item["status"]]): 1})
    for result in map(as_object, as_array(item["results"]) or ()):
        if result is not None:
            passed = result["passed"]
            field = "errored" if passed is None else "passed" if passed else "failed"
            found["criterion", text_column(result["name"]), field] += 1
    return found


def model_sums(model: str, usage: JSONObject, invocations: int = 1) -> Sums:
    """What calls of a model add, by the name that its answers say."""
    key = text_column(model)
    found: Sums = Counter({("model", key, "invocation_count"): invocations})
    for name in USAGE:
        found["model", key, name] += count(usage.get(name))
    return found


def brought_usage(item: JSONObject) -> Sums:
    """What the sample that a row brought says of its model and tokens."""
    sample = as_object(item["sample"]) or {}
    model, usage = sample.get("model"), as_object(sample.get("usage"))
    if not isinstance(model, str) or not model or usage is None or item["status"] == "error":
        return Counter()
    return model_sums(model, usage)


def sums_of_items(items: Iterable[JSONObject]) -> Sums:
    """The sums over whole output items, with the usage that their samples tell."""
    found: Sums = Counter()
    for item in items:
        found.update(item_sums(item))
        found.update(brought_usage(item))
    return found


def done(sums: Sums) -> int:
    """How many rows are done."""
    return sum(sums["items", "", field] for field in OUTCOMES.values())


def result_counts(sums: Sums, total: int | None = None) -> dict[str, object]:
    """How many items there are of each outcome; `total` is the number of rows where they are not all done."""
    counts = {field: sums["items", "", field] for field in ("errored", "failed", "passed")}
    return {"total": sum(counts.values()) if total is None else total, **counts}


def per_criterion(sums: Sums, criteria: Sequence[JSONObject]) -> list[object]:
    """How many grades of each criterion passed and failed; errors are neither."""
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
    """The calls and the tokens of each model."""
    names = dict.fromkeys(name for kind, name, _ in sums if kind == "model")
    return [
        {"model_name": name, **{field: sums["model", name, field] for field in MODEL_FIELDS}} for name in sorted(names)
    ]


def counted(run: JSONObject, sums: Sums, criteria: Sequence[JSONObject], total: int | None = None) -> dict[str, object]:
    """The run with what is counted so far."""
    return {
        **run,
        "result_counts": result_counts(sums, total),
        "per_model_usage": per_model(sums),
        "per_testing_criteria_results": per_criterion(sums, criteria),
    }

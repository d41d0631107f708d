"""The grades of a row: one result per criterion, in their order."""

import math
from collections.abc import Mapping, Sequence

import attrs

from evals_async._json import JSONObject, as_object
from evals_async._store.executions import AddedSums
from evals_async.grading import Grade, PythonGraders
from evals_async.grading.grading import grade_seen, namespaces_of
from evals_async.inference import Models
from evals_async.inference.structured import DEGRADED
from evals_async.server.execution.items import criterion_name, error_result, output_item, own_sample, problem
from evals_async.server.execution.sampling import sampling_plan
from evals_async.server.execution.source import FOUNDRY_SOURCES, SourceRow
from evals_async.server.execution.sums import BILLED_RETRIES, add, add_calls, add_cost, add_model, count


NO_MODEL = "this server has no models: each row needs a `sample` to grade"
NO_PLAN = "the row has no `sample`, and the run has no `model` and `input_messages` to make one"


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class GradedRow:
    """The results of a row, and the sums of its judges."""

    results: tuple[Mapping[str, object], ...]
    sums: AddedSums


@attrs.frozen
class GradingTools:
    """The tools of graders: models as judges, and processes for python graders."""

    models: Models | None = None
    python: PythonGraders | None = None


NO_TOOLS = GradingTools()


async def grade_row(
    criteria: Sequence[JSONObject], item: JSONObject, sample: JSONObject | None, tools: GradingTools
) -> GradedRow:
    """Grade one row by each criterion. If one criterion cannot be graded, the others are still graded."""
    namespaces = namespaces_of(item, sample)
    results: list[Mapping[str, object]] = []
    sums: AddedSums = {}
    for criterion in criteria:
        if criterion.get("type") == "azure_ai_evaluator":
            reason = f"{criterion.get('evaluator_name')} works on Microsoft Foundry only"
            results.append(error_result(criterion, problem("grader_unavailable", reason)))
            continue
        given = await grade_seen(criterion, namespaces, tools.models, tools.python)
        if given.score is not None and not math.isfinite(given.score):
            reason = f"the score {given.score} is not a JSON number"
            results.append(error_result(criterion, problem("grader_unavailable", reason)))
            continue
        results.append(graded_result(criterion, given))
        add_grade(sums, given)
    return GradedRow(tuple(results), sums)


def graded_result(criterion: JSONObject, given: Grade) -> dict[str, object]:
    """Return a grade as an entry of `results`. If a judge returned no structured output, its sample has a remark in
    `degraded`.
    """
    result = given.result(criterion_name(criterion))
    if not given.notes:
        return result
    degraded = next((note for note in given.notes if note in DEGRADED.values()), None)
    sample = as_object(result["sample"])
    return result if degraded is None or sample is None else {**result, "sample": {**sample, "degraded": degraded}}


def add_grade(sums: AddedSums, given: Grade) -> None:
    """Add the calls, tokens and notes of a grade's judge to the sums."""
    for model, usage in given.usage.items():
        calls = count(usage.get("invocation_count"))
        add_model(sums, model, usage, calls)
        add_calls(sums, calls, usage)
    if given.billed_retries:
        add(sums, BILLED_RETRIES, given.billed_retries)
    add_cost(sums, given.cost)
    for note in given.notes:
        add(sums, ("note", note, "rows"), 1)


def row_problem(row: SourceRow, data_source: JSONObject) -> dict[str, object] | None:
    """Return the reason why a row without sampling cannot be graded, or `None`."""
    kind = data_source.get("type")
    if isinstance(kind, str) and kind in FOUNDRY_SOURCES:
        return problem("unsupported_data_source", FOUNDRY_SOURCES[kind])
    if row.sample is None and kind in ("completions", "responses"):
        return problem("model_unavailable", NO_PLAN if sampling_plan(data_source) is None else NO_MODEL)
    return None


async def unsampled_item(
    run: JSONObject, number: int, row: SourceRow, criteria: Sequence[JSONObject], tools: GradingTools = NO_TOOLS
) -> tuple[dict[str, object], AddedSums]:
    """Return the output item of a row without sampling, without id and time, and the sums of its judges."""
    if cause := row_problem(row, as_object(run["data_source"]) or {}):
        results = [error_result(criterion, cause) for criterion in criteria]
        return output_item(run, number, row, results, None, cause), {}
    given = await grade_row(criteria, row.item, row.sample, tools)
    return output_item(run, number, row, given.results, own_sample(row, run)), given.sums

"""`grade`: one criterion, one row, one grade."""

import asyncio
from collections.abc import Mapping

import attrs

from evals_async import InvalidArgument
from evals_async._json import JSONObject, as_array, as_object
from evals_async.grading.formula import FormulaError, evaluate
from evals_async.grading.grade import Grade
from evals_async.grading.graders import passes, string_check, text_similarity
from evals_async.grading.judges import cosine_similarity, cost_of, label_model, score_model
from evals_async.grading.python import OFF, GraderFault, PythonGraders
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError
from evals_async.inference import Models
from evals_async.inference.completion import added


async def grade(
    criterion: JSONObject,
    *,
    item: JSONObject,
    sample: JSONObject | None = None,
    models: Models | None = None,
    python: PythonGraders | None = None,
) -> Grade:
    """Grade one row by one criterion.

    `criterion` is a grader in the form of the API: `string_check`, `text_similarity`, `score_model`, `label_model`,
    `python`, or `multi`. `item` is the row. `sample` is the response of a model, in any of the forms of samples.
    Without it, a placeholder `{{ sample.… }}` is an error. `models` is used for judges and embeddings, and `python` for
    python graders. If the row cannot be graded, no exception is raised; the `error` of the grade has the reason.
    """
    return await grade_seen(criterion, namespaces_of(item, sample), models, python)


def namespaces_of(item: JSONObject, sample: JSONObject | None) -> JSONObject:
    """Return the values for the templates of a row, which all its criteria share."""
    return {"item": item} if sample is None else {"item": item, "sample": sample_namespace(sample)}


async def grade_seen(
    criterion: JSONObject, namespaces: JSONObject, models: Models | None, python: PythonGraders | None
) -> Grade:
    """Like `grade`, with the namespaces of the row."""
    try:
        return await graded(criterion, namespaces, models, python)
    except TemplateError as error:
        return Grade.failed("invalid_variable_error", str(error))
    except Unavailable as error:
        return Grade.failed(error.code, str(error))


async def graded(
    criterion: JSONObject, namespaces: Mapping[str, object], models: Models | None, python: PythonGraders | None
) -> Grade:
    """Return the grade of a criterion. Raises `TemplateError` and `Unavailable`."""
    match criterion.get("type"):
        case "string_check":
            return PASSED if string_check(criterion, namespaces)[1] else FAILED
        case "text_similarity":
            if criterion.get("evaluation_metric") == "cosine":
                return await cosine_similarity(criterion, namespaces, models)
            # In a thread: the first use of a metric imports a library, and some metrics are slow for long texts.
            score, passed = await asyncio.to_thread(text_similarity, criterion, namespaces)
            return Grade(score=score, passed=passed)
        case "score_model":
            return await score_model(criterion, namespaces, models)
        case "label_model":
            return await label_model(criterion, namespaces, models)
        case "python":
            return await python_grade(criterion, namespaces, python)
        case "multi":
            return await multi(criterion, namespaces, models, python)
        case kind:
            raise Unavailable(f"graders of type {kind} are not supported here")


# A string check has only two possible grades, which all rows share.
PASSED, FAILED = Grade(score=1.0, passed=True), Grade(score=0.0, passed=False)


async def python_grade(criterion: JSONObject, namespaces: Mapping[str, object], python: PythonGraders | None) -> Grade:
    """Return the grade from the source's `grade(sample, item)`. If the code fails, the score is 0, with a cause.
    The default `pass_threshold` is 0.5. Raises `Unavailable`.
    """
    if python is None:
        raise Unavailable(OFF)
    sample, item = as_object(namespaces.get("sample")), as_object(namespaces["item"]) or {}
    try:
        score = await python.score(str(criterion.get("source")), sample, item)
    except GraderFault as fault:
        cause = {"code": "python_grader_runtime_error", "message": str(fault)}
        return Grade(score=0.0, passed=False, cause=cause)
    except InvalidArgument as error:
        raise Unavailable(str(error), code="python_grader_server_error") from None
    return Grade(score=score, passed=passes(criterion, score, 0.5))


def parts_of(criterion: JSONObject) -> dict[str, JSONObject]:
    """Return the graders of a multi grader by name. They are given as an object, an array, or a single grader."""
    given = criterion.get("graders")
    named = as_object(given)
    if named is not None and "type" not in named:
        return {name: part for name, entry in named.items() if (part := as_object(entry)) is not None}
    entries = as_array(given) or (given,)
    return {str(part.get("name")): part for entry in entries if (part := as_object(entry)) is not None}


async def multi(
    criterion: JSONObject, namespaces: Mapping[str, object], models: Models | None, python: PythonGraders | None
) -> Grade:
    """Return the grade from the formula `calculate_output` over the scores of the parts.

    Without a `pass_threshold`, `passed` is `None`. If one part has an error, the grade has this error.
    """
    parts = parts_of(criterion)
    each_graded = (grade_seen(part, namespaces, models, python) for part in parts.values())
    grades = dict(zip(parts, await asyncio.gather(*each_graded), strict=True))
    usage: dict[str, JSONObject] = {}
    for name in {name: None for each in grades.values() for name in each.usage}:
        usage[name] = summed([each.usage[name] for each in grades.values() if name in each.usage])
    total = Grade(
        parts=grades,
        usage=usage,
        cost=cost_of([each.cost for each in grades.values()]),
        billed_retries=sum(each.billed_retries for each in grades.values()),
        notes=tuple(f"{name}: {note}" for name, each in grades.items() for note in each.notes),
    )
    failed = next(((name, each.error) for name, each in grades.items() if each.error is not None), None)
    if failed is not None:
        name, error = failed
        return attrs.evolve(total, error={**error, "message": f"{name}: {error['message']}"})
    scores = {name: each.score for name, each in grades.items() if each.score is not None}
    try:
        score = evaluate(str(criterion.get("calculate_output")), scores)
    except FormulaError as error:
        return attrs.evolve(total, error={"code": "formula_parse_error", "message": str(error)})
    threshold = criterion.get("pass_threshold")
    return attrs.evolve(total, score=score, passed=None if threshold is None else passes(criterion, score))


def summed(usages: list[JSONObject]) -> JSONObject:
    """Add several usages of one model."""
    calls = sum(count for usage in usages if isinstance(count := usage.get("invocation_count"), int))
    return {"invocation_count": calls, **added(usages)}

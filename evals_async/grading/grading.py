"""`grade`: one criterion, one row, one grade."""

import asyncio
from collections.abc import Mapping

from evals_async._json import JSONObject
from evals_async.grading.grade import Grade
from evals_async.grading.graders import string_check, text_similarity
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError


LONG_TEXT = 20_000  # characters of a row from which a metric is computed in a thread: some are quadratic


async def grade(criterion: JSONObject, *, item: JSONObject, sample: JSONObject | None = None) -> Grade:
    """What a criterion of an eval says about a row.

    `item` is the row, `sample` what a model answered to it, in any form that samples come in; without it, a placeholder
    `{{ sample.… }}` is an error. What cannot be graded is no exception: the grade's `error` says why.
    """
    namespaces: dict[str, object] = {"item": item}
    if sample is not None:
        namespaces["sample"] = sample_namespace(sample)
    try:
        return await graded(criterion, namespaces)
    except TemplateError as error:
        return Grade.failed("invalid_variable_error", str(error))
    except Unavailable as error:
        return Grade.failed(error.code, str(error))


async def graded(criterion: JSONObject, namespaces: Mapping[str, object]) -> Grade:
    kind = str(criterion.get("type"))
    if kind == "string_check":
        score, passed = string_check(criterion, namespaces)
        return Grade(score=score, passed=passed)
    if kind == "text_similarity":
        score, passed = await asyncio.to_thread(text_similarity, criterion, namespaces)
        return Grade(score=score, passed=passed)
    raise Unavailable(f"there is no grader of type {kind} here")

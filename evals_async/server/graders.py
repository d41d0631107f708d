"""The endpoints of graders: run one on a single sample, and validate one.

The grading is the same as in runs. If a sample cannot be graded, the response has status 200 and the matching entry in
`metadata.errors`, as in the API.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from evals_async._json import JSONObject, as_array, as_object
from evals_async.server import checks
from evals_async.server.answers import Answer, Problem
from evals_async.server.execution.items import USAGE
from evals_async.server.execution.sums import count
from evals_async.server.handlers import request_object
from evals_async.server.service import RequestContext, Service


if TYPE_CHECKING:
    from evals_async.grading import Grade

ERRORS: Mapping[str, object] = {
    "formula_parse_error": False,
    "sample_parse_error": False,
    "truncated_observation_error": False,
    "unresponsive_reward_error": False,
    "invalid_variable_error": False,
    "other_error": False,
    "python_grader_server_error": False,
    "python_grader_server_error_type": None,
    "python_grader_runtime_error": False,
    "python_grader_runtime_error_details": None,
    "model_grader_server_error": False,
    "model_grader_refusal_error": False,
    "model_grader_parse_error": False,
    "model_grader_server_error_details": None,
}


def parts_of(grader: JSONObject) -> dict[str, JSONObject]:
    """Return the graders of a multi grader by name. They are given as an object, an array, or a single grader."""
    given = grader["graders"]
    named = as_object(given)
    if named is not None and "type" not in named:
        return {name: checks.grader(part, f"grader.graders.{name}", SINGLE) for name, part in named.items()}
    entries = as_array(given) or [given]
    parts = [checks.grader(part, f"grader.graders[{index}]", SINGLE) for index, part in enumerate(entries)]
    return {str(part["name"]): part for part in parts}


SINGLE = tuple(kind for kind in checks.CRITERIA if kind != "azure_ai_evaluator")


# For the code of a grade: its entry in `errors`, and the entry for its message.
FLAGS: Mapping[str, str | None] = {
    "invalid_variable_error": None,
    "formula_parse_error": None,
    "python_grader_server_error": "python_grader_server_error_type",
    "python_grader_runtime_error": "python_grader_runtime_error_details",
    "model_grader_server_error": "model_grader_server_error_details",
    "model_grader_refusal_error": None,
    "model_grader_parse_error": None,
}


def flag_of(kind: str, code: str) -> str:
    """Return the entry of `errors` for the code of a grade of this kind."""
    if code in FLAGS:
        return code
    if kind == "python":
        return "python_grader_server_error"
    return "model_grader_server_error" if kind in ("score_model", "label_model") else "other_error"


def errors_of(kind: str, given: "Grade") -> dict[str, object]:
    """Return the entries of `errors` for a grade."""
    why = given.error or given.cause
    if why is None:
        return {}
    flag = flag_of(kind, str(why["code"]))
    details = FLAGS.get(flag)
    return {flag: True} if details is None else {flag: True, details: why["message"]}


def all_errors(grader: JSONObject, given: "Grade") -> dict[str, object]:
    """Return the entries of `errors` for a grade and its parts."""
    kind = str(grader["type"])
    if kind != "multi":
        return errors_of(kind, given)
    found: dict[str, object] = {}
    parts = parts_of(grader)
    for name, part in given.parts.items():
        found |= errors_of(str(parts[name]["type"]), part)
    return found or errors_of(kind, given)


def tokens_of(usage: JSONObject) -> dict[str, object]:
    return {name: usage.get(name, 0) for name in USAGE}


async def run_grader(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    grader = checks.required(body, "grader", lambda value, at: checks.grader(value, at, checks.RUNNABLE))
    sample = checks.required(body, "model_sample", checks.text)
    item = checks.optional(body, "item", checks.mapping) or {}
    if grader["type"] == "multi":
        parts_of(grader)  # checked before any request to a model
    from evals_async.grading import grade

    began = service.clock.monotonic()
    given = await grade(grader, item=item, sample={"output_text": sample}, models=service.models, python=service.python)
    scores = {name: part.score or 0.0 for name, part in given.parts.items()}
    metadata: dict[str, object] = {
        "name": grader["name"],
        "type": grader["type"],
        "errors": {**ERRORS, **all_errors(grader, given)},
        "execution_time": service.clock.monotonic() - began,
        "scores": scores,
        "token_usage": tokens_of(summed(given.usage.values())) if given.usage else None,
        "sampled_model_name": next(iter(given.usage), None),
    }
    answer: dict[str, object] = {
        "reward": given.score or 0.0,
        "metadata": metadata,
        "sub_rewards": scores,
        "model_grader_token_usage_per_model": {model: tokens_of(usage) for model, usage in given.usage.items()},
    }
    return Answer.of(200, answer)


def summed(usages: Iterable[JSONObject]) -> dict[str, int]:
    """Add several usages."""
    total: dict[str, int] = dict.fromkeys(USAGE, 0)
    for usage in usages:
        for name in USAGE:
            total[name] += count(usage.get(name))
    return total


async def validate_grader(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    grader = checks.required(body, "grader", lambda value, at: checks.grader(value, at, checks.RUNNABLE))
    from evals_async.errors import InvalidArgument
    from evals_async.grading.formula import FormulaError, evaluate
    from evals_async.grading.python import check_source

    if grader["type"] == "python":
        try:
            check_source(str(grader["source"]))
        except InvalidArgument as error:
            raise Problem(400, str(error), param="grader.source", code="invalid_value") from None
    if grader["type"] == "multi":
        names = dict.fromkeys(parts_of(grader), 1.0)
        try:
            evaluate(str(grader["calculate_output"]), names)
        except FormulaError as error:
            raise Problem(400, str(error), param="grader.calculate_output", code="invalid_value") from None
    return Answer.of(200, {"grader": grader})

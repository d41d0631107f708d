"""The endpoints of graders: run one on a single sample, and validate one.

The same grading as in runs. What cannot be graded here is answered with status 200 and the matching entry of
`metadata.errors`, as the API has it.
"""

from collections.abc import Mapping

import attrs

from evals_async._json import JSONObject, as_array, as_object
from evals_async.grading.formula import FormulaError, evaluate
from evals_async.grading.graders import grade_locally
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError
from evals_async.server import checks
from evals_async.server.answers import Answer, Problem
from evals_async.server.handlers import request_object
from evals_async.server.service import RequestContext, Service


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


@attrs.frozen
class Reward:
    """What a grader gave: its reward, those of its parts, and which errors happened."""

    reward: float
    parts: Mapping[str, float] = attrs.Factory(dict[str, float])
    errors: Mapping[str, object] = attrs.Factory(dict[str, object])


def failure(kind: str, error: Exception) -> Reward:
    """No reward, and the entries of `errors` that say why."""
    if isinstance(error, TemplateError):
        return Reward(0.0, {}, {"invalid_variable_error": True})
    if isinstance(error, FormulaError):
        return Reward(0.0, {}, {"formula_parse_error": True})
    if kind == "python":
        return Reward(0.0, {}, {"python_grader_server_error": True, "python_grader_server_error_type": str(error)})
    if kind == "score_model":
        return Reward(0.0, {}, {"model_grader_server_error": True, "model_grader_server_error_details": str(error)})
    return Reward(0.0, {}, {"other_error": True})


def parts_of(grader: JSONObject) -> dict[str, JSONObject]:
    """The graders of a multi grader by name: given as a map, as an array, or as a single one."""
    given = grader["graders"]
    named = as_object(given)
    if named is not None and "type" not in named:
        return {name: checks.grader(part, f"grader.graders.{name}", SINGLE) for name, part in named.items()}
    entries = as_array(given) or [given]
    parts = [checks.grader(part, f"grader.graders[{index}]", SINGLE) for index, part in enumerate(entries)]
    return {str(part["name"]): part for part in parts}


SINGLE = tuple(kind for kind in checks.CRITERIA if kind != "azure_ai_evaluator")


def reward(grader: JSONObject, namespaces: Mapping[str, object]) -> Reward:
    """What a checked grader gives for one sample."""
    kind = str(grader["type"])
    try:
        if kind != "multi":
            return Reward(grade_locally(grader, namespaces)[0])
        scores: dict[str, float] = {}
        errors: dict[str, object] = {}
        for name, part in parts_of(grader).items():
            given = reward(part, namespaces)
            scores[name] = given.reward
            errors.update(given.errors)
        total = 0.0 if errors else evaluate(str(grader["calculate_output"]), scores)
        return Reward(total, scores, errors)
    except (Unavailable, TemplateError, FormulaError) as error:
        return failure(kind, error)


async def run_grader(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    grader = checks.required(body, "grader", lambda value, at: checks.grader(value, at, checks.RUNNABLE))
    sample = checks.required(body, "model_sample", checks.text)
    item = checks.optional(body, "item", checks.mapping) or {}
    began = service.clock.monotonic()
    given = reward(grader, {"item": item, "sample": sample_namespace({"output_text": sample})})
    metadata: dict[str, object] = {
        "name": grader["name"],
        "type": grader["type"],
        "errors": {**ERRORS, **given.errors},
        "execution_time": service.clock.monotonic() - began,
        "scores": dict(given.parts),
        "token_usage": None,
        "sampled_model_name": None,
    }
    answer: dict[str, object] = {
        "reward": given.reward,
        "metadata": metadata,
        "sub_rewards": dict(given.parts),
        "model_grader_token_usage_per_model": {},
    }
    return Answer.of(200, answer)


async def validate_grader(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    grader = checks.required(body, "grader", lambda value, at: checks.grader(value, at, checks.RUNNABLE))
    if grader["type"] == "multi":
        names = dict.fromkeys(parts_of(grader), 1.0)
        try:
            evaluate(str(grader["calculate_output"]), names)
        except FormulaError as error:
            raise Problem(400, str(error), param="grader.calculate_output", code="invalid_value") from None
    return Answer.of(200, {"grader": grader})

"""Graders that call a model: score_model, label_model, and the cosine of text similarity.

A judge responds with `{"steps": [{"description", "conclusion"}], "result"}`. Without structured output of the endpoint,
the object is also searched in the text of the response.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

import attrs

from evals_async import InvalidArgument, RequestError
from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse
from evals_async.grading.grade import Grade
from evals_async.grading.graders import passes, texts_of
from evals_async.grading.similarity import Unavailable, cosine
from evals_async.grading.templates import render_messages
from evals_async.inference import Completion, Models
from evals_async.inference.completion import added
from evals_async.inference.structured import Structured, structured_chat
from evals_async.inference.transcript import sample_object


R = TypeVar("R", str, float)

EMBEDDING_MODEL = "text-embedding-3-large"  # the service's model; the `model` of a criterion has priority
LONGEST_SEARCH = 100_000  # characters at the end of a text that are searched for a result
MOST_BRACES = 500
FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
STEP = {
    "type": "object",
    "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
    "required": ["description", "conclusion"],
    "additionalProperties": False,
}


def schema_of(result: JSONObject) -> JSONObject:
    """Return the JSON schema of a judge's response."""
    return {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": STEP}, "result": result},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


# --- reading ----------------------------------------------------------------------------------------------------------


def no_constant(name: str) -> NoReturn:
    raise ValueError(name)


DECODER = json.JSONDecoder(parse_constant=no_constant)


def json_object(text: str) -> JSONObject | None:
    try:
        return as_object(parse(text.strip().encode("utf-8", "surrogatepass")))
    except NotJSON:
        return None


def answer_in(text: str) -> JSONObject | None:
    """Return the object with a `result` in a text: the whole text, a fenced block, or the last object in it."""
    for candidate in (text, *reversed(FENCE.findall(text[-LONGEST_SEARCH:]))):
        found = json_object(candidate)
        if found is not None and "result" in found:
            return found
    text = text[-LONGEST_SEARCH:]
    end = len(text)
    for _ in range(MOST_BRACES):
        end = text.rfind("{", 0, end)
        if end < 0:
            return None
        try:
            found = as_object(DECODER.raw_decode(text, end)[0])
        except (ValueError, RecursionError):
            continue
        if found is not None and "result" in found:
            return found
    return None


@attrs.frozen
class Judgement:
    """The result of a judge, with the steps of its reasoning."""

    result: str | float
    steps: tuple[JSONObject, ...] = ()


def number_in(value: object) -> float | None:
    """Return a number, also from a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def label_in(labels: Sequence[str]) -> Callable[[object], str | None]:
    """Return a reader of labels. It accepts another case, and white space around a label."""

    def read(value: object) -> str | None:
        if value in labels:
            return str(value)
        wanted = str(value).strip().casefold()
        return next((label for label in labels if label.strip().casefold() == wanted), None)

    return read


def reader(result_in: Callable[[object], R | None]) -> Callable[[Completion], Judgement | None]:
    """Return a reader of completions. It accepts an object with a `result`, or a text that is only a result."""

    def read(completion: Completion) -> Judgement | None:
        found = answer_in(completion.text)
        result = result_in(completion.text.strip() if found is None else found["result"])
        if result is None:
            return None
        steps = [as_object(step) for step in as_array((found or {}).get("steps")) or ()]
        return Judgement(result, tuple(step for step in steps if step is not None))

    return read


# --- asking -----------------------------------------------------------------------------------------------------------


def usage_by_model(completions: Sequence[Completion]) -> Mapping[str, JSONObject]:
    """Return the usage by the model names in the responses."""
    by_model: dict[str, list[JSONObject]] = {}
    for completion in completions:
        by_model.setdefault(completion.model, []).append(completion.usage)
    return {model: {"invocation_count": len(usages), **added(usages)} for model, usages in by_model.items()}


def cost_of(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def named_model(criterion: JSONObject, models: Models | None) -> tuple[str, Models]:
    """Return the name of the judge's model and the model map. Raises `Unavailable`."""
    kind, name = criterion.get("type"), str(criterion.get("model"))
    if models is None:
        raise Unavailable(f"a {kind} grader needs a model, but there is no model map", code="model_unavailable")
    if not models.resolves(name):
        raise Unavailable(
            f"no endpoint is configured for the model {name}; configured: {', '.join(models.names())}",
            code="model_unavailable",
        )
    return name, models


async def ask(
    criterion: JSONObject,
    namespaces: Mapping[str, object],
    models: Models | None,
    result: JSONObject,
    read: Callable[[Completion], Judgement | None],
) -> tuple[Grade, Judgement | None]:
    """Call a judge. Returns a grade without a score, and the judgement, or `None` if the response is invalid."""
    name, models = named_model(criterion, models)
    messages = render_messages(criterion.get("input"), namespaces)
    params = as_object(criterion.get("sampling_params")) or {}
    try:
        asked: Structured[Judgement] = await structured_chat(
            models, name, messages, name="grade", schema=schema_of(result), read=read, params=params
        )
    except (RequestError, InvalidArgument) as error:
        raise Unavailable(str(error), code="model_grader_server_error") from error
    grade = Grade(
        sample=sample_object(messages, asked.completion, params),
        steps=asked.value.steps if asked.value else (),
        usage=usage_by_model(asked.completions),
        cost=cost_of([completion.cost for completion in asked.completions]),
        billed_retries=sum(completion.billed_retries for completion in asked.completions),
        notes=asked.notes,
    )
    return grade, asked.value


def unreadable(grade: Grade, expected: str) -> Grade:
    """Return a grade with the score 0 for an invalid response. The cause says what was expected."""
    sample = grade.sample or {}
    refusal = as_object(sample.get("error"))
    if refusal is not None:
        code, message = "model_grader_refusal_error", f"the judge refused: {refusal['message']}"
    else:
        code, message = "model_grader_parse_error", f"the judge's response has no valid result: expected {expected}"
        if sample.get("finish_reason") == "length":
            message += "; the token limit cut it off"
    return attrs.evolve(grade, score=0.0, passed=False, cause={"code": code, "message": message})


def score_range(criterion: JSONObject) -> tuple[float, float]:
    """Return the lowest and the highest score. The default is [0, 1]."""
    bounds = [number for number in as_array(criterion.get("range")) or () if isinstance(number, int | float)]
    return (min(bounds), max(bounds)) if len(bounds) == 2 else (0.0, 1.0)


async def score_model(criterion: JSONObject, namespaces: Mapping[str, object], models: Models | None) -> Grade:
    """Return the grade from a judge's score, clamped to the range. The default `pass_threshold` is the middle of
    the range. Raises `TemplateError` and `Unavailable`.
    """
    low, high = score_range(criterion)
    result = {"type": "number", "description": f"the score, from {low:g} to {high:g}"}
    grade, judgement = await ask(criterion, namespaces, models, result, reader(number_in))
    if judgement is None:
        return unreadable(grade, "a number")
    score = min(max(float(judgement.result), low), high)
    return attrs.evolve(grade, score=score, passed=passes(criterion, score, (low + high) / 2))


async def label_model(criterion: JSONObject, namespaces: Mapping[str, object], models: Models | None) -> Grade:
    """Return the grade from a judge's label: 1 for a passing label, otherwise 0. Raises `TemplateError` and
    `Unavailable`.
    """
    labels = [str(label) for label in as_array(criterion.get("labels")) or ()]
    passing = [str(label) for label in as_array(criterion.get("passing_labels")) or ()]
    result = {"type": "string", "enum": labels}
    grade, judgement = await ask(criterion, namespaces, models, result, reader(label_in(labels)))
    if judgement is None:
        return unreadable(grade, f"one of {', '.join(labels)}")
    passed = judgement.result in passing
    return attrs.evolve(grade, label=str(judgement.result), score=1.0 if passed else 0.0, passed=passed)


async def cosine_similarity(criterion: JSONObject, namespaces: Mapping[str, object], models: Models | None) -> Grade:
    """Return the grade from the cosine of the embeddings of input and reference. Raises `TemplateError` and
    `Unavailable`.
    """
    texts = texts_of(criterion, namespaces)
    if not all(texts):  # endpoints refuse empty texts
        score = 1.0 if texts[0] == texts[1] else 0.0
        return Grade(score=score, passed=passes(criterion, score))
    asked = {**criterion, "model": criterion.get("model") or EMBEDDING_MODEL, "type": "cosine text_similarity"}
    name, models = named_model(asked, models)
    try:
        found = await models.embed(name, texts)
    except (RequestError, InvalidArgument) as error:
        raise Unavailable(str(error), code="model_grader_server_error") from error
    score = cosine(*found.vectors)
    return Grade(
        score=score,
        passed=passes(criterion, score),
        usage={found.model: {"invocation_count": 1, **found.usage}},
        cost=found.cost,
        billed_retries=found.billed_retries,
    )

"""What a grader says about a row: string checks and text similarity, over templates.

Pure functions. Graders that need a model, and Python graders, raise `Unavailable` with the reason: this server has no
models, and runs no code that came with a request.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs

from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse
from evals_async.grading.similarity import METRICS, Unavailable
from evals_async.grading.templates import render


STRING_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}

WHY_NOT: Mapping[str, str] = {
    "label_model": "a label_model grader needs a model, and this server has none",
    "score_model": "a score_model grader needs a model, and this server has none",
    "python": "this server runs no Python code of graders",
}


@attrs.frozen
class Grade:
    """A score, and whether it is enough."""

    score: float
    passed: bool


def grade(grader: JSONObject, namespaces: Mapping[str, object]) -> Grade:
    """The grade of one row. Raises `TemplateError` for a placeholder that points nowhere, `Unavailable` for what cannot
    be done here.
    """
    kind = str(grader.get("type"))
    if kind not in ("string_check", "text_similarity"):
        raise Unavailable(WHY_NOT.get(kind, f"this server knows no grader of type {kind}"))
    text = render(str(grader.get("input") or ""), namespaces)
    reference = render(str(grader.get("reference") or ""), namespaces)
    if kind == "string_check":
        passed = STRING_CHECKS[str(grader["operation"])](text, reference)
        return Grade(1.0 if passed else 0.0, passed)
    score = METRICS[str(grader["evaluation_metric"])](text, reference)
    threshold = grader.get("pass_threshold")
    return Grade(score, score >= (threshold if isinstance(threshold, int | float) else 0.0))


def sample_namespace(sample: JSONObject) -> JSONObject:
    """What `{{ sample.… }}` sees: the sample, with `output_text`, `output_tools` and `output_json` derived where they
    are missing.
    """
    found: dict[str, object] = dict(sample)
    message = first_message(sample)
    if "output_text" not in found and isinstance(message.get("content"), str):
        found["output_text"] = message["content"]
    if "output_tools" not in found and message.get("tool_calls") is not None:
        found["output_tools"] = message["tool_calls"]
    text = found.get("output_text")
    if "output_json" not in found and isinstance(text, str):
        # Where the text is no JSON there is no output_json, and a placeholder that asks for it says so.
        with suppress(NotJSON):
            found["output_json"] = parse(text.encode("utf-8", "surrogatepass"))
    return found


def first_message(sample: JSONObject) -> JSONObject:
    choices = as_array(sample.get("choices"))
    choice = as_object(choices[0]) if choices else None
    return (as_object(choice.get("message")) if choice else None) or {}

"""String checks and text similarity: graders that need no model."""

from collections.abc import Callable, Mapping

from evals_async._json import JSONObject
from evals_async.grading.similarity import METRICS, Unavailable
from evals_async.grading.templates import render


STRING_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def texts_of(criterion: JSONObject, namespaces: Mapping[str, object]) -> tuple[str, str]:
    """Return the rendered input and reference of a criterion. Raises `TemplateError`."""
    return render(str(criterion.get("input") or ""), namespaces), render(
        str(criterion.get("reference") or ""), namespaces
    )


def string_check(criterion: JSONObject, namespaces: Mapping[str, object]) -> tuple[float, bool]:
    """Return the score of a string check, and whether it passed. Raises `TemplateError`, and `Unavailable` for an
    unknown operation.
    """
    operation = str(criterion.get("operation"))
    if operation not in STRING_CHECKS:
        raise Unavailable(f"unknown operation {operation}: a string_check has {', '.join(STRING_CHECKS)}")
    passed = STRING_CHECKS[operation](*texts_of(criterion, namespaces))
    return (1.0 if passed else 0.0), passed


def passes(criterion: JSONObject, score: float, default: float = 0.0) -> bool:
    """Whether the score reaches the criterion's `pass_threshold`, or else `default`."""
    threshold = criterion.get("pass_threshold")
    return score >= (threshold if isinstance(threshold, int | float) else default)


def text_similarity(criterion: JSONObject, namespaces: Mapping[str, object]) -> tuple[float, bool]:
    """Return the score of a text similarity grader (except `cosine`), and whether it passed. Raises `TemplateError`
    and `Unavailable`.
    """
    metric = str(criterion.get("evaluation_metric"))
    if metric not in METRICS:
        raise Unavailable(f"unknown metric {metric}: text_similarity has {', '.join(METRICS)}, cosine")
    score = METRICS[metric](*texts_of(criterion, namespaces))
    return score, passes(criterion, score)

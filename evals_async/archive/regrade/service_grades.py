"""Compare the grades of a regrade with the grades of the service, in the archive."""

from collections import Counter

from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async._store import Connection
from evals_async.archive.regrade.agreement import Agreement, closest_variants, score_agreement
from evals_async.archive.regrade.batches import RowToGrade, name_of
from evals_async.archive.regrade.tasks import GradingTask, row_of
from evals_async.grading import TemplateError
from evals_async.grading.graders import texts_of


MOST_COMPARED = 2000  # rows on which the variants of a similarity metric are computed


def theirs_of(body: str, criterion: JSONObject) -> tuple[bool | None, float | None, JSONObject]:
    """Return the service's verdict and score of a criterion for an item, and the item."""
    fields = as_object(parse(body.encode())) or {}
    results = [found for result in as_array(fields.get("results")) or () if (found := as_object(result)) is not None]
    names = (name_of(criterion), criterion.get("name"))
    result = next((each for name in names for each in results if each.get("name") == name), None)
    if result is None:
        return None, None, fields
    sample = as_object(result.get("sample")) or {}
    failed = bool(sample.get("error")) or result.get("status") in ("error", "skipped")
    passed, score = result.get("passed"), result.get("score")
    return (
        None if failed or not isinstance(passed, bool) else passed,
        None if failed or not isinstance(score, int | float) else float(score),
        fields,
    )


def verdict_of(passed: bool | None) -> str:
    return "none" if passed is None else "pass" if passed else "fail"


def agreement_of(connection: Connection, work: GradingTask) -> Agreement:
    """Return how often our grades of one criterion agree with those of the service."""
    sql = (
        "SELECT i.run_id, i.id, i.body, r.score, r.passed, r.error FROM regrades r JOIN output_items i "
        "ON i.eval_id = r.eval_id AND i.run_id = r.run_id AND i.id = r.item_id "
        "WHERE r.eval_id = ? AND r.criterion = ? AND r.definition = ? ORDER BY i.created_at, i.run_id, i.id"
    )
    confusion: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    scores: list[tuple[float, float]] = []
    texts: list[tuple[str, str, float]] = []
    for run_id, item_id, body, score, passed, error in connection.execute(sql, (work.eval_id, work.name, work.digest)):
        their_verdict, their_score, _ = theirs_of(body, work.criterion)
        confusion[verdict_of(their_verdict), verdict_of(None if passed is None else bool(passed))] += 1
        if error is not None:
            reasons[error] += 1
        if score is not None and their_score is not None:
            scores.append((their_score, score))
        if work.criterion.get("type") == "text_similarity" and their_score is not None and len(texts) < MOST_COMPARED:
            texts += texts_to_compare(row_of(work.eval_id, run_id, item_id, body), work.criterion, their_score)
    return Agreement(
        eval_id=work.eval_id,
        criterion=work.name,
        name=str(work.criterion.get("name") or work.name),
        type=str(work.criterion.get("type")),
        confusion=confusion,
        scores=score_agreement(scores),
        reasons=reasons,
        variants=closest_variants(str(work.criterion.get("evaluation_metric")), texts),
    )


def texts_to_compare(row: RowToGrade | None, criterion: JSONObject, score: float) -> list[tuple[str, str, float]]:
    """Return the two texts of a similarity grader and the service's score; empty if a template cannot be filled."""
    try:
        return [] if row is None else [(*texts_of(criterion, row.namespaces()), score)]
    except TemplateError:
        return []

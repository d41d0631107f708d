"""`comparison_json`: a comparison as JSON, for programs. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence

from evals_async.comparison.alignment import Alignment, Pair
from evals_async.comparison.comparing import CriterionComparison, Rate, RunComparison, ScoreDifference
from evals_async.comparison.cost import TokenPrice, cost_of
from evals_async.comparison.outcomes import RowOutcome, RunOutcomes, TokenCount
from evals_async.comparison.statistics import Interval, MeanDifference


JSON = dict[str, object]


def comparison_json(comparison: RunComparison, prices: Sequence[TokenPrice] = ()) -> JSON:
    """Return a comparison as a JSON object. Rows are given by their item ids, shares are numbers from 0 to 1."""
    return {
        "verdict": comparison.verdict,
        "confidence": comparison.confidence,
        "cluster": comparison.a.cluster,
        "a": side(comparison.a, prices),
        "b": side(comparison.b, prices),
        "alignment": alignment_json(comparison.alignment),
        "overall": criterion_json(comparison.overall),
        "criteria": [criterion_json(criterion) for criterion in comparison.criteria],
        "regressions": pairs_json(comparison.regressions),
        "improvements": pairs_json(comparison.improvements),
    }


def side(outcomes: RunOutcomes, prices: Sequence[TokenPrice]) -> JSON:
    run, tokens = outcomes.run, outcomes.tokens()
    cost = cost_of(tokens, prices)
    return {
        "run_id": None if run is None else run.id,
        "eval_id": None if run is None else run.eval_id,
        "name": None if run is None else run.name,
        "status": None if run is None else run.status,
        "items": len(outcomes),
        "tokens": {model: tokens_json(count) for model, count in tokens.items()},
        "cost": None if cost is None else {"amount": cost.amount, "without_price": list(cost.unpriced)},
    }


def tokens_json(count: TokenCount) -> Mapping[str, int]:
    return {
        "calls": count.calls,
        "prompt": count.prompt,
        "completion": count.completion,
        "cached": count.cached,
        "total": count.total,
    }


def alignment_json(alignment: Alignment) -> JSON:
    return {
        "complete": alignment.complete,
        "pairs": len(alignment.pairs),
        "by_row": alignment.by_row,
        "changed": pairs_json(alignment.changed),
        "ambiguous_a": rows_json(alignment.ambiguous_a),
        "ambiguous_b": rows_json(alignment.ambiguous_b),
        "only_a": rows_json(alignment.only_a),
        "only_b": rows_json(alignment.only_b),
        "repeated": alignment.repeated,
        "criteria_only_a": [name.plain for name in alignment.criteria_only_a],
        "criteria_only_b": [name.plain for name in alignment.criteria_only_b],
    }


def rows_json(rows: Iterable[RowOutcome]) -> list[JSON]:
    return [{"item_id": row.item_id, "datasource_item_id": row.source_id} for row in rows]


def pairs_json(pairs: Iterable[Pair]) -> list[JSON]:
    return [
        {"datasource_item_id": pair.a.source_id, "item_id_a": pair.a.item_id, "item_id_b": pair.b.item_id}
        for pair in pairs
    ]


def criterion_json(criterion: CriterionComparison) -> JSON:
    return {
        "name": criterion.name,
        "verdict": criterion.verdict,
        "a": rate_json(criterion.a),
        "b": rate_json(criterion.b),
        "errors_a": criterion.errors_a,
        "errors_b": criterion.errors_b,
        "regressed": criterion.regressed,
        "improved": criterion.improved,
        "mcnemar_p": criterion.mcnemar_p,
        "difference": difference_json(criterion.difference),
        "p": criterion.p,
        "p_holm": criterion.p_holm,
        "rows_needed": criterion.rows_needed,
        "score": score_json(criterion.score),
    }


def rate_json(rate: Rate) -> JSON:
    return {
        "passed": rate.passed,
        "total": rate.total,
        "rate": rate.value,
        "interval": interval_json(rate.interval),
    }


def score_json(score: ScoreDifference | None) -> JSON | None:
    if score is None:
        return None
    return {
        "mean_a": score.mean_a,
        "mean_b": score.mean_b,
        "difference": difference_json(score.difference),
        "p_holm": score.p_holm,
        "rows_needed": score.rows_needed,
    }


def difference_json(found: MeanDifference | None) -> JSON | None:
    if found is None:
        return None
    return {
        "rows": found.number,
        "clusters": found.clusters,
        "mean": found.mean,
        "standard_error": found.error,
        "interval": interval_json(found.interval),
        "p": found.p,
    }


def interval_json(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]

"""Compare runs: align their rows, find changed verdicts, and test whether the difference is more than chance.

Start with `evals_async.compare(a, b)`. Everything here is a pure function and sends no request.
"""

from evals_async.comparison.alignment import Alignment, Pair
from evals_async.comparison.comparing import (
    CriterionComparison,
    Rate,
    RunComparison,
    ScoreDifference,
    Verdict,
    compare,
)
from evals_async.comparison.cost import Cost, TokenPrice, cost_of
from evals_async.comparison.outcomes import CriterionName, CriterionOutcome, RowOutcome, RunOutcomes, TokenCount
from evals_async.comparison.statistics import Interval, MeanDifference, wilson
from evals_async.comparison.to_json import comparison_json


__all__ = [
    "Alignment",
    "Cost",
    "CriterionComparison",
    "CriterionName",
    "CriterionOutcome",
    "Interval",
    "MeanDifference",
    "Pair",
    "Rate",
    "RowOutcome",
    "RunComparison",
    "RunOutcomes",
    "ScoreDifference",
    "TokenCount",
    "TokenPrice",
    "Verdict",
    "compare",
    "comparison_json",
    "cost_of",
    "wilson",
]

"""Comparing runs: which rows are the same, what flipped, and whether the difference is more than chance.

`evals_async.compare(a, b)` is the way in. Pure functions on the standard library: nothing here asks a server.
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
from evals_async.comparison.forms import comparison_json
from evals_async.comparison.outcomes import CriterionName, CriterionOutcome, RowOutcome, RunOutcomes, TokenCount
from evals_async.comparison.statistics import Interval, MeanDifference, wilson


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

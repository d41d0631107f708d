"""`compare`: compare two runs row by row, and test whether the difference is more than chance."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeAlias, TypeVar

import attrs

from evals_async.comparison.alignment import Alignment, Pair, align
from evals_async.comparison.outcomes import CriterionName, CriterionOutcome, RunOutcomes, TokenCount
from evals_async.comparison.statistics import (
    Interval,
    MeanDifference,
    flips_needed,
    holm,
    mcnemar,
    mean_difference,
    rate_difference,
    rows_needed,
    wilson,
)
from evals_async.errors import InvalidArgument
from evals_async.models import OutputItem


Number = TypeVar("Number", int, float)
Verdict: TypeAlias = Literal["worse", "better", "no difference seen", "not comparable"]
WORST_FIRST: tuple[Verdict, ...] = ("worse", "better", "no difference seen")


@attrs.frozen
class Rate:
    """The pass rate of one run, over the rows that have a verdict in both runs."""

    passed: int
    total: int
    interval: Interval

    @property
    def value(self) -> float | None:
        """The pass rate from 0 to 1, or `None` without rows."""
        return self.passed / self.total if self.total else None


@attrs.frozen(kw_only=True)
class ScoreDifference:
    """Scores of `b` minus scores of `a`, over the rows that have both."""

    mean_a: float
    mean_b: float
    difference: MeanDifference
    p_holm: float | None
    rows_needed: int | None


@attrs.frozen(kw_only=True)
class CriterionComparison:
    """One criterion in both runs; without a `name`, whole rows.

    - `a`, `b`: the pass rates over the rows that have a verdict in both runs.
    - `errors_a`, `errors_b`: the number of aligned rows without a verdict.
    - `regressed`, `improved`: rows that pass in `a` and fail in `b`, and the reverse.
    - `difference`: the difference of the pass rates, paired by row, with Tango's score interval.
    - `mcnemar_p`: the p-value of the exact McNemar test on the flips. It assumes independent rows.
    - `p`: the p-value for the verdict: McNemar's, or with clusters the one of the clustered `difference`.
    - `p_holm`: `p` after Holm's correction over all criteria and their scores.
    - `score`: the difference of the scores, or `None` if there are none or they only repeat the verdicts.
    """

    name: str | None
    a: Rate
    b: Rate
    errors_a: int
    errors_b: int
    regressed: int
    improved: int
    difference: MeanDifference | None
    mcnemar_p: float
    p: float | None
    p_holm: float | None
    rows_needed: int | None
    score: ScoreDifference | None
    score_decides: bool
    alpha: float

    @property
    def verdict(self) -> Verdict:
        """Whether `b` is significantly worse or better, by its verdicts, or else by its scores.

        The score of a Foundry evaluator is not used: it may be a severity, where a lower score is better.
        """
        if self.difference is None:
            return "not comparable"
        found = verdict_of(self.difference.mean, self.p_holm, self.alpha)
        if found == "no difference seen" and self.score is not None and self.score_decides:
            return verdict_of(self.score.difference.mean, self.score.p_holm, self.alpha)
        return found


def verdict_of(difference: float, p: float | None, alpha: float) -> Verdict:
    if p is None or p >= alpha or not difference:
        return "no difference seen"
    return "worse" if difference < 0 else "better"


@attrs.define(kw_only=True, slots=False)
class RunComparison:
    """The result of comparing run `b` with the earlier run `a`.

    Check `alignment` first: all numbers are over its pairs. `overall` is about whole rows; a row passes if all its
    criteria pass. `criteria` contains each criterion that both runs have.
    """

    a: RunOutcomes
    b: RunOutcomes
    alignment: Alignment
    overall: CriterionComparison
    criteria: tuple[CriterionComparison, ...]
    confidence: float

    @cached_property
    def regressions(self) -> tuple[Pair, ...]:
        """The rows that pass in `a` and fail in `b`, in the order of the data source."""
        return tuple(pair for pair in self.alignment.pairs if pair.a.passed is True and pair.b.passed is False)

    @cached_property
    def improvements(self) -> tuple[Pair, ...]:
        """The rows that fail in `a` and pass in `b`, in the order of the data source."""
        return tuple(pair for pair in self.alignment.pairs if pair.a.passed is False and pair.b.passed is True)

    @property
    def verdict(self) -> Verdict:
        """`worse` if whole rows or one criterion are worse; otherwise `better` if one of them is better."""
        if not self.alignment.pairs:
            return "not comparable"
        found = {self.overall.verdict, *(criterion.verdict for criterion in self.criteria)}
        for verdict in WORST_FIRST:
            if verdict in found:
                return verdict
        return "not comparable"

    def tokens(self) -> tuple[Mapping[str, TokenCount], Mapping[str, TokenCount]]:
        """Return the calls and tokens by model of `a` and of `b`, for the whole runs and not only the pairs."""
        return self.a.tokens(), self.b.tokens()


def compare(
    a: RunOutcomes | Iterable[OutputItem],
    b: RunOutcomes | Iterable[OutputItem],
    *,
    cluster: str | None = None,
    confidence: float = 0.95,
) -> RunComparison:
    """Compare run `b` with run `a`. Pass their output items or `RunOutcomes`. Sends no request.

    Rows are aligned by their position in the data source and their content. `cluster` is the path of a field of the
    item, such as `item.topic`. Rows with the same value may depend on each other, so standard errors are clustered.
    `confidence` is between 0 and 1. Raises `InvalidArgument` for a wrong `cluster` or `confidence`.
    """
    if not 0 < confidence < 1:
        raise InvalidArgument(f"confidence must be between 0 and 1, got {confidence}")
    left, right = outcomes_of(a, cluster), outcomes_of(b, cluster)
    alignment = align(left, right)
    builder = ComparisonBuilder(alignment.pairs, cluster is not None, confidence)
    criteria = [builder.criterion(left, right, *names) for names in alignment.criteria]
    # All tests form one family. A criterion with verdicts and scores has two tests.
    score_tests = [None if each.score is None else each.score.difference.p for each in criteria]
    corrected = holm([*(each.p for each in criteria), *score_tests])
    by_verdict, by_score = corrected[: len(criteria)], corrected[len(criteria) :]
    return RunComparison(
        a=left,
        b=right,
        alignment=alignment,
        overall=builder.overall(),
        criteria=tuple(
            attrs.evolve(criterion, p_holm=p, score=criterion.score and attrs.evolve(criterion.score, p_holm=score_p))
            for criterion, p, score_p in zip(criteria, by_verdict, by_score, strict=True)
        ),
        confidence=confidence,
    )


def outcomes_of(run: RunOutcomes | Iterable[OutputItem], cluster: str | None) -> RunOutcomes:
    if not isinstance(run, RunOutcomes):
        return RunOutcomes.of(run, cluster=cluster)
    if run.cluster != cluster:
        raise InvalidArgument(f"the RunOutcomes have cluster={run.cluster!r}, but compare() got cluster={cluster!r}")
    return run


@attrs.frozen
class ComparisonBuilder:
    """Builds the comparison of one criterion, or of whole rows, from the pairs."""

    pairs: Sequence[Pair]
    clustered: bool
    confidence: float

    def overall(self) -> CriterionComparison:
        verdicts = [(pair.a.passed, pair.b.passed) for pair in self.pairs]
        found = self.build(None, verdicts, None, score_decides=False)
        return attrs.evolve(found, p_holm=found.p)

    def criterion(
        self, left: RunOutcomes, right: RunOutcomes, name_a: CriterionName, name_b: CriterionName
    ) -> CriterionComparison:
        index_a, index_b = left.criteria[name_a], right.criteria[name_b]
        outcomes = [
            (pair.a.results.get(index_a, NO_OUTCOME), pair.b.results.get(index_b, NO_OUTCOME)) for pair in self.pairs
        ]
        # The score of a string check only repeats the verdict, so a second test would be wrong.
        scored = any(not outcome.score_is_verdict for pair in outcomes for outcome in pair)
        return self.build(
            name_a.plain,
            [(a.passed, b.passed) for a, b in outcomes],
            self.scores([(a.score, b.score) for a, b in outcomes]) if scored else None,
            score_decides=name_a not in left.unoriented and name_b not in right.unoriented,
        )

    def build(
        self,
        name: str | None,
        verdicts: Sequence[tuple[bool | None, bool | None]],
        score: ScoreDifference | None,
        *,
        score_decides: bool,
    ) -> CriterionComparison:
        both = [(a, b) for a, b in verdicts if a is not None and b is not None]
        regressed, improved = both.count((True, False)), both.count((False, True))
        difference = self.difference([None if a is None or b is None else b - a for a, b in verdicts], rate_difference)
        exact = mcnemar(regressed, improved)
        p = exact if not self.clustered or difference is None else difference.p
        return CriterionComparison(
            name=name,
            a=self.rate(sum(a for a, _ in both), len(both)),
            b=self.rate(sum(b for _, b in both), len(both)),
            errors_a=sum(a is None for a, _ in verdicts),
            errors_b=sum(b is None for _, b in verdicts),
            regressed=regressed,
            improved=improved,
            difference=difference,
            mcnemar_p=exact,
            p=p if both else None,
            p_holm=None,
            rows_needed=None if difference is None else self.rows_needed(difference, regressed + improved),
            score=score,
            score_decides=score_decides,
            alpha=1 - self.confidence,
        )

    def scores(self, scores: Sequence[tuple[float | None, float | None]]) -> ScoreDifference | None:
        both = [(a, b) for a, b in scores if a is not None and b is not None]
        difference = self.difference([None if a is None or b is None else b - a for a, b in scores], mean_difference)
        if difference is None:
            return None
        return ScoreDifference(
            mean_a=sum(a for a, _ in both) / len(both),
            mean_b=sum(b for _, b in both) / len(both),
            difference=difference,
            p_holm=None,
            rows_needed=rows_needed(difference, self.confidence),
        )

    def rows_needed(self, difference: MeanDifference, flips: int) -> int | None:
        """Return the rows for a difference of rates; without clusters, enough for the flips of the exact test."""
        needed = rows_needed(difference, self.confidence)
        if needed is None or self.clustered:
            return needed
        return max(needed, math.ceil(flips_needed(self.confidence) * difference.number / flips))

    def difference(
        self,
        differences: Sequence[Number | None],
        build: Callable[[Sequence[Number], Sequence[object] | None, float], MeanDifference],
    ) -> MeanDifference | None:
        kept = [(each, pair.a.cluster) for each, pair in zip(differences, self.pairs, strict=True) if each is not None]
        if not kept:
            return None
        clusters = [cluster for _, cluster in kept] if self.clustered else None
        return build([each for each, _ in kept], clusters, self.confidence)

    def rate(self, passed: int, total: int) -> Rate:
        return Rate(passed, total, wilson(passed, total, self.confidence))


NO_OUTCOME = CriterionOutcome(None, None)
"""The outcome of a criterion for a row without a result."""

FAIL_ON: Mapping[str, Callable[[RunComparison], bool]] = {
    "regression": lambda comparison: comparison.verdict == "worse",
    "flip": lambda comparison: bool(comparison.regressions),
}
"""The conditions for a failed check: a significant regression, or any row that passed before and fails now."""

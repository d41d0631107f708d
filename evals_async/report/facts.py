"""`RunFacts`: the numbers of a run for a report, collected item by item."""

from array import array
from collections import Counter
from collections.abc import Sequence

import attrs

from evals_async.comparison import CriterionName, Interval, TokenCount, wilson
from evals_async.comparison.outcomes import TokenSums, tokens_of_run
from evals_async.models import EvalRun, OutputItem
from evals_async.report.items import Verdict, is_degraded, item_verdict, result_verdict
from evals_async.report.texts import number_of


BINS = 20


@attrs.frozen
class Bin:
    """One bar of a histogram: the number of scores from `low` to `high`."""

    low: float
    high: float
    count: int


@attrs.define
class CriterionFacts:
    """The verdicts and scores of one criterion over all rows."""

    name: str
    kind: str | None = None
    verdicts: Counter[Verdict] = attrs.Factory(Counter[Verdict])
    scores: "array[float]" = attrs.Factory(lambda: array("d"))
    #: Whether a score differs from its verdict (0 or 1).
    scored: bool = False

    @property
    def rate(self) -> float | None:
        """The share of passes among passes and failures, from 0 to 1; errors are neither. `None` without rows."""
        return rate_of(self.verdicts)

    @property
    def interval(self) -> Interval:
        """The 95 % Wilson interval of the rate."""
        return interval_of(self.verdicts)

    @property
    def mean(self) -> float | None:
        """The mean score, or `None` without scores."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    def bins(self) -> list[Bin]:
        """Return a histogram of the scores: over [0, 1] if all scores are in it, otherwise over their range."""
        if not self.scores:
            return []
        low, high = min(self.scores), max(self.scores)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        width = high / BINS - low / BINS or 1.0  # the difference itself may be too large for a float
        counts = Counter(min(BINS - 1, int((score - low) / width)) for score in self.scores)
        return [Bin(low + width * index, low + width * (index + 1), counts[index]) for index in range(BINS)]


def rate_of(verdicts: Counter[Verdict]) -> float | None:
    graded = verdicts["pass"] + verdicts["fail"]
    return verdicts["pass"] / graded if graded else None


def interval_of(verdicts: Counter[Verdict]) -> Interval:
    return wilson(verdicts["pass"], verdicts["pass"] + verdicts["fail"])


class RunFacts:
    """The numbers of a run's items: `facts = RunFacts(run)`, then `facts.add(item)` for each item.

    Only the score of an item is kept, in eight bytes. `expected` is the number of items that the run should have.
    """

    def __init__(self, run: EvalRun, expected: int | None = None) -> None:
        self.run = run
        self.expected = expected
        self.items = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.statuses: set[str] = set()
        self.criteria: dict[CriterionName, CriterionFacts] = {}
        self.degraded: Counter[str] = Counter()
        self._tokens = TokenSums()
        self._by_place: dict[tuple[str, str, int], CriterionFacts] = {}

    def add(self, item: OutputItem) -> None:
        """Add one item."""
        self.items += 1
        self.verdicts[item_verdict(item)] += 1
        self.statuses.add(item.status or "")
        self._tokens.add(item.sample)
        counts: dict[tuple[str, str], int] = {}
        for result in item.results or ():
            key = (result.name or result.type or "?", result.metric or "")
            number = counts[key] = counts.get(key, 0) + 1
            # A tuple is found in a fraction of the time that an object of attrs takes, and this is for every result.
            facts = self._by_place.get((*key, number))
            if facts is None:
                name = CriterionName(*key, number)
                facts = self._by_place[(*key, number)] = CriterionFacts(name.plain, result.type)
                self.criteria[name] = facts
            verdict = result_verdict(result)
            facts.verdicts[verdict] += 1
            score = number_of(result.score)
            if score is not None and verdict in ("pass", "fail"):
                facts.scores.append(score)
                facts.scored = facts.scored or score != result.passed
            if result.sample is not None:
                self._tokens.add(result.sample)
                if is_degraded(result):
                    self.degraded[result.sample.model or "?"] += 1

    @property
    def rate(self) -> float | None:
        """The share of passes among passes and failures, from 0 to 1; errors are neither. `None` without rows."""
        return rate_of(self.verdicts)

    @property
    def interval(self) -> Interval:
        """The 95 % Wilson interval of the rate."""
        return interval_of(self.verdicts)

    def tokens(self) -> Sequence[tuple[str, TokenCount]]:
        """Return the calls and tokens by model: from the run, or if it has none, from the samples of its items."""
        return sorted((tokens_of_run(self.run) or self._tokens.by_model).items())

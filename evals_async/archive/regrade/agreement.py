"""How often two graders agree: the service's and ours. Pure functions of verdicts and scores."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from evals_async.comparison import Interval, wilson
from evals_async.grading.similarity import METRICS, Unavailable, library


SAME_SCORE = 1e-6
CLOSE_SCORE = 0.01


@attrs.frozen(kw_only=True)
class ScoreAgreement:
    """The differences between our scores and the service's.

    `same` scores differ by at most 1e-6, `close` scores by at most 0.01. `mean` is the mean of ours minus the
    service's, `mean_absolute` the mean and `largest` the maximum of the absolute differences.
    """

    rows: int
    same: int
    close: int
    mean: float
    mean_absolute: float
    largest: float


@attrs.frozen(kw_only=True)
class SimilarityVariant:
    """A variant of a similarity metric, and how close its scores are to the service's.

    `same` counts equal scores, `mean_absolute` is the mean absolute difference.
    """

    name: str
    rows: int
    same: int
    mean_absolute: float


@attrs.frozen(kw_only=True)
class Agreement:
    """How often our grades of one criterion agree with the service's.

    `confusion` counts rows by (service's verdict, our verdict): `pass`, `fail`, or `none` without a verdict. `reasons`
    counts the errors of rows without a verdict from us. `variants` of a similarity metric are sorted, closest first.
    """

    eval_id: str
    criterion: str
    name: str
    type: str
    confusion: Mapping[tuple[str, str], int]
    scores: ScoreAgreement | None
    reasons: Mapping[str, int]
    variants: Sequence[SimilarityVariant] = ()

    @property
    def rows(self) -> int:
        """Rows with a verdict from both."""
        return sum(number for pair, number in self.confusion.items() if "none" not in pair)

    @property
    def agreed(self) -> int:
        """Rows with the same verdict from both."""
        return self.confusion.get(("pass", "pass"), 0) + self.confusion.get(("fail", "fail"), 0)

    @property
    def rate(self) -> float | None:
        """The share of rows with the same verdict, from 0 to 1, or `None` without rows."""
        return self.agreed / self.rows if self.rows else None

    @property
    def interval(self) -> Interval:
        """Wilson's interval of the rate, with 95 % confidence."""
        return wilson(self.agreed, self.rows)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, the agreement beyond chance; `None` if both always return the same verdict."""
        return kappa([[self.confusion.get((a, b), 0) for b in ("pass", "fail")] for a in ("pass", "fail")])


def kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Return Cohen's kappa of a square table, or `None` if the expected agreement is 1 or there are no rows."""
    total = sum(map(sum, table))
    if not total:
        return None
    rows = [sum(row) for row in table]
    columns = [sum(column) for column in zip(*table, strict=True)]
    observed = sum(table[index][index] for index in range(len(table))) / total
    expected = sum(row * column for row, column in zip(rows, columns, strict=True)) / total**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def score_agreement(pairs: Sequence[tuple[float, float]]) -> ScoreAgreement | None:
    """Compare scores, given as pairs (the service's, ours)."""
    if not pairs:
        return None
    differences = [ours - theirs for theirs, ours in pairs]
    sizes = list(map(abs, differences))
    return ScoreAgreement(
        rows=len(pairs),
        same=sum(size <= SAME_SCORE for size in sizes),
        close=sum(size <= CLOSE_SCORE for size in sizes),
        mean=math.fsum(differences) / len(pairs),
        mean_absolute=math.fsum(sizes) / len(pairs),
        largest=max(sizes),
    )


# --- variants of similarity -------------------------------------------------------------------------------------------

Metric = Callable[[str, str], float]


def variants_of(metric: str) -> Mapping[str, Metric]:
    """Return the variants of a metric that a service may use, ours first. Empty for a metric that needs a model."""
    ours: dict[str, Metric] = {"ours": METRICS[metric]} if metric in METRICS else {}
    if metric == "fuzzy_match":
        return ours | fuzzy_variants()
    if metric == "bleu":
        return ours | bleu_variants()
    if metric == "gleu":
        return ours | {"lower case": lower_gleu}
    if metric.startswith("rouge_"):
        return ours | rouge_variants("rougeL" if metric == "rouge_l" else f"rouge{metric[6:]}")
    return ours


def fuzzy_variants() -> dict[str, Metric]:
    names = ("ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio", "QRatio")
    plain: dict[str, Metric] = {name: partial(fuzzy, name, False) for name in names}
    return plain | {f"{name}, processed": partial(fuzzy, name, True) for name in names}


def fuzzy(name: str, processed: bool, text: str, reference: str) -> float:
    fuzz: Any = library("rapidfuzz.fuzz", "rapidfuzz")
    utils: Any = library("rapidfuzz.utils", "rapidfuzz")
    return float(getattr(fuzz, name)(text, reference, processor=utils.default_process if processed else None)) / 100


def bleu_variants() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for method in (0, 1, 2, 3, 4, 5, 7):
        for order in (4, 2, 1):
            found[f"up to {order}-grams, smoothing {method}"] = partial(bleu, method, order, False)
            found[f"up to {order}-grams, smoothing {method}, lower case"] = partial(bleu, method, order, True)
    return found


def bleu(method: int, order: int, lower: bool, text: str, reference: str) -> float:
    nltk: Any = library("nltk.translate.bleu_score", "nltk")
    words, wanted = (text.lower(), reference.lower()) if lower else (text, reference)
    if not words.split() or not wanted.split():
        return 1.0 if words.split() == wanted.split() else 0.0
    smoothing = getattr(nltk.SmoothingFunction(), f"method{method}") if method else unsmoothed
    weights = (1 / order,) * order
    score = nltk.sentence_bleu([wanted.split()], words.split(), weights=weights, smoothing_function=smoothing)
    return float(score)


def lower_gleu(text: str, reference: str) -> float:
    return METRICS["gleu"](text.lower(), reference.lower())


def unsmoothed(precisions: Sequence[Any], *_: object, **__: object) -> list[Any]:
    """The smoothing method 0 of nltk, without its warning for every row."""
    return [precision if precision.numerator else sys.float_info.min for precision in precisions]


def rouge_variants(name: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for part in ("fmeasure", "recall", "precision"):
        for stemmed in (False, True):
            found[part + (", stemmed" if stemmed else "")] = partial(rouge, name, part, stemmed)
    return found


def rouge(name: str, part: str, stemmed: bool, text: str, reference: str) -> float:
    scorer: Any = library("rouge_score.rouge_scorer", "rouge-score")
    found = scorer.RougeScorer([name], use_stemmer=stemmed).score(reference, text)[name]
    return float(getattr(found, part))


def closest_variants(metric: str, rows: Sequence[tuple[str, str, float]]) -> list[SimilarityVariant]:
    """Return the variants of a metric, closest to the service's scores first.

    `rows` are (text, reference, the service's score). A variant that cannot be computed for all texts is left out.
    """
    found: list[SimilarityVariant] = []
    for name, compute in variants_of(metric).items() if rows else ():
        try:
            distances = [abs(compute(text, reference) - score) for text, reference, score in rows]
        except (Unavailable, ArithmeticError, ValueError, LookupError, TypeError):
            continue
        same = sum(distance <= SAME_SCORE for distance in distances)
        mean = math.fsum(distances) / len(distances)
        found.append(SimilarityVariant(name=name, rows=len(rows), same=same, mean_absolute=mean))
    return sorted(found, key=lambda variant: variant.mean_absolute)

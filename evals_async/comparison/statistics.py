"""The statistics of a comparison, with the standard library only. Pure functions of numbers.

tests/comparison compares them with scipy and statsmodels.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import attrs


NORMAL = NormalDist()
POWER = 0.8
"""The probability that `rows_needed` rows show a difference of the given size."""

FEW = 1000  # up to this number of flips, `mcnemar` uses exact integers
STEPS = 500  # terms of the continued fraction; it needs about the square root of its largest argument
TINY = 1e-300


@attrs.frozen
class Interval:
    """A confidence interval."""

    low: float
    high: float


def wilson(count: int, total: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of the rate `count / total`, or [0, 1] if `total` is 0."""
    if not total:
        return Interval(0.0, 1.0)
    z = NORMAL.inv_cdf((1 + confidence) / 2)
    rate, spread = count / total, z * z / total
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    # Rounding must not move the ends away from exactly 0 and 1.
    return Interval(0.0 if count == 0 else max(0.0, middle - half), 1.0 if count == total else min(1.0, middle + half))


def paired_rates(improved: float, regressed: float, rows: float, z: float) -> Interval:
    """Return Tango's score interval of a difference of two rates over the same `rows`, which must be above 0.

    `improved` rows fail in A and pass in B, `regressed` rows the reverse. `z` is the quantile of the confidence. The
    ends are the differences that a score test just does not reject, so they are between -1 and 1.
    """
    found = (improved - regressed) / rows

    def rejected(difference: float) -> bool:
        """Whether the score test rejects this difference. The rate of `regressed` is its most likely one."""
        linear = (2 * rows - improved + regressed) * difference - improved - regressed
        constant = -regressed * difference * (1 - difference)
        rate = (math.sqrt(max(0.0, linear * linear - 8 * rows * constant)) - linear) / (4 * rows)
        variance = max(0.0, 2 * rate + difference * (1 - difference)) / rows
        return (difference - found) ** 2 > z * z * variance

    def end(limit: float) -> float:
        """The last difference between `found` and `limit` that is not rejected, by halving."""
        inside, outside = found, limit
        while True:
            middle = (inside + outside) / 2
            if middle in (inside, outside):
                return outside
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)

    return Interval(end(-1.0), end(1.0))


def mcnemar(regressed: int, improved: int) -> float:
    """Return the two-sided p-value of the exact McNemar test that flips in both directions are equally likely."""
    flips, fewer = regressed + improved, min(regressed, improved)
    if flips <= FEW:
        likely: float = 2 * sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips
        return min(1.0, likely)
    # Each term is the previous one times k / (flips - k + 1), from the largest term down.
    term = total = 1.0
    for k in range(fewer, 0, -1):
        term *= k / (flips - k + 1)
        total += term
        if term < total * 1e-17:
            break
    logarithm = math.lgamma(flips + 1) - math.lgamma(fewer + 1) - math.lgamma(flips - fewer + 1) - flips * math.log(2)
    return min(1.0, 2 * total * math.exp(logarithm))


@attrs.frozen
class MeanDifference:
    """The mean of paired differences, its standard error and interval, and the p-value of "no difference".

    With one cluster or one difference, the error cannot be estimated: `error` and `p` are `None`, and so is `interval`
    for scores and for clusters.
    """

    number: int
    clusters: int
    mean: float
    error: float | None
    interval: Interval | None
    p: float | None


def mean_difference(
    differences: Sequence[float], clusters: Sequence[object] | None = None, confidence: float = 0.95
) -> MeanDifference:
    """Return the mean of `differences`, which must not be empty, with its standard error.

    Rows of one cluster may depend on each other: the error is clustered, with the factor G / (G - 1) for G clusters.
    Without `clusters` each row is a cluster, which gives the usual standard error. The interval and the p-value use
    Student's distribution with G - 1 degrees of freedom. If all differences are equal, their spread is 0. The p-value
    is then that of the sign test, so that two equal rows are not significant.
    """
    number = len(differences)
    mean = math.fsum(differences) / number
    if clusters is None:
        sums = [difference - mean for difference in differences]
    else:
        gathered: dict[object, list[float]] = {}
        for cluster, difference in zip(clusters, differences, strict=True):
            gathered.setdefault(cluster, []).append(difference - mean)
        sums = [math.fsum(deviations) for deviations in gathered.values()]
    groups = len(sums)
    if groups < 2:
        return MeanDifference(number, groups, mean, None, None, None)
    error = math.sqrt(math.fsum(each * each for each in sums) * groups / (groups - 1)) / number
    if error <= abs(mean) * 1e-12:  # all differences are equal
        return MeanDifference(number, groups, mean, 0.0, Interval(mean, mean), 2.0 ** (1 - groups) if mean else 1.0)
    half = student_quantile((1 + confidence) / 2, groups - 1) * error
    p = student_two_sided(mean / error, groups - 1)
    return MeanDifference(number, groups, mean, error, Interval(mean - half, mean + half), p)


def rate_difference(
    differences: Sequence[int], clusters: Sequence[object] | None = None, confidence: float = 0.95
) -> MeanDifference:
    """Return the mean of differences of verdicts (-1, 0, 1), which must not be empty, with Tango's score interval.

    Mean, error and p-value are those of `mean_difference`. With clusters, the interval counts fewer rows: their number
    divided by how much larger the clustered variance is than that of independent rows, which is at least 1. Its
    quantile is that of Student's distribution, as for the p-value.
    """
    found = mean_difference(differences, clusters, confidence)
    number, share = found.number, (1 + confidence) / 2
    z, kept = NORMAL.inv_cdf(share), 1.0
    if clusters is not None:
        if found.error is None:
            return found
        z = student_quantile(share, found.clusters - 1)
        independent = math.sqrt(math.fsum((each - found.mean) ** 2 for each in differences)) / number
        clustered = found.error * math.sqrt((found.clusters - 1) / found.clusters)
        # If all rows are equal, there is no variance to compare: a cluster counts as one row.
        kept = found.clusters / number if not independent else (independent / max(independent, clustered)) ** 2
    improved, regressed = differences.count(1), differences.count(-1)
    return attrs.evolve(found, interval=paired_rates(improved * kept, regressed * kept, number * kept, z))


def flips_needed(confidence: float = 0.95) -> int:
    """Return the least number of flips, all in one direction, that McNemar's exact test finds significant."""
    return math.floor(1 - math.log2(1 - confidence)) + 1


def rows_needed(found: MeanDifference, confidence: float = 0.95) -> int | None:
    """Return how many rows are needed to show this difference with 80 % power, or `None` without a difference.

    It assumes rows with the same spread and the same clusters.
    """
    if not found.mean or found.error is None:
        return None
    z = NORMAL.inv_cdf((1 + confidence) / 2) + NORMAL.inv_cdf(POWER)
    return max(2, math.ceil(found.number * (z * found.error / found.mean) ** 2))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values after Holm's correction; `None` is kept and not counted."""
    order = sorted((value, index) for index, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, value * (len(order) - rank)))
        adjusted[index] = largest
    return adjusted


# --- Student's distribution -------------------------------------------------------------------------------------------


def student_two_sided(t: float, degrees: float) -> float:
    """Return the probability of a value at least as far from zero as `t`."""
    if t * t < 1:  # near zero, the complement is more precise
        return 1.0 - regularized_beta(t * t / (degrees + t * t), 0.5, degrees / 2)
    return regularized_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


def student_quantile(probability: float, degrees: float) -> float:
    """Return the `t` such that a value is below `t` with this probability, which must be above 0.5."""
    tail = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while student_two_sided(high, degrees) > tail:
        low, high = high, high * 2
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student_two_sided(middle, degrees) > tail else (low, middle)
    return (low + high) / 2


def regularized_beta(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # here the fraction converges slowly, but I_(1-x)(b, a) converges quickly
        return 1.0 - regularized_beta(1 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) * beta_fraction(x, a, b) / a


def beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by the modified method of Lentz."""
    c, d = 1.0, 1 / away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, STEPS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / away_from_zero(1 + numerator * d)
            c = away_from_zero(1 + numerator / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def away_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY

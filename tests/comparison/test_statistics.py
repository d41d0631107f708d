"""The statistics of a comparison are those of scipy and statsmodels, for whatever numbers."""

import math
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evals_async.comparison.statistics import (
    flips_needed,
    holm,
    mcnemar,
    mean_difference,
    paired_rates,
    rate_difference,
    regularized_beta,
    rows_needed,
    student_quantile,
    student_two_sided,
    wilson,
)


# Neither has types, and both take a second to load.
scipy_stats: Any = import_module("scipy.stats")
scipy_optimize: Any = import_module("scipy.optimize")
scipy_special: Any = import_module("scipy.special")
proportion: Any = import_module("statsmodels.stats.proportion")
contingency: Any = import_module("statsmodels.stats.contingency_tables")
multitest: Any = import_module("statsmodels.stats.multitest")
power: Any = import_module("statsmodels.stats.power")
models: Any = import_module("statsmodels.api")
numpy: Any = import_module("numpy")

counts = st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)).map(sorted).filter(lambda pair: pair[1] > 0)
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])
differences = st.lists(
    st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-10, 10).map(lambda value: round(value, 3))),
    min_size=2,
    max_size=60,
)


@settings(deadline=None)
@given(counts, confidences)
def test_wilson_interval(pair: list[int], confidence: float) -> None:
    """The interval of a rate is statsmodels' Wilson interval, and holds the rate."""
    count, total = pair
    found = wilson(count, total, confidence)
    low, high = proportion.proportion_confint(count, total, alpha=1 - confidence, method="wilson")
    assert found.low == pytest.approx(max(0, low), abs=1e-12)
    assert found.high == pytest.approx(min(1, high), abs=1e-12)
    assert 0 <= found.low <= count / total <= found.high <= 1


def test_wilson_interval_of_nothing() -> None:
    """Without rows anything is possible."""
    assert (0.0, 1.0) == (wilson(0, 0).low, wilson(0, 0).high)


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_exact(regressed: int, improved: int) -> None:
    """The p-value of flips is that of statsmodels' exact test, also beyond the numbers that are summed as integers."""
    expected = contingency.mcnemar([[0, regressed], [improved, 0]], exact=True).pvalue if regressed + improved else 1.0
    assert mcnemar(regressed, improved) == pytest.approx(min(1.0, expected), rel=1e-8, abs=1e-200)
    assert mcnemar(regressed, improved) == mcnemar(improved, regressed)


@pytest.mark.parametrize(("regressed", "improved"), [(50_300, 49_700), (50_000, 50_000), (99_000, 1_000), (1001, 0)])
def test_mcnemar_of_many_flips(regressed: int, improved: int) -> None:
    """A hundred thousand flips give scipy's number, without overflow."""
    expected = scipy_stats.binomtest(regressed, regressed + improved).pvalue
    assert mcnemar(regressed, improved) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@settings(deadline=None)
@given(differences, confidences)
def test_mean_difference(values: list[float], confidence: float) -> None:
    """Without clusters: scipy's t-test on paired differences, its interval and its p-value."""
    found = mean_difference(values, None, confidence)
    assert found.number == found.clusters == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values))
    assert found.error is not None
    assert found.interval is not None
    if len(set(values)) == 1:
        assert (0.0, 2.0 ** (1 - len(values)) if values[0] else 1.0) == (found.error, found.p)
        return
    expected = scipy_stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(confidence)
    assert found.error == pytest.approx(numpy.std(values, ddof=1) / math.sqrt(len(values)))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


@settings(deadline=None)
@given(st.data(), differences)
def test_clustered_errors(data: st.DataObject, values: list[float]) -> None:
    """With clusters: the standard error and p-value of statsmodels' regression on a constant with clustered errors."""
    groups = data.draw(st.lists(st.integers(0, 8), min_size=len(values), max_size=len(values)))
    found = mean_difference(values, groups)
    if len(set(groups)) < 2:
        assert (None, None, None) == (found.error, found.interval, found.p)
        return
    fit = models.OLS(numpy.array(values), numpy.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": numpy.array(groups), "use_correction": True}, use_t=True
    )
    assert found.clusters == len(set(groups))
    assert found.error == pytest.approx(fit.bse[0], rel=1e-7, abs=1e-7)
    if fit.bse[0] > 1e-6:
        assert found.p == pytest.approx(fit.pvalues[0], rel=1e-5, abs=1e-9)


def score_statistic(improved: int, regressed: int, rows: int, difference: float) -> float:
    """The square of the score statistic, with the most likely rate found by scipy instead of by the formula."""
    same = rows - improved - regressed

    def loss(rate: float) -> float:
        terms = ((improved, rate + difference), (regressed, rate), (same, 1 - 2 * rate - difference))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    options = {"xatol": 1e-13}
    rate = float(scipy_optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options=options).x)
    variance = (2 * rate + difference * (1 - difference)) / rows
    return float(((improved - regressed) / rows - difference) ** 2 / variance)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_interval_of_paired_rates(improved: int, regressed: int, same: int) -> None:
    """The ends are where the score test just does not reject. They hold the difference, and are between -1 and 1."""
    rows = improved + regressed + same
    if not rows:
        return
    z = scipy_stats.norm.ppf(0.975)
    found = paired_rates(improved, regressed, rows, z)
    assert -1 <= found.low <= (improved - regressed) / rows <= found.high <= 1
    assert found.low < found.high
    for end in (found.low, found.high):
        if abs(end) < 1 - 1e-6:
            assert score_statistic(improved, regressed, rows, end) == pytest.approx(z * z, rel=1e-3)
    mirrored = paired_rates(regressed, improved, rows, z)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@pytest.mark.parametrize(("improved", "rows"), [(0, 1), (0, 2), (0, 20), (0, 1000)])
def test_interval_without_a_flip(improved: int, rows: int) -> None:
    """Without a flip, the interval of n rows is z² / (n + z²) in both directions: it is not empty."""
    z = scipy_stats.norm.ppf(0.975)
    found = paired_rates(improved, 0, rows, z)
    assert (found.low, found.high) == pytest.approx((-z * z / (rows + z * z), z * z / (rows + z * z)))


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=30), st.data(), confidences)
def test_rate_difference(values: list[int], data: st.DataObject, confidence: float) -> None:
    """However few the rows or clusters are, the interval is a range of differences of rates that holds the mean."""
    groups = data.draw(st.none() | st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    found, plain = rate_difference(values, groups, confidence), mean_difference(values, groups, confidence)
    assert (found.mean, found.error, found.p) == (plain.mean, plain.error, plain.p)
    if groups is not None and len(set(groups)) < 2:
        assert found.interval is None
        return
    assert found.interval is not None
    assert -1 <= found.interval.low <= found.mean <= found.interval.high <= 1
    assert found.interval.low < found.interval.high
    alone = rate_difference(values, None, confidence).interval
    if groups is not None and alone is not None:  # clusters never make it narrower
        width = found.interval.high - found.interval.low
        assert width >= alone.high - alone.low - 1e-9


def test_interval_of_many_rows() -> None:
    """With many rows, Tango's interval and the one of the usual standard error are the same."""
    values = [1] * 600 + [-1] * 400 + [0] * 9000
    found, plain = rate_difference(values).interval, mean_difference(values).interval
    assert found is not None
    assert plain is not None
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=5e-5)


def test_interval_of_clusters() -> None:
    """Ten documents with ten equal rows each give the interval of ten rows."""
    values = [value for value in (1, 1, 1, 0, 0, 0, 0, 0, -1, 0) for _ in range(10)]
    groups = [row // 10 for row in range(100)]
    found = rate_difference(values, groups).interval
    ten = paired_rates(3, 1, 10, scipy_stats.t.ppf(0.975, 9))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((ten.low, ten.high))


@pytest.mark.parametrize("confidence", [0.6, 0.75, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_flips_needed(confidence: float) -> None:
    """One flip fewer is not significant, even if all are in one direction."""
    flips = flips_needed(confidence)
    assert mcnemar(flips, 0) < 1 - confidence <= mcnemar(flips - 1, 0) + 1e-12


def test_one_row_says_nothing_about_chance() -> None:
    """A single difference has a mean, and neither error nor p-value."""
    found = mean_difference([0.5])
    assert (0.5, None, None, None) == (found.mean, found.error, found.interval, found.p)
    assert rows_needed(found) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(values: list[float]) -> None:
    """Holm's correction is statsmodels'; what has no p-value stays without one, and does not count."""
    expected = list(multitest.multipletests(values, method="holm")[1])
    assert holm(values) == pytest.approx(expected)
    assert holm([None, *values]) == [None, *holm(values)]


@settings(deadline=None)
@given(st.floats(0.05, 2), st.floats(0.5, 3))
def test_rows_needed(mean: float, spread: float) -> None:
    """The rows for 80 % power are statsmodels' for a test with a normal distribution."""
    found = mean_difference([mean - spread, mean + spread] * 50)
    assert found.error is not None
    deviation = found.error * math.sqrt(found.number)
    expected = power.normal_sample_size_one_tail(mean, 0.8, 0.025, std_null=deviation, std_alternative=deviation)
    assert rows_needed(found) == max(2, math.ceil(expected - 1e-6))


def test_no_rows_show_what_is_not_there() -> None:
    """Where no difference was seen, no number of rows is told."""
    assert rows_needed(mean_difference([1.0, -1.0])) is None


@settings(deadline=None)
@given(st.floats(0.0, 200), st.integers(1, 100_000))
def test_student_two_sided(t: float, degrees: int) -> None:
    """Student's tails are scipy's."""
    assert student_two_sided(t, degrees) == pytest.approx(2 * scipy_stats.t.sf(t, degrees), rel=1e-8, abs=1e-290)


@settings(deadline=None)
@given(st.floats(0.6, 0.9999), st.integers(1, 100_000))
def test_student_quantile(probability: float, degrees: int) -> None:
    """Student's quantiles are scipy's."""
    assert student_quantile(probability, degrees) == pytest.approx(scipy_stats.t.ppf(probability, degrees), rel=1e-7)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.5, 1000), st.floats(0.5, 1000))
def test_regularized_beta(x: float, a: float, b: float) -> None:
    """The incomplete beta function is scipy's."""
    assert regularized_beta(x, a, b) == pytest.approx(scipy_special.betainc(a, b, x), rel=1e-8, abs=1e-12)

"""Agreement of two graders: kappa is statsmodels', and the variant that a service used is found."""

from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evals_async.archive.regrade.agreement import closest_variants, kappa, score_agreement, variants_of


inter_rater: Any = import_module("statsmodels.stats.inter_rater")
numpy: Any = import_module("numpy")

PAIRS = [
    ("The quick brown fox", "the quick brown Fox jumps"),
    ("Running through the fields", "run through a field"),
    ("a b c d e f", "a b x d e f"),
    ("nothing alike", "quite another text"),
    ("same words here", "same words here"),
    ("Words in an order", "order an in Words"),
]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_kappa(cells: list[int]) -> None:
    """Cohen's kappa is statsmodels'; where it has none, because chance agrees always, neither have we."""
    table = [cells[:2], cells[2:]]
    found = kappa(table)
    rows, columns = [sum(row) for row in table], [cells[0] + cells[2], cells[1] + cells[3]]
    if not sum(cells) or any(row == column == sum(cells) for row, column in zip(rows, columns, strict=True)):
        assert found is None
    else:
        assert found == pytest.approx(inter_rater.cohens_kappa(numpy.array(table), return_results=False))


def test_scores() -> None:
    """Differences of scores are ours minus the service's."""
    found = score_agreement([(0.5, 0.5), (0.5, 0.505), (1.0, 0.7)])
    assert found is not None
    assert (3, 1, 2) == (found.rows, found.same, found.close)
    assert (found.mean, found.mean_absolute, found.largest) == pytest.approx((-0.295 / 3, 0.305 / 3, 0.3))
    assert score_agreement([]) is None


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_l"])
def test_the_variant_of_a_service_is_found(metric: str) -> None:
    """Whichever variant a service uses, its scores lead to it: no other is closer."""
    for name, compute in variants_of(metric).items():
        closest = closest_variants(metric, [(text, reference, compute(text, reference)) for text, reference in PAIRS])
        exact = {variant.name for variant in closest if variant.mean_absolute < 1e-12}
        assert name in exact, name
        assert len(PAIRS) == closest[0].same


def test_metrics_without_variants() -> None:
    """A metric that needs a model, or that nobody knows, has no variants; without rows nothing is compared."""
    assert {} == variants_of("cosine")
    assert [] == closest_variants("cosine", [("a", "b", 0.5)])
    assert [] == closest_variants("bleu", [])

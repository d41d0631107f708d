"""What a comparison says: rates, flips, tests and verdicts, over the rows that are in both runs."""

import json
import random
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evals_async import InvalidArgument, compare
from evals_async._codec import decode
from evals_async.comparison import RunComparison, RunOutcomes, TokenCount, TokenPrice, comparison_json, cost_of
from evals_async.models import EvalRun, ModelUsage

from .conftest import Make, made


contingency: Any = import_module("statsmodels.stats.contingency_tables")


def of_verdicts(pairs: list[tuple[bool | None, bool | None]], **options: Any) -> RunComparison:
    """The comparison of two runs with those verdicts of one criterion."""
    a = [made(number, first) for number, (first, _) in enumerate(pairs)]
    b = [made(number, second, run=1) for number, (_, second) in enumerate(pairs)]
    return compare(a, b, **options)


def test_flips_and_rates() -> None:
    """Both directions are counted, over rows with a verdict in both runs; errors are apart."""
    pairs = [(True, True)] * 5 + [(True, False)] * 2 + [(False, True)] * 3 + [(False, False)] * 4
    found = of_verdicts([*pairs, (True, None), (None, False), (None, None)])
    for part in (found.overall, *found.criteria):
        assert (2, 3, 2, 2) == (part.regressed, part.improved, part.errors_a, part.errors_b)
        assert (7, 14, 8, 14) == (part.a.passed, part.a.total, part.b.passed, part.b.total)
        assert part.difference is not None
        assert part.difference.mean == pytest.approx(1 / 14)
        assert part.mcnemar_p == pytest.approx(1.0)
    assert [5, 6] == [pair.a.source_id for pair in found.regressions]
    assert [7, 8, 9] == [pair.a.source_id for pair in found.improvements]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_verdict_is_that_of_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    """Worse or better is said exactly where McNemar's exact test of statsmodels says that it is no chance."""
    found = of_verdicts([*pairs])
    regressed, improved = pairs.count((True, False)), pairs.count((False, True))
    p = contingency.mcnemar([[0, regressed], [improved, 0]], exact=True).pvalue if regressed + improved else 1.0
    expected = "no difference seen" if p >= 0.05 else "worse" if regressed > improved else "better"
    assert (expected, p) == (found.verdict, pytest.approx(found.overall.p))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 20])
def test_a_tiny_run_gives_a_possible_interval(rows: int) -> None:
    """A difference of rates is between -1 and 1, and so is its interval, which is never a single point."""
    for pairs in (
        [(False, True)] * rows,
        [(True, False)] * (rows - 1) + [(True, True)],
        [(True, True)] * rows,
        [(True, False), (False, True)] * rows,
    ):
        for clustered in (False, True):
            rows_of = {"topic": "a"}, {"topic": "b"}
            a = [made(number, first, row=rows_of[number % 2]) for number, (first, _) in enumerate(pairs)]
            b = [made(number, second, row=rows_of[number % 2], run=1) for number, (_, second) in enumerate(pairs)]
            difference = compare(a, b, cluster="item.topic" if clustered else None).overall.difference
            assert difference is not None
            if clustered and len(pairs) < 2:
                assert difference.interval is None
                continue
            assert difference.interval is not None
            assert -1 <= difference.interval.low <= difference.mean <= difference.interval.high <= 1
            assert difference.interval.low < difference.interval.high


@pytest.mark.parametrize(("flips", "rows", "needed"), [(2, 2, 6), (1, 4, 24), (5, 5, 6)])
def test_rows_needed_are_enough_for_the_test(flips: int, rows: int, needed: int) -> None:
    """Six flips in one direction are the least that can decide: no fewer rows are said to be needed."""
    found = of_verdicts([*[(False, True)] * flips, *[(True, True)] * (rows - flips)])
    assert "no difference seen" == found.verdict
    assert found.overall.rows_needed is not None
    assert found.overall.rows_needed >= needed
    assert found.overall.rows_needed == needed or flips < rows


def test_a_run_with_itself(item: Make) -> None:
    """There is no difference, and no number of rows would show one."""
    items = [item(number, number % 3 > 0) for number in range(30)]
    found = compare(items, items)
    assert "no difference seen" == found.verdict
    assert (0, 0, 1.0, None) == (
        found.overall.regressed,
        found.overall.improved,
        found.overall.p,
        found.overall.rows_needed,
    )


def test_scores_decide_where_verdicts_do_not(item: Make) -> None:
    """Scores that fall without crossing the threshold are worse, unless they are an evaluator's of Foundry."""
    drops = random.Random(1)
    a = [item(number, ("judge", True, 0.9 + drops.uniform(0, 0.1))) for number in range(30)]
    b = [item(number, ("judge", True, 0.7 + drops.uniform(0, 0.1)), run=1) for number in range(30)]
    found = compare(a, b)
    assert ("no difference seen", "worse", "worse") == (found.overall.verdict, found.criteria[0].verdict, found.verdict)
    score = found.criteria[0].score
    assert score is not None
    assert score.difference.mean == pytest.approx(score.mean_b - score.mean_a)
    evaluator = {"name": "x", "type": "azure_ai_evaluator", "passed": True}
    mild = [item(number, results=[{**evaluator, "score": 0}]) for number in range(20)]
    severe = [item(number, results=[{**evaluator, "score": 2 + number % 2}], run=1) for number in range(20)]
    assert "no difference seen" == compare(mild, severe).verdict


def test_holm_over_criteria(item: Make) -> None:
    """One of many criteria must differ more than a single one to count."""
    a = [item(number, *[True] * 5) for number in range(20)]
    b = [item(number, number >= 6, *[True] * 4, run=1) for number in range(20)]
    found = compare(a, b)
    first = found.criteria[0]
    assert first.p == pytest.approx(2 / 2**6)
    assert first.p_holm == pytest.approx(5 * 2 / 2**6)
    assert "no difference seen" == first.verdict
    assert "worse" == found.overall.verdict  # one test of its own, without a correction


def test_clusters_widen_the_error(item: Make) -> None:
    """Rows that come in clusters count as fewer: the same flips are no proof any more."""
    a = [item(number, True, row={"topic": number // 10, "n": number}) for number in range(60)]
    b = [item(number, number >= 10, row={"topic": number // 10, "n": number}, run=1) for number in range(60)]
    assert "worse" == compare(a, b).verdict
    found = compare(a, b, cluster="item.topic")
    assert found.overall.difference is not None
    assert 6 == found.overall.difference.clusters
    assert found.overall.p == found.overall.difference.p
    assert "no difference seen" == found.verdict
    needed, alone = found.overall.rows_needed, compare(a, b).overall.rows_needed
    assert needed is not None
    assert alone is not None
    assert needed > alone


@pytest.mark.parametrize("cluster", ["topic", "item", "item.", "sample.x", "item..x", ""])
def test_clusters_are_fields_of_the_item(cluster: str) -> None:
    """Another path is refused before anything is compared."""
    with pytest.raises(InvalidArgument, match="must be a field of the item"):
        compare([], [], cluster=cluster)


def test_arguments_are_checked(item: Make) -> None:
    """A confidence beyond 0 and 1, and outcomes that were gathered with another cluster, are refused."""
    with pytest.raises(InvalidArgument, match=r"confidence must be between 0 and 1, got 95"):
        compare([], [], confidence=95)
    with pytest.raises(InvalidArgument, match=r"cluster=None, but compare\(\) got cluster='item\.x'"):
        compare(RunOutcomes(), [item(0, True)], cluster="item.x")


def test_nothing_in_common(item: Make) -> None:
    """Runs without a common row have no numbers, and say so."""
    found = compare([item(0, True)], [item(7, True, run=1)])
    assert "not comparable" == found.verdict
    assert (None, None, None) == (found.overall.p, found.overall.difference, found.overall.a.value)
    assert ["0 rows aligned", "1 row only in A: not compared", "1 row only in B: not compared"] == (
        found.alignment.sentences()
    )


def test_json_form(item: Make) -> None:
    """Everything that is said is there as JSON too, and nothing in it is no JSON."""
    a = [item(number, ("judge", True, 0.75)) for number in range(9)]
    b = [item(number, ("judge", number > 0, 0.25), run=1) for number in range(10)]
    form = json.loads(json.dumps(comparison_json(compare(a, b)), allow_nan=False))
    assert {"datasource_item_id": 0, "item_id_a": "outputitem_0_0", "item_id_b": "outputitem_1_0"} == (
        form["regressions"][0]
    )
    assert [{"item_id": "outputitem_1_9", "datasource_item_id": 9}] == form["alignment"]["only_b"]
    assert ("judge", 1, 0) == tuple(form["criteria"][0][name] for name in ("name", "regressed", "improved"))
    assert -0.5 == form["criteria"][0]["score"]["difference"]["mean"]


# --- tokens and cost --------------------------------------------------------------------------------------------------


def test_tokens_of_the_run_come_first(item: Make) -> None:
    """The run's own usage is taken, Foundry's second entry for its target left out; else the items are summed."""
    usage = ModelUsage(model_name="gpt", invocation_count=2, prompt_tokens=30, completion_tokens=7, cached_tokens=3)
    again = ModelUsage(model_name="azure_ai_model_target", invocation_count=2, prompt_tokens=30, completion_tokens=7)
    counted = RunOutcomes(EvalRun(id="evalrun_0", status="completed", per_model_usage=(usage, again)))
    assert {"gpt": TokenCount(calls=2, prompt=30, completion=7, cached=3)} == counted.tokens()
    sample = {"model": "gpt-x", "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}
    summed = RunOutcomes.of([item(0, True, sample=sample), item(1, True, sample=sample), item(2, True)])
    assert {"gpt-x": TokenCount(calls=2, prompt=20, completion=4)} == summed.tokens()


def test_cost() -> None:
    """Prices are for a million tokens; models without one are named, and not guessed."""
    tokens = {
        "gpt-4.1-2025-04-14": TokenCount(prompt=1_000_000, completion=500_000, cached=400_000),
        "other": TokenCount(prompt=1),
    }
    found = cost_of(tokens, [TokenPrice.of("gpt-4.1*=2/8/0.5"), TokenPrice("*4*", 99, 99)])
    assert found is not None
    assert found.amount == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8)
    assert ("other",) == found.unpriced
    assert cost_of(tokens, []) is None


@pytest.mark.parametrize("text", ["gpt", "gpt=1", "=1/2", "gpt=1/x", "gpt=1..2/3", ""])
def test_prices_that_cannot_be_read(text: str) -> None:
    """What is no price is refused."""
    with pytest.raises(InvalidArgument, match="a price must be"):
        TokenPrice.of(text)


def test_cluster_values_of_any_kind(item: Make) -> None:
    """A cluster may be any JSON value; rows without the field are a cluster of their own."""
    rows: list[dict[str, Any]] = [{"t": {"a": 1}}, {"t": {"a": 1.0}}, {"t": None}, {}, {"t": "x"}]
    items = [item(number, True, row={**row, "n": number}) for number, row in enumerate(rows)]
    outcomes = RunOutcomes.of(items, cluster="item.t")
    assert ['{"a":1}', '{"a":1}', "null", "null", "x"] == [row.cluster for row in outcomes.rows]


def test_decoded_items_are_enough() -> None:
    """An item with nothing but its id and a status that is no verdict is an item without verdicts."""
    bare = decode(b'{"id": "x", "status": "completed"}', type(made(0, True)))
    assert "not comparable" == compare([bare], [bare]).overall.verdict

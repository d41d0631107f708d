"""Which rows are compared with which: by their place and what is in them, and what does not fit is said."""

import json
from typing import Any

import pytest
from bodies import payload

from evals_async import InvalidArgument, compare
from evals_async._codec import decode
from evals_async.comparison import Alignment, RunOutcomes
from evals_async.models import EvalRun, OutputItem

from .conftest import UUIDS, Make


def alignment(a: list[OutputItem], b: list[OutputItem]) -> Alignment:
    return compare(a, b).alignment


def test_order_does_not_matter(item: Make) -> None:
    """Rows find their partners whatever the order of the listings; pairs come in the order of the data source."""
    a, b = [item(number, True) for number in range(12)], [item(number, True, run=1) for number in range(12)]
    found = alignment(a, b[::-1])
    assert [(str(number), str(number)) for number in range(12)] == [
        (str(pair.a.source_id), str(pair.b.source_id)) for pair in found.pairs
    ]
    assert found.complete
    assert ["12 rows aligned"] == found.sentences()


def test_content_hash_is_not_believed(item: Make) -> None:
    """One content hash for all rows, as on Azure, joins nothing."""
    same = {"_datasource_item_content_hash": "74234e98"}
    found = alignment([item(0, True, **same), item(1, True, **same)], [item(1, True, run=1, **same)])
    assert [1] == [pair.b.source_id for pair in found.pairs]
    assert [0] == [row.source_id for row in found.only_a]


def test_rows_are_equal_however_they_are_written(item: Make) -> None:
    """The order of fields and `1.0` for `1` make no other row; a place is the same as a number or as a string."""
    a = item(3, True, row={"x": 1, "y": {"p": [1.0, None], "q": True}})
    b = item(3, True, row={"y": {"q": True, "p": [1, None]}, "x": 1.0}, run=1, datasource_item_id="3")
    assert alignment([a], [b]).complete


@pytest.mark.parametrize("other", [{"x": 2}, {"x": "1"}, {"x": True}, {"x": 1, "y": None}, {}])
def test_other_rows_at_the_same_place(item: Make, other: object) -> None:
    """A place with another row is not compared, and said first."""
    found = alignment([item(0, True), item(1, True, row={"x": 1})], [item(0, True, run=1), item(1, True, row=other)])
    assert (1, 1, (), ()) == (len(found.pairs), len(found.changed), found.only_a, found.only_b)
    assert not found.complete
    assert "1 row changed between A and B: not compared" in found.sentences()


def test_servers_that_count_from_one(item: Make) -> None:
    """Rows at other places are found by what is in them, and that is said."""
    a = [item(number, True) for number in range(5)]
    b = [item(number, True, run=1, datasource_item_id=number + 1) for number in range(5)]
    found = alignment(a, b)
    assert [(number, number + 1) for number in range(5)] == [(p.a.source_id, p.b.source_id) for p in found.pairs]
    assert (5, True) == (found.by_row, found.complete)


def test_equal_rows_are_told_apart_by_their_places(item: Make) -> None:
    """The same row several times: the first with the first, where both runs have equal numbers of them."""
    a = [item(number, True, row={}) for number in (10, 2, 3)]
    found = alignment(a, [item(number, True, row={}, run=1) for number in (11, 4, 3)])
    assert [(2, 4), (3, 3), (10, 11)] == [(pair.a.source_id, pair.b.source_id) for pair in found.pairs]
    uneven = alignment(a, [item(number, True, row={}, run=1) for number in (20, 21)])
    assert (0, 3, 2) == (len(uneven.pairs), len(uneven.ambiguous_a), len(uneven.ambiguous_b))


def test_equal_rows_without_places_are_ambiguous(item: Make) -> None:
    """Nothing tells equal rows without a place apart; a single one needs no place."""
    nowhere = {"datasource_item_id": None}
    a = [item(number, True, row={"x": number // 2}, **nowhere) for number in range(3)]
    b = [item(number, True, row={"x": number // 2}, run=1, **nowhere) for number in range(3)]
    found = alignment(a, b)
    assert (1, 2, 2) == (len(found.pairs), len(found.ambiguous_a), len(found.ambiguous_b))


def test_items_that_come_twice(item: Make) -> None:
    """An item that a listing brings twice counts once, and that is said."""
    found = alignment([item(0, True), item(0, True)], [item(0, True, run=1)])
    assert (1, 1) == (len(found.pairs), found.repeated)
    assert "1 item listed twice: counted once" in found.sentences()


def test_answers_in_the_row_do_not_make_it_another_row() -> None:
    """Foundry writes the answer and the ids of the call into the row; that does not make it another row."""
    first: dict[str, Any] = payload("item_foundry_completed")
    rows: list[dict[str, Any]] = [
        {"query": "Why?", "sample.output_text": f"Because {number}.", "response_id": number, "sample.tool_calls": []}
        for number in range(2)
    ]
    bodies = [{**first, "id": str(number), "datasource_item": row} for number, row in enumerate(rows)]
    items = [decode(json.dumps(body).encode(), OutputItem) for body in bodies]
    assert alignment(items[:1], items[1:]).complete


def test_criteria_of_two_evals_are_aligned_by_name(item: Make) -> None:
    """The server's uuid tells criteria of one eval apart; those of two evals have the user's name in common."""
    mine, other = f"match-{UUIDS[0]}", f"match-{UUIDS[1]}"
    graded = [{"name": mine, "passed": True, "score": 1}, {"name": f"tone-{UUIDS[0]}", "passed": True, "score": 1}]
    a = item(0, results=graded, status="pass")
    b = item(0, results=[{"name": other, "passed": False, "score": 0}], status="fail", run=1)
    found = alignment([a], [b])
    assert [("match", "match")] == [(left.plain, right.plain) for left, right in found.criteria]
    assert ["tone"] == [name.plain for name in found.criteria_only_a]
    assert "criteria only in A: tone: not compared" in found.sentences()


def test_two_criteria_of_one_name(item: Make) -> None:
    """Within one eval the ids decide, also where two criteria have one name; across evals nothing is guessed."""
    both = [{"name": f"same-{uuid}", "passed": uuid == UUIDS[0], "score": 1} for uuid in UUIDS]
    a, b = item(0, results=both, status="fail"), item(0, results=both[::-1], status="fail", run=1)
    assert [(0, 0), (0, 0)] == [(each.regressed, each.improved) for each in compare([a], [b]).criteria]
    foreign = [{"name": f"same-33333333-3333-4333-8333-33333333333{n}", "passed": True, "score": 1} for n in (1, 2)]
    assert () == alignment([a], [item(0, results=foreign, status="pass", run=1)]).criteria


def test_metrics_of_one_evaluator(item: Make) -> None:
    """An evaluator on Foundry with several results per row is one criterion per metric."""
    results = [
        {"name": "safe", "metric": metric, "passed": True, "score": 0, "type": "azure_ai_evaluator"}
        for metric in ("violence", "hate", "safe")
    ]
    found = compare([item(0, results=results)], [item(0, results=results, run=1)])
    assert ["safe / violence", "safe / hate", "safe"] == [criterion.name for criterion in found.criteria]


def test_items_of_another_run_are_refused(item: Make) -> None:
    """Outcomes of a run take no items of another one."""
    outcomes = RunOutcomes(EvalRun(id="evalrun_0", status="completed"))
    outcomes.add(item(0, True))
    with pytest.raises(InvalidArgument, match="belongs to the run evalrun_1, not to evalrun_0"):
        outcomes.add(item(1, True, run=1))

"""`grade_batches`: the grades of `grade`, whatever the batches, from exact rows and from the table of items."""

import asyncio
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evals_async import InvalidArgument
from evals_async.archive import Archive, grade_batches
from evals_async.archive.regrade.batches import GRADE_COLUMNS, ROW_COLUMNS, batch_of, schema_of
from evals_async.grading import grade
from evals_async.inference import Models, Rule, ScriptedModels

from .conftest import CRITERIA, EVAL, item_of


pa: Any = import_module("pyarrow")  # it has no types
pq: Any = import_module("pyarrow.parquet")


def row_of(number: int, item: Any, sample: Any) -> dict[str, object]:
    keys = {"eval_id": EVAL, "run_id": "r", "item_id": str(number)}
    return {**keys, "item": json.dumps(item), "sample": None if sample is None else json.dumps(sample)}


def graded(rows: list[dict[str, object]], criteria: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    batches = [batch_of(rows[at : at + size], ROW_COLUMNS) for at in range(0, len(rows), size)]
    return [row for batch in grade_batches(batches, {EVAL: criteria}) for row in batch.to_pylist()]


CHECK = {"type": "string_check", "name": "check", "input": "{{ sample.output_text }}", "reference": "{{ item.x }}"}
texts = st.text(max_size=20)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(texts, st.integers(), st.none()), st.one_of(texts, st.none())), max_size=8),
    st.sampled_from(["eq", "ne", "like", "ilike", "other"]),
    st.integers(1, 4),
)
def test_grades_are_those_of_grade(rows: list[tuple[Any, str | None]], operation: str, size: int) -> None:
    """However rows are cut into batches, each has the grade that `grade` gives it."""
    items = [({"x": value}, None if answer is None else {"output_text": answer}) for value, answer in rows]
    criterion = {**CHECK, "operation": operation}
    made = graded([row_of(number, *each) for number, each in enumerate(items)], [criterion], size)

    async def expected() -> list[tuple[Any, ...]]:
        found = [await grade(criterion, item=item, sample=sample) for item, sample in items]
        errors = [each.error and f"{each.error['code']}: {each.error['message']}" for each in found]
        return [(each.score, each.passed, error) for each, error in zip(found, errors, strict=True)]

    assert asyncio.run(expected()) == [(row["score"], row["passed"], row["error"]) for row in made]


def test_one_grade_per_row_and_criterion() -> None:
    """Rows keep their order, criteria theirs; a row of an eval without criteria has no grades."""
    rows = [row_of(1, {"x": "a"}, {"output_text": "a"}), {**row_of(2, {"x": "a"}, None), "eval_id": "other"}]
    rows.append(row_of(3, {"x": "a"}, {"output_text": "b"}))
    two = [{**CHECK, "operation": "eq"}, {**CHECK, "name": "not", "id": "not-1", "operation": "ne"}]
    found = graded(rows, two, 2)
    assert [("1", "check", True), ("1", "not-1", False), ("3", "check", False), ("3", "not-1", True)] == [
        (row["item_id"], row["criterion"], row["passed"]) for row in found
    ]


def test_batches_have_their_schema() -> None:
    """An empty batch gives an empty batch, and both have the documented columns."""
    [found] = grade_batches([batch_of([], ROW_COLUMNS)], {})
    assert schema_of(GRADE_COLUMNS) == found.schema


@pytest.mark.parametrize(
    ("columns", "why"),
    [(["run_id", "item_id", "item"], "no column eval_id"), (["eval_id", "run_id", "item_id"], "neither a column item")],
)
def test_other_columns_are_refused(columns: list[str], why: str) -> None:
    """A batch without what is needed is refused by name."""
    batch = pa.RecordBatch.from_pylist([dict.fromkeys(columns, "x")])
    with pytest.raises(InvalidArgument, match=why):
        list(grade_batches([batch], {}))


def test_rows_that_are_no_json_are_refused() -> None:
    """A row that is no JSON object is a mistake of whoever made the batch."""
    batch = batch_of([{**row_of(1, {}, None), "item": "{"}], ROW_COLUMNS)
    with pytest.raises(InvalidArgument, match="a row to grade must be a JSON object"):
        list(grade_batches([batch], {EVAL: [CHECK]}))


def test_judges_and_missing_means() -> None:
    """Judges are asked where models are given; without them their criteria say why, and the others are graded."""
    rows = [row_of(number, item_of(number)["datasource_item"], {"output_text": "x"}) for number in range(6)]
    with ScriptedModels.in_thread(Rule(result=0.75)) as scripted:
        made = list(
            grade_batches(
                [batch_of(rows, ROW_COLUMNS)], {EVAL: CRITERIA}, models=partial(Models.from_endpoint, scripted.base_url)
            )
        )
    judged = [row for row in made[0].to_pylist() if row["name"] == "Judge"]
    assert [(0.75, True, None)] * 6 == [(row["score"], row["passed"], row["error"]) for row in judged]
    assert all("total_tokens" in row["usage"] for row in judged)
    without = graded(rows, CRITERIA, 6)
    assert {"Exact": False, "Close": False, "Judge": True} == {row["name"]: row["error"] is not None for row in without}


async def test_the_table_of_items_gives_the_same_grades(file: Path, tmp_path: Path) -> None:
    """The Parquet directory of an archive is enough for graders of the answer's text."""
    async with Archive.open(file, read_only=True) as archive:
        await archive.convert("parquet", tmp_path / "tables")
    table = pq.read_table(tmp_path / "tables" / "items")
    table = table.set_column(table.schema.get_field_index("eval_id"), "eval_id", table["eval_id"].cast(pa.string()))
    made = [row for batch in grade_batches(table.to_batches(), {EVAL: CRITERIA[:2]}) for row in batch.to_pylist()]
    items = [item_of(number) for number in range(20)]
    exact = [row_of(number, item["datasource_item"], item["sample"]) for number, item in enumerate(items)]
    expected = {(row["item_id"], row["name"]): row["score"] for row in graded(exact, CRITERIA[:2], 7)}
    found = {(str(int(row["item_id"][5:])), row["name"]): row["score"] for row in made}
    assert expected == found

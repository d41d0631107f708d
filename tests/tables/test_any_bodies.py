"""Whatever servers send becomes a table: bodies that the models allow, in any mixture."""

from typing import Any

import pytest
from bodies import bodies
from hypothesis import HealthCheck, given, settings, strategies as st

from evals_async import to_arrow, to_rows
from evals_async._codec import structure
from evals_async.models import Eval, EvalRun, File, OutputItem


pyarrow = pytest.importorskip("pyarrow")

LENIENT = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("shape", [Eval, EvalRun, OutputItem, File], ids=lambda each: each.__name__)
def test_any_bodies_become_tables(shape: Any) -> None:
    """Rows and Arrow agree on columns and on the number of rows, and no body is too strange."""

    @LENIENT
    @given(st.lists(bodies(shape), max_size=4))
    def check(found: list[Any]) -> None:
        things = [structure(body, shape) for body in found]
        rows = to_rows(things)
        table = to_arrow(things)
        assert len(things) == len(rows) == table.num_rows
        if rows:
            assert len(rows[0]) == table.num_columns
            assert list(rows[0]) == list(rows[-1])
        if shape is OutputItem:
            long = to_arrow(things, table="results")
            assert sum(len(thing.results or ()) for thing in things) == long.num_rows

    check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@LENIENT
@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=1, max_size=6))
def test_any_rows_become_columns(rows: list[dict[str, Any]]) -> None:
    """Rows of any JSON, with any mixture of types: a column each, and what is null is exactly what was null."""
    things = [OutputItem(id=str(number), status="pass", datasource_item=row) for number, row in enumerate(rows)]
    table = to_arrow(things)
    for name in {name for row in rows for name in row}:
        column = f"item.{name}".encode("utf-8", "backslashreplace").decode()
        found = [value is None for value in table[column].to_pylist()]
        assert [row.get(name) is None for row in rows] == found

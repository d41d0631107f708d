"""From runs and items to tables: flat rows and Arrow, from every kind of source, with one schema."""

import gc
import json
import math
import re
import sys
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from bodies import PAYLOADS, payload

from evals_async import (
    EvalRun,
    EvalsClient,
    InvalidArgument,
    MissingExtra,
    NotFound,
    OutputItem,
    arrow_batches,
    fan_out,
    to_arrow,
    to_rows,
)
from evals_async._codec import structure
from evals_async.server import LocalServer, sample_tree


@pytest_asyncio.fixture
async def client() -> AsyncIterator[EvalsClient]:
    """A client of a server with the sample tree."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(runs=40, items=40))
        async with EvalsClient(base_url=server.base_url, api_key="k", max_retries=0) as client:
            yield client


async def all_runs(client: EvalsClient) -> list[EvalRun]:
    """All runs of the server, oldest first."""
    return [run async for evaluation in client.evals.list() async for run in client.evals.runs.list(evaluation.id)]


def item(**fields: Any) -> OutputItem:
    """An output item, with an id unless one is given."""
    body: dict[str, Any] = {"id": "item_1", "status": "pass", **fields}
    return structure(body, OutputItem)


def run(**fields: Any) -> EvalRun:
    """A run, likewise."""
    body: dict[str, Any] = {"id": "evalrun_1", "status": "completed", **fields}
    return structure(body, EvalRun)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_run_is_a_flat_row() -> None:
    """Counts, pass rate, tokens by model, counts by criterion, metadata by key, and the time as a datetime."""
    usage = [
        {"model_name": "gpt-a", "total_tokens": 30, "prompt_tokens": 20},
        {"model_name": "gpt-b", "total_tokens": 5},
        {"model_name": "gpt-a", "total_tokens": 2},
    ]
    counts = {"total": 4, "passed": 3, "failed": 1, "errored": 0}
    criteria = [
        {"testing_criteria": "exact-b5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c11", "passed": 3, "failed": 1},
        {"testing_criteria": "exact-c5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c12", "passed": 4, "failed": 0},
    ]
    source = {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [{"item": {"q": 1}}]},
    }
    found = to_rows(
        [
            run(
                eval_id="eval_1",
                created_at=1_700_000_000,
                result_counts=counts,
                per_model_usage=usage,
                per_testing_criteria_results=criteria,
                metadata={"prompt": "v2", "total": "x"},
                data_source=source,
            )
        ]
    )
    assert [
        {
            **dict.fromkeys(("name", "model", "skipped", "error", "report_url")),
            "eval_id": "eval_1",
            "run_id": "evalrun_1",
            "status": "completed",
            "created_at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            "total": 4,
            "passed": 3,
            "failed": 1,
            "errored": 0,
            "pass_rate": 0.75,
            "total_tokens": 37,
            "data_source_type": "jsonl",
            "data_source": '{"type":"jsonl","source":{"type":"file_content"}}',
            "tokens.gpt-a": 32,
            "tokens.gpt-b": 5,
            "passed.exact": 3,
            "passed.exact #2": 4,
            "failed.exact": 1,
            "failed.exact #2": 0,
            "metadata.prompt": "v2",
            "metadata.total": "x",
        }
    ] == found


def test_foundrys_target_is_counted_once() -> None:
    """What a target used stands beside its model a second time: the columns of tokens add up to the total."""
    usage = [{"model_name": name, "total_tokens": 2877} for name in ("gpt-4.1", "azure_ai_model_target")]
    [row] = to_rows([run(per_model_usage=usage)])
    tokens = {name: value for name, value in row.items() if name.startswith("tokens.")}
    assert {"tokens.gpt-4.1": 2877} == tokens
    assert 2877 == row["total_tokens"]


def test_an_item_is_a_flat_row() -> None:
    """The answer, the tokens, a score and a verdict for each criterion, and the fields of the data source's row."""
    [row] = to_rows(
        [
            item(
                status="fail",
                datasource_item_id=7,
                datasource_item={"question": "2+2", "passed": "maybe", "list": [1, {"a": None}]},
                sample={"output": [{"role": "assistant", "content": "5"}], "usage": {"total_tokens": 12}},
                results=[{"name": "exact", "score": 0, "passed": False}, {"name": "close", "score": 0.5}],
            )
        ]
    )
    assert ("fail", False, False, 7, "5", 12) == tuple(
        row[name] for name in ("status", "passed", "is_error", "datasource_item_id", "output_text", "total_tokens")
    )
    assert (0.0, False, 0.5, None) == tuple(
        row[name] for name in ("score.exact", "passed.exact", "score.close", "passed.close")
    )
    assert ("2+2", "maybe", [1, {"a": None}]) == tuple(row[f"item.{name}"] for name in ("question", "passed", "list"))


def test_criteria_of_one_name_have_a_column_each() -> None:
    """Graders that share a name, and metrics of one evaluator, are told apart, in the same way in every row."""
    same = [("g-b5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c11", 1.0), ("g-c5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c12", 0.0)]
    metrics = [{"name": "f", "metric": name, "score": n} for n, name in enumerate(("a", "b"))]
    rows = to_rows(
        [
            item(eval_id="e", results=[*({"name": name, "score": score} for name, score in same), *metrics]),
            item(eval_id="e", results=[{"name": same[1][0], "score": 9.0}]),
            item(eval_id="other", results=[{"name": "g-d5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c13", "score": 4.0}]),
        ]
    )
    scores = [
        {name: value for name, value in row.items() if name.startswith("score.") and value is not None} for row in rows
    ]
    assert [
        {"score.g": 1.0, "score.g #2": 0.0, "score.f (a)": 0.0, "score.f (b)": 1.0},
        {"score.g #2": 9.0},
        {"score.g": 4.0},
    ] == scores


def test_rows_have_all_keys_in_one_order() -> None:
    """A field that only one row has is there in every row: nothing is lost where the first rows decide."""
    rows = to_rows([item(datasource_item={"a": 1}), item(datasource_item={"b": 2})])
    assert list(rows[0]) == list(rows[1])
    assert (1, None, None, 2) == (rows[0]["item.a"], rows[0]["item.b"], rows[1]["item.a"], rows[1]["item.b"])


def test_results_are_a_table_of_their_own() -> None:
    """`table="results"` gives a row for each item and criterion, with explanation and label."""
    results = [
        {"name": "fluency", "metric": "fluency", "score": 4, "label": "pass", "reason": "reads well", "passed": True},
        {"name": "tone", "type": "label_model", "score": None, "passed": None},
    ]
    rows = to_rows([item(datasource_item_id=3, results=results)], table="results")
    assert [
        ("item_1", 3, "fluency", "fluency", 4.0, True, "pass", "reads well"),
        ("item_1", 3, "tone", None, None, None, None, None),
    ] == [
        tuple(
            row[name]
            for name in ("item_id", "datasource_item_id", "grader", "metric", "score", "passed", "label", "explanation")
        )
        for row in rows
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in PAYLOADS.glob("item_*.json")))
def test_bodies_of_every_server_become_rows(name: str) -> None:
    """Output items as OpenAI and Foundry send them become rows, and Arrow tables of the same columns and verdicts."""
    pytest.importorskip("pyarrow")
    thing = structure(payload(name), OutputItem)
    table, rows = to_arrow([thing]), to_rows([thing])
    assert list(rows[0]) == table.schema.names
    assert (thing.id, thing.passed, thing.is_error) == tuple(
        rows[0][each] for each in ("item_id", "passed", "is_error")
    )
    assert [thing.passed] == table["passed"].to_pylist()
    assert len(thing.results or ()) == len([each for each in rows[0] if each.startswith("score.")])


# --- sources ----------------------------------------------------------------------------------------------------------


async def test_every_source_gives_the_same_rows(client: EvalsClient) -> None:
    """A page, a list, a listing, a fan-out, a list of outcomes: the same rows of the same runs."""
    evaluation = await anext(aiter(client.evals.list()))
    page = await client.evals.runs.list(evaluation.id, limit=100)
    expected = to_rows(page)
    assert len(page) == len(expected) > 3
    assert expected == to_rows(page.data)
    assert expected == to_rows(iter(page))
    assert expected == await to_rows(client.evals.runs.list(evaluation.id))
    assert expected == await to_rows(client.evals.runs.list_many([evaluation.id]))
    outcomes = [each async for each in client.evals.runs.list_many([evaluation.id])]
    assert expected == to_rows(outcomes)


async def test_arrow_has_the_same_values(client: EvalsClient) -> None:
    """Arrow tables of evals, runs, items and results have the columns and values of the rows."""
    pytest.importorskip("pyarrow")
    runs = await all_runs(client)
    evals = [each async for each in client.evals.list()]
    assert to_rows(runs) == to_arrow(runs).to_pylist()
    assert to_rows(evals) == to_arrow(evals).to_pylist()
    items = client.evals.runs.output_items
    rows = await to_rows(items.list_many(runs, concurrency=1))
    assert rows == (await to_arrow(items.list_many(runs, concurrency=1))).to_pylist()
    assert len(rows) > 1000
    results = await to_arrow(items.list_many(runs), table="results")
    scores: list[Any] = [
        value for row in rows for name, value in row.items() if name.startswith("score.") and value is not None
    ]
    assert sorted(scores) == sorted(value for value in results["score"].to_pylist() if value is not None)
    assert results.num_rows >= len(scores) > 1000
    parts = [part async for part in arrow_batches(items.list_many(runs, concurrency=1), size=300)]
    assert len(rows) == sum(part.num_rows for part in parts)
    assert len(rows) // 300 + 1 == len(parts)


async def test_a_failed_read_is_raised(client: EvalsClient) -> None:
    """A listing that fails in a fan-out is an error of the table: no rows are missing in silence."""
    evaluation = await anext(aiter(client.evals.list()))
    with pytest.raises(NotFound):
        await to_rows(client.evals.runs.list_many([evaluation.id, "eval_none"]))
    found = await client.evals.retrieve_many([evaluation.id, "eval_none"], on_error="return")
    with pytest.raises(NotFound):
        to_rows(found)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (run(), "got EvalRun"),
        ("evalrun_1", "got 'evalrun_1'"),
        ([1], "no table of int"),
        ([run(), item()], "a OutputItem does not belong in the table 'runs'"),
    ],
)
def test_what_is_no_source_is_said(source: Any, words: str) -> None:
    """A bare object, an id, and a mixture are refused with words that say what is taken."""
    with pytest.raises(InvalidArgument, match=words):
        to_rows(source)


def test_a_table_that_is_not_there() -> None:
    """The tables are named."""
    with pytest.raises(InvalidArgument, match="the tables are: evals, runs, items, results, files"):
        to_rows([run()], table="rows")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]  # on purpose


def test_nothing_is_an_empty_table() -> None:
    """Of nothing come no rows; with the table named, the columns are there with their types."""
    assert [] == to_rows([])
    pyarrow = pytest.importorskip("pyarrow")
    table = to_arrow([], table="runs")
    assert (0, pyarrow.float64(), pyarrow.timestamp("us", tz="UTC")) == (
        table.num_rows,
        table.schema.field("pass_rate").type,
        table.schema.field("created_at").type,
    )
    assert 0 == to_arrow([]).num_rows


# --- Arrow ------------------------------------------------------------------------------------------------------------

MIXTURES: list[tuple[list[Any], str, list[Any]]] = [
    ([1, 2], "int64", [1, 2]),
    ([1, 2.5, None], "double", [1.0, 2.5, None]),
    ([2**60, 0.5], "string", ["1152921504606846976", "0.5"]),
    ([2**70], "string", ["1180591620717411303424"]),
    ([True, None], "bool", [True, None]),
    ([True, 1], "string", ["true", "1"]),
    (["a", 1], "string", ["a", "1"]),
    ([None], "string", [None]),
    ([{"a": 1}, {"b": "x"}], "struct<a: int64, b: string>", [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    ([{"a": 1}, {"a": "x"}], "struct<a: string>", [{"a": "1"}, {"a": "x"}]),
    ([{"a": {"b": [1]}}], "struct<a: struct<b: list<item: int64>>>", [{"a": {"b": [1]}}]),
    ([{"a": 1}, [1]], "string", ['{"a": 1}', "[1]"]),
    ([[], [1, 2.5]], "list<item: double>", [[], [1.0, 2.5]]),
    ([[]], "list<item: string>", [[]]),
    ([{}], "string", ["{}"]),
    (["\ud800"], "string", ["\\ud800"]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), MIXTURES, ids=[str(each[0]) for each in MIXTURES])
@pytest.mark.parametrize("apart", [False, True])
def test_a_column_has_the_type_of_its_values(values: list[Any], kind: str, expected: list[Any], apart: bool) -> None:
    """Numbers are numbers, objects are structs, what does not fit together is JSON text, also across batches."""
    pytest.importorskip("pyarrow")
    filler = [item(datasource_item={"n": number}) for number in range(1000 if apart else 0)]
    items = [each for value in values for each in (item(datasource_item={"v": value}), *filler)]
    table = to_arrow(items)
    assert kind == str(table.schema.field("item.v").type)
    step = len(filler) + 1
    found = [None if value is None else compact(value) for value in table["item.v"].to_pylist()[::step]]
    assert [None if value is None else compact(value) for value in expected] == found


def compact(value: Any) -> Any:
    """JSON text without spaces."""
    return value.replace(": ", ":").replace(", ", ",") if isinstance(value, str) else value


def test_fields_without_end_share_a_column() -> None:
    """Rows with thousands of different fields make 500 columns and one of JSON text, in which nothing is lost."""
    pytest.importorskip("pyarrow")
    items = [item(datasource_item={f"f{number}": number, f"g{number}": "x"}) for number in range(1500)]
    rows = to_rows(items)
    assert 500 == len([name for name in rows[0] if name.startswith(("item.f", "item.g"))])
    assert (0, None) == (rows[0]["item.f0"], rows[0]["item.*"])
    assert '{"f1400":1400,"g1400":"x"}' == compact(rows[1400]["item.*"])
    assert [row["item.*"] for row in rows] == to_arrow(items)["item.*"].to_pylist()
    wide = to_arrow([item(datasource_item={"d": {str(n): n for n in range(300)}})])
    assert "string" == str(wide.schema.field("item.d").type)


async def test_a_thousand_things_are_in_memory_at_most() -> None:
    """A stream is packed batch by batch: the objects of one batch, and no more, are alive at a time."""
    pytest.importorskip("pyarrow")
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Marked(str):
        """A text that can be watched."""

        __slots__ = ("__weakref__",)

    async def stream() -> AsyncIterator[OutputItem]:
        nonlocal most
        for number in range(5000):
            text = Marked(number)
            alive.add(text)
            most = max(most, len(alive))
            yield OutputItem(id=str(number), status="pass", datasource_item={"n": text})

    gc.collect()
    table = await to_arrow(stream())
    assert list(map(str, range(5000))) == table["item.n"].to_pylist()
    assert 100 < most <= 1001


async def test_pandas_polars_and_duckdb_take_them(client: EvalsClient) -> None:
    """One line each: `pandas.DataFrame(to_rows(runs))`, `polars.from_arrow`, `duckdb.sql("from t")`."""
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    runs = await all_runs(client)
    frame = pandas.DataFrame(to_rows(runs))
    assert (len(runs), "float64") == (len(frame), str(frame["pass_rate"].dtype))
    assert re.fullmatch(r"datetime64\[\w+, UTC\]", str(frame["created_at"].dtype))  # pandas 2 counts ns, 3 counts us
    t = to_arrow(runs)
    assert (len(runs), polars.Float64) == (polars.from_arrow(t).height, polars.from_arrow(t).schema["pass_rate"])
    assert polars.Datetime("us", "UTC") == polars.from_arrow(t).schema["created_at"]
    [[count, mean]] = duckdb.sql("select count(*), avg(pass_rate) from t").fetchall()
    assert (len(runs), pytest.approx(frame["pass_rate"].mean())) == (count, mean)


async def test_failures_of_a_call_can_be_left_out() -> None:
    """Who wants the rows of what succeeded gives a generator of that."""

    async def read(number: int) -> EvalRun:
        if number == 1:
            raise NotFoundHere
        return run(id=f"evalrun_{number}")

    rows = await to_rows(outcome.unwrap() async for outcome in fan_out(read, range(3), ordered=True) if outcome.ok)
    assert ["evalrun_0", "evalrun_2"] == [row["run_id"] for row in rows]


class NotFoundHere(Exception):
    """A failure of the test's own."""


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows need no extra; Arrow says which."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 1 == len(to_rows([run()]))
    with pytest.raises(MissingExtra, match=r"pip install '\.\[arrow\]'"):
        to_arrow([run()])


# --- values that no column can hold ----------------------------------------------------------------------------------

BIG = 10**400  # a valid JSON number that no float can hold


def test_numbers_without_a_float_are_rows_too() -> None:
    """A score, counts and times of any size make no table impossible; a score that is too large is infinite."""
    results = [{"name": "A", "passed": True, "score": -BIG}]
    strange = item(id="2", created_at=BIG, datasource_item={"n": BIG}, results=results, sample={"usage": {}})
    rows = to_rows([item(datasource_item={"n": 0.5}), strange])
    assert [None, -math.inf] == [row["score.A"] for row in rows]
    assert [0.5, BIG] == [row["item.n"] for row in rows]
    (row,) = to_rows([run(result_counts={"total": 1, "passed": BIG}, created_at=BIG)])
    assert (None, None, BIG) == (row["pass_rate"], row["created_at"], row["passed"])
    pytest.importorskip("pyarrow")
    assert ["0.5", str(BIG)] == to_arrow([item(datasource_item={"n": 0.5}), strange])["item.n"].to_pylist()


def test_a_field_with_the_name_of_the_shared_column_is_not_lost() -> None:
    """The field `*` of an item is in the JSON text of the column `item.*`, with or without other fields there."""
    crowded = {f"field {number}": number for number in range(600)} | {"*": "a star"}
    for row in (to_rows([item(datasource_item={"*": "a star"})])[0], to_rows([item(datasource_item=crowded)])[0]):
        shared = row["item.*"]
        assert isinstance(shared, str)
        assert "a star" == json.loads(shared)["*"]
    pytest.importorskip("pyarrow")
    assert 1 == to_arrow([item(datasource_item=crowded)]).column_names.count("item.*")


async def test_batches_are_joined_where_a_column_was_empty_at_first() -> None:
    """A field that is null in the first table and a number, a text or an object in a later one can be joined."""
    pyarrow = pytest.importorskip("pyarrow")
    for value in (5, "text", {"a": {"b": [1]}}, [1], True):
        items = [item(datasource_item={"x": each}) for each in (None, value)]
        tables = [table async for table in arrow_batches(items, size=1)]
        assert [None, value] == pyarrow.concat_tables(tables, promote_options="permissive")["item.x"].to_pylist()


@pytest.mark.parametrize("size", [0, -1, math.nan, "x", True])
async def test_a_size_of_batches_is_a_whole_number(size: Any) -> None:
    """Another size is refused: NaN would collect all rows in memory."""
    pytest.importorskip("pyarrow")
    with pytest.raises(InvalidArgument, match="size must be"):
        _ = [table async for table in arrow_batches([item()], size=size)]

"""`grade_batches`: grading as a pure function from Arrow record batches to Arrow record batches.

It is what `regrade` runs on an archive, and what Ray, Spark or Dask run on a cluster: it keeps nothing, and equal rows
get equal grades wherever they are graded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any, TypeAlias

import attrs

from evals_async import InvalidArgument, MissingExtra, _json
from evals_async._extras import extra_missing
from evals_async._json import JSONObject, JSONValue, NotJSON, as_object
from evals_async.grading import Grade, TemplateError, grade
from evals_async.grading.graders import string_check, text_similarity
from evals_async.grading.python import PythonGraders
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.inference import Models


Criteria: TypeAlias = Mapping[str, Sequence[JSONObject]]
"""The criteria of each eval, by its id, as the API has them."""

CONCURRENCY = 32

KEYS = ("eval_id", "run_id", "item_id")
ROW_COLUMNS: Mapping[str, str] = {**dict.fromkeys((*KEYS, "item", "sample"), "string")}
"""The columns of rows to grade: the row (`item`) and what a model answered to it (`sample`, may be null) as JSON."""

GRADE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys((*KEYS, "criterion", "name", "type"), "string"),
    "score": "float64",
    "passed": "bool_",
    **dict.fromkeys(("label", "error", "cause", "usage", "notes"), "string"),
}
"""The columns of grades. `criterion` is the criterion's id, or its name where it has none; `error` and `cause` are
`code: message`, `usage` is JSON by model.
"""


def load_arrow() -> Any:
    """pyarrow. Raises `MissingExtra`."""
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingExtra(extra_missing("grading in batches needs", "arrow")) from error


def schema_of(columns: Mapping[str, str]) -> Any:
    pyarrow = load_arrow()
    return pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])


def batch_of(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> Any:
    """Rows as a record batch with those columns."""
    return load_arrow().RecordBatch.from_pylist(list(rows), schema=schema_of(columns))


# --- rows to grade ----------------------------------------------------------------------------------------------------


@attrs.frozen
class RowToGrade:
    """One row, with the names that templates see."""

    eval_id: str
    run_id: str
    item_id: str
    item: JSONObject
    sample: JSONObject | None

    def namespaces(self) -> Mapping[str, object]:
        """What templates see."""
        seen = None if self.sample is None else sample_namespace(self.sample)
        return {"item": self.item} if seen is None else {"item": self.item, "sample": seen}


def rows_of(batch: Any) -> list[RowToGrade]:
    """The rows of a batch: with the row as JSON in `item`, or of the table `items` with the columns `item.<field>`.

    Raises `InvalidArgument` for other columns.
    """
    names: list[str] = batch.schema.names
    if missing := [name for name in KEYS if name not in names]:
        raise InvalidArgument(f"the batch has no column {missing[0]}")
    fields = [name for name in names if name.startswith("item.")]
    if "item" not in names and not fields:
        raise InvalidArgument("the batch has no column item with the row as JSON, and no columns item.<field>")
    made = exact_row if "item" in names else table_row
    return [made(row) for row in batch.to_pylist()]


def exact_row(row: Mapping[str, Any]) -> RowToGrade:
    sample = row.get("sample")
    return RowToGrade(
        row["eval_id"], row["run_id"], row["item_id"], json_object(row["item"]), sample and json_object(sample)
    )


def table_row(row: Mapping[str, Any]) -> RowToGrade:
    """A row of the table of items: it has the answer's text, and not the tools that it called."""
    item = {name[5:]: value for name, value in row.items() if name.startswith("item.") and value is not None}
    text = row.get("output_text")
    sample = None if text is None else {"output_text": text, "model": row.get("model")}
    return RowToGrade(row["eval_id"], row["run_id"], row["item_id"], item, sample)


def json_object(text: str) -> JSONObject:
    try:
        return as_object(_json.parse(text.encode())) or {}
    except NotJSON as error:
        raise InvalidArgument(f"a row is no JSON object: {error}") from None


# --- grading ----------------------------------------------------------------------------------------------------------


def needs_loop(criterion: JSONObject) -> bool:
    """Is this a grader that waits for something: a model, or a process?"""
    kind = criterion.get("type")
    if kind == "text_similarity":
        return criterion.get("evaluation_metric") == "cosine"
    return kind != "string_check"


def needs_model(criterion: JSONObject) -> bool:
    """Is this a grader that asks a model, which costs?"""
    return needs_loop(criterion) and criterion.get("type") not in ("python", "azure_ai_evaluator")


def graded_here(criterion: JSONObject, namespaces: Mapping[str, object]) -> Grade:
    """The grade of a criterion that needs nothing but the row: that of `grade`, without an event loop."""
    try:
        by = string_check if criterion.get("type") == "string_check" else text_similarity
        score, passed = by(criterion, namespaces)
    except TemplateError as error:
        return Grade.failed("invalid_variable_error", str(error))
    except Unavailable as error:
        return Grade.failed(error.code, str(error))
    return Grade(score=score, passed=passed)


def name_of(criterion: JSONObject) -> str:
    """The id of a criterion, or its name where it has none: what results are filed under."""
    return str(criterion.get("id") or criterion.get("name") or "?")


def said(error: JSONObject | None) -> str | None:
    return None if error is None else f"{error.get('code')}: {error.get('message')}"


def grade_row(row: RowToGrade, criterion: JSONObject, given: Grade) -> dict[str, object]:
    """A grade as a row of the answer."""
    usage: JSONValue = {name: dict(counts) for name, counts in given.usage.items()}
    return {
        "eval_id": row.eval_id,
        "run_id": row.run_id,
        "item_id": row.item_id,
        "criterion": name_of(criterion),
        "name": str(criterion.get("name") or "?"),
        "type": str(criterion.get("type")),
        "score": given.score,
        "passed": given.passed,
        "label": given.label,
        "error": said(given.error),
        "cause": said(given.cause),
        "usage": _json.dump(usage).decode() if usage else None,
        "notes": "; ".join(given.notes) or None,
    }


Waiting: TypeAlias = Callable[[Sequence[tuple[RowToGrade, JSONObject]]], Sequence[Grade]]


def grade_batches(
    batches: Iterable[Any],
    criteria: Criteria,
    *,
    models: Callable[[], Models] | None = None,
    python: Callable[[], PythonGraders] | None = None,
    concurrency: int = CONCURRENCY,
) -> Generator[Any]:
    """Grade rows: Arrow record batches in, record batches out, one row per row and criterion of its eval.

    A batch has `eval_id`, `run_id`, `item_id`, and `item` and `sample` as JSON; or it is one of the table of items in
    an archive's Parquet directory (`item.<field>` and `output_text`). `models` and `python` make what judges and python
    graders need, in the process that grades; without them such criteria have an `error`. Up to `concurrency` of these
    are graded at once. What cannot be graded is no exception: the column `error` says why. Must not be called on a
    running event loop if criteria need models or python: use a thread. Raises `InvalidArgument` for batches with other
    columns, `MissingExtra` without pyarrow.
    """
    load_arrow()
    wait = any(needs_loop(criterion) for each in criteria.values() for criterion in each)
    if not wait:
        for batch in batches:
            yield graded_batch(rows_of(batch), criteria, None)
        return
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            asked = None if models is None else runner.run(entered(stack, models()))
            coded = None if python is None else runner.run(entered(stack, python()))

            def waiting(work: Sequence[tuple[RowToGrade, JSONObject]]) -> Sequence[Grade]:
                return runner.run(grade_many(work, asked, coded, concurrency))

            for batch in batches:
                yield graded_batch(rows_of(batch), criteria, waiting)
        finally:
            runner.run(stack.aclose())


async def entered(stack: AsyncExitStack, thing: Any) -> Any:
    return await stack.enter_async_context(thing)


def graded_batch(rows: Sequence[RowToGrade], criteria: Criteria, waiting: Waiting | None) -> Any:
    """The grades of one batch, row by row, in the order of the eval's criteria."""
    later = [(row, each) for row in rows for each in criteria.get(row.eval_id, ()) if needs_loop(each)]
    slow = iter(waiting(later) if waiting is not None and later else ())
    found: list[dict[str, object]] = []
    for row in rows:
        names = row.namespaces()
        found += [
            grade_row(row, each, next(slow) if needs_loop(each) else graded_here(each, names))
            for each in criteria.get(row.eval_id, ())
        ]
    return batch_of(found, GRADE_COLUMNS)


async def grade_many(
    work: Sequence[tuple[RowToGrade, JSONObject]],
    models: Models | None,
    python: PythonGraders | None,
    concurrency: int,
) -> list[Grade]:
    """The grades of rows by criteria that wait for something, so many at once."""
    places = asyncio.Semaphore(concurrency)

    async def one(row: RowToGrade, criterion: JSONObject) -> Grade:
        async with places:
            return await grade(criterion, item=row.item, sample=row.sample, models=models, python=python)

    async with asyncio.TaskGroup() as group:
        tasks: list[Awaitable[Grade]] = [group.create_task(one(*pair)) for pair in work]
    return [await task for task in tasks]

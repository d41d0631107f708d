"""`grade_batches`: grade Arrow record batches of rows. `regrade`, Ray, Spark and Dask use this function.

It is a pure function: it keeps nothing between batches except open connections.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
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
"""The criteria of each eval in the JSON format of the API, by eval id."""

CONCURRENCY = 32

KEYS = ("eval_id", "run_id", "item_id")
ROW_COLUMNS: Mapping[str, str] = {**dict.fromkeys((*KEYS, "item", "sample"), "string")}
"""The columns of rows to grade: the row (`item`) and the output of the model (`sample`, may be null) as JSON."""

GRADE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys((*KEYS, "criterion", "name", "type"), "string"),
    "score": "float64",
    "passed": "bool_",
    **dict.fromkeys(("label", "error", "cause", "usage", "notes"), "string"),
}
"""The columns of grades. `criterion` is the id of the criterion, or its name without one. `error` and `cause` have the
format `code: message`. `usage` is JSON by model.
"""


def load_arrow() -> Any:
    """Import pyarrow. Raises `MissingExtra`."""
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingExtra(extra_missing("grading in batches needs", "arrow")) from error


def schema_of(columns: Mapping[str, str]) -> Any:
    pyarrow = load_arrow()
    return pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])


def batch_of(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> Any:
    """Convert rows to a record batch with these columns."""
    return load_arrow().RecordBatch.from_pylist(list(rows), schema=schema_of(columns))


# --- rows to grade ----------------------------------------------------------------------------------------------------


@attrs.frozen
class RowToGrade:
    """One row to grade: its ids, the row itself and the sample."""

    eval_id: str
    run_id: str
    item_id: str
    item: JSONObject
    sample: JSONObject | None

    def namespaces(self) -> Mapping[str, object]:
        """Return the names for templates: `item`, and `sample` if there is one."""
        sample = None if self.sample is None else sample_namespace(self.sample)
        return {"item": self.item} if sample is None else {"item": self.item, "sample": sample}


def rows_of(batch: Any) -> list[RowToGrade]:
    """Return the rows of a batch, which has the row as JSON in `item` or in columns `item.<field>`.

    Raises `InvalidArgument` if neither exists, or if an id is missing.
    """
    names: list[str] = batch.schema.names
    if missing := [name for name in KEYS if name not in names]:
        raise InvalidArgument(f"the batch has no column {missing[0]}")
    fields = [name for name in names if name.startswith("item.")]
    if "item" not in names and not fields:
        raise InvalidArgument("the batch has neither a column item with the row as JSON, nor columns item.<field>")
    convert = exact_row if "item" in names else table_row
    return [convert(row) for row in batch.to_pylist()]


def exact_row(row: Mapping[str, Any]) -> RowToGrade:
    sample = row.get("sample")
    return RowToGrade(
        row["eval_id"], row["run_id"], row["item_id"], json_object(row["item"]), sample and json_object(sample)
    )


def table_row(row: Mapping[str, Any]) -> RowToGrade:
    """Convert a row of the `items` table. It has the text of the output, but no tool calls."""
    item = {name[5:]: value for name, value in row.items() if name.startswith("item.") and value is not None}
    text = row.get("output_text")
    sample = None if text is None else {"output_text": text, "model": row.get("model")}
    return RowToGrade(row["eval_id"], row["run_id"], row["item_id"], item, sample)


def json_object(text: str) -> JSONObject:
    try:
        return as_object(_json.parse(text.encode())) or {}
    except NotJSON as error:
        raise InvalidArgument(f"a row to grade must be a JSON object: {error}") from None


# --- grading ----------------------------------------------------------------------------------------------------------


def needs_loop(criterion: JSONObject) -> bool:
    """Return whether a grader needs an event loop, because it waits for a model or a process."""
    kind = criterion.get("type")
    if kind == "text_similarity":
        return criterion.get("evaluation_metric") == "cosine"
    return kind != "string_check"


def needs_model(criterion: JSONObject) -> bool:
    """Return whether a grader calls a model, which costs money."""
    return needs_loop(criterion) and criterion.get("type") not in ("python", "azure_ai_evaluator")


def grade_without_loop(criterion: JSONObject, namespaces: Mapping[str, object]) -> Grade:
    """Grade by a criterion that needs only the row. The result equals that of `grade`, without an event loop."""
    try:
        by = string_check if criterion.get("type") == "string_check" else text_similarity
        score, passed = by(criterion, namespaces)
    except TemplateError as error:
        return Grade.failed("invalid_variable_error", str(error))
    except Unavailable as error:
        return Grade.failed(error.code, str(error))
    return Grade(score=score, passed=passed)


def name_of(criterion: JSONObject) -> str:
    """Return the key of a criterion in results: its id, or its name without one."""
    return str(criterion.get("id") or criterion.get("name") or "?")


def error_text(error: JSONObject | None) -> str | None:
    return None if error is None else f"{error.get('code')}: {error.get('message')}"


def grade_row(row: RowToGrade, criterion: JSONObject, given: Grade) -> dict[str, object]:
    """Convert a grade to a row with `GRADE_COLUMNS`."""
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
        "error": error_text(given.error),
        "cause": error_text(given.cause),
        "usage": _json.dump(usage).decode() if usage else None,
        "notes": "; ".join(given.notes) or None,
    }


class Stopper:
    """Stops the grading of a batch from another thread: `stop()` cancels the calls to models and processes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def stop(self) -> None:
        """Cancel the batch that is being graded, and all later ones."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    async def run(self, work: Coroutine[Any, Any, list[Grade]]) -> list[Grade]:
        """Return the result of `work`. Raises `CancelledError` after `stop()`."""
        task = asyncio.ensure_future(work)
        with self._lock:
            self._running = asyncio.get_running_loop(), task
            if self._stopped:
                task.cancel()
        try:
            return await task
        finally:
            with self._lock:
                self._running = None


SlowGrader: TypeAlias = Callable[[Sequence[tuple[RowToGrade, JSONObject]]], Sequence[Grade]]


def grade_batches(
    batches: Iterable[Any],
    criteria: Criteria,
    *,
    models: Callable[[], Models] | None = None,
    python: Callable[[], PythonGraders] | None = None,
    concurrency: int = CONCURRENCY,
) -> Generator[Any]:
    """Grade rows. Yields one batch of grades per input batch, with one row per row and criterion of its eval.

    `batches` are Arrow record batches with `eval_id`, `run_id`, `item_id`, and `item` and `sample` as JSON. Batches of
    the `items` table in an archive's Parquet directory also work (`item.<field>` and `output_text`). `models` and
    `python` make the `Models` of judges and the `PythonGraders`, in this process; without them, such criteria have an
    `error`. Up to `concurrency` of these grades are computed at the same time. If a row cannot be graded, its `error`
    contains the reason. If a criterion needs models or python, do not call this on a running event loop: use a thread.
    Raises `InvalidArgument` for batches with other columns, and `MissingExtra` without pyarrow.
    """
    return graded_batches(batches, criteria, models, python, concurrency, Stopper())


def graded_batches(
    batches: Iterable[Any],
    criteria: Criteria,
    models: Callable[[], Models] | None,
    python: Callable[[], PythonGraders] | None,
    concurrency: int,
    stopper: Stopper,
) -> Generator[Any]:
    """Grade rows, as `grade_batches` does. `stopper` can end it from another thread."""
    load_arrow()
    wait = any(needs_loop(criterion) for each in criteria.values() for criterion in each)
    if not wait:
        for batch in batches:
            yield graded_batch(rows_of(batch), criteria, None)
        return
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            judges = None if models is None else runner.run(entered(stack, models()))
            code = None if python is None else runner.run(entered(stack, python()))

            def grade_slow(work: Sequence[tuple[RowToGrade, JSONObject]]) -> Sequence[Grade]:
                return runner.run(stopper.run(grade_many(work, judges, code, concurrency)))

            for batch in batches:
                yield graded_batch(rows_of(batch), criteria, grade_slow)
        finally:
            runner.run(stack.aclose())


async def entered(stack: AsyncExitStack, thing: Any) -> Any:
    return await stack.enter_async_context(thing)


def graded_batch(rows: Sequence[RowToGrade], criteria: Criteria, grade_slow: SlowGrader | None) -> Any:
    """Grade one batch; the grades of a row are in the order of its eval's criteria."""
    slow_work = [(row, each) for row in rows for each in criteria.get(row.eval_id, ()) if needs_loop(each)]
    slow = iter(grade_slow(slow_work) if grade_slow is not None and slow_work else ())
    found: list[dict[str, object]] = []
    for row in rows:
        names = row.namespaces()
        found += [
            grade_row(row, each, next(slow) if needs_loop(each) else grade_without_loop(each, names))
            for each in criteria.get(row.eval_id, ())
        ]
    return batch_of(found, GRADE_COLUMNS)


async def grade_many(
    work: Sequence[tuple[RowToGrade, JSONObject]],
    models: Models | None,
    python: PythonGraders | None,
    concurrency: int,
) -> list[Grade]:
    """Grade rows by judges and python graders, up to `concurrency` at the same time."""
    slots = asyncio.Semaphore(concurrency)

    async def one(row: RowToGrade, criterion: JSONObject) -> Grade:
        async with slots:
            return await grade(criterion, item=row.item, sample=row.sample, models=models, python=python)

    async with asyncio.TaskGroup() as group:
        tasks: list[Awaitable[Grade]] = [group.create_task(one(*pair)) for pair in work]
    return [await task for task in tasks]

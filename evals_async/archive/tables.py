"""An archive as tables: `evals`, `runs`, `items`, `results` (one row per item and grader) and `files`.

The columns are fixed, so that all evals fit into one table; what differs from eval to eval (the rows of a data source,
metadata) is JSON text. Rows are made lazily, in bounded memory. `pyarrow` is imported only by what needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from evals_async import _json
from evals_async._codec import encode
from evals_async._store.database import StrPath
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, models
from evals_async.errors import InvalidArgument, MissingExtra
from evals_async.models import Eval, EvalRun, File, OutputItem


TableName: TypeAlias = Literal["evals", "runs", "items", "results", "files"]
Cells: TypeAlias = dict[str, object]

MISSING = 'tables need the extra "arrow"; install it with: pip install "evals-async[arrow]"'
BATCH = 1000  # rows

COLUMNS: Mapping[TableName, Mapping[str, str]] = {
    "evals": {
        **dict.fromkeys(("eval_id", "name"), "string"),
        "created_at": "int64",
        **dict.fromkeys(("data_source_type", "criteria", "metadata"), "string"),
    },
    "runs": {
        **dict.fromkeys(("eval_id", "run_id", "name", "status", "model"), "string"),
        **dict.fromkeys(("created_at", "total", "passed", "failed", "errored", "total_tokens"), "int64"),
        "pass_rate": "float64",
        **dict.fromkeys(("error", "data_source", "metadata"), "string"),
    },
    "items": {
        **dict.fromkeys(("eval_id", "run_id", "item_id", "datasource_item_id"), "string"),
        "created_at": "int64",
        "status": "string",
        "passed": "bool",
        **dict.fromkeys(("error", "item", "output_text", "finish_reason", "model"), "string"),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens"), "int64"),
    },
    "results": {
        **dict.fromkeys(("eval_id", "run_id", "item_id", "grader", "metric"), "string"),
        "score": "float64",
        "passed": "bool",
        **dict.fromkeys(("explanation", "grader_id"), "string"),
    },
    "files": {
        **dict.fromkeys(("file_id", "filename", "purpose"), "string"),
        **dict.fromkeys(("bytes", "created_at"), "int64"),
        "sha256": "string",
    },
}
"""The columns of each table, with the names of their Arrow types."""


def json_or_none(value: object) -> str | None:
    return None if value is None else _json.dump(encode(value)).decode()


def text_or_none(value: object) -> str | None:
    """A text that UTF-8 can hold: a lone surrogate becomes its escape."""
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


# --- rows -------------------------------------------------------------------------------------------------------------


def eval_cells(thing: Eval) -> Cells:
    return {
        "eval_id": thing.id,
        "name": thing.name,
        "created_at": thing.created_at,
        "data_source_type": None if thing.data_source_config is None else thing.data_source_config.type,
        "criteria": json_or_none(thing.testing_criteria),
        "metadata": json_or_none(thing.metadata),
    }


def run_cells(run: EvalRun) -> Cells:
    counts, failure = run.result_counts, run.failure
    return {
        "eval_id": run.eval_id,
        "run_id": run.id,
        "name": run.name,
        "status": run.status,
        "model": run.model,
        "created_at": run.created_at,
        "total": None if counts is None else counts.total,
        "passed": None if counts is None else counts.passed,
        "failed": None if counts is None else counts.failed,
        "errored": None if counts is None else counts.errored,
        "total_tokens": run.total_tokens,
        "pass_rate": run.pass_rate,
        "error": None if failure is None else failure.message or failure.code,
        "data_source": json_or_none(run.data_source),
        "metadata": json_or_none(run.metadata),
    }


def item_cells(item: OutputItem, key: tuple[str, str]) -> Cells:
    sample = item.sample
    usage = None if sample is None else sample.usage
    failure = None if sample is None else sample.failure
    return {
        "eval_id": key[0],
        "run_id": key[1],
        "item_id": item.id,
        "datasource_item_id": item.datasource_item_id,
        "created_at": item.created_at,
        "status": item.status,
        "passed": item.passed,
        "error": None if failure is None else failure.message or failure.code,
        "item": json_or_none(item.datasource_item),
        "output_text": None if sample is None else sample.output_text,
        "finish_reason": None if sample is None else sample.finish_reason,
        "model": None if sample is None else sample.model,
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "total_tokens": None if usage is None else usage.total_tokens,
    }


def result_rows(item: OutputItem, key: tuple[str, str]) -> Iterator[Cells]:
    for result in item.results or ():
        yield {
            "eval_id": key[0],
            "run_id": key[1],
            "item_id": item.id,
            "grader": result.plain_name,
            "metric": result.metric,
            "score": None if result.score is None else float(result.score),
            "passed": result.passed,
            "explanation": result.explanation,
            "grader_id": result.name,
        }


def file_rows(source: ArchiveReader, report: ConversionReport) -> Iterator[Cells]:
    digests = dict(source.connection.execute("SELECT id, sha256 FROM files").fetchall())
    for file in models(source.texts("SELECT body FROM files ORDER BY created_at, id"), File, "a file", report):
        yield {
            "file_id": file.id,
            "filename": file.filename,
            "purpose": file.purpose,
            "bytes": file.bytes,
            "created_at": file.created_at,
            "sha256": digests.get(file.id),
        }


def eval_keys(source: ArchiveReader) -> list[str]:
    return [row[0] for row in source.connection.execute("SELECT id FROM evals ORDER BY created_at, id").fetchall()]


def run_keys(source: ArchiveReader, eval_id: str) -> list[str]:
    sql = "SELECT id FROM runs WHERE eval_id = ? ORDER BY created_at, id"
    return [row[0] for row in source.connection.execute(sql, (eval_id,)).fetchall()]


def table_rows(
    source: ArchiveReader, table: TableName, report: ConversionReport, eval_id: str | None = None
) -> Iterator[Cells]:
    """The rows of a table, of one eval or of all, with exactly its columns. What cannot be read is reported."""
    if table == "evals":
        yield from (eval_cells(each) for each in source.eval_models(report) if eval_id in (None, each.id))
    elif table == "files":
        yield from file_rows(source, report)
    else:
        for each in eval_keys(source) if eval_id is None else [eval_id]:
            if table == "runs":
                yield from map(run_cells, source.run_models(each, report))
            else:
                yield from below_runs(source, table, report, each)


def below_runs(source: ArchiveReader, table: TableName, report: ConversionReport, eval_id: str) -> Iterator[Cells]:
    for run_id in run_keys(source, eval_id):
        for item in source.item_models(eval_id, run_id, report):
            report_losses(item, table, report)
            if table == "items":
                yield item_cells(item, (eval_id, run_id))
            else:
                yield from result_rows(item, (eval_id, run_id))


def report_losses(item: OutputItem, table: TableName, report: ConversionReport) -> None:
    """What an item has and the tables have not."""
    if table == "results":
        if any(result.sample is not None for result in item.results or ()):
            report.add("approximated", "conversations with graders", "the explanation is kept, the messages are not")
        return
    if item.sample is not None and item.sample.input:
        report.add("dropped", "messages sent to the model", "the tables keep the row and the answer")
    if item.extra or (item.sample is not None and item.sample.extra):
        report.add("dropped", "fields of items that this version does not know", "the tables have fixed columns")


# --- Arrow ------------------------------------------------------------------------------------------------------------


def load_pyarrow(name: str = "pyarrow") -> Any:  # it has no types
    """pyarrow, or a part of it. Raises `MissingExtra`."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(MISSING) from error


def schema_of(columns: Mapping[str, str]) -> Any:
    pyarrow = load_pyarrow()
    types = {
        "string": pyarrow.string(),
        "int64": pyarrow.int64(),
        "float64": pyarrow.float64(),
        "bool": pyarrow.bool_(),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])


CASTS: Mapping[str, Callable[[object], object]] = {
    "string": text_or_none,
    "int64": lambda value: value if isinstance(value, int) and -(2**63) <= value < 2**63 else None,
    "float64": lambda value: float(value) if isinstance(value, int | float) else None,
    "bool": lambda value: value if isinstance(value, bool) else None,
}


def batches(rows: Iterator[Cells], columns: Mapping[str, str]) -> Iterator[Any]:
    """Those columns of rows as Arrow record batches."""
    pyarrow, schema = load_pyarrow(), schema_of(columns)
    while chunk := list(islice(rows, BATCH)):
        cells = [[CASTS[kind](row[name]) for row in chunk] for name, kind in columns.items()]
        arrays = [pyarrow.array(cell, field.type) for cell, field in zip(cells, schema, strict=True)]
        yield pyarrow.record_batch(arrays, schema=schema)


@attrs.frozen
class ArrowTable:
    """A table of an archive for everything that reads Arrow: `polars.DataFrame(t)`, `duckdb.sql("from t")`,
    `pandas.DataFrame.from_arrow(t)`, `pyarrow.table(t)`.

    The rows are read when they are asked for, a thousand at a time, each time anew. Needs the extra `arrow`.
    """

    path: Path
    name: TableName
    eval_id: str | None = None

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns."""
        return tuple(COLUMNS[self.name])

    def reader(self) -> Any:
        """A `pyarrow.RecordBatchReader` over all rows. Raises `MissingExtra`, `ArchiveError`."""
        pyarrow, columns = load_pyarrow(), COLUMNS[self.name]

        def read() -> Iterator[Any]:
            with ArchiveReader(self.path) as source:
                yield from batches(table_rows(source, self.name, ConversionReport(), self.eval_id), columns)

        return pyarrow.RecordBatchReader.from_batches(schema_of(columns), read())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def to_dicts(self) -> list[Cells]:
        """All rows as dicts; needs no extra."""
        with ArchiveReader(self.path) as source:
            return list(table_rows(source, self.name, ConversionReport(), self.eval_id))


def table_of(path: StrPath, name: str, eval_id: str | None = None) -> ArrowTable:
    """The table of that name. Raises `InvalidArgument` for any other, `MissingExtra` without pyarrow."""
    for known in COLUMNS:
        if known == name:
            load_pyarrow()
            return ArrowTable(Path(path), known, eval_id)
    raise InvalidArgument(f"there is no table {name!r}; there are: {', '.join(COLUMNS)}")

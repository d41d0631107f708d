"""An archive as tables: `evals`, `runs`, `items`, `results` (one row per item and criterion) and `files`.

Rows and columns are those of `evals_async.to_rows`. Rows are read twice, in bounded memory: first to find the columns,
then to return them. Both reads see the same state of the file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import attrs

from evals_async._store.database import StrPath
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, models
from evals_async.errors import InvalidArgument
from evals_async.models import EvalRun, File, OutputItem
from evals_async.tables import Row, TableName
from evals_async.tables._arrow import batches, load_pyarrow, schema_of
from evals_async.tables._cells import (
    CriterionNames,
    eval_row,
    file_row,
    item_row,
    result_rows,
    run_row,
    source_without_rows,
)
from evals_async.tables._columns import Columns, columns_of


TABLES: tuple[TableName, ...] = get_args(TableName)


def file_rows(source: ArchiveReader, report: ConversionReport) -> Iterator[Row]:
    digests = dict(source.connection.execute("SELECT id, sha256 FROM files").fetchall())
    for file in models(source.texts("SELECT body FROM files ORDER BY created_at, id"), File, "a file", report):
        yield file_row(file, digests.get(file.id))


def eval_keys(source: ArchiveReader) -> list[str]:
    return [row[0] for row in source.connection.execute("SELECT id FROM evals ORDER BY created_at, id").fetchall()]


def run_keys(source: ArchiveReader, eval_id: str) -> list[str]:
    sql = "SELECT id FROM runs WHERE eval_id = ? ORDER BY created_at, id"
    return [row[0] for row in source.connection.execute(sql, (eval_id,)).fetchall()]


def table_rows(
    source: ArchiveReader, table: TableName, report: ConversionReport, eval_id: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a table, for one eval or all. Objects that cannot be decoded are reported."""
    if table == "evals":
        yield from (eval_row(each) for each in source.eval_models(report) if eval_id in (None, each.id))
    elif table == "files":
        yield from file_rows(source, report)
    else:
        for each in eval_keys(source) if eval_id is None else [eval_id]:
            names = CriterionNames()  # names are unique within one eval
            if table == "runs":
                for run in source.run_models(each, report):
                    report_run(run, report)
                    yield {**run_row(run, names), "eval_id": each}
            else:
                yield from rows_of_runs(source, table, report, each, names)


def rows_of_runs(
    source: ArchiveReader, table: TableName, report: ConversionReport, eval_id: str, names: CriterionNames
) -> Iterator[Row]:
    for run_id in run_keys(source, eval_id):
        for item in source.item_models(eval_id, run_id, report):
            report_losses(item, table, report)
            if table == "items":
                yield item_row(item, names, (eval_id, run_id))
            else:
                yield from result_rows(item, names, (eval_id, run_id))


def report_run(run: EvalRun, report: ConversionReport) -> None:
    if source_without_rows(run)[1]:
        report.add("dropped", "rows inside the data sources of runs", "they are in the table of items")


def report_losses(item: OutputItem, table: TableName, report: ConversionReport) -> None:
    """Report what a table does not keep of an item."""
    if table == "results":
        if any(result.sample is not None for result in item.results or ()):
            report.add("approximated", "conversations with graders", "the explanation is kept, the messages are not")
        return
    if item.sample is not None and item.sample.input:
        report.add("dropped", "messages sent to the model", "the tables keep the row and the output")
    if item.extra or (item.sample is not None and item.sample.extra):
        report.add("dropped", "fields of items that this version does not define", "the tables have no column for them")


@attrs.frozen
class ArchiveTable:
    """A table of an archive: `pandas.DataFrame(t)`, `polars.DataFrame(t)`, `duckdb.sql("from t")`, `pyarrow.table(t)`.

    Iteration yields rows as dicts. As Arrow it needs the extra `arrow`. Each use reads the file again, in the thread of
    the caller and in bounded memory. Raises `ArchiveError` if the file cannot be read.
    """

    _path: Path
    name: TableName
    eval_id: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns. Reads all rows."""
        with self._opened() as (_, columns):
            return tuple(name for name, _ in columns.all())

    def __iter__(self) -> Iterator[Row]:
        with self._opened() as (source, columns):
            yield from columns.fill(self._rows(source))

    def to_rows(self) -> list[Row]:
        """Return all rows as dicts. Needs no extra."""
        return list(self)

    def reader(self) -> Any:
        """Return a `pyarrow.RecordBatchReader` over all rows. Raises `MissingExtra` without pyarrow."""
        pyarrow, stream = load_pyarrow(), self._stream()
        return pyarrow.RecordBatchReader.from_batches(next(stream), stream)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def _rows(self, source: ArchiveReader) -> Iterator[Row]:
        return table_rows(source, self.name, ConversionReport(), self.eval_id)

    def _stream(self) -> Iterator[Any]:
        """Yield the schema, then the batches. The file is closed at the end, or when the generator is dropped."""
        with self._opened() as (source, columns):
            yield schema_of(columns)
            yield from batches(self._rows(source), columns)

    @contextmanager
    def _opened(self) -> Generator[tuple[ArchiveReader, Columns]]:
        """Open a snapshot of the file; yields the reader and the columns."""
        with ArchiveReader(self._path) as source, source.snapshot():
            yield source, columns_of(self.name, self._rows(source))


def table_of(path: StrPath, name: str, eval_id: str | None = None) -> ArchiveTable:
    """Return the table with this name. Raises `InvalidArgument` for another name."""
    for table in TABLES:
        if table == name:
            return ArchiveTable(Path(path), table, eval_id)
    raise InvalidArgument(f"there is no table {name!r}; the tables are: {', '.join(TABLES)}")

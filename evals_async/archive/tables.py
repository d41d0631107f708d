"""An archive as tables: `evals`, `runs`, `items`, `results` (one row per item and criterion) and `files`.

Rows and columns are those of `evals_async.to_rows`. They are read lazily, in bounded memory; a first look over all rows
tells the columns, and both looks see the same state of the file.
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
    """The rows of a table, of one eval or of all. What cannot be read is reported."""
    if table == "evals":
        yield from (eval_row(each) for each in source.eval_models(report) if eval_id in (None, each.id))
    elif table == "files":
        yield from file_rows(source, report)
    else:
        for each in eval_keys(source) if eval_id is None else [eval_id]:
            names = CriterionNames()  # they are told apart within one eval
            if table == "runs":
                for run in source.run_models(each, report):
                    report_run(run, report)
                    yield {**run_row(run, names), "eval_id": each}
            else:
                yield from below_runs(source, table, report, each, names)


def below_runs(
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
        report.add("dropped", "rows inside of runs' data sources", "they are in the table of items")


def report_losses(item: OutputItem, table: TableName, report: ConversionReport) -> None:
    """What an item has and the tables have not."""
    if table == "results":
        if any(result.sample is not None for result in item.results or ()):
            report.add("approximated", "conversations with graders", "the explanation is kept, the messages are not")
        return
    if item.sample is not None and item.sample.input:
        report.add("dropped", "messages sent to the model", "the tables keep the row and the answer")
    if item.extra or (item.sample is not None and item.sample.extra):
        report.add("dropped", "fields of items that this version does not know", "the tables have no column for them")


@attrs.frozen
class ArchiveTable:
    """A table of an archive: `pandas.DataFrame(t)`, `polars.DataFrame(t)`, `duckdb.sql("from t")`, `pyarrow.table(t)`.

    Iterated over, it gives rows as `to_rows` does. As Arrow it needs the extra `arrow`. The file is read anew each
    time, in the caller's thread, and never all at once. Raises `ArchiveError` for what cannot be read.
    """

    _path: Path
    name: TableName
    eval_id: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns. Reads all rows once."""
        with self._opened() as (_, columns):
            return tuple(name for name, _ in columns.all())

    def __iter__(self) -> Iterator[Row]:
        with self._opened() as (source, columns):
            yield from columns.fill(self._rows(source))

    def to_rows(self) -> list[Row]:
        """All rows as dicts; needs no extra."""
        return list(self)

    def reader(self) -> Any:
        """A `pyarrow.RecordBatchReader` over all rows. Raises `MissingExtra`."""
        pyarrow, stream = load_pyarrow(), self._stream()
        return pyarrow.RecordBatchReader.from_batches(next(stream), stream)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def _rows(self, source: ArchiveReader) -> Iterator[Row]:
        return table_rows(source, self.name, ConversionReport(), self.eval_id)

    def _stream(self) -> Iterator[Any]:
        """The schema, then the batches. Once begun, it closes the file when it is dropped."""
        with self._opened() as (source, columns):
            yield schema_of(columns)
            yield from batches(self._rows(source), columns)

    @contextmanager
    def _opened(self) -> Generator[tuple[ArchiveReader, Columns]]:
        """The file in one state, with the columns of its rows."""
        with ArchiveReader(self._path) as source, source.snapshot():
            yield source, columns_of(self.name, self._rows(source))


def table_of(path: StrPath, name: str, eval_id: str | None = None) -> ArchiveTable:
    """The table of that name. Raises `InvalidArgument` for any other."""
    for known in TABLES:
        if known == name:
            return ArchiveTable(Path(path), known, eval_id)
    raise InvalidArgument(f"there is no table {name!r}; there are: {', '.join(TABLES)}")

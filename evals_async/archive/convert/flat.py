"""Write the tables of an archive as files: JSON Lines, CSV, or a partitioned directory of Parquet.

    rows/evals.jsonl  rows/runs.jsonl  rows/items.jsonl  rows/results.jsonl  rows/files.jsonl
    rows/items/eval_id=eval_abc/part-0.parquet ...                                               (Parquet)

DuckDB, Spark, Dask and Polars read the Parquet directory: `SELECT * FROM 'rows/items/**/*.parquet'`. The rows are made
in `archive.tables`.
"""

import csv
import io
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from evals_async import _json
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, Output, file_name
from evals_async.archive.tables import TABLES, eval_keys, table_rows
from evals_async.tables import Row, TableName
from evals_async.tables._arrow import batches, load_pyarrow, schema_of
from evals_async.tables._columns import Columns, clean, columns_of, exact


Format: TypeAlias = Literal["jsonl", "csv", "parquet"]

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet executes a text with this start as a formula
LONGEST_KEY = 200  # characters of a partition's value; file systems allow 255 for a name


def to_tables(source: ArchiveReader, out: Output, form: Format) -> None:
    """Write every table of an archive. Existing files with the same names are replaced.

    Raises `ArchiveError`, `OSError`, and for Parquet `MissingExtra`.
    """
    if form == "parquet":
        load_pyarrow()
    for table in TABLES:
        if form == "jsonl":
            write_jsonl(source, out, table)
        elif form == "csv":
            write_csv(source, out, table)
        else:
            write_parquet(source, out, table)
            report_older_parts(out, table)


def counted(rows: Iterator[Row], table: TableName, report: ConversionReport) -> Iterator[Row]:
    for row in rows:
        report.add("mapped", table)
        yield row


def reported_rows(source: ArchiveReader, out: Output, table: TableName, eval_id: str | None = None) -> Iterator[Row]:
    """Yield the rows of a table, and report them and their losses."""
    return counted(table_rows(source, table, out.report, eval_id), table, out.report)


def archive_columns(source: ArchiveReader, table: TableName) -> Columns:
    return columns_of(table, table_rows(source, table, ConversionReport()))


def write_jsonl(source: ArchiveReader, out: Output, table: TableName) -> None:
    """Write one JSON object per line. Nested values remain nested; times are ISO 8601."""
    with out.file(f"{table}.jsonl") as file:
        for row in reported_rows(source, out, table):
            file.write(_json.dump({name: cell(value) for name, value in row.items()}) + b"\n")


def cell(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):  # a score that no float can hold; JSON has no infinity
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def write_csv(source: ArchiveReader, out: Output, table: TableName) -> None:
    """Write CSV (RFC 4180, UTF-8) with a header. A text that looks like a formula gets a leading quote."""
    columns = archive_columns(source, table)
    names = [name for name, _ in columns.all()]
    with out.file(f"{table}.csv") as file, io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="") as text:
        writer = csv.writer(text)
        writer.writerow([harmless(name) for name in names])
        for row in columns.fill(reported_rows(source, out, table)):
            writer.writerow([harmless(row[name]) for name in names])


def harmless(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else value
    text = (
        clean(value) if isinstance(value, str) else value.isoformat() if isinstance(value, datetime) else exact(value)
    )
    return "'" + text if text.startswith(DANGEROUS) else text


def write_parquet(source: ArchiveReader, out: Output, table: TableName) -> None:
    """Write a table as one file. Runs, items and results have one file per eval: `runs/eval_id=…/part-0.parquet`.

    The eval id is then only in the path, as in every Hive partition. All files of a table have the same columns and
    types.
    """
    columns = archive_columns(source, table)
    if table in ("evals", "files"):
        write_part(reported_rows(source, out, table), columns, out, table, "part-0.parquet")
        return
    columns.shapes.pop("eval_id")
    for eval_id in eval_keys(source):
        rows = ({k: v for k, v in row.items() if k != "eval_id"} for row in reported_rows(source, out, table, eval_id))
        write_part(rows, columns, out, table, f"eval_id={partition(eval_id, out.report)}", "part-0.parquet")


def report_older_parts(out: Output, table: TableName) -> None:
    """Report the files of another archive in the directory of a table: whoever reads the directory reads them too."""
    written = set(out.report.written)
    for found in sorted((out.directory / table).rglob("*.parquet")):
        if found not in written:
            out.report.add("approximated", f"{table} of an earlier conversion", "they are in the same directory")


def partition(eval_id: str, report: ConversionReport) -> str:
    """Convert an id to the value of a partition."""
    # Capitals are escaped too, because some file systems ignore case.
    value = "".join(f"%{ord(each):X}" if "A" <= each <= "Z" else quote(each, safe="") for each in eval_id)
    if len(value) <= LONGEST_KEY:
        return value
    report.add("approximated", "ids that are too long for a file name", "in Parquet they are shortened, with a hash")
    return file_name(eval_id)


def write_part(rows: Iterator[Row], columns: Columns, out: Output, *parts: str) -> None:
    parquet = load_pyarrow("pyarrow.parquet")
    with out.file(*parts) as file, parquet.ParquetWriter(file, schema_of(columns), compression="zstd") as writer:
        for batch in batches(rows, columns):
            writer.write_batch(batch)

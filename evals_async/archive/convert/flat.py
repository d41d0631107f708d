"""Tables of an archive as files: JSON Lines, CSV, and a partitioned directory of Parquet. What is in them: `tables`.

    rows/evals.jsonl  rows/runs.jsonl  rows/items.jsonl  rows/results.jsonl  rows/files.jsonl
    rows/items/eval_id=eval_abc/part-0.parquet ...                                               (Parquet)

DuckDB, Spark, Dask and Polars read the Parquet directory as it is: `SELECT * FROM 'rows/items/**/*.parquet'`.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from evals_async import _json
from evals_async._json import NotJSON, as_array, as_object
from evals_async._store.database import StrPath
from evals_async.archive.convert.report import ArchiveReader, ConversionReport
from evals_async.archive.tables import (
    COLUMNS,
    Cells,
    TableName,
    batches,
    eval_keys,
    load_pyarrow,
    schema_of,
    table_rows,
)


Format: TypeAlias = Literal["jsonl", "csv", "parquet"]

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for the beginning of a formula


def to_rows(path: StrPath, directory: StrPath, form: Format) -> ConversionReport:
    """Write every table of the archive at `path` into `directory`, which is made. Files of the same names are replaced.

    Raises `ArchiveError`, `OSError`, and for Parquet `MissingExtra`.
    """
    report, place = ConversionReport(), Path(directory)
    if form == "parquet":
        load_pyarrow()
    place.mkdir(parents=True, exist_ok=True)
    with ArchiveReader(path) as source:
        for table in COLUMNS:
            if form == "parquet":
                write_parquet(source, place, table, report)
            else:
                write = write_jsonl if form == "jsonl" else write_csv
                target = place / f"{table}.{form}"
                write(counted(table_rows(source, table, report), table, report), target, table)
                report.written.append(target)
    return report


def counted(rows: Iterator[Cells], table: TableName, report: ConversionReport) -> Iterator[Cells]:
    for row in rows:
        report.add("mapped", table)
        yield row


def write_jsonl(rows: Iterator[Cells], target: Path, table: TableName) -> None:
    """One object to a line; JSON stands in it as JSON, and the fields of a data source's row as `item.…` too."""
    with target.open("wb") as file:
        for row in rows:
            file.write(_json.dump(unfolded(row)) + b"\n")


def unfolded(row: Cells) -> Cells:
    """A row whose columns of JSON text are JSON again."""
    whole: Cells = {}
    for name, value in row.items():
        if name in ("item", "metadata", "criteria", "data_source") and isinstance(value, str):
            whole[name] = _json.parse(value.encode())
            if name == "item":
                whole |= flattened(value)
        else:
            whole[name] = value
    return whole


def flattened(text: object) -> Cells:
    """The fields of a data source's row: `item.question`; what is nested stays JSON text."""
    try:
        found = as_object(_json.parse(text.encode())) if isinstance(text, str) else None
    except NotJSON:
        return {}
    return {f"item.{name}": cell_of(value) for name, value in (found or {}).items()}


def cell_of(value: object) -> object:
    nested = as_object(value) if as_array(value) is None else as_array(value)
    return value if nested is None else _json.dump(nested).decode()


def write_csv(rows: Iterator[Cells], target: Path, table: TableName) -> None:
    """RFC 4180, UTF-8, with a header. A text that a spreadsheet would run as a formula is given a leading quote."""
    with target.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS[table]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: harmless(value) for name, value in row.items()})


def harmless(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value if isinstance(value, str) and value.startswith(DANGEROUS) else value


def write_parquet(source: ArchiveReader, place: Path, table: TableName, report: ConversionReport) -> None:
    """A table as one file, or, for runs and all below them, one file for each eval: `runs/eval_id=…/part-0.parquet`.

    The eval's id then stands in the name alone, as in every directory that is partitioned in Hive's way.
    """
    columns = COLUMNS[table]
    if table in ("evals", "files"):
        write_part(table_rows(source, table, report), place / table / "part-0.parquet", table, columns, report)
        return
    inner = {name: kind for name, kind in columns.items() if name != "eval_id"}
    for eval_id in eval_keys(source):
        target = place / table / f"eval_id={quote(eval_id, safe='')}" / "part-0.parquet"
        write_part(table_rows(source, table, report, eval_id), target, table, inner, report)


def write_part(
    rows: Iterator[Cells], target: Path, table: TableName, columns: Mapping[str, str], report: ConversionReport
) -> None:
    parquet = load_pyarrow("pyarrow.parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    with parquet.ParquetWriter(target, schema_of(columns), compression="zstd") as writer:
        for batch in batches(counted(rows, table, report), columns):
            writer.write_batch(batch)
    report.written.append(target)

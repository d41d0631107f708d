"""The rows of a run: from its own data source, from a JSONL file, or from a CSV file.

`preparing` reads the bytes of a file.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping

import attrs

from evals_async._json import JSONObject, NotJSON, as_array, as_object
from evals_async.server.checks import parse_bounded


class BadRows(ValueError):
    """The rows of a run cannot be read, so the run fails."""


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class SourceRow:
    """One row of a data source: its item, and its sample, if it has one."""

    item: JSONObject
    sample: JSONObject | None


# The errors for sources that work on Foundry only.
FOUNDRY_SOURCES: Mapping[str, str] = {
    "azure_ai_target_completions": "agents and deployments of Microsoft Foundry can be called by Foundry only",
    "azure_ai_responses": "responses that Microsoft Foundry stored can be fetched by Foundry only",
}


def source_row(value: object, where: str) -> SourceRow:
    """Decode a row from a JSON value. Raises `BadRows`."""
    row = as_object(value) or {}
    item = as_object(row.get("item"))
    if item is None:
        raise BadRows(f"{where} has no object `item`")
    given = row.get("sample")
    sample = as_object(given)
    if given is not None and sample is None:
        raise BadRows(f"{where} has a `sample` that is not an object")
    return SourceRow(item, sample)


def rows_of_content(content: Iterable[object]) -> Iterator[SourceRow]:
    """Return the inline rows of a run. Raises `BadRows`."""
    for number, value in enumerate(content, 1):
        yield source_row(value, f"row {number}")


def rows_of_lines(lines: Iterable[bytes], first: int = 1) -> Iterator[SourceRow]:
    """Yield the rows in lines of a JSONL file. The first line has the number `first`. Empty lines are skipped.
    Raises `BadRows`, which names the line.
    """
    for number, line in enumerate(lines, first):
        if line.strip():
            try:
                value = parse_bounded(line)
            except NotJSON as error:
                raise BadRows(f"line {number} is not JSON: {error}") from None
            yield source_row(value, f"line {number}")


def rows_of_csv(data: bytes) -> Iterator[SourceRow]:
    """Return the rows of a CSV file in UTF-8. Each row is an item with the names of the header, and string values.

    Raises `BadRows` for a file without a header or with equal names in it, and for a line with more values than the
    header has names.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRows(f"the CSV file is not UTF-8: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise BadRows("the CSV file has no header")
        if len(set(header)) < len(header):  # the values of one of the columns would be lost
            name = next(name for name in header if header.count(name) > 1)
            raise BadRows(f"the header of the CSV file has the name {name!r:.80} more than once")
        for values in reader:
            if len(values) > len(header):
                raise BadRows(
                    f"line {reader.line_num} has {len(values)} values, but the header has {len(header)} names"
                )
            if values:
                yield SourceRow({**dict.fromkeys(header, ""), **dict(zip(header, values, strict=False))}, None)
    except csv.Error as error:
        raise BadRows(f"line {reader.line_num} is not valid CSV: {error}") from None


def row_source(data_source: JSONObject) -> JSONObject:
    """Return the part of a run's data source that says where the rows are."""
    if data_source.get("type") == "azure_ai_responses":
        data_source = as_object(data_source.get("item_generation_params")) or {}
    return as_object(data_source.get("source")) or {}


def content_of(source: JSONObject) -> list[object]:
    """Return the rows of a `file_content` source."""
    return list(as_array(source.get("content")) or ())

"""Reads the rows of a run in pieces, and stores them in the queue of the run.

If a row cannot be read, the run fails before any call to a model.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from evals_async._json import JSONObject, as_object, text_of_parsed
from evals_async._store import Database, executions, rows
from evals_async._store.executions import RunId
from evals_async.server.execution.source import (
    BadRows,
    SourceRow,
    content_of,
    row_source,
    rows_of_content,
    rows_of_csv,
    rows_of_lines,
)
from evals_async.server.execution.stored import answer_filter, stored_rows


# Rows, and their characters, that are stored in one transaction: some milliseconds of work. Each waits for the disk.
PIECE, PIECE_TEXT = 2000, 2**20
ROWS_PER_STEP = 200  # rows that are read before other tasks run
CHUNK = 4 * 2**20  # bytes of a file that are read at once
LONGEST_LINE = 32 * 2**20


async def lines_of_file(database: Database, file_id: str) -> AsyncIterator[list[bytes]]:
    """Yield the lines of a file, one piece of the file at a time. Raises `BadRows` if the file does not exist."""
    size = await database.call(rows.content_size, file_id)
    if size is None:
        raise BadRows(f"the file {file_id} does not exist")
    rest = b""
    for start in range(0, size, CHUNK):
        try:
            piece = await database.call(rows.content_piece, file_id, start, CHUNK)
        except LookupError:
            raise BadRows(f"the file {file_id} was deleted while it was read") from None
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise BadRows(f"a line of the file {file_id} has more than {LONGEST_LINE} bytes")
        yield lines
    if rest:
        yield [rest]


async def rows_of_file(database: Database, file_id: str) -> AsyncIterator[SourceRow]:
    """Yield the rows of a JSONL file. Raises `BadRows`, which names the line."""
    first = 1
    async for lines in lines_of_file(database, file_id):
        for row in rows_of_lines(lines, first):
            yield row
        first += len(lines)


def rows_of_run(database: Database, run: JSONObject) -> AsyncIterator[SourceRow]:
    """Yield the rows of a run, from its data source or from a file. Raises `BadRows`."""
    data_source = as_object(run["data_source"]) or {}
    source = row_source(data_source)
    if source.get("type") == "file_id" and data_source.get("type") != "csv":
        return rows_of_file(database, str(source.get("id")))
    return other_rows(database, run, data_source, source)


async def other_rows(
    database: Database, run: JSONObject, data_source: JSONObject, source: JSONObject
) -> AsyncIterator[SourceRow]:
    """Return the rows of a run that are not in a JSONL file. Raises `BadRows`."""
    kind, file_id = source.get("type"), str(source.get("id"))
    wanted = answer_filter(source, rows.integer_column(run.get("created_at")))
    if wanted is not None:
        found = False
        async for row in stored_rows(database, wanted, str(run["id"])):
            found = True
            yield row
        if not found:
            raise BadRows(
                f"a source of type {kind} needs stored responses, but no stored response of this server matches"
            )
        return
    given: Iterator[SourceRow]
    if kind == "file_content":
        given = rows_of_content(content_of(source))
    elif kind == "file_id":
        data = await database.call(rows.get_content, file_id)
        if data is None:
            raise BadRows(f"the file {file_id} does not exist")
        given = rows_of_csv(data)
    else:
        raise BadRows(f"a data source of type {data_source.get('type')} works on Microsoft Foundry only")
    for row in given:
        yield row


def row_text(row: SourceRow) -> str:
    """Return a row as JSON text for the queue."""
    return text_of_parsed({"item": row.item} if row.sample is None else {"item": row.item, "sample": row.sample})


async def put_down_rows(database: Database, run: JSONObject) -> int:
    """Store all rows of a run in its queue, and return their number. Rows of an interrupted call are deleted first.

    Raises `BadRows`, and then stores no rows.
    """
    key: RunId = (str(run["eval_id"]), str(run["id"]))
    await database.atomic(executions.clear_rows, key)
    piece: list[tuple[int, str]] = []
    total = size = 0
    try:
        async for row in rows_of_run(database, run):
            text = row_text(row)
            piece.append((total, text))
            total += 1
            size += len(text)
            if len(piece) == PIECE or size >= PIECE_TEXT:
                await database.atomic(executions.add_rows, key, piece)
                piece, size = [], 0
            elif total % ROWS_PER_STEP == 0:
                await asyncio.sleep(0)
        await database.atomic(executions.add_rows, key, piece)
    except BadRows:
        await database.atomic(executions.clear_rows, key)
        raise
    await database.atomic(executions.set_total, key, total)
    return total

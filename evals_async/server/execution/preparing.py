"""Where the rows of a run come from, read from the store in pieces, and put down to be worked on.

A run whose rows cannot all be read fails before the first of them is paid for.
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


# Rows, and their characters, that are put down in one transaction: some milliseconds of work. Each waits for the disk.
PIECE, PIECE_TEXT = 2000, 2**20
TURN = 200  # rows that are read before other tasks run
CHUNK = 4 * 2**20  # bytes of a file that are in memory at once
LONGEST_LINE = 32 * 2**20


async def lines_of_file(database: Database, file_id: str) -> AsyncIterator[list[bytes]]:
    """The lines of a file, those of one piece of it at a time. Raises `BadRows` for a file that is gone."""
    size = await database.call(rows.content_size, file_id)
    if size is None:
        raise BadRows(f"the file {file_id} is gone")
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
    """The rows of a JSONL file. Raises `BadRows`, which names the line."""
    first = 1
    async for lines in lines_of_file(database, file_id):
        for row in rows_of_lines(lines, first):
            yield row
        first += len(lines)


def rows_of_run(database: Database, run: JSONObject) -> AsyncIterator[SourceRow]:
    """The rows of a run, from itself or from a file; they raise `BadRows`."""
    data_source = as_object(run["data_source"]) or {}
    source = row_source(data_source)
    if source.get("type") == "file_id" and data_source.get("type") != "csv":
        return rows_of_file(database, str(source.get("id")))
    return other_rows(database, run, data_source, source)


async def other_rows(
    database: Database, run: JSONObject, data_source: JSONObject, source: JSONObject
) -> AsyncIterator[SourceRow]:
    """The rows of a run that are in no JSONL file. Raises `BadRows`."""
    kind, file_id = source.get("type"), str(source.get("id"))
    wanted = answer_filter(source, rows.integer_column(run.get("created_at")))
    if wanted is not None:
        found = False
        async for row in stored_rows(database, wanted, str(run["id"])):
            found = True
            yield row
        if not found:
            raise BadRows(f"a source of type {kind} needs stored answers, and none of this server fits")
        return
    given: Iterator[SourceRow]
    if kind == "file_content":
        given = rows_of_content(content_of(source))
    elif kind == "file_id":
        data = await database.call(rows.get_content, file_id)
        if data is None:
            raise BadRows(f"the file {file_id} is gone")
        given = rows_of_csv(data)
    else:
        raise BadRows(f"a data source of type {data_source.get('type')} is carried out by Microsoft Foundry only")
    for row in given:
        yield row


def row_text(row: SourceRow) -> str:
    """A row as it is put down."""
    return text_of_parsed({"item": row.item} if row.sample is None else {"item": row.item, "sample": row.sample})


async def put_down_rows(database: Database, run: JSONObject) -> int:
    """Put down all rows of a run, and say how many they are. Raises `BadRows`, and leaves none then.

    What an earlier try left is taken away first.
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
            elif total % TURN == 0:
                await asyncio.sleep(0)
        await database.atomic(executions.add_rows, key, piece)
    except BadRows:
        await database.atomic(executions.clear_rows, key)
        raise
    await database.atomic(executions.set_total, key, total)
    return total

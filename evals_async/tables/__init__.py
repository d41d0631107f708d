"""Evals, runs and output items as tables: `to_rows` returns flat dicts, `to_arrow` an Arrow table, with one schema.

    rows = to_rows(await client.evals.runs.list(eval_id))          # a page
    rows = await to_rows(client.evals.runs.list(eval_id))          # all pages
    table = await to_arrow(client.evals.runs.output_items.list_many(runs))
    table = await to_arrow(archive.runs())

The guide "Analysing runs" lists the columns. The tables of an archive and the files of `convert` use the same code.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator
from typing import Any, TypeAlias, cast, get_args, overload

from evals_async import Outcome
from evals_async._numbers import whole_number
from evals_async.errors import InvalidArgument
from evals_async.models import Eval, EvalRun, File, OutputItem
from evals_async.pagination import Page
from evals_async.tables._arrow import Builder, load_pyarrow
from evals_async.tables._cells import (
    CriterionNames,
    Row,
    TableName,
    Thing,
    eval_row,
    file_row,
    item_row,
    result_rows,
    run_row,
)
from evals_async.tables._columns import columns_of


__all__ = ["Row", "TableName", "arrow_batches", "to_arrow", "to_rows"]

Things: TypeAlias = Iterable[Thing] | Iterable[Outcome[Any, Thing]] | Page[Any]
ThingsToCome: TypeAlias = AsyncIterable[Thing] | AsyncIterable[Outcome[Any, Thing]]

NAMES: tuple[TableName, ...] = get_args(TableName)
TABLE_OF: dict[type, TableName] = {Eval: "evals", EvalRun: "runs", OutputItem: "items", File: "files"}


@overload
def to_rows(source: Page[Any], *, table: TableName | None = ...) -> list[Row]: ...
@overload
def to_rows(source: ThingsToCome, *, table: TableName | None = ...) -> Awaitable[list[Row]]: ...
@overload
def to_rows(source: Things, *, table: TableName | None = ...) -> list[Row]: ...
def to_rows(source: Things | ThingsToCome, *, table: TableName | None = None) -> list[Row] | Awaitable[list[Row]]:
    """Return one flat dict per eval, run, output item or file. All dicts have the same keys in the same order.

    `source` is a page, a list, or another iterable of these objects or of `Outcome`s. If it is asynchronous (a listing,
    a fan-out, `archive.runs()`), `await` the result. With `table="results"`, output items become one row per criterion.
    Raises the error of an `Outcome` that has one, and all errors of reading the source. Raises `InvalidArgument` if
    `source` contains other objects, or objects of several kinds.
    """
    maker = RowMaker(table)
    if isinstance(source, AsyncIterable) and not isinstance(source, Page):
        return collected(source, maker)
    return completed(maker, [row for thing in things_of(source) for row in maker.rows(thing)])


async def collected(source: ThingsToCome, maker: RowMaker) -> list[Row]:
    rows = [row async for thing in source for row in maker.rows(thing)]
    return completed(maker, rows)


def completed(maker: RowMaker, rows: list[Row]) -> list[Row]:
    """Return the rows, each with all columns of the table."""
    if maker.table is None:  # without an object there is no table name
        return rows
    return list(columns_of(maker.table, rows).fill(rows))


@overload
def to_arrow(source: Page[Any], *, table: TableName | None = ...) -> Any: ...
@overload
def to_arrow(source: ThingsToCome, *, table: TableName | None = ...) -> Awaitable[Any]: ...
@overload
def to_arrow(source: Things, *, table: TableName | None = ...) -> Any: ...
def to_arrow(source: Things | ThingsToCome, *, table: TableName | None = None) -> Any:
    """Return the rows of `to_rows` as a `pyarrow.Table`.

    Use it with `polars.from_arrow(t)`, `duckdb.sql("from t")` or `t.to_pandas()`. Numbers are numbers, times are
    timestamps in UTC, objects are structs. If the values of a field have different types, the column is JSON text. If
    `source` is asynchronous, `await` the result. It is converted in steps of 1,000 rows, so only the table and one step
    are in memory. `table` is needed for `"results"`, and if `source` may be empty. Raises the errors of `to_rows`, and
    `MissingExtra` without pyarrow.
    """
    maker = RowMaker(table)
    if isinstance(source, AsyncIterable) and not isinstance(source, Page):
        return packed(source, maker)
    builder = Packer(maker)
    for thing in things_of(source):
        builder.add(thing)
    return builder.finish()


async def packed(source: ThingsToCome, maker: RowMaker) -> Any:
    builder = Packer(maker)
    async for thing in source:
        builder.add(thing)
    return builder.finish()


async def arrow_batches(
    source: ThingsToCome | Things, *, table: TableName | None = None, size: int = 10_000
) -> AsyncIterator[Any]:
    """Yield the rows of `to_rows` as `pyarrow.Table`s of about `size` rows, for data that is larger than memory.

    Each table has only the columns and types of its rows; a column without values has the type null.
    `pyarrow.concat_tables(found, promote_options="permissive")` joins them, if no field has texts in one table and
    numbers or objects in another one. `to_arrow` converts such a field to JSON text. Raises the errors of `to_arrow`,
    and `InvalidArgument` for a `size` that is not a whole number from 1.
    """
    size = whole_number(size, "size")
    maker = RowMaker(table)
    builder = Packer(maker, nulls=True)
    async for thing in as_async(source):
        builder.add(thing)
        if builder.rows >= size:
            yield builder.finish()
            builder = Packer(maker, nulls=True)
    if builder.rows:
        yield builder.finish()


async def as_async(source: ThingsToCome | Things) -> AsyncIterator[object]:
    if isinstance(source, AsyncIterable) and not isinstance(source, Page):
        async for thing in source:
            yield thing
    else:
        for each in things_of(source):
            yield each


def things_of(source: object) -> Iterator[object]:
    if isinstance(source, str | bytes | dict) or not isinstance(source, Iterable):
        raise InvalidArgument(
            f"a table needs a list, a page or a listing of evals, runs, items or files, got {source!r:.80}"
        )
    return iter(cast("Iterable[object]", source))


class RowMaker:
    """Makes the rows of one table: the given `table`, or the table of the first object."""

    def __init__(self, table: TableName | None) -> None:
        if table is not None and table not in NAMES:
            raise InvalidArgument(f"there is no table {table!r}; the tables are: {', '.join(NAMES)}")
        self.table: TableName | None = table
        self.names = CriterionNames()

    def rows(self, found: object) -> Iterable[Row]:
        """Return the rows of one object. Raises the error of an `Outcome`, and `InvalidArgument` for other objects."""
        thing = cast("Outcome[object, object]", found).unwrap() if isinstance(found, Outcome) else found
        if isinstance(thing, Exception):
            raise thing
        natural = TABLE_OF.get(type(thing))
        if natural is None:
            raise InvalidArgument(f"there is no table of {type(thing).__name__}: {thing!r:.80}")
        self.table = self.table or natural
        if natural != self.table and (natural, self.table) != ("items", "results"):
            raise InvalidArgument(f"a {type(thing).__name__} does not belong in the table {self.table!r}")
        if isinstance(thing, OutputItem):
            return result_rows(thing, self.names) if self.table == "results" else (item_row(thing, self.names),)
        if isinstance(thing, EvalRun):
            return (run_row(thing, self.names),)
        return (eval_row(thing),) if isinstance(thing, Eval) else (file_row(cast("File", thing)),)


class Packer:
    """Builds an Arrow table from objects."""

    def __init__(self, maker: RowMaker, *, nulls: bool = False) -> None:
        self.maker = maker
        self.nulls = nulls
        self.rows = 0
        self.builder = None if maker.table is None else Builder(maker.table, nulls)

    def add(self, thing: object) -> None:
        for row in self.maker.rows(thing):
            if self.builder is None:
                self.builder = Builder(self.maker.table or "items", self.nulls)
            self.builder.add(row)
            self.rows += 1

    def finish(self) -> Any:
        return load_pyarrow().table({}) if self.builder is None else self.builder.finish()

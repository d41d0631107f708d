"""Convert rows to Arrow: types from shapes, arrays from values. Imports `pyarrow` when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import islice
from typing import Any

import attrs

from evals_async import _json
from evals_async._extras import extra_missing
from evals_async._json import as_array, as_object
from evals_async.errors import MissingExtra
from evals_async.tables._cells import Row, TableName
from evals_async.tables._columns import Columns, Kind, Shape, clean, columns_of, exact, json_of, kind_of


BATCH = 1000  # rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def load_pyarrow(name: str = "pyarrow") -> Any:  # it has no types
    """Import pyarrow or a module of it. Raises `MissingExtra`."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(extra_missing("Arrow tables need", "arrow")) from error


def type_of(shape: Shape, *, nulls: bool = False) -> Any:
    """Return the Arrow type of a column. With `nulls`, a column without values has the type null."""
    pyarrow = load_pyarrow()
    kind = shape.final
    if nulls and shape.kind == "null":
        return pyarrow.null()
    if kind == "struct":
        members = shape.members.items()
        return pyarrow.struct([(clean(name), type_of(member, nulls=nulls)) for name, member in members])
    if kind == "list":
        return pyarrow.list_(type_of(shape.element or Shape(), nulls=nulls))
    if kind == "time":
        return pyarrow.timestamp("us", tz="UTC")
    return {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}.get(kind, pyarrow.string())


def schema_of(columns: Columns, *, nulls: bool = False) -> Any:
    """Return the Arrow schema of a table. With `nulls`, columns without values have the type null."""
    return load_pyarrow().schema([(clean(name), type_of(shape, nulls=nulls)) for name, shape in columns.all()])


def microseconds(value: object) -> int | None:
    return (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else None


CASTS: Mapping[Kind, Callable[[object], object]] = {
    "bool": lambda value: value if isinstance(value, bool) else None,
    "int": lambda value: value if kind_of(value) == "int" else None,
    "float": lambda value: float(value) if isinstance(value, int | float) else None,
    "text": lambda value: None if value is None else clean(str(value)),
    "json": lambda value: None if value is None else json_of(value),
    "time": microseconds,
}


def caster(shape: Shape) -> Callable[[object], object]:
    """Return a function that converts a value to the Arrow type of this shape."""
    kind = shape.final
    if kind == "list":
        inner = caster(shape.element or Shape())
        return lambda value: None if value is None else [inner(each) for each in as_array(value) or ()]
    if kind == "struct":
        members = {name: (clean(name), caster(member)) for name, member in shape.members.items()}

        def cast_struct(value: object) -> object:
            found = as_object(value)
            if found is None:
                return None
            return {shown: cast(found.get(name)) for name, (shown, cast) in members.items()}

        return cast_struct
    return CASTS[kind]


def batch_of(rows: Sequence[Row], columns: Columns, schema: Any) -> Any:
    """Convert rows to one record batch with this schema."""
    pyarrow = load_pyarrow()
    whole = list(columns.fill(rows)) if columns.crowded else rows
    arrays: list[Any] = []
    for (name, shape), field in zip(columns.all(), schema, strict=True):
        cast = caster(shape)
        arrays.append(pyarrow.array([cast(row.get(name)) for row in whole], field.type))
    return pyarrow.record_batch(arrays, schema=schema)


def batches(rows: Iterable[Row], columns: Columns) -> Iterator[Any]:
    """Convert rows to record batches with one schema; one batch is in memory."""
    schema, left = schema_of(columns), iter(rows)
    while chunk := list(islice(left, BATCH)):
        yield batch_of(chunk, columns, schema)


# --- tables whose columns are found while reading ---------------------------------------------------------------------


@attrs.define
class Builder:
    """Builds a table row by row; the columns and their types are found while rows arrive.

    Full batches are stored as Arrow. A column of a batch has a plain type if all its values have this type, and is JSON
    text otherwise. `finish` converts the columns that do not yet have their final type.
    """

    table: TableName
    nulls: bool = False  # whether columns without values have the type null
    columns: Columns = attrs.field(init=False)
    waiting: list[Row] = attrs.Factory(list[Row])
    kept: list[dict[str, tuple[Any, Kind]]] = attrs.Factory(list[dict[str, tuple[Any, Kind]]])
    sizes: list[int] = attrs.Factory(list[int])

    def __attrs_post_init__(self) -> None:
        load_pyarrow()
        self.columns = Columns(self.table)

    def add(self, row: Row) -> None:
        """Add one row."""
        self.columns.add(row)
        self.waiting.append(row)
        if len(self.waiting) >= BATCH:
            self.pack()

    def pack(self) -> None:
        """Convert the waiting rows to Arrow."""
        pyarrow = load_pyarrow()
        rows, self.waiting = self.waiting, []
        if not rows:
            return
        whole = list(self.columns.fill(rows)) if self.columns.crowded else rows
        batch: dict[str, tuple[Any, Kind]] = {}
        for name, _ in self.columns.all():
            values = [row.get(name) for row in whole]
            kinds = set[Kind]()
            kinds.update(kind for value in values if (kind := kind_of(value)) != "null")
            if not kinds:
                continue
            common: Kind = kinds.pop() if len(kinds) == 1 else "json"
            if common in ("list", "struct", "json"):
                texts = [None if value is None else exact(value) for value in values]
                batch[name] = pyarrow.array(texts, pyarrow.string()), "json"
            else:
                shape = Shape(kind=common)
                batch[name] = pyarrow.array(list(map(caster(shape), values)), type_of(shape)), common
        self.kept.append(batch)
        self.sizes.append(len(rows))

    def finish(self) -> Any:
        """Return all rows as a `pyarrow.Table`."""
        pyarrow = load_pyarrow()
        self.pack()
        schema = schema_of(self.columns, nulls=self.nulls)
        arrays: list[Any] = []
        for (name, shape), field in zip(self.columns.all(), schema, strict=True):
            chunks = [self.chunk(batch.pop(name, None), shape, field.type, size) for batch, size in self.batches()]
            arrays.append(pyarrow.chunked_array(chunks, field.type))
        return pyarrow.table(arrays, schema=schema)

    def batches(self) -> Iterator[tuple[dict[str, tuple[Any, Kind]], int]]:
        return zip(self.kept, self.sizes, strict=True)

    def chunk(self, kept: tuple[Any, Kind] | None, shape: Shape, wanted: Any, size: int) -> Any:
        """Convert one column of one batch to its final type."""
        pyarrow = load_pyarrow()
        if kept is None:
            return pyarrow.nulls(size, wanted)
        array, kind = kept
        if kind != "json" and (kind == shape.final or (kind == "text" and shape.final == "json")):
            return array
        values = array.to_pylist()
        if kind == "json":
            values = [None if value is None else _json.parse(value.encode()) for value in values]
        cast = caster(shape)
        return pyarrow.array([cast(value) for value in values], wanted)


def table_of(table: TableName, rows: Iterable[Row]) -> Any:
    """Convert rows to a `pyarrow.Table`."""
    found = list(rows)
    columns = columns_of(table, found)
    return load_pyarrow().Table.from_batches(batches(found, columns), schema_of(columns))

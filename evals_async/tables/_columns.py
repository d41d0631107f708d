"""Find one type for every column from the values of its rows.

Integers and floats together become floats. Objects become structs with all fields that occur. Other mixed types become
JSON text. Nothing here needs an extra.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal, TypeAlias, cast

import attrs

from evals_async import _json
from evals_async._json import JSONValue, as_array, as_object
from evals_async.tables._cells import COLUMNS, MOST_FIELDS, PREFIXES, Row, TableName


Kind: TypeAlias = Literal["null", "bool", "int", "float", "text", "time", "list", "struct", "json"]

DEEPEST = 8  # levels of nested types; deeper values become JSON text
MOST_MEMBERS = 200  # fields of one struct; an object with more fields becomes JSON text
LARGEST_INT = 2**63 - 1
EXACT_INT = 2**53  # integers up to here are exact as floats


def kind_of(value: object) -> Kind:
    """Return the kind of one value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -LARGEST_INT <= value <= LARGEST_INT else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime):
        return "time"
    return "list" if as_array(value) is not None else "struct"


@attrs.define
class Shape:
    """The common type of a column's values so far."""

    depth: int = 0
    kind: Kind = "null"
    large: bool = False  # whether an integer is too large to be exact as a float
    element: Shape | None = None
    members: dict[str, Shape] = attrs.Factory(dict[str, "Shape"])

    def add(self, value: object) -> None:
        """Add one value."""
        kind = kind_of(value)
        if kind == "null" or self.kind == "json":
            return
        if kind in ("int", "float"):
            self.large = self.large or (isinstance(value, int) and not -EXACT_INT <= value <= EXACT_INT)
            if self.kind in ("null", "int", "float"):
                mixed = {"float"} & {self.kind, kind}
                self.kind = "json" if mixed and self.large else "float" if mixed else "int"
                return
        if self.kind not in ("null", kind) or (kind in ("list", "struct") and self.depth >= DEEPEST):
            self.kind = "json"
        else:
            self.kind = kind
        if self.kind == "list":
            self.add_list(value)
        elif self.kind == "struct":
            self.add_struct(value)
        else:
            self.element, self.members = None, {}

    def add_list(self, value: object) -> None:
        self.element = self.element or Shape(self.depth + 1)
        for each in as_array(value) or ():
            self.element.add(each)

    def add_struct(self, value: object) -> None:
        for name, member in (as_object(value) or {}).items():
            if name not in self.members:
                if len(self.members) >= MOST_MEMBERS:
                    self.kind, self.members = "json", {}
                    return
                self.members[name] = Shape(self.depth + 1)
            self.members[name].add(member)

    @property
    def final(self) -> Kind:
        """The kind of the whole column: text if all values are null, JSON text if all objects are empty."""
        if self.kind == "struct" and not self.members:
            return "json"
        return "text" if self.kind == "null" else self.kind


def json_of(value: object) -> str:
    """Return a string without a change, and other values as JSON text."""
    return clean(value) if isinstance(value, str) else exact(value)


def exact(value: object) -> str:
    """Return the JSON text of a value."""
    return _json.dump(cast("JSONValue", value)).decode()


def clean(text: str) -> str:
    """Replace lone surrogates by escapes, because UTF-8 cannot encode them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def fixed(kind: str) -> Shape:
    """Return the shape of a fixed column."""
    if kind == "texts":
        return Shape(kind="list", element=Shape(1, "text"))
    plain: tuple[Kind, ...] = ("bool", "int", "float", "text", "time")
    return next((Shape(kind=each) for each in plain if each == kind), Shape())


@attrs.define
class Columns:
    """The columns of a table: the fixed columns and the columns of its rows, in order."""

    table: TableName
    shapes: dict[str, Shape] = attrs.Factory(dict[str, Shape])
    found: dict[str, dict[str, Shape]] = attrs.Factory(dict[str, dict[str, Shape]])
    crowded: set[str] = attrs.Factory(set[str])

    def __attrs_post_init__(self) -> None:
        self.shapes = {name: fixed(kind) for name, kind in COLUMNS[self.table].items()}
        self.found = {prefix: {} for prefix in PREFIXES[self.table]}

    def add(self, row: Row) -> None:
        """Add the columns of one row."""
        shapes = self.shapes
        for name, value in row.items():
            if name in shapes:
                if COLUMNS[self.table][name] == "any":
                    shapes[name].add(value)
                continue
            prefix = name.partition(".")[0]
            columns = self.found[prefix]
            if name == f"{prefix}.*":  # a field with the name of the shared column
                self.crowded.add(prefix)
                continue
            if name not in columns:
                if len(columns) >= MOST_FIELDS:
                    self.crowded.add(prefix)
                    continue
                columns[name] = Shape()
            columns[name].add(value)

    def all(self) -> Iterator[tuple[str, Shape]]:
        """Yield every column with its shape. The shared column of a prefix (`item.*`) follows its other columns."""
        yield from self.shapes.items()
        for prefix, columns in self.found.items():
            yield from columns.items()
            if prefix in self.crowded:
                yield f"{prefix}.*", Shape(kind="json")

    def fill(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows, each with every column of the table, in order."""
        names = [name for name, _ in self.all()]
        for row in rows:
            full: Row = {name: row.get(name) for name in names}
            for prefix in self.crowded:
                full[f"{prefix}.*"] = self.rest(prefix, row)
            yield full

    def rest(self, prefix: str, row: Row) -> str | None:
        """Return the fields of a row without their own column as JSON text."""
        others = {
            name.removeprefix(f"{prefix}."): value
            for name, value in row.items()
            if name.startswith(f"{prefix}.") and name not in self.found[prefix]
        }
        return exact(others) if others else None


def columns_of(table: TableName, rows: Iterable[Row]) -> Columns:
    """Return the columns of these rows."""
    columns = Columns(table)
    for row in rows:
        columns.add(row)
    return columns

"""What kinds of values a column has: learned from the values, row by row, so that every column gets one type.

Integers and floats together are floats, objects are structs of all the fields that were seen, anything else that does
not fit together becomes JSON text. Nothing here needs an extra.
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

DEEPEST = 8  # levels of nested values that become types; what is deeper is JSON text
MOST_MEMBERS = 200  # fields of one struct; an object with more is a dictionary, and becomes JSON text
LARGEST_INT = 2**63 - 1
EXACT_INT = 2**53  # integers up to here are exact as floats


def kind_of(value: object) -> Kind:
    """The kind of one value, as it stands."""
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
    """What a column's values have in common so far."""

    depth: int = 0
    kind: Kind = "null"
    large: bool = False  # an integer that no float holds exactly
    element: Shape | None = None
    members: dict[str, Shape] = attrs.Factory(dict[str, "Shape"])

    def see(self, value: object) -> None:
        """Take one more value into account."""
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
            self.see_list(value)
        elif self.kind == "struct":
            self.see_struct(value)
        else:
            self.element, self.members = None, {}

    def see_list(self, value: object) -> None:
        self.element = self.element or Shape(self.depth + 1)
        for each in as_array(value) or ():
            self.element.see(each)

    def see_struct(self, value: object) -> None:
        for name, member in (as_object(value) or {}).items():
            if name not in self.members:
                if len(self.members) >= MOST_MEMBERS:
                    self.kind, self.members = "json", {}
                    return
                self.members[name] = Shape(self.depth + 1)
            self.members[name].see(member)

    @property
    def final(self) -> Kind:
        """The kind of the whole column: text where there was no value at all, JSON text for empty objects only."""
        if self.kind == "struct" and not self.members:
            return "json"
        return "text" if self.kind == "null" else self.kind


def json_of(value: object) -> str:
    """A value as text: a text as it is, anything else as JSON."""
    return clean(value) if isinstance(value, str) else exact(value)


def exact(value: object) -> str:
    """The JSON text of a value out of a JSON document."""
    return _json.dump(cast("JSONValue", value)).decode()


def clean(text: str) -> str:
    """A text that UTF-8 can hold: a lone surrogate becomes its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def fixed(kind: str) -> Shape:
    """The shape of a column whose kind is known from the start."""
    if kind == "texts":
        return Shape(kind="list", element=Shape(1, "text"))
    known: tuple[Kind, ...] = ("bool", "int", "float", "text", "time")
    return next((Shape(kind=each) for each in known if each == kind), Shape())


@attrs.define
class Columns:
    """The columns of a table: the fixed ones, and those that its rows brought along, in order."""

    table: TableName
    shapes: dict[str, Shape] = attrs.Factory(dict[str, Shape])
    found: dict[str, dict[str, Shape]] = attrs.Factory(dict[str, dict[str, Shape]])
    crowded: set[str] = attrs.Factory(set[str])

    def __attrs_post_init__(self) -> None:
        self.shapes = {name: fixed(kind) for name, kind in COLUMNS[self.table].items()}
        self.found = {prefix: {} for prefix in PREFIXES[self.table]}

    def see(self, row: Row) -> None:
        """Take a row into account."""
        known = self.shapes
        for name, value in row.items():
            if name in known:
                if COLUMNS[self.table][name] == "any":
                    known[name].see(value)
                continue
            prefix = name.partition(".")[0]
            columns = self.found[prefix]
            if name not in columns:
                if len(columns) >= MOST_FIELDS:
                    self.crowded.add(prefix)
                    continue
                columns[name] = Shape()
            columns[name].see(value)

    def all(self) -> Iterator[tuple[str, Shape]]:
        """Every column with its shape. `item` and the like, for what found no column of its own, come last."""
        yield from self.shapes.items()
        for prefix, columns in self.found.items():
            yield from columns.items()
            if prefix in self.crowded:
                yield f"{prefix}.*", Shape(kind="json")

    def fill(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, each with every column of the table, in order."""
        names = [name for name, _ in self.all()]
        for row in rows:
            full: Row = {name: row.get(name) for name in names}
            for prefix in self.crowded:
                full[f"{prefix}.*"] = self.rest(prefix, row)
            yield full

    def rest(self, prefix: str, row: Row) -> str | None:
        """The fields of a row that found no column, as JSON text."""
        beside = {
            name.removeprefix(f"{prefix}."): value
            for name, value in row.items()
            if name.startswith(f"{prefix}.") and name not in self.found[prefix]
        }
        return exact(beside) if beside else None


def seen(table: TableName, rows: Iterable[Row]) -> Columns:
    """The columns of rows, read once."""
    columns = Columns(table)
    for row in rows:
        columns.see(row)
    return columns

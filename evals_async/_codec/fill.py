"""Fills models from structs. Plain values are moved, frequent strings are shared, and arrays and unions are filled by
element. For each model there is a generated function.

A generated function needs few instructions per field. `source_of(EvalRun)` returns its source; tracebacks show it too.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast, get_args

import attrs
from msgspec import UNSET, to_builtins

from evals_async._codec.conversion import converter
from evals_async._codec.shapes import Memo, shared_names, shared_strings, unfrozen
from evals_async.models.base import MAKERS, NO_NULLS, NOTHING_EXTRA, Model


K = TypeVar("K", bound=Hashable)

Fill: TypeAlias = Callable[[Any], Any]
"""Makes the value of a model from the value of a struct. It never fails."""

LONGEST_SHARED = 2  # fields of a class whose empty object is shared


@attrs.frozen
class StructField:
    """A field of a struct, and how the field of the model is filled from it."""

    name: str
    wire: str  # its name in JSON
    kind: Any  # its type, for msgspec
    filling: Filling | None  # None: the value is moved unchanged
    optional: bool  # whether it may be missing or null
    repeats: bool = False  # whether many objects have the same text
    deferred: bool = False  # whether the struct is stored, and the value is made at the first read


# The classes that follow are plain: a class of attrs takes half a millisecond of each start.


class Words:
    """Fills strings. Each known string is one object."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def function(self) -> Fill:
        known = self.known
        return lambda value: known.get(value, value)


class Each:
    """Fills arrays: the same for each element."""

    def __init__(self, element: Filling) -> None:
        self.element = element

    def function(self) -> Fill:
        fill = self.element.function()
        return lambda values: tuple(map(fill, values))


class EachValue:
    """Fills maps: the same for each value."""

    def __init__(self, value: Filling) -> None:
        self.value = value

    def function(self) -> Fill:
        fill = self.value.function()
        return lambda values: {key: fill(value) for key, value in values.items()}


class OneOf:
    """Fills unions by the type of the value. A value of another type is moved unchanged."""

    def __init__(self, table: dict[type, Filling]) -> None:
        self.table = table

    def functions(self) -> dict[type, Fill]:
        return made_later({kind: filling.function for kind, filling in self.table.items()}, {})

    def function(self) -> Fill:
        functions = self.functions()

        def fill_one_of(value: Any) -> Any:
            fill = functions.get(cast("type[object]", type(value)))
            return value if fill is None else fill(value)

        return fill_one_of


class OneOfTags:
    """Fills the members of a union that share a struct, by the tag, which may be missing."""

    def __init__(self, table: dict[str, Fill]) -> None:
        self.table = table

    def function(self) -> Fill:
        table = self.table
        return lambda value: table[value.type or ""](value)


class OneClass:
    """Fills one model, by its generated function, or by the same lines in another function.

    With `tag`, the struct has this tag as its type.
    """

    def __init__(self, model: type[Model], columns: list[StructField], tag: str | None = None) -> None:
        self.model, self.columns, self.tag = model, columns, tag

    def function(self) -> Fill:
        return fill_of_class(self)


Filling: TypeAlias = Words | Each | EachValue | OneOf | OneOfTags | OneClass
"""How the value of a model is made from the value of a struct."""


class Source:
    """The lines of a generated function, and the names that they use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines = [f"def {name}(struct):"]
        self.names: dict[str, Any] = {"MISSING": UNSET, "NOTHING_EXTRA": NOTHING_EXTRA, "NO_NULLS": NO_NULLS}

    def add(self, *lines: str) -> None:
        self.lines.extend(indented([*lines]))

    def compile(self) -> Fill:
        text = "\n".join(self.lines) + "\n"
        filename = f"<codec: {self.name}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self.names)  # noqa: S102  # our own text, from our own classes
        function: Fill = self.names[self.name]
        return function


def source_of(model: type[Model]) -> str:
    """Return the source of the function that fills a class, after its first use."""
    return "".join(linecache.getlines(f"<codec: fill_{model.__name__}>"))


def made_later(makers: Mapping[K, Callable[[], Fill]], table: dict[K, Fill]) -> dict[K, Fill]:
    """Add functions to a table. Each is made at its first use: a document has few of the members of a union."""

    def later(key: K, make: Callable[[], Fill]) -> Fill:
        def make_and_fill(value: Any) -> Any:
            fill = table[key] = make()
            return fill(value)

        return make_and_fill

    for key, make in makers.items():
        table.setdefault(key, later(key, make))
    return table


@cache
def fill_of_class(one: OneClass) -> Fill:
    """Return the function that fills a model from its struct."""
    model, columns, tag = one.model, one.columns, one.tag
    source = Source(f"fill_{'tagged_' if tag else ''}{model.__name__}")
    if len(columns) <= LONGEST_SHARED and all(column.optional and column.filling is None for column in columns):
        # Items without an error have an object with two nulls. All of them are one object.
        source.names["empty"] = model(nulls=shared_names[frozenset(column.wire for column in columns)])
        source.add(f"if {' is '.join(f'struct.{column.name}' for column in columns)} is None: return empty")
    source.add("missing = MISSING", *body(source, model, columns, tag), "return model")
    return source.compile()


def fill_of_variant(model: type[Model], columns: list[StructField], merged: set[str], union: Any) -> Fill:
    """The function that fills a model from a struct that has the fields of all members of `union`.

    Where the object lacks something, or has fields of another member, the hooks say what it is.
    """
    source = Source(f"fill_merged_{model.__name__}")
    own = {column.name for column in columns}
    required = [column.name for column in columns if not column.optional and column.name != "type"]
    lacking = [f"struct.{name} is missing or struct.{name} is None" for name in required]
    foreign = [f"struct.{name} is not missing" for name in sorted(merged - own)]

    def by_hooks(struct: object) -> Any:
        return converter().get_structure_hook(union)(to_builtins(struct), union)

    source.names["by_hooks"] = by_hooks
    source.add("missing = MISSING", f"if {' or '.join([*lacking, *foreign])}: return by_hooks(struct)")
    source.add(*body(source, model, columns), "return model")
    return source.compile()


def body(
    source: Source, model: type[Model], columns: list[StructField], tag: str | None = None, path: str = ""
) -> list[str]:
    """Add the lines that fill `model` from `struct`. For a nested model, both names end with its `path`."""
    nulls_of: Memo[int, frozenset[str]] = Memo(lambda bits: names_of(bits, columns))
    source.names |= {f"Unfrozen{path}": unfrozen(model), f"Frozen{path}": model, f"nulls_of{path}": nulls_of}
    optional = any(column.optional for column in columns)
    lines = [f"model{path} = Unfrozen{path}()", *([f"nulls{path} = 0"] if optional else [])]
    for position, column in enumerate(columns):
        lines += move(source, column, 1 << position, path)
    if tag is not None:
        lines.append(f"model{path}.type = {tag!r}")
    lines.append(f"model{path}.extra = NOTHING_EXTRA")
    nulls = f"nulls_of{path}[nulls{path}] if nulls{path} else NO_NULLS" if optional else "NO_NULLS"
    return [*lines, f"model{path}.nulls = {nulls}", f"model{path}.__class__ = Frozen{path}"]


def names_of(bits: int, columns: list[StructField]) -> frozenset[str]:
    return shared_names[frozenset(column.wire for position, column in enumerate(columns) if bits >> position & 1)]


def move(source: Source, column: StructField, bit: int, path: str) -> list[str]:
    """Add the lines that move one field, and set its bit if it is null."""
    field = f"model{path}.{column.name}"
    lines = defer(column) if column.deferred else making(source, column, path)
    if not (lines or column.optional):
        return [f"{field} = struct{path}.{column.name}"]
    load = f"v = struct{path}.{column.name}"
    if not column.optional:
        return [load, *lines, f"{field} = v"]
    absent = [f"if v is missing: {field} = None", f"elif v is None: {field} = None; nulls{path} += {bit}"]
    return [load, *absent, "else:", *indented([*lines, f"{field} = v"])]


def defer(column: StructField) -> list[str]:
    """Store the struct: `MAKERS` tells the model how to make the value of it at the first read. No lines are needed."""
    filling = column.filling
    if filling is not None:
        fillings = filling.table if isinstance(filling, OneOf) else {column.kind: filling}
        made_later({kind: each.function for kind, each in fillings.items()}, MAKERS)
    return []


def indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def making(source: Source, column: StructField, path: str) -> list[str]:
    """Add the lines that make the value of the model from `v`, with as few calls as possible."""
    filling = column.filling
    name = f"{path}_{column.name}"
    if column.repeats:
        source.names["strings"] = shared_strings
        return ["v = strings[v]"]
    if filling is None:
        return []
    if isinstance(filling, Words):
        source.names[f"known{name}"] = filling.known.get
        return [f"v = known{name}(v, v)"]
    if isinstance(filling, OneOf):
        source.names[f"fills{name}"] = filling.functions().get
        choose = [f"fill = fills{name}(type(v))", "if fill is not None: v = fill(v)"]
        for kind, tags in filling.table.items():
            if isinstance(tags, OneOfTags):  # there is at most one, and it is the most frequent
                source.names |= {f"Merged{name}": kind, f"tags{name}": tags.table}
                choose = [f"if type(v) is Merged{name}: v = tags{name}[v.type or ''](v)", "else:", *indented(choose)]
        # A value that may have several types is usually text.
        return choose if str not in get_args(column.kind) else ["if type(v) is not str:", *indented(choose)]
    if isinstance(filling, OneOfTags):
        source.names[f"fills{name}"] = filling.table
        return [f"v = fills{name}[v.type or ''](v)"]
    if isinstance(filling, OneClass) and len(filling.columns) > LONGEST_SHARED:
        # This saves a call for each part of an output item.
        lines = body(source, filling.model, filling.columns, filling.tag, name)
        return [f"struct{name} = v", *lines, f"v = model{name}"]
    function = f"fill{name}"
    if not isinstance(filling, Each):
        source.names[function] = filling.function()
        return [f"v = {function}(v)"]
    source.names[function] = filling.element.function()
    # Most arrays are short, so their elements are written out.
    return [
        "n = len(v)",
        f"if n == 1: v = ({function}(v[0]),)",
        f"elif n == 2: v = ({function}(v[0]), {function}(v[1]))",
        f"else: v = tuple(map({function}, v))",
    ]

"""What fills models from structs: plain values stay, words are shared, arrays and unions go element by element, and for
each model there is a function that is written as source.

Written out, a field costs three instructions, and a test for null or missing where it is optional. `source_of(EvalRun)`
shows such a function; tracebacks show it too.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any, TypeAlias, cast, get_args

import attrs
from msgspec import UNSET, to_builtins

from evals_async._codec.conversion import converter
from evals_async._codec.shapes import Table, shared_names, shared_strings, unfrozen
from evals_async.models.base import NO_NULLS, NOTHING_EXTRA, Model


Fill: TypeAlias = Callable[[Any], Any]
"""Makes what a model has of what the struct has. It never fails."""

LONGEST_SHARED = 2  # fields of a class whose empty object is shared


@attrs.frozen
class Column:
    """A field of a struct, and how the model's field is filled from it."""

    name: str
    wire: str  # its name in JSON
    kind: Any  # its type, for msgspec
    filling: Filling | None  # None: the value stays as it is
    optional: bool  # may it be missing, or null?
    repeats: bool = False  # do many objects have the same text in it?


@attrs.frozen(eq=False)
class Words:
    """Fills strings, some of which are known: of those there is one object."""

    known: dict[str, str]

    def function(self) -> Fill:
        known = self.known
        return lambda value: known.get(value, value)


@attrs.frozen(eq=False)
class Each:
    """Fills arrays: the same for each element."""

    element: Filling

    def function(self) -> Fill:
        fill = self.element.function()
        return lambda values: tuple(map(fill, values))


@attrs.frozen(eq=False)
class EachValue:
    """Fills maps: the same for each value."""

    value: Filling

    def function(self) -> Fill:
        fill = self.value.function()
        return lambda values: {key: fill(value) for key, value in values.items()}


@attrs.frozen(eq=False)
class OneOf:
    """Fills unions by the type of the value. What has no entry stays as it is."""

    table: dict[type, Filling]

    def functions(self) -> dict[type, Fill]:
        return {kind: filling.function() for kind, filling in self.table.items()}

    def function(self) -> Fill:
        functions = self.functions()

        def fill_one_of(value: Any) -> Any:
            fill = functions.get(cast("type[object]", type(value)))
            return value if fill is None else fill(value)

        return fill_one_of


@attrs.frozen(eq=False)
class OneOfTags:
    """Fills the members of a union that share a struct, by the tag, which may be missing."""

    table: dict[str, Fill]

    def function(self) -> Fill:
        table = self.table
        return lambda value: table[value.type or ""](value)


@attrs.frozen(eq=False)
class OneClass:
    """Fills one model."""

    fill: Fill

    def function(self) -> Fill:
        return self.fill


Filling: TypeAlias = Words | Each | EachValue | OneOf | OneOfTags | OneClass
"""How a model's value is made of the struct's."""


class Source:
    """Lines of a function under construction, and the names that they use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines = [f"def {name}(struct):"]
        self.names: dict[str, Any] = {}

    def add(self, text: str, indent: int = 1) -> None:
        self.lines.extend("    " * indent + line for line in text.splitlines())

    def compile(self) -> Fill:
        text = "\n".join(self.lines) + "\n"
        filename = f"<codec: {self.name}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self.names)  # noqa: S102  # our own text, from our own classes
        function: Fill = self.names[self.name]
        return function


def source_of(model: type[Model]) -> str:
    """The source of the function that fills a class, once it was used."""
    return "".join(linecache.getlines(f"<codec: fill_{model.__name__}>"))


def fill_of_class(model: type[Model], columns: list[Column], tag: str | None = None) -> Fill:
    """The function that fills a model from its struct; with a `tag`, from a struct that has it as its type."""
    source = Source(f"fill_{'tagged_' if tag else ''}{model.__name__}")
    if len(columns) <= LONGEST_SHARED and all(column.optional and column.filling is None for column in columns):
        # An error that is none has two nulls, and a page of items hundreds of them: all are one object.
        source.names["empty"] = model(nulls=shared_names[frozenset(column.wire for column in columns)])
        source.add(f"if {' is '.join(f'struct.{column.name}' for column in columns)} is None: return empty")
    write_body(source, model, columns)
    if tag is not None:
        source.add(f"model.type = {tag!r}")
    return write_end(source, model)


def fill_of_variant(model: type[Model], columns: list[Column], merged: set[str], union: Any) -> Fill:
    """The function that fills a model from a struct that has the fields of all members of `union`.

    Where the object lacks something, or has fields of another member, the hooks say what it is.
    """
    source = Source(f"fill_merged_{model.__name__}")
    own = {column.name for column in columns}
    required = [column.name for column in columns if not column.optional and column.name != "type"]
    missing = [f"struct.{name} is MISSING or struct.{name} is None" for name in required]
    foreign = [f"struct.{name} is not MISSING" for name in sorted(merged - own)]

    def by_hooks(struct: object) -> Any:
        return converter.get_structure_hook(union)(to_builtins(struct), union)

    source.names["by_hooks"] = by_hooks
    source.add(f"if {' or '.join([*missing, *foreign])}: return by_hooks(struct)")
    write_body(source, model, columns)
    return write_end(source, model)


def write_body(source: Source, model: type[Model], columns: list[Column]) -> None:
    """Add the lines that move the fields from `struct` to `model`, and set bits for those that are null."""
    source.names |= {"MISSING": UNSET, "Unfrozen": unfrozen(model), "Frozen": model}
    source.names |= {"NOTHING_EXTRA": NOTHING_EXTRA, "NO_NULLS": NO_NULLS}
    nulls_of: Table[int, frozenset[str]] = Table(lambda bits: names_of(bits, columns))
    source.names["nulls_of"] = nulls_of
    optional = any(column.optional for column in columns)
    source.add("model = Unfrozen()\nnulls = 0\nmissing = MISSING" if optional else "model = Unfrozen()")
    for position, column in enumerate(columns):
        write_column(source, column, 1 << position)
    source.add("model.extra = NOTHING_EXTRA")
    source.add("model.nulls = nulls_of[nulls] if nulls else NO_NULLS" if optional else "model.nulls = NO_NULLS")


def write_end(source: Source, model: type[Model]) -> Fill:
    source.add("model.__class__ = Frozen\nreturn model")
    return source.compile()


def names_of(bits: int, columns: list[Column]) -> frozenset[str]:
    return shared_names[frozenset(column.wire for position, column in enumerate(columns) if bits >> position & 1)]


def write_column(source: Source, column: Column, bit: int) -> None:
    """Add the lines that move one field."""
    lines = lines_of(source, column)
    if not (lines or column.optional):
        source.add(f"model.{column.name} = struct.{column.name}")
        return
    source.add(f"v = struct.{column.name}")
    if column.optional:
        source.add(f"if v is missing: model.{column.name} = None")
        source.add(f"elif v is None: model.{column.name} = None; nulls |= {bit}")
        source.add("else:")
    for line in [*lines, f"model.{column.name} = v"]:
        source.add(line, indent=2 if column.optional else 1)


def lines_of(source: Source, column: Column) -> list[str]:
    """The lines that make the model's value of the struct's value `v`, with as few calls as there can be."""
    name, filling = column.name, column.filling
    if column.repeats:
        source.names["strings"] = shared_strings
        return ["v = strings[v]"]
    if filling is None:
        return []
    if isinstance(filling, Words):
        source.names[f"known_{name}"] = filling.known.get
        return [f"v = known_{name}(v, v)"]
    if isinstance(filling, OneOf):
        source.names[f"fills_{name}"] = filling.functions().get
        choose = [f"fill = fills_{name}(type(v))", "if fill is not None: v = fill(v)"]
        # Text is by far the commonest of what may also be something else.
        return choose if str not in get_args(column.kind) else ["if type(v) is not str:", *("    " + c for c in choose)]
    function = f"fill_{name}"
    if isinstance(filling, OneOfTags):
        source.names[function] = filling.table
        return [f"v = {function}[v.type or ''](v)"]
    if not isinstance(filling, Each):
        source.names[function] = filling.function()
        return [f"v = {function}(v)"]
    source.names[function] = filling.element.function()
    # Most arrays are short: spelled out, a page of output items takes a twentieth less time.
    return [
        "n = len(v)",
        f"if n == 1: v = ({function}(v[0]),)",
        f"elif n == 2: v = ({function}(v[0]), {function}(v[1]))",
        f"else: v = tuple(map({function}, v))",
    ]

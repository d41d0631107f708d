"""What makes the values of models out of records: plain functions, and a function written as source for each model.

A `Maker` takes what stands in a record and gives what stands in the model. Which record a class has, and which makers
its fields, is the business of `records`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import cattrs

from evals_async._codec.classes import SourceCode, note_nulls, unfrozen
from evals_async._codec.leaves import Hook
from evals_async._json import RecordField, missing_value
from evals_async.models.base import NO_NULLS, NOTHING_EXTRA, Model


Maker: TypeAlias = Callable[[Any], Any]
"""Makes the value of a model's field of what stands in the record."""

LONGEST_SHARED = 2  # fields of a class whose empty object is shared


class General:
    """Makes values by the hooks of `classes` and `unions`, looked up on the first use."""

    def __init__(self, shape: Any, converter: cattrs.BaseConverter) -> None:
        self.shape = shape
        self.converter = converter
        self.hook: Hook | None = None

    def __call__(self, value: Any) -> Any:
        if self.hook is None:
            self.hook = self.converter.get_structure_hook(self.shape)
        return self.hook(value, None)


class Shared:
    """Makes one object of equal strings that are known: they repeat in every run that is kept."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def __call__(self, value: str) -> str:
        return self.known.get(value, value)


class Each:
    """Makes tuples of lists, and of each element what `make` makes of it."""

    def __init__(self, make: Maker | None) -> None:
        self.make = make

    def __call__(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values if self.make is None else tuple(map(self.make, values))


class Choice:
    """Makes values of the kinds of records that have a function in its table, and leaves all others."""

    def __init__(self, table: dict[type, Maker]) -> None:
        self.table = table
        self.makers = tuple(table.values())  # the table's own are replaced by functions as those are written
        for make in table.values():
            if isinstance(make, Filler):
                make.tables.append(table)

    def __call__(self, value: Any) -> Any:
        make = self.table.get(cast("type[object]", type(value)))
        return value if make is None else make(value)


class Nulls:
    """The set of names whose bits are set, made once for each set of bits that comes: most runs share a handful."""

    def __init__(self, model: type[Model], names: list[str]) -> None:
        self.model = model
        self.names = names
        self.known: dict[int, frozenset[str]] = {0: NO_NULLS}

    def __call__(self, bits: int) -> frozenset[str]:
        names = frozenset(name for position, name in enumerate(self.names) if bits >> position & 1)
        self.known[bits] = note_nulls(self.model, names)
        return self.known[bits]


class Filler:
    """Fills a model from its record, by a function that is written on the first use."""

    def __init__(
        self, model: type[Model], columns: list[RecordField], makers: list[Maker | None], tag: str | None
    ) -> None:
        self.model = model
        self.columns = columns
        self.makers = makers
        self.tag = tag
        self.function: Maker | None = None
        self.tables: list[dict[type, Maker]] = []  # where it stands until then

    def __call__(self, value: Any) -> Any:
        return self.written()(value)

    def written(self) -> Maker:
        if self.function is None:
            self.function = self.write()
            for table in self.tables:
                table.update((kind, self.function) for kind, make in table.items() if make is self)
        return self.function

    def write(self) -> Maker:
        source = SourceCode()
        nulls = Nulls(self.model, [field.wire for field in self.columns])
        source.names |= {
            "MISSING": missing_value(),
            "NOTHING_EXTRA": NOTHING_EXTRA,
            "NO_NULLS": NO_NULLS,
            "Unfrozen": unfrozen(self.model),
            "model": self.model,
            "nulls": nulls.known,
            "nulls_of": nulls,
        }
        name = f"fill_{'' if self.tag is None else 'tagged_'}{self.model.__name__}"
        source.add(f"def {name}(record):", indent=0)
        if (
            len(self.columns) <= LONGEST_SHARED
            and not any(self.makers)
            and all(field.nullable for field in self.columns)
        ):
            # An error that is not one has two nulls, and a page of items hundreds of them: all are one object.
            source.names["empty"] = self.model(nulls=note_nulls(self.model, frozenset(nulls.names)))
            source.add(f"if {' is '.join(f'record.{field.name}' for field in self.columns)} is None: return empty")
        may_be_null = any(field.nullable for field in self.columns)
        source.add("o = Unfrozen()\nbits = 0" if may_be_null else "o = Unfrozen()")
        for position, (field, make) in enumerate(zip(self.columns, self.makers, strict=True)):
            write_column(field, make, 1 << position, source)
        if self.tag is not None:
            source.add(f"o.type = {self.tag!r}")
        source.add("o.extra = NOTHING_EXTRA")
        if may_be_null:
            source.add("try: o.nulls = nulls[bits]\nexcept KeyError: o.nulls = nulls_of(bits)")
        else:
            source.add("o.nulls = NO_NULLS")
        source.add("o.__class__ = model\nreturn o")
        return source.compile(name)


def may_refuse(make: object, *within: object) -> bool:
    """May it raise a `Mismatch`, because hooks have a part in it?"""
    inner = make.makers if isinstance(make, Choice | Filler) else (make.make,) if isinstance(make, Each) else ()
    return isinstance(make, General) or (make not in within and any(may_refuse(one, make, *within) for one in inner))


def write_column(field: RecordField, make: Maker | None, bit: int, source: SourceCode) -> None:
    """Add the lines that move one value from the record into the model."""
    lines = made_by(make, field.name, source)
    if not (lines or field.nullable):
        source.add(f"o.{field.name} = record.{field.name}")
        return
    source.add(f"v = record.{field.name}")
    if field.nullable:
        source.add(f"if v is None: bits |= {bit}\nelif v is MISSING: v = None")
    if lines and field.optional:
        source.add("else:" if field.nullable else "if v is not None:")
    for line in lines:
        source.add(line, indent=2 if field.optional else 1)
    source.add(f"o.{field.name} = v")


def made_by(make: Maker | None, name: str, source: SourceCode) -> list[str]:
    """The lines that make a field's value `v` of what the record has, with as few calls as there can be."""
    if make is None:
        return []
    if isinstance(make, Choice):
        source.names[f"table_{name}"] = make.table
        choose = [f"make = table_{name}.get(type(v))", "if make is not None: v = make(v)"]
        # Text is by far the commonest of what may also be something else.
        return ["if type(v) is not str:", *("    " + line for line in choose)]
    if isinstance(make, Shared):
        source.names[f"known_{name}"] = make.known.get
        return [f"v = known_{name}(v, v)"]
    inner = make.make if isinstance(make, Each) else make
    if inner is None:
        return []
    function = f"make_{name}"
    source.names[function] = inner.written() if isinstance(inner, Filler) else inner
    if not isinstance(make, Each):
        return [f"v = {function}(v)"]
    # Most arrays are short: spelled out, a page of output items takes a twentieth less time.
    return [
        "n = len(v)",
        f"if n == 1: v = ({function}(v[0]),)",
        f"elif n == 2: v = ({function}(v[0]), {function}(v[1]))",
        f"else: v = tuple(map({function}, v))",
    ]

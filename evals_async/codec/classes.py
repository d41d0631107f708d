"""The functions that turn a JSON object into one model class and back, written as source, one pair per class.

What the source does that a general function cannot: the type checks stand inline, a field costs one dictionary look-up,
unknown fields cost one comparison of counts, and the object is filled without the frozen `__init__`.
`source_of(EvalRun)` shows it. Tracebacks show it too.
"""

import linecache
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs

from evals_async.codec.leaves import PRIMITIVES, Hook, is_union, literals
from evals_async.codec.mismatch import Mismatch, choice, json_type, missing, wrong
from evals_async.jsontext import JSONObject, JSONValue
from evals_async.models.base import NO_NULLS, NOTHING_EXTRA, Model


MISSING = object()
"""What a look-up gives for a field that is not there; `None` is a value."""


class Source:
    """Lines of source under construction, and the names they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}

    def add(self, text: str, indent: int = 1) -> None:
        self.lines.extend("    " * indent + line for line in text.splitlines())

    def compile(self, name: str) -> Callable[..., Any]:
        text = "\n".join(self.lines) + "\n"
        filename = f"<codec: {name}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self.names)  # noqa: S102  # our own text, from our own classes
        function: Callable[..., Any] = self.names[name]
        return function


def wire_name(field: "attrs.Attribute[Any]") -> str:
    """The field's name in JSON."""
    name: str = field.metadata.get("wire", field.name)
    return name


def wire_fields(model: type[Model]) -> "list[attrs.Attribute[Any]]":
    """The fields of a model that stand in its JSON: all but the two book-keeping ones of `Model`."""
    return [field for field in attrs.fields(model) if field.name not in ("extra", "nulls")]


def source_of(model: type[Model]) -> str:
    """The source of a class's structuring function, once it has been used."""
    return "".join(linecache.getlines(f"<codec: structure_{model.__name__}>"))


def thawed(model: type[Model]) -> type:
    """A class of the same layout whose instances can be filled by plain assignment, and then be declared to be of
    `model`.

    That takes a third of the time of the frozen `__init__`: 0.3 against 1.0 us for eight fields. CPython allows it
    (`__class__` assignment between classes of equal `__slots__` and bases); a test holds every model to it.
    """
    slots = [name for name in model.__dict__["__slots__"] if name != "__weakref__"]
    return type(model.__name__, model.__bases__, {"__slots__": slots, "__setattr__": object.__setattr__})


def condition(shape: Any, name: str, source: Source) -> tuple[str, str, str]:
    """For a field type that is checked inline: the test of `v`, the value to keep, and what to call it in an error."""
    members = get_args(shape) if is_union(shape) else (shape,)
    if all(get_origin(member) is Literal or member is str for member in members) and members != (str,):
        source.names[f"known_{name}"] = known = {k: v for m in members if m is not str for k, v in literals(m).items()}
        if str in members:
            return "type(v) is str", f"known_{name}.get(v, v)", "str"
        return f"type(v) is str and v in known_{name}", f"known_{name}[v]", choice(known)
    if shape == JSONObject:
        return "type(v) is dict", "v", "object"
    if shape in PRIMITIVES:
        return " or ".join(f"type(v) is {kind.__name__}" for kind in PRIMITIVES[shape]), "v", shape.__name__
    return "", "", "a value"


def write_field(field: "attrs.Attribute[Any]", bit: int, source: Source, converter: cattrs.BaseConverter) -> None:
    """Add the lines that read one field into `o`."""
    name, wire = field.name, wire_name(field)
    shape: Any = field.type
    step = f".{wire}"
    if shape == JSONValue:
        source.add(
            f"v = get({wire!r}, MISSING)\n"
            f"if v is None: o.{name} = None; nulls |= {bit}\n"
            f"elif v is MISSING: o.{name} = None; absent += 1\n"
            f"else: o.{name} = v"
        )
        return
    optional = is_union(shape) and type(None) in get_args(shape)
    if optional:
        shape = without_none(shape)
    test, value, expected = condition(shape, name, source)
    source.add(f"v = get({wire!r}, MISSING)")
    if test:
        source.add(f"if {test}: o.{name} = {value}")
    if optional:
        source.add(
            f"{'elif' if test else 'if'} v is None: o.{name} = None; nulls |= {bit}\n"
            f"elif v is MISSING: o.{name} = None; absent += 1"
        )
    else:
        source.add(f"{'elif' if test else 'if'} v is MISSING: raise missing({step!r}, {expected!r})")
    if test:
        source.add(f"else: raise wrong({step!r}, {expected!r}, v)")
        return
    if not optional:
        source.add(f"elif v is None: raise wrong({step!r}, {expected!r}, v)")
    source.names[f"hook_{name}"] = converter.get_structure_hook(shape)
    source.add(f"else:\n    try: o.{name} = hook_{name}(v, None)\n    except Mismatch as m: raise m.within({step!r})")


def without_none(shape: Any) -> Any:
    members = [member for member in get_args(shape) if member is not type(None)]
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


def model_hook(model: type[Model], converter: cattrs.BaseConverter) -> Hook:
    """The function that makes a `model` of a parsed JSON object.

    Written, and compiled, on the first use of the class.
    """
    fields = wire_fields(model)
    source = Source()
    source.names |= {
        "MISSING": MISSING,
        "Mismatch": Mismatch,
        "json_type": json_type,
        "missing": missing,
        "wrong": wrong,
        "model": model,
        "new": object.__new__,
        "Thawed": thawed(model),
        "NO_NULLS": NO_NULLS,
        "NOTHING_EXTRA": NOTHING_EXTRA,
        "KNOWN": frozenset(map(wire_name, fields)),
        "null_names": NullNames([wire_name(field) for field in fields]),
    }
    name = f"structure_{model.__name__}"
    source.add(f"def {name}(d, _):", indent=0)
    source.add("if type(d) is not dict: raise Mismatch('object', json_type(d))")
    source.add("o = new(Thawed)\nget = d.get\nnulls = absent = 0")
    for position, field in enumerate(fields):
        write_field(field, 1 << position, source, converter)
    source.add(f"if len(d) + absent == {len(fields)}: o.extra = NOTHING_EXTRA")
    source.add("else: o.extra = {k: d[k] for k in d if k not in KNOWN}")
    source.add("o.nulls = null_names[nulls] if nulls else NO_NULLS")
    source.add("o.__class__ = model\nreturn o")
    return source.compile(name)


class NullNames(dict[int, frozenset[str]]):
    """The names of the fields whose bits are set, each set made once: a hundred thousand runs share a handful."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __missing__(self, bits: int) -> frozenset[str]:
        made = self[bits] = frozenset(name for position, name in enumerate(self.names) if bits >> position & 1)
        return made


def model_unhook(model: type[Model], encode: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """The function that makes a JSON object of a `model`:

    known fields, then the nulls that came, then the extra ones.
    """
    source = Source()
    source.names |= {"encode": encode, "NOTHING_EXTRA": NOTHING_EXTRA}
    name = f"unstructure_{model.__name__}"
    source.add(f"def {name}(o):", indent=0)
    source.add("r = {}")
    for field in wire_fields(model):
        shape = without_none(field.type) if is_union(field.type) else field.type
        plain = condition(shape, field.name, Source())[0] and shape != JSONObject
        value = "v" if plain else "encode(v)"
        source.add(f"v = o.{field.name}\nif v is not None: r[{wire_name(field)!r}] = {value}")
    source.add("for name in o.nulls: r.setdefault(name, None)")
    source.add("if o.extra is not NOTHING_EXTRA: r.update(o.extra)\nreturn r")
    return source.compile(name)

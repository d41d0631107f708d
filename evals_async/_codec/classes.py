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

from evals_async._codec.leaves import PRIMITIVES, Hook, is_array, is_union, last_taken, literals
from evals_async._codec.mismatch import Mismatch, choice, json_type, required, wrong
from evals_async._codec.unions import expected_of
from evals_async._json import JSONObject, JSONValue
from evals_async.models.base import NO_NULLS, NOTHING_EXTRA, Model


class SourceCode:
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


def source_of(model: type[Model], what: str = "structure") -> str:
    """The source of a class's structuring function, or of the one that `fill`s it from a record, once it was used."""
    return "".join(linecache.getlines(f"<codec: {what}_{model.__name__}>"))


def unfrozen(model: type[Model]) -> type:
    """A class of the same layout whose instances can be filled by plain assignment, and then be declared to be of
    `model`.

    That takes a third of the time of the frozen `__init__`: 0.3 against 1.0 us for eight fields. CPython allows it
    (`__class__` assignment between classes of equal `__slots__` and bases); a test holds every model to it.
    """
    slots = [name for name in model.__dict__["__slots__"] if name != "__weakref__"]
    plain = {
        # Both, or CPython goes through Python for every assignment: the two share one slot of the type.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
        "__init__": object.__init__,
    }
    return type(model.__name__, model.__bases__, {"__slots__": slots, **plain})


def without_none(shape: Any) -> Any:
    members = [member for member in get_args(shape) if member is not type(None)]
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


def test_of(shape: Any, name: str, source: SourceCode) -> tuple[str, str, str]:
    """Which values of a field are taken without a hook: the test of `v`, what is kept, what to call it in an error."""
    members = get_args(shape) if is_union(shape) else (shape,)
    choices = [member for member in members if get_origin(member) is Literal]
    if choices and len(choices) + (str in members) == len(members):
        source.names[f"known_{name}"] = known = {
            key: value for member in choices for key, value in literals(member).items()
        }
        if str in members:
            return "type(v) is str", f"known_{name}.get(v, v)", "str"
        return f"type(v) is str and v in known_{name}", f"known_{name}[v]", choice(known)
    if shape == JSONObject:
        return "type(v) is dict", "v", "object"
    if shape in PRIMITIVES:
        return " or ".join(f"type(v) is {kind.__name__}" for kind in PRIMITIVES[shape]), "v", shape.__name__
    return ("type(v) is str", "v", "") if str in members else ("", "", "")


def write_field(field: "attrs.Attribute[Any]", bit: int, source: SourceCode, converter: cattrs.BaseConverter) -> None:
    """Add the lines that read one field of `d` into `o`; its `bit` is set in `nones` when it is null or missing."""
    name, wire = field.name, wire_name(field)
    shape: Any = field.type
    step = f".{wire}"
    source.add(f"v = get({wire!r})")
    if shape == JSONValue:
        source.add(f"o.{name} = v\nif v is None: nones |= {bit}")
        return
    optional = is_union(shape) and type(None) in get_args(shape)
    if optional:
        shape = without_none(shape)
    test, kept, expected = test_of(shape, name, source)
    if test:
        source.add(f"if {test}: o.{name} = {kept}")
    absent = (
        f"o.{name} = None; nones |= {bit}"
        if optional
        else f"raise required({step!r}, {expected or expected_of(shape)!r}, {wire!r} in d)"
    )
    source.add(f"{'elif' if test else 'if'} v is None: {absent}")
    if expected:
        source.add(f"else: raise wrong({step!r}, {expected!r}, v)")
        return
    element = get_args(shape)[0] if is_array(shape) else JSONValue
    hook = f"hook_{name}"
    source.names[hook] = converter.get_structure_hook(shape if element == JSONValue else element)
    if element != JSONValue:
        # The loop stands inline: it is the hottest one, and a call per array less.
        source.add("elif type(v) is list:\n    left = iter(v)")
        source.add(f"    try: o.{name} = tuple([{hook}(e, None) for e in left])")
        source.add(f"    except Mismatch as m: raise m.within(last_taken(v, left)).within({step!r})")
        source.add(f"else: raise wrong({step!r}, 'array', v)")
    else:
        source.add(f"else:\n    try: o.{name} = {hook}(v, None)\n    except Mismatch as m: raise m.within({step!r})")


def model_hook(model: type[Model], converter: cattrs.BaseConverter) -> Hook:
    """The function that makes a `model` of a parsed JSON object.

    Written, and compiled, on the first use of the class.
    """
    fields = wire_fields(model)
    rest = Rest(model, list(map(wire_name, fields)))
    source = SourceCode()
    source.names |= {
        "Mismatch": Mismatch,
        "json_type": json_type,
        "last_taken": last_taken,
        "required": required,
        "wrong": wrong,
        "model": model,
        "Unfrozen": unfrozen(model),
        "NO_NULLS": NO_NULLS,
        "NOTHING_EXTRA": NOTHING_EXTRA,
        "rest": rest,
        "absent": rest.absent,
    }
    name = f"structure_{model.__name__}"
    source.add(f"def {name}(d, _):", indent=0)
    source.add("if type(d) is not dict: raise Mismatch('object', json_type(d))")
    source.add("o = Unfrozen()\nget = d.get\nnones = 0")
    for position, field in enumerate(fields):
        write_field(field, 1 << position, source, converter)
    source.add(f"if len(d) + len(absent[nones]) == {len(fields)}: o.extra = NOTHING_EXTRA; o.nulls = NO_NULLS")
    source.add("else: o.extra, o.nulls = rest(d, nones)")
    source.add("o.__class__ = model\nreturn o")
    return source.compile(name)


class Absent(dict[int, tuple[str, ...]]):
    """The names of the fields whose bits are set, for each set of bits that has come."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __missing__(self, bits: int) -> tuple[str, ...]:
        found = self[bits] = tuple(name for position, name in enumerate(self.names) if bits >> position & 1)
        return found


SHARED_NAMES: dict[frozenset[str], frozenset[str]] = {NO_NULLS: NO_NULLS}
BEEN_NULL: dict[type[Model], set[str]] = {}
"""Fields that have been null, by their names in JSON: servers send a handful of them so, and always the same."""


def note_nulls(model: type[Model], names: frozenset[str]) -> frozenset[str]:
    """The one set of those names, which are null in an object of the class: a hundred thousand runs share a handful."""
    BEEN_NULL.setdefault(model, set()).update(names)
    return SHARED_NAMES.setdefault(names, names)


class Rest:
    """What an object holds beside the values of known fields: nulls, and fields that the class does not know."""

    def __init__(self, model: type[Model], names: list[str]) -> None:
        self.model = model
        self.known = frozenset(names)
        self.absent = Absent(names)
        self.shared: dict[tuple[str, ...], frozenset[str]] = {}

    def __call__(self, value: dict[str, Any], nones: int) -> tuple[JSONObject, frozenset[str]]:
        """The unknown fields of `value`, and the names of those that are null; `nones` are the bits of null and missing
        ones.
        """
        absent = self.absent[nones]
        names = tuple([name for name in absent if name in value])
        nulls = self.shared.get(names)
        if nulls is None:
            nulls = self.shared[names] = note_nulls(self.model, frozenset(names))
        if len(value) == len(self.known) - len(absent) + len(names):
            return NOTHING_EXTRA, nulls
        return {name: value[name] for name in value if name not in self.known}, nulls


def model_unhook(model: type[Model], encode: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """The function that makes a JSON object of a `model`:

    known fields, then the nulls that came, then the extra ones.
    """
    source = SourceCode()
    source.names |= {"encode": encode, "NOTHING_EXTRA": NOTHING_EXTRA}
    name = f"unstructure_{model.__name__}"
    source.add(f"def {name}(o):", indent=0)
    source.add("r = {}")
    for field in wire_fields(model):
        shape = without_none(field.type) if is_union(field.type) else field.type
        plain = test_of(shape, field.name, SourceCode())[2] not in ("", "object")
        value = "v" if plain else "encode(v)"
        source.add(f"v = o.{field.name}\nif v is not None: r[{wire_name(field)!r}] = {value}")
    source.add("for name in o.nulls: r.setdefault(name, None)")
    source.add("if o.extra is not NOTHING_EXTRA: r.update(encode(o.extra))\nreturn r")
    return source.compile(name)

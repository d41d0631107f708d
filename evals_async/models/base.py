"""The base classes of models: `Model`, and `Unknown`, the variant without a class.

A model is a frozen, slotted attrs class, one per kind of object of the API. `_codec` converts JSON to models and back.
All classes in this package follow these rules:

- Fields have their JSON names. If a JSON name is not allowed in Python, or starts with an underscore, it is in the
  metadata. A string that is equal in many objects is `repeated()`: equal values are one object in memory.
- In a response, the required fields are ids, the statuses of runs and items, the tags of unions, and `deleted`. All
  other fields are missing or null on some server. Both become `None`; `nulls` stores which of the two it was. A
  definition that users also write (a grader, a data source, a message) has the required fields of the API.
- A closed `Literal` is checked. An open one is written `Literal[...] | str`: it helps autocompletion and accepts any
  string.
- Arrays are tuples. Free-form JSON is `JSONObject` or `JSONValue`. It is not changed, and is not part of the hash.
- Seconds since the epoch are `int`. A property returns the `datetime`.
"""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, ClassVar, cast

import attrs

from evals_async._json import JSONObject


class Nothing(Mapping[str, object]):
    """An immutable empty mapping. A copy or a pickle of it returns the same object."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> str:
        return "NOTHING_EXTRA"


NOTHING_EXTRA: JSONObject = Nothing()
NO_NULLS: frozenset[str] = frozenset()
UUID_SUFFIX = re.compile(r"(?<=.)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.DOTALL)
LONGEST_SHOWN = 80  # characters of a field's value in a repr
MOST_SHOWN = 6  # elements of an array in a repr

# Reads only the first entries of long values: a run may contain megabytes of rows.
brief = reprlib.Repr()
brief.maxstring = brief.maxother = LONGEST_SHOWN


def shown(value: object) -> str:
    """Return a field's value for a repr: the length of a long array, and the start of other long values."""
    if isinstance(value, tuple) and len(cast("tuple[object, ...]", value)) > MOST_SHOWN:
        return f"<{len(cast('tuple[object, ...]', value))} items>"
    text = f"{value:.4g}" if isinstance(value, float) else brief.repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    if isinstance(value, tuple):
        return f"<{len(cast('tuple[object, ...]', value))} items>"
    return text[:LONGEST_SHOWN] + "…"


def moment(seconds: int | None) -> datetime | None:
    """Convert seconds since the epoch to UTC time. Returns `None` for a number outside the range of `datetime`."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def without_uuid(name: str) -> str:
    """Return the name that the user gave, from the server's `<name>-<uuid4>`. Other names are returned unchanged."""
    return UUID_SUFFIX.sub("", name)


def repeated() -> Any:
    """Declare an optional field whose string is equal in many objects, such as the name of a model."""
    return attrs.field(default=None, metadata={"repeats": True})


def deferred(doc: str) -> Any:
    """Declare an optional field whose value is made at the first read, see `Model`. `doc` is its docstring."""
    return attrs.field(default=None, metadata={"deferred": doc})


MAKERS: dict[type, Callable[[Any], Any]] = {}
"""How the codec makes the value of a deferred field, by the class of the struct that it has put there."""


def reading(slot: MemberDescriptorType, doc: str) -> property:
    """Return the property of a deferred field: it makes the value at the first read, and stores it.

    If two threads read at the same time, both make an equal value, and the last one is kept.
    """
    get, store, maker_of = slot.__get__, slot.__set__, MAKERS.get

    def read(model: object) -> Any:
        value = get(model)
        make = maker_of(cast("type[object]", type(value)))
        if make is None:
            return value
        made = make(value)
        store(model, made)
        return made

    return property(read, store, doc=doc)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Model:
    """The base class of all models.

    `extra` holds the fields that the class does not define. They are encoded again unchanged. `nulls` has the JSON
    names of the fields that were an explicit `null`. Comparison ignores `nulls`, because `null` and a missing field
    have the same meaning in this API.

    Large parts that many programs never read are `deferred()`: the codec stores what it decoded, and the model of the
    part is made at the first read. Nothing else shows the difference: comparison, hashes, copies, pickles and the repr
    read the field too.
    """

    extra: JSONObject = attrs.field(default=NOTHING_EXTRA, hash=False)
    nulls: frozenset[str] = attrs.field(default=NO_NULLS, eq=False)

    _shown_first: ClassVar[tuple[str, ...]] = ()
    """The fields and properties at the start of the repr."""

    # These two serve all models. If attrs made them for each class, the import would take a fifth longer.
    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        kind: Any = type(self)
        values_of = compared(kind)
        return values_of(self) == values_of(other)

    def __hash__(self) -> int:
        kind: Any = type(self)
        return hash(hashed(kind)(self))

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        for field in attrs.fields(cls):
            doc, slot = field.metadata.get("deferred"), cls.__dict__.get(field.name)
            if doc is not None and isinstance(slot, MemberDescriptorType):
                setattr(cls, field.name, reading(slot, doc))

    def __repr__(self) -> str:
        fields = [a.alias or a.name for a in attrs.fields(type(self)) if a.name not in ("extra", "nulls", "object")]
        names = dict.fromkeys((*self._shown_first, *fields))
        parts = [f"{name}={shown(value)}" for name in names if (value := getattr(self, name)) is not None]
        if self.extra:
            parts.append(f"extra={shown(dict(self.extra))}")
        return f"{type(self).__name__}({', '.join(parts)})"


@cache
def compared(model: type[Model]) -> Callable[[object], object]:
    """Return the function that reads the values of a model which are compared."""
    return attrgetter(*[field.name for field in attrs.fields(model) if field.eq])


@cache
def hashed(model: type[Model]) -> Callable[[object], object]:
    """Return the function that reads the class and the values of a model which its hash is made from."""
    names = [field.name for field in attrs.fields(model) if field.eq and field.hash is not False]
    return attrgetter("__class__", *names)


@attrs.frozen(kw_only=True)
class Unknown:
    """A variant of a union that has no class: a newer type, a type of another server, or an object without its
    required fields.

    `type` is its tag, or `None`. `raw` is the whole JSON object, which is encoded again unchanged.
    """

    type: str | None
    raw: JSONObject = attrs.field(hash=False)

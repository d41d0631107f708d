"""What all models share: `Model`, and `Unknown`, the variant that no class stands for.

A model is a frozen, slotted attrs class, one per thing of the API. How JSON becomes a model and back is told in
`codec`; nothing here does it. The rules that every class in this package follows:

- Fields have the names of the wire. Where Python forbids one, or it begins with an underscore, the wire's name stands
  in the metadata. A string that many objects have in common is `repeated()`: equal ones are one object in memory.
- Of what a server answers, only ids, the statuses of runs and items, and the tags of unions are required, and `deleted`
  after a delete: everything else has been seen missing or null somewhere. Both become `None`; `nulls` remembers which
  of the two it was. A definition that users write too (a grader, a data source, a message) requires what the API
  requires of it.
- A closed `Literal` is checked; an open one is written `Literal[...] | str`, helps autocompletion, and lets any
  string through.
- Arrays are tuples. Free-form JSON is `JSONObject` or `JSONValue`, is passed through untouched, and takes no part in
  the hash.
- Seconds since the epoch stay `int`; a property beside them gives the `datetime`.
"""

import reprlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import attrs

from evals_async._json import JSONObject


class Nothing(Mapping[str, object]):
    """An empty mapping that cannot be filled, and stays one object through copy and pickle."""

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
LONGEST_SHOWN = 80  # characters of a field's value in a repr
MOST_SHOWN = 6  # elements of an array in a repr

# Looks at the first few entries of long values only: a run may carry megabytes of rows.
brief = reprlib.Repr()
brief.maxstring = brief.maxother = LONGEST_SHOWN


def shown(value: object) -> str:
    """A field's value in a repr: of a long array its length, of other long values the beginning."""
    if isinstance(value, tuple) and len(cast("tuple[object, ...]", value)) > MOST_SHOWN:
        return f"<{len(cast('tuple[object, ...]', value))} items>"
    text = f"{value:.4g}" if isinstance(value, float) else brief.repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    if isinstance(value, tuple):
        return f"<{len(cast('tuple[object, ...]', value))} items>"
    return text[:LONGEST_SHOWN] + "…"


def moment(seconds: int | None) -> datetime | None:
    """The UTC time of seconds since the epoch; `None` for what no calendar has."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def repeated() -> Any:
    """An optional field with a string that many objects have in common, such as the name of a model."""
    return attrs.field(default=None, metadata={"repeats": True})


@attrs.frozen(kw_only=True, repr=False)
class Model:
    """The base class of all models.

    `extra` holds the fields that the class does not know; they are written out again unchanged. `nulls` has the JSON
    names of the fields that came as an explicit `null`. It is not compared, because `null` and a missing field mean
    the same everywhere in this API.
    """

    extra: JSONObject = attrs.field(default=NOTHING_EXTRA, hash=False)
    nulls: frozenset[str] = attrs.field(default=NO_NULLS, eq=False)

    _shown_first: ClassVar[tuple[str, ...]] = ()
    """The fields and properties that a repr begins with."""

    def __repr__(self) -> str:
        fields = [a.alias or a.name for a in attrs.fields(type(self)) if a.name not in ("extra", "nulls", "object")]
        names = dict.fromkeys((*self._shown_first, *fields))
        parts = [f"{name}={shown(value)}" for name in names if (value := getattr(self, name)) is not None]
        if self.extra:
            parts.append(f"extra={shown(dict(self.extra))}")
        return f"{type(self).__name__}({', '.join(parts)})"


@attrs.frozen(kw_only=True)
class Unknown:
    """A variant of a union without a class of its own: a newer type, a type of another server, or an object without its
    required fields.

    `type` is its tag, where it has one; `raw` is the whole JSON object, and is written out again unchanged.
    """

    type: str | None
    raw: JSONObject = attrs.field(hash=False)

"""The JSON form of values that users put into a request body, other than mappings, lists and models.

Supported are dates, enums, UUIDs, numbers of other packages, dataclasses, attrs classes, msgspec structs, pydantic
models (also those of the official client), and iterables such as a generator, a `map` or `dict.values()`.
"""

import dataclasses
import inspect
import operator
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, time
from enum import Enum
from numbers import Rational, Real
from typing import Any, cast
from uuid import UUID

import attrs

from evals_async.errors import InvalidArgument


OFFICIAL = "openai."
"""The start of the module names of the official client. Of its models, only fields that were set are sent."""

NOT_ROWS = (bytes, bytearray, memoryview)


def simpler(value: object) -> object:
    """Return the JSON form of `value`. Its members may need another call. Raises `InvalidArgument`."""
    kind: type[object] = type(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if issubclass(kind, set | frozenset):
        raise InvalidArgument(f"a {kind.__name__} has no order, and so has no form in JSON: give a sorted list")
    if isinstance(value, type):
        raise InvalidArgument(f"the class {value.__name__} was given, not an object of it")
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if attrs.has(kind):
        return {field.name: getattr(value, field.name) for field in attrs.fields(kind)}
    if hasattr(kind, "__struct_encode_fields__"):
        struct: Any = value
        return {
            wire: getattr(struct, name)
            for name, wire in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
        }
    if callable(getattr(kind, "model_dump", None)):
        return dumped(value)
    return number_or_array(value)


def dumped(model: Any) -> object:
    """Return the JSON form of a pydantic model, with its JSON names."""
    official = type(model).__module__.startswith(OFFICIAL)
    try:
        return model.model_dump(mode="json", by_alias=True, exclude_unset=official, warnings=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{type(model).__name__} could not be written as JSON: {error}") from None


def number_or_array(value: object) -> object:
    kind: type[object] = type(value)
    if hasattr(kind, "__index__"):
        with suppress(TypeError):  # an array of numpy is no number, although it has the method
            return operator.index(cast("Any", value))
    if isinstance(value, Real) and not isinstance(value, Rational):
        return float(value)
    if hasattr(value, "columns") or hasattr(value, "column_names"):
        raise InvalidArgument(f"a {kind.__name__} is a table: give its rows, each of them a mapping")
    if inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_CLOSED:
        raise InvalidArgument("a generator that was gone through before has nothing left: make a new one, or a list")
    if isinstance(value, Iterable) and not isinstance(value, NOT_ROWS):
        return list(cast("Iterable[object]", value))
    raise InvalidArgument(f"{kind.__name__} has no form in JSON: {value!r:.80}")

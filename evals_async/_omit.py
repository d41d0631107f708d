"""`OMIT`, the parameter that was not given, and how another client's markers for that are recognised."""

from enum import Enum, EnumMeta
from typing import Any, Final, TypeGuard, TypeVar


T = TypeVar("T")


class _Callable(EnumMeta):
    """Lets `Omit()` be written, as the official client has it."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made: Any = super().__call__
        return made(*args, **kwargs) if args or kwargs else OMIT


class Omit(Enum, metaclass=_Callable):
    """The type of `OMIT`, a parameter that was not given, where `None` means something else: an explicit null.

    As the value of a header, it takes away the one that the client would send. `Omit()` is `OMIT`.
    """

    OMIT = "OMIT"

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit.OMIT

OFFICIAL = {"Omit", "NotGiven"}
"""The classes of the official client for what was not given. They are known by name: it is not imported here."""


MODULES = {"openai", "openai._types"}


def is_official(value: object, names: "set[str]" = OFFICIAL) -> bool:
    kind = type(value)
    return kind.__name__ in names and kind.__module__ in MODULES


def given(value: "T | None") -> "T | None":
    """The value of a parameter, or `None` if it was not given."""
    return None if is_omitted(value) else value


def is_omitted(value: object) -> "TypeGuard[Omit]":
    """Whether a parameter was not given: `OMIT`, or `omit` and `NOT_GIVEN` of the official client."""
    return value is OMIT or is_official(value)

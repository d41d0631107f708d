"""`OMIT`, the marker for a parameter that was not given. The markers of the official client are recognised too."""

from enum import Enum, EnumMeta
from typing import Any, Final, TypeGuard, TypeVar


T = TypeVar("T")


class _Callable(EnumMeta):
    """Makes `Omit()` return `OMIT`, as in the official client."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made: Any = super().__call__
        return made(*args, **kwargs) if args or kwargs else OMIT


class Omit(Enum, metaclass=_Callable):
    """The type of `OMIT`, which means "not given". `None` means an explicit null.

    As the value of a header, `OMIT` removes the header that the client would send. `Omit()` returns `OMIT`.
    """

    OMIT = "OMIT"

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit.OMIT

OFFICIAL = {"Omit", "NotGiven"}
"""The classes of the official client that mean "not given". They are compared by name, so that it need not be
imported.
"""


MODULES = {"openai", "openai._types"}


def is_official(value: object, names: "set[str]" = OFFICIAL) -> bool:
    kind = type(value)
    return kind.__name__ in names and kind.__module__ in MODULES


def given(value: "T | None") -> "T | None":
    """Return the value of a parameter, or `None` if it was not given."""
    return None if is_omitted(value) else value


def is_omitted(value: object) -> "TypeGuard[Omit]":
    """Whether a parameter was not given: it is `OMIT`, or `omit` or `NOT_GIVEN` of the official client."""
    return value is OMIT or is_official(value)

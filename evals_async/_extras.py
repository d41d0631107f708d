"""The commands that install an extra. The package is not on a package index yet, so pip cannot find it by its name."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from evals_async.errors import MissingExtra


MODULES: Mapping[str, str] = {"arrow": "pyarrow", "inspect": "inspect_ai", "report": "jinja2"}
"""The module that tells whether an extra is installed."""


def how_to_install(*extras: str) -> str:
    """Return the commands that install extras, from a clone of the repository or from a built wheel."""
    names = ",".join(extras)
    try:
        number = version("evals-async")
    except PackageNotFoundError:  # the source is used without an installation
        number = "*"
    return (
        f"pip install '.[{names}]' in a clone of the repository, "
        f"or pip install 'evals_async-{number}-py3-none-any.whl[{names}]' with a built wheel"
    )


def extra_missing(what: str, extra: str) -> str:
    """Return the error message for a feature whose extra is not installed."""
    return f'{what} the extra "{extra}"; install it with: {how_to_install(extra)}'


def has_extra(extra: str) -> bool:
    """Return whether an extra of `MODULES` is installed. Imports nothing."""
    return find_spec(MODULES[extra]) is not None


def require_extra(what: str, extra: str) -> None:
    """Raise `MissingExtra` if an extra of `MODULES` is not installed. Imports nothing.

    Call it before the first file is opened and the first request is sent. `what` is as for `extra_missing`.
    """
    if not has_extra(extra):
        raise MissingExtra(extra_missing(what, extra))

"""The commands that install an extra. The package is not on a package index yet, so pip cannot find it by its name."""

from importlib.metadata import PackageNotFoundError, version


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

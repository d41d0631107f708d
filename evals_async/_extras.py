"""How an extra is installed, said in one place. The package is on no index: its name alone finds nothing."""

from importlib.metadata import PackageNotFoundError, version


def how_to_install(*extras: str) -> str:
    """The words that install extras, from a clone of the repository or from a built wheel."""
    names = ",".join(extras)
    try:
        number = version("evals-async")
    except PackageNotFoundError:  # run from its source, never installed
        number = "*"
    return (
        f"pip install '.[{names}]' in a clone of the repository, "
        f"or pip install 'evals_async-{number}-py3-none-any.whl[{names}]' with a built wheel"
    )


def extra_missing(what: str, extra: str) -> str:
    """The message for something that needs an extra which is not installed."""
    return f'{what} the extra "{extra}"; install it with: {how_to_install(extra)}'

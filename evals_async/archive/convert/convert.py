"""The way onward by name: which conversions there are, and how one is asked for."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from evals_async._store.database import StrPath
from evals_async.archive.convert.flat import to_rows
from evals_async.archive.convert.promptfoo import to_promptfoo
from evals_async.archive.convert.promptfooconfig import to_promptfooconfig
from evals_async.archive.convert.report import ConversionReport
from evals_async.errors import InvalidArgument


FORMATS: Mapping[str, Callable[[StrPath, StrPath], ConversionReport]] = {
    "jsonl": partial(to_rows, form="jsonl"),
    "csv": partial(to_rows, form="csv"),
    "parquet": partial(to_rows, form="parquet"),
    "promptfoo": to_promptfoo,
    "promptfooconfig": to_promptfooconfig,
}
"""What an archive can be converted to: tables, promptfoo's results, promptfoo's configurations."""


def convert(path: StrPath, to: str, directory: StrPath) -> ConversionReport:
    """Write what `FORMATS` names into `directory`, which is made. The archive stays as it is.

    Raises `InvalidArgument` for another name, `ArchiveError`, `OSError`, and for Parquet `MissingExtra`.
    """
    if to not in FORMATS:
        raise InvalidArgument(f"there is no conversion to {to!r}; there are: {', '.join(FORMATS)}")
    return FORMATS[to](path, Path(directory))

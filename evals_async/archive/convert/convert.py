"""`convert`: write an archive in one of the `FORMATS`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from evals_async._extras import require_extra
from evals_async._store.database import StrPath
from evals_async._store.gaps import Gaps, gaps
from evals_async.archive.convert.flat import to_tables
from evals_async.archive.convert.inspect import to_inspect
from evals_async.archive.convert.promptfoo import to_promptfoo
from evals_async.archive.convert.promptfooconfig import to_promptfooconfig
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, Output
from evals_async.errors import ArchiveError, InvalidArgument


FORMATS: Mapping[str, Callable[[ArchiveReader, Output], None]] = {
    "jsonl": partial(to_tables, form="jsonl"),
    "csv": partial(to_tables, form="csv"),
    "parquet": partial(to_tables, form="parquet"),
    "promptfoo": to_promptfoo,
    "promptfooconfig": to_promptfooconfig,
    "inspect": to_inspect,
}
"""The formats: tables, promptfoo's results and configurations, Inspect AI's logs."""


EXTRAS: Mapping[str, tuple[str, str]] = {
    "parquet": ("Arrow tables need", "arrow"),
    "inspect": ("logs of Inspect need", "inspect"),
}
"""What needs which extra, by format."""


def check_format(to: str) -> None:
    """Raise `InvalidArgument` for an unknown format, and `MissingExtra` if its extra is not installed."""
    if to not in FORMATS:
        raise InvalidArgument(f"there is no conversion to {to!r}; the formats are: {', '.join(FORMATS)}")
    if to in EXTRAS:
        require_extra(*EXTRAS[to])


def refuse_gaps(found: Gaps, path: StrPath) -> None:
    """Raise `ArchiveError` if the archive is incomplete."""
    if not found.complete:
        raise ArchiveError(
            f"{path} is incomplete: {'; '.join(found.missing)}. Export again, or continue with "
            "allow_incomplete=True (on the command line --allow-incomplete)"
        )


def convert(
    path: StrPath, to: str, directory: StrPath, *, dry: bool = False, allow_incomplete: bool = False
) -> ConversionReport:
    """Write the archive in the format `to` into `directory`, which is created. The archive does not change.

    With `dry`, nothing is written, and the report lists the files. Raises `InvalidArgument` for another format,
    `ArchiveError` if the archive cannot be read or is incomplete (unless `allow_incomplete`), `OSError`, and
    `MissingExtra`.
    """
    check_format(to)
    report = ConversionReport()
    out = Output(Path(directory), report, dry=dry)
    with ArchiveReader(path) as source, source.snapshot():
        if not allow_incomplete:
            refuse_gaps(gaps(source.connection), path)
        FORMATS[to](source, out)
    if not dry:
        out.directory.mkdir(parents=True, exist_ok=True)
    return report

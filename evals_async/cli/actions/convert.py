"""`convert`: convert an archive, and print what was mapped, approximated and dropped."""

from __future__ import annotations

from pathlib import Path

from evals_async.archive import Archive, ConversionReport, disk_is_full
from evals_async.archive.values import DISK_FULL, INCOMPLETE
from evals_async.cli import hints, output
from evals_async.cli.actions.gaps import print_gaps
from evals_async.cli.constants import LOSSY
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.text import Column, plural


RESULT_STYLES = {"mapped": "green", "approximated": "yellow", "dropped": "red"}


async def may_continue(
    archive: Archive, file: Path, source: ConnectionOptions, terms: ConnectionOptions, allow_incomplete: bool
) -> bool:
    """Say what the archive lacks; where it lacks something, whether that was allowed, and how to allow it.

    `source` names the server that the archive can be completed from.
    """
    if await print_gaps(archive, file, source) or allow_incomplete:
        return True
    output.error(f"{file} is incomplete")
    hints.say(Hint.ALLOW_INCOMPLETE, terms)
    return False


async def convert_file(
    terms: ConnectionOptions, file: Path, form: str, directory: Path, *, dry: bool, strict: bool, allow_incomplete: bool
) -> int:
    """Convert an archive, and print the result. Returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if not await may_continue(archive, file, terms, terms, allow_incomplete):
            return INCOMPLETE
        try:
            report = await archive.convert(form, directory, dry=dry, allow_incomplete=True)
        except OSError as error:
            return not_written(error, directory, terms)
    show_conversion(report)
    if dry:
        for path in report.written:
            output.say(str(path))
    number = plural(len(report.written), "file")
    output.note(f"{number} would be written" if dry else f"{number} written to {directory}")
    return exit_code(report, strict)


def not_written(error: OSError, directory: Path, terms: ConnectionOptions) -> int:
    """Print why a file could not be written, and what to do. Returns the exit code."""
    if disk_is_full(error):
        output.error(f"the disk is full: {error}")
        hints.say(Hint.FREE_SPACE, terms)
        return DISK_FULL
    output.error(f"cannot write to {directory}: {error.strerror or error}")
    hints.say(Hint.OTHER_DIRECTORY, again=hints.without(terms.words, "--out"))
    return 1


def exit_code(report: ConversionReport, strict: bool) -> int:
    """Return the exit code. With --strict, a loss is an error, which is printed."""
    if not strict or report.lossless:
        return 0
    lost = sum(number for result, number in report.counts().items() if result != "mapped")
    output.error(f"--strict: {plural(lost, 'object')} approximated or dropped, see the table")
    return LOSSY


def show_conversion(report: ConversionReport) -> None:
    """Print what was mapped, approximated and dropped, and why."""
    output.table(
        [
            Column("Result", keep=True, styles=RESULT_STYLES),
            Column("What", wrap=True),
            Column("Number", right=True),
            Column("Why", wrap=True),
        ],
        [(remark.result, remark.what, number, remark.why or None) for remark, number in sorted(report.remarks.items())],
    )

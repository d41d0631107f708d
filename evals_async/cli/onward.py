"""What `convert` and `push` do once their options are read, and how they tell it.

Imported by a command when it runs: it brings the whole SDK along, which `--help` need not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import evals_async
from evals_async.archive import Archive, ConversionReport, Push, disk_is_full
from evals_async.archive.values import DISK_FULL, INCOMPLETE
from evals_async.cli import hints, output
from evals_async.cli.archived import tell_gaps
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.text import Column, plural


FATES = {"mapped": "green", "approximated": "yellow", "dropped": "red"}
LOSSY = 3


async def may_go_on(
    archive: Archive, file: Path, source: ConnectionOptions, terms: ConnectionOptions, allow_incomplete: bool
) -> bool:
    """Say what the archive lacks; where it lacks something, whether that was allowed, and how to allow it.

    `source` names the server that the archive can be completed from.
    """
    if await tell_gaps(archive, file, source) or allow_incomplete:
        return True
    output.error(f"{file} is incomplete")
    hints.say(Hint.ALLOW_INCOMPLETE, terms)
    return False


async def convert_file(
    terms: ConnectionOptions, file: Path, form: str, directory: Path, *, dry: bool, strict: bool, allow_incomplete: bool
) -> int:
    """Convert, and tell what became of everything; returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if not await may_go_on(archive, file, terms, terms, allow_incomplete):
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
    """Tell why a file could not be written, and what to do; returns the exit code."""
    if disk_is_full(error):
        output.error(f"the disk is full: {error}")
        hints.say(Hint.FREE_SPACE, terms)
        return DISK_FULL
    output.error(f"cannot write to {directory}: {error.strerror or error}")
    hints.say(Hint.OTHER_DIRECTORY, again=hints.without(terms.words, "--out"))
    return 1


def exit_code(report: ConversionReport, strict: bool) -> int:
    """With --strict a loss is an error; it is said that this is why."""
    if not strict or report.lossless:
        return 0
    lost = sum(number for fate, number in report.counts().items() if fate != "mapped")
    output.error(f"{plural(lost, 'thing')} approximated or dropped, see above: an error because of --strict")
    return LOSSY


def show_conversion(report: ConversionReport) -> None:
    """What was mapped, approximated and dropped, and why."""
    output.table(
        [
            Column("Fate", keep=True, styles=FATES),
            Column("What", wrap=True),
            Column("Number", right=True),
            Column("Why", wrap=True),
        ],
        [(remark.fate, remark.what, number, remark.why or None) for remark, number in sorted(report.remarks.items())],
    )


def show_ids(push: Push) -> None:
    """The ids here and there. Two do not fit into a line of every terminal, and people copy them."""
    kinds = (("eval", push.evals), ("run", push.runs), ("file", push.files))
    pairs = [(kind, old, new) for kind, ids in kinds for old, new in ids.items()]
    if not output.on_terminal():
        output.table([Column("Kind"), Column("Id here"), Column("Id there")], pairs)
        return
    for kind, old, new in pairs:
        output.say(f"{kind} {old}")
        output.say(f"  is now {new}")


async def push_file(
    terms: ConnectionOptions,
    client: evals_async.EvalsClient,
    file: Path,
    which: Literal["none", "newest", "all"],
    *,
    strict: bool,
    allow_incomplete: bool,
) -> int:
    """Push, and tell what became of everything; returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if not await may_go_on(archive, file, ConnectionOptions(), terms, allow_incomplete):
            return INCOMPLETE
        push = await archive.push(client, runs=which, allow_incomplete=True)
    show_ids(push)
    output.say()
    show_conversion(push.report)
    hints.say(Hint.LIST_EVALS, terms)
    return exit_code(push.report, strict)

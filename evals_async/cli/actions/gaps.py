"""Print what an archive lacks, and the command that continues its export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evals_async.archive import (
    Archive,
    Selection,
)
from evals_async.cli import hints, output
from evals_async.cli.constants import FIRST_ANSWER, MAX_OUTAGE
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint


MOST_NAMED = 20  # lines that are printed; others are counted


def export_arguments(
    file: Path,
    selection: Selection,
    demo: bool,
    max_outage: float = MAX_OUTAGE,
    first_answer: float = FIRST_ANSWER,
) -> list[str]:
    """Return the arguments of `export` that continue an export."""
    words = ["--to", str(file)]
    if max_outage != MAX_OUTAGE:
        words += ["--max-outage", f"{max_outage:g}"]
    if first_answer != FIRST_ANSWER:
        words += ["--first-answer", f"{first_answer:g}"]
    for eval_id in selection.evals:
        words += ["--eval", eval_id]
    if selection.since is not None:
        words += ["--since", f"{datetime.fromtimestamp(selection.since, UTC):%Y-%m-%dT%H:%M:%S}"]
    flags = (("--no-items", not selection.items), ("--no-files", not selection.files), ("--demo", demo))
    return words + [flag for flag, given in flags if given]


async def print_gaps(archive: Archive, file: Path, terms: ConnectionOptions, *, demo: bool = False) -> bool:
    """Print what the archive lacks, and the command that fetches it. Returns whether the archive is complete."""
    found = await archive.gaps()
    print_some(found.missing, "incomplete: ")
    print_some(found.left_out, "note: ")
    if not found.complete:
        hints.tell(await export_again(archive, file, terms, demo=demo))
    return found.complete


async def export_again(archive: Archive, file: Path, terms: ConnectionOptions, *, demo: bool = False) -> hints.Advice:
    """The command that exports into this archive once more: what was chosen last, from the server of these options."""
    last = (await archive.summary()).last
    selection = Selection() if last is None else Selection.of(last.selection)
    return hints.advice(Hint.EXPORT, terms, export=export_arguments(file, selection, demo))


def print_some(lines: Sequence[str], before: str) -> None:
    """Print the first lines on stderr, and how many more there are."""
    for line in lines[:MOST_NAMED]:
        output.note(before + line)
    if len(lines) > MOST_NAMED:
        output.note(f"{before}and {len(lines) - MOST_NAMED:,} more")

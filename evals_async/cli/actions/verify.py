"""`verify`: check an archive, write the manifest, and print the result."""

from __future__ import annotations

import json
from pathlib import Path

import click

from evals_async.archive import (
    Archive,
    VerifyReport,
    disk_is_full,
)
from evals_async.cli import hints, output
from evals_async.cli.actions.export import server_of, short_reason
from evals_async.cli.actions.gaps import export_again, print_some
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.text import Column


async def verify_file(
    terms: ConnectionOptions,
    file: Path,
    *,
    offline: bool,
    sample: int | None,
    manifest: Path | None,
    first_answer: float,
    demo: bool,
) -> int:
    """Verify an archive, write the manifest, and print the result. Returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if offline:
            report = await archive.verify()
        else:
            async with server_of(terms, demo, first_answer) as client:
                report = await archive.verify(
                    client, sample=sample, concurrency=terms.concurrency, first_answer=first_answer
                )
        export = await export_again(archive, file, terms, demo=demo)
        left_out = (await archive.gaps()).left_out
    write_manifest(report, file, manifest)
    print_some(left_out, "note: ")
    show_verification(report, file)
    sampled = None if offline or sample is None else sampled_runs(report, sample)
    output.note(conclusion(report, left_out=bool(left_out), offline=offline, sampled=sampled))
    if report.complete and sampled:
        hints.say(Hint.VERIFY_ALL, terms)
    if report.stopped is not None:
        hints.say(Hint.VERIFY_WITHOUT_SERVER, file=str(file))
    else:
        hints.tell(hints.advice(Hint.SERVE, file=str(file)) if report.complete else export)
    return report.exit_code


def sampled_runs(report: VerifyReport, sample: int) -> str | None:
    """Return how many runs were compared with their items, or `None` if all were."""
    runs = report.checked.get("runs", 0)
    return f"the items of {sample:,} of {runs:,} runs were compared with the server" if runs > sample else None


def conclusion(report: VerifyReport, *, left_out: bool, offline: bool, sampled: str | None) -> str:
    """Return the last words: whether the archive is complete, and how far that is known."""
    if not report.complete:
        return "not complete"
    words = ["complete, for what was selected" if left_out else "complete"]
    return "; ".join([*words, *(["not compared with a server"] if offline else []), *([sampled] if sampled else [])])


def write_manifest(report: VerifyReport, file: Path, chosen: Path | None) -> None:
    """Write the manifest to the given path, or next to the archive if that directory is writable."""
    path = chosen or file.with_name(file.name + ".manifest.json")
    try:
        path.write_text(json.dumps(report.manifest, indent=2) + "\n")
    except OSError as error:
        if disk_is_full(error):
            raise
        if chosen is not None:
            raise click.ClickException(f"the manifest cannot be written to {path}: {error.strerror}") from error
        output.note(f"the manifest is not written, because {path.parent} is not writable: use --manifest PATH")
    else:
        output.note(f"manifest: {path}")


def show_verification(report: VerifyReport, file: Path) -> None:
    output.table(
        [Column("What"), Column("Checked here", right=True), Column("Compared with the server", right=True)],
        [
            (kind.replace("_", " "), report.checked.get(kind), report.compared.get(kind))
            for kind in dict.fromkeys((*report.checked, *report.compared))
        ],
        title=str(file),
    )
    print_some([f"{each.what}: {each.problem}" for each in report.notes], "note: ")
    print_some([f"{each.what}: {each.problem}" for each in report.findings], "incomplete: ")
    if report.stopped is not None:
        output.error(f"the comparison stopped: {short_reason(report.stopped)}")

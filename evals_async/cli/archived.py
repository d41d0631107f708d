"""What `export` and `verify` do once their options are read, and how they tell it.

Imported by a command when it runs: it brings the whole SDK along, which `--help` need not wait for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

import evals_async
from evals_async.archive import (
    Archive,
    ExportProgress,
    ExportReport,
    Selection,
    VerifyReport,
    disk_is_full,
)
from evals_async.archive.export.estimate import estimate
from evals_async.cli import hints, output
from evals_async.cli.archiving import FIRST_ANSWER, MAX_OUTAGE
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.service import connect, talking
from evals_async.cli.text import Column, human_bytes, human_seconds, plural
from evals_async.server import LocalServer, sample_tree


DEMO_RUNS = 300
MOST_NAMED = 20  # things that are named one by one before they are only counted


@asynccontextmanager
async def server_of(
    terms: ConnectionOptions, demo: bool, first_answer: float
) -> AsyncGenerator[evals_async.EvalsClient, None]:
    """A client of the service that the options and the environment name, or of a local server with the sample."""
    if not demo:
        async with talking(terms, first_answer) as client:
            yield client
        return
    async with LocalServer(remembered=0, read_only=False) as server:
        await server.seed(**sample_tree(DEMO_RUNS))
        async with connect(terms, base_url=server.base_url, api_key="local") as client:
            yield client


def again(
    file: Path,
    selection: Selection,
    demo: bool,
    max_outage: float = MAX_OUTAGE,
    first_answer: float = FIRST_ANSWER,
) -> list[str]:
    """The arguments that go on with an export."""
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


async def export_into(
    terms: ConnectionOptions,
    file: Path,
    selection: Selection,
    go_on: list[str],
    *,
    demo: bool,
    max_outage: float,
    first_answer: float,
    another_server: bool,
    reread: bool,
) -> int:
    """Copy, with progress, and tell what came of it; returns the exit code. `go_on` are the arguments to go on with."""
    async with server_of(terms, demo, first_answer) as client, Archive.open(file) as archive:
        with output.progress("copying items") as update:
            report = await archive.export(
                client,
                selection,
                concurrency=terms.concurrency,
                max_outage=max_outage,
                first_answer=first_answer,
                another_server=another_server,
                reread=reread,
                on_progress=ExportTeller(update),
            )
    show_export(report, file, go_on, demo, terms)
    return report.exit_code


async def estimate_for(
    terms: ConnectionOptions, selection: Selection, go_on: list[str], *, demo: bool, first_answer: float
) -> int:
    """Count what an export would copy."""
    async with server_of(terms, demo, first_answer) as client:
        await show_estimate(client, selection, terms.concurrency, first_answer)
    hints.say(Hint.EXPORT, terms, export=go_on)
    return 0


class ExportTeller:
    """Shows progress, and says each time that the server is waited for, and that it answers again."""

    def __init__(self, update: output.Update) -> None:
        self.update = update
        self.waiting: float | None = None

    def __call__(self, progress: ExportProgress) -> None:
        waiting = progress.waiting
        if waiting is None:
            if self.waiting is not None:
                output.note("the server answers again")
            self.waiting = None
        elif self.waiting is None or waiting.until > self.waiting + 1:
            self.waiting = waiting.until
            since, until = time_of_day(waiting.since), time_of_day(waiting.until)
            output.note(f"waiting for the server since {since}, until {until} at most: {in_short(waiting.why)}")
        tell(progress, self.update)


def in_short(why: str) -> str:
    """Why something failed, without the client's own word on retries: the archive has rules of its own for them."""
    return why.removesuffix(" [retries are off]").removesuffix(" [no attempts left]")


def time_of_day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"


def tell(progress: ExportProgress, update: output.Update) -> None:
    words = [f"{progress.rate:,.0f} items/s"]
    if progress.eta:
        words.append(f"{human_seconds(progress.eta)} left")
    counts = (("eval", progress.evals), ("run", progress.runs), ("file", progress.files))
    words += [human_bytes(progress.bytes), *(plural(number, thing) for thing, number in counts)]
    update(progress.items, max(progress.expected_items, progress.items) or None, ", ".join(words))


async def show_estimate(
    client: evals_async.EvalsClient, selection: Selection, concurrency: int, first_answer: float
) -> None:
    found = await estimate(client, selection, concurrency=concurrency, first_answer=first_answer)
    output.record(
        [
            (Column("Evals"), found.evals),
            (Column("Runs"), found.runs),
            (Column("Items"), found.items),
            (Column("Runs that do not count"), found.uncounted),
            (Column("Files"), found.files),
            (Column("Bytes of files", show=human_bytes), found.file_bytes),
            (Column("Requests"), found.requests),
            (Column("Estimated seconds"), round(found.seconds(concurrency), 1)),
        ],
        title=f"What an export from {client.base_url} would copy",
    )
    output.note("nothing was written")


def show_export(report: ExportReport, file: Path, go_on: list[str], demo: bool, terms: ConnectionOptions) -> None:
    """What came of an export, and what to do next."""
    names = (("evals", "Evals"), ("runs", "Runs"), ("output_items", "Items"), ("files", "Files"))
    output.record(
        [
            *((Column(title), report.counts[kind]) for kind, title in names),
            (Column("Requests"), report.requests),
            (Column("Bytes received", show=human_bytes), report.bytes),
            (Column("Seconds"), round(report.elapsed, 2)),
            (Column("Complete"), "yes" if report.complete else "no"),
        ],
        title=str(file),
    )
    if gone := {kind: number for kind, number in report.missing.items() if number}:
        output.note(f"no longer on the server, and kept: {', '.join(f'{n} {kind}' for kind, n in gone.items())}")
    name_some([f"file {file_id}: {why}" for file_id, why in report.refused.items()], "not given by the server: ")
    name_some([f"{each.what}: {each.state}: {each.why}" for each in report.unfinished], "incomplete: ")
    if report.resumed and report.complete:
        began = datetime.fromtimestamp(report.began, UTC)
        output.note(f"this went on with the export of {began:%Y-%m-%d %H:%M} UTC; once more brings what is newer")
    if report.stopped is not None:
        output.error(f"stopped: {in_short(report.stopped)}")
        hints.say(Hint.EXPORT, terms, export=go_on)
    elif not report.complete:
        missing = [each for each in report.unfinished if each.what == "evals" and "404" in each.why]
        if missing:
            hints.say(Hint.WRONG_ADDRESS)
        else:
            hints.say(Hint.EXPORT, terms, export=go_on)
    elif demo:
        hints.say(Hint.VERIFY_DEMO, file=str(file))
    else:
        hints.say(Hint.VERIFY, terms, file=str(file))


# --- what an archive lacks --------------------------------------------------------------------------------------------


async def tell_gaps(archive: Archive, file: Path, terms: ConnectionOptions, *, demo: bool = False) -> bool:
    """Say what the archive lacks, and how to get it, before anything else is said of it; whether it is complete."""
    found = await archive.gaps()
    name_some(found.missing, "incomplete: ")
    name_some(found.left_out, "note: ")
    if not found.complete:
        hints.tell(await export_again(archive, file, terms, demo=demo))
    return found.complete


async def export_again(archive: Archive, file: Path, terms: ConnectionOptions, *, demo: bool = False) -> hints.Advice:
    """The command that exports into this archive once more: what was chosen last, from the server of these options."""
    last = (await archive.summary()).last
    selection = Selection() if last is None else Selection.of(last.selection)
    return hints.advice(Hint.EXPORT, terms, export=again(file, selection, demo))


def name_some(lines: Sequence[str], before: str) -> None:
    """Lines on stderr; of many only the first, and how many more there are."""
    for line in lines[:MOST_NAMED]:
        output.note(before + line)
    if len(lines) > MOST_NAMED:
        output.note(f"{before}and {len(lines) - MOST_NAMED:,} more")


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
    """Verify, write the manifest, and tell what was found; returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if offline:
            report = await archive.verify()
        else:
            async with server_of(terms, demo, first_answer) as client:
                report = await archive.verify(
                    client, sample=sample, concurrency=terms.concurrency, first_answer=first_answer
                )
        export = await export_again(archive, file, terms, demo=demo)
    write_manifest(report, file, manifest)
    show_verification(report, file)
    if report.stopped is not None:
        hints.say(Hint.VERIFY_WITHOUT_SERVER, file=str(file))
    else:
        hints.tell(hints.advice(Hint.SERVE, file=str(file)) if report.complete else export)
    return report.exit_code


def write_manifest(report: VerifyReport, file: Path, chosen: Path | None) -> None:
    """Write the manifest to the chosen place, or beside the archive, where that can be written to."""
    place = chosen or file.with_name(file.name + ".manifest.json")
    try:
        place.write_text(json.dumps(report.manifest, indent=2) + "\n")
    except OSError as error:
        if disk_is_full(error):
            raise
        if chosen is not None:
            raise click.ClickException(f"the manifest cannot be written to {place}: {error.strerror}") from error
        output.note(f"the manifest is not written, because {place.parent} cannot be written to: --manifest PATH")
    else:
        output.note(f"manifest: {place}")


def show_verification(report: VerifyReport, file: Path) -> None:
    output.table(
        [Column("What"), Column("Checked here", right=True), Column("Compared with the server", right=True)],
        [
            (kind.replace("_", " "), report.checked.get(kind), report.compared.get(kind))
            for kind in dict.fromkeys((*report.checked, *report.compared))
        ],
        title=str(file),
    )
    name_some([f"{each.what}: {each.problem}" for each in report.notes], "note: ")
    name_some([f"{each.what}: {each.problem}" for each in report.findings], "incomplete: ")
    if report.stopped is not None:
        output.error(f"the comparison stopped: {in_short(report.stopped)}")
    output.note("complete" if report.complete else "not complete")

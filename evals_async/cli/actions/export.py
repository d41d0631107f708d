"""`export`: copy with progress, and print the result."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import evals_async
from evals_async.archive import (
    Archive,
    ExportProgress,
    ExportReport,
    Selection,
)
from evals_async.archive.export.estimate import estimate
from evals_async.cli import hints, output
from evals_async.cli.actions.gaps import print_some
from evals_async.cli.connection import connect, open_client
from evals_async.cli.constants import SAMPLE_RUNS
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.names import with_options
from evals_async.cli.text import Column, human_bytes, human_seconds, plural
from evals_async.server import LocalServer, sample_tree


@asynccontextmanager
async def server_of(
    terms: ConnectionOptions, demo: bool, first_answer: float
) -> AsyncGenerator[evals_async.EvalsClient, None]:
    """Open a client of the service, or with `demo` of a local server with the sample."""
    if not demo:
        async with open_client(terms, first_answer) as client:
            yield client
        return
    async with LocalServer(remembered=0, read_only=False) as server:
        await server.seed(**sample_tree(SAMPLE_RUNS))
        async with connect(terms, base_url=server.base_url, api_key="local") as client:
            yield client


async def export_into(
    terms: ConnectionOptions,
    file: Path,
    selection: Selection,
    arguments: list[str],
    *,
    demo: bool,
    max_outage: float,
    first_answer: float,
    another_server: bool,
    reread: bool,
) -> int:
    """Copy with progress, and print the result. `arguments` continue the export. Returns the exit code."""
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
                on_progress=ProgressPrinter(update),
            )
    show_export(report, file, arguments, demo, terms, partial=selection != Selection())
    return report.exit_code


async def estimate_for(
    terms: ConnectionOptions, selection: Selection, arguments: list[str], *, demo: bool, first_answer: float
) -> int:
    """Count what an export would copy, and print the estimate. Returns the exit code."""
    async with server_of(terms, demo, first_answer) as client:
        await show_estimate(client, selection, terms.concurrency, first_answer)
    hints.say(Hint.EXPORT, terms, export=arguments)
    return 0


class ProgressPrinter:
    """Prints the progress, each wait for the server, and that the server responds again."""

    def __init__(self, update: output.Update) -> None:
        self.update = update
        self.waiting: float | None = None

    def __call__(self, progress: ExportProgress) -> None:
        waiting = progress.waiting
        if waiting is None:
            if self.waiting is not None:
                output.note("the server responds again")
            self.waiting = None
        elif self.waiting is None or waiting.until > self.waiting + 1:
            self.waiting = waiting.until
            since, until = time_of_day(waiting.since), time_of_day(waiting.until)
            output.note(f"waiting for the server since {since}, until {until} at most: {short_reason(waiting.why)}")
        tell(progress, self.update)


def short_reason(why: str) -> str:
    """Return a reason without the client's remark on retries, because the export itself retries too."""
    return with_options(why.removesuffix(" [retries are off]").removesuffix(" [no attempts left]"))


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
            (Column("Runs without a count"), found.uncounted),
            (Column("Files"), found.files),
            (Column("Bytes of files", show=human_bytes), found.file_bytes),
            (Column("Requests"), found.requests),
            (Column("Estimated seconds"), round(found.seconds(concurrency), 1)),
        ],
        title=f"What an export from {client.base_url} would copy",
    )
    output.note("nothing was written")


def show_export(
    report: ExportReport, file: Path, arguments: list[str], demo: bool, terms: ConnectionOptions, *, partial: bool
) -> None:
    """Print the result of an export, and what to do next. `partial` means that not everything was selected."""
    names = (("evals", "Evals"), ("runs", "Runs"), ("output_items", "Items"), ("files", "Files"))
    output.record(
        [
            *((Column(title), report.counts[kind]) for kind, title in names),
            (Column("Requests"), report.requests),
            (Column("Bytes received", show=human_bytes), report.bytes),
            (Column("Seconds"), round(report.elapsed, 2)),
            (Column("Complete"), ("yes, for what was selected" if partial else "yes") if report.complete else "no"),
        ],
        title=str(file),
    )
    if gone := {kind: number for kind, number in report.missing.items() if number}:
        output.note(f"no longer on the server, but kept: {', '.join(f'{n} {kind}' for kind, n in gone.items())}")
    print_some([f"file {file_id}: {why}" for file_id, why in report.refused.items()], "not returned by the server: ")
    print_some([f"{each.what}: {each.state}: {with_options(each.why)}" for each in report.unfinished], "incomplete: ")
    if report.resumed and report.complete:
        began = datetime.fromtimestamp(report.began, UTC)
        output.note(f"this continued the export of {began:%Y-%m-%d %H:%M} UTC; export again to copy newer data")
    if report.stopped is not None:
        output.error(f"stopped: {short_reason(report.stopped)}")
        hints.say(Hint.EXPORT, terms, export=arguments)
    elif not report.complete:
        missing = [each.what for each in report.unfinished if "404" in each.why]
        if "evals" in missing:
            hints.say(Hint.WRONG_ADDRESS)
        elif missing and all(what.startswith("eval ") for what in missing) and len(missing) == len(report.unfinished):
            hints.say(Hint.LIST_EVALS, terms)  # the same command would fail again
        else:
            hints.say(Hint.EXPORT, terms, export=arguments)
    elif demo:
        hints.say(Hint.VERIFY_DEMO, file=str(file))
    else:
        hints.say(Hint.VERIFY, terms, file=str(file))

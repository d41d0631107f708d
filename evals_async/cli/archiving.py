"""`evals-async export | verify | info | show`: everything into one file, with proof, and a look into it.

What is written into the file, and how, is told in `archive`. Converting is in `converting`.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

import evals_async
from evals_async import errors
from evals_async.cli import INTERRUPTED, failed, output
from evals_async.cli.groups import Terms, examples, global_options, pass_terms
from evals_async.cli.service import connect
from evals_async.cli.text import STATUS_STYLES, Column, human_bytes, human_seconds, percent, plural
from evals_async.cli.views import RUNS


if TYPE_CHECKING:
    from evals_async.archive import Archive, ExportProgress, ExportReport, Selection, VerifyReport

T = TypeVar("T")

DISK_FULL = 4
DEMO_RUNS = 300
SAMPLE_RUNS = 20
MOST_NAMED = 20  # things that are named one by one before they are only counted

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
demo_option = click.option("--demo", is_flag=True, help="Take the demo's sample as the server: no key, no network.")


@asynccontextmanager
async def server_of(terms: Terms, demo: bool) -> AsyncGenerator[evals_async.EvalsClient, None]:
    """A client of the service that the options and the environment name, or of a local server with the sample."""
    if not demo:
        async with connect(terms) as client:
            yield client
        return
    from evals_async.server import LocalServer, sample_tree

    async with LocalServer(remembered=0, read_only=False) as server:
        await server.seed(**sample_tree(DEMO_RUNS))
        async with connect(terms, base_url=server.base_url, api_key="local") as client:
            yield client


def run_quietly(terms: Terms, work: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await work()

    if terms.verbose:
        output.log_to_stderr()
    return asyncio.run(main())


def seconds_of(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    return None if value is None else int(value.replace(tzinfo=UTC).timestamp())


# --- export -----------------------------------------------------------------------------------------------------------


@click.command(
    epilog=examples(
        "evals-async export",
        "evals-async export --to evals.db --dry-run",
        "evals-async export --to one.db --eval eval_abc --no-files",
        "evals-async export --to demo.db --demo",
    )
)
@click.option("--to", "file", default="evals.db", show_default=True, type=FILE, help="The archive; made if missing.")
@click.option("--eval", "eval_ids", multiple=True, metavar="EVAL_ID", help="Only this eval. May be repeated.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    callback=seconds_of,
    help="Leave out the items and files of runs created before (UTC).",
)
@click.option("--no-items", is_flag=True, help="Leave out output items.")
@click.option("--no-files", is_flag=True, help="Leave out files and their contents.")
@click.option("--dry-run", is_flag=True, help="Count and estimate only; nothing is written.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to bear a server that does not answer.",
)
@click.option("--another-server", is_flag=True, help="The same service has another address now.")
@demo_option
@global_options(hidden=True)
@pass_terms
def export(
    terms: Terms,
    file: Path,
    eval_ids: tuple[str, ...],
    since: int | None,
    no_items: bool,
    no_files: bool,
    dry_run: bool,
    patience: float,
    another_server: bool,
    demo: bool,
) -> int:
    """Copy evals, runs, output items and files into one SQLite file.

    Reads only. May be interrupted at any time: the same command goes on where it stopped, and later brings what is
    new. Exit codes: 0 complete, 3 incomplete (what is missing is named), 4 the disk is full, 75 the server does not
    answer, try again.
    """
    from evals_async.archive import Archive, Selection, disk_is_full

    selection = Selection(evals=eval_ids, since=since, items=not no_items, files=not no_files)

    go_on = shlex.join(["evals-async", "export", *again(file, selection, demo)])

    async def work() -> int:
        async with server_of(terms, demo) as client:
            if dry_run:
                return await show_estimate(client, file, selection, terms.concurrency)
            async with Archive.open(file) as archive:
                with output.progress("copying items") as update:
                    report = await archive.export(
                        client,
                        selection,
                        concurrency=terms.concurrency,
                        patience=patience,
                        another_server=another_server,
                        on_progress=lambda progress: tell(progress, update),
                    )
        show_export(report, file, go_on, demo)
        return report.exit_code

    try:
        return run_quietly(terms, work)
    except KeyboardInterrupt:
        output.note("stopped; what was copied is kept")
        output.hint(go_on)
        return INTERRUPTED
    except (errors.ArchiveError, OSError) as error:
        if not disk_is_full(error):
            raise
        output.error(f"the disk is full: {error}")
        output.hint(f"make room, then: {go_on}")
        return DISK_FULL
    except errors.RequestError as error:
        code = failed(error)
        output.note(f"what was copied is kept; when that is cured: {go_on}")
        return code


def again(file: Path, selection: Selection, demo: bool) -> list[str]:
    """The arguments that go on with an export."""
    words = ["--to", str(file)]
    for eval_id in selection.evals:
        words += ["--eval", eval_id]
    if selection.since is not None:
        words += ["--since", f"{datetime.fromtimestamp(selection.since, UTC):%Y-%m-%dT%H:%M:%S}"]
    flags = (("--no-items", not selection.items), ("--no-files", not selection.files), ("--demo", demo))
    return words + [flag for flag, given in flags if given]


def tell(progress: ExportProgress, update: output.Update) -> None:
    words = [
        plural(progress.evals, "eval"),
        plural(progress.runs, "run"),
        plural(progress.files, "file"),
        human_bytes(progress.bytes),
        f"{progress.rate:,.0f} items/s",
    ]
    if progress.eta:
        words.append(f"{human_seconds(progress.eta)} left")
    update(progress.items, max(progress.expected_items, progress.items) or None, ", ".join(words))


async def show_estimate(client: evals_async.EvalsClient, file: Path, selection: Selection, concurrency: int) -> int:
    from evals_async.archive.estimate import estimate

    found = await estimate(client, selection, concurrency=concurrency)
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
        title=f"What an export from {client.settings.base_url} would copy",
    )
    output.note("nothing was written")
    output.hint(shlex.join(["evals-async", "export", "--to", str(file)]))
    return 0


def show_export(report: ExportReport, file: Path, go_on: str, demo: bool) -> None:
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
        output.error(f"stopped: {report.stopped}")
        output.hint(go_on)
    else:
        output.hint(shlex.join(["evals-async", "verify", str(file), *(["--demo"] if demo else [])]))


def name_some(lines: Sequence[str], before: str) -> None:
    """Lines on stderr; of many only the first, and how many more there are."""
    for line in lines[:MOST_NAMED]:
        output.note(before + line)
    if len(lines) > MOST_NAMED:
        output.note(f"{before}and {len(lines) - MOST_NAMED:,} more")


# --- verify -----------------------------------------------------------------------------------------------------------


@click.command(
    epilog=examples(
        "evals-async verify evals.db",
        "evals-async verify evals.db --all",
        "evals-async verify evals.db --offline --manifest proof.json",
        "evals-async verify demo.db --demo",
    )
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option("--offline", is_flag=True, help="Ask no server: check the archive by itself.")
@click.option("--all", "everything", is_flag=True, help="Compare the items of all runs, and all contents.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=SAMPLE_RUNS,
    show_default=True,
    help="Runs drawn by chance whose items are compared.",
)
@click.option("--manifest", type=FILE, metavar="PATH", help="Where to write the manifest. Default: FILE.manifest.json.")
@demo_option
@global_options(hidden=True)
@pass_terms
def verify(
    terms: Terms, file: Path, offline: bool, everything: bool, sample: int, manifest: Path | None, demo: bool
) -> int:
    """Prove that an archive is whole, by itself and against the server.

    Every object is hashed; every run must have as many items as it counts, and every file that it refers to. Against
    the server: all evals, runs and files, and the items of a sample of runs. Writes a manifest of counts and hashes.
    Exit codes: 0 complete, 3 incomplete (what is missing is named), 75 the server does not answer, try again.
    """
    from evals_async.archive import Archive

    async def work() -> VerifyReport:
        async with Archive.open(file) as archive:
            if offline:
                return await archive.verify()
            async with server_of(terms, demo) as client:
                return await archive.verify(
                    client, sample=None if everything else sample, concurrency=terms.concurrency
                )

    report = run_quietly(terms, work)
    place = manifest or file.with_name(file.name + ".manifest.json")
    place.write_text(json.dumps(report.manifest, indent=2) + "\n")
    show_verification(report, file, place)
    return report.exit_code


def show_verification(report: VerifyReport, file: Path, place: Path) -> None:
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
        output.error(f"the comparison stopped: {report.stopped}")
    output.note(f"manifest: {place}")
    output.note("complete" if report.complete else "not complete")
    output.hint(shlex.join(["evals-async", "serve", str(file)] if report.complete else ["evals-async", "export"]))


# --- info and show ----------------------------------------------------------------------------------------------------


@click.command(epilog=examples("evals-async info evals.db"))
@click.argument("file", metavar="FILE.db", type=EXISTING)
@global_options(hidden=True)
@pass_terms
def info(terms: Terms, file: Path) -> None:
    """Show what is inside an archive."""
    from evals_async.archive import Archive, Summary

    async def work() -> Summary:
        async with Archive.open(file, read_only=True) as archive:
            return await archive.summary()

    found = run_quietly(terms, work)
    last = found.last
    moment = None if last is None else datetime.fromtimestamp(last.ended or last.began, UTC)
    state = "never filled" if last is None else last.outcome or "interrupted: export again"
    output.record(
        [
            (Column("Server"), None if last is None else last.server),
            (Column("Last export"), moment),
            (Column("State"), state),
            *((Column(kind.replace("_", " ").capitalize()), number) for kind, number in found.counts.items()),
            (Column("Contents"), found.contents),
            (Column("Bytes of contents", show=human_bytes), found.content_bytes),
            (Column("Unfinished"), found.unfinished),
            (Column("Damaged"), found.damaged),
            (Column("No longer on the server"), sum(found.missing.values())),
            (Column("Being written by"), None if found.writer is None else f"process {found.writer[0]}"),
        ],
        title=str(file),
    )
    output.say()
    output.table(
        [
            Column("Eval", keep=True),
            Column("Name"),
            Column("Runs", right=True),
            Column("Items", right=True),
            Column("Newest run"),
            Column("On the server"),
        ],
        [
            (
                each.eval.id,
                each.eval.name,
                each.runs,
                each.items,
                None if each.newest_run is None else datetime.fromtimestamp(each.newest_run, UTC),
                "no" if each.missing else "yes",
            )
            for each in found.evals
        ],
    )
    output.hint(shlex.join(["evals-async", "show", str(file)]))


@click.command(
    epilog=examples(
        "evals-async show evals.db", "evals-async show evals.db evalrun_def", "evals-async show evals.db RUN --rows 50"
    )
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.argument("run", metavar="[RUN_ID]", required=False)
@click.option("--rows", type=click.IntRange(min=0), default=10, show_default=True, help="Failures to show.")
@global_options(hidden=True)
@pass_terms
def show(terms: Terms, file: Path, run: str | None, rows: int) -> None:
    """Show a run of an archive with its results and failures; without RUN_ID, all runs."""
    from evals_async.archive import Archive

    async def work() -> None:
        async with Archive.open(file, read_only=True) as archive:
            if run is None:
                await RUNS.show_many(archive.runs(), None)
                return
            await show_run(archive, run, rows)

    run_quietly(terms, work)


async def show_run(archive: Archive, name: str, rows: int) -> None:
    """One run, as it is on the service's dashboard: its numbers, its criteria, its failures."""
    eval_id, _, run_id = name.rpartition("/")
    found = await archive.run(run_id, eval_id=eval_id or None)
    RUNS.show_one(found, None)
    failures: list[Sequence[object]] = []
    number = 0
    async for item in archive.items(found):
        if item.passed and not item.is_error:
            continue
        number += 1
        if len(failures) >= rows:
            continue
        sample = item.sample
        said = None if sample is None else sample.output_text
        if item.is_error:
            failure = None if sample is None else sample.failure
            why = None if failure is None else f"{failure.code}: {failure.message}"
            failures.append((item.datasource_item_id, item.status, None, None, why, said))
        for result in item.results or ():
            if result.passed is False and not item.is_error:
                why = result.explanation
                failures.append((item.datasource_item_id, item.status, result.plain_name, result.score, why, said))
    if failures:
        output.say()
        output.table(
            [
                Column("Row", right=True),
                Column("Status", keep=True, styles=STATUS_STYLES),
                Column("Criterion"),
                Column("Score", right=True),
                Column("Why"),
                Column("Output"),
            ],
            failures,
            title=f"Failures ({plural(number, 'row')})",
        )
    if found.pass_rate is not None:
        output.note(f"{percent(found.pass_rate)} passed")

"""`info` and `show`: print the contents of an archive, its runs, and one run with its failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import evals_async
from evals_async.archive import Archive, ArchiveSummary
from evals_async.cli import hints, output
from evals_async.cli.actions.gaps import print_gaps
from evals_async.cli.groups import ConnectionOptions, NotThere
from evals_async.cli.hints import Hint
from evals_async.cli.text import STATUS_STYLES, Column, human_bytes, percent, plural
from evals_async.cli.views import RUNS
from evals_async.errors import InvalidArgument


async def info_of(terms: ConnectionOptions, file: Path) -> None:
    """Print the contents of an archive as a record and a table."""
    async with Archive.open(file, read_only=True) as archive:
        await print_gaps(archive, file, terms)
        show_summary(await archive.summary(), file)


def day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d}"


def show_summary(found: ArchiveSummary, file: Path) -> None:
    last = found.last
    moment = None if last is None else datetime.fromtimestamp(last.ended or last.began, UTC)
    state = "no export yet" if last is None else last.outcome or "interrupted: export again"
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
            Column("Name", wrap=True),
            Column("Runs", right=True),
            Column("Items", right=True),
            Column("Newest run", show=day),
            Column("On the server", where="file"),
        ],
        [
            (
                each.id,
                each.name,
                each.runs,
                each.items,
                None if each.newest_run is None else datetime.fromtimestamp(each.newest_run, UTC),
                "no" if each.missing else "yes",
            )
            for each in found.evals
        ],
    )
    hints.say(Hint.SHOW, file=str(file))


async def show_file(terms: ConnectionOptions, file: Path, run: str | None, rows: int) -> None:
    """Print one run of an archive, or all its runs."""
    async with Archive.open(file, read_only=True) as archive:
        await print_gaps(archive, file, terms)
        if run is None:
            await RUNS.show_many(archive.runs(), None)
        else:
            await show_run(archive, file, run, rows)


async def show_run(archive: Archive, file: Path, name: str, rows: int) -> None:
    """Print one run: its numbers, its criteria and its failures."""
    eval_id, _, run_id = name.rpartition("/")
    found = await run_of(archive, file, run_id, eval_id or None)
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
                Column("Criterion", wrap=True),
                Column("Score", right=True),
                Column("Why", wrap=True),
                Column("Output"),
            ],
            failures,
            title=f"Failures ({plural(number, 'row')})",
        )
    if found.pass_rate is not None:
        output.note(f"{percent(found.pass_rate)} passed")


async def run_of(archive: Archive, file: Path, run_id: str, eval_id: str | None) -> evals_async.EvalRun:
    """Return a run of an archive. Raises `NotThere` with a hint how to list the runs."""
    try:
        return await archive.run(run_id, eval_id=eval_id)
    except InvalidArgument as error:
        raise NotThere(str(error), hints.advice(Hint.SHOW, file=str(file))) from None

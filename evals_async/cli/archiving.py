"""`evals-async export | verify | info | show`: everything into one file, with proof, and a look into it.

What is written into the file, and how, is told in `archive`. Converting is in `converting`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from evals_async import errors
from evals_async.cli import INTERRUPTED, KeyMissing, failed, hints, output
from evals_async.cli.groups import Command, ConnectionOptions, Misused, examples, global_options, pass_terms
from evals_async.cli.hints import Hint
from evals_async.cli.service import run


SAMPLE_RUNS = 20
MAX_OUTAGE, FIRST_ANSWER = 300.0, 30.0  # seconds

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
first_answer_option = click.option(
    "--first-answer",
    type=click.FloatRange(min=0, min_open=True),
    default=FIRST_ANSWER,
    show_default=True,
    metavar="SECONDS",
    help="How long the first answer of the server may take.",
)
demo_option = click.option("--demo", is_flag=True, help="Take the demo's sample as the server: no key, no network.")


def seconds_of(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    return None if value is None else int(value.replace(tzinfo=UTC).timestamp())


# --- export -----------------------------------------------------------------------------------------------------------


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async export",
        "evals-async export --to evals.db --dry-run",
        "evals-async export --to one.db --eval eval_abc --no-files",
        "evals-async export --to demo.db --demo",
    ),
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
    "--max-outage",
    type=click.FloatRange(min=0),
    default=MAX_OUTAGE,
    show_default=True,
    metavar="SECONDS",
    help="How long to bear a server that does not answer.",
)
@first_answer_option
@click.option("--reread", is_flag=True, help="Read the items of all runs again, also of those that are over.")
@click.option("--another-server", is_flag=True, help="The same service has another address now.")
@demo_option
@global_options
@pass_terms
def export(
    terms: ConnectionOptions,
    file: Path,
    eval_ids: tuple[str, ...],
    since: int | None,
    no_items: bool,
    no_files: bool,
    dry_run: bool,
    max_outage: float,
    first_answer: float,
    reread: bool,
    another_server: bool,
    demo: bool,
) -> int:
    """Copy evals, runs, output items and files into one SQLite file.

    Reads only. May be interrupted at any time: the same command goes on where it stopped, and later brings what is
    new. Exit codes: 0 complete, 3 incomplete (what is missing is named), 74 the disk is full, 75 the server does not
    answer, try again.
    """
    from evals_async.archive import Selection, disk_is_full
    from evals_async.archive.values import DISK_FULL
    from evals_async.cli.archived import again, estimate_for, export_into

    selection = Selection(evals=eval_ids, since=since, items=not no_items, files=not no_files)
    go_on = again(file, selection, demo, max_outage, first_answer)
    if dry_run:
        return run(terms, estimate_for(terms, selection, go_on, demo=demo, first_answer=first_answer))
    flags = {"reread": reread, "another_server": another_server, "demo": demo}
    copying = export_into(terms, file, selection, go_on, max_outage=max_outage, first_answer=first_answer, **flags)
    try:
        return run(terms, copying)
    except KeyboardInterrupt:
        output.note("stopped; what was copied is kept")
        hints.say(Hint.EXPORT, terms, export=go_on)
        return INTERRUPTED
    except (errors.ArchiveError, OSError) as error:
        if not disk_is_full(error):
            raise
        output.error(f"the disk is full: {error}")
        hints.say(Hint.FREE_SPACE, terms)
        return DISK_FULL
    except errors.RequestError as error:
        code = failed(error, terms=terms)
        output.note("what was copied is kept")
        hints.say(Hint.EXPORT_WHEN_CURED, terms, export=go_on)
        return code


# --- verify -----------------------------------------------------------------------------------------------------------


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async verify evals.db",
        "evals-async verify evals.db --all",
        "evals-async verify evals.db --offline --manifest proof.json",
        "evals-async verify demo.db --demo",
    ),
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
@first_answer_option
@demo_option
@global_options
@pass_terms
def verify(
    terms: ConnectionOptions,
    file: Path,
    offline: bool,
    everything: bool,
    sample: int,
    manifest: Path | None,
    first_answer: float,
    demo: bool,
) -> int:
    """Prove that an archive is whole, by itself and against the server.

    Every object is hashed; every run must have as many items as it counts, and every file that it refers to. Against
    the server: all evals, runs and files, and the items of a sample of runs. Writes a manifest of counts and hashes.
    Exit codes: 0 complete, 3 incomplete (what is missing is named), 75 the server does not answer, try again.
    """
    from evals_async.cli.archived import verify_file

    chosen = None if everything else sample
    try:
        flags = {"offline": offline, "demo": demo}
        return run(
            terms, verify_file(terms, file, sample=chosen, manifest=manifest, first_answer=first_answer, **flags)
        )
    except KeyMissing as error:
        code = failed(error)
        hints.say(Hint.VERIFY_WITHOUT_KEY, file=str(file))
        hints.say(Hint.VERIFY_DEMO_INSTEAD, file=str(file))
        return code


# --- info and show ----------------------------------------------------------------------------------------------------


@click.command(cls=Command, epilog=examples("evals-async info evals.db"))
@click.argument("file", metavar="FILE.db", type=EXISTING)
@global_options
@pass_terms
def info(terms: ConnectionOptions, file: Path) -> None:
    """Show what is inside an archive."""
    from evals_async.cli.archive_views import info_of

    run(terms, info_of(terms, file))


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async show evals.db", "evals-async show evals.db evalrun_def", "evals-async show evals.db RUN --rows 50"
    ),
)
@click.argument("place", metavar="FILE.db")
@click.argument("name", metavar="[RUN_ID]", required=False)
@click.option("--rows", type=click.IntRange(min=0), default=10, show_default=True, help="Failures to show.")
@global_options
@pass_terms
def show(terms: ConnectionOptions, place: str, name: str | None, rows: int) -> None:
    """Show a run of an archive with its results and failures; without RUN_ID, all runs.

    FILE.db:RUN_ID, as `compare` and `report` have it, will do too.
    """
    file, colon, run_id = place.rpartition(":")
    if name is None and colon and Path(file).is_file():
        place, name = file, run_id
    if not Path(place).is_file():
        raise Misused(f"There is no file {place}.", hints.advice(Hint.EXPORT_INTO, file=place))
    from evals_async.cli.archive_views import show_file

    run(terms, show_file(terms, Path(place), name, rows))

"""`evals-async export`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from evals_async import errors
from evals_async.cli import failed, hints, output
from evals_async.cli.commands.archive_options import FILE, demo_option, first_answer_option
from evals_async.cli.connection import run
from evals_async.cli.constants import INTERRUPTED, MAX_OUTAGE
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.hints import Hint


def seconds_of(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    return None if value is None else int(value.replace(tzinfo=UTC).timestamp())


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async export",
        "evals-async export --to evals.db --dry-run",
        "evals-async export --to one.db --eval eval_abc --no-files",
        "evals-async export --to demo.db --demo",
    ),
)
@click.option("--to", "file", default="evals.db", show_default=True, type=FILE, help="The archive; created if missing.")
@click.option("--eval", "eval_ids", multiple=True, metavar="EVAL_ID", help="Only this eval. May be repeated.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    callback=seconds_of,
    help="Omit the items and files of runs that were created before this date (UTC).",
)
@click.option("--no-items", is_flag=True, help="Omit output items.")
@click.option("--no-files", is_flag=True, help="Omit files and their contents.")
@click.option("--dry-run", is_flag=True, help="Only count and estimate; nothing is written.")
@click.option(
    "--max-outage",
    type=click.FloatRange(min=0),
    default=MAX_OUTAGE,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a server that stopped responding.",
)
@first_answer_option
@click.option("--reread", is_flag=True, help="Read the items of all runs again, including runs that have ended.")
@click.option("--another-server", is_flag=True, help="Accept a server with another address, if it has the same data.")
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

    It only reads from the service. You may interrupt it at any time: the same command continues, and later copies new
    data. Exit codes: 0 complete, 3 incomplete (what is missing is printed), 74 the disk is full, 75 the server does not
    respond: try again later.
    """
    from evals_async.archive import Selection, disk_is_full
    from evals_async.archive.values import DISK_FULL
    from evals_async.cli.actions.export import estimate_for, export_into
    from evals_async.cli.actions.gaps import export_arguments

    selection = Selection(evals=eval_ids, since=since, items=not no_items, files=not no_files)
    arguments = export_arguments(file, selection, demo, max_outage, first_answer)
    if dry_run:
        return run(terms, estimate_for(terms, selection, arguments, demo=demo, first_answer=first_answer))
    flags = {"reread": reread, "another_server": another_server, "demo": demo}
    copying = export_into(terms, file, selection, arguments, max_outage=max_outage, first_answer=first_answer, **flags)
    try:
        return run(terms, copying)
    except KeyboardInterrupt:
        output.note("stopped" + ("; what was copied is kept" if file.exists() else ""))
        hints.say(Hint.EXPORT, terms, export=arguments)
        return INTERRUPTED
    except (errors.ArchiveError, OSError) as error:
        if not disk_is_full(error):
            raise
        output.error(f"the disk is full: {error}")
        hints.say(Hint.FREE_SPACE, terms)
        return DISK_FULL
    except errors.RequestError as error:
        code = failed(error, terms=terms)
        if file.exists():  # a file that was created for nothing is removed
            output.note("what was copied is kept")
        hints.say(Hint.EXPORT_WHEN_SOLVED, terms, export=arguments)
        return code

"""`evals-async report`."""

from __future__ import annotations

from pathlib import Path

import click

from evals_async._extras import require_extra
from evals_async.cli.commands.archive_options import FILE
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, eval_option, examples, global_options, pass_terms


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async report eval_abc/evalrun_def --to run.html",
        "evals-async report evals.db:evalrun_def --to run.html --items 5000",
    ),
)
@click.argument("names", metavar="RUN", nargs=-1, required=True)
@eval_option
@click.option("--to", "file", required=True, type=FILE, help="The HTML file to write.")
@click.option(
    "--items", type=click.IntRange(min=0), default=1000, show_default=True, help="Items to list, failures first."
)
@global_options
@pass_terms
def report(terms: ConnectionOptions, names: tuple[str, ...], eval_id: str | None, file: Path, items: int) -> None:
    """Write a page about a run as one HTML file that works offline.

    A run is EVAL_ID/RUN_ID on the service, or FILE.db:RUN_ID (FILE.db RUN_ID) in an archive. The numbers cover all
    items. The file loads nothing from the network, so you can send it to others. It needs the extra "report".
    """
    require_extra("report pages need", "report")
    from evals_async.cli.actions.report import report_run
    from evals_async.cli.actions.runs import expand_archive, parse_run

    name, *others = expand_archive(names)
    if others:
        raise click.UsageError("report needs exactly one run.")
    run(terms, report_run(terms, parse_run(name, eval_id, terms), file, items))

"""`evals-async info` and `evals-async show`."""

from __future__ import annotations

from pathlib import Path

import click

from evals_async.cli.commands.archive_options import EXISTING
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, local_options, pass_terms


@click.command(cls=Command, epilog=examples("evals-async info evals.db"))
@click.argument("file", metavar="FILE.db", type=EXISTING)
@local_options
@pass_terms
def info(terms: ConnectionOptions, file: Path) -> None:
    """Print what an archive contains."""
    from evals_async.cli.actions.show import info_of

    run(terms, info_of(terms, file))


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async show evals.db", "evals-async show evals.db evalrun_def", "evals-async show evals.db RUN --rows 50"
    ),
)
@click.argument("place", metavar="FILE.db")
@click.argument("name", metavar="[RUN_ID]", required=False)
@click.option("--rows", type=click.IntRange(min=0), default=10, show_default=True, help="Failures to print.")
@local_options
@pass_terms
def show(terms: ConnectionOptions, place: str, name: str | None, rows: int) -> None:
    """Print a run of an archive with its results and failures; without RUN_ID, list all runs.

    You can also write FILE.db:RUN_ID, as for `compare` and `report`.
    """
    file, colon, run_id = place.rpartition(":")
    if name is None and colon and Path(file).is_file():
        place, name = file, run_id
    archive: Path = EXISTING.convert(place, None, None)
    from evals_async.cli.actions.show import show_file

    run(terms, show_file(terms, archive, name, rows))

"""`evals-async regrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async._extras import require_extra
from evals_async.cli.commands.archive_options import EXISTING, MODEL_MAP
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, local_options, pass_terms


Python: TypeAlias = Literal["sandbox", "trusted"]


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async regrade evals.db",
        'evals-async regrade evals.db --criteria "Exact match" --json',
        "evals-async regrade evals.db --models models.toml --estimate",
        "evals-async regrade evals.db --models models.toml --max-calls 200",
    ),
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option("--criteria", multiple=True, metavar="NAME", help="Only this criterion, by name or id. May be repeated.")
@click.option("--eval", "evals", multiple=True, metavar="EVAL_ID", help="Only this eval. May be repeated.")
@click.option(
    "--models",
    "models_file",
    type=MODEL_MAP,
    metavar="FILE.toml",
    help="Use the models of this map as judges; this costs money.",
)
@click.option("--python", type=click.Choice(get_args(Python)), help="Run python graders, in a sandbox or without one.")
@click.option("--max-calls", type=click.IntRange(min=1), metavar="N", help="Send at most N rows to judges.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Stop the judges after N tokens.")
@click.option("--estimate", is_flag=True, help="Print the cost, and grade nothing.")
@click.option("--json", "form", flag_value="json", help="Print the agreement as one JSON document.")
@local_options
@pass_terms
def regrade(
    terms: ConnectionOptions,
    file: Path,
    criteria: tuple[str, ...],
    evals: tuple[str, ...],
    models_file: Path | None,
    python: Python | None,
    max_calls: int | None,
    max_tokens: int | None,
    estimate: bool,
    form: Literal["json"] | None,
) -> int:
    """Grade the items of an archive again, and compare the grades with those of the service.

    The new grades are in their own table; those of the service do not change. String checks and text similarity are
    graded on this machine. Judges run only with --models; their cost is printed first. Rows that have a grade are
    skipped, so the same command continues after an interruption or a limit. Exit codes: 0 done, 3 stopped by a limit.
    """
    if not estimate:
        require_extra("grading in batches needs", "arrow")
    from evals_async.cli.actions.regrade import regrade_file

    return run(
        terms,
        regrade_file(
            terms,
            file,
            criteria=criteria,
            evals=evals,
            models_file=models_file,
            python=python,
            max_calls=max_calls,
            max_tokens=max_tokens,
            estimate=estimate,
            form=form,
        ),
    )

"""`evals-async regrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms


Python: TypeAlias = Literal["sandbox", "trusted"]

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


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
    type=EXISTING,
    metavar="FILE.toml",
    help="Ask the models of this map; it costs.",
)
@click.option("--python", type=click.Choice(get_args(Python)), help="Run python graders, in a sandbox or without one.")
@click.option("--max-calls", type=click.IntRange(min=1), metavar="N", help="At most so many rows for judges.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Stop asking judges after so many tokens.")
@click.option("--estimate", is_flag=True, help="Tell what it would cost, and grade nothing.")
@click.option("--json", "form", flag_value="json", help="Print the agreement as one JSON document.")
@global_options
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
    """Grade the items of an archive again, and compare with the service's grades.

    Our grades are kept in the archive beside the service's, never over them. String checks and text similarity are
    graded here; judges are asked only with --models, and what that costs is told first. What was graded before is not
    graded again: interrupted, or stopped by a cap, the same command goes on. Exit codes: 0 done, 3 stopped by a cap.
    """
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

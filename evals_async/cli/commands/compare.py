"""`evals-async compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import click

from evals_async._extras import require_extra
from evals_async.cli.commands.archive_options import FILE
from evals_async.cli.connection import run
from evals_async.cli.constants import FailOn
from evals_async.cli.groups import Command, ConnectionOptions, eval_option, examples, global_options, pass_terms


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async compare eval_abc/evalrun_old eval_abc/evalrun_new",
        "evals-async compare evalrun_old evalrun_new --eval eval_abc",
        "evals-async compare evals.db:RUN_A evals.db:RUN_B --cluster item.document",
        "evals-async compare evals.db:evalrun_old eval_abc/evalrun_new --json",
        "evals-async compare $BASE $NEW --fail-on regression --to compared.html",
    ),
)
@click.argument("names", metavar="RUN_A RUN_B...", nargs=-1, required=True)
@eval_option
@click.option("--cluster", metavar="FIELD", help="Rows with the same item.FIELD may depend on each other.")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="The confidence of intervals and verdicts.",
)
@click.option(
    "--price", "prices", multiple=True, metavar="MODEL=IN/OUT", help="Price of a million tokens. May be repeated."
)
@click.option("--rows", type=click.IntRange(min=0), default=10, show_default=True, help="Rows that flipped to show.")
@click.option(
    "--json", "form", flag_value="json", help="Print one JSON document: an object, or an array for several runs."
)
@click.option("--to", "file", type=FILE, help="Write a page with the rows that flipped, as one HTML file.")
@click.option(
    "--fail-on",
    type=click.Choice(get_args(FailOn)),
    help="Exit code 5 for a significant regression, or for any row that passed before and fails now.",
)
@global_options
@pass_terms
def compare(
    terms: ConnectionOptions,
    names: tuple[str, ...],
    eval_id: str | None,
    cluster: str | None,
    confidence: float,
    prices: tuple[str, ...],
    rows: int,
    form: Literal["json"] | None,
    file: Path | None,
    fail_on: FailOn | None,
) -> int:
    """Compare every run with the first one, row by row.

    A run is EVAL_ID/RUN_ID on the service, or FILE.db:RUN_ID in an archive. For runs of one archive, write FILE.db
    RUN_A RUN_B. First, rows are aligned, and what does not align is printed. Then, per criterion: pass rates, flips in
    both directions, and whether the difference is more than chance.
    Exit codes: 0 ok, 3 no row is in both runs, 5 --fail-on found what it was set to find.
    """
    if file is not None:
        require_extra("report pages need", "report")
    from evals_async.cli.actions.compare import CompareOptions, compare_runs
    from evals_async.cli.actions.runs import expand_archive, parse_run
    from evals_async.comparison import TokenPrice

    names = expand_archive(names)
    if len(names) < 2:
        raise click.UsageError("compare needs at least two runs.")
    if file is not None and len(names) > 2:
        raise click.UsageError("--to writes a page about two runs: use it with two runs.")
    places = [parse_run(name, eval_id, terms) for name in names]
    options = CompareOptions(
        cluster=cluster,
        confidence=confidence,
        prices=[TokenPrice.of(price) for price in prices],
        rows=rows,
        form=form,
        file=file,
        fail_on=fail_on,
    )
    return run(terms, compare_runs(terms, places, options))

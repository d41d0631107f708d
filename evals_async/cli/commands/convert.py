"""`evals-async convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async.cli.commands.archive_options import EXISTING, allow_option, strict_option
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, local_options, pass_terms


Format: TypeAlias = Literal["jsonl", "csv", "parquet", "promptfoo", "promptfooconfig", "inspect"]


DIRECTORY = click.Path(file_okay=False, path_type=Path)
dry_option = click.option("--dry-run", "--dry", "dry", is_flag=True, help="Only list the files; nothing is written.")


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async convert evals.db --to parquet --out rows",
        "evals-async convert evals.db --to promptfoo --out results",
        "evals-async convert evals.db --to promptfooconfig --out configs --strict",
    ),
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(get_args(Format)),
    help="Tables, promptfoo files, or logs of Inspect AI.",
)
@click.option("--out", "directory", required=True, type=DIRECTORY, help="Where to write; created if it does not exist.")
@dry_option
@allow_option
@strict_option
@local_options
@pass_terms
def convert(
    terms: ConnectionOptions,
    file: Path,
    form: Format,
    directory: Path,
    dry: bool,
    allow_incomplete: bool,
    strict: bool,
) -> int:
    """Write an archive in another format: tables, or files for promptfoo or Inspect AI.

    jsonl, csv and parquet are tables of evals, runs, items, results and files. parquet is a partitioned directory for
    DuckDB, Spark, Dask and Polars. It needs the extra "arrow". promptfoo is for `promptfoo import`, promptfooconfig for
    `promptfoo eval`. inspect writes a log of Inspect AI per run, and needs the extra "inspect". The command prints what
    is mapped, approximated and dropped, with reasons.
    """
    from evals_async.archive.convert.convert import check_format
    from evals_async.cli.actions.convert import convert_file

    check_format(form)
    flags = {"dry": dry, "strict": strict, "allow_incomplete": allow_incomplete}
    return run(terms, convert_file(terms, file, form, directory, **flags))

"""`evals-async convert | push`: the way onward from an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.service import run, run_with_client


Format: TypeAlias = Literal["jsonl", "csv", "parquet", "promptfoo", "promptfooconfig", "inspect"]
Which: TypeAlias = Literal["none", "newest", "all"]

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
dry_option = click.option("--dry-run", "--dry", "dry", is_flag=True, help="List the files only; nothing is written.")
allow_option = click.option(
    "--allow-incomplete", is_flag=True, help="Go on although the archive lacks something; what, is told first."
)
strict_option = click.option("--strict", is_flag=True, help="Exit code 3 if anything is approximated or dropped.")


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async convert evals.db --to parquet --out rows",
        "evals-async convert evals.db --to promptfoo --out results && promptfoo import results/eval_items_*.jsonl",
        "evals-async convert evals.db --to promptfooconfig --out configs --strict",
    ),
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(get_args(Format)),
    help="Tables, promptfoo's forms, or Inspect's logs.",
)
@click.option("--out", "directory", required=True, type=DIRECTORY, help="Where to write; made if missing.")
@dry_option
@allow_option
@strict_option
@global_options
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
    """Write an archive in another form: tables, or what promptfoo or Inspect AI read.

    jsonl, csv and parquet are tables of evals, runs, items, results and files; parquet is a partitioned directory that
    DuckDB, Spark, Dask and Polars read, and needs the extra "arrow". promptfoo is for `promptfoo import`,
    promptfooconfig for `promptfoo eval`. inspect is a log of Inspect AI for each run, and needs the extra "inspect".
    What is mapped, approximated and dropped is reported, with reasons.
    """
    from evals_async.cli.onward import convert_file

    flags = {"dry": dry, "strict": strict, "allow_incomplete": allow_incomplete}
    return run(terms, convert_file(terms, file, form, directory, **flags))


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async push evals.db --azure",
        "evals-async push evals.db --base-url http://127.0.0.1:8765/v1 --runs newest",
    ),
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option(
    "--runs",
    "which",
    type=click.Choice(get_args(Which)),
    default="none",
    show_default=True,
    help="Which runs to create as well; they are carried out again, at that server's price.",
)
@allow_option
@strict_option
@global_options
@pass_terms
def push(terms: ConnectionOptions, file: Path, which: Which, allow_incomplete: bool, strict: bool) -> int:
    """Create the evals of an archive on the server that the options and the environment name.

    The server's wrapping of schemas and its ids are undone. What was pushed before is not created again.
    """
    from evals_async.cli.onward import push_file

    flags = {"strict": strict, "allow_incomplete": allow_incomplete}
    return run_with_client(terms, lambda client: push_file(terms, client, file, which, **flags))

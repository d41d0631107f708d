"""`evals-async convert | push`: the way onward from an archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async.cli import output
from evals_async.cli.groups import ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.service import run_with_client
from evals_async.cli.text import plural


Format: TypeAlias = Literal["jsonl", "csv", "parquet", "promptfoo", "promptfooconfig"]
Which: TypeAlias = Literal["none", "newest", "all"]

LOSSY = 3
DISK_FULL = 4

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
dry_option = click.option("--dry-run", "--dry", "dry", is_flag=True, help="List the files only; nothing is written.")
strict_option = click.option("--strict", is_flag=True, help="Exit code 3 if anything is approximated or dropped.")


@click.command(
    epilog=examples(
        "evals-async convert evals.db --to parquet --out rows",
        "evals-async convert evals.db --to promptfoo --out results && promptfoo import results/eval_items_*.jsonl",
        "evals-async convert evals.db --to promptfooconfig --out configs --strict",
    )
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option("--to", "form", required=True, type=click.Choice(get_args(Format)), help="Tables, or promptfoo's forms.")
@click.option("--out", "directory", required=True, type=DIRECTORY, help="Where to write; made if missing.")
@dry_option
@strict_option
@global_options(hidden=True)
@pass_terms
def convert(terms: ConnectionOptions, file: Path, form: Format, directory: Path, dry: bool, strict: bool) -> int:
    """Write an archive in another form: tables, or what promptfoo reads.

    jsonl, csv and parquet are tables of evals, runs, items, results and files; parquet is a partitioned directory that
    DuckDB, Spark, Dask and Polars read, and needs the extra "arrow". promptfoo is for `promptfoo import`,
    promptfooconfig for `promptfoo eval`. What is mapped, approximated and dropped is reported, with reasons.
    """
    from evals_async.archive.convert.convert import convert as convert_file
    from evals_async.cli.archived import show_conversion

    try:
        report = convert_file(file, form, directory, dry=dry)
    except OSError as error:
        return not_written(error, file, form, directory)
    show_conversion(report)
    if dry:
        for path in report.written:
            output.say(str(path))
    number = plural(len(report.written), "file")
    output.note(f"{number} would be written" if dry else f"{number} written to {directory}")
    return LOSSY if strict and not report.lossless else 0


def not_written(error: OSError, file: Path, form: str, directory: Path) -> int:
    """Tell why a file could not be written, and what to do; returns the exit code."""
    from evals_async.archive import disk_is_full

    again = shlex.join(["evals-async", "convert", str(file), "--to", form, "--out", str(directory)])
    if disk_is_full(error):
        output.error(f"the disk is full: {error}")
        output.hint(f"make room, then: {again}")
        return DISK_FULL
    output.error(f"cannot write to {directory}: {error.strerror or error}")
    output.hint("choose another directory: --out DIRECTORY")
    return 1


@click.command(
    epilog=examples(
        "evals-async push evals.db --azure",
        "evals-async push evals.db --base-url http://127.0.0.1:8765/v1 --runs newest",
    )
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
@strict_option
@global_options(hidden=True)
@pass_terms
def push(terms: ConnectionOptions, file: Path, which: Which, strict: bool) -> int:
    """Create the evals of an archive on the server that the options and the environment name.

    The server's wrapping of schemas and its ids are undone. What was pushed before is not created again.
    """
    from evals_async.cli.archived import push_file

    return run_with_client(terms, lambda client: push_file(client, file, which, strict))

"""`evals-async push`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import click

from evals_async.cli.commands.archive_options import EXISTING, allow_option, strict_option
from evals_async.cli.connection import run_with_client
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms


Which: TypeAlias = Literal["none", "newest", "all"]


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
    help="Which runs to create too. The server executes them again, at its price.",
)
@allow_option
@strict_option
@global_options
@pass_terms
def push(terms: ConnectionOptions, file: Path, which: Which, allow_incomplete: bool, strict: bool) -> int:
    """Create the evals of an archive on the server of the options and the environment.

    The old server's ids and its wrapper around schemas are removed. A second push creates nothing twice.
    """
    from evals_async.cli.actions.push import push_file

    flags = {"strict": strict, "allow_incomplete": allow_incomplete}
    return run_with_client(terms, lambda client: push_file(terms, client, file, which, **flags))

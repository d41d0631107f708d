"""`evals-async serve`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evals_async.cli import hints, output
from evals_async.cli.actions.execution import ExecutionOptions
from evals_async.cli.actions.serve import ServerAddress, serve_until_stopped
from evals_async.cli.commands.execution_options import execution_options
from evals_async.cli.connection import run
from evals_async.cli.constants import SAMPLE_RUNS
from evals_async.cli.groups import Command, ConnectionOptions, Misused, examples, local_options, pass_terms
from evals_async.cli.hints import Hint


if TYPE_CHECKING:
    pass


PORT = 8765


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async serve --sample",
        "evals-async serve evals.db --port 9000",
        "evals-async serve mine.db --new",
        "evals-async serve evals.db --models models.toml --max-calls 1000",
        "evals-async serve evals.db --model-endpoint http://127.0.0.1:11434/v1",
        "evals-async serve archive.db --read-only",
        "evals-async serve --sample --read-only --host 0.0.0.0 --allow-host NAME",
    ),
)
@click.argument("file", metavar="[FILE.db]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="The port to listen on; 0 selects a free port.",
)
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME", help="Accept requests for this host name too.")
@click.option(
    "--api-key",
    envvar="EVALS_SERVER_API_KEY",
    metavar="KEY",
    help="The key that requests must send; set EVALS_SERVER_API_KEY instead, which other users cannot see.",
)
@click.option("--read-only", is_flag=True, help="Reject every write; the file is opened read-only.")
@click.option("--writable", is_flag=True, help="Allow writes to an exported archive, which is read-only by default.")
@click.option("--new", is_flag=True, help="Create FILE.db if it does not exist.")
@click.option("--sample", is_flag=True, help=f"Add a sample of {SAMPLE_RUNS} runs to the store.")
@execution_options
@local_options
@pass_terms
def serve(
    terms: ConnectionOptions,
    /,
    file: Path | None,
    host: str,
    port: int,
    allowed: tuple[str, ...],
    api_key: str | None,
    read_only: bool,
    writable: bool,
    new: bool,
    sample: bool,
    **execution: Any,
) -> int:
    """Serve the Evals API on this machine, from FILE.db or from memory.

    With --models or --model-endpoint it executes runs: these models sample and grade the rows. Without them it is a
    test double, which grades the existing outputs of the rows.

    An archive of `export` is served read-only, unless you add --writable. Existing code only needs another base URL.

    The base URL is printed to stdout when the server is ready. Ctrl-C and SIGTERM stop it, with exit code 0.
    """
    if file is not None and read_only and sample:
        raise click.UsageError("--sample writes to the file, but --read-only does not allow it.")
    if read_only and writable:
        raise click.UsageError("--read-only and --writable exclude each other.")
    choice = ExecutionOptions(**execution)
    if read_only and choice.executes:
        raise click.UsageError("A read-only server cannot execute runs: remove --read-only, or the models.")
    if file is not None and not file.exists() and not read_only:
        if not (new or sample or choice.has_models):
            raise Misused(f"There is no file {file}.", hints.advice(Hint.NEW_FILE, terms))
        output.note(f"{file} does not exist: an empty file is created")
    place = ServerAddress(file=file, host=host, port=port, allowed=allowed, api_key=api_key)
    keep = not writable and not sample  # whether an exported archive is read-only
    try:
        run(terms, serve_until_stopped(terms, place, choice, read_only, keep, sample), log_failures=True)
    except KeyboardInterrupt:  # on Windows, the event loop has no signal handlers
        pass
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        output.error(f"cannot listen on {host}:{port}: {error.strerror or error}")
        hints.say(Hint.FREE_PORT, again=hints.changed(terms.words, "--port", "0"))
        return 1
    output.note("stopped")
    return 0

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
from evals_async.cli.groups import Command, ConnectionOptions, Misused, examples, global_options, pass_terms
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
        "evals-async serve --host 0.0.0.0 --allow-host evals.internal --read-only --sample",
    ),
)
@click.argument("file", metavar="[FILE.db]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="The port to listen on; 0 takes any free one.",
)
@click.option(
    "--allow-host", "allowed", multiple=True, metavar="NAME", help="A further name that requests may be sent to."
)
@click.option(
    "--api-key",
    envvar="EVALS_SERVER_API_KEY",
    metavar="KEY",
    help="The key that requests must carry; better in EVALS_SERVER_API_KEY, where other users do not see it.",
)
@click.option("--read-only", is_flag=True, help="Refuse every write; the file is opened without the right to write.")
@click.option("--writable", is_flag=True, help="Let an exported archive be written to; else it is served read-only.")
@click.option("--new", is_flag=True, help="Make FILE.db if it is not there.")
@click.option("--sample", is_flag=True, help=f"Put a sample of {SAMPLE_RUNS} runs into the store.")
@execution_options
@global_options
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

    With --models or --model-endpoint it carries runs out: their rows are sampled and graded by these models. Without
    them it is a test double, which grades rows as they are.

    An archive made by `export` is served read-only, unless --writable says otherwise; so existing code goes on with
    another base URL.

    The base URL is printed to stdout as soon as the server answers. Ctrl-C and SIGTERM end it, with exit code 0.
    """
    if file is not None and read_only and sample:
        raise click.UsageError("--sample writes to the file, and --read-only forbids it.")
    if read_only and writable:
        raise click.UsageError("--read-only and --writable exclude each other.")
    choice = ExecutionOptions(**execution)
    if read_only and choice.executes:
        raise click.UsageError("A read-only server carries no runs out: leave --read-only or the models out.")
    if file is not None and not file.exists() and not read_only:
        if not (new or sample or choice.has_models):
            raise Misused(f"There is no file {file}.", hints.advice(Hint.NEW_FILE, terms))
        output.note(f"{file} is new: it is made now, with nothing in it")
    place = ServerAddress(file=file, host=host, port=port, allowed=allowed, api_key=api_key)
    keep = not writable and not sample  # what was exported
    try:
        run(terms, serve_until_stopped(terms, place, choice, read_only, keep, sample))
    except KeyboardInterrupt:  # where the loop takes no signals (Windows)
        pass
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        output.error(f"cannot listen on {host}:{port}: {error.strerror or error}")
        hints.say(Hint.FREE_PORT, again=hints.changed(terms.words, "--port", "0"))
        return 1
    output.note("stopped")
    return 0

"""`evals-async serve`: the local server, until Ctrl-C."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from evals_async.cli import hints, output
from evals_async.cli.executing import ExecutionChoice, execution_options, tell_execution
from evals_async.cli.groups import Command, ConnectionOptions, Misused, examples, global_options, pass_terms
from evals_async.cli.hints import Hint, command
from evals_async.cli.service import run


if TYPE_CHECKING:
    import asyncio

PORT = 8765
SAMPLE_RUNS = 300
LOOPBACK = ("127.0.0.1", "localhost", "::1")

POINTERS = """\
{what} at {url}

Point a shell at it, and then ours or the official client; {keys}:
  export OPENAI_BASE_URL={url} OPENAI_API_KEY={key}
  {list}
  python -c 'import openai; print(openai.OpenAI().evals.list().data[0])'
Or open it in a browser{password}.

Ctrl-C ends it."""


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
    choice = ExecutionChoice(**execution)
    if read_only and choice.executes:
        raise click.UsageError("A read-only server carries no runs out: leave --read-only or the models out.")
    if file is not None and not file.exists() and not read_only:
        if not (new or sample or choice.has_models):
            raise Misused(f"There is no file {file}.", hints.advice(Hint.NEW_FILE, terms))
        output.note(f"{file} is new: it is made now, with nothing in it")
    place = ServedPlace(file=file, host=host, port=port, allowed=allowed, api_key=api_key)
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


@attrs.frozen(kw_only=True)
class ServedPlace:
    """What is served, and where."""

    file: Path | None
    host: str
    port: int
    allowed: tuple[str, ...]
    api_key: str | None = attrs.field(repr=False)


async def serve_until_stopped(
    terms: ConnectionOptions, place: ServedPlace, choice: ExecutionChoice, read_only: bool, keep: bool, sample: bool
) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from evals_async.archive import Archive, is_archive
    from evals_async.archive.export.lock import WriterLock
    from evals_async.cli.archived import tell_gaps
    from evals_async.server import LocalServer, sample_tree

    file = place.file
    archived = file is not None and await is_archive(file)
    if file is not None and archived:
        async with Archive.open(file, read_only=True) as archive:
            await tell_gaps(archive, file, terms)
    if keep and archived and choice.executes:
        raise click.UsageError(f"{file} is an archive: --writable lets the runs that are carried out go into it.")
    read_only = read_only or (keep and archived)
    stop = asyncio.Event()
    catch_signals(asyncio.get_running_loop(), stop)
    # An archive has one writer: no export goes into it while it is served to be written to.
    async with AsyncExitStack() as stack:
        stack.enter_context(WriterLock(file if archived and not read_only else None))
        waiting = await waiting_runs(file)
        models = choice.models()
        if models is not None:
            await stack.enter_async_context(models)
        serving = LocalServer(
            file,
            host=place.host,
            port=place.port,
            api_key=place.api_key,
            read_only=read_only,
            allowed_hosts=place.allowed,
            models=models,
            **choice.server_options(),
        )
        server = await stack.enter_async_context(serving)
        if sample:
            await server.seed(**sample_tree(SAMPLE_RUNS))
        what = f"serving {file or 'a store in memory'}" + (", read-only," if read_only else "")
        keys = "the key of --api-key" if place.api_key else "any key will do"
        shown = "$EVALS_SERVER_API_KEY" if place.api_key else "local"
        output.note(
            POINTERS.format(
                what=what,
                url=server.base_url,
                keys=keys,
                key=shown,
                password=", with the key as the password" if place.api_key else "",
                list=command("evals", "list"),
            )
        )
        if not read_only:
            tell_execution(choice, models, waiting)
        if place.host not in LOOPBACK and not read_only and not place.api_key:
            output.note(f"everyone who reaches {place.host} may read and write; --api-key or --read-only forbids it")
        output.say(server.base_url)
        await stop.wait()


async def waiting_runs(file: Path | None) -> int:
    """How many runs of a file an earlier server left to be carried out."""
    from evals_async._store import Database
    from evals_async._store.executions import pending_executions
    from evals_async.errors import ArchiveError

    if file is None:
        return 0
    try:
        async with await Database.open(file, read_only=True, inline=True) as database:
            return len(await database.call(pending_executions))
    except ArchiveError:  # new, of an older version, or broken: the server makes, changes or refuses it
        return 0


def catch_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Let Ctrl-C and SIGTERM set `stop`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            return

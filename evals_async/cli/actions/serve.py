"""`serve`: run the local server until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from evals_async.cli import output
from evals_async.cli.actions.execution import ExecutionOptions, print_execution
from evals_async.cli.constants import SAMPLE_RUNS
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import command


if TYPE_CHECKING:
    import asyncio


LOOPBACK = ("127.0.0.1", "localhost", "::1")

POINTERS = """\
{what} at {url}

Set these variables in a shell, then use any client of the API; {keys}:
  export OPENAI_BASE_URL={url} OPENAI_API_KEY={key}
  {list}
  curl -H "Authorization: Bearer $OPENAI_API_KEY" $OPENAI_BASE_URL/evals
Or open it in a browser{password}.

Ctrl-C stops the server."""


@attrs.frozen(kw_only=True)
class ServerAddress:
    """The file to serve (`None` for memory), and the address."""

    file: Path | None
    host: str
    port: int
    allowed: tuple[str, ...]
    api_key: str | None = attrs.field(repr=False)


async def serve_until_stopped(
    terms: ConnectionOptions, place: ServerAddress, choice: ExecutionOptions, read_only: bool, keep: bool, sample: bool
) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from evals_async._store.lock import WriterLock
    from evals_async.archive import Archive, is_archive
    from evals_async.cli.actions.gaps import print_gaps
    from evals_async.server import LocalServer, sample_tree

    file = place.file
    archived = file is not None and await is_archive(file)
    if file is not None and archived:
        async with Archive.open(file, read_only=True) as archive:
            await print_gaps(archive, file, terms)
    if keep and archived and choice.executes:
        raise click.UsageError(f"{file} is an archive: add --writable, so that runs can be written to it.")
    read_only = read_only or (keep and archived)
    stop = asyncio.Event()
    catch_signals(asyncio.get_running_loop(), stop)
    # An archive has one writer: the lock prevents an export while the server can write.
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
            print_execution(choice, models, waiting)
        if place.host not in LOOPBACK and not read_only and not place.api_key:
            output.note(f"everybody who can reach {place.host} can read and write; use --api-key or --read-only")
        output.say(server.base_url)
        await stop.wait()


async def waiting_runs(file: Path | None) -> int:
    """Return the number of unfinished runs of an earlier server."""
    from evals_async._store import Database
    from evals_async._store.executions import pending_executions
    from evals_async.errors import ArchiveError

    if file is None:
        return 0
    try:
        async with await Database.open(file, read_only=True, inline=True) as database:
            return len(await database.call(pending_executions))
    except ArchiveError:  # new, older or broken: the server creates it, migrates it or raises the error
        return 0


def catch_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Let Ctrl-C and SIGTERM set `stop`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            return

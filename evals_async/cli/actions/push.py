"""`push`: create the evals of an archive on a server, and print the new ids."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import evals_async
from evals_async.archive import Archive, Push
from evals_async.archive.values import INCOMPLETE
from evals_async.cli import hints, output
from evals_async.cli.actions.convert import exit_code, may_continue, show_conversion
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.text import Column


def show_ids(push: Push) -> None:
    """Print the old and the new ids. On a terminal, each id has its own line, so that it can be copied."""
    kinds = (("eval", push.evals), ("run", push.runs), ("file", push.files))
    pairs = [(kind, old, new) for kind, ids in kinds for old, new in ids.items()]
    if not output.on_terminal():
        output.table([Column("Kind"), Column("Id here"), Column("Id there")], pairs)
        return
    for kind, old, new in pairs:
        output.say(f"{kind} {old}")
        output.say(f"  is now {new}")


async def push_file(
    terms: ConnectionOptions,
    client: evals_async.EvalsClient,
    file: Path,
    which: Literal["none", "newest", "all"],
    *,
    strict: bool,
    allow_incomplete: bool,
) -> int:
    """Push an archive, and print the result. Returns the exit code."""
    async with Archive.open(file, read_only=True) as archive:
        if not await may_continue(archive, file, ConnectionOptions(), terms, allow_incomplete):
            return INCOMPLETE
        push = await archive.push(client, runs=which, allow_incomplete=True)
    show_ids(push)
    output.say()
    show_conversion(push.report)
    hints.say(Hint.LIST_EVALS, terms)
    return exit_code(push.report, strict)

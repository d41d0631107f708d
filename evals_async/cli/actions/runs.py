"""Read runs from the service (EVAL_ID/RUN_ID) or from an archive (FILE.db:RUN_ID)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import attrs

import evals_async
from evals_async.archive import Archive
from evals_async.cli import hints, output
from evals_async.cli.actions.gaps import print_gaps
from evals_async.cli.actions.show import run_of
from evals_async.cli.connection import open_client, run_key
from evals_async.cli.groups import ConnectionOptions, Misused
from evals_async.cli.hints import Hint


@attrs.frozen
class RunArgument:
    """A run on the command line: the file of its archive (`None` for the service), its eval id if given, and its id."""

    file: Path | None
    eval_id: str | None
    run_id: str

    def __str__(self) -> str:
        name = self.run_id if self.eval_id is None else f"{self.eval_id}/{self.run_id}"
        return name if self.file is None else f"{self.file}:{name}"


def expand_archive(names: tuple[str, ...]) -> tuple[str, ...]:
    """Expand the short form `FILE.db RUN_A RUN_B` to `FILE.db:RUN_A FILE.db:RUN_B`."""
    first, *others = names
    if not others or not Path(first).is_file():
        return names
    return tuple(name if ":" in name else f"{first}:{name}" for name in others)


def parse_run(name: str, eval_id: str | None, terms: ConnectionOptions) -> RunArgument:
    """Parse a run on the command line. Raises `click.UsageError`."""
    file, colon, rest = name.rpartition(":")
    if not colon and Path(name).is_file():
        raise Misused(f"{name} names an archive, and no run of it.", hints.advice(Hint.SHOW, file=name))
    if not colon and name.endswith(".db"):
        raise Misused(f"There is no file {name}: an archive is needed.", hints.advice(Hint.EXPORT_INTO, file=name))
    if not colon:
        return RunArgument(None, *run_key(name, eval_id, terms))
    if not Path(file).is_file():
        raise Misused(f"There is no file {file}: an archive is needed.", hints.advice(Hint.EXPORT_INTO, file=file))
    own, _, run_id = rest.rpartition("/")
    if not run_id:
        raise Misused(f"{name} names no run.", hints.advice(Hint.SHOW, file=file))
    return RunArgument(Path(file), own or eval_id, run_id)


class RunReader:
    """Reads runs and their items from the service and from archives. Each is opened when it is first needed.

    `async with RunReader(terms) as reader: ...`
    """

    def __init__(self, terms: ConnectionOptions) -> None:
        self.terms = terms
        self._stack = AsyncExitStack()
        self._client: evals_async.EvalsClient | None = None
        self._archives: dict[Path, Archive] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def client(self) -> evals_async.EvalsClient:
        """Return the client of the service; it is opened at the first call."""
        if self._client is None:
            self._client = await self._stack.enter_async_context(open_client(self.terms))
        return self._client

    async def archive(self, file: Path) -> Archive:
        """Return the archive in a file. What it lacks is printed when it is opened."""
        async with self._opening:
            if file not in self._archives:
                archive = await self._stack.enter_async_context(Archive.open(file, read_only=True))
                await print_gaps(archive, file, self.terms)
                self._archives[file] = archive
        return self._archives[file]

    async def run(self, place: RunArgument) -> evals_async.EvalRun:
        """Read the run."""
        if place.file is not None:
            return await run_of(await self.archive(place.file), place.file, place.run_id, place.eval_id)
        client = await self.client()
        return await client.evals.runs.retrieve(place.run_id, eval_id=place.eval_id or "")

    async def evaluation(self, place: RunArgument, run: evals_async.EvalRun) -> evals_async.Eval:
        """Read the eval of the run."""
        eval_id = run.eval_id or place.eval_id or ""
        if place.file is not None:
            return await (await self.archive(place.file)).eval(eval_id)
        return await (await self.client()).evals.retrieve(eval_id)

    async def items(self, place: RunArgument, run: evals_async.EvalRun) -> AsyncIterator[evals_async.OutputItem]:
        """Yield the output items of the run."""
        key = (run.eval_id or place.eval_id or "", run.id)
        if place.file is not None:
            async for item in (await self.archive(place.file)).items(key):
                yield item
            return
        async for item in (await self.client()).evals.runs.output_items.list(key):
            yield item

    async def item(self, place: RunArgument, run: evals_async.EvalRun, item_id: str) -> evals_async.OutputItem:
        """Read one output item of the run."""
        key = (run.eval_id or place.eval_id or "", run.id)
        if place.file is not None:
            return await (await self.archive(place.file)).item(key, item_id)
        client = await self.client()
        return await client.evals.runs.output_items.retrieve(item_id, eval_id=key[0], run_id=key[1])


class ItemCounter:
    """Counts the items of all runs together."""

    def __init__(self, update: output.Update) -> None:
        self.update = update
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.update(self.count)

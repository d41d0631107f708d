"""How a server's parts are put together: the store, and who carries out its runs."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from evals_async._store import Database, rows
from evals_async._store.database import StrPath
from evals_async.errors import ConfigurationError
from evals_async.server.execution.limits import ExecutionLimits
from evals_async.server.runs import RunLifecycle
from evals_async.server.service import RunControl
from evals_async.server.shapes import Ids


if TYPE_CHECKING:
    from evals_async._clock import Clock
    from evals_async.grading import PythonGraders
    from evals_async.inference import Models

PythonMode: TypeAlias = Literal["off", "sandbox", "trusted"]
ModelsSource: TypeAlias = "Models | str | os.PathLike[str]"


@attrs.frozen(kw_only=True)
class ServerOptions:
    """What a server is opened with."""

    store: StrPath | None
    read_only: bool
    clock: Clock
    queued_seconds: float
    running_seconds: float
    models: ModelsSource | None
    python_graders: PythonMode
    record: bool
    limits: ExecutionLimits

    def __attrs_post_init__(self) -> None:
        if self.read_only and (self.models is not None or self.python_graders != "off"):
            raise ConfigurationError("a read-only server carries no runs out: leave read_only, or the models, out")
        if self.record and self.models is None:
            raise ConfigurationError("record passes requests on to models: give models too")

    @property
    def executes(self) -> bool:
        """Are runs carried out here?"""
        return self.models is not None or self.python_graders != "off"


@attrs.frozen
class OpenedParts:
    """The parts of a server, and `closing`, which closes them in order."""

    database: Database
    ids: Ids
    runs: RunControl
    models: Models | None
    python: PythonGraders | None
    closing: AsyncExitStack


async def open_parts(options: ServerOptions) -> OpenedParts:
    """Open the store and begin to work on what it has to do. Raises `ArchiveError` and `ConfigurationError`."""
    async with AsyncExitStack() as stack:
        read_only = options.read_only and options.store is not None
        # Reading waits for no disk worth speaking of, and is quickest on the loop's own thread; commits are not.
        inline = read_only or (options.store is None and not options.executes)
        database = await stack.enter_async_context(
            await Database.open(options.store, read_only=read_only, inline=inline)
        )
        ids = Ids(options.clock, await database.call(rows.count_all))
        runs: RunControl = RunLifecycle(
            database,
            options.clock,
            ids,
            queued_seconds=options.queued_seconds,
            running_seconds=options.running_seconds,
        )
        models, python = None, None
        if options.executes:
            from evals_async.server.execution.executor import RunExecutor

            if options.models is not None:
                models = await open_models(options.models, stack)
            if options.python_graders != "off":
                python = await open_python(options.python_graders, stack)
            runs = RunExecutor(database, options.clock, ids, models=models, python=python, limits=options.limits)
        stack.push_async_callback(runs.close)
        if not options.read_only:
            await runs.load()
        return OpenedParts(database, ids, runs, models, python, stack.pop_all())


async def open_models(given: ModelsSource, stack: AsyncExitStack) -> Models:
    """The model map that was given: as it is, or of an endpoint's URL, or of a TOML file; what is opened here is closed
    with the server. Raises `ConfigurationError`.
    """
    from evals_async.inference import Models

    if isinstance(given, Models):
        return given
    place = os.fspath(given)
    opened = Models.from_endpoint(place) if place.startswith(("http://", "https://")) else Models.from_file(place)
    return await stack.enter_async_context(opened)


async def open_python(mode: PythonMode, stack: AsyncExitStack) -> PythonGraders:
    """Processes for python graders, closed with the server. Raises `ConfigurationError` where they cannot be had: there
    is no fall-back to a weaker mode.
    """
    from evals_async.grading import PythonGraders
    from evals_async.grading.similarity import Unavailable

    python = await stack.enter_async_context(PythonGraders(mode))
    try:
        await python.check()
    except Unavailable as error:
        raise ConfigurationError(f"python graders in the mode {mode} cannot be run here: {error}") from None
    return python

"""Opening the parts of a server: the store, the models, and the execution of runs."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from evals_async._store import Database, rows
from evals_async._store.database import StrPath
from evals_async._store.lock import ExecutionLock
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
    """The options of a server."""

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
            raise ConfigurationError("a read-only server cannot execute runs: pass either read_only or models")
        if self.record and self.models is None:
            raise ConfigurationError("record forwards requests to models: pass models too")

    @property
    def executes(self) -> bool:
        """Whether this server executes runs."""
        return self.models is not None or self.python_graders != "off"


@attrs.frozen
class OpenedParts:
    """The parts of a server. `closing` closes them in order."""

    database: Database
    ids: Ids
    runs: RunControl
    models: Models | None
    python: PythonGraders | None
    closing: AsyncExitStack


async def open_parts(options: ServerOptions) -> OpenedParts:
    """Open the store, and start with its unfinished runs.

    Raises `ArchiveError`, also if another server executes the runs of this file, and `ConfigurationError`.
    """
    async with AsyncExitStack() as stack:
        read_only = options.read_only and options.store is not None
        # Reads are short, and fastest in the thread of the event loop. Commits wait for the disk, so they use a thread.
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

            stack.enter_context(ExecutionLock(database.path))
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
    """Open the models: a given `Models`, the URL of an endpoint, or the path of a TOML file.

    Models that are opened here are closed with the server. Raises `ConfigurationError`.
    """
    from evals_async.inference import Models

    if isinstance(given, Models):
        return given
    place = os.fspath(given)
    opened = Models.from_endpoint(place) if place.startswith(("http://", "https://")) else Models.from_file(place)
    return await stack.enter_async_context(opened)


async def open_python(mode: PythonMode, stack: AsyncExitStack) -> PythonGraders:
    """Open the processes for python graders, which are closed with the server.

    Raises `ConfigurationError` if the mode does not work on this machine. There is no fallback to a weaker mode.
    """
    from evals_async.grading import PythonGraders
    from evals_async.grading.similarity import Unavailable

    python = await stack.enter_async_context(PythonGraders(mode))
    try:
        await python.check()
    except Unavailable as error:
        raise ConfigurationError(f"python graders in the mode {mode} do not work on this machine: {error}") from None
    return python

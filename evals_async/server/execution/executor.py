"""Starts, updates and cancels the runs of a server with models, and continues them after a restart."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from evals_async._json import JSONObject, as_object
from evals_async._store import Connection, Row, executions, rows
from evals_async.errors import ArchiveError
from evals_async.server.answers import Problem, listed, not_found
from evals_async.server.execution import limits as bounds
from evals_async.server.execution.committing import RowCommitter
from evals_async.server.execution.items import problem
from evals_async.server.execution.sampling import sampling_plan
from evals_async.server.execution.state import RunRecord
from evals_async.server.execution.worker import ExecutionTools, RunExecution
from evals_async.server.runs import criteria_of, is_canceled, stored_object, write_run


if TYPE_CHECKING:
    from evals_async._clock import Clock
    from evals_async._store import Database
    from evals_async._store.executions import RunId
    from evals_async.grading import PythonGraders
    from evals_async.inference import Models
    from evals_async.server.shapes import Ids

logger = logging.getLogger("evals_async.server")

RETRY_SECONDS = (1.0, 5.0, 30.0)  # pauses after a failure of the store; the last one repeats
CANCEL_SECONDS = 0.5  # limit for the end of a canceled run; rows that it writes in this time are kept


def is_of_store(error: BaseException) -> bool:
    """Whether the store cannot be read or written. For an exception group, one such error is enough."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(map(is_of_store, group.exceptions))
    return isinstance(error, ArchiveError)


def check_models(models: Models | None, run: JSONObject, criteria: list[JSONObject]) -> None:
    """Raise `Problem` 400 if a model of the run has no endpoint."""
    if models is None:
        return
    plan = sampling_plan(as_object(run["data_source"]) or {})
    needed = [] if plan is None else [("data_source.model", plan.model)]
    for index, criterion in enumerate(criteria):
        if criterion.get("type") in ("label_model", "score_model"):
            needed.append((f"testing_criteria[{index}].model", str(criterion.get("model"))))
    for param, name in needed:
        if not models.resolves(name):
            known = listed(models.names())
            message = f"No endpoint is configured for the model '{name:.100}'. Configured models: {known}."
            raise Problem(400, message, param=param, code="model_not_found")


def begin(connection: Connection, run: JSONObject, now: float) -> bool:
    """Store a new run and mark it for execution. Returns false if its eval does not exist."""
    if not rows.exists(connection, "evals", (str(run["eval_id"]),)):
        return False
    rows.put(connection, "runs", [Row.of("runs", run, updated_at=now)])
    executions.add_execution(connection, (str(run["eval_id"]), str(run["id"])), now)
    return True


def replace_run(connection: Connection, run: JSONObject, now: float) -> bool:
    """Write a run that is stored already. Returns false if it is not."""
    if not rows.exists(connection, "runs", (str(run["eval_id"]), str(run["id"]))):
        return False
    write_run(connection, run, now)
    return True


def take_over(connection: Connection) -> None:
    """Mark the pending runs of a server without models for execution."""
    connection.execute("INSERT INTO executions (eval_id, run_id, started) SELECT * FROM pending_runs")
    connection.execute("DELETE FROM pending_runs")


class RunExecutor:
    """Executes the runs of one server. Some run at once; the others wait in the order of their creation."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        *,
        models: Models | None,
        python: PythonGraders | None,
        limits: bounds.ExecutionLimits,
    ) -> None:
        self._database = database
        self._clock = clock
        self._models = models
        self._tools = ExecutionTools(
            database=database,
            committer=RowCommitter(database, lambda: ids.new("outputitem"), clock.time),
            clock=clock,
            limits=limits,
            rows=asyncio.Semaphore(limits.rows),
            models=models,
            python=python,
        )
        self._queue: deque[RunId] = deque()
        self._executions: dict[RunId, RunExecution] = {}
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._closed = False

    async def load(self) -> None:
        """Continue the unfinished runs of an earlier server on the same file."""
        await self._database.atomic(take_over)
        for pending in await self._database.call(executions.pending_executions):
            self._queue.append(pending.run)
        self._start_next()

    async def begin(self, run: JSONObject) -> None:
        """Store a new run with the status queued. Raises `Problem` if its eval or the endpoint of a model does not
        exist.
        """
        eval_id = str(run["eval_id"])
        parent = await self._database.call(rows.get, "evals", (eval_id,))
        if parent is None:
            raise not_found("eval", eval_id)
        check_models(self._models, run, criteria_of(stored_object(parent)))
        if not await self._database.atomic(begin, run, self._clock.time()):
            raise not_found("eval", eval_id)
        self._queue.append((eval_id, str(run["id"])))
        self._start_next()

    async def advance(self, eval_id: str, run_id: str | None = None) -> None:
        """Write the current counts of one run, or of all runs of an eval."""
        for key, execution in list(self._executions.items()):
            if key[0] == eval_id and run_id in (None, key[1]):
                with suppress(ArchiveError):  # the stored counts are returned, and the next read tries again
                    await execution.refresh()

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """Cancel the run, keep its finished rows, and return it. A canceled run is returned unchanged.

        Raises `Problem` 404 for an unknown run, and 400 for a run that has ended with another status.
        """
        await self._stop([(eval_id, run_id)])
        text = await self._database.call(rows.get, "runs", (eval_id, run_id))
        if text is None:
            raise not_found("run", run_id)
        run = stored_object(text)
        if is_canceled(run):
            return run
        if (
            await self._database.call(executions.pending_execution, (eval_id, run_id)) is None
        ):  # a seeded run, or a run from an archive
            run = {**run, "status": "canceled"}
            if not await self._database.atomic(replace_run, run, self._clock.time()):
                raise not_found("run", run_id)
            return run
        record = RunRecord.of(run, await self._criteria(eval_id))
        text = await RunExecution(record, self._tools, None).end("canceled")
        if text is None:  # it has ended or was deleted since it was read
            return await self.cancel(eval_id, run_id)
        return stored_object(text)

    async def delete(self, eval_id: str, run_id: str | None = None) -> bool:
        """Stop and delete a run, or an eval with all its runs. Returns whether it existed."""
        known = [key for key in (*self._queue, *self._tasks) if key[0] == eval_id and run_id in (None, key[1])]
        await self._stop(known)
        if run_id is None:
            return await self._database.atomic(rows.delete, "evals", (eval_id,))
        return await self._database.atomic(rows.delete, "runs", (eval_id, run_id))

    async def close(self) -> None:
        """Stop all work. Finished rows are kept, and the next server on the same file continues."""
        self._closed = True
        await self._stop([*self._tasks])
        await self._tools.committer.close()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        while self._queue and len(self._tasks) < bounds.MOST_RUNS and not self._closed:
            key = self._queue.popleft()
            task = asyncio.create_task(self._carry_out(key), name=f"run {key[1]}")
            self._tasks[key] = task
            task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: RunId, task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)
        self._executions.pop(key, None)
        self._start_next()

    async def _carry_out(self, key: RunId) -> None:
        step = self._carry_out_once
        for delay in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                await step(key)
                return
            except Exception as error:  # split into temporary and permanent errors
                if is_of_store(error):
                    text = "the run %s continues in %.0f s: the store cannot be written: %s"
                    logger.warning(text, key[1], delay, error)
                    await self._clock.sleep(delay)
                    continue
                logger.exception("the run %s failed because of an unexpected error of this server", key[1])
            if step == self._fail:
                return
            step = self._fail

    async def _carry_out_once(self, key: RunId) -> None:
        pending = await self._database.call(executions.pending_execution, key)
        text = await self._database.call(rows.get, "runs", key)
        if pending is None or text is None:  # the run has ended, or another process deleted it
            return
        record = RunRecord.of(stored_object(text), await self._criteria(key[0]))
        execution = RunExecution(record, self._tools, pending.total)
        self._executions[key] = execution
        await execution.carry_out()

    async def _fail(self, key: RunId) -> None:
        """End a run after an unexpected error of this server. Its finished rows are kept."""
        text = await self._database.call(rows.get, "runs", key)
        if text is not None:
            record = RunRecord.of(stored_object(text), await self._criteria(key[0]))
            reason = problem("internal_error", "the server had an unexpected error during the run; see its log")
            await RunExecution(record, self._tools, None).end("failed", reason)

    async def _criteria(self, eval_id: str) -> list[JSONObject]:
        parent = await self._database.call(rows.get, "evals", (eval_id,))
        return [] if parent is None else criteria_of(stored_object(parent))

    async def _stop(self, keys: list[RunId]) -> None:
        """Remove runs from the queue, and stop those that are in progress.

        A task that still has work to undo after `CANCEL_SECONDS` ends later. It cannot write to its run then, because
        each write checks that the run has not ended and was not deleted.
        """
        stopped = set(keys)
        self._queue = deque(key for key in self._queue if key not in stopped)
        tasks = [task for key, task in self._tasks.items() if key in stopped]
        for task in tasks:
            task.cancel()
        for key in stopped:
            self._executions.pop(key, None)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

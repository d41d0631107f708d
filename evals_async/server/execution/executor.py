"""The runs of a server that carries them out: begun, watched, canceled, and gone on with after a restart."""

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

RETRY_SECONDS = (1.0, 5.0, 30.0)  # after which a run goes on whose store could not be written to; the last for ever
CANCEL_SECONDS = 0.5  # how long a run may take to stop; what it writes meanwhile is kept


def is_of_store(error: BaseException) -> bool:
    """Does the store say that it cannot be read or written? Among the errors of several rows one is enough."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(map(is_of_store, group.exceptions))
    return isinstance(error, ArchiveError)


def check_models(models: Models | None, run: JSONObject, criteria: list[JSONObject]) -> None:
    """Raise `Problem` 400 for a model that a run needs, and that no endpoint answers for."""
    if models is None:
        return
    plan = sampling_plan(as_object(run["data_source"]) or {})
    needed = [] if plan is None else [("data_source.model", plan.model)]
    for index, criterion in enumerate(criteria):
        if criterion.get("type") in ("label_model", "score_model"):
            needed.append((f"testing_criteria[{index}].model", str(criterion.get("model"))))
    for param, name in needed:
        if not models.resolves(name):
            message = f"No endpoint is mapped to the model '{name:.100}'. Mapped are: {listed(models.names())}."
            raise Problem(400, message, param=param, code="model_not_found")


def begin(connection: Connection, run: JSONObject, now: float) -> bool:
    """Write a new run and that it is to be carried out; false when its eval is not there."""
    if not rows.exists(connection, "evals", (str(run["eval_id"]),)):
        return False
    rows.put(connection, "runs", [Row.of("runs", run, updated_at=now)])
    executions.add_execution(connection, (str(run["eval_id"]), str(run["id"])), now)
    return True


def take_over(connection: Connection) -> None:
    """Make runs that a server without models had begun ones to be carried out."""
    connection.execute("INSERT INTO executions (eval_id, run_id, started) SELECT * FROM pending_runs")
    connection.execute("DELETE FROM pending_runs")


class RunExecutor:
    """Carries out the runs of one server, some at once, the others in the order in which they were made."""

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
        """Go on with what an earlier server on the same file left."""
        await self._database.atomic(take_over)
        for pending in await self._database.call(executions.pending_executions):
            self._queue.append(pending.run)
        self._start_next()

    async def begin(self, run: JSONObject) -> None:
        """Write a new run, which is queued. Raises `Problem` when its eval is not there, or a model that it needs."""
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
        """Write the counts of one run, or of all runs of an eval, as far as they are carried out."""
        for key, execution in list(self._executions.items()):
            if key[0] == eval_id and run_id in (None, key[1]):
                with suppress(ArchiveError):  # what is stored is shown, and the next look tries again
                    await execution.refresh()

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """The run, canceled with what is done of it; one that is canceled already stays so. Raises `Problem` 404, or
        400 for a run that has ended otherwise.
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
        ):  # seeded, or of an archive
            run = {**run, "status": "canceled"}
            await self._database.atomic(write_run, run, self._clock.time())
            return run
        record = RunRecord.of(run, await self._criteria(eval_id))
        return stored_object(await RunExecution(record, self._tools, None).end("canceled"))

    async def delete(self, eval_id: str, run_id: str | None = None) -> bool:
        """Stop and remove a run, or an eval with all its runs; whether it was there."""
        known = [key for key in (*self._queue, *self._tasks) if key[0] == eval_id and run_id in (None, key[1])]
        await self._stop(known)
        if run_id is None:
            return await self._database.atomic(rows.delete, "evals", (eval_id,))
        return await self._database.atomic(rows.delete, "runs", (eval_id, run_id))

    async def close(self) -> None:
        """Stop working. What is done is kept, and the next server on the same file goes on."""
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
        for delay in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                await self._carry_out_once(key)
                return
            except Exception as error:  # split into what time may cure, and what it may not
                if not is_of_store(error):
                    logger.exception("an error of this server ended the run %s", key[1])
                    await self._fail(key)
                    return
                logger.warning("the run %s waits %.0f s: the store cannot be written to: %s", key[1], delay, error)
            await self._clock.sleep(delay)

    async def _carry_out_once(self, key: RunId) -> None:
        pending = await self._database.call(executions.pending_execution, key)
        text = await self._database.call(rows.get, "runs", key)
        if pending is None or text is None:  # it has ended, or was deleted by another process
            return
        record = RunRecord.of(stored_object(text), await self._criteria(key[0]))
        execution = RunExecution(record, self._tools, pending.total)
        self._executions[key] = execution
        await execution.carry_out()

    async def _fail(self, key: RunId) -> None:
        """End a run that an error of this server has stopped; what is done of it is kept."""
        text = await self._database.call(rows.get, "runs", key)
        if text is not None:
            record = RunRecord.of(stored_object(text), await self._criteria(key[0]))
            reason = problem("internal_error", "the server had an error while it carried the run out; see its log")
            await RunExecution(record, self._tools, None).end("failed", reason)

    async def _criteria(self, eval_id: str) -> list[JSONObject]:
        parent = await self._database.call(rows.get, "evals", (eval_id,))
        return [] if parent is None else criteria_of(stored_object(parent))

    async def _stop(self, keys: list[RunId]) -> None:
        """Take runs from the queue, and stop those that are carried out."""
        stopped = set(keys)
        self._queue = deque(key for key in self._queue if key not in stopped)
        tasks = [task for key, task in self._tasks.items() if key in stopped]
        for task in tasks:
            task.cancel()
        for key in stopped:
            self._executions.pop(key, None)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

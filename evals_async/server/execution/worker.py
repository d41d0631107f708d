"""The execution of one run: its rows are stored in the queue, workers process them, and the results are counted.
`row` has the work on one row.
"""

import asyncio
from collections import deque
from collections.abc import Mapping

import attrs

from evals_async._clock import Clock
from evals_async._store import Database, executions
from evals_async.errors import ArchiveError, InvalidArgument
from evals_async.grading import PythonGraders, check_source
from evals_async.inference import Models
from evals_async.server.execution.committing import RowCommitter
from evals_async.server.execution.items import problem
from evals_async.server.execution.limits import CallBudget, ExecutionLimits, calls_of_a_row
from evals_async.server.execution.preparing import put_down_rows
from evals_async.server.execution.row import RowWork
from evals_async.server.execution.source import BadRows
from evals_async.server.execution.state import RunRecord, write_state
from evals_async.server.execution.sums import CALLS, TOKENS


BATCH = 200  # rows that are read from the queue at once
AHEAD = 64  # more rows are read when so many are left, so that no worker waits


@attrs.frozen(kw_only=True)
class ExecutionTools:
    """The tools that all runs of a server share."""

    database: Database
    committer: RowCommitter
    clock: Clock
    limits: ExecutionLimits
    rows: asyncio.Semaphore
    models: Models | None
    python: PythonGraders | None


class RunExecution:
    """The execution of one run: `await carry_out()`. After a cancellation, finished rows are kept."""

    def __init__(self, record: RunRecord, tools: ExecutionTools, total: int | None) -> None:
        self.record = record
        self._tools = tools
        self._total = total
        self._row_work = RowWork(record, tools.models, tools.python)
        self._budget = CallBudget(tools.limits, 0, 0, 0)
        self._batch: deque[tuple[int, str]] = deque()
        self._last = -1  # the number of the last row that was read
        self._all_read = False
        self._reading = asyncio.Lock()
        self._ended = False
        self._unseen = 0  # rows that were finished since the run was last written

    async def carry_out(self) -> None:
        """Process all remaining rows, and end the run."""
        key = self.record.key
        if self._total is None:
            try:
                self._total = await put_down_rows(self._tools.database, self.record.body)
            except BadRows as error:
                await self.end("failed", problem("invalid_data_source", str(error)))
                return
        if (fault := self._python_fault()) is not None:
            await self.end("failed", fault)
            return
        await self._write("in_progress", total=self._total)
        sums = await self._tools.database.call(executions.sums_of, key)
        calls = calls_of_a_row(self._row_work.plan, self.record.criteria)
        self._budget = CallBudget(self._tools.limits, calls, sums[CALLS], sums[TOKENS])
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._tools.limits.rows_per_run, self._total)):
                group.create_task(self._work())
        if await self._tools.database.call(executions.next_rows, key, -1, 1):
            await self.end("failed", problem(*self._budget.reached()))
        else:
            await self.end("completed")

    def _python_fault(self) -> dict[str, object] | None:
        """Return the reason why a python grader of this run is invalid, or `None`. It is checked before any call to
        a model.
        """
        sources = [str(each.get("source")) for each in self.record.criteria if each.get("type") == "python"]
        if self._tools.python is None or not sources:
            return None
        try:
            for source in sources:
                check_source(source)
        except InvalidArgument as error:
            return problem("invalid_grader", str(error))
        return None

    async def refresh(self) -> None:
        """Write the current counts, if they have changed."""
        if self._unseen and not self._ended:
            unseen, self._unseen = self._unseen, 0
            try:
                await self._write("in_progress", total=self._total)
            except ArchiveError:
                self._unseen += unseen
                raise

    async def end(self, status: str, error: Mapping[str, object] | None = None) -> str | None:
        """Write the final state of the run, and return its JSON text. Unfinished rows are deleted.

        Returns `None` and writes nothing if the run has ended already, or was deleted.
        """
        self._ended = True
        return await self._write(status, error=error, ended=True)

    async def _write(
        self, status: str, *, total: int | None = None, error: Mapping[str, object] | None = None, ended: bool = False
    ) -> str | None:
        now = self._tools.clock.time()
        return await self._tools.database.atomic(
            write_state, self.record, status, now, total=total, error=error, ended=ended
        )

    # --- rows ---------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (row := await self._next()) is not None:
            calls = tokens = 0
            try:
                async with self._tools.rows:
                    item, sums = await self._row_work.carry_out(*row)
                calls, tokens = sums.get(CALLS, 0), sums.get(TOKENS, 0)
                await self._tools.committer.commit(self.record.key, row[0], item, sums)
                self._unseen += 1
            finally:
                self._budget.release(calls, tokens)

    async def _next(self) -> tuple[int, str] | None:
        """Return the next row, or `None` if no row is left or its calls would exceed the limit."""
        if len(self._batch) < AHEAD and not self._all_read and not (self._batch and self._reading.locked()):
            async with self._reading:
                if len(self._batch) < AHEAD and not self._all_read:  # otherwise another worker has read them
                    await self._read_ahead()
        if not self._batch or not self._budget.reserve():
            return None
        return self._batch.popleft()

    async def _read_ahead(self) -> None:
        found = await self._tools.database.call(executions.next_rows, self.record.key, self._last, BATCH)
        self._batch += found
        self._all_read = len(found) < BATCH
        if found:
            self._last = found[-1][0]

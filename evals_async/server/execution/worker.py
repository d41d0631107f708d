"""One run, carried out: its rows are put down, worked on by some workers, and counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from evals_async._json import as_object, parse
from evals_async._store import executions
from evals_async.errors import ArchiveError
from evals_async.server.execution.committing import ItemText
from evals_async.server.execution.grading import GradingTools, grade_row, unsampled_item
from evals_async.server.execution.items import error_result, output_item, problem
from evals_async.server.execution.limits import CallBudget, ExecutionLimits, calls_of_a_row
from evals_async.server.execution.preparing import put_down_rows
from evals_async.server.execution.sampling import SampledRow, SamplingFailed, sample_row, sampling_plan
from evals_async.server.execution.source import BadRows, SourceRow, source_row
from evals_async.server.execution.state import RunRecord, write_state
from evals_async.server.execution.sums import add, add_calls, add_cost, add_item, add_model


if TYPE_CHECKING:
    from evals_async._clock import Clock
    from evals_async._store import Database
    from evals_async._store.executions import Sums
    from evals_async.grading import PythonGraders
    from evals_async.inference import Models
    from evals_async.server.execution.committing import RowCommitter

logger = logging.getLogger("evals_async.server")

BATCH = 200  # rows that are read ahead


@attrs.frozen(kw_only=True)
class ExecutionTools:
    """What the runs of one server share."""

    database: Database
    committer: RowCommitter
    clock: Clock
    limits: ExecutionLimits
    rows: asyncio.Semaphore
    models: Models | None
    python: PythonGraders | None

    @property
    def grading(self) -> GradingTools:
        """What graders may use."""
        return GradingTools(self.models, self.python)


class RunExecution:
    """A run that is carried out: `await carry_out()`. Cancelling that keeps what is done."""

    def __init__(self, record: RunRecord, tools: ExecutionTools, total: int | None) -> None:
        self.record = record
        self._tools = tools
        self._total = total
        source = as_object(record.body["data_source"]) or {}
        self._plan = sampling_plan(source) if tools.models is not None else None
        self._budget = CallBudget(tools.limits, 0, 0, 0)
        self._batch: deque[tuple[int, str]] = deque()
        self._last = -1
        self._lock = asyncio.Lock()
        self._ended = False
        self._unseen = 0  # rows that were done since the run was last written

    async def carry_out(self) -> None:
        """Work on every row that is left, and end the run."""
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
        calls = calls_of_a_row(self._plan, self.record.criteria)
        made = sums["run", "", "calls"], sums["run", "", "tokens"]
        self._budget = CallBudget(self._tools.limits, calls, *made)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._tools.limits.rows_per_run, self._total)):
                group.create_task(self._work())
        if await self._tools.database.call(executions.next_rows, key, -1, 1):
            await self.end("failed", problem(*self._budget.reached()))
        else:
            await self.end("completed")

    def _python_fault(self) -> dict[str, object] | None:
        """Why a python grader of this run cannot be one: no row is paid for then."""
        sources = [str(each.get("source")) for each in self.record.criteria if each.get("type") == "python"]
        if self._tools.python is None or not sources:
            return None
        from evals_async.errors import InvalidArgument
        from evals_async.grading import check_source

        try:
            for source in sources:
                check_source(source)
        except InvalidArgument as error:
            return problem("invalid_grader", str(error))
        return None

    async def refresh(self) -> None:
        """Write the counts of what is done so far, if they have changed."""
        if self._unseen and not self._ended:
            unseen, self._unseen = self._unseen, 0
            try:
                await self._write("in_progress", total=self._total)
            except ArchiveError:
                self._unseen += unseen
                raise

    async def end(self, status: str, error: Mapping[str, object] | None = None) -> str:
        """Write the last state of the run, and return its JSON text; what is not done of it is forgotten."""
        self._ended = True
        return await self._write(status, error=error, ended=True)

    async def _write(
        self, status: str, *, total: int | None = None, error: Mapping[str, object] | None = None, ended: bool = False
    ) -> str:
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
                    item, sums = await self._carry_out_row(*row)
                calls, tokens = sums["run", "", "calls"], sums["run", "", "tokens"]
                await self._tools.committer.commit(self.record.key, row[0], item, sums)
                self._unseen += 1
            finally:
                self._budget.release(calls, tokens)

    async def _next(self) -> tuple[int, str] | None:
        """The next row to work on; `None` when there is none, or when its calls would be too many."""
        if not self._batch:
            async with self._lock:
                if not self._batch:  # else another worker has read them meanwhile
                    read = executions.next_rows
                    self._batch.extend(await self._tools.database.call(read, self.record.key, self._last, BATCH))
        if not self._batch or not self._budget.reserve():
            return None
        row = self._batch.popleft()
        self._last = row[0]
        return row

    async def _carry_out_row(self, number: int, text: str) -> tuple[ItemText, Sums]:
        row = source_row(parse(text.encode()), f"row {number}")
        try:
            item, sums = await self._graded_item(number, row)
            written = ItemText.of(item)
        except Exception:
            logger.exception("an error of this server while it worked on row %d of %s", number, self.record.key[1])
            cause = problem("internal_error", "the server had an error while it worked on this row; see its log")
            item, sums = self._errored_item(number, row, cause), Counter[tuple[str, str, str]]()
            written = ItemText.of(item)
        add_item(sums, item)
        return written, sums

    async def _graded_item(self, number: int, row: SourceRow) -> tuple[dict[str, object], Sums]:
        models, run, criteria = self._tools.models, self.record.body, self.record.criteria
        if self._plan is None or models is None:
            return await unsampled_item(run, number, row, criteria, self._tools.grading)
        try:
            sampled = await sample_row(models, self._plan, row.item)
        except SamplingFailed as error:
            calls: Sums = Counter({("run", "", "calls"): int(error.called)})
            return self._errored_item(number, row, problem(error.code, str(error))), calls
        given = await grade_row(criteria, row.item, sampled.seen, self._tools.grading)
        add_sampling(given.sums, sampled)
        return output_item(run, number, row, given.results, sampled.shown), given.sums

    def _errored_item(self, number: int, row: SourceRow, cause: Mapping[str, object]) -> dict[str, object]:
        results = [error_result(criterion, cause) for criterion in self.record.criteria]
        return output_item(self.record.body, number, row, results, None, cause)


def add_sampling(sums: Sums, sampled: SampledRow) -> None:
    """Add the sampling of a row to the sums."""
    add_model(sums, sampled.model, sampled.usage)
    add_calls(sums, 1, sampled.usage)
    add(sums, "run", "", "billed_retries", sampled.billed_retries)
    add_cost(sums, sampled.cost)
    for note in sampled.notes:
        add(sums, "note", note, "rows", 1)

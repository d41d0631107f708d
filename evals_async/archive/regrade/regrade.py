"""`Regrade`: grade an archive again, and compare the grades with those of the service.

Our grades are in their own table; the grades of the service are never changed. Each batch is one transaction, so an
interrupted regrade continues with the next batch, and no judge is paid twice for one row.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import attrs

from evals_async import _json
from evals_async._clock import Clock
from evals_async._json import as_object, parse
from evals_async._store import Connection, Database
from evals_async.archive.regrade.agreement import Agreement
from evals_async.archive.regrade.batches import (
    CONCURRENCY,
    ROW_COLUMNS,
    Criteria,
    RowToGrade,
    Stopper,
    batch_of,
    graded_batches,
    load_arrow,
    needs_model,
)
from evals_async.archive.regrade.service_grades import agreement_of
from evals_async.archive.regrade.tasks import (
    GradingTask,
    Position,
    RegradeOptions,
    cost_of,
    criteria_of,
    left_out,
    next_rows,
)


BATCH = 500  # rows
JUDGED_BATCH = 64  # rows of a judge: the most that an interruption loses and that a limit may be exceeded by


@attrs.frozen(kw_only=True)
class RegradeEstimate:
    """The cost of a regrade: rows to grade, judge calls, and tokens.

    `tokens` is what the service's judges used for the same rows, or `None` if the service did not report it.
    """

    rows: int
    calls: int
    tokens: int | None


@attrs.frozen(kw_only=True)
class RegradeReport:
    """The result of a regrade.

    `graded` counts the new grades. `stopped` is the reason if a limit stopped it, or `None`. `left_out` maps criteria
    to the reason why they were not graded.
    """

    graded: int
    stopped: str | None
    left_out: Mapping[str, str]
    agreement: tuple[Agreement, ...]


@attrs.define
class Regrade:
    """One regrade of an archive."""

    database: Database
    options: RegradeOptions
    clock: Clock
    on_progress: Callable[[int], None] | None = None
    graded: int = 0
    calls: int = 0
    tokens: int = 0
    stopped: str | None = None

    async def run(self) -> RegradeReport:
        """Grade all rows without a grade, and compare."""
        load_arrow()
        without: dict[str, str] = {}
        for work in await self.database.call(criteria_of, self.options):
            if reason := left_out(work, self.options):
                without[work.name] = reason
            elif self.stopped is None:
                await self._criterion(work)
        return RegradeReport(
            graded=self.graded, stopped=self.stopped, left_out=without, agreement=tuple(await self.agreement())
        )

    async def agreement(self) -> list[Agreement]:
        """Return how often the stored grades agree with those of the service."""
        works = await self.database.call(criteria_of, self.options)
        return [await self.database.call(agreement_of, work) for work in works]

    async def estimate(self) -> RegradeEstimate:
        """Return the cost of `run`."""
        found = await self.database.call(criteria_of, self.options)
        each = [await self.database.call(cost_of, work) for work in found if not left_out(work, self.options)]
        tokens = [tokens for _, calls, tokens in each if calls]
        return RegradeEstimate(
            rows=sum(rows for rows, _, _ in each),
            calls=sum(calls for _, calls, _ in each),
            tokens=None if None in tokens else sum(count or 0 for count in tokens),
        )

    async def _criterion(self, work: GradingTask) -> None:
        judged = needs_model(work.criterion)
        position: Position = ("", "")
        async with GradingThread({work.eval_id: [work.criterion]}, self.options) as grading:
            while size := self._allowed(JUDGED_BATCH) if judged else BATCH:
                rows = await self.database.call(next_rows, work, size, position)
                if not rows:
                    return
                grades = await grading.grade(rows)
                position = rows[-1].run_id, rows[-1].item_id
                await self.database.atomic(keep, work, grades, self.clock.time())
                self._count(grades, judged)

    def _allowed(self, size: int) -> int:
        """Return how many rows judges may get now, at most `size`."""
        most_calls, most_tokens = self.options.max_calls, self.options.max_tokens
        if most_tokens is not None and self.tokens >= most_tokens:
            self.stopped = f"the judges used {self.tokens:,} tokens, and the limit is {most_tokens:,}"
            return 0
        if most_calls is not None and self.calls >= most_calls:
            self.stopped = f"the judges got {self.calls:,} rows, and the limit is {most_calls:,}"
            return 0
        return size if most_calls is None else min(size, most_calls - self.calls)

    def _count(self, grades: Sequence[Mapping[str, Any]], judged: bool) -> None:
        self.graded += len(grades)
        if judged:
            self.calls += len(grades)
            self.tokens += sum(map(tokens_in, grades))
        if self.on_progress is not None:
            self.on_progress(self.graded)


def tokens_in(grade: Mapping[str, Any]) -> int:
    usage = as_object(parse(grade["usage"].encode())) if grade["usage"] else None
    counts = [(as_object(entry) or {}).get("total_tokens") for entry in (usage or {}).values()]
    return sum(count for count in counts if isinstance(count, int))


class GradingThread:
    """Runs `graded_batches` in a thread, one batch at a time, so that its models and processes stay open.

    `async with GradingThread(criteria, options) as grading: await grading.grade(rows)`

    If the caller is cancelled, the calls of the batch are cancelled too. The event loop is never blocked.
    """

    def __init__(self, criteria: Criteria, options: RegradeOptions) -> None:
        self._waiting: list[Any] = []
        self._stopper = Stopper()
        self._grades = graded_batches(
            self._feed(), criteria, options.models, options.python, CONCURRENCY, self._stopper
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evals-regrade")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stopper.stop()
        closing = self._thread.submit(self._grades.close)
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closing)

    def _feed(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting.pop(0)

    def _next(self, rows: Sequence[RowToGrade]) -> list[dict[str, Any]]:
        self._waiting.append(batch_of([arrow_row(row) for row in rows], ROW_COLUMNS))
        found: list[dict[str, Any]] = next(self._grades).to_pylist()
        return found

    async def grade(self, rows: Sequence[RowToGrade]) -> list[dict[str, Any]]:
        """Return the grades of these rows."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._next, rows)


def arrow_row(row: RowToGrade) -> dict[str, object]:
    return {
        "eval_id": row.eval_id,
        "run_id": row.run_id,
        "item_id": row.item_id,
        "item": _json.dump(row.item).decode(),
        "sample": None if row.sample is None else _json.dump(row.sample).decode(),
    }


def keep(connection: Connection, work: GradingTask, grades: Sequence[Mapping[str, Any]], now: float) -> None:
    """Store grades. They replace failed grades, and grades for an older definition."""
    names = ("run_id", "item_id", "score", "passed", "label", "error", "cause", "usage", "notes")
    marks = ", ".join("?" * (len(names) + 4))
    connection.executemany(
        f"INSERT OR REPLACE INTO regrades (eval_id, criterion, definition, graded_at, {', '.join(names)}) "
        f"VALUES ({marks})",
        [(work.eval_id, work.name, work.digest, now, *(grade[name] for name in names)) for grade in grades],
    )

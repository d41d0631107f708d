"""The states of a run without models over time: queued, in progress, completed. The clock decides when they change.

A run has no task. When it is read, its state is updated to the state that belongs to the current time. So equal times
give equal states, a server continues its runs after a restart, and tests with a fake clock need not wait.
"""

import asyncio
from collections import Counter

from evals_async._clock import Clock
from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async._store import Connection, Database, Row, executions, rows
from evals_async._store.executions import Sums
from evals_async.server.answers import Problem, not_found
from evals_async.server.execution.items import problem
from evals_async.server.execution.preparing import rows_of_run
from evals_async.server.execution.source import BadRows
from evals_async.server.execution.sums import counted, sums_of_items
from evals_async.server.shapes import Ids


ENDED = ("completed", "failed", "canceled", "cancelled")
ROWS_PER_STEP = 50  # rows that are graded before other tasks run


def stored_object(text: str) -> dict[str, object]:
    """Return a stored row as a JSON object."""
    return dict(as_object(parse(text.encode())) or {})


def criteria_of(parent: JSONObject) -> list[JSONObject]:
    """Return the testing criteria of an eval."""
    entries = map(as_object, as_array(parent.get("testing_criteria")) or ())
    return [entry for entry in entries if entry is not None]


def write_run(connection: Connection, run: JSONObject, now: float) -> None:
    rows.put(connection, "runs", [Row.of("runs", run, updated_at=now)])


def begin(connection: Connection, run: JSONObject, now: float) -> bool:
    """Store a new run and mark it as pending. Returns false if its eval does not exist."""
    if not rows.exists(connection, "evals", (str(run["eval_id"]),)):
        return False
    write_run(connection, run, now)
    connection.execute("INSERT INTO pending_runs VALUES (?, ?, ?)", (run["eval_id"], run["id"], now))
    return True


def end(connection: Connection, run: JSONObject, items: list[dict[str, object]], now: float) -> None:
    """Store the final state of a run with all its items, and remove its pending mark."""
    rows.put(connection, "output_items", [Row.of("output_items", item) for item in items])
    write_run(connection, run, now)
    connection.execute("DELETE FROM pending_runs WHERE eval_id = ? AND run_id = ?", (run["eval_id"], run["id"]))
    executions.end_execution(connection, (str(run["eval_id"]), str(run["id"])))


def is_canceled(run: JSONObject) -> bool:
    """Whether the run is already canceled. Raises `Problem` 400 if it has ended with another status."""
    status = run["status"]
    if status in ENDED and status not in ("canceled", "cancelled"):
        raise Problem(400, f"The run {run['id']} is {status} already and cannot be canceled.", param="run_id")
    return status in ENDED


class RunLifecycle:
    """Starts, updates and cancels the runs of one server."""

    def __init__(
        self, database: Database, clock: Clock, ids: Ids, *, queued_seconds: float, running_seconds: float
    ) -> None:
        self.database = database
        self.clock = clock
        self.ids = ids
        self.queued_seconds = queued_seconds
        self.running_seconds = running_seconds
        self.pending: dict[str, dict[str, float]] = {}  # eval id, run id: start time in seconds
        self.lock = asyncio.Lock()

    async def load(self) -> None:
        """Load the pending runs of an earlier server on the same file."""
        select = "SELECT eval_id, run_id, started FROM pending_runs"
        found: list[tuple[str, str, float]] = await self.database.call(lambda c: c.execute(select).fetchall())
        for eval_id, run_id, started in found:
            self.pending.setdefault(eval_id, {})[run_id] = started

    async def begin(self, run: JSONObject) -> None:
        """Store a new run with the status queued. Raises `Problem` 404 if its eval does not exist."""
        now = self.clock.time()
        eval_id, run_id = str(run["eval_id"]), str(run["id"])
        if not await self.database.atomic(begin, run, now):
            raise not_found("eval", eval_id)
        self.pending.setdefault(eval_id, {})[run_id] = now

    async def advance(self, eval_id: str, run_id: str | None = None) -> None:
        """Update one run, or all runs of an eval, to the current time."""
        pending = self.pending.get(eval_id)
        if not pending:
            return
        async with self.lock:
            for each in [run_id] if run_id is not None else list(pending):
                if each in pending:
                    await self.advance_one(eval_id, each, self.clock.time() - pending[each])

    async def close(self) -> None:
        """Do nothing: no task runs between requests."""

    async def advance_one(self, eval_id: str, run_id: str, age: float) -> None:
        if age < self.queued_seconds:
            return
        try:
            run = await self.read_run(eval_id, run_id)
        except Problem:  # it was deleted while it was begun
            self.forget(eval_id, run_id)
            return
        now = self.clock.time()
        if age >= self.queued_seconds + self.running_seconds:
            last, items = await self.carry_out(run)
            await self.database.atomic(end, last, items, now)
            self.forget(eval_id, run_id)
        elif run["status"] == "queued":
            await self.database.atomic(write_run, {**run, "status": "in_progress"}, now)

    async def read_run(self, eval_id: str, run_id: str) -> dict[str, object]:
        text = await self.database.call(rows.get, "runs", (eval_id, run_id))
        if text is None:
            raise not_found("run", run_id)
        return stored_object(text)

    async def carry_out(self, run: JSONObject) -> tuple[dict[str, object], list[dict[str, object]]]:
        """Grade a run. Returns its final state and its output items."""
        from evals_async.server.execution.grading import unsampled_item  # loads the graders, so not at start

        parent = await self.database.call(rows.get, "evals", (str(run["eval_id"]),))
        criteria = criteria_of(stored_object(parent)) if parent is not None else []
        items: list[dict[str, object]] = []
        sums: Sums = Counter()
        try:
            source = [row async for row in rows_of_run(self.database, run)]
        except BadRows as error:
            return {**run, "status": "failed", "error": problem("invalid_data_source", str(error))}, []
        for number, row in enumerate(source):
            body, added = await unsampled_item(run, number, row, criteria)
            item = {**body, "id": self.ids.new("outputitem"), "created_at": int(self.clock.time())}
            items.append(item)
            sums.update(added)
            if number % ROWS_PER_STEP == ROWS_PER_STEP - 1:
                await asyncio.sleep(0)  # lets other requests run
        sums.update(sums_of_items(items))
        return {**counted(run, sums, criteria), "status": "completed"}, items

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """Cancel the run and return it. A canceled run is returned unchanged.

        Raises `Problem` 404 for an unknown run, and 400 for a run that has ended with another status.
        """
        await self.advance(eval_id, run_id)
        async with self.lock:
            run = await self.read_run(eval_id, run_id)
            if is_canceled(run):
                return run
            run["status"] = "canceled"
            await self.database.atomic(end, run, [], self.clock.time())
            self.forget(eval_id, run_id)
            return run

    async def delete(self, eval_id: str, run_id: str | None = None) -> bool:
        """Delete a run, or an eval with all its runs. Returns whether it existed."""
        async with self.lock:
            if run_id is None:
                self.pending.pop(eval_id, None)
                return await self.database.atomic(rows.delete, "evals", (eval_id,))
            self.forget(eval_id, run_id)
            return await self.database.atomic(rows.delete, "runs", (eval_id, run_id))

    def forget(self, eval_id: str, run_id: str) -> None:
        self.pending.get(eval_id, {}).pop(run_id, None)

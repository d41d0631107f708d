"""What a run does over time: queued, in progress, completed. Driven by the clock, and looked at when somebody asks.

A run has no task of its own: whoever reads it first brings it to where the clock says it should be by then. So the same
clock gives the same states, a server that was closed continues where it stood, and a fake clock needs no waiting.
"""

import asyncio
from collections import Counter

from evals_async._clock import Clock
from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async._store import Connection, Database, Row, executions, rows
from evals_async._store.executions import Sums
from evals_async.server.answers import Problem, not_found
from evals_async.server.execution.grading import unsampled_item
from evals_async.server.execution.items import problem
from evals_async.server.execution.preparing import rows_of_run
from evals_async.server.execution.source import BadRows
from evals_async.server.execution.sums import counted, sums_of_items
from evals_async.server.shapes import Ids


ENDED = ("completed", "failed", "canceled", "cancelled")
TURN = 50  # rows that are graded before the loop goes round


def stored_object(text: str) -> dict[str, object]:
    """A stored row as a JSON object."""
    return dict(as_object(parse(text.encode())) or {})


def criteria_of(parent: JSONObject) -> list[JSONObject]:
    """The testing criteria of an eval."""
    entries = map(as_object, as_array(parent.get("testing_criteria")) or ())
    return [entry for entry in entries if entry is not None]


def write_run(connection: Connection, run: JSONObject, now: float) -> None:
    rows.put(connection, "runs", [Row.of("runs", run, updated_at=now)])


def begin(connection: Connection, run: JSONObject, now: float) -> bool:
    """Write a new run and that it is pending; false when its eval is not there."""
    if not rows.exists(connection, "evals", (str(run["eval_id"]),)):
        return False
    write_run(connection, run, now)
    connection.execute("INSERT INTO pending_runs VALUES (?, ?, ?)", (run["eval_id"], run["id"], now))
    return True


def end(connection: Connection, run: JSONObject, items: list[dict[str, object]], now: float) -> None:
    """Write the last state of a run with all its items, and that it is pending no more."""
    rows.put(connection, "output_items", [Row.of("output_items", item) for item in items])
    write_run(connection, run, now)
    connection.execute("DELETE FROM pending_runs WHERE eval_id = ? AND run_id = ?", (run["eval_id"], run["id"]))
    executions.end_execution(connection, (str(run["eval_id"]), str(run["id"])))


def is_canceled(run: JSONObject) -> bool:
    """Is this run canceled already? Raises `Problem` 400 for one that has ended otherwise."""
    status = run["status"]
    if status in ENDED and status not in ("canceled", "cancelled"):
        raise Problem(400, f"The run {run['id']} is {status} already and cannot be canceled.", param="run_id")
    return status in ENDED


class RunLifecycle:
    """The runs of one server that have not ended: begun, brought forward, canceled."""

    def __init__(
        self, database: Database, clock: Clock, ids: Ids, *, queued_seconds: float, running_seconds: float
    ) -> None:
        self.database = database
        self.clock = clock
        self.ids = ids
        self.queued_seconds = queued_seconds
        self.running_seconds = running_seconds
        self.pending: dict[str, dict[str, float]] = {}  # eval id, run id: the second in which it began
        self.lock = asyncio.Lock()

    async def load(self) -> None:
        """Take over what an earlier server on the same file left pending."""
        select = "SELECT eval_id, run_id, started FROM pending_runs"
        found: list[tuple[str, str, float]] = await self.database.call(lambda c: c.execute(select).fetchall())
        for eval_id, run_id, started in found:
            self.pending.setdefault(eval_id, {})[run_id] = started

    async def begin(self, run: JSONObject) -> None:
        """Write a new run, which is queued. Raises `Problem` when its eval is not there."""
        now = self.clock.time()
        eval_id, run_id = str(run["eval_id"]), str(run["id"])
        if not await self.database.atomic(begin, run, now):
            raise not_found("eval", eval_id)
        self.pending.setdefault(eval_id, {})[run_id] = now

    async def advance(self, eval_id: str, run_id: str | None = None) -> None:
        """Bring one run, or all runs of an eval, to where the clock says they are."""
        pending = self.pending.get(eval_id)
        if not pending:
            return
        async with self.lock:
            for each in [run_id] if run_id is not None else list(pending):
                if each in pending:
                    await self.advance_one(eval_id, each, self.clock.time() - pending[each])

    async def close(self) -> None:
        """Nothing is under way between requests."""

    async def advance_one(self, eval_id: str, run_id: str, age: float) -> None:
        if age < self.queued_seconds:
            return
        run = await self.read_run(eval_id, run_id)
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
        """The last state of a run, and its output items."""
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
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)  # other requests are answered meanwhile
        sums.update(sums_of_items(items))
        return {**counted(run, sums, criteria), "status": "completed"}, items

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """The run, canceled; one that is canceled already stays so. Raises `Problem` 404, or 400 for a run that has
        ended otherwise.
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
        """Remove a run, or an eval with all its runs; whether it was there."""
        async with self.lock:
            if run_id is None:
                self.pending.pop(eval_id, None)
                return await self.database.atomic(rows.delete, "evals", (eval_id,))
            self.forget(eval_id, run_id)
            return await self.database.atomic(rows.delete, "runs", (eval_id, run_id))

    def forget(self, eval_id: str, run_id: str) -> None:
        self.pending.get(eval_id, {}).pop(run_id, None)

"""The stored state of a run in progress: its constant parts, and its counts.

The functions take a connection, and must be called in one transaction.
"""

from collections.abc import Mapping, Sequence

import attrs

from evals_async._json import JSONObject
from evals_async._store import Connection, Row, executions, json_text, rows
from evals_async._store.executions import RunId, Sums
from evals_async.server.execution.sums import NANO, counted


CHANGING = ("status", "result_counts", "per_model_usage", "per_testing_criteria_results", "error", "execution")


@attrs.frozen
class RunRecord:
    """A run in progress: its id, its criteria, and the JSON text of its constant parts. The text is made once,
    because a run may contain all its rows.
    """

    key: RunId
    body: JSONObject = attrs.field(repr=False)
    criteria: Sequence[JSONObject] = attrs.field(repr=False)
    fixed: str = attrs.field(repr=False)

    @classmethod
    def of(cls, body: JSONObject, criteria: Sequence[JSONObject]) -> "RunRecord":
        """Make the record from a run's JSON object."""
        fixed = {name: value for name, value in body.items() if name not in CHANGING}
        return cls((str(body["eval_id"]), str(body["id"])), body, criteria, json_text(fixed))


def execution_summary(sums: Sums) -> dict[str, object]:
    """Return the field `execution` of a run: calls to models, tokens, cost and notes.

    The cost uses the prices of the model map, and is `None` without prices. `execution` also has the calls that may be
    billed twice. Each note has the number of its rows.
    """
    notes = [{"text": name, "rows": value} for (kind, name, _), value in sorted(sums.items()) if kind == "note"]
    counts = {field: sums["run", "", field] for field in ("calls", "tokens", "billed_retries")}
    cost = sums["run", "", "nano_cost"] / NANO if ("run", "", "nano_cost") in sums else None
    return {**counts, "cost": cost, "notes": notes}


def write_state(
    connection: Connection,
    record: RunRecord,
    status: str,
    now: float,
    *,
    total: int | None = None,
    error: Mapping[str, object] | None = None,
    ended: bool = False,
) -> str | None:
    """Write a run with its current counts, and return its JSON text. With `ended`, the rows left in the queue are
    deleted.

    Returns `None` and writes nothing if the run has ended or was deleted: a late write would restore it.
    """
    if executions.pending_execution(connection, record.key) is None:
        return None
    sums = executions.sums_of(connection, record.key)
    found = counted({}, sums, record.criteria, total)
    changing = {**found, "status": status, "error": error, "execution": execution_summary(sums)}
    text = f"{record.fixed[:-1]},{json_text(changing)[1:]}"
    created_at = rows.integer_column(record.body.get("created_at"))
    row = Row(key=record.key, label=status, created_at=created_at, updated_at=int(now), text=text)
    rows.put(connection, "runs", [row])
    if ended:
        executions.end_execution(connection, record.key)
    return text

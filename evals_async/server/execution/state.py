"""A run as the store has it while it is carried out: what never changes, and what is counted.

Functions of a connection, to be called in one transaction.
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
    """A run under way: its id, its criteria, and the JSON text of what does not change, made once because a run may
    hold all its rows.
    """

    key: RunId
    body: JSONObject = attrs.field(repr=False)
    criteria: Sequence[JSONObject] = attrs.field(repr=False)
    fixed: str = attrs.field(repr=False)

    @classmethod
    def of(cls, body: JSONObject, criteria: Sequence[JSONObject]) -> "RunRecord":
        """The record of a run's JSON object."""
        fixed = {name: value for name, value in body.items() if name not in CHANGING}
        return cls((str(body["eval_id"]), str(body["id"])), body, criteria, json_text(fixed))


def execution_summary(sums: Sums) -> dict[str, object]:
    """What a run says of its own carrying out: calls of models, tokens, what they cost by the prices of the model map
    (`None` without prices), calls that may have been billed twice, and what is to be known, with the number of rows
    that it is about.
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
) -> str:
    """Write a run with what is counted so far, and return its JSON text. `ended` forgets what was left to do."""
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

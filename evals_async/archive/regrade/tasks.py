"""What a regrade has to grade: its options, the criteria, and the archived items without a grade."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeAlias

import attrs

from evals_async import InvalidArgument, _json
from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async._store import Connection
from evals_async.archive.regrade.batches import RowToGrade, name_of, needs_model
from evals_async.grading.python import PythonGraders
from evals_async.inference import Models


GRADED = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi")
OUTPUT_IN_ROW = "sample.output_text"  # Foundry writes the output of the model into the row


@attrs.frozen(kw_only=True)
class RegradeOptions:
    """What to grade, and how.

    - `criteria`: names or ids; empty means all. `evals`: ids; empty means all.
    - `models`, `python`: functions that make the `Models` of judges and the `PythonGraders`. Without one, its criteria
      are left out.
    - `max_calls`: the most rows for judges. `max_tokens`: judges get no more rows after this number of tokens.
    """

    criteria: tuple[str, ...] = ()
    evals: tuple[str, ...] = ()
    models: Callable[[], Models] | None = None
    python: Callable[[], PythonGraders] | None = None
    max_calls: int | None = None
    max_tokens: int | None = None


EVERY_CRITERION = RegradeOptions()


@attrs.frozen
class GradingTask:
    """One criterion of one eval. If the `digest` of its definition changes, its rows are graded again."""

    eval_id: str
    criterion: JSONObject
    digest: str

    @property
    def name(self) -> str:
        return name_of(self.criterion)


def criteria_of(connection: Connection, options: RegradeOptions) -> list[GradingTask]:
    """Return the selected criteria of the selected evals. Raises `InvalidArgument` for a name without a
    criterion, and for an unknown eval.
    """
    found: list[GradingTask] = []
    names: set[str] = set()
    unknown = set(options.evals)
    sql = "SELECT id, body FROM evals ORDER BY created_at, id"
    for eval_id, body in connection.execute(sql).fetchall():
        unknown.discard(eval_id)
        if options.evals and eval_id not in options.evals:
            continue
        for criterion in map(
            as_object, as_array((as_object(parse(body.encode())) or {}).get("testing_criteria")) or ()
        ):
            if criterion is None:
                continue
            own = {name_of(criterion), str(criterion.get("name"))}
            names |= own
            if not options.criteria or own & set(options.criteria):
                found.append(GradingTask(eval_id, criterion, digest_of(criterion)))
    if unknown:
        raise InvalidArgument(f"there is no eval {', '.join(sorted(unknown))} in the archive")
    if missing := [name for name in options.criteria if name not in names]:
        raise InvalidArgument(f"there is no criterion {missing[0]!r}; the criteria are: {', '.join(sorted(names))}")
    return found


def digest_of(criterion: JSONObject) -> str:
    return hashlib.sha256(_json.canonical(criterion)).hexdigest()[:16]


def left_out(work: GradingTask, options: RegradeOptions) -> str | None:
    """Return why a criterion is not graded, or `None` if it is graded."""
    kind = work.criterion.get("type")
    if kind not in GRADED:
        return f"graders of type {kind} are not supported"
    if kind == "python" and options.python is None:
        return "python graders run only with --python (RegradeOptions.python)"
    if needs_model(work.criterion) and options.models is None:
        return "its judge runs only with --models (RegradeOptions.models)"
    return None


Position: TypeAlias = tuple[str, str]
"""A position in the items of an eval: run id and item id."""


def ungraded(connection: Connection, work: GradingTask, after: Position = ("", "")) -> Iterator[tuple[str, str, str]]:
    """Yield the items (run id, item id, body) without a grade for this definition of the criterion, ordered by ids.

    Items that an earlier regrade failed to grade are included.
    """
    sql = (
        "SELECT i.run_id, i.id, i.body FROM output_items i LEFT JOIN regrades r ON r.eval_id = i.eval_id "
        "AND r.run_id = i.run_id AND r.item_id = i.id AND r.criterion = ? AND r.definition = ? AND r.error IS NULL "
        "WHERE i.eval_id = ? AND (i.run_id, i.id) > (?, ?) AND r.item_id IS NULL ORDER BY i.run_id, i.id"
    )
    return connection.execute(sql, (work.name, work.digest, work.eval_id, *after))


def row_of(eval_id: str, run_id: str, item_id: str, body: str) -> RowToGrade | None:
    """Convert an archived item to a row to grade, or `None` if its sampling failed."""
    fields = as_object(parse(body.encode())) or {}
    item, sample = as_object(fields.get("datasource_item")) or {}, as_object(fields.get("sample"))
    error = None if sample is None else sample.get("error")
    fields_of_error = as_object(error)
    if bool(error) if fields_of_error is None else bool(fields_of_error.get("code") or fields_of_error.get("message")):
        return None
    output = item.get(OUTPUT_IN_ROW)
    if isinstance(output, str) and not (sample or {}).get("output"):
        sample = {**(sample or {}), "output_text": output}
    return RowToGrade(eval_id, run_id, item_id, item, sample)


def next_rows(connection: Connection, work: GradingTask, size: int, after: Position) -> list[RowToGrade]:
    """Return the next `size` rows to grade after a position."""
    found = (row_of(work.eval_id, *each) for each in ungraded(connection, work, after))
    return list(islice((row for row in found if row is not None), size))


def cost_of(connection: Connection, work: GradingTask) -> tuple[int, int, int | None]:
    """Return the rows to grade, the judge calls, and the tokens that the service's judge used for as many rows."""
    rows, counted, tokens = 0, 0, 0
    for run_id, item_id, body in ungraded(connection, work):
        if row_of(work.eval_id, run_id, item_id, body) is None:
            continue
        rows += 1
        for result in map(as_object, as_array((as_object(parse(body.encode())) or {}).get("results")) or ()):
            if result is not None and result.get("name") in (work.name, work.criterion.get("name")):
                usage = as_object((as_object(result.get("sample")) or {}).get("usage")) or {}
                if isinstance(count := usage.get("total_tokens"), int):
                    counted, tokens = counted + 1, tokens + count
    if not needs_model(work.criterion):
        return rows, 0, None
    return rows, rows, round(tokens / counted * rows) if counted else None

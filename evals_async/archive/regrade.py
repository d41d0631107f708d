"""Grading an archive again: our graders over what the service graded, and how far both agree.

Our grades have a table of their own beside the service's, which are never touched. Each batch is one transaction, so
that an interrupted regrade goes on where it stood, and no judge is paid twice for one row.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Self, TypeAlias

import attrs

from evals_async import InvalidArgument, _json
from evals_async._clock import Clock
from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async._store import Connection, Database
from evals_async.archive.regrade_agreement import Agreement, closest_variants, score_agreement
from evals_async.archive.regrade_batches import (
    ROW_COLUMNS,
    Criteria,
    RowToGrade,
    batch_of,
    grade_batches,
    load_arrow,
    name_of,
    needs_model,
)
from evals_async.grading import TemplateError
from evals_async.grading.graders import texts_of
from evals_async.grading.python import PythonGraders
from evals_async.inference import Models


GRADED = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi")
BATCH = 500  # rows
JUDGED_BATCH = 64  # rows whose graders cost: what an interruption may lose, and a cap may be late by
MOST_COMPARED = 2000  # rows that variants of a similarity are tried on
ANSWER_IN_ROW = "sample.output_text"  # Foundry writes the answer into the row


@attrs.frozen(kw_only=True)
class RegradeOptions:
    """What to grade: the names or ids of `criteria` (empty: all), of `evals` (empty: all), with what, and how much.

    `models` and `python` make what judges and python graders need; without them these are left out. At most
    `max_calls` rows are given to judges, and no more once `max_tokens` are used.
    """

    criteria: tuple[str, ...] = ()
    evals: tuple[str, ...] = ()
    models: Callable[[], Models] | None = None
    python: Callable[[], PythonGraders] | None = None
    max_calls: int | None = None
    max_tokens: int | None = None


EVERY_CRITERION = RegradeOptions()


@attrs.frozen(kw_only=True)
class RegradeEstimate:
    """What a regrade would cost: rows to grade, calls of judges, and the tokens that the service's own judges used for
    such rows (`None` where it did not tell).
    """

    rows: int
    calls: int
    tokens: int | None


@attrs.frozen(kw_only=True)
class RegradeReport:
    """What came of a regrade: how many grades were given now, why it stopped early, if it did, which criteria were left
    out and why, and the agreement.
    """

    graded: int
    stopped: str | None
    left_out: Mapping[str, str]
    agreement: tuple[Agreement, ...]


@attrs.frozen
class GradingTask:
    """One criterion of one eval, and the digest of its definition: another definition is graded anew."""

    eval_id: str
    criterion: JSONObject
    digest: str

    @property
    def name(self) -> str:
        return name_of(self.criterion)


# --- what there is to do ----------------------------------------------------------------------------------------------


def criteria_of(connection: Connection, options: RegradeOptions) -> list[GradingTask]:
    """The criteria to grade by, of all chosen evals. Raises `InvalidArgument` when a name fits none."""
    found: list[GradingTask] = []
    names: set[str] = set()
    sql = "SELECT id, body FROM evals ORDER BY created_at, id"
    for eval_id, body in connection.execute(sql).fetchall():
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
    if missing := [name for name in options.criteria if name not in names]:
        raise InvalidArgument(f"there is no criterion {missing[0]!r}; there are: {', '.join(sorted(names))}")
    return found


def digest_of(criterion: JSONObject) -> str:
    return hashlib.sha256(_json.canonical(criterion)).hexdigest()[:16]


def left_out(work: GradingTask, options: RegradeOptions) -> str | None:
    """Why the criterion is not graded: some are only when told, and some cannot be here. `None` for one that is."""
    kind = work.criterion.get("type")
    if kind not in GRADED:
        return f"a grader of type {kind} is not carried out here"
    if kind == "python" and options.python is None:
        return "python graders run only when told"
    if needs_model(work.criterion) and options.models is None:
        return "it asks a model, and models are asked only when told"
    return None


Place: TypeAlias = tuple[str, str]
"""The ids of a run and of an item: where a regrade stands."""


def ungraded(connection: Connection, work: GradingTask, after: Place = ("", "")) -> Iterator[tuple[str, str, str]]:
    """The items (run, id, body) that have no grade by this definition of the criterion, in the order of their ids. What
    an earlier regrade failed to grade is among them.
    """
    sql = (
        "SELECT i.run_id, i.id, i.body FROM output_items i LEFT JOIN regrades r ON r.eval_id = i.eval_id "
        "AND r.run_id = i.run_id AND r.item_id = i.id AND r.criterion = ? AND r.definition = ? AND r.error IS NULL "
        "WHERE i.eval_id = ? AND (i.run_id, i.id) > (?, ?) AND r.item_id IS NULL ORDER BY i.run_id, i.id"
    )
    return connection.execute(sql, (work.name, work.digest, work.eval_id, *after))


def row_of(eval_id: str, run_id: str, item_id: str, body: str) -> RowToGrade | None:
    """An archived item as a row to grade; `None` for one that was never sampled, because of an error."""
    fields = as_object(parse(body.encode())) or {}
    item, sample = as_object(fields.get("datasource_item")) or {}, as_object(fields.get("sample"))
    error = None if sample is None else sample.get("error")
    told = as_object(error)
    if bool(error) if told is None else bool(told.get("code") or told.get("message")):
        return None
    answer = item.get(ANSWER_IN_ROW)
    if isinstance(answer, str) and not (sample or {}).get("output"):
        sample = {**(sample or {}), "output_text": answer}
    return RowToGrade(eval_id, run_id, item_id, item, sample)


def arrow_row(row: RowToGrade) -> dict[str, object]:
    return {
        "eval_id": row.eval_id,
        "run_id": row.run_id,
        "item_id": row.item_id,
        "item": _json.dump(row.item).decode(),
        "sample": None if row.sample is None else _json.dump(row.sample).decode(),
    }


# --- grading ----------------------------------------------------------------------------------------------------------


@attrs.define
class Regrade:
    """One regrade of an archive's file."""

    database: Database
    options: RegradeOptions
    clock: Clock
    on_progress: Callable[[int], None] | None = None
    graded: int = 0
    calls: int = 0
    tokens: int = 0
    stopped: str | None = None

    async def run(self) -> RegradeReport:
        """Grade what is not graded yet, and compare."""
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
        """How far the grades that are in the archive agree with the service's."""
        works = await self.database.call(criteria_of, self.options)
        return [await self.database.call(agreement_of, work) for work in works]

    async def estimate(self) -> RegradeEstimate:
        """What `run` would cost."""
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
        place: Place = ("", "")
        with Stream({work.eval_id: [work.criterion]}, self.options) as stream:
            while size := self._allowed(JUDGED_BATCH) if judged else BATCH:
                rows = await self.database.call(next_rows, work, size, place)
                if not rows:
                    return
                grades = await stream.grade(rows)
                place = rows[-1].run_id, rows[-1].item_id
                await self.database.atomic(keep, work, grades, self.clock.time())
                self._count(grades, judged)

    def _allowed(self, size: int) -> int:
        """How many more rows judges may be given now."""
        most_calls, most_tokens = self.options.max_calls, self.options.max_tokens
        if most_tokens is not None and self.tokens >= most_tokens:
            self.stopped = f"{self.tokens:,} tokens are used, and {most_tokens:,} were allowed"
            return 0
        if most_calls is not None and self.calls >= most_calls:
            self.stopped = f"{self.calls:,} rows were given to judges, and {most_calls:,} were allowed"
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


class Stream:
    """`grade_batches` in a thread of its own, fed with one batch at a time, so that its models and processes stay.

    `with Stream(criteria, options) as stream: await stream.grade(rows)`
    """

    def __init__(self, criteria: Criteria, options: RegradeOptions) -> None:
        self._waiting: list[Any] = []
        self._grades = grade_batches(self._feed(), criteria, models=options.models, python=options.python)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evals-regrade")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.submit(self._grades.close)
        self._thread.shutdown()

    def _feed(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting.pop(0)

    def _next(self, rows: Sequence[RowToGrade]) -> list[dict[str, Any]]:
        self._waiting.append(batch_of([arrow_row(row) for row in rows], ROW_COLUMNS))
        found: list[dict[str, Any]] = next(self._grades).to_pylist()
        return found

    async def grade(self, rows: Sequence[RowToGrade]) -> list[dict[str, Any]]:
        """The grades of those rows."""
        return await asyncio.wrap_future(self._thread.submit(self._next, rows))


def next_rows(connection: Connection, work: GradingTask, size: int, after: Place) -> list[RowToGrade]:
    """The next rows to grade."""
    found = (row_of(work.eval_id, *each) for each in ungraded(connection, work, after))
    return list(islice((row for row in found if row is not None), size))


def keep(connection: Connection, work: GradingTask, grades: Sequence[Mapping[str, Any]], now: float) -> None:
    """Write grades; one by an older definition, or one that failed, is replaced."""
    names = ("run_id", "item_id", "score", "passed", "label", "error", "cause", "usage", "notes")
    marks = ", ".join("?" * (len(names) + 4))
    connection.executemany(
        f"INSERT OR REPLACE INTO regrades (eval_id, criterion, definition, graded_at, {', '.join(names)}) "
        f"VALUES ({marks})",
        [(work.eval_id, work.name, work.digest, now, *(grade[name] for name in names)) for grade in grades],
    )


# --- agreement --------------------------------------------------------------------------------------------------------


def theirs_of(body: str, criterion: JSONObject) -> tuple[bool | None, float | None, JSONObject]:
    """The service's verdict and score of that criterion for an item, and the item."""
    fields = as_object(parse(body.encode())) or {}
    results = [found for result in as_array(fields.get("results")) or () if (found := as_object(result)) is not None]
    names = (name_of(criterion), criterion.get("name"))
    result = next((each for name in names for each in results if each.get("name") == name), None)
    if result is None:
        return None, None, fields
    sample = as_object(result.get("sample")) or {}
    failed = bool(sample.get("error")) or result.get("status") in ("error", "skipped")
    passed, score = result.get("passed"), result.get("score")
    return (
        None if failed or not isinstance(passed, bool) else passed,
        None if failed or not isinstance(score, int | float) else float(score),
        fields,
    )


def word(passed: bool | None) -> str:
    return "none" if passed is None else "pass" if passed else "fail"


def agreement_of(connection: Connection, work: GradingTask) -> Agreement:
    """How far our grades of one criterion agree with the service's."""
    sql = (
        "SELECT i.run_id, i.id, i.body, r.score, r.passed, r.error FROM regrades r JOIN output_items i "
        "ON i.eval_id = r.eval_id AND i.run_id = r.run_id AND i.id = r.item_id "
        "WHERE r.eval_id = ? AND r.criterion = ? AND r.definition = ? ORDER BY i.created_at, i.run_id, i.id"
    )
    confusion: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    scores: list[tuple[float, float]] = []
    texts: list[tuple[str, str, float]] = []
    for run_id, item_id, body, score, passed, error in connection.execute(sql, (work.eval_id, work.name, work.digest)):
        their_verdict, their_score, _ = theirs_of(body, work.criterion)
        confusion[word(their_verdict), word(None if passed is None else bool(passed))] += 1
        if error is not None:
            reasons[error] += 1
        if score is not None and their_score is not None:
            scores.append((their_score, score))
        if work.criterion.get("type") == "text_similarity" and their_score is not None and len(texts) < MOST_COMPARED:
            texts += compared(row_of(work.eval_id, run_id, item_id, body), work.criterion, their_score)
    return Agreement(
        eval_id=work.eval_id,
        criterion=work.name,
        name=str(work.criterion.get("name") or work.name),
        type=str(work.criterion.get("type")),
        confusion=confusion,
        scores=score_agreement(scores),
        reasons=reasons,
        variants=closest_variants(str(work.criterion.get("evaluation_metric")), texts),
    )


def compared(row: RowToGrade | None, criterion: JSONObject, score: float) -> list[tuple[str, str, float]]:
    """The two texts of a similarity grader and the service's score; nothing where they cannot be had."""
    try:
        return [] if row is None else [(*texts_of(criterion, row.namespaces()), score)]
    except TemplateError:
        return []


def cost_of(connection: Connection, work: GradingTask) -> tuple[int, int, int | None]:
    """Rows to grade, calls of a judge, and the tokens that the service's judge used for as many rows."""
    rows, told, tokens = 0, 0, 0
    for run_id, item_id, body in ungraded(connection, work):
        if row_of(work.eval_id, run_id, item_id, body) is None:
            continue
        rows += 1
        for result in map(as_object, as_array((as_object(parse(body.encode())) or {}).get("results")) or ()):
            if result is not None and result.get("name") in (work.name, work.criterion.get("name")):
                usage = as_object((as_object(result.get("sample")) or {}).get("usage")) or {}
                if isinstance(count := usage.get("total_tokens"), int):
                    told, tokens = told + 1, tokens + count
    if not needs_model(work.criterion):
        return rows, 0, None
    return rows, rows, round(tokens / told * rows) if told else None

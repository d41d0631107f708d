"""How evals, runs and output items are printed: as rows of a table, as a record of fields, and as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import attrs

import evals_async
from evals_async.cli import output
from evals_async.cli.text import STATUS_STYLES, Column, percent


T = TypeVar("T", bound="evals_async.Eval | evals_async.EvalRun | evals_async.OutputItem")
Table: TypeAlias = tuple[Sequence[Column], Sequence[Sequence[object]]]


@attrs.frozen(kw_only=True)
class View(Generic[T]):
    """How one kind of object is printed: in a table as a `row`, alone as `fields` and a table of `parts`."""

    noun: str
    columns: Sequence[Column]
    row: Callable[[T], Sequence[object]]
    fields: Callable[[T], Sequence[tuple[Column, object]]]
    parts: Callable[[T], Table]

    async def show_many(self, things: AsyncIterable[T], form: str | None) -> None:
        """Print objects as they arrive: as JSON in this `form`, or as a table."""
        if form is None:
            await output.stream_table(self.columns, mapped(self.row, things), f"fetching {self.noun}s")
        else:
            await output.stream_json(mapped(evals_async.encode, things), lines=form == "jsonl")

    def show_one(self, thing: T, form: str | None) -> None:
        """Print one object."""
        if form is not None:
            output.write_json(evals_async.encode(thing), line=form == "jsonl")
            return
        output.record(self.fields(thing))
        columns, rows = self.parts(thing)
        if rows:
            output.say()
            output.table(columns, rows)


A = TypeVar("A")
B = TypeVar("B")


async def mapped(change: Callable[[A], B], things: AsyncIterable[A]) -> AsyncIterator[B]:
    async for thing in things:
        yield change(thing)


# --- evals ------------------------------------------------------------------------------------------------------------

ID = Column("Id", keep=True)
STATUS = Column("Status", keep=True, styles=STATUS_STYLES)
NAME = Column("Name", wrap=True)
CREATED = Column("Created", keep=True)
PASS_RATE = Column("Pass rate", show=percent, right=True)


def eval_row(thing: evals_async.Eval) -> Sequence[object]:
    return (thing.id, thing.name, len(thing.testing_criteria or ()), thing.created)


def eval_fields(thing: evals_async.Eval) -> Sequence[tuple[Column, object]]:
    source = thing.data_source_config.type if thing.data_source_config is not None else None
    pairs = ", ".join(f"{name}={value}" for name, value in (thing.metadata or {}).items())
    return [
        (ID, thing.id),
        (NAME, thing.name),
        (CREATED, thing.created),
        (Column("Data source"), source),
        (Column("Metadata"), pairs or None),
    ]


def eval_parts(thing: evals_async.Eval) -> Table:
    columns = [Column("Criterion", wrap=True), Column("Type"), Column("Criterion id", where="file")]
    rows = [
        (getattr(grader, "plain_name", None), grader.type, getattr(grader, "id", None))
        for grader in thing.testing_criteria or ()
    ]
    return columns, rows


EVALS = View["evals_async.Eval"](
    noun="eval",
    columns=[ID, NAME, Column("Criteria", right=True), CREATED],
    row=eval_row,
    fields=eval_fields,
    parts=eval_parts,
)


# --- runs -------------------------------------------------------------------------------------------------------------

FILE_ONLY = ("Eval id", "Model", "Total", "Passed", "Failed", "Errored", "Tokens", "Created")


def counts_of(run: evals_async.EvalRun) -> tuple[int | None, int | None, int | None, int | None]:
    counts = run.result_counts
    return (None, None, None, None) if counts is None else (counts.total, counts.passed, counts.failed, counts.errored)


def run_row(run: evals_async.EvalRun) -> Sequence[object]:
    shown = (run.id, run.status, run.pass_rate, run.name)
    return (*shown, run.eval_id, run.model, *counts_of(run), run.total_tokens, run.created)


def run_fields(run: evals_async.EvalRun) -> Sequence[tuple[Column, object]]:
    failure = run.failure
    titles = ("Rows", "Passed", "Failed", "Errored")
    return [
        (ID, run.id),
        (Column("Eval id"), run.eval_id),
        (NAME, run.name),
        (STATUS, run.status),
        *([(Column("Error"), f"{failure.code or 'error'}: {failure.message or ''}")] if failure is not None else []),
        (Column("Model"), run.model),
        (CREATED, run.created),
        *((Column(title), count) for title, count in zip(titles, counts_of(run), strict=True)),
        (PASS_RATE, run.pass_rate),
        (Column("Tokens"), run.total_tokens),
        (Column("Report url"), run.report_url),
    ]


def run_parts(run: evals_async.EvalRun) -> Table:
    columns = [Column("Criterion", wrap=True), Column("Passed", right=True), Column("Failed", right=True)]
    rows = [(result.plain_name, result.passed, result.failed) for result in run.per_testing_criteria_results or ()]
    return columns, rows


RUNS = View["evals_async.EvalRun"](
    noun="run",
    columns=[ID, STATUS, PASS_RATE, NAME, *(Column(title, where="file") for title in FILE_ONLY)],
    row=run_row,
    fields=run_fields,
    parts=run_parts,
)


# --- output items -----------------------------------------------------------------------------------------------------


def scores_of(item: evals_async.OutputItem) -> str | None:
    """Return the results of the criteria as text: name, score and verdict."""
    texts: list[str] = []
    for result in item.results or ():
        words = [result.plain_name or "?"]
        if result.score is not None:
            words.append(f"{result.score:.4g}")
        words.append({True: "pass", False: "fail", None: "no verdict"}[result.passed])
        texts.append(" ".join(words))
    return ", ".join(texts) or None


def item_row(item: evals_async.OutputItem) -> Sequence[object]:
    failed = ", ".join(result.plain_name or "?" for result in item.results or () if result.passed is False)
    sample = item.sample
    failure = None if sample is None or sample.failure is None else sample.failure.message or sample.failure.code
    text = failure or (None if sample is None else sample.output_text)
    return (item.datasource_item_id, item.status, failed or None, scores_of(item), text, item.id, item.run_id)


def item_fields(item: evals_async.OutputItem) -> Sequence[tuple[Column, object]]:
    return [(ID, item.id), (STATUS, item.status)]


def no_parts(item: evals_async.OutputItem) -> Table:
    return (), ()


ITEMS = View["evals_async.OutputItem"](
    noun="item",
    columns=[
        Column("Row", right=True),
        STATUS,
        Column("Failed criteria", where="file"),
        Column("Scores", wrap=True),
        Column("Output"),
        Column("Id", where="file"),
        Column("Run id", where="file"),
    ],
    row=item_row,
    fields=item_fields,
    parts=no_parts,
)


def item_of_runs_row(item: evals_async.OutputItem) -> Sequence[object]:
    return (item.run_id, *item_row(item)[:-1])


ITEMS_OF_RUNS = View["evals_async.OutputItem"](
    noun="item",
    columns=[
        Column("Run id", keep=True),
        *(ITEMS.columns[:4]),
        attrs.evolve(ITEMS.columns[4], spare=True),
        ITEMS.columns[5],
    ],
    row=item_of_runs_row,
    fields=item_fields,
    parts=no_parts,
)

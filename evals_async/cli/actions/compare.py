"""`compare`: read runs, compare each with the first, and print the result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from evals_async.cli import hints, output
from evals_async.cli.actions.runs import ItemCounter, RunArgument, RunReader
from evals_async.cli.constants import NOT_COMPARABLE, REGRESSED, FailOn
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
from evals_async.cli.text import Column, percent, plural
from evals_async.comparison import (
    CriterionComparison,
    Interval,
    Pair,
    RunComparison,
    RunOutcomes,
    TokenPrice,
    compare,
    comparison_json,
    cost_of,
)
from evals_async.comparison.comparing import FAIL_ON


if TYPE_CHECKING:
    from evals_async.report.pages import FlippedRow


MOST_FLIPS = 200  # rows on a page
VERDICTS = {"worse": "red", "better": "green"}


@attrs.frozen(kw_only=True)
class CompareOptions:
    """The options of `compare`."""

    cluster: str | None
    confidence: float
    prices: Sequence[TokenPrice]
    rows: int
    form: str | None
    file: Path | None
    fail_on: FailOn | None


async def compare_runs(terms: ConnectionOptions, places: Sequence[RunArgument], options: CompareOptions) -> int:
    """Read the runs, compare each with the first, and print the result. Returns the exit code."""
    async with RunReader(terms) as reader:
        with output.progress("reading items", transient=True) as update:
            counter = ItemCounter(update)
            first, *others = await asyncio.gather(*(read_outcomes(reader, place, options, counter) for place in places))
        found = [compare(first, each, cluster=options.cluster, confidence=options.confidence) for each in others]
        if options.file is not None:
            await write_page(reader, found[0], places, options.file)
    if options.form == "json":
        documents = [comparison_json(each, options.prices) for each in found]
        output.write_json(documents[0] if len(documents) == 1 else documents)
    else:
        for place, each in zip(places[1:], found, strict=True):
            show(each, places[0], place, options)
        most = max(len(each.regressions) + len(each.improvements) for each in found)
        if most > options.rows > 0:
            hints.say(Hint.ALL_ROWS, again=hints.changed(terms.words, "--rows", str(most)))
    return max(exit_code(each, options.fail_on) for each in found)


async def write_page(reader: RunReader, comparison: RunComparison, places: Sequence[RunArgument], file: Path) -> None:
    """Write the page of a comparison. The items whose verdict changed are read again, with all their fields."""
    from evals_async.report.files import write
    from evals_async.report.pages import ComparisonPage, comparison_page, flipped_row

    runs = comparison.a.run, comparison.b.run
    flips = [*comparison.regressions, *comparison.improvements]
    rows: list[FlippedRow] = []
    for pair in flips[:MOST_FLIPS]:
        ids = pair.a.item_id, pair.b.item_id
        a, b = [
            await reader.item(place, run, id)
            for place, run, id in zip(places, runs, ids, strict=True)
            if run is not None
        ]
        rows.append(flipped_row(comparison, pair, a, b))
    page = ComparisonPage(mode="file", comparison=comparison, rows=rows, left_out=len(flips) - len(rows))
    write(file, comparison_page(page))
    output.note(f"written: {file}")


async def read_outcomes(
    reader: RunReader, place: RunArgument, options: CompareOptions, counter: ItemCounter
) -> RunOutcomes:
    """Read the outcomes of one run."""
    run = await reader.run(place)
    outcomes = RunOutcomes(run, cluster=options.cluster)
    async for item in reader.items(place, run):
        outcomes.add(item)
        counter()
    return outcomes


def exit_code(comparison: RunComparison, fail_on: FailOn | None) -> int:
    if not comparison.alignment.pairs:
        return NOT_COMPARABLE
    return REGRESSED if fail_on is not None and FAIL_ON[fail_on](comparison) else 0


# --- telling ----------------------------------------------------------------------------------------------------------


def show(comparison: RunComparison, a: RunArgument, b: RunArgument, options: CompareOptions) -> None:
    """Print first what aligns, then the numbers."""
    output.note(f"A: {described(comparison.a, a)}")
    output.note(f"B: {described(comparison.b, b)}")
    for sentence in comparison.alignment.sentences():
        output.note(sentence)
    if not comparison.alignment.pairs:
        output.error("no row is in both runs: there is nothing to compare")
        return
    show_rates(comparison)
    show_scores(comparison)
    show_tokens(comparison, options.prices)
    show_flips(comparison, options.rows)
    output.note(f"verdict: {comparison.verdict}")


def described(outcomes: RunOutcomes, place: RunArgument) -> str:
    run = outcomes.run
    words = [str(place), plural(len(outcomes), "item")]
    if run is not None and run.name:
        words.insert(1, run.name)
    if run is not None and run.status != "completed":
        words.append(f"the run is {run.status}: its items may be incomplete")
    return ", ".join(words)


def show_rates(comparison: RunComparison) -> None:
    parts = [comparison.overall, *comparison.criteria]
    output.table(
        [
            Column("Criterion", wrap=True),
            Column("A", show=percent, right=True),
            Column("B", show=percent, right=True),
            Column("Difference", show=points, right=True),
            Column("Interval", show=points_interval, right=True, spare=True, where="terminal"),
            Column("Low", right=True, where="file"),
            Column("High", right=True, where="file"),
            Column("Worse", right=True),
            Column("Better", right=True),
            Column("Errors A", right=True, spare=True),
            Column("Errors B", right=True, spare=True),
            Column("p", show=probability, right=True, spare=True),
            Column("p Holm", show=probability, right=True),
            Column("Rows needed", right=True, spare=True),
            Column("Verdict", wrap=True, styles=VERDICTS),
        ],
        [rates_of(part) for part in parts],
        title=f"Pass rates over {plural(comparison.overall.a.total, 'row')}",
    )


def rates_of(part: CriterionComparison) -> Sequence[object]:
    difference = part.difference
    interval = None if difference is None else difference.interval
    return (
        part.name or "(all together)",
        part.a.value,
        part.b.value,
        None if difference is None else difference.mean,
        interval,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        part.regressed,
        part.improved,
        part.errors_a,
        part.errors_b,
        part.p,
        part.p_holm,
        part.rows_needed,
        part.verdict,
    )


def show_scores(comparison: RunComparison) -> None:
    rows = [
        (
            part.name,
            score.mean_a,
            score.mean_b,
            score.difference.mean,
            score.difference.error,
            score.difference.number,
            score.difference.p,
            score.p_holm,
            score.rows_needed,
        )
        for part in comparison.criteria
        if (score := part.score) is not None
    ]
    if not rows:
        return
    output.say()
    columns = [
        Column("Criterion", wrap=True),
        *(Column(title, show=decimals, right=True) for title in ("A", "B", "Difference", "Error")),
    ]
    columns += [
        Column("Rows", right=True),
        Column("p", show=probability, right=True),
        Column("p Holm", show=probability, right=True),
        Column("Rows needed", right=True),
    ]
    output.table(columns, rows, title="Scores")


def show_tokens(comparison: RunComparison, prices: Sequence[TokenPrice]) -> None:
    rows = [
        (side, model, count.calls, count.prompt, count.cached, count.completion)
        for side, tokens in zip("AB", comparison.tokens(), strict=True)
        for model, count in tokens.items()
    ]
    if rows:
        output.say()
        numbers = [Column(title, right=True) for title in ("Calls", "Prompt", "Cached", "Completion")]
        output.table([Column("Run"), Column("Model"), *numbers], rows, title="Tokens of the whole runs")
    for side, tokens in zip("AB", comparison.tokens(), strict=True):
        cost = cost_of(tokens, prices)
        if cost is not None:
            without = f", without the price of {', '.join(cost.unpriced)}" if cost.unpriced else ""
            output.note(f"cost of {side}: {cost.amount:,.4f}{without}")


def show_flips(comparison: RunComparison, most: int) -> None:
    """Print the rows whose verdict changed, regressions first."""
    flips = [("worse", pair) for pair in comparison.regressions]
    flips += [("better", pair) for pair in comparison.improvements]
    if not flips or not most:
        return
    output.say()
    output.table(
        [
            Column("Row", right=True),
            Column("Flip", keep=True, styles=VERDICTS),
            Column("Criteria", wrap=True),
            Column("Item of A", keep=True),
            Column("Item of B", keep=True),
        ],
        [
            (pair.a.source_id, what, ", ".join(flipped(comparison, pair)), pair.a.item_id, pair.b.item_id)
            for what, pair in flips[:most]
        ],
        title="Rows that flipped",
    )
    if len(flips) > most:
        output.note(f"{len(flips) - most:,} more rows flipped")


def flipped(comparison: RunComparison, pair: Pair) -> list[str]:
    """Return the criteria whose verdicts differ for this row."""
    names: list[str] = []
    for name_a, name_b in comparison.alignment.criteria:
        a = pair.a.results.get(comparison.a.criteria[name_a])
        b = pair.b.results.get(comparison.b.criteria[name_b])
        if a is not None and b is not None and a.passed is not b.passed:
            names.append(name_a.plain)
    return names


def points(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:+.1f}"


def points_interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def probability(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""`regrade`: grade an archive again, and print the agreement with the service."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from evals_async._store.lock import WriterLock
from evals_async.archive import Agreement, Archive, RegradeEstimate, RegradeOptions, RegradeReport
from evals_async.cli import hints, output
from evals_async.cli.actions.gaps import print_gaps
from evals_async.cli.constants import LIMIT_REACHED
from evals_async.cli.groups import ConnectionOptions, NotThere
from evals_async.cli.hints import Hint
from evals_async.cli.names import with_options
from evals_async.cli.text import Column, percent, plural
from evals_async.errors import InvalidArgument
from evals_async.grading.python import PythonGraders
from evals_async.inference import Models


MOST_REASONS = 3
MOST_VARIANTS = 3


async def regrade_file(
    terms: ConnectionOptions,
    file: Path,
    *,
    criteria: tuple[str, ...],
    evals: tuple[str, ...],
    models_file: Path | None,
    python: Literal["sandbox", "trusted"] | None,
    max_calls: int | None,
    max_tokens: int | None,
    estimate: bool,
    form: str | None,
) -> int:
    """Print the cost, grade, and print the agreement. Returns the exit code."""
    options = RegradeOptions(
        criteria=criteria,
        evals=evals,
        models=None if models_file is None else partial(Models.from_file, models_file),
        python=None if python is None else partial(PythonGraders, python),
        max_calls=max_calls,
        max_tokens=max_tokens,
    )
    # An archive has one writer: the lock prevents an export at the same time.
    async with Archive.open(file) as archive:
        with WriterLock(file):
            await print_gaps(archive, file, terms)
            try:
                cost = await archive.estimate_regrade(options)
            except InvalidArgument as error:
                raise NotThere(str(error), hints.advice(Hint.SHOW, file=str(file))) from None
            print_cost(cost)
            if estimate:
                return 0
            with output.progress("grading", cost.rows, transient=True) as update:
                report = await archive.regrade(options, on_progress=update)
    if form == "json":
        output.write_json(report_json(report))
    else:
        show(report)
    if report.stopped is not None:
        output.error(f"stopped: {report.stopped}; run the same command again to continue")
        return LIMIT_REACHED
    return 0


def print_cost(cost: RegradeEstimate) -> None:
    words = [f"{plural(cost.rows, 'row')} to grade"]
    if cost.calls:
        tokens = (
            "unknown tokens" if cost.tokens is None else f"about {cost.tokens:,} tokens, as in the service's results"
        )
        words += [plural(cost.calls, "judge call"), tokens]
    output.note(", ".join(words))


def show(report: RegradeReport) -> None:
    """Print the agreement of each criterion, its scores, and the closest variants of similarity metrics."""
    known = [each for each in report.agreement if each.confusion]
    output.table(
        [
            Column("Criterion", wrap=True),
            Column("Type", spare=True),
            Column("Rows", right=True),
            Column("Agreement", show=percent, right=True),
            Column("Kappa", show=decimals, right=True),
            Column("Pass pass", right=True),
            Column("Pass fail", right=True),
            Column("Fail pass", right=True),
            Column("Fail fail", right=True),
            Column("Not graded here", right=True),
            Column("Not graded there", right=True),
        ],
        [agreement_row(each) for each in known],
        title="The service's verdict, then ours",
    )
    show_scores(known)
    for each in known:
        for reason, number in sorted(each.reasons.items(), key=lambda entry: -entry[1])[:MOST_REASONS]:
            output.note(f"{each.name}: {plural(number, 'row')}: {reason}")
        for variant in each.variants[:MOST_VARIANTS]:
            output.note(
                f"{each.name}: {variant.name}: {variant.same:,} of {variant.rows:,} scores are the service's, "
                f"distance {variant.mean_absolute:.4f}"
            )
    for name, reason in report.left_out.items():
        output.note(f"left out: {name}: {with_options(reason)}")
    output.note(f"{plural(report.graded, 'new grade')}")


def agreement_row(each: Agreement) -> tuple[object, ...]:
    found = each.confusion
    return (
        each.name,
        each.type,
        each.rows,
        each.rate,
        each.kappa,
        *(found.get((theirs, ours), 0) for theirs in ("pass", "fail") for ours in ("pass", "fail")),
        sum(number for (theirs, ours), number in found.items() if ours == "none" and theirs != "none"),
        sum(number for (theirs, _), number in found.items() if theirs == "none"),
    )


def show_scores(known: list[Agreement]) -> None:
    rows = [
        (each.name, scores.rows, scores.same, scores.close, scores.mean, scores.mean_absolute, scores.largest)
        for each in known
        if (scores := each.scores) is not None
    ]
    if rows:
        output.say()
        numbers = [Column(title, right=True) for title in ("Rows", "Same", "Within 0.01")]
        differences = [Column(title, show=decimals, right=True) for title in ("Mean", "Mean distance", "Largest")]
        output.table(
            [Column("Criterion", wrap=True), *numbers, *differences], rows, title="Scores, ours minus the service's"
        )


def decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def report_json(report: RegradeReport) -> dict[str, object]:
    """Return the report as JSON."""
    return {
        "graded": report.graded,
        "stopped": report.stopped,
        "left_out": dict(report.left_out),
        "agreement": [agreement_json(each) for each in report.agreement],
    }


def agreement_json(each: Agreement) -> dict[str, object]:
    scores = each.scores
    return {
        "eval_id": each.eval_id,
        "criterion": each.criterion,
        "name": each.name,
        "type": each.type,
        "rows": each.rows,
        "agreement": each.rate,
        "interval": [each.interval.low, each.interval.high],
        "kappa": each.kappa,
        "confusion": [
            {"service": theirs, "ours": ours, "rows": number}
            for (theirs, ours), number in sorted(each.confusion.items())
        ],
        "reasons": dict(each.reasons),
        "scores": None
        if scores is None
        else {
            "rows": scores.rows,
            "same": scores.same,
            "close": scores.close,
            "mean": scores.mean,
            "mean_absolute": scores.mean_absolute,
            "largest": scores.largest,
        },
        "variants": [
            {"name": variant.name, "rows": variant.rows, "same": variant.same, "mean_absolute": variant.mean_absolute}
            for variant in each.variants
        ],
    }

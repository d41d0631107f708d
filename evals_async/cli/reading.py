"""`evals-async evals | runs | items`: look at what the service has. What things look like is in `views`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, TypeAlias, TypeVar, get_args

import attrs
import click

import evals_async
from evals_async.cli import failed, hints, output
from evals_async.cli.groups import (
    CommandGroup,
    ConnectionOptions,
    Misused,
    examples,
    global_options,
    json_options,
    pass_terms,
)
from evals_async.cli.hints import AN_HOUR, Hint
from evals_async.cli.service import run_key, run_with_client
from evals_async.cli.views import EVALS, ITEMS, ITEMS_OF_RUNS, RUNS, View


T = TypeVar("T", bound="evals_async.Eval | evals_async.EvalRun | evals_async.OutputItem")
K = TypeVar("K")
C = TypeVar("C", bound=Callable[..., object])
Form: TypeAlias = Literal["json", "jsonl"] | None
Order: TypeAlias = Literal["asc", "desc"]
Status: TypeAlias = Literal["queued", "in_progress", "completed", "canceled", "failed"]
Verdict: TypeAlias = Literal["pass", "fail"]

FAILURES_TOLD = 3

eval_option = click.option(
    "--eval", "eval_id", metavar="EVAL_ID", help="The eval of runs that are named by RUN_ID alone."
)


def list_options(command: C) -> C:
    """Where a listing begins, which way it goes, and where it ends."""
    limit = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. Default: all.")
    order = click.option("--order", type=click.Choice(get_args(Order)), help="By age. Default: asc, the oldest first.")
    after = click.option("--after", metavar="ID", help="Go on after this one.")
    return limit(order(after(command)))


@click.group(cls=CommandGroup)
@global_options
def evals() -> None:
    """Evals: what is tested, and by which criteria."""


@evals.command(
    "list",
    epilog=examples(
        "evals-async evals list", "evals-async evals list --order desc --limit 5", "evals-async evals list --json"
    ),
)
@list_options
@json_options
@global_options
@pass_terms
def list_evals(terms: ConnectionOptions, limit: int | None, order: Order | None, after: str | None, form: Form) -> None:
    """List the evals of the project."""

    async def work(client: evals_async.EvalsClient) -> evals_async.Eval | None:
        return await show_listing(client.evals.list(after=after, order=order), limit, EVALS, form)

    terms.listing = True
    last = run_with_client(terms, work)
    if last is not None and form is None:
        hints.say(Hint.LIST_RUNS, terms, eval_id=last.id)


@evals.command("get", epilog=examples("evals-async evals get eval_abc", "evals-async evals get eval_abc --json"))
@click.argument("names", metavar="EVAL_ID...", nargs=-1, required=True)
@json_options
@global_options
@pass_terms
def get_evals(terms: ConnectionOptions, names: tuple[str, ...], form: Form) -> int:
    """Show an eval, or several."""

    async def work(client: evals_async.EvalsClient) -> int:
        return await show_each(client.evals.retrieve, names, terms, EVALS, form)

    code = run_with_client(terms, work)
    if form is None and not code:
        hints.say(Hint.LIST_RUNS, terms, eval_id=names[0])
    return code


@click.group(cls=CommandGroup)
@global_options
def runs() -> None:
    """Runs: evals carried out, with their counts."""


@runs.command(
    "list",
    epilog=examples(
        "evals-async runs list eval_abc",
        "evals-async runs list eval_abc --status failed --order desc --limit 20",
        "evals-async runs list eval_abc --jsonl > runs.jsonl",
    ),
)
@click.argument("eval_id", metavar="EVAL_ID")
@click.option(
    "--status",
    type=click.Choice(get_args(Status)),
    help="Only runs of this status.",
)
@list_options
@json_options
@global_options
@pass_terms
def list_runs(
    terms: ConnectionOptions,
    eval_id: str,
    status: Status | None,
    limit: int | None,
    order: Order | None,
    after: str | None,
    form: Form,
) -> None:
    """List the runs of an eval."""

    async def work(client: evals_async.EvalsClient) -> evals_async.EvalRun | None:
        pager = client.evals.runs.list(eval_id, after=after, order=order, status=status)
        return await show_listing(pager, limit, RUNS, form)

    terms.listing = True
    last = run_with_client(terms, work)
    if last is not None and form is None:
        hints.say(Hint.GET_RUN, terms, run=f"{eval_id}/{last.id}")


@runs.command(
    "get",
    epilog=examples(
        "evals-async runs get eval_abc/evalrun_def",
        "evals-async runs get evalrun_def evalrun_ghi --eval eval_abc",
        "evals-async runs get eval_abc/evalrun_def --json",
    ),
)
@click.argument("names", metavar="EVAL_ID/RUN_ID...", nargs=-1, required=True)
@eval_option
@json_options
@global_options
@pass_terms
def get_runs(terms: ConnectionOptions, names: tuple[str, ...], eval_id: str | None, form: Form) -> int:
    """Show a run, or several, fetched concurrently."""
    keys = [run_key(name, eval_id, terms) for name in names]

    async def work(client: evals_async.EvalsClient) -> int:
        return await show_each(client.evals.runs.retrieve, keys, terms, RUNS, form)

    code = run_with_client(terms, work)
    if form is None and not code:
        hints.say(Hint.LIST_ITEMS, terms, run="/".join(keys[0]))
    return code


@runs.command(
    "wait",
    epilog=examples(
        "evals-async runs wait eval_abc/evalrun_def && echo completed",
        "evals-async runs wait eval_abc/evalrun_def --deadline 600 --json",
    ),
)
@click.argument("names", metavar="EVAL_ID/RUN_ID...", nargs=-1, required=True)
@eval_option
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=AN_HOUR,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@json_options
@global_options
@pass_terms
def wait_for_runs(
    terms: ConnectionOptions, names: tuple[str, ...], eval_id: str | None, deadline: float, form: Form
) -> int:
    """Wait until a run, or several, are over, then show them. Exit code 1 unless all are completed."""
    keys = [run_key(name, eval_id, terms) for name in names]

    async def work(client: evals_async.EvalsClient) -> int:
        ended = await wait_with_progress(client, keys, deadline, terms.concurrency)
        code = await show_outcomes(ended, terms, RUNS, form)
        unsuccessful = [run for outcome in ended if (run := outcome.value) and run.status != "completed"]
        for run in unsuccessful:
            reason = f": {run.failure.message}" if run.failure is not None else ""
            output.error(f"the run {run.id} ended as {run.status}{reason}")
        return code or (1 if unsuccessful else 0)

    return run_with_client(terms, work)


@click.group(cls=CommandGroup)
@global_options
def items() -> None:
    """Output items: what became of each row of a run."""


@items.command(
    "list",
    epilog=examples(
        "evals-async items list eval_abc/evalrun_def",
        "evals-async items list evalrun_def --eval eval_abc --status fail",
        "evals-async items list --eval eval_abc --jsonl > items.jsonl",
    ),
)
@click.argument("name", metavar="[EVAL_ID/RUN_ID]", required=False)
@click.option(
    "--eval", "eval_id", metavar="EVAL_ID", help="The eval of a RUN_ID; without one, the items of all its runs."
)
@click.option("--status", type=click.Choice(get_args(Verdict)), help="Only items of this verdict.")
@list_options
@json_options
@global_options
@pass_terms
def list_items(
    terms: ConnectionOptions,
    name: str | None,
    eval_id: str | None,
    status: Verdict | None,
    limit: int | None,
    order: Order | None,
    after: str | None,
    form: Form,
) -> int:
    """List the output items of a run, or with --eval alone those of all runs of an eval.

    The items of several runs are printed as they come: those of one run in their order, the runs side by side. The
    table has the id of the run in each line; in the JSON it is the field `run_id`.
    """
    if name is None:
        if eval_id is None:
            raise Misused("No run is named.", hints.advice(Hint.NAME_RUN, terms))
        if order is not None or after is not None:
            raise click.UsageError("--order and --after are for the items of one run: name it.")
        wanted = ItemsWanted(eval_id, status, limit, form)
        return run_with_client(terms, lambda client: show_items_of_runs(client, terms, wanted))
    key = run_key(name, eval_id, terms)

    async def work(client: evals_async.EvalsClient) -> int:
        pager = client.evals.runs.output_items.list(key, after=after, order=order, status=status)
        await show_listing(pager, limit, ITEMS, form)
        return 0

    terms.listing = True
    return run_with_client(terms, work)


# --- fetching and showing ---------------------------------------------------------------------------------------------


async def show_listing(pager: evals_async.Pager[T], limit: int | None, view: View[T], form: Form) -> T | None:
    """Print a listing as it arrives; returns its last thing."""
    last: list[T] = []

    async def things() -> AsyncIterator[T]:
        left = limit
        async for page in pager.pages(limit):
            for thing in page.data[:left]:
                last[:] = [thing]
                yield thing
            left = None if left is None else left - len(page.data)
            if left is not None and left <= 0:
                return

    await view.show_many(things(), form)
    if not last:
        output.note(f"no {view.noun}s")
    return last[0] if last else None


@attrs.frozen
class ItemsWanted:
    """Which items of the runs of an eval are shown, and how."""

    eval_id: str
    status: Verdict | None
    limit: int | None
    form: Form


async def show_items_of_runs(client: evals_async.EvalsClient, terms: ConnectionOptions, wanted: ItemsWanted) -> int:
    """Print the items of all runs of an eval as they come; returns the exit code. What fails does not end the rest."""
    failures: list[Exception] = []
    seen = 0

    async def things() -> AsyncIterator[evals_async.OutputItem]:
        nonlocal seen
        runs = client.evals.runs.list(wanted.eval_id)
        listings = client.evals.runs.output_items.list_many(runs, status=wanted.status, concurrency=terms.concurrency)
        async with listings as outcomes:
            async for outcome in outcomes:
                if outcome.error is not None:
                    failures.append(outcome.error)
                    continue
                seen += 1
                yield outcome.unwrap()
                if seen == wanted.limit:
                    return

    await ITEMS_OF_RUNS.show_many(things(), wanted.form)
    if not seen and not failures:
        output.note("no items")
    return failed(*failures, terms=terms, most=FAILURES_TOLD)


async def show_each(
    fetch: Callable[[K], Awaitable[T]],
    keys: Sequence[K],
    terms: ConnectionOptions,
    view: View[T],
    form: Form,
) -> int:
    """Fetch things by their ids and print them, in that order; returns the exit code."""
    with output.progress(f"fetching {view.noun}s", len(keys), transient=True) as update:
        fetched = evals_async.fan_out(
            fetch, keys, concurrency=terms.concurrency, ordered=True, on_progress=output.follow(update)
        )
        async with fetched as outcomes:
            found = [outcome async for outcome in outcomes]
    return await show_outcomes(found, terms, view, form)


async def show_outcomes(
    outcomes: list[evals_async.Outcome[K, T]], terms: ConnectionOptions, view: View[T], form: Form
) -> int:
    """Print what was fetched, and tell what was not; returns the exit code. The failure of a single thing is raised."""
    if len(outcomes) == 1:
        view.show_one(outcomes[0].unwrap(), form)
        return 0

    async def things() -> AsyncIterator[T]:
        for outcome in outcomes:
            if outcome.value is not None:
                yield outcome.value

    await view.show_many(things(), form)
    return failed(*(outcome.error for outcome in outcomes if outcome.error is not None), terms=terms)


async def wait_with_progress(
    client: evals_async.EvalsClient, keys: list[tuple[str, str]], deadline: float, concurrency: int
) -> list[evals_async.Outcome[evals_async.RunKey, evals_async.EvalRun]]:
    """How the runs ended, in the order of `keys`."""
    ended: dict[evals_async.RunKey, evals_async.Outcome[evals_async.RunKey, evals_async.EvalRun]] = {}
    with output.progress("waiting for runs", len(keys)) as update:

        def on_poll(run: evals_async.EvalRun) -> None:
            update(len(ended), detail=f"{run.id} {run.status}")

        waits = client.evals.runs.wait_many(
            keys, timeout=deadline, on_poll=on_poll, concurrency=concurrency, on_progress=output.follow(update)
        )
        async with waits as outcomes:
            async for outcome in outcomes:
                ended[outcome.key] = outcome
    return [ended[key] for key in keys]

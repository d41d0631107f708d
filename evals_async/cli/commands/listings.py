"""`evals-async evals | runs | items`: read evals, runs and output items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar, get_args

import click

import evals_async
from evals_async.cli import hints, output
from evals_async.cli.actions.listings import (
    Form,
    ItemFilter,
    Verdict,
    show_each,
    show_items_of_runs,
    show_listing,
    show_outcomes,
    wait_with_progress,
)
from evals_async.cli.connection import run_key, run_with_client
from evals_async.cli.constants import AN_HOUR
from evals_async.cli.groups import (
    CommandGroup,
    ConnectionOptions,
    Misused,
    eval_option,
    examples,
    global_options,
    json_options,
    pass_terms,
)
from evals_async.cli.hints import Hint
from evals_async.cli.views import EVALS, ITEMS, RUNS


C = TypeVar("C", bound=Callable[..., object])
Order: TypeAlias = Literal["asc", "desc"]
Status: TypeAlias = Literal["queued", "in_progress", "completed", "canceled", "failed"]


def list_options(command: C) -> C:
    """Add --limit, --order and --after to a command."""
    limit = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N objects. Default: all.")
    order = click.option("--order", type=click.Choice(get_args(Order)), help="Oldest or newest first. Default: asc.")
    after = click.option("--after", metavar="ID", help="Start after this object.")
    return limit(order(after(command)))


@click.group(cls=CommandGroup)
@global_options
def evals() -> None:
    """Evals: their data and their criteria."""


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
    first = run_with_client(terms, work)
    if first is not None and form is None:
        hints.say(Hint.LIST_RUNS, terms, eval_id=first.id)


@evals.command("get", epilog=examples("evals-async evals get eval_abc", "evals-async evals get eval_abc --json"))
@click.argument("names", metavar="EVAL_ID...", nargs=-1, required=True)
@json_options
@global_options
@pass_terms
def get_evals(terms: ConnectionOptions, names: tuple[str, ...], form: Form) -> int:
    """Print one eval or several, fetched concurrently."""

    async def work(client: evals_async.EvalsClient) -> int:
        return await show_each(client.evals.retrieve, names, terms, EVALS, form)

    code = run_with_client(terms, work)
    if form is None and not code:
        hints.say(Hint.LIST_RUNS, terms, eval_id=names[0])
    return code


@click.group(cls=CommandGroup)
@global_options
def runs() -> None:
    """Runs: executions of evals, with their counts."""


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
    first = run_with_client(terms, work)
    if first is not None and form is None:
        hints.say(Hint.GET_RUN, terms, run=f"{eval_id}/{first.id}")


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
    """Print one run or several, fetched concurrently."""
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
    """Wait until one run or several have ended, then print them. Exit code 1 unless all are completed."""
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
    """Output items: the results of each row of a run."""


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
    "--eval", "eval_id", metavar="EVAL_ID", help="The eval of RUN_ID; without a run, the items of all its runs."
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
    """List the output items of a run, or with only --eval the items of all runs of an eval.

    The items of several runs are printed as they arrive: the items of one run are in order, but the runs are mixed. The
    table has the run id in each line; in the JSON it is the field `run_id`.
    """
    if name is None:
        if eval_id is None:
            raise Misused("The run is missing.", hints.advice(Hint.NAME_RUN, terms))
        if order is not None or after is not None:
            raise click.UsageError("--order and --after need a run: they work for the items of one run.")
        wanted = ItemFilter(eval_id, status, limit, form)
        return run_with_client(terms, lambda client: show_items_of_runs(client, terms, wanted))
    key = run_key(name, eval_id, terms)

    async def work(client: evals_async.EvalsClient) -> int:
        pager = client.evals.runs.output_items.list(key, after=after, order=order, status=status)
        await show_listing(pager, limit, ITEMS, form)
        return 0

    terms.listing = True
    return run_with_client(terms, work)

"""`evals`, `runs` and `items`: fetch objects and print them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, TypeAlias, TypeVar

import attrs

import evals_async
from evals_async.cli import failed, output
from evals_async.cli.constants import MOST_FAILURES
from evals_async.cli.groups import (
    ConnectionOptions,
)
from evals_async.cli.views import ITEMS_OF_RUNS, View


T = TypeVar("T", bound="evals_async.Eval | evals_async.EvalRun | evals_async.OutputItem")
K = TypeVar("K")
C = TypeVar("C", bound=Callable[..., object])
Form: TypeAlias = Literal["json", "jsonl"] | None
Verdict: TypeAlias = Literal["pass", "fail"]


async def show_listing(pager: evals_async.Pager[T], limit: int | None, view: View[T], form: Form) -> T | None:
    """Print a listing as it arrives. Returns its first object."""
    first: list[T] = []

    async def things() -> AsyncIterator[T]:
        left = limit
        async for page in pager.pages(limit):
            for thing in page.data[:left]:
                first.extend([] if first else [thing])
                yield thing
            left = None if left is None else left - len(page.data)
            if left is not None and left <= 0:
                return

    await view.show_many(things(), form)
    if not first:
        output.note(f"no {view.noun}s")
    return first[0] if first else None


@attrs.frozen
class ItemFilter:
    """Which items of an eval's runs to print, and how."""

    eval_id: str
    status: Verdict | None
    limit: int | None
    form: Form


async def show_items_of_runs(client: evals_async.EvalsClient, terms: ConnectionOptions, wanted: ItemFilter) -> int:
    """Print the items of all runs of an eval as they arrive. A failed run does not stop the others.

    Returns the exit code.
    """
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
    return failed(*failures, terms=terms, most=MOST_FAILURES)


async def show_each(
    fetch: Callable[[K], Awaitable[T]],
    keys: Sequence[K],
    terms: ConnectionOptions,
    view: View[T],
    form: Form,
) -> int:
    """Fetch objects by their ids and print them in this order. Returns the exit code."""
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
    """Print the fetched objects and the errors. Returns the exit code. If there is one object, its error is raised."""
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
    """Wait for runs, with progress. Returns the outcomes in the order of `keys`."""
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

"""`demo`: fetch the runs of a sample or of a service, and print their totals."""

from __future__ import annotations

import evals_async
from evals_async.cli import failed, output
from evals_async.cli.actions.totals import RunTotals
from evals_async.cli.connection import connect, open_client
from evals_async.cli.constants import MOST_FAILURES
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.text import Column, bar, percent, plural


RATE = Column("Pass rate", show=percent, right=True)
BAR = Column("", show=bar, keep=True, where="terminal")


async def from_sample(terms: ConnectionOptions, wanted: int, top: int) -> int:
    from evals_async.server import LocalServer, sample_tree

    async with LocalServer(remembered=0) as server:
        await server.seed(**sample_tree(wanted))
        output.note(f"a local server with a sample of {plural(wanted, 'run')}: {server.base_url}")
        async with connect(terms, base_url=server.base_url, api_key="local") as client:
            return await fetch_and_show(client, terms, wanted, top)


async def from_service(terms: ConnectionOptions, wanted: int, top: int) -> int:
    async with open_client(terms) as client:
        output.note(f"reading from {client.base_url}")
        return await fetch_and_show(client, terms, wanted, top)


async def fetch_and_show(client: evals_async.EvalsClient, terms: ConnectionOptions, wanted: int, top: int) -> int:
    """Find runs, fetch each one by its id, and print the totals. Returns the exit code."""
    names = {entry.id: entry.name or entry.id async for entry in client.evals.list()}
    keys = await find_runs(client, list(names), wanted, terms.concurrency)
    summary, failures = RunTotals(), list[Exception]()
    began, before = client.clock.monotonic(), client.statistics().requests
    with output.progress("fetching runs", len(keys)) as update:
        fetched = client.evals.runs.stream_many(keys, concurrency=terms.concurrency, on_progress=output.follow(update))
        async with fetched as outcomes:
            async for outcome in outcomes:
                if outcome.error is not None:
                    failures.append(outcome.error)
                else:
                    summary.add(outcome.unwrap())
    seconds = client.clock.monotonic() - began
    show(summary, names, top, seconds, client.statistics().requests - before)
    return failed(*failures, terms=terms, most=MOST_FAILURES)


async def find_runs(
    client: evals_async.EvalsClient, eval_ids: list[str], wanted: int, concurrency: int
) -> list[tuple[str, str]]:
    """Return the ids of the first `wanted` runs in the listings of the evals."""
    keys: list[tuple[str, str]] = []
    with output.progress("listing runs", transient=True) as update:
        async with client.evals.runs.list_many(eval_ids, concurrency=concurrency) as outcomes:
            async for outcome in outcomes:
                keys.append((outcome.key, outcome.unwrap().id))
                update(len(keys))
                if len(keys) == wanted:
                    break
    return keys


def show(summary: RunTotals, names: dict[str, str], top: int, seconds: float, requests: int) -> None:
    shown = summary.lowest(top)
    output.table(
        [
            Column("Run"),
            Column("Passed", right=True),
            Column("Rows", right=True),
            RATE,
            BAR,
            Column("Tokens", right=True),
        ],
        [
            (run.name or run.id, counts.passed, counts.total, run.pass_rate, run.pass_rate, run.total_tokens)
            for run in shown
            if (counts := run.result_counts) is not None
        ],
        title=f"Lowest pass rates ({len(shown)} of {plural(len(summary.rated), 'run')} with results)",
    )
    output.say()
    output.table(
        [Column("Eval"), Column("Grader"), Column("Passed", right=True), Column("Failed", right=True), RATE, BAR],
        [
            (names.get(eval_id, eval_id), grader, found.passed, found.failed, found.pass_rate, found.pass_rate)
            for (eval_id, grader), found in sorted(summary.graders.items(), key=lambda entry: entry[0])
        ],
        title="Graders",
    )
    output.say()
    output.table(
        [Column("Model"), *(Column(title, right=True) for title in ("Calls", "Prompt", "Completion", "Tokens"))],
        [
            (model, used.calls, used.prompt, used.completion, used.total)
            for model, used in sorted(summary.models.items())
        ],
        title="Tokens",
    )
    output.say()
    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.statuses.most_common())
    output.record(
        [
            (Column("Runs"), summary.runs),
            (Column("By status"), statuses),
            (Column("Rows"), summary.rows),
            (RATE, summary.pass_rate),
            (Column("Tokens"), summary.tokens),
            (Column("Seconds"), round(seconds, 3)),
            (Column("Requests per second"), round(requests / seconds) if seconds else None),
        ],
        title="All runs",
    )

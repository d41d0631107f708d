"""`evals-async demo`: hundreds of runs fetched at once, and what they say. Needs no key and no network."""

from __future__ import annotations

import click

import evals_async
from evals_async.cli import failed, hints, output
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.hints import Hint
from evals_async.cli.service import connect, run, talking
from evals_async.cli.summary import RunsSummary
from evals_async.cli.text import Column, bar, percent, plural


FAILURES_TOLD = 3
RATE = Column("Pass rate", show=percent, right=True)
BAR = Column("", show=bar, keep=True, where="terminal")


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async demo",
        "evals-async demo --runs 1000 --top 5",
        "evals-async demo --run",
        "OPENAI_API_KEY=sk-... evals-async demo --live",
    ),
)
@click.option(
    "--runs", "wanted", type=click.IntRange(1, 100_000), default=300, show_default=True, help="Runs to fetch."
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Runs to show.")
@click.option("--live", is_flag=True, help="Fetch from the service that the environment names instead. Reads only.")
@click.option("--run", "carried_out", is_flag=True, help="Create, run and grade an eval instead, on scripted models.")
@global_options
@pass_terms
def demo(terms: ConnectionOptions, wanted: int, top: int, live: bool, carried_out: bool) -> int:
    """Fetch some hundred runs concurrently, and show pass rates, graders and tokens.

    A local server with a sample is started in memory for it: no key, no network, and the same numbers every time,
    apart from the seconds. With --live, the runs are those of your service. With --run, an eval with three criteria
    is created, run and graded before your eyes, by an endpoint that answers by rules; its report can be read until
    Ctrl-C.
    """
    if carried_out:
        from evals_async.cli.demo_run import run_eval

        if live:
            raise click.UsageError("--run and --live exclude each other.")
        code = run(terms, run_eval(terms))
        hints.say(Hint.SERVE_MODELS)
        return code
    code = run(terms, from_service(terms, wanted, top) if live else from_sample(terms, wanted, top))
    if live:
        hints.say(Hint.LIST_EVALS, terms)
    else:
        hints.say(Hint.SERVE_SAMPLE)
        hints.say(Hint.DEMO_LIVE)
    return code


async def from_sample(terms: ConnectionOptions, wanted: int, top: int) -> int:
    from evals_async.server import LocalServer, sample_tree

    async with LocalServer(remembered=0) as server:
        await server.seed(**sample_tree(wanted))
        output.note(f"a local server with a sample of {plural(wanted, 'run')}: {server.base_url}")
        async with connect(terms, base_url=server.base_url, api_key="local") as client:
            return await fetch_and_show(client, terms, wanted, top)


async def from_service(terms: ConnectionOptions, wanted: int, top: int) -> int:
    async with talking(terms) as client:
        output.note(f"reading from {client.base_url}")
        return await fetch_and_show(client, terms, wanted, top)


async def fetch_and_show(client: evals_async.EvalsClient, terms: ConnectionOptions, wanted: int, top: int) -> int:
    """Find runs, fetch each of them by its id, show the sums; returns the exit code."""
    names = {entry.id: entry.name or entry.id async for entry in client.evals.list()}
    keys = await find_runs(client, list(names), wanted, terms.concurrency)
    summary, failures = RunsSummary(), list[Exception]()
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
    return failed(*failures, terms=terms, most=FAILURES_TOLD)


async def find_runs(
    client: evals_async.EvalsClient, eval_ids: list[str], wanted: int, concurrency: int
) -> list[evals_async.RunKey]:
    """The ids of the first `wanted` runs that the listings of the evals bring."""
    keys: list[evals_async.RunKey] = []
    with output.progress("listing runs", transient=True) as update:
        async with client.evals.runs.list_many(eval_ids, concurrency=concurrency) as outcomes:
            async for outcome in outcomes:
                keys.append((outcome.key, outcome.unwrap().id))
                update(len(keys))
                if len(keys) == wanted:
                    break
    return keys


def show(summary: RunsSummary, names: dict[str, str], top: int, seconds: float, requests: int) -> None:
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

"""`evals-async demo`."""

from __future__ import annotations

import click

from evals_async.cli import hints
from evals_async.cli.actions.demo import from_sample, from_service
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.hints import Hint


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
@click.option("--live", is_flag=True, help="Fetch from the service of the environment instead; only reads.")
@click.option("--run", "execute", is_flag=True, help="Create, run and grade an eval instead, on scripted models.")
@global_options
@pass_terms
def demo(terms: ConnectionOptions, wanted: int, top: int, live: bool, execute: bool) -> int:
    """Fetch some hundred runs concurrently, and print pass rates, graders and tokens.

    The runs come from a local server in memory with a sample: no key, no network. The numbers are the same every time,
    except the seconds. With --live, the runs come from your service. With --run, the demo creates, runs and grades an
    eval with three criteria. Its models are scripted: they respond by rules. You can read the report until you press
    Ctrl-C.
    """
    if execute:
        from evals_async.cli.actions.demo_run import run_eval

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

"""`evals-async verify`."""

from __future__ import annotations

from pathlib import Path

import click

from evals_async.cli import KeyMissing, failed, hints
from evals_async.cli.commands.archive_options import EXISTING, FILE, demo_option, first_answer_option
from evals_async.cli.connection import run
from evals_async.cli.groups import Command, ConnectionOptions, examples, global_options, pass_terms
from evals_async.cli.hints import Hint


COMPARED_RUNS = 20


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async verify evals.db",
        "evals-async verify evals.db --all",
        "evals-async verify evals.db --offline --manifest proof.json",
        "evals-async verify demo.db --demo",
    ),
)
@click.argument("file", metavar="FILE.db", type=EXISTING)
@click.option("--offline", is_flag=True, help="Do not compare with a server.")
@click.option("--all", "everything", is_flag=True, help="Compare the items of all runs, and all file contents.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=COMPARED_RUNS,
    show_default=True,
    help="How many random runs to compare.",
)
@click.option("--manifest", type=FILE, metavar="PATH", help="Where to write the manifest. Default: FILE.manifest.json.")
@first_answer_option
@demo_option
@global_options
@pass_terms
def verify(
    terms: ConnectionOptions,
    file: Path,
    offline: bool,
    everything: bool,
    sample: int,
    manifest: Path | None,
    first_answer: float,
    demo: bool,
) -> int:
    """Prove that an archive is complete, by itself and against the server.

    Every object is hashed. Every run must have as many items as it counts, and all files that it refers to. Against the
    server, the command compares all evals, runs and files, and the items of a sample of runs. It writes a manifest of
    counts and hashes. Exit codes: 0 complete, 3 incomplete (what is missing is printed), 75 the server does not
    respond: try again later.
    """
    from evals_async.cli.actions.verify import verify_file

    chosen = None if everything else sample
    try:
        flags = {"offline": offline, "demo": demo}
        return run(
            terms, verify_file(terms, file, sample=chosen, manifest=manifest, first_answer=first_answer, **flags)
        )
    except KeyMissing as error:
        code = failed(error)
        hints.say(Hint.VERIFY_WITHOUT_KEY, file=str(file))
        hints.say(Hint.VERIFY_DEMO_INSTEAD, file=str(file))
        return code

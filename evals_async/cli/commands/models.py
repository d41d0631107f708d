"""`evals-async models`: print what the models of a model map support."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evals_async.cli import hints, output
from evals_async.cli.commands.archive_options import MODEL_MAP
from evals_async.cli.connection import run
from evals_async.cli.groups import (
    Command,
    ConnectionOptions,
    NotThere,
    examples,
    local_options,
    pass_terms,
    timeout_option,
)
from evals_async.cli.hints import Hint
from evals_async.cli.names import ENDPOINT, replaced
from evals_async.cli.text import Column
from evals_async.errors import InvalidArgument


if TYPE_CHECKING:
    from evals_async.inference import Ability


@click.command(
    cls=Command,
    epilog=examples(
        "evals-async models --models models.toml",
        "evals-async models --models models.toml gpt-4.1 --json",
        "evals-async models --model-endpoint http://127.0.0.1:11434/v1 llama3.2",
    ),
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--models",
    "file",
    type=MODEL_MAP,
    metavar="FILE.toml",
    help="The model map.",
)
@click.option("--model-endpoint", "url", metavar="URL", help="One endpoint for all names; key: EVALS_MODEL_API_KEY.")
@click.option("--json", "as_json", is_flag=True, help="Print exact JSON: one document.")
@timeout_option
@local_options
@pass_terms
def models(terms: ConnectionOptions, names: tuple[str, ...], file: Path | None, url: str | None, as_json: bool) -> int:
    """Check each model of a model map, and print what it supports.

    The command sends a few short requests to each model, which cost a few tokens: a completion, structured output for
    judges, /responses, embeddings, log probabilities. NAMEs select models.

    Exit code 1 means that at least one model does not respond.
    """
    if (file is None) == (url is None):
        raise click.UsageError("Use either --models FILE.toml or --model-endpoint URL.")
    found = run(terms, probed(file, url, names, terms.timeout))
    if as_json:
        output.write_json([ability.to_json() for ability in found])
    else:
        output.table(COLUMNS, map(cells, found))
    for ability in found:
        if ability.error is not None:
            why = ability.error if file is not None else replaced(ability.error, ENDPOINT)
            output.error(f"{ability.entry}: {why}")
    if not all(ability.answers for ability in found):
        place = ["base_url", "in", str(file)] if file is not None else ["--model-endpoint"]
        hints.say(Hint.MODELS, place=place)
    return 0 if all(ability.answers for ability in found) else 1


async def probed(file: Path | None, url: str | None, names: tuple[str, ...], timeout: float) -> tuple[Ability, ...]:
    """Check the models, and close the map."""
    from evals_async.cli.actions.execution import model_map
    from evals_async.inference import probe_models

    async with model_map(file, url) as found:
        try:
            return await probe_models(found, names, timeout=timeout)
        except InvalidArgument as error:
            raise NotThere(str(error)) from None


YES_NO = {True: "yes", False: "no"}

COLUMNS = (
    Column("Entry", keep=True),
    Column("Answers"),
    Column("Model", keep=True),
    Column("Structured output"),
    Column("Responses"),
    Column("Embeddings"),
    Column("Logprobs"),
    Column("Seconds", right=True),
    Column("Base URL", where="file"),
)


def cells(ability: Ability) -> tuple[object, ...]:
    """Return a row of the table."""
    return (
        ability.entry,
        YES_NO[ability.answers],
        ability.model,
        ability.structured_output,
        YES_NO[ability.responses],
        YES_NO[ability.embeddings],
        YES_NO[ability.logprobs],
        ability.seconds,
        ability.base_url,
    )

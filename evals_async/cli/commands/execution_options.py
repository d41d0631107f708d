"""The options of `serve` for the execution of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from evals_async.cli.commands.archive_options import MODEL_MAP


F = TypeVar("F", bound=Callable[..., Any])
PythonMode = Literal["off", "sandbox", "trusted"]


def execution_options(command: F) -> F:
    """Add the options for `ExecutionOptions` to a command."""
    options = (
        click.option(
            "--models",
            "models_file",
            type=MODEL_MAP,
            metavar="FILE.toml",
            help="Execute runs with the models of this model map.",
        ),
        click.option(
            "--model-endpoint", metavar="URL", help="Execute runs with one endpoint; key: EVALS_MODEL_API_KEY."
        ),
        click.option(
            "--python-graders",
            type=click.Choice(["off", "sandbox", "trusted"]),
            default="off",
            show_default=True,
            help="Run python graders, in a sandbox (bubblewrap) or as plain child processes.",
        ),
        click.option("--max-calls", type=click.IntRange(min=1), help="The most model calls of a run."),
        click.option("--max-tokens", type=click.IntRange(min=1), help="The most tokens of a run."),
        click.option(
            "--rows-at-once",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            help="Rows in progress at the same time.",
        ),
        click.option(
            "--record", is_flag=True, help="Forward chat completions and responses to the models, and store them."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command

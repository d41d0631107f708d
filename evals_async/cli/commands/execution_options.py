"""The options of `serve` for the execution of runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click


if TYPE_CHECKING:
    pass


F = TypeVar("F", bound=Callable[..., Any])
PythonMode = Literal["off", "sandbox", "trusted"]


def execution_options(command: F) -> F:
    """The options that make an `ExecutionOptions`."""
    options = (
        click.option(
            "--models",
            "models_file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE.toml",
            help="Carry runs out: the model map says which endpoint answers for which name.",
        ),
        click.option(
            "--model-endpoint", metavar="URL", help="Carry runs out by one endpoint; key: EVALS_MODEL_API_KEY."
        ),
        click.option(
            "--python-graders",
            type=click.Choice(["off", "sandbox", "trusted"]),
            default="off",
            show_default=True,
            help="Run python graders, in a sandbox (bubblewrap) or as plain child processes.",
        ),
        click.option("--max-calls", type=click.IntRange(min=1), help="Calls of models that a run may make."),
        click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens after which a run is ended."),
        click.option(
            "--rows-at-once",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            help="Rows that are worked on at once.",
        ),
        click.option(
            "--record", is_flag=True, help="Pass chat completions and responses on to the models, and keep them."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command

"""`serve`: the options for the execution of runs (`ExecutionOptions`), and what `serve` prints about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import click

from evals_async.cli import output
from evals_async.cli.hints import filled
from evals_async.cli.names import ENDPOINT, replaced
from evals_async.cli.text import plural
from evals_async.errors import ConfigurationError


if TYPE_CHECKING:
    from evals_async.inference import Models


F = TypeVar("F", bound=Callable[..., Any])
PythonMode = Literal["off", "sandbox", "trusted"]

OFF = """\
no models: existing outputs are graded, and a row that needs a model is an error
  --models FILE.toml or --model-endpoint URL execute runs; {program} demo --run shows it without a model"""
PYTHON: dict[str, str] = {
    "off": "off (their results are errors; --python-graders sandbox executes them)",
    "sandbox": "in a sandbox, for code that you wrote or reviewed",
    "trusted": "as plain child processes, only for code that you trust like your own",
}


@attrs.frozen(kw_only=True)
class ExecutionOptions:
    """The options of `serve` for the execution of runs."""

    models_file: Path | None
    model_endpoint: str | None
    python_graders: PythonMode
    max_calls: int | None
    max_tokens: int | None
    rows_at_once: int
    record: bool

    def __attrs_post_init__(self) -> None:
        if self.models_file is not None and self.model_endpoint is not None:
            raise click.UsageError("Use either --models or --model-endpoint.")
        if self.record and not self.has_models:
            raise click.UsageError("--record forwards requests to models: add --models or --model-endpoint.")

    @property
    def has_models(self) -> bool:
        """Whether there are models."""
        return self.models_file is not None or self.model_endpoint is not None

    @property
    def executes(self) -> bool:
        """Whether the server executes runs."""
        return self.has_models or self.python_graders != "off"

    def models(self) -> Models | None:
        """Return the model map, or `None` without models. Raises `ConfigurationError`."""
        if not self.has_models:
            return None
        return model_map(self.models_file, self.model_endpoint)

    def server_options(self) -> dict[str, Any]:
        """Return the arguments of `LocalServer`, except `models`."""
        return {
            "python_graders": self.python_graders,
            "max_calls": self.max_calls,
            "max_tokens": self.max_tokens,
            "concurrency": self.rows_at_once,
            "run_concurrency": min(self.rows_at_once, 32),
            "record": self.record,
        }


def model_map(file: Path | None, url: str | None) -> Models:
    """Return the model map of --models or --model-endpoint. Raises `ConfigurationError`."""
    from evals_async.inference import Models

    if file is not None:
        return Models.from_file(file)
    try:
        return Models.from_endpoint(url or "")
    except ConfigurationError as error:
        raise ConfigurationError(replaced(str(error), ENDPOINT)) from None


def print_execution(choice: ExecutionOptions, models: Models | None, waiting: int) -> None:
    """Print how runs are executed. `waiting` is the number of unfinished runs of an earlier server."""
    if not choice.executes:
        output.note(filled(OFF))
        if waiting:
            output.note(f"{plural(waiting, 'unfinished run')} in this file: they need a server with models")
        return
    if models is None:
        output.note("models: none; a row that needs a model is an error")
    else:
        output.note(f"models: {', '.join(models.names())}")
    output.note(f"python graders: {PYTHON[choice.python_graders]}")
    bounds = [
        f"{number:,} {what}"
        for number, what in ((choice.max_calls, "model calls"), (choice.max_tokens, "tokens"))
        if number is not None
    ]
    output.note(f"limits of a run: {' and '.join(bounds) or 'none (--max-calls, --max-tokens)'}")
    if choice.record:
        output.note("recording: POST /chat/completions with store, and POST /responses")
    if waiting:
        output.note(f"continuing {plural(waiting, 'unfinished run')} of an earlier server")

"""Options that several commands for archives have."""

from __future__ import annotations

from pathlib import Path

import click

from evals_async.cli.constants import FIRST_ANSWER
from evals_async.cli.groups import ExistingFile
from evals_async.cli.hints import Hint


FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = ExistingFile("an archive", Hint.EXPORT_INTO)
MODEL_MAP = ExistingFile("a model map", Hint.MODEL_MAP)
first_answer_option = click.option(
    "--first-answer",
    type=click.FloatRange(min=0, min_open=True),
    default=FIRST_ANSWER,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the first response of the server.",
)
demo_option = click.option("--demo", is_flag=True, help="Use the sample of the demo: no key, no network.")
allow_option = click.option(
    "--allow-incomplete",
    is_flag=True,
    help="Continue although the archive is incomplete; the gaps are printed.",
)
strict_option = click.option("--strict", is_flag=True, help="Exit code 3 if anything is approximated or dropped.")

"""What to do next, as commands that can be copied: made here, and nowhere else.

A command is written as the program was invoked: `evals-async` where the shell finds this one by that name, and the path
or the interpreter that was used elsewhere, so that it works without an activated environment too.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from evals_async.cli.groups import ConnectionOptions

NAME = "evals-async"


def program() -> list[str]:
    """The words by which this program can be started again from where the person is."""
    started = Path(sys.argv[0])
    if started.stem == NAME:
        found = shutil.which(NAME)
        known = found is not None and same_file(Path(found), started)
        return [NAME] if known else [sys.argv[0]]
    if started.name == "__main__.py" and started.parent.name == "evals_async":
        return [sys.orig_argv[0], "-m", "evals_async"]
    return [NAME]  # called from another program


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file."""
    return a.exists() and b.exists() and a.samefile(b)


def command(*words: str, terms: ConnectionOptions | None = None) -> str:
    """A command, quoted so that it can be copied; with `terms`, for the server that they name."""
    return shlex.join([*program(), *words, *(server_words(terms) if terms is not None else ())])


def filled(text: str) -> str:
    """A hint with `{program}` in it, as the person would write it."""
    return text.replace("{program}", shlex.join(program()))


def server_words(terms: ConnectionOptions) -> list[str]:
    """The options that name the server."""
    url = [] if terms.base_url is None else ["--base-url", terms.base_url]
    flags = (("--azure", terms.azure), ("--allow-http", terms.allow_http))
    return url + [flag for flag, given in flags if given]

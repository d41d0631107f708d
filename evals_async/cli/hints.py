"""Hints: what to do next. All hints of the program are in one table.

A command in a hint starts the program as the user started it: `evals-async` if this is the program on the PATH,
otherwise its path or the interpreter. So users can copy it without an activated environment.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum, unique
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evals_async.cli import output
from evals_async.cli.constants import AN_HOUR


if TYPE_CHECKING:
    from evals_async.cli.groups import ConnectionOptions

NAME = "evals-async"
SECRETS = {"--api-key": "$EVALS_SERVER_API_KEY"}
"""Options whose value is never printed, and the variable that a hint contains instead."""


LARGE_BODY = 128 * 2**20


@unique
class Hint(StrEnum):
    """Every hint. `{again}` is the command of the user, `{server}` are the options of the connection.

    The user replaces words in capital letters. `tests/cli/test_every_hint.py` runs each hint.
    """

    # from one command to the next
    HELP = "{program}{command} --help"
    LIST_EVALS = "{program} evals list{server}"
    LIST_RUNS = "{program} runs list {eval_id}{server}"
    GET_RUN = "{program} runs get {run}{server}"
    LIST_ITEMS = "{program} items list {run}{server}"
    NAME_RUN = "{program} items list EVAL_ID/RUN_ID{server}"
    ADD_EVAL = "add its eval: {again} --eval EVAL_ID"
    GO_ON_LISTING = "to continue the listing: {again}"
    ALL_ROWS = "all rows that flipped: {again}"

    # the demo and the server
    SERVE_SAMPLE = "{program} serve --sample"
    DEMO_LIVE = "with a key: {program} demo --live"
    SERVE_MODELS = "with your own models, in a new file: {program} serve runs.db --model-endpoint URL"
    NEW_FILE = "create a new, empty file: {again} --new"
    FREE_PORT = "use any free port: {again}"
    MODEL_MAP = (
        "write the model map to {file}, or try one endpoint without a map: {program} models --model-endpoint URL"
    )
    MODELS = "check{place}, its key, and that the endpoint is running; a base URL usually ends in /v1"

    # archives
    EXPORT = "{program} export{export}{server}"
    EXPORT_WHEN_SOLVED = "when that is solved: {program} export{export}{server}"
    EXPORT_INTO = "to create an archive: {program} export --to {file}"
    NO_ARCHIVE = "use an archive; to create one: {program} export --to FILE.db"
    OLD_ARCHIVE = "open it once for writing; this needs no server: {program} regrade FILE.db --estimate"
    VERIFY = "{program} verify {file}{server}"
    VERIFY_ALL = "to compare the items of all runs: {again} --all"
    VERIFY_DEMO = "{program} verify {file} --demo"
    VERIFY_DEMO_INSTEAD = "for an archive of the demo: {program} verify {file} --demo"
    VERIFY_WITHOUT_KEY = "to check the archive without a key: {program} verify {file} --offline"
    VERIFY_WITHOUT_SERVER = "without the server: {program} verify {file} --offline"
    SHOW = "{program} show {file}"
    SERVE = "{program} serve {file}"
    ALLOW_INCOMPLETE = "{again} --allow-incomplete"
    OTHER_DIRECTORY = "choose another directory: {again} --out DIRECTORY"
    FREE_SPACE = "free disk space, then: {again}"
    DIRECTORY = "the directory must exist, and you need permission to read and write in it"
    BEING_WRITTEN = "wait until the other export has ended"
    OTHER_PATH = "choose another path, or change the permissions of this one"

    # errors of requests
    KEY = (
        "set OPENAI_API_KEY, or AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY; to try it without a key: {program} demo"
    )
    WRONG_KEY = "check the key in the environment, and that it belongs to this base URL"
    READING = "use a key that may read evals in this project (OPENAI_PROJECT_ID)"
    WRITING = "use a key that may write evals in this project (OPENAI_PROJECT_ID)"
    READ_ONLY = "that server is read-only; for a writable one: {program} serve FILE.db --writable"
    QUOTA = "waiting does not help: check the quota of the organization"
    LATER = "try again later, with fewer requests at the same time: {again}"
    MORE_RETRIES = "try again later, with more attempts: {again}"
    MORE_TIME = "allow more time: {again}"
    LONGER_WAIT = "wait longer: {again}"
    LARGER_BODY = "accept more: {again}"
    PLAIN_HTTP = "check --base-url and OPENAI_BASE_URL: use http:// for a server without TLS"
    CERTIFICATE = "check the certificate of the server and the time of this machine"
    NO_SERVER = "check --base-url and OPENAI_BASE_URL; to start a local server: {program} serve --sample"
    WRONG_ADDRESS = "check --base-url and OPENAI_BASE_URL: there is no Evals API; a base URL usually ends in /v1"
    NO_EVALS_API = "check that --base-url or OPENAI_BASE_URL is an Evals API; a base URL usually ends in /v1"
    REDIRECTED = "check --base-url and OPENAI_BASE_URL"
    UNEXPECTED = "repeat with --verbose to get a traceback; if the arguments are correct, this is a bug in evals-async"


class Advice(NamedTuple):
    """A hint with its values filled in."""

    hint: Hint
    text: str


def advice(hint: Hint, terms: ConnectionOptions | None = None, **values: str | Sequence[str]) -> Advice:
    """Fill the values into a hint, quoted for a shell. `again` is the command of `terms` by default.

    A value that is a sequence begins with a space if it is not empty.
    """
    filled = {"program": shlex.join(program()), "server": listed(server_words(terms) if terms is not None else ())}
    if "{again}" in hint:
        words = values.pop("again", terms.words if terms is not None else ())
        filled["again"] = filled["program"] + listed(without_secrets(words))
    filled |= {name: shlex.quote(value) if isinstance(value, str) else listed(value) for name, value in values.items()}
    return Advice(hint, hint.format_map(filled))


def tell(told: Advice) -> None:
    """Print a hint."""
    output.hint(told.text)


def say(hint: Hint, terms: ConnectionOptions | None = None, **values: str | Sequence[str]) -> None:
    """Print a hint with its values."""
    tell(advice(hint, terms, **values))


def listed(words: Sequence[str]) -> str:
    """Quote words for a shell, each after a space. Variables of `SECRETS` are not escaped."""
    return "".join(f' "{word}"' if word in SECRETS.values() else f" {shlex.quote(word)}" for word in words)


# --- words ------------------------------------------------------------------------------------------------------------


def program() -> list[str]:
    """Return the words that start this program again in the shell of the user."""
    started = Path(sys.argv[0])
    if started.stem == NAME:
        found = shutil.which(NAME)
        known = found is not None and same_file(Path(found), started)
        return [NAME] if known else [sys.argv[0]]
    if started.name == "__main__.py" and started.parent.name == "evals_async":
        return [sys.orig_argv[0], "-m", "evals_async"]
    return [NAME]  # another program has called `main`


def same_file(a: Path, b: Path) -> bool:
    """Return whether two paths are the same file."""
    return a.exists() and b.exists() and a.samefile(b)


def command(*words: str, terms: ConnectionOptions | None = None) -> str:
    """A command, quoted so that it can be copied; with `terms`, for the server that they name."""
    return shlex.join([*program(), *words, *(server_words(terms) if terms is not None else ())])


def filled(text: str) -> str:
    """Replace `{program}` in a text by the words that start the program."""
    return text.replace("{program}", shlex.join(program()))


def server_words(terms: ConnectionOptions) -> list[str]:
    """Return the connection options that differ from their defaults."""
    named = () if terms.base_url is None else (("--base-url", terms.base_url),)
    flags = (("--azure", terms.azure), ("--allow-http", terms.allow_http))
    defaults = type(terms)()
    numbers = (
        ("--timeout", terms.timeout, defaults.timeout),
        ("--max-retries", terms.max_retries, defaults.max_retries),
        ("--concurrency", terms.concurrency, defaults.concurrency),
        ("--max-body", terms.max_body, defaults.max_body),
    )
    words = [word for pair in named for word in pair] + [flag for flag, given in flags if given]
    for option, value, default in numbers:
        words += [] if value == default else [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def changed(words: Sequence[str], option: str, value: str) -> list[str]:
    """Return the words of a command with another value of an option. Words after `--` remain at the end."""
    kept = without(words, option)
    end = kept.index("--") if "--" in kept else len(kept)
    return [*kept[:end], option, value, *kept[end:]]


def without(words: Sequence[str], option: str) -> list[str]:
    """Return the words of a command without an option and its value."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        if word == option:
            next(rest, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def without_secrets(words: Sequence[str]) -> list[str]:
    """Return the words of a command with variables instead of secrets."""
    kept = list(words)
    for option, variable in SECRETS.items():
        if any(word == option or word.startswith(f"{option}=") for word in words):
            kept = changed(kept, option, variable)
    return kept


def more_of(hint: Hint, terms: ConnectionOptions | None) -> list[str]:
    """Return the words of the command with a larger limit: time, attempts, or size of a body."""
    if terms is None:
        return []
    words = list(terms.words)
    match hint:
        case Hint.MORE_TIME:
            return changed(words, "--timeout", f"{terms.timeout * 2:g}")
        case Hint.LONGER_WAIT:
            return changed(words, "--deadline", f"{float(value_of(words, '--deadline') or AN_HOUR) * 2:g}")
        case Hint.MORE_RETRIES:
            return changed(words, "--max-retries", str(max(5, terms.max_retries * 2)))
        case Hint.LATER:
            return changed(words, "--concurrency", str(max(1, terms.concurrency // 2)))
        case Hint.LARGER_BODY:
            return changed(words, "--max-body", str(max(LARGE_BODY, terms.max_body * 4)))
        case _:
            return words


def value_of(words: Sequence[str], option: str) -> str | None:
    """Return the last value of an option in the words of a command, or `None`."""
    found: str | None = None
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == "--":
            break
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found

"""Hints that are printed: collected while tests run, and read as a shell and the command line would read them."""

import shlex
from collections.abc import Iterator

import click
import pytest

from evals_async.cli import hints
from evals_async.cli.groups import Command, root


PLACEHOLDERS = {"EVAL_ID": "eval_a", "URL": "http://127.0.0.1:1/v1", "FILE.db": __file__, "OTHER.db": __file__}


def commands_in(hint: str) -> list[list[str]]:
    """The commands of a hint: all of it, or what stands after its last `: `. Without the program's name."""
    name = shlex.join(hints.program())
    _, found, words = hint.partition(f"{name} ")
    if not found:
        return []
    before = hint.partition(found)[0]
    assert before == "" or before.endswith((": ", "(")), f"no command can be copied from: {hint}"
    return [shlex.split(words)]


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a command as the command line does, without carrying it out. Raises `click.UsageError` if there is none."""
    filled = [PLACEHOLDERS.get(word, word.replace("EVAL_ID", "eval_a")) for word in words]

    def nothing(_: Command, __: click.Context) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(Command, "invoke", nothing)
        root.main(filled, prog_name="evals-async", standalone_mode=False)


@pytest.fixture(autouse=True)
def every_hint_is_a_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every hint that is printed while a test runs holds a command that the command line takes, if it holds one."""
    told: list[hints.Advice] = []
    print_it = hints.tell

    def tell(advice: hints.Advice) -> None:
        told.append(advice)
        print_it(advice)

    monkeypatch.setattr(hints, "tell", tell)
    yield
    for _, text in told:
        for words in commands_in(text):
            try:
                parse(words, monkeypatch)
            except click.UsageError as error:
                pytest.fail(f"the hint is no command: {text}: {error.format_message()}")

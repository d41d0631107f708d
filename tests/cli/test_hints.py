"""Hints are commands that work where the person is: as the program was invoked, for the server that was named."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Command
from hinting import commands_in

from evals_async.cli import HINTS, READ_ONLY, hints, main
from evals_async.cli.groups import ConnectionOptions
from evals_async.server import LocalServer, SampleTree


VARIABLES = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AZURE_"))}


@pytest.fixture
def unactivated(tmp_path: Path) -> Path:
    """A directory with a virtual environment in it, which is not activated: its program is in `.venv/bin`."""
    place = tmp_path / ".venv" / "bin"
    place.mkdir(parents=True)
    program = place / "evals-async"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom evals_async.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return tmp_path


def hint_of(*words: str, at: Path, path: str) -> str:
    """The hint that a program prints, started by a shell in that directory, with that PATH."""
    ran = subprocess.run(
        ["/bin/sh", "-c", shlex.join(words)],
        cwd=at,
        env=VARIABLES | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    [found] = [line.removeprefix("next: ") for line in ran.stderr.splitlines() if line.startswith("next: ")]
    return found


def test_without_an_activated_environment_the_hint_has_the_path(unactivated: Path) -> None:
    """`.venv/bin/evals-async ...` hints at `.venv/bin/evals-async ...`, which a shell finds; followed, it works."""
    hint = hint_of(
        ".venv/bin/evals-async", "export", "--to", "d.db", "--demo", "--dry-run", at=unactivated, path="/bin"
    )
    assert ".venv/bin/evals-async export --to d.db --demo" == hint
    followed = hint_of(*shlex.split(hint), at=unactivated, path="/bin")
    assert ".venv/bin/evals-async verify d.db --demo" == followed


def test_with_an_activated_environment_the_hint_has_the_name(unactivated: Path) -> None:
    """Where the shell finds this program by its name, the name is enough; another one of that name is not this one."""
    here = f"{unactivated / '.venv' / 'bin'}:/bin"
    assert "evals-async runs --help" == hint_of("evals-async", "runs", "frob", at=unactivated, path=here)
    other = unactivated / "other"
    other.mkdir()
    (other / "evals-async").write_text("#!/bin/sh\n")
    (other / "evals-async").chmod(0o755)
    hint = hint_of(".venv/bin/evals-async", "runs", "frob", at=unactivated, path=f"{other}:/bin")
    assert ".venv/bin/evals-async runs --help" == hint


def test_started_as_a_module_the_hint_is_that_module(tmp_path: Path) -> None:
    """`python -m evals_async` hints at the same interpreter."""
    hint = hint_of(sys.executable, "-m", "evals_async", "runs", "frob", at=tmp_path, path="/bin")
    assert f"{sys.executable} -m evals_async runs --help" == hint


async def test_hints_stay_with_the_server(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """From evals to runs to items each hint names the server of --base-url, and each can be followed to the end."""
    url = ["--base-url", server.base_url]
    words, seen = ["evals", "list", "--limit", "1"], list[list[str]]()
    while words:
        ended = await command(*words, *([] if seen else url))
        assert 0 == ended.code
        told = [line.removeprefix("next: ") for line in ended.err.splitlines() if line.startswith("next: ")]
        words = commands_in(told[0])[0] if told else []
        seen += [words] if words else []
    assert [("runs", "list"), ("runs", "get"), ("items", "list")] == [(found[0], found[1]) for found in seen]
    assert all(found[-2:] == url for found in seen)
    missing = await command("runs", "get", f"{tree['evals'][0]['id']}/evalrun_none", *url)
    assert f"next: evals-async runs list {tree['evals'][0]['id']} {shlex.join(url)}\n" in missing.err


def test_plain_http_is_refused_in_the_words_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    """A server at plain http elsewhere: the error names --allow-http, no argument of Python, and the option works."""
    words = ["evals", "list", "--base-url", "http://evals.invalid/v1"]
    assert 2 == main(words)
    told = capsys.readouterr().err
    assert "error: --base-url (or OPENAI_BASE_URL) is plain http to evals.invalid" in told
    assert "Use https, or give --allow-http\n" in told
    assert "allow_http" not in told
    assert 4 == main([*words, "--allow-http"])  # what is missing now is the key
    assert "error: no API key for http://evals.invalid/v1\n" in capsys.readouterr().err


def test_a_password_in_the_url_is_a_mistake_in_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    """It has the exit code of a usage error, not that of a missing key."""
    assert 2 == main(["evals", "list", "--base-url", "https://me:secret@evals.invalid/v1"])
    told = capsys.readouterr().err
    assert "put the key into OPENAI_API_KEY" in told
    assert "secret" not in told


def test_the_words_of_a_server() -> None:
    """A hint for a server has the options that name it, and no others."""
    terms = ConnectionOptions(base_url="http://evals/v1", azure=True, allow_http=True, timeout=5, verbose=True)
    assert "evals-async evals list --base-url http://evals/v1 --azure --allow-http" == hints.command(
        "evals", "list", terms=terms
    )


@pytest.mark.parametrize("hint", [*(hint for _, hint in HINTS), READ_ONLY])
def test_hints_at_errors_name_what_there_is(hint: str) -> None:
    """The commands and the options in the hints at errors are there."""
    from click import Context, Group, Option

    from evals_async.cli.groups import root

    def options(group: Group) -> set[str]:
        context = Context(group)
        inner = [group.get_command(context, name) for name in group.list_commands(context)]
        own = {
            name for each in [group, *inner] if each for p in each.params if isinstance(p, Option) for name in p.opts
        }
        return own.union(*(options(each) for each in inner if isinstance(each, Group)))

    text = hints.filled(hint)
    assert "{" not in text
    assert {word.strip(",;:") for word in text.split() if word.startswith("--")} <= options(root)

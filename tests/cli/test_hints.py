"""Hints are commands that work where the person is: as the program was invoked, for the server that was named."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Command
from hinting import commands_in

from evals_async.cli import hints, main
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.hints import Hint
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
    assert "Use https, or add --allow-http\n" in told
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
    assert "evals-async evals list --base-url http://evals/v1 --azure --allow-http --timeout 5" == hints.command(
        "evals", "list", terms=terms
    )


def test_what_was_chosen_stays_in_the_next_command() -> None:
    """Time, attempts, requests at once and the size of an answer are kept, where they are not the usual ones."""
    terms = ConnectionOptions(timeout=120, max_retries=0, concurrency=8, max_body=2**28)
    told = hints.advice(Hint.LIST_RUNS, terms, eval_id="eval a")
    assert (
        "evals-async runs list 'eval a' --timeout 120 --max-retries 0 --concurrency 8 --max-body 268435456" == told.text
    )


def test_no_key_is_printed_in_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """`serve --api-key KEY` on a port that is taken: the hint names the variable, in every spelling of the option."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for key in (["--api-key", "sk-secret"], ["--api-key=sk-secret"]):
            assert 1 == main(["serve", *key, "--port", port])
            told = capsys.readouterr().err
            assert "sk-secret" not in told
            assert 'evals-async serve --port 0 --api-key "$EVALS_SERVER_API_KEY"\n' in told

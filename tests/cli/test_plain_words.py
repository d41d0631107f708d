"""Errors speak of options and variables, once; and a command whose reader has gone ends like other programs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Command, ended, start

from evals_async.cli import main
from evals_async.server import LocalServer


PYTHON = ("endpoint=", "base_url", "api_key", "allow_http", "first_answer", "max_body", "eval_id", "run_id", "session=")
"""Arguments of Python, which mean nothing to somebody at a shell."""


@pytest.mark.parametrize(
    ("words", "variables", "code", "told"),
    [
        ("push FILE --azure", {}, 2, "no Azure endpoint: add --base-url URL, or set AZURE_OPENAI_ENDPOINT"),
        ("evals list --base-url foo", {}, 2, "--base-url (or OPENAI_BASE_URL) must start with https:// or http://"),
        ("evals list", {"OPENAI_BASE_URL": "foo"}, 2, "--base-url (or OPENAI_BASE_URL) must start with"),
        ("evals list --base-url http://a.example/v1", {}, 2, "Use https, or add --allow-http"),
        ("evals list --base-url https://me@a.example/v1", {}, 2, "put the key into OPENAI_API_KEY"),
        ("evals list --azure", {"AZURE_OPENAI_ENDPOINT": "foo"}, 2, "--base-url (or AZURE_OPENAI_ENDPOINT) must start"),
        ("evals list", {"OPENAI_ORG_ID": "a\tb"}, 2, "error: OPENAI_ORG_ID cannot be sent in a header"),
        ("evals list", {"OPENAI_PROJECT_ID": "a\tb"}, 2, "error: OPENAI_PROJECT_ID cannot be sent in a header"),
        (
            "evals list",
            {"OPENAI_API_KEY": "a b"},
            4,
            "error: the key (OPENAI_API_KEY or AZURE_OPENAI_API_KEY) contains",
        ),
        ("evals list --after=", {}, 2, "error: --after "),
        ("evals get", {}, 2, "EVAL_ID"),
        ("runs get a/..", {}, 2, "error: RUN_ID is"),
        ("evals get ..", {}, 2, "error: EVAL_ID is"),
        ("models --model-endpoint foo", {}, 2, "error: --model-endpoint must start with https:// or http://"),
        ("models --model-endpoint http://a.example/v1", {}, 2, "use --models with a map that sets allow_http = true"),
        ("serve --model-endpoint foo", {}, 2, "error: --model-endpoint must start with https:// or http://"),
        (
            "models --model-endpoint http://localhost:1/v1 m",
            {"EVALS_MODEL_API_KEY": "a b"},
            2,
            "in EVALS_MODEL_API_KEY",
        ),
    ],
)
def test_errors_speak_of_options(
    words: str,
    variables: dict[str, str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No error of the command line names an argument of Python; what it says can be typed."""
    (tmp_path / "a.db").touch()
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://a.invalid/v1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert code == main(words.replace("FILE", str(tmp_path / "a.db")).split(" "))
    said = capsys.readouterr().err
    assert told in said
    named = [word for word in PYTHON if word in said.replace("allow_http = true", "")]
    assert [] == named


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('base_url = "foo"', 'models."gpt": base_url must start with https:// or http://'),
        ('base_url = "http://a.example/v1"', "Use https, or set allow_http = true"),
        ('base_url = "http://me@localhost/v1"', "name the environment variable of the key as api_key_env"),
        ('base_url = "http://localhost/v1"\napi_key_env = "NO_SUCH_KEY"', 'models."gpt": the environment variable'),
        ('base_url = "http://localhost/v1"\nmodle = "x"', 'models."gpt" has no setting modle'),
    ],
)
@pytest.mark.parametrize("command", ["models --models FILE", "serve --models FILE --port 0"])
def test_an_error_in_a_model_map_names_file_and_entry(
    command: str, text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file, the entry and the setting are named, and not the variables of this package's own client."""
    file = tmp_path / "map.toml"
    file.write_text(f'[models."gpt"]\n{text}\n')
    assert 2 == main(command.replace("FILE", str(file)).split())
    said = capsys.readouterr().err
    assert f"error: {file}: models." in said
    assert told in said
    assert "OPENAI_BASE_URL" not in said


@pytest.mark.parametrize(
    "words",
    ["info", "show", "verify", "verify --offline", "push", "regrade", "convert --to csv --out o", "report --to x.html"],
)
def test_an_archive_that_is_not_there(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command for archives says that there is no file, what is needed, and how to get one; and ends with 2."""
    file = tmp_path / "none.db"
    command, *more = words.split()
    assert 2 == main([command, str(file), *more])
    said = capsys.readouterr().err
    assert f"error: There is no file {file}: an archive is needed.\n" in said
    assert f"next: to create an archive: evals-async export --to {file}\n" in said
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["info DIR", "models --models DIR", "regrade DIR", "show DIR"])
def test_a_directory_is_no_file(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory in place of a file is named as such."""
    assert 2 == main(words.replace("DIR", str(tmp_path)).split())
    assert f"error: {tmp_path} is a directory: a" in capsys.readouterr().err


def test_a_model_that_is_not_in_the_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is like a run that an archive does not have: 1, with the names that there are."""
    file = tmp_path / "map.toml"
    file.write_text('[models."gpt"]\nbase_url = "http://localhost:1/v1"\n')
    assert 1 == main(["models", "--models", str(file), "other"])
    assert "error: no endpoint is configured for the model 'other'; configured: gpt\n" in capsys.readouterr().err


def test_what_regrade_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge is left out with the option that runs it."""
    file = str(tmp_path / "d.db")
    assert 0 == main(["export", "--to", file, "--demo"])
    capsys.readouterr()
    assert 0 == main(["regrade", file])
    said = capsys.readouterr().err
    assert ": its judge runs only with --models\n" in said
    assert "RegradeOptions" not in said


async def test_a_failure_is_reported_once() -> None:
    """The error stands on stderr once: not also as a line of the log, unless the log was asked for."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        words = ("evals", "list", "--base-url", url, "--max-retries", "0")
        once = await ended(await start(*words, OPENAI_API_KEY="k", EVALS_LOG=""))
        logged = await ended(await start(*words, OPENAI_API_KEY="k", EVALS_LOG="info"))
        endpoint = await ended(await start("models", "--model-endpoint", url, "m", "--timeout", "1", EVALS_LOG=""))
    assert (1, 1, 0) == (once.code, once.err.count("ConnectFailed"), once.err.count("gives up"))
    assert (1, 1) == (logged.code, logged.err.count("gives up"))
    assert (1, 0) == (endpoint.code, endpoint.err.count("gives up"))


# --- the next command -------------------------------------------------------------------------------------------------


async def test_the_next_command_is_about_the_first_row(command: Command, server: LocalServer) -> None:
    """The hint after a listing names the first row of it, which stands at the top."""
    listed = await command("evals", "list", "--order", "desc")
    first = listed.out.splitlines()[1].split("\t")[0]
    assert f"next: evals-async runs list {first}\n" == listed.err
    runs = await command("runs", "list", first)
    assert f"next: evals-async runs get {first}/{runs.out.splitlines()[1].split(chr(9))[0]}\n" == runs.err


async def test_the_pointers_of_serve_work() -> None:
    """The two commands that `serve` prints need no other package: this client's own, and curl's."""
    process = await start("serve", "--sample", "--port", "0", "--api-key", "sk-mine")
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    process.terminate()
    told = (await ended(process)).err
    assert f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY=$EVALS_SERVER_API_KEY\n" in told
    assert "evals list\n" in told
    assert '  curl -H "Authorization: Bearer $OPENAI_API_KEY" $OPENAI_BASE_URL/evals\n' in told
    assert "import openai" not in told


async def test_a_part_is_not_called_complete(command: Command, tmp_path: Path) -> None:
    """An export of a part, and a check of a sample or without a server, say so beside the word `complete`."""
    part, whole = str(tmp_path / "part.db"), str(tmp_path / "whole.db")
    exported = await command("export", "--to", part, "--no-files")
    assert "\tyes, for what was selected\n" in exported.out
    assert "complete\tyes\n" in (await command("export", "--to", whole)).out
    for words, told in (
        ((part,), "complete, for what was selected"),
        ((part, "--offline"), "complete, for what was selected; not compared with a server"),
        ((part, "--sample", "3"), "complete, for what was selected; the items of 3 of 12 runs were compared"),
        ((whole, "--offline"), "complete; not compared with a server"),
        ((whole, "--sample", "3"), "complete; the items of 3 of 12 runs were compared with the server"),
        ((whole, "--all"), "complete"),
    ):
        verified = await command("verify", *words)
        last = [line for line in verified.err.splitlines() if line.startswith("complete")]
        assert (0, 1) == (verified.code, len(last))
        assert last[0].removesuffix(" with the server") == told.removesuffix(" with the server")


# --- pipes ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way there")
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
@pytest.mark.parametrize("words", ["--help", "--version", "demo --runs 3", "show FILE"])
def test_a_reader_that_has_gone(words: str, both: bool, tmp_path: Path) -> None:
    """`| head` ends a command with 141, as it ends other programs, and nothing is printed about it."""
    file = tmp_path / "d.db"
    if "FILE" in words:
        assert 0 == main(["export", "--to", str(file), "--demo"])
    reading, writing = os.pipe()
    os.close(reading)
    try:
        over = subprocess.run(
            [sys.executable, "-m", "evals_async", *words.replace("FILE", str(file)).split()],
            stdout=writing,
            stderr=writing if both else subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert 141 == over.returncode
    if not both:
        assert b"Traceback" not in over.stderr
        assert b"Exception ignored" not in over.stderr
        assert b"roken pipe" not in over.stderr

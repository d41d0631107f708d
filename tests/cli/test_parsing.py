"""The command line before anything is sent: help, options, and what is imported for them."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from evals_async._transport.transport import MAX_BODY
from evals_async.cli import main
from evals_async.cli.groups import COMMANDS, ConnectionOptions, global_options, pass_terms, root, size


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [path, *(entry for name, inner in found if inner for entry in every_command(inner, (*path, name)))]


PATHS = every_command(root)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_of_every_command_ends_with_examples(path: tuple[str, ...]) -> None:
    """Each command's help tells what it does, and ends with commands to copy; groups list their commands instead."""
    result = CliRunner().invoke(root, [*path, "--help"], prog_name="evals-async")
    assert 0 == result.exit_code
    assert "Usage: " + " ".join(("evals-async", *path)) in result.output
    if path not in {("evals",), ("runs",), ("items",)}:
        examples = result.output.partition("Examples:\n")[2].splitlines()
        assert examples
        assert all("evals-async" in line for line in examples)


HEAVY = (
    "aiohttp",
    "asyncio",
    "cattrs",
    "msgspec",
    "rich",
    "rich.progress",
    "tenacity",
    "evals_async.client",
    "evals_async.server",
)


@pytest.mark.parametrize("arguments", [("--help",), ("runs", "--help"), ("runs", "list", "--help"), ("demo", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """Help and completion answer at once: neither the network's libraries nor the client nor rich is imported."""
    program = f"""
import sys
from evals_async.cli import main
main({list(arguments)!r})
sys.stderr.write(" ".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "" == result.stderr
    assert "Usage: evals-async" in result.stdout


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra_is_told_in_one_sentence(missing: str) -> None:
    """Without the extra `cli`, the command says what to install, and nothing else."""
    program = f"import sys; sys.modules[{missing!r}] = None; from evals_async.cli import main; sys.exit(main(['demo']))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 1 == result.returncode
    told = "error: the command line needs the extra \"cli\"; install it with: pip install '.[cli]' in a clone"
    assert told in result.stderr
    assert "-py3-none-any.whl[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_table_of_commands_is_true() -> None:
    """Every command is found where the table says, under the name that it has there."""
    context = click.Context(root)
    found = {name: root.get_command(context, name) for name in COMMANDS}
    assert {name: name for name in COMMANDS} == {name: command.name for name, command in found.items() if command}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the distribution's version to stdout."""
    assert 0 == main(["--version"])
    assert capsys.readouterr().out.startswith("evals-async 0.")


@pytest.mark.parametrize(
    "line",
    [
        "--base-url http://127.0.0.1:1/v1 --azure --allow-http --timeout 5 --max-retries 0 --concurrency 7"
        " --max-body 64M -v probe",
        "probe --base-url http://127.0.0.1:1/v1 --azure --allow-http --timeout 5 --max-retries 0 --concurrency 7"
        " --max-body 64M -v",
        "--base-url wrong --azure --allow-http --timeout 5 probe --base-url http://127.0.0.1:1/v1 --max-retries 0"
        " --concurrency 7 --max-body 64M --verbose",
    ],
    ids=["before the command", "after it", "both: the later wins"],
)
def test_global_options_stand_before_or_after_the_command(line: str) -> None:
    """Where a global option stands does not matter."""
    seen: list[ConnectionOptions] = []

    @click.command()
    @global_options
    @pass_terms
    def probe(terms: ConnectionOptions) -> None:
        seen.append(terms)

    @click.group()
    @global_options
    def top() -> None: ...

    top.add_command(probe)
    result = CliRunner().invoke(top, line.split())
    assert (0, "") == (result.exit_code, result.output)
    expected = ConnectionOptions(
        base_url="http://127.0.0.1:1/v1",
        azure=True,
        allow_http=True,
        timeout=5.0,
        max_retries=0,
        concurrency=7,
        max_body=64 * 2**20,
        verbose=True,
    )
    assert [expected] == seen


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("100000", 100_000), ("64K", 2**16), ("32m", MAX_BODY), ("256MiB", 2**28), ("1GB", 2**30), ("9B", 9)],
)
def test_sizes(text: str, number: int) -> None:
    """Bytes, or units of 1024 as people write them."""
    assert number == size(text)


def test_the_largest_answer_is_the_clients_own_unless_told_otherwise() -> None:
    """The default of --max-body is that of the client."""
    assert MAX_BODY == ConnectionOptions().max_body


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Usage: evals-async"),
        (["frob"], "error: No such command 'frob'."),
        (["runs"], "Usage: evals-async runs"),
        (["runs", "list"], "error: Missing argument 'EVAL_ID'."),
        (["runs", "list", "eval_a", "--status", "done"], "error: Invalid value for '--status'"),
        (["runs", "list", "eval_a", "--limit", "0"], "error: Invalid value for '--limit'"),
        (["--concurrency", "0", "demo"], "error: Invalid value for '--concurrency'"),
        (["--max-body", "0M", "demo"], "error: Invalid value for '--max-body': '0M' is not a size such as 64M or 1G."),
        (["demo", "--max-body", "much"], "error: Invalid value for '--max-body'"),
        (["demo", "--max-body", "1.5G"], "error: Invalid value for '--max-body'"),
        (["runs", "get", "evalrun_b"], "next: add its eval: evals-async runs get evalrun_b --eval EVAL_ID"),
        (["runs", "get", "eval_a/evalrun_b", "--eval", "eval_c"], "error: eval_a/evalrun_b has the eval eval_a"),
        (["serve", "x.db", "--read-only", "--sample"], "error: --sample writes to the file"),
    ],
)
def test_usage_errors(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the command line is told on stderr with the way to help, and ends with exit code 2."""
    assert 2 == main(arguments)
    captured = capsys.readouterr()
    assert "" == captured.out
    assert told in captured.err
    assert "Traceback" not in captured.err

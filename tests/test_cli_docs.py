"""The guide to the command line is complete: every command has a section, and every option is in it."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from evals_async.archive.values import DISK_FULL, INCOMPLETE, TRY_AGAIN
from evals_async.cli import constants
from evals_async.cli.groups import ConnectionOption, ConnectionOptions, root


GUIDE = (Path(__file__).parent.parent / "docs" / "guides" / "command-line.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in GUIDE.split("\n## ")[1:]}


def leaves(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every command that does something, by its full name."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found |= leaves(command, f"{prefix}{name} ")
        elif command is not None:
            found[prefix + name] = command
    return found


COMMANDS = leaves(root)


def option_names(command: click.Command, *, connection: bool) -> set[str]:
    """The names of a command's own options, or of those of the connection; `--verbose` is in neither."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    found = {name for option in options if isinstance(option, ConnectionOption) is connection for name in option.opts}
    return found - {"--verbose", "-v"}


LOCAL = {"info", "show", "convert", "regrade", "serve", "models"}
"""Commands that never connect to the service."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_guide(name: str) -> None:
    """A command has a section of its name, which mentions each of its options and shows it at work."""
    section = SECTIONS[name]
    assert f"\nevals-async {name}" in section
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    assert set() == option_names(COMMANDS[name], connection=False) - mentioned
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_sections_mention_no_option_that_is_not_there(name: str) -> None:
    """What a section promises, its command has."""
    known = option_names(COMMANDS[name], connection=False) | option_names(COMMANDS[name], connection=True)
    assert set() == set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SECTIONS[name])) - known


def test_connection_options_are_in_the_guide() -> None:
    """Their section has all of them and says which commands have none; each is written down in `ConnectionOptions`."""
    section = SECTIONS["Connection options"]
    connection = option_names(root, connection=True) | option_names(root, connection=False)
    assert set() == connection - set(re.findall(r"(?<![\w-])--?[a-z-]+", section))
    fields = {f"--{name.replace('_', '-')}" for name in ConnectionOptions.__annotations__}
    assert {name for name in connection if name.startswith("--")} - fields == {"--version"}
    [sentence] = re.findall(r"[^.]*never connect to the service[^.]*\.", section)
    assert set(re.findall(r"`([a-z]+)`", sentence)) == LOCAL


@pytest.mark.parametrize("name", COMMANDS)
def test_connection_options_may_follow_commands_that_connect(name: str) -> None:
    """A command that connects takes all of them, and its help lists them apart; no other help has them."""
    connection = option_names(root, connection=True)
    shown = CliRunner().invoke(root, [*name.split(), "--help"]).output
    assert "--verbose" in shown
    if name in LOCAL:
        assert set() == option_names(COMMANDS[name], connection=True)
        assert "Connection options" not in shown
        return
    assert connection == option_names(COMMANDS[name], connection=True)
    listed = shown.partition("Connection options:\n")[2].partition("Examples:")[0]
    assert set() == connection - set(re.findall(r"(?<![\w-])--?[a-z-]+", listed))


@pytest.mark.parametrize("name", ["", "evals", "runs", "items", *COMMANDS])
def test_help_fits_into_80_columns(name: str) -> None:
    """No line of a help text is longer than a usual terminal is wide, examples included."""
    shown = CliRunner().invoke(root, [*name.split(), "--help"], prog_name="evals-async", terminal_width=80).output
    assert [] == [line for line in shown.splitlines() if len(line) > 80]
    options = shown.partition("Options:\n")[2].partition("Examples:")[0]
    assert [] == [line for line in options.splitlines() if line.startswith("  [")]  # arguments are in the usage


def test_exit_codes_are_in_the_guide() -> None:
    """The table of exit codes has those that the program ends with, and no others."""
    documented = re.findall(r"^\| (\d+) \|", SECTIONS["Exit codes"], re.MULTILINE)
    own = [constants.OK, constants.ERROR, constants.USAGE, constants.AUTH, constants.REGRESSED]
    own += [constants.INTERRUPTED, constants.PIPE_CLOSED]
    assert sorted([*own, INCOMPLETE, DISK_FULL, TRY_AGAIN]) == list(map(int, documented))

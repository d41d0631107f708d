"""The guide to the command line is complete: every command has a section, and every option is in it."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from evals_async.archive.values import DISK_FULL, INCOMPLETE, TRY_AGAIN
from evals_async.cli import constants
from evals_async.cli.groups import ConnectionOptions, GlobalOption, root


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


def option_names(command: click.Command, *, everywhere: bool) -> set[str]:
    """The names of a command's own options, or of those that every command has."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for option in options if isinstance(option, GlobalOption) is everywhere for name in option.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_guide(name: str) -> None:
    """A command has a section of its name, which mentions each of its options and shows it at work."""
    section = SECTIONS[name]
    assert f"\nevals-async {name}" in section
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    assert set() == option_names(COMMANDS[name], everywhere=False) - mentioned
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_sections_mention_no_option_that_is_not_there(name: str) -> None:
    """What a section promises, its command has."""
    known = option_names(COMMANDS[name], everywhere=False) | option_names(COMMANDS[name], everywhere=True)
    assert set() == set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SECTIONS[name])) - known


def test_global_options_are_in_the_guide() -> None:
    """The section on the options of every command has all of them, and each is written down in `ConnectionOptions`."""
    section = SECTIONS["Options of every command"]
    everywhere = option_names(root, everywhere=True) | option_names(root, everywhere=False)
    assert set() == everywhere - set(re.findall(r"(?<![\w-])--?[a-z-]+", section))
    fields = {f"--{name.replace('_', '-')}" for name in ConnectionOptions.__annotations__}
    assert {name for name in everywhere if name.startswith("--")} - fields == {"--version"}


@pytest.mark.parametrize("name", COMMANDS)
def test_global_options_may_follow_every_command(name: str) -> None:
    """Each command takes all global options, and its help lists them apart from its own."""
    everywhere = option_names(root, everywhere=True)
    assert everywhere == option_names(COMMANDS[name], everywhere=True)
    shown = CliRunner().invoke(root, [*name.split(), "--help"]).output
    listed = shown.partition("Options of every command:\n")[2].partition("Examples:")[0]
    assert set() == everywhere - set(re.findall(r"(?<![\w-])--?[a-z-]+", listed))


def test_exit_codes_are_in_the_guide() -> None:
    """The table of exit codes has those that the program ends with, and no others."""
    documented = re.findall(r"^\| (\d+) \|", SECTIONS["Exit codes"], re.MULTILINE)
    own = [constants.OK, constants.ERROR, constants.USAGE, constants.AUTH, constants.REGRESSED, constants.INTERRUPTED]
    assert sorted([*own, INCOMPLETE, DISK_FULL, TRY_AGAIN]) == list(map(int, documented))

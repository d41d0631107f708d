"""The list of commands, which are imported when they are used, and the options of every command.

To add a command, write a click command or group in a module of `commands`, and add it to `COMMANDS`. These modules do
not import the SDK (except `errors`) or rich at their top.
"""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from evals_async.cli import hints
from evals_async.cli.hints import Advice, Hint


C = TypeVar("C", bound=Callable[..., Any])

COMMANDS: Mapping[str, str] = {
    "demo": "commands.demo:demo",
    "evals": "commands.listings:evals",
    "runs": "commands.listings:runs",
    "items": "commands.listings:items",
    "compare": "commands.compare:compare",
    "report": "commands.report:report",
    "serve": "commands.serve:serve",
    "models": "commands.models:models",
    "export": "commands.export:export",
    "verify": "commands.verify:verify",
    "info": "commands.show:info",
    "show": "commands.show:show",
    "convert": "commands.convert:convert",
    "push": "commands.push:push",
    "regrade": "commands.regrade:regrade",
}
"""Every command, with its module in this package and its name there."""


@attrs.define
class ConnectionOptions:
    """The values of the connection options and of --verbose."""

    base_url: str | None = None
    azure: bool = False
    allow_http: bool = False
    timeout: float = 60.0
    max_retries: int = 2
    concurrency: int = 32
    max_body: int = 32 * 2**20
    verbose: bool = False
    words: tuple[str, ...] = ()
    """The arguments of this command, without the program."""
    listing: bool = False
    """Whether the command prints one listing, which `--after` can continue."""


class Misused(click.UsageError):
    """A mistake in the command line with its own hint, instead of the help of the command."""

    def __init__(self, message: str, advice: Advice) -> None:
        super().__init__(message)
        self.advice = advice


class NotThere(click.ClickException):
    """An archive or a model map does not have what was named; like a 404 of a server, with its own hint."""

    def __init__(self, message: str, advice: Advice | None = None) -> None:
        super().__init__(message)
        self.advice = advice


class ExistingFile(click.Path):
    """A file that must exist. `kind` says what it is, and `hint` how to get one; its `{file}` is the given path."""

    def __init__(self, kind: str, hint: Hint) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.kind = kind
        self.hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `Misused`."""
        path = Path(value)
        if not path.is_file():
            if path.is_dir():
                raise click.UsageError(f"{path} is a directory: {self.kind} is needed.")
            advice = hints.advice(self.hint, file=str(path))
            raise Misused(f"There is no file {path}: {self.kind} is needed.", advice)
        return path


pass_terms = click.make_pass_decorator(ConnectionOptions, ensure=True)


def keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Store the value of such an option, which may be before the command or after it."""
    terms = context.ensure_object(ConnectionOptions)
    name = parameter.name or ""
    if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        setattr(terms, name, value)


def size(text: str) -> int:
    """Parse a number of bytes: 100000, 64M, 64MiB or 1G. The units are powers of 1024."""
    written = re.fullmatch(r"([0-9]{1,15})([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    number = int(written[1]) * 1024 ** " KMG".index(written[2].upper() or " ") if written else 0
    if not number:
        raise click.BadParameter(f"{text!r} is not a size such as 64M or 1G.")
    return number


class ConnectionOption(click.Option):
    """An option of all commands that connect to the service."""


class Command(click.Command):
    """A command whose help lists its own options first, and then those of the connection."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        connection: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (connection if isinstance(parameter, ConnectionOption) else own).append(record)
        for title, records in (("Options", own), ("Connection options", connection)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class CommandGroup(click.Group):
    """A group of such commands, which has the options of every command itself."""

    command_class = Command


def global_options(command: C) -> C:
    """Add the options of a command that connects to the service. Users may write them before the command or after."""
    return connection_options(timeout_option(local_options(command), ConnectionOption))


def local_options(command: C) -> C:
    """Add the option that every command has. Commands that never connect to the service have no other one."""
    text = "Log every request to stderr."
    return click.option("--verbose", "-v", help=text, is_flag=True, expose_value=False, callback=keep)(command)


def timeout_option(command: C, cls: type[click.Option] = click.Option) -> C:
    """Add --timeout; by itself, to a command that connects to something else than the service."""
    kind = click.FloatRange(min=0, min_open=True)
    text = "Seconds for each call, with its retries. Default: 60."
    how: dict[str, Any] = {"expose_value": False, "callback": keep, "metavar": "SECONDS"}
    return click.option("--timeout", cls=cls, type=kind, help=text, **how)(command)


def connection_options(command: C) -> C:
    """Add the options of the connection to the service."""
    number = click.IntRange(min=0)
    options: tuple[tuple[tuple[str, ...], str, dict[str, Any]], ...] = (
        (("--base-url",), "The base URL of the API. Default: OPENAI_BASE_URL, or OpenAI's.", {"metavar": "URL"}),
        (("--azure",), "Use AZURE_OPENAI_ENDPOINT (or --base-url) with AZURE_OPENAI_API_KEY.", {"is_flag": True}),
        (("--allow-http",), "Allow plain http to another machine; others can read the key.", {"is_flag": True}),
        (("--max-retries",), "How often a failed request is sent again. Default: 2.", {"type": number, "metavar": "N"}),
        (
            ("--concurrency",),
            "Requests at the same time, 1 to 256. Default: 32.",
            {"type": click.IntRange(1, 256), "metavar": "N"},
        ),
        (
            ("--max-body",),
            "The largest response to accept, such as 256M. Default: 32M.",
            {"type": size, "metavar": "SIZE"},
        ),
    )
    for names, text, how in reversed(options):
        option = click.option(*names, cls=ConnectionOption, help=text, expose_value=False, callback=keep, **how)
        command = option(command)
    return command


def json_options(command: C) -> C:
    """Add --json and --jsonl to a command, as the parameter `form`."""
    whole = click.option("--json", "form", flag_value="json", help="Print exact JSON: one document.")
    lines = click.option("--jsonl", "form", flag_value="jsonl", help="Print exact JSON, one object per line.")
    return whole(lines(command))


eval_option = click.option("--eval", "eval_id", metavar="EVAL_ID", help="The eval of runs that are written as RUN_ID.")


def examples(*lines: str) -> str:
    """Return the end of a help text: example commands, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class LazyGroup(click.Group):
    """A group that imports the commands of `COMMANDS` when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"evals_async.cli.{module}"), name)
        return command


HELP = """Read evals, runs and output items of the Evals API, and serve them locally.

Environment variables select the service: OPENAI_API_KEY and OPENAI_BASE_URL, or AZURE_OPENAI_API_KEY and
AZURE_OPENAI_ENDPOINT. The demo needs none of them.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 error, 2 usage, 3 not complete, 4 a missing or
wrong key, 5 found by compare --fail-on, 74 the disk is full, 75 no server for export or verify, 130 interrupted,
141 the reader of the output has gone.
"""


@click.group(
    cls=LazyGroup,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "evals-async demo",
        "evals-async evals list",
        "evals-async runs list eval_abc --status failed --json",
        "evals-async serve --sample",
    ),
)
@click.version_option(package_name="evals-async", prog_name="evals-async", message="%(prog)s %(version)s")
@global_options
def root() -> None:
    """Only takes the options before the command; `keep` has stored them."""

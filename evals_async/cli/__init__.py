"""The command line, `evals-async`: its exit codes, and how errors are told. Commands are listed in `groups`.

Nothing is imported here before `main` runs but the tree of errors, so that a missing extra is told in one sentence.
"""

import logging
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING
from urllib.parse import unquote

from evals_async import errors
from evals_async._extras import extra_missing
from evals_async.cli import hints, output


if TYPE_CHECKING:
    from evals_async.cli.groups import ConnectionOptions

OK, ERROR, USAGE, AUTH, INTERRUPTED = 0, 1, 2, 4, 130

KEY_HINT = (
    "set OPENAI_API_KEY, or AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY; without a key there is: {program} demo"
)

UNEXPECTED = (
    "repeat with --verbose to see where it happened; if the arguments are right, this is a fault of evals-async"
)


class KeyMissing(errors.ConfigurationError):
    """There is no key for the service, or none that can be sent."""


WRONG_ADDRESS = "check --base-url and OPENAI_BASE_URL: nothing of the Evals API is there; it mostly ends in /v1"
READ_ONLY = "that server takes no writes; one that does: {program} serve FILE.db --writable"
WRITING = "use a key that may write evals in this project (OPENAI_PROJECT_ID)"

HINTS: tuple[tuple[type[errors.EvalsError], str], ...] = (
    (KeyMissing, KEY_HINT),
    (errors.Unauthenticated, "check the key in the environment, and that it belongs to this base URL"),
    (errors.PermissionDenied, "use a key that may read evals in this project (OPENAI_PROJECT_ID)"),
    (errors.QuotaExceeded, "waiting does not help: see to the quota of the organization"),
    (errors.RateLimited, "try again later, or with a smaller --concurrency"),
    (errors.TlsError, "check the certificate of the server and the time of this machine"),
    (errors.ConnectFailed, "check --base-url and OPENAI_BASE_URL; a server of your own: {program} serve --sample"),
    (errors.DeadlineExceeded, "give it more time: --timeout SECONDS"),
    (errors.ServerError, "try again later, or with a larger --max-retries"),
    (errors.DecodeError, "check that --base-url or OPENAI_BASE_URL is that of an Evals API; it mostly ends in /v1"),
    (errors.BodyTooLarge, "accept more: --max-body SIZE"),
    (errors.UnexpectedRedirect, "check --base-url and OPENAI_BASE_URL"),
    (errors.WaitTimeout, "wait longer: --deadline SECONDS"),
)
"""What helps against an error: the first class that fits. `{program}` is this program, as it was invoked."""

NO_ARCHIVE = "name an archive; one is made by: {program} export --to FILE.db"
ARCHIVE_HINTS = (
    ("SQLITE_NOTADB", NO_ARCHIVE),
    ("database of another program", NO_ARCHIVE),
    ("of an older version", "open it for writing once, without a server: {program} regrade FILE.db --estimate"),
    ("SQLITE_CANTOPEN", "the directory must be there, with the right to read and write in it"),
    ("being written by another", "wait until the other one has ended"),
)
"""What helps against an archive that cannot be used: the first whose words stand in the error."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit code:

    0 ok, 1 error, 2 usage, 3 not complete, 4 no or a wrong key, 5 what `compare --fail-on` names, 74 the disk is full,
    75 the server does not answer, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names that the terminal's encoding lacks are escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        return flushed(run(arguments))
    except BrokenPipeError:  # the reader has gone
        forget_stdout()
        return ERROR
    except KeyboardInterrupt:
        return interrupted()
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("click", "rich"):
            return failed(error)
        output.error(extra_missing("the command line needs", "cli"))
        return ERROR


def flushed(code: int) -> int:
    """Write what is left in the buffer of stdout; returns the exit code of the command, or that of the failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, mostly; it may have been told already
        forget_stdout()
        return code or failed(error)
    return code


def forget_stdout() -> None:
    """See to it that what is still in the buffer of stdout does not raise again when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str] | None) -> int:
    import click

    from evals_async.cli.groups import ConnectionOptions, root

    given = sys.argv[1:] if arguments is None else arguments
    terms = ConnectionOptions(words=tuple(given))
    try:
        code: object = root.main(given, prog_name="evals-async", standalone_mode=False, obj=terms)
    except click.exceptions.NoArgsIsHelpError as error:
        output.note(error.format_message())
        return USAGE
    except click.UsageError as error:
        usage, command = ("", "") if error.ctx is None else (error.ctx.get_usage(), error.ctx.command_path)
        return misused(error.format_message(), usage, command.split()[1:])
    except click.ClickException as error:
        output.error(error.format_message())
        return ERROR
    except click.Abort:
        return interrupted()
    except errors.EvalsError as error:
        return failed(error, terms=terms)
    except (ImportError, BrokenPipeError):
        raise
    except Exception as error:
        if terms.verbose:
            logging.getLogger("evals_async").exception("this is how it came to it")
        return failed(error, terms=terms)
    return code if isinstance(code, int) else OK


def misused(message: str, usage: str, command: list[str]) -> int:
    """Tell a mistake in the command line; returns the exit code. The message may say after `next: ` what to do."""
    what, _, hint = message.partition("\nnext: ")
    output.error(what)
    output.note(usage)
    output.hint(hint or hints.command(*command, "--help"))
    return USAGE


def interrupted() -> int:
    output.note("interrupted")
    return INTERRUPTED


def failed(*failures: Exception, terms: "ConnectionOptions | None" = None, most: int | None = None) -> int:
    """Tell errors, at `most` so many, and what to do next on the server of these options.

    Returns the exit code, that of the worst of all.
    """
    told: dict[str, None] = {}
    for error in failures[:most]:
        output.error(described(error))
        if isinstance(error, errors.RequestError) and error.after:
            output.note(f"the listing goes on from there with: --after {error.after}")
        if hint := hint_for(error, terms):
            told[hint] = None
    if most is not None and len(failures) > most:
        output.note(f"{len(failures) - most:,} more could not be fetched")
    for hint in told:
        output.hint(hint)
    return max(map(exit_code, failures), default=OK)


def exit_code(error: Exception) -> int:
    """The exit code that says what kind of error it was."""
    if isinstance(error, errors.Unauthenticated | errors.PermissionDenied | KeyMissing):
        return AUTH
    if no_room(error):
        from evals_async.archive.values import DISK_FULL

        return DISK_FULL
    return USAGE if isinstance(error, errors.ConfigurationError | errors.InvalidArgument) else ERROR


def no_room(error: Exception) -> bool:
    """Is the disk full?"""
    if not isinstance(error, OSError | errors.ArchiveError):
        return False
    from evals_async.archive import disk_is_full  # it brings the whole SDK, which is there when files are written

    return disk_is_full(error)


def described(error: Exception) -> str:
    """What an error says; of what the system refused, which file it is about."""
    if no_room(error):
        return f"the disk is full: {error}"
    if isinstance(error, errors.EvalsError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def hint_for(error: Exception, terms: "ConnectionOptions | None" = None) -> str | None:
    """What to do about an error; the ids of the request are filled in."""
    if no_room(error):
        return "make room on the disk, then give the same command again"
    if isinstance(error, errors.ArchiveError):
        return next((hints.filled(hint) for words, hint in ARCHIVE_HINTS if words in str(error)), None)
    if isinstance(error, OSError) and error.filename is not None:
        return "choose another path, or see to the rights of this one"
    if isinstance(error, errors.PermissionDenied) and error.method != "GET":
        return hints.filled(READ_ONLY if error.code == "read_only" else WRITING)
    if isinstance(error, errors.NotFound):
        if error.path in ("/evals", "/files"):  # a listing that every server of the API has
            return WRONG_ADDRESS
        _, _, below = error.path.partition("/evals/")
        eval_id, _, rest = below.partition("/")
        found = ("runs", "list", unquote(eval_id)) if rest.startswith("runs/") else ("evals", "list")
        return hints.command(*found, terms=terms)
    if not isinstance(error, errors.EvalsError):
        return UNEXPECTED
    return next((hints.filled(hint) for kind, hint in HINTS if isinstance(error, kind)), None)

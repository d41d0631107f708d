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
from evals_async.cli.constants import AUTH, ERROR, INTERRUPTED, OK, USAGE
from evals_async.cli.hints import Advice, Hint


if TYPE_CHECKING:
    from evals_async.cli.groups import ConnectionOptions


class KeyMissing(errors.ConfigurationError):
    """There is no key for the service, or none that can be sent."""


HINTS: tuple[tuple[type[errors.EvalsError], Hint], ...] = (
    (KeyMissing, Hint.KEY),
    (errors.Unauthenticated, Hint.WRONG_KEY),
    (errors.PermissionDenied, Hint.READING),
    (errors.QuotaExceeded, Hint.QUOTA),
    (errors.RateLimited, Hint.LATER),
    (errors.TlsError, Hint.CERTIFICATE),
    (errors.ConnectFailed, Hint.NO_SERVER),
    (errors.DeadlineExceeded, Hint.MORE_TIME),
    (errors.ServerError, Hint.MORE_RETRIES),
    (errors.DecodeError, Hint.NO_EVALS_API),
    (errors.BodyTooLarge, Hint.LARGER_BODY),
    (errors.UnexpectedRedirect, Hint.REDIRECTED),
    (errors.WaitTimeout, Hint.LONGER_WAIT),
)
"""What helps against an error: the first class that fits."""

ARCHIVE_HINTS = (
    ("SQLITE_NOTADB", Hint.NO_ARCHIVE),
    ("database of another program", Hint.NO_ARCHIVE),
    ("of an older version", Hint.OLD_ARCHIVE),
    ("SQLITE_CANTOPEN", Hint.DIRECTORY),
    ("being written by another", Hint.BEING_WRITTEN),
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

    from evals_async.cli.groups import ConnectionOptions, Misused, root

    given = sys.argv[1:] if arguments is None else arguments
    terms = ConnectionOptions(words=tuple(given))
    try:
        code: object = root.main(given, prog_name="evals-async", standalone_mode=False, obj=terms)
    except click.exceptions.NoArgsIsHelpError as error:
        output.note(error.format_message())
        return USAGE
    except click.UsageError as error:
        usage, command = ("", "") if error.ctx is None else (error.ctx.get_usage(), error.ctx.command_path)
        told = error.advice if isinstance(error, Misused) else hints.advice(Hint.HELP, command=command.split()[1:])
        return misused(error.format_message(), usage, told)
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


def misused(message: str, usage: str, told: Advice) -> int:
    """Tell a mistake in the command line, and what to do; returns the exit code."""
    output.error(message)
    output.note(usage)
    hints.tell(told)
    return USAGE


def interrupted() -> int:
    output.note("interrupted")
    return INTERRUPTED


def failed(*failures: Exception, terms: "ConnectionOptions | None" = None, most: int | None = None) -> int:
    """Tell errors, at `most` so many, and what to do next on the server of these options.

    Returns the exit code, that of the worst of all.
    """
    told: dict[Advice, None] = {}
    for error in failures[:most]:
        output.error(described(error))
        if isinstance(error, errors.RequestError) and error.after and terms is not None and terms.listing:
            again = hints.changed(terms.words, "--after", error.after)
            told[hints.advice(Hint.GO_ON_LISTING, again=again)] = None
        if hint := advice_for(error, terms):
            told[hint] = None
    if most is not None and len(failures) > most:
        output.note(f"{len(failures) - most:,} more could not be fetched")
    for hint in told:
        hints.tell(hint)
    return max(map(exit_code, failures), default=OK)


def exit_code(error: Exception) -> int:
    """The exit code that says what kind of error it was."""
    if isinstance(error, errors.Unauthenticated | errors.PermissionDenied | KeyMissing):
        return AUTH
    if disk_full(error):
        from evals_async.archive.values import DISK_FULL

        return DISK_FULL
    return USAGE if isinstance(error, errors.ConfigurationError | errors.InvalidArgument) else ERROR


def disk_full(error: Exception) -> bool:
    """Is the disk full?"""
    if not isinstance(error, OSError | errors.ArchiveError):
        return False
    from evals_async.archive import disk_is_full  # it brings the whole SDK, which is there when files are written

    return disk_is_full(error)


def described(error: Exception) -> str:
    """What an error says; of what the system refused, which file it is about."""
    if disk_full(error):
        return f"the disk is full: {error}"
    if isinstance(error, errors.EvalsError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def advice_for(error: Exception, terms: "ConnectionOptions | None" = None) -> Advice | None:
    """What to do about an error; the ids of the request are filled in."""
    if disk_full(error):
        return hints.advice(Hint.FREE_SPACE, terms)
    if isinstance(error, errors.ArchiveError):
        found = next((hint for words, hint in ARCHIVE_HINTS if words in str(error)), None)
        return None if found is None else hints.advice(found)
    if isinstance(error, OSError) and error.filename is not None:
        return hints.advice(Hint.OTHER_PATH)
    if isinstance(error, errors.PermissionDenied) and error.method != "GET":
        return hints.advice(Hint.READ_ONLY if error.code == "read_only" else Hint.WRITING)
    if isinstance(error, errors.NotFound):
        if error.path in ("/evals", "/files"):  # a listing that every server of the API has
            return hints.advice(Hint.WRONG_ADDRESS)
        _, _, below = error.path.partition("/evals/")
        eval_id, _, rest = below.partition("/")
        if rest.startswith("runs/"):
            return hints.advice(Hint.LIST_RUNS, terms, eval_id=unquote(eval_id))
        return hints.advice(Hint.LIST_EVALS, terms)
    if not isinstance(error, errors.EvalsError):
        return hints.advice(Hint.UNEXPECTED)
    found = next((hint for kind, hint in HINTS if isinstance(error, kind)), None)
    return None if found is None else hints.advice(found, again=hints.more_of(found, terms))

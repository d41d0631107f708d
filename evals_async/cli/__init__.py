"""The command line, `evals-async`: it runs a command, prints errors and returns the exit code.

- `groups`: the list of commands, and the options of every command.
- `commands`: one module per command, with its options. `actions`: what the commands do.
- `connection`: from the options to a client. `hints`: what to do next.
- `output`, `text`, `views`: how objects are printed.

Before `main` runs, only the errors are imported, so that a missing extra gives a short message.
"""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO
from urllib.parse import unquote

from evals_async import errors
from evals_async._extras import extra_missing
from evals_async.cli import hints, output
from evals_async.cli.constants import AUTH, ERROR, INTERRUPTED, OK, PIPE_CLOSED, USAGE
from evals_async.cli.hints import Advice, Hint
from evals_async.cli.names import with_options


if TYPE_CHECKING:
    from evals_async.cli.groups import ConnectionOptions


class KeyMissing(errors.ConfigurationError):
    """The key of the service is missing, or cannot be sent."""


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
"""The hint for an error: that of the first matching class."""

ARCHIVE_HINTS = (
    ("SQLITE_NOTADB", Hint.NO_ARCHIVE),
    ("database of another program", Hint.NO_ARCHIVE),
    ("of an older version", Hint.OLD_ARCHIVE),
    ("SQLITE_CANTOPEN", Hint.DIRECTORY),
    ("being written by another", Hint.BEING_WRITTEN),
)
"""The hint for an archive that cannot be used: the first whose words are in the error message."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit code.

    - 0 ok, 1 error, 2 usage, 3 not complete, 4 a missing or wrong key
    - 5 `compare --fail-on` found what it was set to find
    - 74 the disk is full, 75 no server for `export` or `verify`, 130 interrupted, 141 the reader closed the pipe
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # escape characters that the encoding of the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        return flushed(run(arguments))
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return interrupted()
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("click", "rich"):
            return failed(error)
        output.error(extra_missing("the command line needs", "cli"))
        return ERROR


def flushed(code: int) -> int:
    """Write the buffer of stdout. Returns the exit code of the command, or that of the failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # usually a full disk, which may already have been reported
        discard_output(sys.stdout)
        return code or failed(error)
    return code


def discard_output(*streams: TextIO) -> None:
    """Discard the buffers of streams, by default of both, so that Python raises no error again when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams or (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def run(arguments: list[str] | None) -> int:
    import click

    from evals_async.cli.groups import ConnectionOptions, Misused, NotThere, root

    given = sys.argv[1:] if arguments is None else arguments
    terms = ConnectionOptions(words=tuple(given))
    try:
        with broken_pipes():
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
        if isinstance(error, NotThere) and error.advice is not None:
            hints.tell(error.advice)
        return ERROR
    except click.Abort:
        return interrupted()
    except errors.EvalsError as error:
        return failed(error, terms=terms)
    except (ImportError, BrokenPipeError):
        raise
    except Exception as error:
        if terms.verbose:
            logging.getLogger("evals_async").exception("unexpected error")
        return failed(error, terms=terms)
    return code if isinstance(code, int) else OK


@contextmanager
def broken_pipes() -> Generator[None]:
    """Raise `BrokenPipeError` where click ends the process because of one. It has then wrapped both streams."""
    streams = sys.stdout, sys.stderr
    try:
        yield
    except SystemExit:
        if sys.stdout is streams[0]:
            raise
        sys.stdout, sys.stderr = streams
        raise BrokenPipeError from None


def misused(message: str, usage: str, told: Advice) -> int:
    """Print a mistake in the command line, and what to do. Returns the exit code."""
    output.error(message)
    output.note(usage)
    hints.tell(told)
    return USAGE


def interrupted() -> int:
    output.note("interrupted")
    return INTERRUPTED


def failed(*failures: Exception, terms: "ConnectionOptions | None" = None, most: int | None = None) -> int:
    """Print errors, at most `most`, and what to do next. Returns the highest exit code."""
    found: dict[Advice, None] = {}
    for error in failures[:most]:
        output.error(described(error))
        if isinstance(error, errors.RequestError) and error.after and terms is not None and terms.listing:
            again = hints.changed(terms.words, "--after", error.after)
            found[hints.advice(Hint.GO_ON_LISTING, again=again)] = None
        if hint := advice_for(error, terms):
            found[hint] = None
    if most is not None and len(failures) > most:
        output.note(f"{len(failures) - most:,} more could not be fetched")
    for hint in found:
        hints.tell(hint)
    return max(map(exit_code, failures), default=OK)


def exit_code(error: Exception) -> int:
    """Return the exit code of an error."""
    if isinstance(error, errors.Unauthenticated | errors.PermissionDenied | KeyMissing):
        return AUTH
    if disk_full(error):
        from evals_async.archive.values import DISK_FULL

        return DISK_FULL
    return USAGE if isinstance(error, errors.ConfigurationError | errors.InvalidArgument) else ERROR


def disk_full(error: Exception) -> bool:
    """Return whether an error means that the disk is full."""
    if not isinstance(error, OSError | errors.ArchiveError):
        return False
    from evals_async.archive import (
        disk_is_full,  # imports the SDK, which a command that writes files has already loaded
    )

    return disk_is_full(error)


def described(error: Exception) -> str:
    """Return the text of an error; for an error of the system, with the file name."""
    if disk_full(error):
        return f"the disk is full: {error}"
    if isinstance(error, errors.EvalsError):
        return with_options(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def advice_for(error: Exception, terms: "ConnectionOptions | None" = None) -> Advice | None:
    """Return what to do about an error, with the ids of the request."""
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
        if error.path in ("/evals", "/files"):  # every server of the API has these listings
            return hints.advice(Hint.WRONG_ADDRESS)
        _, _, below = error.path.partition("/evals/")
        eval_id, _, rest = below.partition("/")
        if rest.startswith("runs/"):
            return hints.advice(Hint.LIST_RUNS, terms, eval_id=unquote(eval_id))
        return hints.advice(Hint.LIST_EVALS, terms)
    if isinstance(error, errors.TlsError) and error.no_tls:
        return hints.advice(Hint.PLAIN_HTTP)
    if not isinstance(error, errors.EvalsError):
        return hints.advice(Hint.UNEXPECTED)
    found = next((hint for kind, hint in HINTS if isinstance(error, kind)), None)
    return None if found is None else hints.advice(found, again=hints.more_of(found, terms))

"""The values of an export: what to copy (`Selection`), its progress (`ExportProgress`), its result (`ExportReport`)."""

import errno
import math
from collections.abc import Mapping

import attrs

from evals_async import _json
from evals_async._json import as_array, as_object
from evals_async._numbers import seconds, shown
from evals_async.errors import InvalidArgument


COMPLETE = 0
INCOMPLETE = 3
DISK_FULL = 74  # EX_IOERR of sysexits.h
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


# SQLite's names for a full disk. It reports a limit on the size of files as SQLITE_IOERR_WRITE.
DISK_FULL_NAMES = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE"})
# Windows has no EDQUOT.
DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


def disk_is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full, for the archive or a temporary file."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL_ERRNOS
    return getattr(error.__cause__, "sqlite_errorname", None) in DISK_FULL_NAMES


def eval_ids(value: object) -> tuple[str, ...]:
    """Validate the ids of evals."""
    ids = as_array(value)
    found = tuple(each for each in ids or () if isinstance(each, str) and each)
    if ids is None or len(found) != len(ids):  # a single text is no sequence of ids
        raise InvalidArgument(f"evals must be a tuple or a list of ids, such as ('eval_abc',), not {shown(value)}")
    return found


def whole_seconds(value: float | None) -> int | None:
    """Validate a time; a fraction of a second is cut."""
    if value is None:
        return None
    if not math.isfinite(found := seconds(value, "since")):
        raise InvalidArgument(f"since must be a number of seconds, not {shown(value)}")
    return int(found)


@attrs.frozen(kw_only=True)
class Selection:
    """What to copy; everything by default.

    `evals` are the ids of the evals to copy. `since` (seconds since the epoch) omits the output items and files of
    older runs; the runs themselves are always copied. With `evals` or `since`, only files that a selected run refers to
    are copied. `items=False` omits all output items, `files=False` all files. Raises `InvalidArgument` for ids that are
    not a sequence of texts, and for a `since` that is not a number of seconds.
    """

    evals: tuple[str, ...] = attrs.field(default=(), converter=eval_ids)
    since: int | None = attrs.field(default=None, converter=whole_seconds)
    items: bool = True
    files: bool = True

    @property
    def narrow(self) -> bool:
        return bool(self.evals) or self.since is not None

    def text(self) -> str:
        """Return the selection as JSON for the store; equal selections have equal texts."""
        fields = {"evals": sorted(self.evals), "since": self.since, "items": self.items, "files": self.files}
        return _json.canonical(fields).decode()

    @classmethod
    def of(cls, text: str) -> "Selection":
        """Parse the result of `text()`."""
        fields = as_object(_json.parse(text.encode())) or {}
        since = fields.get("since")
        return cls(
            evals=tuple(map(str, as_array(fields.get("evals")) or ())),
            since=since if isinstance(since, int) else None,
            items=bool(fields.get("items", True)),
            files=bool(fields.get("files", True)),
        )


EVERYTHING = Selection()


@attrs.frozen(kw_only=True)
class Waiting:
    """A pause because the server does not respond, or sent a delay.

    `since` is the time of the last success, `until` the latest end of the pause, both in seconds since the epoch.
    """

    why: str
    since: float
    until: float


@attrs.frozen(kw_only=True)
class ExportProgress:
    """The progress of an export, including earlier calls that it continues.

    `evals`, `runs`, `items` and `files` count stored objects. `expected_items` is the sum of the counts of the runs so
    far. `open` is the number of listings and files in progress. `items_now`, `bytes` and `elapsed` (seconds) are about
    this call only.
    """

    evals: int = 0
    runs: int = 0
    items: int = 0
    expected_items: int = 0
    files: int = 0
    open: int = 0
    items_now: int = 0
    bytes: int = 0
    elapsed: float = 0.0
    waiting: Waiting | None = None

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items_now / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until all expected items are stored, or `None` if it cannot be estimated yet."""
        left = max(0, self.expected_items - self.items)
        return left / self.rate if self.rate > 0 else None


@attrs.frozen(kw_only=True)
class Unfinished:
    """Something incomplete: what, its state (`open`, `short`, `failed`, `broken`, `damaged`), and why."""

    what: str
    state: str
    why: str


@attrs.frozen(kw_only=True)
class ExportReport:
    """The result of an export.

    - `counts`, `missing`: objects in the archive, and those no longer on the server, by kind.
    - `refused`: the ids of files that the server does not return, and its error messages.
    - `unfinished`: everything that is incomplete.
    - `stopped`: why the export stopped early, or `None`. Run it again to continue.
    - `resumed`: whether it continued an interrupted export that began at `began` (seconds since the epoch). Newer
      objects are copied by the next export.
    - `requests`, `bytes`, `elapsed`: requests, received bytes and seconds of this call.
    """

    number: int
    began: float
    resumed: bool
    counts: Mapping[str, int]
    missing: Mapping[str, int]
    refused: Mapping[str, str]
    unfinished: tuple[Unfinished, ...]
    stopped: str | None
    requests: int
    bytes: int
    elapsed: float

    @property
    def complete(self) -> bool:
        """Whether everything in the selection was copied."""
        return not self.unfinished and self.stopped is None

    @property
    def exit_code(self) -> int:
        """0 complete, 3 incomplete, 75 stopped: run it again."""
        return TRY_AGAIN if self.stopped is not None else INCOMPLETE if self.unfinished else COMPLETE

"""The plain values of an export: what to copy (`Selection`), how far it is (`ExportProgress`), what came of it
(`ExportReport`). Nothing here does anything.
"""

import errno
from collections.abc import Mapping

import attrs

from evals_async import _json
from evals_async._json import as_array, as_object


COMPLETE = 0
INCOMPLETE = 3
DISK_FULL = 74  # EX_IOERR of sysexits.h
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


# SQLite's names for it; the second is what a limit on the size of files looks like.
FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE"})
NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})  # Windows has no EDQUOT


def disk_is_full(error: BaseException) -> bool:
    """Whether an export ended because the disk takes no more, in the archive or in a temporary file."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return getattr(error.__cause__, "sqlite_errorname", None) in FULL


@attrs.frozen(kw_only=True)
class Selection:
    """What to copy; everything, unless told otherwise.

    `evals` are the ids of the only evals to copy. `since` (seconds since the epoch) leaves out the output items and
    files of runs that were created before it; the runs themselves are always copied. With either, files are copied only
    where a chosen run refers to them.
    """

    evals: tuple[str, ...] = ()
    since: int | None = None
    items: bool = True
    files: bool = True

    @property
    def narrow(self) -> bool:
        return bool(self.evals) or self.since is not None

    def text(self) -> str:
        """The selection as it is kept in the store: equal selections have equal texts."""
        fields = {"evals": sorted(self.evals), "since": self.since, "items": self.items, "files": self.files}
        return _json.canonical(fields).decode()

    @classmethod
    def of(cls, text: str) -> "Selection":
        """The selection that `text()` was made of."""
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
    """A pause because the server does not answer, or because it asked for one: why, since when nothing succeeded, and
    until when it is waited at most. Times are seconds since the epoch.
    """

    why: str
    since: float
    until: float


@attrs.frozen(kw_only=True)
class ExportProgress:
    """How far a pass is, all its sittings together: objects kept, and of the items how many the runs say there are.

    `bytes`, `items_now` and `elapsed` (seconds) are of this sitting alone. `open` listings and files are left to do, as
    far as is known by now.
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
        """Seconds until all items are there that are known of; `None` while that cannot be said."""
        left = max(0, self.expected_items - self.items)
        return left / self.rate if self.rate > 0 else None


@attrs.frozen(kw_only=True)
class Unfinished:
    """Something that is not there whole: what, in which state (`open`, `failed`, `broken`, `damaged`), and why."""

    what: str
    state: str
    why: str


@attrs.frozen(kw_only=True)
class ExportReport:
    """What came of an export.

    `unfinished` names what is not there whole; `refused` the files that the server does not give, and its words.
    `stopped` tells why the export ended early although it can go on: run it again. `resumed` tells that it went on with
    a pass that was interrupted, which began at `began` (seconds since the epoch): what is newer comes with the next
    export. `requests` were sent and `bytes` received in this sitting.
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
        """Is everything that was selected there?"""
        return not self.unfinished and self.stopped is None

    @property
    def exit_code(self) -> int:
        """0 complete, 75 stopped and can go on, 3 incomplete."""
        return TRY_AGAIN if self.stopped is not None else INCOMPLETE if self.unfinished else COMPLETE

"""What every conversion shares: its `ConversionReport`, an archive read by one thread, and the files it writes.

Conversions are plain functions that read and write files; they never change the archive.
"""

import hashlib
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Literal, Self, TypeAlias, TypeVar

import attrs

from evals_async import decode
from evals_async._store import Connection
from evals_async._store.database import StrPath, open_for_reading
from evals_async.errors import DecodeError
from evals_async.models import Eval, EvalRun, OutputItem


T = TypeVar("T")
Fate: TypeAlias = Literal["mapped", "approximated", "dropped"]

BATCH = 200


@attrs.frozen(order=True)
class Remark:
    """What became of one kind of thing, and why."""

    fate: Fate
    what: str
    why: str


@attrs.define
class ConversionReport:
    """What a conversion did with everything it met. `remarks` counts equal cases, `written` are the files it made, or
    would make if it is only tried.

    `mapped` has the same meaning there, `approximated` nearly the same, `dropped` is not there.
    """

    remarks: dict[Remark, int] = attrs.Factory(dict[Remark, int])
    written: list[Path] = attrs.Factory(list[Path])

    def add(self, fate: Fate, what: str, why: str = "") -> None:
        remark = Remark(fate, what, why)
        self.remarks[remark] = self.remarks.get(remark, 0) + 1

    @property
    def lossless(self) -> bool:
        """Is all of it there, with the same meaning?"""
        return all(remark.fate == "mapped" for remark in self.remarks)

    def counts(self) -> Mapping[str, int]:
        """How many things were mapped, approximated and dropped."""
        found = {"mapped": 0, "approximated": 0, "dropped": 0}
        for remark, number in self.remarks.items():
            found[remark.fate] += number
        return found


class ArchiveReader:
    """An archive's file, read by the calling thread. `with ArchiveReader(path) as source: ...`

    Raises `ArchiveError` for what is no archive.
    """

    def __init__(self, path: StrPath) -> None:
        self.connection: Connection = open_for_reading(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.connection.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Everything that is read inside is of one moment, whoever else writes to the file."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def texts(self, sql: str, *values: str) -> Iterator[str]:
        """The first column of what a query finds, in bounded memory."""
        with closing(self.connection.cursor()) as cursor:
            for row in cursor.execute(sql, values):
                yield row[0]

    def evals(self) -> Iterator[str]:
        """The texts of all evals, oldest first."""
        return self.texts("SELECT body FROM evals ORDER BY created_at, id")

    def runs(self, eval_id: str) -> Iterator[str]:
        """The texts of an eval's runs, oldest first."""
        return self.texts("SELECT body FROM runs WHERE eval_id = ? ORDER BY created_at, id", eval_id)

    def items(self, eval_id: str, run_id: str) -> Iterator[str]:
        """The texts of a run's output items, oldest first."""
        sql = "SELECT body FROM output_items WHERE eval_id = ? AND run_id = ? ORDER BY created_at, id"
        return self.texts(sql, eval_id, run_id)

    def content(self, file_id: str) -> bytes | None:
        """The content of a file, if it is here."""
        sql = "SELECT bytes FROM files JOIN file_contents USING (sha256) WHERE id = ?"
        row = self.connection.execute(sql, (file_id,)).fetchone()
        return None if row is None else row[0]

    # --- as models ----------------------------------------------------------------------------------------------------

    def eval_models(self, report: ConversionReport) -> Iterator[Eval]:
        return models(self.evals(), Eval, "an eval", report)

    def run_models(self, eval_id: str, report: ConversionReport) -> Iterator[EvalRun]:
        return models(self.runs(eval_id), EvalRun, "a run", report)

    def item_models(self, eval_id: str, run_id: str, report: ConversionReport) -> Iterator[OutputItem]:
        return models(self.items(eval_id, run_id), OutputItem, "an output item", report)


def models(texts: Iterator[str], shape: type[T], what: str, report: ConversionReport) -> Iterator[T]:
    """Objects of class `shape`; what the class cannot hold is reported as dropped."""
    for text in texts:
        try:
            yield decode(text.encode(), shape)
        except DecodeError as error:
            report.add("dropped", what, f"it has another shape: {error}"[:200])


# --- files ------------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,78}[a-z0-9_-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # names that Windows keeps for itself
KEPT = 40  # characters of an odd name that stay readable


def file_name(text: str) -> str:
    """A text as the name of a file: short, the same every time, and never that of another text.

    Small letters, digits, `-`, `_` and `.` stay. Of anything else, of capitals too (some file systems do not tell them
    apart), a readable part is kept, and `~` with a hash of the whole follows.
    """
    if PLAIN.fullmatch(text) and not RESERVED.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:KEPT]
    return f"{kept}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class Output:
    """The files of one conversion, in one directory. With `dry` they are counted, and not written."""

    def __init__(self, directory: StrPath, report: ConversionReport, *, dry: bool = False) -> None:
        self.directory = Path(directory)
        self.report = report
        self.dry = dry

    @contextmanager
    def file(self, *parts: str) -> Generator[IO[bytes]]:
        """A file to be written, in directories that are made. Each name is given once. Raises `OSError`."""
        target = self.place(*parts)
        with Path(os.devnull if self.dry else target).open("wb") as opened:
            yield opened

    def text(self, text: str, *parts: str) -> None:
        """Write a file as a whole, in UTF-8."""
        with self.file(*parts) as opened:
            opened.write(text.encode("utf-8", "backslashreplace"))

    def place(self, *parts: str) -> Path:
        """The path of a file that is written now; its directory is there. Raises `OSError`."""
        target = self.directory.joinpath(*parts)
        if target in self.report.written:
            raise FileExistsError(f"two things would be written to {target}")
        self.report.written.append(target)
        if not self.dry:
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def discard(self, *parts: str) -> None:
        """Remove a file that turned out to be of no use."""
        target = self.directory.joinpath(*parts)
        self.report.written.remove(target)
        if not self.dry:
            target.unlink()

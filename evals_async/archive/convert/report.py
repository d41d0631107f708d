"""The parts that all conversions use: the `ConversionReport`, the `ArchiveReader` and the `Output` files.

Conversions are plain functions that read and write files. They never change the archive.
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
ConversionResult: TypeAlias = Literal["mapped", "approximated", "dropped"]

BATCH = 200


@attrs.frozen(order=True)
class Remark:
    """The result for one kind of object or field, and the reason."""

    result: ConversionResult
    what: str
    why: str


@attrs.define
class ConversionReport:
    """The result of a conversion. `remarks` counts equal remarks; `written` are the files (with `dry`, planned files).

    `mapped` means the same meaning in the new format, `approximated` nearly the same, `dropped` not there.
    """

    remarks: dict[Remark, int] = attrs.Factory(dict[Remark, int])
    written: list[Path] = attrs.Factory(list[Path])

    def add(self, result: ConversionResult, what: str, why: str = "") -> None:
        remark = Remark(result, what, why)
        self.remarks[remark] = self.remarks.get(remark, 0) + 1

    @property
    def lossless(self) -> bool:
        """Whether everything is mapped."""
        return all(remark.result == "mapped" for remark in self.remarks)

    def counts(self) -> Mapping[str, int]:
        """Return how many objects and fields were mapped, approximated and dropped."""
        found = {"mapped": 0, "approximated": 0, "dropped": 0}
        for remark, number in self.remarks.items():
            found[remark.result] += number
        return found


class ArchiveReader:
    """Reads an archive in the thread of the caller. `with ArchiveReader(path) as source: ...`

    Raises `ArchiveError` if the file is not an archive.
    """

    def __init__(self, path: StrPath) -> None:
        self.connection: Connection = open_for_reading(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.connection.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Read one state of the file inside the `with` block, even if another process writes to it."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def texts(self, sql: str, *values: str) -> Iterator[str]:
        """Yield the first column of a query's rows, in bounded memory."""
        with closing(self.connection.cursor()) as cursor:
            for row in cursor.execute(sql, values):
                yield row[0]

    def evals(self) -> Iterator[str]:
        """Return the JSON texts of all evals, oldest first."""
        return self.texts("SELECT body FROM evals ORDER BY created_at, id")

    def runs(self, eval_id: str) -> Iterator[str]:
        """Return the JSON texts of an eval's runs, oldest first."""
        return self.texts("SELECT body FROM runs WHERE eval_id = ? ORDER BY created_at, id", eval_id)

    def items(self, eval_id: str, run_id: str) -> Iterator[str]:
        """Return the JSON texts of a run's output items, oldest first."""
        sql = "SELECT body FROM output_items WHERE eval_id = ? AND run_id = ? ORDER BY created_at, id"
        return self.texts(sql, eval_id, run_id)

    def content(self, file_id: str) -> bytes | None:
        """Return the content of a file, or `None` if the archive does not have it."""
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
    """Yield objects of class `shape`. Texts that cannot be decoded are reported as dropped."""
    for text in texts:
        try:
            yield decode(text.encode(), shape)
        except DecodeError as error:
            report.add("dropped", what, f"it cannot be decoded: {error}"[:200])


# --- files ------------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,78}[a-z0-9_-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # reserved names on Windows
KEPT = 40  # readable characters of a name with other characters


def file_name(text: str) -> str:
    """Return a short and unique file name for a text.

    A text of small letters, digits, `-`, `_` and `.` is its own name. Any other text becomes a readable part, `~` and a
    hash. This includes texts with capitals, because some file systems ignore case.
    """
    if PLAIN.fullmatch(text) and not RESERVED.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:KEPT]
    return f"{kept}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class Output:
    """The files of one conversion in one directory. With `dry` they are listed but not written."""

    def __init__(self, directory: StrPath, report: ConversionReport, *, dry: bool = False) -> None:
        self.directory = Path(directory)
        self.report = report
        self.dry = dry

    @contextmanager
    def file(self, *parts: str) -> Generator[IO[bytes]]:
        """Open a new file for writing; its directories are created. Raises `OSError`, also for a name used twice."""
        target = self.new_path(*parts)
        with Path(os.devnull if self.dry else target).open("wb") as opened:
            yield opened

    def text(self, text: str, *parts: str) -> None:
        """Write a text file in UTF-8."""
        with self.file(*parts) as opened:
            opened.write(text.encode("utf-8", "backslashreplace"))

    def new_path(self, *parts: str) -> Path:
        """Return the path of a new file, whose directories are created. Raises `OSError`."""
        target = self.directory.joinpath(*parts)
        if target in self.report.written:
            raise FileExistsError(f"the conversion would write {target} twice")
        self.report.written.append(target)
        if not self.dry:
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def discard(self, *parts: str) -> None:
        """Delete a file that is not needed."""
        target = self.directory.joinpath(*parts)
        self.report.written.remove(target)
        if not self.dry:
            target.unlink()

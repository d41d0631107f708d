"""What the command line prints, and how: tables, records, JSON, progress, notes and errors.

Data goes to stdout, everything else to stderr. Tables are drawn where a person looks (stdout is a terminal), and are
tab-separated with full values and a header line everywhere else. Servers choose names and messages: control characters
in them are never printed as they are. The only module that prints; it knows no command and no endpoint, and imports
rich only when something is drawn.
"""

import json
import logging
import re
import sys
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

import attrs

from evals_async import jsontext
from evals_async.jsontext import JSONValue


NO_STYLES: Mapping[str, str] = {}
STATUS_STYLES: Mapping[str, str] = {
    **dict.fromkeys(("completed", "pass"), "green"),
    **dict.fromkeys(("failed", "fail", "error"), "red"),
    **dict.fromkeys(("canceled", "cancelled"), "yellow"),
    **dict.fromkeys(("queued", "in_progress"), "cyan"),
}
SECONDS_PER_LINE = 5.0  # between two lines of progress where nothing can be drawn
UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
FULL, EMPTY = "━", "·"


# --- text -------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text on one line: control characters and lone surrogates, and what turns the writing around, escaped."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain(value: object) -> str:
    """A value in a tab-separated file: nothing for `None`, ISO 8601 in UTC for a time, whole numbers and texts."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case _:
            return printable(str(value))


def shown(value: object) -> str:
    """A value in a table on a terminal, unless its column knows better."""
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case _:
            return plain(value)


def percent(share: float | None) -> str:
    """A share from 0 to 1, as `87.5 %`."""
    return "-" if share is None else f"{share * 100:.1f} %"


def bar(share: float | None, width: int = 10) -> str:
    """A share from 0 to 1, as a bar."""
    filled = 0 if share is None else round(share * width)
    return FULL * filled + EMPTY * (width - filled)


def human_bytes(size: float) -> str:
    """A number of bytes, as `12.3 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """A duration, as `0.42 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def plural(number: int, thing: str) -> str:
    """`1 run`, `300 runs`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


# --- stderr -----------------------------------------------------------------------------------------------------------


def note(text: str = "") -> None:
    """A line for the person, on stderr."""
    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr, flush=True)


def hint(text: str) -> None:
    """What to do next, on stderr."""
    note(f"next: {text}")


def error(text: str) -> None:
    """What went wrong, on stderr."""
    note(f"error: {text}")


class NoteHandler(logging.Handler):
    """Log records as notes: wherever stderr is now, so that they stand above a bar that is being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))


def log_to_stderr() -> None:
    """Show everything that the package logs, DEBUG included. A second call does nothing."""
    logger = logging.getLogger("evals_async")
    if not any(isinstance(handler, NoteHandler) for handler in logger.handlers):
        handler = NoteHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


# --- tables -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Column:
    """One column: its title, how a terminal `show`s a value, and how much room it needs.

    What is not on the `right` and not to `keep` may be cut short on a terminal; ids are kept, people copy them. `styles`
    colours texts. `where` a column belongs: not everything fits on a terminal, and not everything is data.
    """

    title: str
    show: Callable[[Any], str] = attrs.field(default=shown, kw_only=True)
    right: bool = attrs.field(default=False, kw_only=True)
    keep: bool = attrs.field(default=False, kw_only=True)
    styles: Mapping[str, str] = attrs.field(default=NO_STYLES, kw_only=True)
    where: Literal["everywhere", "terminal", "file"] = attrs.field(default="everywhere", kw_only=True)

    @property
    def name(self) -> str:
        """The title as the name of a field."""
        return self.title.lower().replace(" ", "_")


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def line(cells: Iterable[object]) -> None:
    print("\t".join(plain(cell) for cell in cells))


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Rows under their columns, on stdout. The title is for terminals."""
    if on_terminal():
        draw(columns, rows, title)
        return
    kept = places(columns, "terminal")
    line(columns[place].name for place in kept)
    for row in rows:
        line(row[place] for place in kept)


async def stream_table(columns: Sequence[Column], rows: AsyncIterable[Sequence[object]], label: str) -> None:
    """Rows as they arrive, on stdout. A terminal sees them counted, and gets its table when all are there."""
    if on_terminal():
        gathered: list[Sequence[object]] = []
        with progress(label, transient=True) as update:
            async for row in rows:
                gathered.append(row)
                update(len(gathered))
        draw(columns, gathered, None)
        return
    kept = places(columns, "terminal")
    line(columns[place].name for place in kept)
    async for row in rows:
        line(row[place] for place in kept)


def places(columns: Sequence[Column], but: str) -> list[int]:
    """Which columns are shown: those that do not belong elsewhere."""
    return [place for place, column in enumerate(columns) if column.where != but]


def draw(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str | None) -> None:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    kept = places(columns, "file")
    texts = [[columns[place].show(row[place]) for place in kept] for row in rows]
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for number, place in enumerate(kept):
        column = columns[place]
        widest = max(map(cell_len, (column.title, *(row[number] for row in texts))))
        made.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=widest if column.right or column.keep else min(8, widest),
        )
    for row in texts:
        styled = (Text(text, columns[place].styles.get(text, "")) for place, text in zip(kept, row, strict=True))
        made.add_row(*styled)
    screen = console(sys.stdout)
    if title:
        screen.print(Text(title, "bold"))
    screen.print(made)


def record(fields: Sequence[tuple[Column, object]], title: str | None = None) -> None:
    """The fields of one thing, each on a line of its own, on stdout."""
    if not on_terminal():
        for column, value in fields:
            line([column.name, value])
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for column, value in fields:
        text = column.show(value)
        grid.add_row(Text(column.title, "dim"), Text(text, column.styles.get(text, "")))
    screen = console(sys.stdout)
    if title:
        screen.print(Text(title, "bold"))
    screen.print(grid)


def text(line: str = "") -> None:
    """A line on stdout, at once; an empty one between two tables."""
    print(printable(line), flush=True)


# --- JSON -------------------------------------------------------------------------------------------------------------


def write_json(value: JSONValue, *, line: bool = False) -> None:
    """One JSON document on stdout, indented or on one `line`, in UTF-8 whatever the terminal's encoding."""
    if line:
        write_bytes(jsontext.dump(value) + b"\n")
        return
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a lone surrogate: only its escape can be written
        data = json.dumps(value, indent=2, allow_nan=False).encode()
    write_bytes(data + b"\n")


async def stream_json(values: AsyncIterable[JSONValue], *, lines: bool) -> None:
    """One JSON array on stdout, an element to a line, or JSON lines, written as the values come.

    An array whose values end in an error stays open, so that nobody takes it for the whole.
    """
    before = b"" if lines else b"[\n"
    async for value in values:
        write_bytes(before + jsontext.dump(value) + (b"\n" if lines else b""))
        before = b"" if lines else b",\n"
    if not lines:
        write_bytes(b"[]\n" if before == b"[\n" else b"\n]\n")


def write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


# --- progress ---------------------------------------------------------------------------------------------------------


class Update(Protocol):
    """How far it is: so many `done`, of so many, and a few words on the side."""

    def __call__(self, done: int, total: int | None = None, detail: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int | None = None, *, transient: bool = False) -> Iterator[Update]:
    """A bar on stderr while the block runs. Where none can be drawn: a line every few seconds, and one at the end.

    What is `transient` leaves nothing behind, neither bar nor last line.
    """
    screen = console(sys.stderr)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with drawn_progress(label, total, transient) as update:
            yield update
        return
    from evals_async.clock import SYSTEM_CLOCK

    began = told = SYSTEM_CLOCK.monotonic()
    last = ""

    def tell(done: int, total: int | None = total, detail: str = "") -> None:
        nonlocal told, last
        last = (
            f"{label}: {done:,}" + (f" of {total:,}" if total is not None else "") + (f", {detail}" if detail else "")
        )
        now = SYSTEM_CLOCK.monotonic()
        if now - told >= SECONDS_PER_LINE:
            told = now
            note(last)

    yield tell
    if last and not transient:
        note(f"{last}, in {human_seconds(SYSTEM_CLOCK.monotonic() - began)}")


@contextmanager
def drawn_progress(label: str, total: int | None, transient: bool) -> Iterator[Update]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    what = TextColumn("{task.description}", markup=False)
    detail_column = TextColumn("{task.fields[detail]}", markup=False, style="dim")
    counts = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(what, *counts, detail_column, console=console(sys.stderr), transient=transient) as drawn:
        task = drawn.add_task(printable(label), total=total, detail="")

        def update(done: int, total: int | None = total, detail: str = "") -> None:
            drawn.update(task, completed=done, total=total, detail=printable(detail))

        yield update


def console(stream: TextIO) -> Any:
    """A rich console that takes texts as they are: no markup, no guesses. It honours NO_COLOR by itself."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)

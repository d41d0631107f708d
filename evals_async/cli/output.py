"""Print tables, records, JSON, progress, notes and errors. Only this module prints.

Data goes to stdout, everything else to stderr. On a terminal, rows are drawn as tables. Elsewhere they are
tab-separated, with full values and a header line. `text` converts values to text. rich is imported only when something
is drawn.
"""

import logging
import os
import sys
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TextIO, cast

import evals_async
from evals_async.cli.text import (
    GAP,
    LONGEST_WORD,
    NARROWEST,
    Column,
    columns_for,
    fitting,
    human_seconds,
    in_width,
    plain,
    printable,
    wrapped,
)


BAR, CLOCK = 24, 12  # columns of a bar, and of the time with the gaps
SECONDS_PER_LINE = 5.0  # between two lines of progress where nothing can be drawn


# --- stderr -----------------------------------------------------------------------------------------------------------


def note(text: str = "") -> None:
    """Print a line on stderr. On a terminal, a long line is wrapped between words."""
    width = width_of_stderr()
    lines = [piece for line in text.split("\n") for piece in wrapped(printable(line), width)]
    print("\n".join(lines), file=sys.stderr, flush=True)


def hint(text: str) -> None:
    """Print what to do next on stderr, in one line, so that a command can be copied."""
    print(f"next: {printable(text)}", file=sys.stderr, flush=True)


def width_of_stderr() -> int | None:
    """Return the number of columns of the terminal for stderr, or `None` if stderr is not a terminal."""
    if not sys.stderr.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    except OSError:
        return None


def error(text: str) -> None:
    """Print an error on stderr."""
    note(f"error: {text}")


class NoteHandler(logging.Handler):
    """Prints log records as notes on the current stderr, so that they appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))


def log_to_stderr() -> None:
    """Print all log records of the package, including DEBUG. A second call does nothing."""
    logger = logging.getLogger("evals_async")
    if not any(isinstance(handler, NoteHandler) for handler in logger.handlers):
        handler = NoteHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


# --- tables -----------------------------------------------------------------------------------------------------------


def on_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def line(cells: Iterable[object]) -> None:
    print("\t".join(plain(cell) for cell in cells))


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print rows on stdout. The title is only printed on terminals."""
    if on_terminal():
        draw(columns, rows, title)
        return
    kept = places(columns, "terminal")
    line(columns[place].name for place in kept)
    for row in rows:
        line(row[place] for place in kept)


async def stream_table(columns: Sequence[Column], rows: AsyncIterable[Sequence[object]], label: str) -> None:
    """Print rows on stdout as they arrive. On a terminal, they are counted, and the table is printed at the end.

    If the first row fails, no header is printed, so that the output does not look like an empty listing.
    """
    if on_terminal():
        gathered: list[Sequence[object]] = []
        with progress(label, transient=True) as update:
            async for row in rows:
                gathered.append(row)
                update(len(gathered))
        draw(columns, gathered, None)
        return
    kept = places(columns, "terminal")
    header = [columns[place].name for place in kept]
    begun = False
    async for row in rows:
        if not begun:
            line(header)
        begun = True
        line(row[place] for place in kept)
    if not begun:
        line(header)


def places(columns: Sequence[Column], but: str) -> list[int]:
    """Return the indexes of the columns to print: all except those for `but`."""
    return [place for place, column in enumerate(columns) if column.where != but]


def draw(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str | None) -> None:
    """Print a table on a terminal. If the required columns are too wide, print each row as a record."""
    from rich.cells import cell_len
    from rich.text import Text

    screen = console(sys.stdout)
    kept = places(columns, "file")
    drawn = [columns[place] for place in kept]
    texts = [[column.show(row[place]) for place, column in zip(kept, drawn, strict=True)] for row in rows]
    wanted = [max(map(cell_len, cells)) for cells in zip(*([column.title for column in drawn], *texts), strict=True)]
    least = [
        least_width(column, [cell_len(word) for row in texts for word in cell_words(column, row[place])])
        for place, column in enumerate(drawn)
    ]
    shown = columns_for(wanted, least, [column.spare for column in drawn], screen.width)
    if title:
        screen.print(Text(title, "bold"))
    if shown is None:
        draw_records(screen, drawn, texts)
        return
    widths = fitting([wanted[n] for n in shown], [least[n] for n in shown], screen.width - GAP * (len(shown) - 1))
    draw_table(screen, [drawn[n] for n in shown], [[row[n] for n in shown] for row in texts], widths)
    if left_out := [column.title for number, column in enumerate(drawn) if number not in shown]:
        note(f"too wide for this terminal: {', '.join(left_out)} (a wider terminal, a file and a pipe get them)")


def cell_words(column: Column, text: str) -> list[str]:
    """Return the parts of a text that must not be broken: its words if the column wraps, otherwise all of it."""
    return text.split() if column.wrap else [text]


def least_width(column: Column, words: Sequence[int]) -> int:
    """Return the minimum width of a column. A title may be wrapped."""
    title = max(map(len, column.title.split()), default=0)
    widest = max(words, default=0)
    if column.right or column.keep:
        return max(title, widest)
    return max(title, min(widest, LONGEST_WORD if column.wrap else NARROWEST))


def draw_table(screen: Any, columns: Sequence[Column], texts: Iterable[Sequence[str]], widths: Sequence[int]) -> None:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, width in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "right" if column.right else "left"
        head = Text(column.title, no_wrap=False, overflow="fold")
        overflow: Literal["fold", "ellipsis"] = "fold" if column.wrap else "ellipsis"
        made.add_column(head, justify=side, no_wrap=not column.wrap, overflow=overflow, width=width)
    for row in texts:
        made.add_row(*(Text(text, column.styles.get(text, "")) for column, text in zip(columns, row, strict=True)))
    screen.print(made)


def draw_records(screen: Any, columns: Sequence[Column], texts: Iterable[Sequence[str]]) -> None:
    for number, row in enumerate(texts):
        if number:
            screen.print()
        draw_record(screen, columns, row)


def draw_record(screen: Any, columns: Sequence[Column], texts: Sequence[str]) -> None:
    """Print each text on its own line, or wrapped. Nothing is cut, and no id or address is broken."""
    from rich.cells import cell_len
    from rich.text import Text

    side = max((cell_len(column.title) for column in columns), default=0) + GAP
    for column, text in zip(columns, texts, strict=True):
        title = column.title
        for piece in wrapped(text, max(screen.width - side, NARROWEST)) or [""]:
            label = title + " " * (side - cell_len(title))
            line = Text.assemble((label, "dim"), (piece, column.styles.get(text, "")))
            screen.print(line, soft_wrap=True)
            title = ""


def record(fields: Sequence[tuple[Column, object]], title: str | None = None) -> None:
    """Print the fields of one object on stdout, one per line."""
    if not on_terminal():
        for column, value in fields:
            line([column.name, value])
        return
    from rich.text import Text

    screen = console(sys.stdout)
    if title:
        screen.print(Text(title, "bold"))
    draw_record(screen, [column for column, _ in fields], [column.show(value) for column, value in fields])


def say(line: str = "") -> None:
    """Print a line on stdout and flush it; by default an empty line."""
    print(printable(line), flush=True)


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_bytes(value: object, *, indent: int | None = None) -> bytes:
    """Return one JSON document, on one line or indented, in UTF-8 on every terminal."""
    from evals_async import _json  # imports msgspec, which would slow down `--help`

    return _json.dump(cast("_json.JSONValue", value), indent=indent)


def write_json(value: object, *, line: bool = False) -> None:
    """Print one JSON document on stdout, indented or on one `line`."""
    write_bytes(json_bytes(value, indent=None if line else 2) + b"\n")


async def stream_json(values: AsyncIterable[object], *, lines: bool) -> None:
    """Print values on stdout as they arrive: as a JSON array with one element per line, or as JSON Lines.

    If the values end with an error, the array is not closed, so that the output is not valid JSON.
    """
    before = b"" if lines else b"[\n"
    async for value in values:
        write_bytes(before + json_bytes(value) + (b"\n" if lines else b""))
        before = b"" if lines else b",\n"
    if not lines:
        write_bytes(b"[]\n" if before == b"[\n" else b"\n]\n")


def write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


# --- progress ---------------------------------------------------------------------------------------------------------


class Update(Protocol):
    """A function that updates the progress: the number `done`, the total if known, and details."""

    def __call__(self, done: int, total: int | None = None, detail: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int | None = None, *, transient: bool = False) -> Generator[Update]:
    """Show a progress bar on stderr while the block runs. Without a terminal, print a line every few seconds.

    With `transient`, neither the bar nor the last line remains.
    """
    screen = console(sys.stderr)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with drawn_progress(label, total, transient) as update:
            yield update
        return
    from evals_async._clock import SYSTEM_CLOCK

    began = told = SYSTEM_CLOCK.monotonic()
    last = ""

    def tell(done: int, total: int | None = total, detail: str = "") -> None:
        nonlocal told, last
        last = f"{label}: {counted(done, total)}" + (f", {detail}" if detail else "")
        now = SYSTEM_CLOCK.monotonic()
        if now - told >= SECONDS_PER_LINE:
            told = now
            note(last)

    yield tell
    if last and not transient:
        note(f"{last}, in {human_seconds(SYSTEM_CLOCK.monotonic() - began)}")


@contextmanager
def drawn_progress(label: str, total: int | None, transient: bool) -> Generator[Update]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    texts = [
        TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[count]", "fields[detail]")
    ]
    columns = (texts[0], BarColumn(bar_width=BAR), texts[1], TimeElapsedColumn(), texts[2])
    with Progress(*columns, console=console(sys.stderr), transient=transient) as drawn:
        task = drawn.add_task(printable(label), total=total, count="", detail="")

        def update(done: int, total: int | None = total, detail: str = "") -> None:
            count = counted(done, total)
            width = drawn.console.width - len(label) - BAR - len(count) - CLOCK
            drawn.update(task, completed=done, total=total, count=count, detail=in_width(printable(detail), width))

        yield update


def follow(update: Update) -> "Callable[[evals_async.Progress], None]":
    """Return an `on_progress` function for a fan-out, which shows how many calls are done and how many failed."""

    def on_progress(seen: "evals_async.Progress") -> None:
        update(seen.done, seen.total, f"{seen.failed:,} failed" if seen.failed else "")

    return on_progress


def counted(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def console(stream: TextIO) -> Any:
    """Return a rich console without markup and highlighting. With NO_COLOR, it has no colours and no bold text."""
    from rich.console import Console

    made = Console(file=stream, highlight=False, markup=False, emoji=False)
    return (
        Console(file=stream, highlight=False, markup=False, emoji=False, color_system=None) if made.no_color else made
    )

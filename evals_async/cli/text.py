"""Convert values to text for tables, tab-separated files and messages. Pure functions, and `Column`.

Names and messages come from servers, so control characters are escaped before they are printed.
"""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import attrs


NO_STYLES: Mapping[str, str] = {}
STATUS_STYLES: Mapping[str, str] = {
    **dict.fromkeys(("completed", "pass"), "green"),
    **dict.fromkeys(("failed", "fail", "error"), "red"),
    **dict.fromkeys(("canceled", "cancelled"), "yellow"),
    **dict.fromkeys(("queued", "in_progress"), "cyan"),
}
GAP = 2  # between two columns
NARROWEST = 8  # the minimum width of a column that may be cut
LONGEST_WORD = 24  # a longer word may be broken when a text is wrapped
UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
FULL, EMPTY = "━", "·"


def printable(text: str) -> str:
    """Escape control characters, lone surrogates, and characters that change the direction of writing."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def wrapped(text: str, width: int | None) -> list[str]:
    """Wrap a text to lines of this width, between words only, so that ids, addresses and paths are not broken.

    An indented text is a command to copy, and is not wrapped.
    """
    if width is None or len(text) <= width or text.startswith(" "):
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def in_width(text: str, width: int) -> str:
    """Return the first parts of a text, between commas, that fit into `width`."""
    while len(text) > width:
        text, comma, _ = text.rpartition(", ")
        if not comma:
            return ""
    return text


def plain(value: object) -> str:
    """Convert a value for a tab-separated file: `None` is empty, times are ISO 8601 in UTC."""
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
    """Convert a value for a table on a terminal, if its column has no other function."""
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
    """Format a share from 0 to 1 as `87.5 %`."""
    return "-" if share is None else f"{share * 100:.1f} %"


def bar(share: float | None, width: int = 8) -> str:
    """Format a share from 0 to 1 as a bar."""
    filled = 0 if share is None else round(share * width)
    return FULL * filled + EMPTY * (width - filled)


def human_bytes(size: float) -> str:
    """Format a number of bytes as `12.3 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Format seconds as `0.42 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def plural(number: int, thing: str) -> str:
    """Return `1 run` or `300 runs`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


@attrs.frozen
class Column:
    """One column: its title, how a terminal `show`s a value, and its minimum width.

    - `right`: aligned on the right, and never cut. `keep`: never cut, for ids that users copy.
    - `wrap`: long texts are wrapped. Other columns may be cut on a terminal.
    - `spare`: the column is left out if the terminal is too narrow.
    - `styles`: the colours of texts. `where`: whether the column is only for terminals, or only for files.
    """

    title: str
    show: Callable[[Any], str] = attrs.field(default=shown, kw_only=True)
    right: bool = attrs.field(default=False, kw_only=True)
    keep: bool = attrs.field(default=False, kw_only=True)
    wrap: bool = attrs.field(default=False, kw_only=True)
    spare: bool = attrs.field(default=False, kw_only=True)
    styles: Mapping[str, str] = attrs.field(default=NO_STYLES, kw_only=True)
    where: Literal["everywhere", "terminal", "file"] = attrs.field(default="everywhere", kw_only=True)

    @property
    def name(self) -> str:
        """The title in the format of a field name."""
        return self.title.lower().replace(" ", "_")


def fitting(wanted: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Return the widths of columns: each has its `least`, and the rest is shared equally, up to the wanted width."""
    widths = list(least)
    for _ in range(width - sum(least)):
        growing = [place for place, width in enumerate(widths) if width < wanted[place]]
        if not growing:
            break
        widths[min(growing, key=widths.__getitem__)] += 1
    return widths


def columns_for(wanted: Sequence[int], least: Sequence[int], spare: Sequence[bool], width: int) -> list[int] | None:
    """Return the columns that fit. The last of the `spare` columns are left out first.

    `None` if the other columns do not fit either. `width` includes the gaps after the texts.
    """
    kept = list(range(len(wanted)))
    while sum(least[place] + GAP for place in kept) > width + GAP:
        last = next((place for place in reversed(kept) if spare[place]), None)
        if last is None:
            return None
        kept.remove(last)
    return kept

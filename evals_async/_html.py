"""HTML for notebooks: tables of values and a bar of counts. All values are escaped, and the HTML loads no other
files.

The functions take values and return text. The class of an object decides what is shown of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape

import attrs


LONGEST = 300  # characters shown of a value
MOST_ROWS = 50  # rows shown of a table
COLORS = {"passed": "#2e7d32", "failed": "#c62828", "errored": "#ef6c00", "skipped": "#9e9e9e"}
CELL = "text-align:left;vertical-align:top;padding:2px 8px"

# The attributes that are shown for the objects of a list, if they have them.
COLUMNS = (
    *("id", "run_id", "datasource_item_id", "name", "filename", "status", "model", "pass_rate", "passed", "purpose"),
    *("bytes", "created"),
)


@attrs.frozen
class Grid:
    """A table with a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def text_of(value: object) -> str:
    """Return a value as escaped text. Times are shown to the second, and long texts are cut."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return escape(f"{value:%Y-%m-%d %H:%M:%S}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(shown if len(shown) <= LONGEST else shown[:LONGEST] + "…")


def document(title: str, facts: Mapping[str, object], *parts: Grid | str) -> str:
    """Return a heading, a table of the values that are not `None`, and `rest`: tables, or HTML that is already made."""
    known = [(name, value) for name, value in facts.items() if value is not None]
    rows = "".join(
        f'<tr><th style="{CELL}">{escape(n)}</th><td style="{CELL}">{text_of(v)}</td></tr>' for n, v in known
    )
    body = "".join(part if isinstance(part, str) else grid(part) for part in parts)
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table>{body}</div>"


def grid(shown: Grid) -> str:
    """Return a table with the first rows, and the number of further rows. Returns an empty text if there are no
    rows.
    """
    if not shown.rows:
        return ""
    head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in shown.columns)
    lines = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{text_of(value)}</td>' for value in row) + "</tr>"
        for row in shown.rows[:MOST_ROWS]
    )
    more = len(shown.rows) - MOST_ROWS
    rest = f"<div>and {more:,} more</div>" if more > 0 else ""
    return f"<div><em>{escape(shown.title)}</em></div><table><tr>{head}</tr>{lines}</table>{rest}"


def bar(counts: Mapping[str, int | None]) -> str:
    """Return a coloured bar with the numbers of passed, failed, errored and skipped items."""
    known = {name: number for name in COLORS if (number := counts.get(name))}
    total = sum(known.values())
    pieces = "".join(
        f'<div title="{number:,} {name}" style="width:{100 * number / total:.2f}%;background:{COLORS[name]}"></div>'
        for name, number in known.items()
    )
    told = ", ".join(f"{number:,} {name}" for name, number in known.items())
    return f'<div style="display:flex;height:10px;max-width:400px">{pieces}</div><div>{told}</div>' if total else ""


def listed(title: str, things: Iterable[object]) -> str:
    """Return a table of objects, one per row, with those of `COLUMNS` that they have."""
    found = [[getattr(thing, name, None) for name in COLUMNS] for thing in things]
    kept = [place for place in range(len(COLUMNS)) if any(row[place] is not None for row in found)]
    rows = [[row[place] for place in kept] for row in found]
    return document(title, {}, Grid("", [COLUMNS[place] for place in kept], rows))

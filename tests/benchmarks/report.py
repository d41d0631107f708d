"""Tables as Markdown, series as one SVG. Nothing here measures."""

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import attrs
from benchmarks.cases import Table


Series: TypeAlias = dict[str, list[tuple[float, float]]]

PACKAGES = (
    *("evals-async", "aiohttp", "attrs", "cattrs", "msgspec", "tenacity", "yarl", "uvloop"),
    *("openai", "httpx2", "httpx-aiohttp", "pydantic"),
)
COLOURS = ("#1f6feb", "#d1242f", "#57606a", "#1a7f37", "#8250df")
WIDTH, HEIGHT, LEFT, TOP, GAP = 320, 220, 56, 34, 40  # of one panel, in pixels; margins


@attrs.frozen
class Plot:
    """One panel: both axes are logarithmic."""

    title: str
    x: str
    y: str
    series: Series


def versions() -> str:
    found: list[str] = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor()
    return f"{len(models) or '?'} cores of {name}, {platform.system()}"


def markdown(tables: Sequence[Table]) -> str:
    today = datetime.now(UTC).date().isoformat()
    parts = [
        f"Measured on {today} with Python {platform.python_version()} ({versions()}) on {machine()}.",
    ]
    for table in tables:
        lines = [
            f"**{table.title}**",
            "",
            f"| {' | '.join(table.heads)} |",
            f"|{'---|' * len(table.heads)}",
            *(f"| {' | '.join(row)} |" for row in table.rows),
        ]
        parts.append("\n".join(lines))
        if table.note:
            parts.append(table.note)
    return "\n\n".join(parts) + "\n"


def scale(values: Sequence[float], begin: float, end: float) -> tuple[float, float]:
    """Factor and offset that lead from logarithms of values to pixels."""
    low, high = math.log10(min(values)), math.log10(max(values))
    factor = (end - begin) / ((high - low) or 1)
    return factor, begin - low * factor


def number(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def decades(values: Sequence[float]) -> list[float]:
    low, high = math.ceil(math.log10(min(values)) - 1e-9), math.floor(math.log10(max(values)) + 1e-9)
    return [10.0**power for power in range(low, high + 1)]


def panel(plot: Plot, left: float, top: float) -> list[str]:
    xs = [x for points in plot.series.values() for x, _ in points]
    ys = [y for points in plot.series.values() for _, y in points]
    by, ax = scale(xs, left, left + WIDTH)
    dy, ay = scale(ys, top + HEIGHT, top)
    parts = [
        f'<text x="{left}" y="{top - 14}" font-weight="bold">{plot.title}</text>',
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#d0d7de"/>',
        f'<text x="{left + WIDTH}" y="{top + HEIGHT + 28}" text-anchor="end">{plot.x}</text>',
        f'<text x="{left + 6}" y="{top + 14}">{plot.y}</text>',
    ]
    for value in decades(xs):
        x = math.log10(value) * by + ax
        parts.append(f'<text x="{x:.0f}" y="{top + HEIGHT + 14}" text-anchor="middle">{number(value)}</text>')
    for value in decades(ys):
        y = math.log10(value) * dy + ay
        parts.append(f'<path d="M{left} {y:.0f}h{WIDTH}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{number(value)}</text>')
    for colour, points in zip(COLOURS, plot.series.values(), strict=False):
        where = [(math.log10(x) * by + ax, math.log10(y) * dy + ay) for x, y in points]
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
            + '"/>'
        )
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in where)
    return parts


def svg(plots: Sequence[Plot]) -> str:
    """All panels, two in a row, with one legend."""
    rows = math.ceil(len(plots) / 2)
    wide, high = 2 * (LEFT + WIDTH) + GAP, 24 + rows * (TOP + HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
        ' font-family="sans-serif" font-size="11" fill="#57606a">',
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
    ]
    names = list(dict.fromkeys(name for plot in plots for name in plot.series))
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        x = LEFT + 150 * place
        parts.append(f'<circle cx="{x}" cy="12" r="4" fill="{colour}"/><text x="{x + 9}" y="16">{name}</text>')
    for place, plot in enumerate(plots):
        left = LEFT + (place % 2) * (LEFT + WIDTH)
        parts += panel(plot, left, 24 + TOP + (place // 2) * (TOP + HEIGHT + GAP) - GAP / 4)
    return "\n".join([*parts, "</svg>"]) + "\n"

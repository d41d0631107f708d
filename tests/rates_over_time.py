"""Draws docs/guides/rates.svg: what is granted to a client over time under four limits, in simulated time.

python tests/rates_over_time.py
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from simulation import Concurrency, FixedWindow, Scenario, TokenBucket, simulate, whole_seconds


PICTURE = Path(__file__).parent.parent / "docs" / "guides" / "rates.svg"
STEP = 0.1  # seconds that one point counts
WIDE, HIGH, LEFT, TOP, GAP = 330, 130, 46, 26, 52
STYLE = "font-family='sans-serif' font-size='11' fill='#333'"

PANELS: list[tuple[str, Scenario, Callable[[float], float]]] = [
    (
        "bucket of 50, filled at 200/s, Retry-After: 1",
        Scenario(name="", limit=partial(TokenBucket, 200, 50, whole_seconds)),
        lambda at: 200.0,
    ),
    (
        "400/s for half a second, then 60/s",
        Scenario(name="", limit=partial(TokenBucket, [(0, 400), (0.5, 60)], 20, whole_seconds)),
        lambda at: 400.0 if at < 0.5 else 60.0,
    ),
    (
        "150 in each window of 2 s (75/s), Retry-After",
        Scenario(name="", limit=partial(FixedWindow, 150, 2, whole_seconds)),
        lambda at: 75.0,
    ),
    ("at most 8 at once, of 20 ms each (400/s)", Scenario(name="", limit=partial(Concurrency, 8)), lambda at: 400.0),
]


def line(points: list[tuple[float, float]], style: str) -> str:
    return f"<polyline fill='none' {style} points='{' '.join(f'{x:.1f},{y:.1f}' for x, y in points)}'/>"


def panel(title: str, scenario: Scenario, allowed: Callable[[float], float], left: float, top: float) -> list[str]:
    """One diagram: granted requests a second, the refused ones as red ticks, the limit as a dashed line."""
    outcome = simulate(scenario)
    steps = int(outcome.elapsed / STEP) + 1
    rates = [sum(n * STEP <= at < (n + 1) * STEP for at in outcome.granted) / STEP for n in range(steps)]
    most = max(*rates, *(allowed(n * STEP) for n in range(steps)))

    def at(seconds: float, rate: float) -> tuple[float, float]:
        return left + WIDE * seconds / (steps * STEP), top + HIGH * (1 - rate / most)

    bottom = top + HIGH
    granted = [at((n + side) * STEP, rate) for n, rate in enumerate(rates) for side in (0, 1)]
    limit = [at((n + side) * STEP, allowed(n * STEP)) for n in range(steps) for side in (0, 1)]
    ticks = [f"M{at(when, 0)[0]:.1f},{bottom}v-7" for when in outcome.refused]
    return [
        f"<text x='{left}' y='{top - 8}' {STYLE} font-weight='bold'>{title}</text>",
        f"<path d='M{left},{top}v{HIGH}h{WIDE}' fill='none' stroke='#999'/>",
        f"<path d='{''.join(ticks)}' stroke='#c0392b'/>",
        line(limit, "stroke='#888' stroke-dasharray='5 4'"),
        line(granted, "stroke='#1f6fb4' stroke-width='1.6'"),
        f"<text x='{left - 6}' y='{top + 8}' text-anchor='end' {STYLE}>{most:.0f}/s</text>",
        f"<text x='{left - 6}' y='{bottom}' text-anchor='end' {STYLE}>0</text>",
        f"<text x='{left + WIDE}' y='{bottom + 15}' text-anchor='end' {STYLE}>{steps * STEP:.1f} s</text>",
    ]


def picture() -> str:
    """The whole picture, the same each time."""
    wide, high = 2 * (WIDE + LEFT) + 30, 2 * (HIGH + GAP) + TOP
    parts: list[str] = []
    for number, (title, scenario, allowed) in enumerate(PANELS):
        row, column = divmod(number, 2)
        parts += panel(title, scenario, allowed, LEFT + column * (WIDE + LEFT + 10), TOP + row * (HIGH + GAP))
    key = "blue: granted a second; dashed: what the limit allows; red: refused"
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {high}' width='{wide}' height='{high}'>",
            f"<rect width='{wide}' height='{high}' fill='white'/>",
            *parts,
            f"<text x='{LEFT}' y='{high - 8}' {STYLE}>{key}</text>",
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

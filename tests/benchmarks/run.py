"""Measures this package beside the official client and beside what people write by hand, and writes tables and a plot.

    python tests/benchmarks/run.py [--short] [--only WORD] [--check] [--output DIRECTORY] [--docs]

`--short` takes less than two minutes; `--check` compares what was measured with `bounds.toml`, says what fell short,
and then ends with 1; `--docs` puts what was measured into docs/guides/performance.md. Numbers of two runs are not to
be compared; ratios of clients within one run are.
"""

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path


# A session may have forbidden the directory of the script (PYTHONSAFEPATH), so that the installed package is measured.
TESTS = Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS))

from benchmarks import (  # noqa: E402
    bench_backend,
    bench_engine,
    bench_limits,
    bench_pages,
    bench_reports,
    cases,
    growth,
    layers,
    report,
)
from benchmarks.measure import Server  # noqa: E402
from benchmarks.server import pin  # noqa: E402


BOUNDS = TESTS / "benchmarks" / "bounds.toml"
GUIDE = TESTS.parent / "docs" / "guides" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def tables(server: Server, *, short: bool) -> dict[str, Callable[[], cases.Table]]:
    """Every case, by a name that `--only` may choose."""
    count, rounds = (300, 4) if short else (1000, 16)  # short turns: whatever else the machine does hits all alike
    return {
        "fan-out 50": lambda: cases.fan_out(server, count, 50, rounds),
        "fan-out 200": lambda: cases.fan_out(server, count, 200, rounds),
        **{
            f"fan-out {kind}": partial(cases.fan_out_live, server, kind, count, rounds // 2)
            for kind in ("azure", "foundry")
        },
        **{
            f"pages {kind}": partial(cases.pages_live, server, kind, 4 if short else 20, 2 if short else 4)
            for kind in ("label", "target", "agent")
        },
        "layers": lambda: layers.layers(server, 400 if short else 1500, 3 if short else 12),
        "tree": lambda: cases.tree(server, 12 if short else 50, 2 if short else 6),
        "walk 0": lambda: cases.walk(server, 20 if short else 100, 0, 2 if short else 3),
        "walk 20": lambda: cases.walk(server, 20 if short else 100, 20, 1),
        "walk 50": lambda: cases.walk(server, 20 if short else 100, 50, 1),
        "decoding": lambda: cases.decoding(5 if short else 15),
        "live": lambda: cases.decoding_live(5 if short else 15),
        "stall": lambda: cases.stalls(server, 1 if short else 3),
        "retained": lambda: cases.retained(5_000 if short else 100_000),
        "start": lambda: cases.start(server, 2 if short else 8),
        "at once": lambda: cases.at_once(server, 2_000 if short else 10_000, 1 if short else 3),
        "backend": lambda: bench_backend.backends(server, 1 if short else 3, 6 if short else 15),
        **bench_pages.tables(short=short),
        "engine": lambda: bench_engine.engine(500 if short else 5_000, 2 if short else 5),
        **bench_reports.tables(short=short),
        "limits": bench_limits.limits,
        "uvloop": lambda: cases.with_uvloop(server, count, 4 if short else 10),
    }


def plots(server: Server, *, short: bool) -> list[report.Plot]:
    return [
        *growth.runs_and_concurrency(server, 100 if short else 10_000),
        growth.pages(server, 10 if short else 100),
        growth.body_size(64 if short else 4096),
    ]


def verdicts(figures: Mapping[str, float], bounds: Mapping[str, Mapping[str, float]]) -> list[tuple[bool, str]]:
    """For each figure with a bound: whether it holds, and a line that says by how much."""
    found: list[tuple[bool, str]] = []
    for name, bound in bounds.items():
        if (figure := figures.get(name)) is None:
            continue
        at_least = "least" in bound
        must = bound["least" if at_least else "most"]
        holds = figure >= must if at_least else figure <= must
        goal = f", goal {bound['goal']:g}" if "goal" in bound else ""
        words = "holds" if holds else "FELL SHORT"
        found.append(
            (holds, f"{words}: {name} is {figure:.2f}, must be {must:g} at {'least' if at_least else 'most'}{goal}")
        )
    return found


def into_guide(text: str) -> None:
    """Replace what the guide shows by what was measured now."""
    page = GUIDE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    GUIDE.write_text(f"{page[:begin]}\n\n{text}\n{page[end:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", metavar="WORD", default="")
    parser.add_argument("--output", metavar="DIRECTORY", type=Path)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    output: Path = options.output or Path(tempfile.mkdtemp(prefix="evals_async_bench_"))
    output.mkdir(parents=True, exist_ok=True)
    pin(0)
    with Server() as server:
        made: list[cases.Table] = []
        for name, measure in tables(server, short=options.short).items():
            if options.only in name:
                print(f"... {name}", file=sys.stderr, flush=True)
                made.append(measure())
                print(report.markdown(made[-1:]).partition("\n\n")[2], flush=True)
        drawn = report.svg(plots(server, short=options.short)) if options.only in "growth" else None
    text = report.markdown(made)
    (output / "performance.md").write_text(text)
    if drawn is not None:
        (output / "performance.svg").write_text(drawn)
    if options.docs:
        into_guide(text)
        if drawn is not None:
            (GUIDE.parent / "performance.svg").write_text(drawn)
    print(f"written to {output}", file=sys.stderr)
    if options.check:
        figures = {name: figure for table in made for name, figure in table.figures.items()}
        checked = verdicts(figures, tomllib.loads(BOUNDS.read_text()))
        print(*(line for _, line in checked), sep="\n")
        sys.exit(not all(holds for holds, _ in checked))


if __name__ == "__main__":
    main()

"""Pages, comparisons and regrades of large runs: time until the first byte, memory, rows per second.

    python tests/benchmarks/bench_reports.py [--short] [--only WORD]

Each case is a function that gives a `Table`; `tables()` has them by name. A store with one long run is made first, in a
file, as a server would have it.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any


sys.path.append(str(Path(__file__).resolve().parent.parent))

import aiohttp
from benchmarks.cases import Table

from evals_async import OutputItem, compare, decode
from evals_async.archive import grade_batches
from evals_async.archive.regrade.batches import ROW_COLUMNS, batch_of
from evals_async.comparison import RunOutcomes
from evals_async.server import LocalServer


EVAL, RUN = "eval_long", "evalrun_long"
ANSWER = "The quick brown fox jumps over the lazy dog, and number {number} follows it across the field at night."
CHECKS: dict[str, dict[str, Any]] = {
    "string_check": {"type": "string_check", "operation": "ilike"},
    **{
        metric: {"type": "text_similarity", "evaluation_metric": metric, "pass_threshold": 0.5}
        for metric in ("fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_l")
    },
}


def item_of(run: str, number: int, *, worse: bool = False) -> dict[str, Any]:
    """An item of about a kilobyte: two criteria, one of them a judge's score."""
    passed = number % (9 if worse else 10) != 0
    answer = json.dumps({"steps": [{"description": "Read it.", "conclusion": "It is so."}], "result": 0.8})
    judged = {"output": [{"role": "assistant", "content": answer}], "model": "judge"}
    return {
        "object": "eval.run.output_item",
        "id": f"{run}_{number:07}",
        "run_id": run,
        "eval_id": EVAL,
        "created_at": 1_700_000_000 + number,
        "status": "pass" if passed else "fail",
        "datasource_item_id": number,
        "datasource_item": {"question": f"What is number {number}?", "topic": number % 50},
        "results": [
            {"name": "match", "passed": passed, "score": float(passed), "sample": None},
            {"name": "judge", "passed": True, "score": (number * 7 % 100) / 100, "sample": judged},
        ],
        "sample": {
            "input": [{"role": "user", "content": f"What is number {number}?"}],
            "output": [{"role": "assistant", "content": ANSWER.format(number=number)}],
            "model": "model",
            "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
        },
    }


async def filled(file: Path, count: int) -> None:
    """A store with one run of so many items."""
    async with LocalServer(file) as server:
        run = {"object": "eval.run", "id": RUN, "eval_id": EVAL, "status": "completed", "created_at": 1}
        await server.seed(evals=[{"object": "eval", "id": EVAL, "created_at": 1, "testing_criteria": []}], runs=[run])
        for begin in range(0, count, 5000):
            await server.seed(output_items=[item_of(RUN, each) for each in range(begin, min(count, begin + 5000))])


# --- the page ---------------------------------------------------------------------------------------------------------


async def serve(file: Path) -> None:
    """A server of that store: its base URL on stdout, and its peak memory in MB when stdin ends."""
    async with LocalServer(file, read_only=True) as server:
        print(server.base_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


async def first_byte(url: str) -> tuple[float, float, int]:
    """Seconds until the first byte and until the last, and how many bytes came."""
    began = time.perf_counter()
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": "text/html"}) as response:
        assert response.status == 200
        await response.content.read(1)
        first = time.perf_counter() - began
        size = 1 + len(await response.read())
    return first, time.perf_counter() - began, size


def pages(count: int) -> Table:
    """The page of a run of `count` items: asked for first, again, another page of it, and a search."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "long.db"
        asyncio.run(filled(file, count))
        with subprocess.Popen(
            [sys.executable, __file__, "serve", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            base = f"{child.stdout.readline().strip()}/evals/{EVAL}/runs/{RUN}"
            rows: list[tuple[str, ...]] = []
            for name, query in (
                ("first time", ""),
                ("again", ""),
                ("failures", "?verdict=fail"),
                ("a later page", f"?after={RUN}_{count // 2:07}"),
                ("search for a text", f"?q=number+{min(count, 20_000) - 1}+follows"),
            ):
                first, whole, size = asyncio.run(first_byte(base + query))
                rows.append((name, f"{first * 1000:.0f}", f"{whole * 1000:.0f}", f"{size / 1024:.0f}"))
            out, _ = child.communicate("", timeout=30)
    note = f"Peak memory of the server: {float(out):.0f} MB."
    return Table(
        title=f"The page of a run of {count:,} items",
        heads=("", "first byte, ms", "last byte, ms", "kB"),
        rows=rows,
        note=note,
    )


# --- comparing and grading --------------------------------------------------------------------------------------------


def items(run: str, begin: int, end: int, *, worse: bool) -> Iterator[OutputItem]:
    for number in range(begin, end):
        yield decode(json.dumps(item_of(run, number, worse=worse)).encode(), OutputItem)


def comparing(count: int) -> Table:
    """Two runs of `count` items: gathering what is compared, and comparing it."""
    rows: list[tuple[str, ...]] = []
    sides: list[RunOutcomes] = []
    for name, worse in (("a", False), ("b", True)):
        outcomes, taken = RunOutcomes(), 0.0
        for begin in range(0, count, 5000):
            some = list(items(name, begin, min(count, begin + 5000), worse=worse))
            began = time.perf_counter()
            for item in some:
                outcomes.add(item)
            taken += time.perf_counter() - began
        sides.append(outcomes)
        rows.append((f"gather {count:,} items of {name}", f"{taken:.2f}", f"{count / taken:,.0f}"))
    began = time.perf_counter()
    found = compare(*sides)
    taken = time.perf_counter() - began
    assert len(found.alignment.pairs) == count
    rows.append((f"compare 2 x {count:,}", f"{taken:.2f}", f"{count / taken:,.0f}"))
    note = f"What is kept of an item: {kept_of_an_item():.0f} bytes."
    return Table(title="Comparing two runs", heads=("", "seconds", "rows/s"), rows=rows, note=note)


def kept_of_an_item() -> float:
    some = list(items("a", 0, 5000, worse=False))
    tracemalloc.start()
    outcomes = RunOutcomes.of(some)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return kept / len(outcomes)


def grading(count: int) -> Table:
    """Rows per second of `grade_batches`, by criterion."""
    rows: list[tuple[str, ...]] = []
    texts = {"input": "{{ sample.output_text }}", "reference": "{{ item.expected }}"}
    made = [
        {
            "eval_id": EVAL,
            "run_id": RUN,
            "item_id": str(number),
            "item": json.dumps({"expected": ANSWER.format(number=number % 7)}),
            "sample": json.dumps(item_of(RUN, number)["sample"]),
        }
        for number in range(count)
    ]
    batches = [batch_of(made[begin : begin + 1000], ROW_COLUMNS) for begin in range(0, count, 1000)]
    for name, criterion in CHECKS.items():
        whole = {**criterion, **texts, "name": name}
        sum(batch.num_rows for batch in grade_batches(batches[:1], {EVAL: [whole]}))  # imports its library
        began = time.perf_counter()
        graded = sum(batch.num_rows for batch in grade_batches(batches, {EVAL: [whole]}))
        taken = time.perf_counter() - began
        assert graded == count
        rows.append((name, f"{count / taken:,.0f}"))
    return Table(title=f"Grading {count:,} rows again", heads=("criterion", "rows/s"), rows=rows)


def tables(*, short: bool) -> dict[str, Callable[[], Table]]:
    """Every case, by a name that `--only` may choose."""
    return {
        "reports page": partial(pages, 2_000 if short else 100_000),
        "reports compare": partial(comparing, 5_000 if short else 100_000),
        "reports regrade": partial(grading, 1_000 if short else 20_000),
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for name, case in tables(short=options.short).items():
        if options.only in name:
            table = case()
            print(f"\n{table.title}\n{' | '.join(table.heads)}")
            for row in table.rows:
                print(" | ".join(row))
            if table.note:
                print(table.note)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        main()

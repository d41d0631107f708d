"""A whole export, against the script that people write: a loop over the official client, one request after the other.

    python tests/benchmarks/bench_archive.py                          20 runs of 100 items
    python tests/benchmarks/bench_archive.py --runs 200 --items 500   the real thing
    python tests/benchmarks/bench_archive.py --latency 0.05           a server that is 50 ms away

Both copy the same tree from one local server in a process of its own, in one run of this program, in turns: evals,
runs, output items, files with contents. The loop asks for pages of 100, turns each object into a dict and writes JSON
Lines; ours writes the archive with a commit for every page, and can prove it. Times are printed and not asserted; that
both have the same objects is asserted.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

from evals_async import EvalsClient
from evals_async._clock import SystemClock
from evals_async.archive import Archive
from evals_async.server import Fault, FaultPlan, LocalServer, sample_tree


Counts = dict[str, int]


def serve(pipe: Connection, runs: int, items: int, latency: float) -> None:
    """A server with the tree, until the pipe is closed."""

    async def run() -> None:
        plan = FaultPlan(Fault(delay=latency, times=None)) if latency else FaultPlan()
        async with LocalServer(faults=plan, clock=SystemClock(), remembered=0) as server:
            await server.seed(**sample_tree(runs, items=items))
            pipe.send(server.base_url)
            await asyncio.to_thread(pipe.poll, None)

    asyncio.run(run())


async def official(base_url: str, directory: Path) -> Counts:
    """The loop: everything in sequence, as lines of JSON."""
    counts: Counts = {"evals": 0, "runs": 0, "output_items": 0, "files": 0}

    def write(kind: str, value: object) -> None:
        counts[kind] += 1
        out[kind].write(json.dumps(value) + "\n")

    out = {kind: (directory / f"{kind}.jsonl").open("w") for kind in counts}
    async with openai.AsyncOpenAI(base_url=base_url, api_key="k") as client:
        async for evaluation in client.evals.list(limit=100):
            write("evals", evaluation.to_dict(warnings=False))
            async for run in client.evals.runs.list(evaluation.id, limit=100):
                write("runs", run.to_dict(warnings=False))
                async for item in client.evals.runs.output_items.list(run.id, eval_id=evaluation.id, limit=100):
                    write("output_items", item.to_dict(warnings=False))
        async for file in client.files.list(purpose="evals"):
            write("files", file.to_dict(warnings=False))
            (directory / file.id).write_bytes((await client.files.content(file.id)).content)
    for lines in out.values():
        lines.close()
    return counts


async def ours(base_url: str, directory: Path) -> Counts:
    """An export into an archive, with a durable commit for every page."""
    async with EvalsClient(base_url=base_url, api_key="k") as client, Archive.open(directory / "evals.db") as archive:
        report = await archive.export(client)
    assert report.complete
    return dict(report.counts)


async def again(base_url: str, directory: Path) -> Counts:
    """The same export once more, when nothing is new."""
    return await ours(base_url, directory)


async def proof(base_url: str, directory: Path) -> Counts:
    """Hashing everything, and comparing all of it with the server."""
    async with EvalsClient(base_url=base_url, api_key="k") as client, Archive.open(directory / "evals.db") as archive:
        report = await archive.verify(client)
    assert report.complete
    return {kind: report.compared[kind] for kind in ("evals", "runs", "output_items", "files")}


Way = Callable[[str, Path], Coroutine[Any, Any, Counts]]


def measure(way: Way, base_url: str, directory: Path) -> tuple[float, Counts]:
    began = time.perf_counter()
    counts = asyncio.run(way(base_url, directory))
    return time.perf_counter() - began, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer takes longer")
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, chosen.runs, chosen.items, chosen.latency), daemon=True)
    server.start()
    base_url = here.recv()
    ways: list[tuple[str, Way]] = [
        ("a loop over openai", official),
        ("evals_async", ours),
        ("evals_async, once more", again),
        ("evals_async, verify all", proof),
    ]
    times: dict[str, list[float]] = {name: [] for name, _ in ways}
    found: list[Counts] = []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as directory:
            found = []
            for name, way in ways:
                seconds, counts = measure(way, base_url, Path(directory))
                times[name].append(seconds)
                found.append(counts)
            assert all(counts == found[0] for counts in found)
    here.send(None)
    server.join(10)
    print(f"{found[0]}, {chosen.latency * 1000:.0f} ms away, best and median of {chosen.rounds}")
    base = min(times["a loop over openai"])
    for name, measured in times.items():
        best, middle = min(measured), statistics.median(measured)
        print(f"{name:26} {best:8.2f} s {middle:8.2f} s   {base / best:6.1f} times as fast")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

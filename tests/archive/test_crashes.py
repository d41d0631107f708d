"""Exports that are killed at every point: X01, X02, X03, X14. Nothing is lost or wrong, and the tests have teeth."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from reference_server import SAME, ReferenceServer, Tree, difference, tree
from waiting import until


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

CRASHER = Path(__file__).parents[1] / "crasher.py"
POINTS = 60  # crash points that an export is sure to reach, even after two deaths


@attrs.frozen
class Sweep:
    """What a series of killed exports came to."""

    kills: int
    problems: tuple[str, ...]
    requests: int
    pages: int


def reached(server: ReferenceServer, pages: int) -> Callable[[], bool]:
    return lambda: server.pages >= pages


async def sweep(
    directory: Path,
    plans: Sequence[dict[str, Any]],
    *,
    exporter: str = "right",
    reference: Tree | None = None,
    **behaviour: Any,
) -> Sweep:
    """Export the tree once for each plan, dying as it says, and compare each end with the reference."""
    reference = reference or tree(evals=2, runs=3, items=16)
    async with ReferenceServer(reference, **behaviour) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(CRASHER), server.base_url, exporter),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Its own directory may be forbidden, so that the installed package is tested.
            env={**os.environ, "PYTHONPATH": str(CRASHER.parent)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        kills, pages, problems = 0, 0, list[str]()
        for number, plan in enumerate(plans):
            server.asked.clear()
            before = server.requests
            path = directory / f"{number}.db"
            deaths = list[int](plan.get("pages", ()))
            order = {"path": str(path), "killed": len(deaths), **plan}
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
            while "child" in (result := json.loads(await process.stdout.readline())):
                end = server.pages + deaths.pop(0)
                await until(reached(server, end), pause=0.001)
                os.kill(result["child"], signal.SIGKILL)
            kills += result["kills"]
            found = difference(path, reference)
            if (result["code"], result["integrity"], found) != (0, ["ok"], SAME):
                problems.append(f"{plan}: {result}, {found}"[:300])
            needed = server.requests - before
            pages = pages or needed  # the first plan has no death in it
            # Of the pages that were on their way when it died, one for each worker, all are asked for again.
            if needed > pages + plan.get("concurrency", 4) * result["kills"] and not behaviour:
                problems.append(f"{plan}: {needed} requests")
        process.stdin.close()
        assert 0 == await process.wait()
        return Sweep(kills, tuple(problems), server.requests, pages)


WHOLE: dict[str, Any] = {}


async def test_dies_at_every_point(tmp_path: Path) -> None:
    """X01: an export that dies at any of its first 60 crash points is continued, and ends with what the server
    has, with no more requests than pages and crashes.
    """
    result = await sweep(tmp_path, [WHOLE, *({"crashes": [n], "concurrency": 1} for n in range(1, 61))])
    assert () == result.problems
    assert result.kills == 60


def random_points(seed: int, plans: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    return [{"crashes": [dice.randint(1, POINTS) for _ in range(3)]} for _ in range(plans)]


async def test_dies_three_times_anywhere(tmp_path: Path) -> None:
    """X01: three deaths in one export, anywhere, under a server that fails every twelfth request."""
    result = await sweep(tmp_path, random_points(1, 10), faults=0.08)
    assert () == result.problems
    assert result.kills >= 27


async def test_killed_from_outside_twenty_times(tmp_path: Path) -> None:
    """X03: one export killed from outside at twenty random moments: still the same as the server, byte for byte."""
    dice = random.Random(2)
    deaths = {"pages": [dice.randint(1, 60) for _ in range(20)]}  # how many pages it gets before each
    result = await sweep(tmp_path, [WHOLE, deaths], reference=tree(evals=3, runs=10, items=60), page=2)
    assert () == result.problems
    assert result.kills == 20


@pytest.mark.slow
async def test_dies_and_is_killed_many_times(tmp_path: Path) -> None:
    """X01, X03: sixty exports with three deaths each, and fifty that are killed from outside."""
    dice = random.Random(3)
    plans = [{"pages": [dice.randint(1, 10)]} for _ in range(50)]
    result = await sweep(tmp_path, [*random_points(4, 60), *plans], faults=0.08)
    assert () == result.problems
    assert result.kills >= 160


@pytest.mark.parametrize(
    ("exporter", "behaviour"),
    [("cursor_first", {}), ("no_transaction", {}), ("stop_on_empty", {"mode": "empty"})],
)
async def test_broken_exporters_are_caught(tmp_path: Path, exporter: str, behaviour: dict[str, Any]) -> None:
    """X02: an exporter that writes the cursor first, one without transactions, and one that ends at an empty page fail
    the test that the right one passes.
    """
    plans = [{"crashes": [n]} for n in range(6, 70, 12)]
    assert () == (await sweep(tmp_path, plans, **behaviour)).problems
    (tmp_path / exporter).mkdir()
    caught = await sweep(tmp_path / exporter, plans, exporter=exporter, **behaviour)
    assert len(caught.problems) >= 2

"""Thousands of runs at once: none lost, in order, in flat memory, on few connections, with a loop that stays awake.

What is measured runs in a process of its own, and so does the server.
"""

import ast
import asyncio
import inspect
import json
import sys
from pathlib import Path

import fetch_all
import pytest
from fetch_all import WARM_UP, Fetched
from large_server import LargeServer
from waiting import SLOWER

from evals_async.server import Fault


PROGRAM = Path(fetch_all.__file__)
LONGEST_STALL = 0.2  # seconds
TRIES = 3  # of a measurement of time, on a machine that others use too: one good one is enough


async def run_program(how: str, crowd: LargeServer, count: int, gone_every: int, passes: int) -> list[Fetched]:
    words = (how, crowd.base_url, str(count), str(gone_every), str(passes))
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(PROGRAM), *words), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await program.communicate()
    assert program.returncode == 0
    return [Fetched(**each) for each in json.loads(out)]


async def test_five_thousand_on_a_bad_day(crowd: LargeServer) -> None:
    """One id in a hundred fails, and one request in ten is delayed: 5,000 results, complete and in order, in little
    more memory than the results themselves need (13 MB).
    """
    crowd.plan(Fault(delay=0.05, every=10, times=None))
    before, fetched = await run_program("collect", crowd, 5000, gone_every=100, passes=1)
    assert fetched.right == 5000
    assert fetched.peak - before.peak < 18
    assert crowd.seen().requests == WARM_UP + 5000


def test_it_takes_three_lines() -> None:
    """The code that fetched them is a function's signature and two lines: no loop, no semaphore, no task."""
    (function,) = ast.parse(inspect.getsource(fetch_all.fetch)).body
    assert isinstance(function, ast.AsyncFunctionDef)
    assert len(ast.unparse(function).splitlines()) == 3


@pytest.mark.measures_time
async def test_ten_thousand(crowd: LargeServer) -> None:
    """None is lost, all are in order, the loop is never away for 200 ms, the server sees 32 connections, and 100 MB are
    enough for all of them.
    """
    stalls: list[float] = []
    while not stalls or (min(stalls) >= LONGEST_STALL and len(stalls) < TRIES):
        crowd.plan()
        before, fetched = await run_program("collect", crowd, 10_000, gone_every=0, passes=1)
        assert fetched.right == 10_000
        assert fetched.peak - before.peak < 100
        seen = crowd.seen()
        assert seen.requests == WARM_UP + 10_000
        assert seen.connections <= 2 * 32  # of two clients, one after the other
        assert seen.most_at_once <= 32
        stalls.append(fetched.stall)
    assert min(stalls) < SLOWER * LONGEST_STALL


async def test_a_stream_of_thousands_is_flat(crowd: LargeServer) -> None:
    """Streamed, 3,000 runs need hardly more memory than 200, and 3,000 more need none; kept, they would take 16 MB."""
    before, fetched, again = await run_program("stream", crowd, 3000, gone_every=100, passes=2)
    assert fetched.right == again.right == 3000
    assert fetched.peak - before.peak < 5
    assert again.peak - fetched.peak < 1

"""What a single 429 costs, wherever it comes: its delay, and not the rate of what follows.

In virtual time over real sockets: what counts is how long somebody waits, not how fast the machine is. The last tests
measure the machine.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from commandline import KEY, ended, start
from doubles import ScaledClock, loop_time
from waiting import SLOWER

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.server import Fault, LocalServer, sample_tree


LATENCY = 0.02
MIDDLE = 150  # of the 310 requests of an export of the sample
DELAYS: list[tuple[Mapping[str, str], float]] = [
    ({"retry-after": "1"}, 1.0),
    ({"retry-after-ms": "5"}, 0.005),
    ({}, 0.3),
]


async def with_latency(position: int | None, headers: Mapping[str, str]) -> LocalServer:
    """The sample on a server that takes a while for each request, and refuses the one at the position."""
    server = LocalServer(clock=ScaledClock(1.0))
    if position is not None:
        server.faults.add(Fault(status=429, headers=headers, skip=position))
    server.faults.add(Fault(delay=LATENCY, times=None))
    return server


async def exported(file: Path, position: int | None, headers: Mapping[str, str]) -> float:
    """The seconds that an export of the sample waits."""
    async with await with_latency(position, headers) as server:
        await server.seed(**sample_tree())
        clock = ScaledClock(1.0)
        client = EvalsClient(base_url=server.base_url, api_key=KEY, clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            began = loop_time()
            report = await archive.export(client)
            seconds = loop_time() - began
        assert (0, 300) == (report.exit_code, report.counts["runs"])
        assert (position is not None) == client.statistics().throttles
    return seconds


@pytest.mark.virtual_time
@pytest.mark.parametrize(("headers", "delay"), DELAYS)
async def test_an_export_with_a_single_429_costs_its_delay(
    tmp_path: Path, headers: Mapping[str, str], delay: float
) -> None:
    """On the first request or in the middle: under 3 s, and half a second above the delay and an undisturbed export."""
    undisturbed = await exported(tmp_path / "undisturbed.db", None, {})
    for position in (0, 1, MIDDLE):
        seconds = await exported(tmp_path / f"{position}.db", position, headers)
        assert seconds < 3
        assert seconds <= 1.25 * delay + 1.2 * undisturbed + 0.5


@pytest.mark.virtual_time
async def test_what_users_write_in_their_tests_takes_no_time() -> None:
    """The example of the guide on testing: a 429 with `retry-after-ms: 5`, for one call and for 600 runs."""
    async with LocalServer(clock=ScaledClock(1.0)) as server:
        await server.seed(**sample_tree(runs=600, items=0))
        server.faults.add(Fault(status=429, headers={"retry-after-ms": "5"}))
        async with EvalsClient(base_url=server.base_url, api_key=KEY, clock=ScaledClock(1.0)) as client:
            began = loop_time()
            evals = [each async for each in client.evals.list()]
            runs = [run for each in evals async for run in client.evals.runs.list(each.id, limit=100)]
            server.faults.add(Fault(status=429, headers={"retry-after-ms": "5"}))
            for each in evals:
                ids = [run.id for run in runs if run.eval_id == each.id]
                await client.evals.runs.retrieve_many(ids, eval_id=each.id)
            assert 600 == len(runs)
            assert 2 == client.statistics().throttles
            assert loop_time() - began < 0.5


@pytest.mark.measures_time
@pytest.mark.parametrize("position", [0, MIDDLE])
async def test_the_command_with_a_single_429(tmp_path: Path, position: int) -> None:
    """`evals-async export` of the sample takes under 3 s on a machine that is not busy, wherever the 429 comes."""
    async with LocalServer() as server:
        await server.seed(**sample_tree())
        server.faults.add(Fault(status=429, headers={"retry-after": "1"}, skip=position))
        began = time.monotonic()
        process = await start(
            "--base-url", server.base_url, "export", "--to", str(tmp_path / "evals.db"), OPENAI_API_KEY=KEY
        )
        command = await ended(process)
        seconds = time.monotonic() - began
        assert 429 in [request.status for request in server.requests]
    assert 0 == command.code, command.err
    assert seconds < SLOWER * 3


@pytest.mark.measures_time
async def test_the_users_test_takes_under_a_second() -> None:
    """With the machine's clock: a call whose first request is refused for 5 ms."""
    async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        server.faults.add(Fault(status=429, headers={"retry-after-ms": "5"}))
        async with asyncio.timeout(SLOWER * 1):
            await client.evals.list()
        assert [429, 200] == [request.status for request in server.requests]

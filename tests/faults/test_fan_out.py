"""G8: a fan-out has workers, not a task for each id. Taken away, its row fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from faults.harness import RUN, with_faults
from transport.faultserver import Peer, message

from evals_async.resources import _many


IDS = [f"evalrun_{number:04}" for number in range(600)]
MOST = 200  # tasks at once: workers, requests and the server's ends of 32 connections


async def most_tasks() -> int:
    """Fetch all runs, and look how many tasks there are meanwhile."""
    most = 0

    async def play(peer: Peer) -> bool:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        found = {**RUN, "id": peer.seen.target.rsplit("/", 1)[1]}
        await peer.send(message(200, json.dumps(found).encode()))
        return True

    async with with_faults(play) as (server, client):
        found = await client.evals.runs.retrieve_many(IDS, eval_id="eval_1")
        assert IDS == [run.id for run in found]
        assert server.accepted <= 100
    return most


async def test_workers_instead_of_tasks() -> None:
    """L01: hundreds of ids need a few dozen tasks, whatever their number."""
    assert await most_tasks() < MOST


async def test_g8_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a task for each id, the row fails."""

    async def gather(fn: Callable[[Any], Awaitable[Any]], items: list[Any], **_: object) -> list[Any]:
        return await asyncio.gather(*(fn(item) for item in items))

    monkeypatch.setattr(_many, "gather_many", gather)
    assert await most_tasks() > len(IDS)

"""A local server with a small tree, a client for it, a server of 10,000 runs in another process; and a check that every
test leaves nothing behind.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from large_server import LargeServer

from evals_async import EvalsClient
from evals_async.server import LocalServer, SampleTree, sample_tree


MANY = 10_000


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Every test ends without tasks, and without a word of the event loop."""
    loop = asyncio.get_running_loop()
    said: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: said.append(context))
    before = asyncio.all_tasks()
    yield
    gc.collect(1)  # what the test itself made; a whole collection takes longer than most tests
    await asyncio.sleep(0)
    assert said == []
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


@pytest.fixture(scope="session")
def tree() -> SampleTree:
    return sample_tree(runs=40, items=3)


@pytest.fixture
async def server(nothing_left: None, tree: SampleTree) -> AsyncIterator[LocalServer]:
    async with LocalServer() as running:
        await running.seed(**tree)
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[EvalsClient]:
    async with EvalsClient(base_url=server.base_url, api_key="local") as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_crowd() -> Iterator[LargeServer]:
    with LargeServer(MANY) as running:
        yield running


@pytest.fixture
def crowd(shared_crowd: LargeServer) -> LargeServer:
    """The server of many runs, with a good day before it."""
    shared_crowd.plan()
    return shared_crowd

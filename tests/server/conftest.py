"""A local server on a clock that the tests move, and a plain client for it."""

from collections.abc import AsyncIterator

import pytest
from doubles import FakeClock
from plainhttp import PlainHttp

from evals_async.server import LocalServer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(clock: FakeClock) -> AsyncIterator[LocalServer]:
    async with LocalServer(clock=clock, queued_seconds=10, running_seconds=20) as running:
        yield running


@pytest.fixture
async def http(server: LocalServer) -> AsyncIterator[PlainHttp]:
    async with PlainHttp(server) as client:
        yield client

"""The pytest fixtures that ship with the package: `evals_server`, `evals_client`, `scripted_models`,
`evals_server_with_models`; and for synchronous tests `evals_server_in_thread` and `scripted_models_in_thread`.

pytest loads this module in every test run where the package is installed. So the package is imported only when a test
uses a fixture.

    async def test_names_the_run(evals_server, evals_client):
        await evals_server.seed(**sample_tree(runs=3))
        evals_server.faults.add(Fault(status=429))
        ...
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest


def async_fixture(function: Callable[..., AsyncIterator[Any]]) -> object:
    """Make an async fixture that works with pytest-asyncio, also in strict mode, and with other plugins such as
    anyio.
    """
    try:
        from pytest_asyncio import fixture
    except ImportError:
        return pytest.fixture(function)
    return fixture(function)


@async_fixture
async def evals_server() -> AsyncIterator[Any]:
    """A `LocalServer` with an empty store in memory, for one test. Clients connect to its `base_url`."""
    from evals_async.server import LocalServer

    async with LocalServer() as server:
        yield server


@pytest.fixture
def evals_server_in_thread() -> Iterator[Any]:
    """A `LocalServer` in its own thread, for one synchronous test, or one that blocks its event loop."""
    from evals_async.server import LocalServer

    with LocalServer.in_thread() as server:
        yield server


@async_fixture
async def evals_client(evals_server: Any) -> AsyncIterator[Any]:
    """An `EvalsClient` with the base URL of `evals_server`. It is closed after the test."""
    from evals_async.client import EvalsClient

    async with EvalsClient(base_url=evals_server.base_url, api_key="local") as client:
        yield client


@async_fixture
async def scripted_models() -> AsyncIterator[Any]:
    """A `ScriptedModels` endpoint without rules, for one test: `scripted_models.add(Rule(...))` adds a response."""
    from evals_async.inference import ScriptedModels

    async with ScriptedModels() as scripted:
        yield scripted


@async_fixture
async def evals_server_with_models(scripted_models: Any) -> AsyncIterator[Any]:
    """A `LocalServer` that executes runs with `scripted_models`, for one test."""
    from evals_async.server import LocalServer

    async with LocalServer(models=scripted_models.base_url) as server:
        yield server


@pytest.fixture
def scripted_models_in_thread() -> Iterator[Any]:
    """`scripted_models` in its own thread, for one synchronous test, or one that blocks its event loop."""
    from evals_async.inference import ScriptedModels

    with ScriptedModels.in_thread() as scripted:
        yield scripted

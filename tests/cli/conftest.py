"""A server with a sample, and an environment that names it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from commandline import KEY, Command, Ended
from hinting import every_hint_is_a_command

from evals_async.cli import main
from evals_async.server import LocalServer, SampleTree, sample_tree


__all__ = ["every_hint_is_a_command"]  # a fixture for all tests here


@pytest.fixture(scope="session")
def tree() -> SampleTree:
    """A dozen runs of four evals."""
    return sample_tree(12, items=3)


@pytest.fixture
async def server(tree: SampleTree) -> AsyncIterator[LocalServer]:
    """A server that holds the sample and wants a key."""
    async with LocalServer(api_key=KEY) as running:
        await running.seed(**tree)
        yield running


@pytest.fixture
def environment(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the server and its key."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def command(environment: None, capsys: pytest.CaptureFixture[str]) -> Command:
    """`await command("runs", "list", ...)`: a command that talks to the server, in a thread of this process."""

    async def run(*arguments: str) -> Ended:
        code = await asyncio.to_thread(main, list(arguments))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run

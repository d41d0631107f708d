"""What an import costs: which modules are loaded by the package, by the client, and by its first request."""

import subprocess
import sys

import pytest


HEAVY = ("aiohttp", "attrs", "cattrs", "tenacity", "msgspec", "asyncio", "sqlite3", "click", "rich")


def modules_after(program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    command = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def loaded_by(program: str) -> set[str]:
    """The top-level modules that a program has loaded at its end."""
    return {name.split(".")[0] for name in modules_after(program)}


def test_the_package_loads_nothing() -> None:
    """`import evals_async` loads no dependency, and not even asyncio."""
    loaded = loaded_by("import evals_async")
    assert "evals_async" in loaded
    assert set() == loaded & {*HEAVY, "attr"}


def test_names_are_loaded_when_they_are_used() -> None:
    """The errors need attrs and nothing else; the list of names needs nothing at all."""
    assert set() == loaded_by("import evals_async; evals_async.__all__; dir(evals_async)") & {*HEAVY, "attr"}
    assert {"attrs"} == loaded_by("from evals_async import NotFound") & set(HEAVY)


@pytest.mark.parametrize(
    "program",
    [
        "import evals_async.client",
        "from evals_async import EvalsClient; EvalsClient(api_key='sk-none').with_options(timeout=3)",
        "from evals_async import *",
        "import evals_async.models, evals_async.webhooks, evals_async._codec",
    ],
)
def test_clients_are_made_without_the_network_libraries(program: str) -> None:
    """A client is imported and made without aiohttp, cattrs and tenacity; servers and command lines are not loaded."""
    loaded = loaded_by(program)
    assert {"attrs", "msgspec"} <= loaded
    assert set() == loaded & {"aiohttp", "cattrs", "tenacity", "sqlite3", "click", "rich", "openai"}


REQUEST = """
import asyncio, sys
from evals_async import ConnectFailed, EvalsClient

async def main():
    client = EvalsClient(api_key="sk-none", base_url="http://127.0.0.1:1", max_retries={retries})
    try:
        await client.evals.retrieve("e")
    except ConnectFailed:
        pass
    await client.close()

asyncio.run(main())
"""


def test_resources_and_models_are_loaded_when_they_are_used() -> None:
    """A program that only reads runs makes no classes of graders, output items and files."""
    made = "from evals_async import EvalsClient; client = EvalsClient(api_key='sk-none'); client.evals.runs.retrieve"
    unused = {"files", "graders", "evals", "output_items", "params", "events", "grader_runs"}
    not_loaded = {f"evals_async.models.{name}" for name in unused} | {"evals_async.resources.files"}
    assert set() == modules_after(made) & (not_loaded | {"evals_async.resources.graders", "evals_async.webhooks"})
    assert "evals_async.models.files" in modules_after(f"{made}; client.files.retrieve('f').close()")
    assert "evals_async.models.graders" in modules_after("from evals_async.models import Eval")


def test_the_first_request_loads_aiohttp() -> None:
    """aiohttp is loaded by the first request, and tenacity by the first that is sent again."""
    assert {"aiohttp"} == loaded_by(REQUEST.format(retries=0)) & {"aiohttp", "tenacity"}
    assert {"aiohttp", "tenacity"} == loaded_by(REQUEST.format(retries=1)) & {"aiohttp", "tenacity"}


PREPARED = """
import asyncio, sys
from evals_async import EvalsClient
from evals_async.server import Fault, LocalServer

async def main():
    async with LocalServer() as server:
        client = EvalsClient(api_key="sk-none", base_url=server.base_url)
        await client.{prepare}()
        server.faults.add(Fault(status=503))
        before = set(sys.modules)
        await client.evals.list()
        print(*[name for name in set(sys.modules) - before if not name.startswith("encodings")])
        await client.close()

asyncio.run(main())
"""


def loaded_by_a_retried_request(prepare: str) -> set[str]:
    child = subprocess.run(
        [sys.executable, "-c", PREPARED.format(prepare=prepare)], capture_output=True, text=True, check=True
    )
    return set(child.stdout.split())


def test_the_first_request_after_prepare_imports_nothing() -> None:
    """What it needs, and what its first retry needs, was loaded by `prepare`."""
    assert set() == loaded_by_a_retried_request("prepare")


def test_the_first_request_after_entering_imports_little() -> None:
    """`async with` loads the network library; the first retry loads tenacity."""
    loaded = {name.split(".")[0] for name in loaded_by_a_retried_request("__aenter__")}
    assert "tenacity" in loaded
    assert set() == loaded & {"aiohttp", "multidict", "yarl", "ssl", "asyncio"}


def test_models_are_asked_without_a_server() -> None:
    """Grading and inference load no network library before they ask, and nothing of the server or its store."""
    loaded = loaded_by("from evals_async.grading import grade; from evals_async.inference import Models")
    assert set() == loaded & {"aiohttp", "tenacity", "sqlite3", "click", "rich", "nltk", "rapidfuzz"}

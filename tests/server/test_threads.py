"""A server in a thread of its own, used as synchronous programs use it."""

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest
from executing import sampling
from plainhttp import EXACT, eval_request
from waiting import LONGEST

from evals_async.errors import ArchiveError, ConfigurationError
from evals_async.inference import Rule, ScriptedModels
from evals_async.server import Fault, LocalServer, ServerThread


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=LONGEST) as response:  # loopback
        return json.load(response)


def test_a_synchronous_program_is_answered() -> None:
    """Seed, read, make something go wrong, look at what arrived: without an event loop."""
    with LocalServer.in_thread() as server:
        server.seed(evals=[{"id": "eval_1", "object": "eval", "created_at": 1, "name": "Mine"}])
        assert fetch(f"{server.base_url}/evals/eval_1")["name"] == "Mine"
        server.faults.add(Fault(status=503))
        with pytest.raises(urllib.error.HTTPError, match="503"):
            fetch(f"{server.base_url}/evals")
        assert [(seen.path, seen.status) for seen in server.requests] == [("/v1/evals/eval_1", 200), ("/v1/evals", 503)]
        assert server.request_count == 2


async def test_it_answers_while_the_loop_is_blocked() -> None:
    """The synchronous official client inside a coroutine blocks that loop, and the server answers all the same."""
    with LocalServer.in_thread(api_key="local") as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="local", timeout=5, max_retries=0)
        made = client.evals.create(data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=[])
        assert [entry.id for entry in client.evals.list()] == [made.id]


def test_a_synchronous_program_has_its_evals_carried_out() -> None:
    """Server and models live in threads of their own: the synchronous official client creates, polls and reads."""
    with (
        ScriptedModels.in_thread(Rule(text="a")) as models,
        LocalServer.in_thread(models=models.base_url) as server,
        openai.OpenAI(base_url=server.base_url, api_key="local", timeout=5) as client,
    ):
        request: Any = eval_request(EXACT)
        made = client.evals.create(**request)
        source: Any = sampling("a", "b")
        run: Any = client.evals.runs.create(made.id, data_source=source)
        for _ in range(2000):
            if run.status not in ("queued", "in_progress"):
                break
            run = client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (run.status, run.result_counts.passed, run.result_counts.failed) == ("completed", 1, 1)


def test_it_ends_with_the_block(tmp_path: Path) -> None:
    """After the block the thread is gone, the port is free, and the store is whole; closing again is harmless."""
    path = tmp_path / "store.db"
    with LocalServer.in_thread(path) as server:
        server.seed(evals=[{"id": "eval_1", "created_at": 1}])
        port = server.port
    server.close()
    assert "evals-server" not in [thread.name for thread in threading.enumerate()]
    with socket.create_server(("127.0.0.1", port)):
        pass
    with pytest.raises(RuntimeError, match="not running"):
        print(server.base_url)
    with LocalServer.in_thread(path) as again:
        assert fetch(f"{again.base_url}/evals/eval_1")["id"] == "eval_1"


def test_what_goes_wrong_at_the_start_is_told_to_the_caller(tmp_path: Path) -> None:
    """A file that is no store, an option that does not exist, a second start: errors where they were made."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be looked at")
    server = LocalServer.in_thread(path)
    with pytest.raises(ArchiveError):
        server.start()
    assert repr(server) == "ServerThread(not running)"
    with pytest.raises(TypeError, match="colour"):
        LocalServer.in_thread(colour="red")
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number from 1"):
        LocalServer(concurrency=0)
    with pytest.raises(ConfigurationError, match="a read-only server cannot execute runs"):
        LocalServer(read_only=True, models="http://127.0.0.1:1/v1")
    with pytest.raises(ConfigurationError, match="pass models too"):
        LocalServer(record=True)
    broken = LocalServer.in_thread(models=str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        broken.start()
    with LocalServer.in_thread() as running, pytest.raises(RuntimeError, match="is already running"):
        running.start()


def test_only_what_users_need_is_public() -> None:
    """`dir` of a server, and of a server in a thread, shows what is documented, and nothing else."""
    shared = {"base_url", "close", "faults", "port", "request_count", "requests", "seed", "start"}
    assert {name for name in dir(LocalServer()) if not name.startswith("_")} == shared | {"in_thread"}
    assert {name for name in dir(ServerThread) if not name.startswith("_")} == shared

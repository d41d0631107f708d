"""The two web backends of the documentation, on real sockets: browser, backend, and the service behind it."""

import asyncio
import importlib.util
import json
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import attrs
import pytest
import uvicorn
from aiohttp import web
from large_server import LargeServer, key_of
from waiting import until

from evals_async.server import Fault


EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def fastapi_backend(module: ModuleType) -> AsyncGenerator[str, None]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(module.app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@asynccontextmanager
async def aiohttp_backend(module: ModuleType) -> AsyncGenerator[str, None]:
    runner = web.AppRunner(module.application(), handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


BACKENDS = {"fastapi_backend": fastapi_backend, "aiohttp_backend": aiohttp_backend}


@attrs.frozen
class Backend:
    """A running backend: where it is, and the module that it is made of."""

    url: str
    module: ModuleType


@pytest.fixture(params=BACKENDS)
async def backend(
    request: pytest.FixtureRequest, nothing_left: None, crowd: LargeServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Backend]:
    monkeypatch.setenv("OPENAI_BASE_URL", crowd.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-backend")
    module = program(request.param)
    async with BACKENDS[request.param](module) as url:
        yield Backend(url, module)


@pytest.fixture
async def browser(nothing_left: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def runs_of_one_eval(count: int) -> list[str]:
    return [key_of(4 * number)[1] for number in range(count)]


def stream(browser: aiohttp.ClientSession, backend: Backend, run_ids: list[str]) -> Any:
    return browser.post(f"{backend.url}/evals/eval_0/runs", json={"ids": run_ids})


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """The events as an EventSource has them: name and data."""
    name = ""
    async for raw in answer.content:
        field, _, value = raw.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def test_one_run(backend: Backend, browser: aiohttp.ClientSession) -> None:
    """A run is shown; one that is not there is a 404 of the backend's own."""
    async with browser.get(f"{backend.url}/evals/eval_0/runs/evalrun_00000") as answer:
        assert answer.status == 200
        expected = {"id": "evalrun_00000", "name": "Run 0", "status": "completed", "pass_rate": 0.75}
        assert await answer.json() == expected
    async with browser.get(f"{backend.url}/evals/eval_0/runs/evalrun_gone") as answer:
        assert answer.status == 404
        assert "evalrun_gone" in (await answer.json())["error"]


async def test_a_hundred_browsers_are_one_request(
    crowd: LargeServer, backend: Backend, browser: aiohttp.ClientSession
) -> None:
    """All ask for the same run, at the same time and later: the service is asked once."""

    async def ask(_: int) -> int:
        async with browser.get(f"{backend.url}/evals/eval_0/runs/evalrun_00000") as answer:
            return answer.status

    assert await asyncio.gather(*map(ask, range(100))) == [200] * 100
    assert await ask(0) == 200
    assert crowd.seen().requests == 1


async def test_the_time_of_a_request_ends(
    crowd: LargeServer, backend: Backend, browser: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not answer is a 504 when the backend's time limit is over, and is asked no longer."""
    crowd.plan(Fault(delay=60))
    monkeypatch.setattr(backend.module, "LONGEST_WAIT", 0.1)
    async with browser.get(f"{backend.url}/evals/eval_0/runs/evalrun_00000") as answer:
        assert (504, "the service did not answer in time") == (answer.status, (await answer.json())["error"])
    await until(lambda: crowd.seen().under_way == 0)


async def test_runs_and_progress_are_streamed(backend: Backend, browser: aiohttp.ClientSession) -> None:
    """Each run is an event, a failure too, with the progress after it; the last says that all are done."""
    run_ids = [*runs_of_one_eval(50), "evalrun_gone"]
    names: list[str] = []
    shown: dict[str, Any] = {}
    progress: list[dict[str, int]] = []
    async with stream(browser, backend, run_ids) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for name, data in events(answer):
            names.append(name)
            if name == "run":
                shown[data["id"]] = data
            elif name == "progress":
                progress.append(data)
    assert names[: 2 * 51] == ["run", "progress"] * 51
    assert sorted(shown) == sorted(run_ids)
    assert "error" in shown["evalrun_gone"]
    assert progress[-1] == {"started": 51, "done": 51, "failed": 1, "total": 51}
    done = [each["done"] for each in progress]
    assert done == sorted(done)


async def test_a_browser_that_leaves_ends_the_work(
    crowd: LargeServer, backend: Backend, browser: aiohttp.ClientSession
) -> None:
    """It is gone in the middle of the stream, while the service is silent: no request stays under way, none follows."""
    crowd.plan(Fault(delay=60, skip=5, times=None))
    async with stream(browser, backend, runs_of_one_eval(300)) as answer:
        got = 0
        async for name, _ in events(answer):
            got += name == "run"
            if got == 5:
                break
        await until(lambda: crowd.seen().under_way == 32)
        answer.close()
    await until(lambda: crowd.seen().under_way == 0)
    assert crowd.seen().requests == 0


async def test_a_browser_that_leaves_in_a_hurry(
    crowd: LargeServer, backend: Backend, browser: aiohttp.ClientSession
) -> None:
    """It is gone while runs come in as fast as they can: the backend is well, and answers the next one."""
    for _ in range(5):
        async with stream(browser, backend, runs_of_one_eval(300)) as answer:
            async for _ in events(answer):
                break
            answer.close()
    await until(lambda: crowd.seen().under_way == 0)
    await test_one_run(backend, browser)


async def test_two_browsers_at_once(crowd: LargeServer, backend: Backend, browser: aiohttp.ClientSession) -> None:
    """Both stream the same runs; one leaves in the middle. The other gets every run once, and they share requests."""
    run_ids = runs_of_one_eval(300)
    crowd.plan(Fault(delay=0.02, every=5, times=None))

    async def watch(enough: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        async with stream(browser, backend, run_ids) as answer:
            async for name, data in events(answer):
                if name == "run":
                    seen[data["id"]] += 1
                if seen.total() == enough:
                    answer.close()
                    break
        return seen

    stays, leaves = await asyncio.gather(watch(301), watch(100))
    assert stays == Counter(run_ids)
    assert stays == Counter(run_ids)
    assert leaves.total() == 100
    await until(lambda: crowd.seen().under_way == 0)

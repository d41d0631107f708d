"""The programs of the guide on many workers, as in production: uvicorn, gunicorn and Celery, two workers each."""

import asyncio
import importlib
import importlib.util
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from shared.conftest import LimitedServer
from waiting import LONGEST


PROGRAMS = Path(__file__).parents[2] / "docs" / "examples" / "workers"
CALLS = 300
WITH_REFUSED = 1.5  # requests a call; with two web servers on a busy machine, Redis is often late
UVICORN = ("uvicorn", "web:app", "--workers", "2", "--host", "127.0.0.1", "--port", "{port}")
GUNICORN = ("gunicorn", "--worker-class", "asgi", "--workers", "2", "--bind", "127.0.0.1:{port}", "web:app")


@asynccontextmanager
async def program(*words: str, **variables: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A program of the guide as a process group, which is ended as an operator would end it."""
    if importlib.util.find_spec(words[0]) is None:
        pytest.skip(f"not installed: {words[0]}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        cwd=PROGRAMS,
        env={**os.environ, "OPENAI_API_KEY": "sk-worker", "QUOTA": uuid.uuid4().hex, **variables},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LONGEST):
            told = (await reading).decode()
            await process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        print((await reading).decode())
        await process.wait()
        raise
    assert "Traceback" not in told, told
    assert "Unclosed" not in told, told


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        assert 200 == response.status, await response.text()
        found: dict[str, Any] = await response.json()
        return found


@pytest.mark.measures_time
@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn and process groups are of Unix")
@pytest.mark.parametrize("words", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])
async def test_web_workers_share_a_quota_and_a_cache(
    words: tuple[str, ...], limited: tuple[LimitedServer, str], redis_url: str
) -> None:
    """Two workers: every run arrives, few requests are refused, and one returns what the other has fetched."""
    server, url = limited
    port, run = free_port(), uuid.uuid4().hex
    urls = [f"http://127.0.0.1:{port}/evals/eval_1/runs/{run}-{number}" for number in range(CALLS)]
    command = [word.format(port=port) for word in words]
    # A connection of its own for each call: the workers take them in turns.
    connector = aiohttp.TCPConnector(limit=50, force_close=True)
    async with (
        program(*command, REDIS_URL=redis_url, OPENAI_BASE_URL=url),
        asyncio.timeout(LONGEST),
        aiohttp.ClientSession(connector=connector) as session,
    ):
        await answering(session, urls[0])
        found = await asyncio.gather(*(get(session, each) for each in urls))
        granted, sent, excusable = server.granted, len(server.seen), server.excusable
        await from_the_cache(session, server, urls[0])
    assert ["completed"] * CALLS == [each["status"] for each in found]
    assert 2 == len({each["worker"] for each in found})
    assert CALLS <= granted <= CALLS + 1  # the first one is asked for twice, and kept by the cache if Redis is in time
    assert sent <= WITH_REFUSED * CALLS + excusable


async def from_the_cache(session: aiohttp.ClientSession, server: LimitedServer, url: str) -> None:
    """Wait until one worker returns a run that only the other one has fetched. On a busy machine Redis may be late."""
    number = 0
    while True:
        number += 1
        first = await get(session, f"{url}-{number}")
        sent, second = len(server.seen), first
        while first["worker"] == second["worker"]:
            second = await get(session, f"{url}-{number}")
        if sent == len(server.seen):
            return


async def answering(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until the application answers."""
    while True:
        try:
            await get(session, url)
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
        else:
            return


@pytest.mark.measures_time
@pytest.mark.skipif(sys.platform == "win32", reason="Celery does not fork there")
async def test_celery_workers_share_a_quota(limited: tuple[LimitedServer, str], redis_url: str) -> None:
    """Single tasks, and a task for many runs: each comes back, from both processes, within the one quota."""
    if importlib.util.find_spec("celery") is None:
        pytest.skip("not installed: celery")
    server, url = limited
    queue = uuid.uuid4().hex
    words = ("celery", "-A", "tasks", "worker", "--concurrency", "2", "--queues", queue, "--loglevel", "error")
    async with program(*words, REDIS_URL=redis_url, OPENAI_BASE_URL=url), asyncio.timeout(LONGEST):
        single, many = await asyncio.to_thread(delegated, redis_url, queue)
    assert ["completed"] * 100 == [each["status"] for each in single]
    assert 2 == len({each["worker"] for each in single})
    assert ["completed"] * 200 == many
    assert CALLS == server.granted
    assert len(server.seen) <= WITH_REFUSED * CALLS + server.excusable


def delegated(redis_url: str, queue: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What two kinds of tasks returned, asked for as an application does it."""
    celery: Any = importlib.import_module("celery")  # it has no types
    app = celery.Celery("application", broker=redis_url, backend=redis_url)
    run = uuid.uuid4().hex
    one = [app.signature("tasks.status_of", ("eval_1", f"{run}-{number}"), queue=queue) for number in range(100)]
    single = celery.group(one, app=app).apply_async().get(timeout=LONGEST)
    ids = [f"{run}-many-{number}" for number in range(200)]
    many = app.send_task("tasks.statuses_of", ("eval_1", ids), queue=queue).get(timeout=LONGEST)
    return single, many

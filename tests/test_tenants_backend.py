"""The application of the guide on many tenants, under load: fifty tenants, of which one is throttled."""

import asyncio
import importlib.util
import json
import logging
import math
import sys
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from aiohttp import web
from doubles import ScaledClock, caller_of

from evals_async import NO_KEY, EvalsClient, LRUCache
from evals_async.server import Fault, LocalServer


PROGRAM = Path(__file__).parent.parent / "docs" / "examples" / "tenants_backend.py"
KEYS = [f"sk-tenant-{number:03}-recognisable" for number in range(50)]
THROTTLED = KEYS[7]
LATENCY = 0.02
EACH = 20  # requests of a tenant


@pytest.fixture(scope="module")
def program() -> ModuleType:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    spec = importlib.util.spec_from_file_location("tenants_backend", PROGRAM)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@attrs.define
class Service:
    """Gives each key its own evals. The throttled one is refused, and told to wait for so many seconds."""

    retry_after: float | None
    seen: list[str] = attrs.Factory(list[str])
    base_url: str = ""

    async def respond(self, request: web.Request) -> web.Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append(key)
        await asyncio.sleep(LATENCY)
        if key == THROTTLED and self.retry_after is not None:
            error = {"error": {"message": f"too many requests of {key}", "code": "rate_limit_exceeded"}}
            return web.json_response(error, status=429, headers={"Retry-After": f"{self.retry_after:g}"})
        found = {"object": "eval", "id": f"eval_of_{KEYS.index(key):03}"}
        return web.json_response({"object": "list", "data": [found], "has_more": False})


@asynccontextmanager
async def serving(retry_after: float | None = None) -> AsyncGenerator[Service]:
    service = Service(retry_after)
    application = web.Application()
    application.router.add_get("/v1/evals", service.respond)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield service
    finally:
        await runner.cleanup()


async def visit(app: Any, client: EvalsClient, key: str) -> tuple[int, Any, dict[str, str]]:
    """What a browser with that key gets: the status, the body and the headers."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/evals",
        "raw_path": b"/evals",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"x-tenant-key", key.encode())],
        "client": None,
        "server": None,
        "state": {"evals": client},  # as the lifespan of the application gives it
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(body), headers


async def load(program: ModuleType, service: Service) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """All tenants at once, each with one request after another: the seconds and the answers of each."""
    clock = ScaledClock(1.0)
    took: dict[str, float] = {}
    answers: dict[str, list[Any]] = {key: [] for key in KEYS}
    async with EvalsClient(
        api_key=NO_KEY, base_url=service.base_url, cache=LRUCache(), timeout=10, clock=clock, max_connections=50
    ) as client:

        async def tenant(key: str) -> None:
            for _ in range(EACH):
                answers[key].append(await visit(program.app, client, key))
            took[key] = clock.monotonic()

        await asyncio.gather(*map(tenant, KEYS))
        assert (0, 0) == (client.statistics().in_flight, client.statistics().requests)
    return took, answers


@pytest.mark.virtual_time
@pytest.mark.parametrize("retry_after", [0.5, 3.0, 60.0])
async def test_one_throttled_tenant_of_fifty(
    program: ModuleType, retry_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The others need no request and no moment more than without it. Nobody gets another one's evals, and no key is in
    an answer or in a log line.
    """
    caplog.set_level(logging.DEBUG)
    async with serving() as service:
        alone, _ = await load(program, service)
        assert EACH * len(KEYS) == len(service.seen)
    async with serving(retry_after) as service:
        took, answers = await load(program, service)
    others = [key for key in KEYS if key != THROTTLED]
    assert {EACH} == {service.seen.count(key) for key in others}
    assert max(took[key] for key in others) <= 1.1 * max(alone.values())
    for key in others:
        assert [(200, [f"eval_of_{KEYS.index(key):03}"])] * EACH == [each[:2] for each in answers[key]]
    assert {429, 504} >= {status for status, _, _ in answers[THROTTLED]} >= {429}
    for status, body, headers in answers[THROTTLED]:
        assert [*body] == ["error"]
        assert status != 429 or headers["retry-after"] == str(math.ceil(retry_after))
    refused = [body["error"] for status, body, _ in answers[THROTTLED] if status == 429]
    assert "[redacted]" in refused[0]  # the service's own words have the key
    texts = [repr(every) for every in answers.values()]
    texts += [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    assert [] == [text for text in texts if "recognisable" in text]


@pytest.mark.parametrize(("status", "told"), [(401, 401), (403, 403), (404, 404), (400, 400), (500, 502), (503, 502)])
async def test_what_a_tenant_is_told(program: ModuleType, status: int, told: int) -> None:
    """Its own faults have their status; those of the service behind are gateway errors, with the reason."""
    async with LocalServer() as server:
        server.faults.add(Fault(status=status, times=None))
        async with EvalsClient(api_key=NO_KEY, base_url=server.base_url, max_retries=0) as client:
            answer = await visit(program.app, client, KEYS[0])
            assert (told, ["error"]) == (answer[0], [*answer[1]])
            assert 400 == (await visit(program.app, client, "two words"))[0]
        assert 1 == server.request_count


def test_copies_are_made_in_threads() -> None:
    """As web frameworks do for plain functions: threads that ask for one key at once get one limiter."""
    client = EvalsClient(api_key=NO_KEY)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for number in range(100):
                together = threading.Barrier(8)

                def make(_: int, key: str = f"sk-in-a-thread-{number}", together: Any = together) -> EvalsClient:
                    together.wait()
                    return client.with_options(api_key=key)

                copies = [*pool.map(make, range(8))]
                assert 1 == len({id(caller_of(each).pipeline) for each in copies})
    finally:
        sys.setswitchinterval(before)

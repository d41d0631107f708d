"""Copies of copies with any mixture of credentials: each reads what its own request would bring, and never what another
one read.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
from aiohttp import web
from doubles import caller_of

from evals_async import NO_KEY, OMIT, CachedTokens, EvalsClient, LRUCache


KEYS = [f"sk-tenant-{letter}-recognisable" for letter in "abc"]
NAMES = ["org-1", "org-2"]
CONSIDERED = ("authorization", "api-key", "openai-organization", "openai-project", "x-own")
tenant: ContextVar[str] = ContextVar("tenant", default=KEYS[0])


@attrs.define
class Mirror:
    """A service in which each run says whose request it was: its credentials, names, own header and query."""

    urls: list[str] = attrs.Factory(list[str])
    requests: int = 0

    async def respond(self, request: web.Request) -> web.Response:
        self.requests += 1
        await asyncio.sleep(0.001)
        who = {name: request.headers.get(name, "") for name in CONSIDERED}
        who |= {"port": str(request.url.port), "query": json.dumps(dict(request.query))}
        run = {"object": "eval.run", "id": "run_1", "eval_id": "eval_1", "status": "completed", "metadata": who}
        return web.json_response(run)


@pytest.fixture
async def mirror() -> AsyncGenerator[Mirror]:
    service = Mirror()
    application = web.Application()
    for prefix in ("/v1", "/openai/v1"):
        application.router.add_get(f"{prefix}/evals/eval_1/runs/run_1", service.respond)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.urls = [f"http://127.0.0.1:{address[1]}" for address in runner.addresses]
    yield service
    await runner.cleanup()


async def later() -> str:
    await asyncio.sleep(0)
    return tenant.get()


class Vaults:
    """Keys as functions and as tokens: of one identity each, or of whoever asks."""

    def __init__(self) -> None:
        self.tokens = [CachedTokens(lambda key=key: key) for key in KEYS]
        self.scoped = [CachedTokens(lambda key=key: key, scope=key) for key in KEYS]

    def any_key(self, dice: random.Random) -> Any:
        options: list[Any] = [*KEYS, *KEYS, NO_KEY, tenant.get, later, *self.tokens, *self.scoped]
        return dice.choice(options)


def change(dice: random.Random, vaults: Vaults, mirror: Mirror, *, azure: bool) -> dict[str, Any]:
    """Random options of a copy."""
    path = "/openai/v1" if azure else "/v1"
    header = dice.choice(["Authorization", "authorization", "api-key", "X-Own"])
    value = dice.choice([OMIT, *(f"Bearer {key}" for key in KEYS)])
    every: dict[str, Any] = {
        "api_key": vaults.any_key(dice),
        "organization": dice.choice([*NAMES, ""]),
        "project": dice.choice([*NAMES, ""]),
        "base_url": dice.choice(mirror.urls) + path,
        "headers": {header: value},
        "set_default_headers": {header: value},
        "query": {"view": dice.choice(NAMES)},
        "set_default_query": {},
        "timeout": dice.choice([5, 9]),
        "max_retries": dice.choice([0, 1]),
    }
    chosen = {name: every[name] for name in dice.sample([*every], dice.choice([1, 1, 2, 3]))}
    if "set_default_headers" in chosen:
        chosen.pop("headers", None)
    if "set_default_query" in chosen:
        chosen.pop("query", None)
    return chosen


@pytest.mark.parametrize("azure", [False, True])
@pytest.mark.parametrize("seed", range(10))
async def test_each_copy_reads_its_own(mirror: Mirror, seed: int, azure: bool) -> None:
    """Through the cache and through shared requests, with some of the readers cancelled."""
    dice = random.Random(seed)
    vaults = Vaults()
    options: dict[str, Any] = {"cache": LRUCache(), "api_key": KEYS[0], "timeout": 9}
    if azure:
        client = EvalsClient.azure(endpoint=mirror.urls[0], **options)
    else:
        client = EvalsClient(base_url=mirror.urls[0] + "/v1", **options)
    async with client:
        copies = [client]
        for _ in range(60):
            copies.append(dice.choice(copies[-10:]).with_options(**change(dice, vaults, mirror, azure=azure)))

        async def compare(copied: EvalsClient, key: str) -> None:
            tenant.set(key)
            own = await copied.send(copied.request("GET", "/evals/eval_1/runs/run_1"))  # neither shared nor cached
            expected = json.loads(own.body)["metadata"]
            for _ in range(2):
                run = await copied.evals.runs.retrieve("run_1", eval_id="eval_1")
                assert dict(run.metadata or {}) == expected
            (many,) = await copied.evals.runs.retrieve_many(["run_1"], eval_id="eval_1")
            assert dict(many.metadata or {}) == expected

        chosen = [dice.choice(copies) for _ in range(200)]
        tasks = [asyncio.create_task(compare(copied, dice.choice(KEYS))) for copied in chosen]
        await asyncio.sleep(0.01)
        cancelled = {task for task in tasks if dice.random() < 0.2 and task.cancel()}
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [] == [
            result for task, result in zip(tasks, results, strict=True) if result is not None and task not in cancelled
        ]
        assert mirror.requests < 4 * 200  # much was shared or cached
        assert {(0, 0)} == {(each.in_flight, each.waiting) for each in (one.statistics() for one in copies)}
        # One limiter for each sender, and never one for two.
        lines = {caller_of(copied).pipeline.identity: caller_of(copied).pipeline for copied in copies}
        assert len(lines) == len({id(line.limiter) for line in lines.values()}) > 10

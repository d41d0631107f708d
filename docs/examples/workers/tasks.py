"""Celery tasks whose worker processes share one quota. Start them with `celery -A tasks worker --concurrency 2`.

Each worker process has one event loop, on which the client lives. A task runs on that loop.
"""

import asyncio
import os
from contextlib import AsyncExitStack

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from evals_async import EvalsClient
from evals_async.redis import RedisCache, RedisLimiter


REDIS = os.environ.get("REDIS_URL", "redis://localhost")

app = Celery("tasks", broker=REDIS, backend=REDIS)


class Worker:
    """The loop and the client of a worker process. It is opened after the fork."""

    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.client = self.runner.run(self.connect())

    async def connect(self) -> EvalsClient:
        limiter = await self.stack.enter_async_context(
            RedisLimiter(REDIS, name=os.environ.get("QUOTA", "openai-key-1"))
        )
        cache = await self.stack.enter_async_context(RedisCache(REDIS))
        return await self.stack.enter_async_context(EvalsClient(limiter=limiter, cache=cache, timeout=300))

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


worker = Worker()


@worker_process_init.connect
def opened(**_: object) -> None:
    worker.open()


@worker_process_shutdown.connect
def closed(**_: object) -> None:
    worker.close()


@app.task
def status_of(eval_id: str, run_id: str) -> dict[str, object]:
    run = worker.runner.run(worker.client.evals.runs.retrieve(run_id, eval_id=eval_id))
    return {"status": run.status, "worker": os.getpid()}


@app.task
def statuses_of(eval_id: str, run_ids: list[str]) -> list[str]:
    """One task for many runs: its requests go out concurrently."""
    runs = worker.runner.run(worker.client.evals.runs.retrieve_many(run_ids, eval_id=eval_id))
    return [run.status for run in runs]

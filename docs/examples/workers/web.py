"""A web application whose workers share one quota.

Start it with `uvicorn web:app --workers 2` or `gunicorn --worker-class asgi --workers 2 web:app`.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from evals_async import EvalsClient, EvalsError, NotFound
from evals_async.redis import RedisCache, RedisLimiter


REDIS = os.environ.get("REDIS_URL", "redis://localhost")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, EvalsClient], None]:
    async with (
        RedisLimiter(REDIS, name=os.environ.get("QUOTA", "openai-key-1")) as limiter,
        RedisCache(REDIS) as cache,
        EvalsClient(limiter=limiter, cache=cache, timeout=300) as client,
    ):
        yield {"evals": client}


app = FastAPI(lifespan=lifespan)


@app.exception_handler(EvalsError)
async def failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, NotFound) else 502)


@app.get("/evals/{eval_id}/runs/{run_id}")
async def show_run(eval_id: str, run_id: str, request: Request) -> dict[str, object]:
    client: EvalsClient = request.state.evals
    run = await client.evals.runs.retrieve(run_id, eval_id=eval_id)
    return {"status": run.status, "worker": os.getpid()}

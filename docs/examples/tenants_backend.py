"""A FastAPI application for many tenants: each request brings its own key, and all share one pool of connections.

In production: `uvicorn tenants_backend:app`.
"""

import asyncio
import math
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import aiohttp
import uvicorn
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse

from evals_async import NO_KEY, ApiError, ConfigurationError, EvalsClient, EvalsError, LRUCache


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, EvalsClient], None]:
    # One client for the process, without a key of its own.
    async with EvalsClient(api_key=NO_KEY, cache=LRUCache(), timeout=10) as client:
        await client.prepare()  # no user waits for imports
        yield {"evals": client}


app = FastAPI(lifespan=lifespan)


async def evals_of(request: Request, x_tenant_key: Annotated[str, Header()]) -> EvalsClient:
    """The client of the tenant whose key the request brings. It is not closed: the connections are everybody's."""
    client: EvalsClient = request.state.evals
    return client.with_options(api_key=x_tenant_key)


Evals: TypeAlias = Annotated[EvalsClient, Depends(evals_of)]


@app.exception_handler(EvalsError)
async def failed(_: Request, error: Exception) -> JSONResponse:
    headers: dict[str, str] = {}
    if isinstance(error, ConfigurationError):
        status = 400  # a key that cannot be sent in a header
    elif isinstance(error, ApiError) and error.status < 500:
        status = error.status  # the tenant's own affair: its key, its rights, its limit
        if error.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after))
    else:
        status = 504 if isinstance(error, TimeoutError) else 502
    return JSONResponse({"error": str(error)}, status, headers)


@app.get("/evals")
async def show_evals(client: Evals) -> list[str]:
    return [evaluation.id async for evaluation in client.evals.list(limit=20)]


async def main() -> None:
    """Serve on a free port, and be two tenants at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/evals"

    async def tenant(key: str) -> str:
        async with (
            aiohttp.ClientSession(headers={"X-Tenant-Key": key}) as browser,
            browser.get(url) as answer,
        ):
            return f"{key}: {answer.status} {await answer.text()}"

    print(*await asyncio.gather(tenant("sk-tenant-a"), tenant("sk-tenant-b")), sep="\n")
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())

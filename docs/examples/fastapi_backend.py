"""A FastAPI application on one `EvalsClient`: one run, and many runs as server-sent events while they arrive.

In production: `uvicorn fastapi_backend:app`.
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import aiohttp
import attrs
import uvicorn
from fastapi import Body, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from evals_async import EvalRun, EvalsClient, EvalsError, LRUCache, NotFound, Outcome, Progress


LONGEST_WAIT = 10.0  # seconds that a browser is kept waiting for one run


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, EvalsClient], None]:
    # One for the process: its connections and limits are shared.
    async with EvalsClient(cache=LRUCache()) as client:
        await client.prepare()  # no user waits for imports
        yield {"evals": client}


app = FastAPI(lifespan=lifespan)


def evals_of(request: Request) -> EvalsClient:
    client: EvalsClient = request.state.evals
    return client


Evals: TypeAlias = Annotated[EvalsClient, Depends(evals_of)]


@app.exception_handler(EvalsError)
@app.exception_handler(TimeoutError)
async def failed(_: Request, error: Exception) -> JSONResponse:
    status = 404 if isinstance(error, NotFound) else 504 if isinstance(error, TimeoutError) else 502
    reason = str(error) or "the service did not answer in time"  # a TimeoutError of asyncio says nothing
    return JSONResponse({"error": reason}, status)


def card(run: EvalRun) -> dict[str, object]:
    return {"id": run.id, "name": run.name, "status": run.status, "pass_rate": run.pass_rate}


def card_of(outcome: Outcome[str, EvalRun]) -> dict[str, object]:
    return {"id": outcome.key, "error": str(outcome.error)} if outcome.value is None else card(outcome.value)


@app.get("/evals/{eval_id}/runs/{run_id}")
async def show_run(eval_id: str, run_id: str, client: Evals) -> dict[str, object]:
    async with asyncio.timeout(LONGEST_WAIT):  # ends this request alone: others who wait for the same run get it
        return card(await client.evals.runs.retrieve(run_id, eval_id=eval_id))


@app.post("/evals/{eval_id}/runs")  # the ids are in the body: hundreds of ids are too long for a URL
async def show_runs(eval_id: str, ids: Annotated[list[str], Body(embed=True)], client: Evals) -> StreamingResponse:
    return StreamingResponse(
        events(client, eval_id, ids), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


async def events(client: EvalsClient, eval_id: str, run_ids: list[str]) -> AsyncIterator[str]:
    # A timeout for each call, and not `asyncio.timeout` around the loop: a generator must not yield inside of one.
    runs = client.with_options(timeout=30).evals.runs
    latest: deque[Progress] = deque(maxlen=1)
    async with runs.stream_many(run_ids, eval_id=eval_id, on_progress=latest.append) as outcomes:
        async for outcome in outcomes:  # a browser that leaves ends this, and with it the requests under way
            yield event("run", card_of(outcome))
            yield event("progress", attrs.asdict(latest[0]))
    yield event("end", {})


def event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def main() -> None:
    """Serve on a free port, and be the browser."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with EvalsClient() as client, aiohttp.ClientSession() as browser:
        evaluation = (await client.evals.list(limit=1))[0]
        ids = [run.id for run in await client.evals.runs.list(evaluation.id, limit=3)]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/evals/{evaluation.id}/runs"
        async with browser.get(f"{url}/{ids[0]}") as answer:
            print(await answer.json())
        async with browser.post(url, json={"ids": ids}) as answer:
            async for line in answer.content:
                print(line.decode(), end="")
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())

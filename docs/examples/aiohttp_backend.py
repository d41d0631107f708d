"""An aiohttp application on one `EvalsClient`: one run, and many runs as server-sent events while they arrive.

In production: `web.run_app(application(), handler_cancellation=True)`.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator

import aiohttp
import attrs
from aiohttp import web
from aiohttp.typedefs import Handler

from evals_async import EvalRun, EvalsClient, EvalsError, LRUCache, NotFound, Outcome, Progress


LONGEST_WAIT = 10.0  # seconds that a browser is kept waiting for one run
PATIENCE_FOR_MANY = 60.0

EVALS = web.AppKey("EVALS", EvalsClient)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    async with EvalsClient(cache=LRUCache()) as client:  # one for the process: its connections and limits are shared
        await client.prepare()  # no user waits for imports
        app[EVALS] = client
        yield


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (EvalsError, TimeoutError) as error:
        status = 404 if isinstance(error, NotFound) else 504 if isinstance(error, TimeoutError) else 502
        reason = str(error) or "the service did not answer in time"  # a TimeoutError of asyncio says nothing
        return web.json_response({"error": reason}, status=status)


def card(run: EvalRun) -> dict[str, object]:
    return {"id": run.id, "name": run.name, "status": run.status, "pass_rate": run.pass_rate}


def card_of(outcome: Outcome[str, EvalRun]) -> dict[str, object]:
    return {"id": outcome.key, "error": str(outcome.error)} if outcome.value is None else card(outcome.value)


async def show_run(request: web.Request) -> web.Response:
    runs, ids = request.app[EVALS].evals.runs, request.match_info
    async with asyncio.timeout(LONGEST_WAIT):  # ends this request alone: others who wait for the same run get it
        return web.json_response(card(await runs.retrieve(ids["run_id"], eval_id=ids["eval_id"])))


async def show_runs(request: web.Request) -> web.StreamResponse:
    runs, eval_id = request.app[EVALS].evals.runs, request.match_info["eval_id"]
    run_ids: list[str] = (await request.json())["ids"]  # in the body: hundreds of ids are too long for a URL
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)

    async def tell(event: str, data: object) -> None:
        await response.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    latest: deque[Progress] = deque(maxlen=1)
    try:
        async with (
            asyncio.timeout(PATIENCE_FOR_MANY),
            runs.stream_many(run_ids, eval_id=eval_id, on_progress=latest.append) as outcomes,
        ):
            async for outcome in outcomes:  # a browser that leaves ends this, and with it the requests under way
                await tell("run", card_of(outcome))
                await tell("progress", attrs.asdict(latest[0]))
    except TimeoutError:
        await tell("timeout", {})
    await tell("end", {})
    return response


def application() -> web.Application:
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(lifespan)
    app.add_routes([web.get("/evals/{eval_id}/runs/{run_id}", show_run), web.post("/evals/{eval_id}/runs", show_runs)])
    return app


async def main() -> None:
    """Serve on a free port, and be the browser."""
    runner = web.AppRunner(application(), handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with EvalsClient() as client, aiohttp.ClientSession() as browser:
        evaluation = (await client.evals.list(limit=1))[0]
        ids = [run.id for run in await client.evals.runs.list(evaluation.id, limit=3)]
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/evals/{evaluation.id}/runs"
        async with browser.get(f"{url}/{ids[0]}") as answer:
            print(await answer.json())
        async with browser.post(url, json={"ids": ids}) as answer:
            async for line in answer.content:
                print(line.decode(), end="")
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())

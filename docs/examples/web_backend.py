"""An aiohttp application that shows runs: one client for all requests, closed with the application."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from evals_async import EvalsClient, LRUCache, NotFound, RequestError, encode


CLIENT = web.AppKey("CLIENT", EvalsClient)


async def evals(app: web.Application) -> AsyncIterator[None]:
    async with EvalsClient(timeout=10, cache=LRUCache()) as client:  # runs that are over are kept
        app[CLIENT] = client
        yield


async def show_run(request: web.Request) -> web.Response:
    # A hundred requests for one run at the same time are one request to the service.
    try:
        run = await request.app[CLIENT].evals.runs.retrieve(
            request.match_info["run_id"], eval_id=request.match_info["eval_id"]
        )
    except NotFound:
        raise web.HTTPNotFound from None
    except RequestError as error:
        raise web.HTTPBadGateway(text=str(error)) from None
    return web.json_response(encode(run))


def application() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(evals)
    app.add_routes([web.get("/evals/{eval_id}/runs/{run_id}", show_run)])
    return app


async def main() -> None:
    """Serve on a free port, and ask once. In production: `web.run_app(application())`."""
    runner = web.AppRunner(application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with EvalsClient() as client, aiohttp.ClientSession() as browser:
        evaluation = (await client.evals.list(limit=1))[0]
        run = (await client.evals.runs.list(evaluation.id, limit=1))[0]
        port = runner.addresses[0][1]
        async with browser.get(f"http://127.0.0.1:{port}/evals/{evaluation.id}/runs/{run.id}") as answer:
            print(answer.status, (await answer.json())["status"])
    await runner.cleanup()


asyncio.run(main())

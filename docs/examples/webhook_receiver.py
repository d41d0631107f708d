"""An aiohttp handler that receives webhooks about runs, and a webhook that is sent to it."""

import asyncio
import time

import aiohttp
from aiohttp import web

from evals_async import EvalsClient, WebhookError
from evals_async.models import RunSucceededEvent
from evals_async.webhooks import sign


SECRET = "whsec_c2VjcmV0IG9mIHRoZSBleGFtcGxlIQ=="
EVAL_OF: dict[str, str] = {}  # run id to eval id, filled when runs are created: events do not say
SEEN: set[str] = set()


def receiver(client: EvalsClient) -> web.Application:
    async def receive(request: web.Request) -> web.Response:
        body = await request.read()  # the exact bytes: the signature is of these
        try:
            event = client.webhooks.unwrap(body, request.headers)
        except WebhookError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        delivery = request.headers["webhook-id"]
        if delivery not in SEEN and isinstance(event, RunSucceededEvent):
            SEEN.add(delivery)
            run = await client.evals.runs.retrieve(event.run_id, eval_id=EVAL_OF[event.run_id])
            print(run.name, run.pass_rate)
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/webhooks", receive)])
    return app


async def main() -> None:
    async with EvalsClient(webhook_secret=SECRET) as client, aiohttp.ClientSession() as service:
        evaluation = (await client.evals.list(limit=1))[0]
        run = (await client.evals.runs.list(evaluation.id, status="completed", limit=1))[0]
        EVAL_OF[run.id] = evaluation.id

        runner = web.AppRunner(receiver(client))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks"

        body = f'{{"id": "evt_1", "type": "eval.run.succeeded", "data": {{"id": "{run.id}"}}}}'
        headers = sign(body, secret=SECRET, webhook_id="wh_1", timestamp=int(time.time()))
        for sent in (headers, headers, {**headers, "webhook-signature": "v1,forged"}):
            async with service.post(url, data=body.encode(), headers=sent) as answer:
                print(answer.status)
        await runner.cleanup()


asyncio.run(main())

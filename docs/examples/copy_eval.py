"""Copy the definition of every eval to another server: here, to a local one with a file that stays."""

import asyncio

from evals_async import EvalsClient
from evals_async.server import LocalServer


async def main() -> None:
    async with (
        EvalsClient() as source,
        LocalServer("copies.db") as server,
        EvalsClient(base_url=server.base_url, api_key="sk-local") as target,
    ):
        async for evaluation in source.evals.list():
            copied = await target.evals.create(**evaluation.to_create())
            print(f"{evaluation.name}: {evaluation.id} -> {copied.id}")


asyncio.run(main())

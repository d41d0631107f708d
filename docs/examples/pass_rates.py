"""The pass rate of every completed run, of all evals at once."""

import asyncio

from evals_async import EvalsClient


async def main() -> None:
    async with EvalsClient() as client:
        names = {evaluation.id: evaluation.name async for evaluation in client.evals.list()}
        async for outcome in client.evals.runs.list_many(names, status="completed"):
            if outcome.error is not None:
                print(f"{names[outcome.key]}: {outcome.error}")
                continue
            run = outcome.unwrap()
            rate = "no rows" if run.pass_rate is None else f"{run.pass_rate:.0%}"
            print(f"{names[outcome.key]}: {run.name or run.id}: {rate}")


asyncio.run(main())

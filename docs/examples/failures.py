"""Which graders failed which rows of the newest completed run of each eval, and what they say about it."""

import asyncio

from evals_async import EvalsClient


async def main() -> None:
    async with EvalsClient() as client:
        async for evaluation in client.evals.list():
            newest = await client.evals.runs.list(evaluation.id, order="desc", status="completed").collect(limit=1)
            for run in newest:
                print(f"{evaluation.name}: {run.name or run.id}")
                async for item in client.evals.runs.output_items.list(run):
                    if item.is_error:
                        failure = item.sample.failure if item.sample else None
                        print(f"  row {item.datasource_item_id}: {failure.message if failure else 'a grader failed'}")
                    for result in item.results or ():
                        if result.passed is False:
                            print(f"  row {item.datasource_item_id}: {result.plain_name}: {result.explanation or 'no'}")


asyncio.run(main())

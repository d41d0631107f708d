"""Upload rows, create an eval, run it, and look at the result. Needs a server that takes writes."""

import asyncio
import json

from evals_async import EvalsClient
from evals_async.models import CustomDataSourceConfig, FileId, JsonlDataSource, StringCheckGrader


ROWS = [("2 + 2", "4", "4"), ("3 * 3", "9", "9"), ("10 / 4", "2", "2.5")]


async def main() -> None:
    rows = [{"item": {"question": question, "answer": answer, "right": right}} for question, answer, right in ROWS]
    names = {name: {"type": "string"} for name in ("question", "answer", "right")}
    async with EvalsClient() as client:
        file = await client.files.create(file=("sums.jsonl", "\n".join(map(json.dumps, rows)).encode()))
        evaluation = await client.evals.create(
            name="Sums",
            data_source_config=CustomDataSourceConfig(item_schema={"type": "object", "properties": names}),
            testing_criteria=[
                StringCheckGrader(name="right", input="{{ item.answer }}", reference="{{ item.right }}", operation="eq")
            ],
        )
        run = await client.evals.runs.create_and_wait(
            evaluation.id,
            data_source=JsonlDataSource(source=FileId(id=file.id)),
            on_poll=lambda state: print("status:", state.status),
            raise_on_failure=True,
        )
        print(run.result_counts)


asyncio.run(main())

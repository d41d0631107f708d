"""A run that has ended on a local server, for tests that read it again and again."""

from evals_async import EvalsClient
from evals_async.server import LocalServer


async def completed_run(server: LocalServer) -> tuple[str, str]:
    """Create an eval with a run, and return their ids once the run has ended."""
    async with EvalsClient(base_url=server.base_url, api_key="sk-completed-run-1") as client:
        evaluation = await client.evals.create(
            data_source_config={"type": "custom", "item_schema": {"type": "object"}},
            testing_criteria=[
                {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
            ],
        )
        run = await client.evals.runs.create_and_wait(
            evaluation.id,
            data_source={"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}},
        )
    return evaluation.id, run.id

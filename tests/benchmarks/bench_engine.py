"""What the server adds to a row that it samples and grades, beside calling the same endpoint by hand.

The scripted endpoint is a process of its own; so is the server, and so is the program by hand, which posts the same
requests with aiohttp, 64 at a time, and compares the answers. Nothing has latency, so what is measured is work.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cases import Table
from benchmarks.measure import environment, in_turns
from benchmarks.server import pin


CONCURRENCY = 64
HAND, SERVER = "aiohttp by hand", "evals_async.server"

MODELS = """
import asyncio
from benchmarks.server import pin
from evals_async.inference import Rule, ScriptedModels
pin(1)

async def main():
    rule = Rule(text=lambda request: request.prompt.rsplit(":", 1)[-1].strip())
    async with ScriptedModels(rule, remembered=0) as models:
        print(models.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

WORK = {
    HAND: """
import asyncio, sys, time
import aiohttp

async def main(url, count, concurrency, _):
    rows = iter(range(int(count)))
    passed = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=int(concurrency))) as session:
        async def worker():
            nonlocal passed
            for number in rows:
                body = {"model": "m", "messages": [{"role": "user", "content": f"Say: row {number}"}]}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    answer = await response.json()
                passed += answer["choices"][0]["message"]["content"] == f"row {number}"
        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(int(concurrency))))
        print(time.perf_counter() - began, passed)

asyncio.run(main(*sys.argv[1:]))
""",
    SERVER: """
import asyncio, json, sys, time
from evals_async import EvalsClient
from evals_async.inference import Endpoint, Models
from evals_async.server import LocalServer

async def main(url, count, concurrency, store):
    limit = int(concurrency)
    criterion = {"type": "string_check", "name": "same", "input": "{{ sample.output_text }}",
                 "reference": "{{ item.answer }}", "operation": "eq"}
    rows = "\\n".join(json.dumps({"item": {"answer": f"row {number}"}}) for number in range(int(count)))
    source = {"type": "completions", "model": "m",
              "input_messages": {"type": "template",
                                 "template": [{"role": "user", "content": "Say: {{ item.answer }}"}]}}
    async with (
        Models({"*": Endpoint(base_url=url, concurrency=limit)}) as models,
        LocalServer(store, models=models, concurrency=limit, run_concurrency=limit) as server,
        EvalsClient(base_url=server.base_url, api_key="sk-local") as client,
    ):
        made = await client.evals.create(
            data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
            testing_criteria=[criterion],
        )
        file = await client.files.create(file=("rows.jsonl", rows.encode()), purpose="evals")
        source["source"] = {"type": "file_id", "id": file.id}
        began = time.perf_counter()
        run = await client.evals.runs.create(made.id, data_source=source)
        while not run.is_terminal:
            await asyncio.sleep(0.02)
            run = await client.evals.runs.retrieve(run.id, eval_id=made.id)
        print(time.perf_counter() - began, run.result_counts.passed)

asyncio.run(main(*sys.argv[1:]))
""",
}


@contextmanager
def endpoint() -> Generator[str]:
    with subprocess.Popen(
        [sys.executable, "-c", MODELS], stdout=subprocess.PIPE, text=True, env=environment()
    ) as models:
        assert models.stdout is not None
        try:
            yield models.stdout.readline().strip()
        finally:
            models.kill()


def seconds_of(name: str, url: str, count: int) -> float:
    """What the work of that name took for all rows, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", WORK[name], url, str(count), str(CONCURRENCY), str(Path(folder) / "store.db")]
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(), timeout=600)
    took, passed = ended.stdout.split()
    assert int(passed) == count, f"{name}: {passed} of {count} rows passed"
    return float(took)


def engine(count: int, rounds: int) -> Table:
    """Seconds for all rows, and the median of the ratios within the rounds."""
    pin(0)
    with endpoint() as url:
        found = in_turns((HAND, SERVER), lambda name: seconds_of(name, url, count), rounds)
    ratio = statistics.median(one / other for one, other in zip(found[SERVER], found[HAND], strict=True))
    rows = [
        (name, f"{statistics.median(times):.2f}", f"{count / statistics.median(times):,.0f}")
        for name, times in found.items()
    ]
    note = "Each row is one request to the endpoint, one string check, and, on the server, one row in the store."
    title = f"{count:,} rows sampled and graded, {CONCURRENCY} at a time"
    return Table(title, ("who", "seconds", "rows/s"), rows, note, {"engine: x by hand": ratio})

"""What the server adds to a row that it samples and grades, beside calling the same endpoint by hand.

Both are given the same rows in a JSONL file, ask the same scripted endpoint for each, 64 at a time, compare the answer,
and keep it: the program by hand, as one would write it with aiohttp and json, a line in a file; the server an output
item in its store, with every commit on disk. The clock of the server runs from the creation of the run until a client
sees its end. The client asks twenty times a second, and more often when nine rows of ten are finished. Server and
client are one process on one core; so is the program by hand. The endpoint is a process on the other core, and takes
its time for both alike: where it has no time left, it hides the difference. So the CPU time of each program is shown
beside the time on the clock, and how busy the endpoint was. Nothing has latency. The garbage collector does not look at
what stands before the clock starts: a full collection of all modules takes as long as some 400 rows, and hits a run or
not, by chance.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs
from benchmarks.cases import Table
from benchmarks.measure import cpu_of_process, environment, in_turns, middle_ratio
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
import asyncio, gc, json, sys, time
from pathlib import Path
import aiohttp

async def main(url, rows, concurrency, store):
    gc.collect()
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()
    passed = 0
    lines = iter(Path(rows).read_text().splitlines())
    connector = aiohttp.TCPConnector(limit=int(concurrency))
    with open(store, "w") as results:
        async with aiohttp.ClientSession(connector=connector) as session:
            async def worker():
                nonlocal passed
                for line in lines:
                    item = json.loads(line)["item"]
                    messages = [{"role": "user", "content": f"Say: {item['answer']}"}]
                    body = {"model": "m", "messages": messages}
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        answer = await response.json()
                    text = answer["choices"][0]["message"]["content"]
                    good = text == item["answer"]
                    passed += good
                    kept = {"item": item, "passed": good, "model": answer["model"], "usage": answer["usage"]}
                    results.write(json.dumps({**kept, "input": messages, "output": text}) + "\\n")
            await asyncio.gather(*(worker() for _ in range(int(concurrency))))
    print(time.perf_counter() - began, time.process_time() - cpu, passed)

asyncio.run(main(*sys.argv[1:]))
""",
    SERVER: """
import asyncio, gc, sys, time
from pathlib import Path
from evals_async import EvalsClient
from evals_async.inference import Endpoint, Models
from evals_async.server import LocalServer

async def main(url, rows, concurrency, store):
    limit = int(concurrency)
    criterion = {"type": "string_check", "name": "same", "input": "{{ sample.output_text }}",
                 "reference": "{{ item.answer }}", "operation": "eq"}
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
        file = await client.files.create(file=Path(rows), purpose="evals")
        source["source"] = {"type": "file_id", "id": file.id}
        count = len(Path(rows).read_text().splitlines())
        gc.collect()
        gc.freeze()
        began, cpu = time.perf_counter(), time.process_time()
        run = await client.evals.runs.create(made.id, data_source=source)
        while not run.is_terminal:
            finished = run.result_counts.passed if run.result_counts else 0
            await asyncio.sleep(0.05 if finished < 0.9 * count else 0.005)
            run = await client.evals.runs.retrieve(run.id, eval_id=made.id)
        print(time.perf_counter() - began, time.process_time() - cpu, run.result_counts.passed)

asyncio.run(main(*sys.argv[1:]))
""",
}


@attrs.frozen
class Taken:
    """What a program took for all rows: seconds on the clock, seconds of CPU, and the endpoint's share of its core."""

    wall: float
    cpu: float
    endpoint: float


@contextmanager
def endpoint() -> Generator[tuple[str, int]]:
    """A scripted endpoint: its URL, and the id of its process."""
    with subprocess.Popen(
        [sys.executable, "-c", MODELS], stdout=subprocess.PIPE, text=True, env=environment()
    ) as models:
        assert models.stdout is not None
        try:
            yield models.stdout.readline().strip(), models.pid
        finally:
            models.kill()


def taken(name: str, url: str, pid: int, count: int) -> Taken:
    """What the work of that name took for all rows, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        lines = (json.dumps({"item": {"answer": f"row {number}"}}) for number in range(count))
        rows.write_text("".join(f"{line}\n" for line in lines))
        command = [sys.executable, "-c", WORK[name], url, str(rows), str(CONCURRENCY), str(Path(folder) / "store.db")]
        busy = cpu_of_process(pid)
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(), timeout=600)
        busy = cpu_of_process(pid) - busy
    wall, cpu, passed = ended.stdout.split()
    assert int(passed) == count, f"{name}: {passed} of {count} rows passed"
    return Taken(float(wall), float(cpu), busy / float(wall))


def engine(count: int, rounds: int) -> Table:
    """Time for all rows on the clock and of the CPU, and the medians of the ratios within the rounds."""
    pin(0)
    with endpoint() as (url, pid):
        found = in_turns((HAND, SERVER), lambda name: taken(name, url, pid, count), rounds)
    rows: list[tuple[str, ...]] = []
    for name, each in found.items():
        wall = statistics.median(one.wall for one in each)
        cpu = statistics.median(one.cpu for one in each) / count * 1e6
        busy = statistics.median(one.endpoint for one in each)
        rows.append((name, f"{wall:.2f}", f"{count / wall:,.0f}", f"{cpu:.0f}", f"{busy:.0%}"))
    figures = {
        "engine: x by hand": middle_ratio((one.wall for one in found[SERVER]), (one.wall for one in found[HAND])),
        "engine: CPU, x by hand": middle_ratio((one.cpu for one in found[SERVER]), (one.cpu for one in found[HAND])),
    }
    note = (
        "Each row is one request to the endpoint and one string check. By hand its answer is a line in a file, on the "
        "server an output item in its store, and the client that waits for the run is measured with it."
    )
    title = f"{count:,} rows sampled and graded, {CONCURRENCY} at a time"
    return Table(title, ("who", "seconds", "rows/s", "CPU, us per row", "endpoint busy"), rows, note, figures)

"""Ten thousand rows at once: the server stays as small as it was, and answers while it works."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from executing import ENDED, sampling
from plainhttp import EXACT, PlainHttp, eval_request
from waiting import LONGEST, SLOWER


ROWS = 10_000
CONCURRENCY = 64
MODELS = """
import asyncio
import json
from evals_async.inference import Rule, ScriptedModels

async def main():
    rule = Rule(text=lambda request: request.prompt.rsplit(":", 1)[-1].strip())
    async with ScriptedModels(rule, remembered=0) as models:
        print(models.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
SERVER = """
import asyncio, sys
from evals_async.inference import Endpoint, Models
from evals_async.server import LocalServer

async def main(store, url, concurrency):
    limit = int(concurrency)
    async with (
        Models({"*": Endpoint(base_url=url, concurrency=limit)}) as models,
        LocalServer(store, models=models, concurrency=limit, run_concurrency=limit) as server,
    ):
        print(server.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@attrs.frozen
class Child:
    """A program that runs beside the test, and the URL that it printed."""

    pid: int
    url: str

    def memory(self) -> float:
        """Its resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024


@asynccontextmanager
async def child(script: str, *arguments: str) -> AsyncGenerator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield Child(process.pid, (await process.stdout.readline()).decode().strip())
    finally:
        process.kill()
        await process.wait()


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@pytest.mark.slow
@pytest.mark.measures_time
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_ten_thousand_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At concurrency 64, on scripted models without latency: memory grows by less than 40 MiB between the first and the
    last tenth of the rows, and 99 of 100 requests are answered within 100 ms meanwhile.
    """
    loop = asyncio.get_running_loop()
    store = str(tmp_path / "store.db")
    async with (
        child(MODELS) as models,
        child(SERVER, store, models.url, str(CONCURRENCY)) as server,
        PlainHttp(server.url) as http,
    ):
        path = f"/evals/{(await http.post('/evals', eval_request(EXACT))).json['id']}"
        lines = "\n".join(json.dumps({"item": {"answer": f"row {number}"}}) for number in range(ROWS))
        file_id = (await http.upload(lines.encode())).json["id"]
        source: Any = sampling() | {"source": {"type": "file_id", "id": file_id}}
        made = (await http.post(f"{path}/runs", {"data_source": source})).json
        run_path = f"{path}/runs/{made['id']}"
        began, seconds, memory = loop.time(), list[float](), dict[int, float]()
        run: Any = made
        async with asyncio.timeout(3 * LONGEST):
            while run["status"] not in ENDED:
                for request in (run_path, f"{path}/runs", f"{run_path}/output_items", "/evals"):
                    asked = loop.time()
                    answer = await http.get(request)
                    seconds.append(loop.time() - asked)
                    if request == run_path:
                        run = answer.json
                done = sum(run["result_counts"][name] for name in ("passed", "failed", "errored"))
                memory[done * 10 // ROWS] = server.memory()
                await asyncio.sleep(0.01)
        took = loop.time() - began
    with capsys.disabled():
        print(
            f"\n{ROWS / took:.0f} rows/s, API p50 {quantile(seconds, 0.5) * 1000:.0f} ms, "
            f"p99 {quantile(seconds, 0.99) * 1000:.0f} ms of {len(seconds)}, most {max(seconds) * 1000:.0f} ms, "
            f"memory {', '.join(f'{memory[tenth]:.0f}' for tenth in sorted(memory))} MiB"
        )
    assert run["result_counts"] == {"total": ROWS, "errored": 0, "failed": 0, "passed": ROWS}
    assert memory[9] - memory[min(memory.keys() - {0})] < 40
    assert quantile(seconds, 0.99) < SLOWER * 0.1

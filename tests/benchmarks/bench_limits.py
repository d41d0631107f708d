"""Under a limit: this client beside the official one, over sockets, each server in a process of its own.

python -m benchmarks.bench_limits NUMBER    serves the limit of one row, as `limits` starts it
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.cases import Table
from benchmarks.measure import environment
from simulation import Limit, Scenario
from transport.test_rate_limits import TABLE

from evals_async import EvalsClient, EvalsError


BODY = b'{"object":"eval.run","id":"%s","eval_id":"eval_1","status":"completed"}'
Get = Callable[[str], Awaitable[object]]


async def serve(scenario: Scenario) -> None:
    """Answer with runs as the limit allows, until the input ends; then print the number of requests."""
    limit: Limit = scenario.limit()
    began: float | None = None
    seen = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal began, seen
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            now = time.monotonic()
            began = now if began is None else began
            seen += 1
            status, headers = limit.take(now - began)
            body = BODY % line.split()[1].rsplit(b"/", 1)[1] if status == 200 else b"{}"
            if status == 200:
                await asyncio.sleep(scenario.latency)
                limit.give()
            lines = [f"{name}: {value}" for name, value in (*headers, ("Content-Length", str(len(body))))]
            head = "\r\n".join([f"HTTP/1.1 {status} X", "Content-Type: application/json", *lines])
            writer.write(head.encode() + b"\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(seen, flush=True)


async def fetch(get: Get, scenario: Scenario, errors: type[Exception]) -> tuple[float, int]:
    """Seconds, and how many calls were lost."""
    turns = iter(range(scenario.calls))
    lost = 0

    async def work() -> None:
        nonlocal lost
        for number in turns:
            try:
                await get(f"evalrun_{number}")
            except errors:
                lost += 1

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(scenario.workers)))
    return time.monotonic() - began, lost


async def ours(url: str, scenario: Scenario) -> tuple[float, int]:
    async with EvalsClient(api_key="sk-x", base_url=url, timeout=scenario.timeout or 60.0) as client:
        return await fetch(lambda run: client.evals.runs.retrieve(run, eval_id="eval_1"), scenario, EvalsError)


async def official(url: str, scenario: Scenario) -> tuple[float, int]:
    from openai import AsyncOpenAI, OpenAIError

    async with AsyncOpenAI(api_key="sk-x", base_url=url, timeout=scenario.timeout or 60.0, max_retries=10) as client:
        return await fetch(lambda run: client.evals.runs.retrieve(run, eval_id="eval_1"), scenario, OpenAIError)


def measured(number: int, client: Callable[[str, Scenario], Awaitable[tuple[float, int]]]) -> str:
    """One run of a client against a new server."""
    command = [sys.executable, "-m", "benchmarks.bench_limits", str(number)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"

        async def run() -> tuple[float, int]:
            return await client(url, TABLE[number])

        seconds, lost = asyncio.run(run())
        out, _ = process.communicate()
    words = f"{seconds:.1f} s, {int(out) / TABLE[number].calls:.2f}"
    return f"{words}, {lost} lost" if lost else words


def limits() -> Table:
    """Every limit of the tests' table, for both clients in one run."""
    rows = [
        (scenario.name, f"{scenario.best():.1f} s", measured(number, ours), measured(number, official))
        for number, scenario in enumerate(TABLE)
    ]
    return Table(
        "Under a limit",
        ("server", "ideal", "evals_async", "official, max_retries=10"),
        rows,
        "600 runs of 20 ms, 32 at once: seconds, and requests a call. Ideal is a client that knows the limit",
    )


if __name__ == "__main__":
    asyncio.run(serve(TABLE[int(sys.argv[1])]))

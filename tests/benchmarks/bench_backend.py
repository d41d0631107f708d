"""A FastAPI backend that reads a run for each request: its requests a second, and what its first callers wait.

Three processes: the upstream server with its latency, and the load, on one core; the backend on the other. 64 callers
begin at the moment at which the backend listens, because that is when a deployment sends it traffic.
"""

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import attrs
from benchmarks import canned
from benchmarks.cases import OPENAI, OURS, Table
from benchmarks.measure import Server, environment, in_turns
from benchmarks.server import pin


CALLERS = 64
LATENCY = 30  # milliseconds of the upstream server
FIRST = 5.0  # seconds that count as the first ones

BACKEND = """
import contextlib, sys, uvicorn
from benchmarks.server import pin
pin(0)
from fastapi import FastAPI
name, url, eval_id, port = sys.argv[1:]

def client():
    if name == "openai":
        import openai
        return openai.AsyncOpenAI(base_url=url, api_key="sk-benchmark")
    from evals_async import EvalsClient
    return EvalsClient(base_url=url, api_key="sk-benchmark")

@contextlib.asynccontextmanager
async def lifespan(app):
    async with client() as app.state.client:
        if name != "openai":
            await app.state.client.prepare()  # as the guide says of servers
        yield

app = FastAPI(lifespan=lifespan)

@app.get("/runs/{run_id}")
async def run(run_id: str):
    run = await app.state.client.evals.runs.retrieve(run_id, eval_id=eval_id)
    return {"id": run.id, "status": run.status, "passed": run.result_counts.passed}

uvicorn.run(app, port=int(port), log_level="error", access_log=False)
"""


@attrs.frozen
class Load:
    """What the callers saw: when each answer came, in seconds since the first call, and how long it took."""

    answers: Sequence[tuple[float, float]]

    def p99(self, begin: float, end: float) -> float:
        """Seconds, in that part of the time."""
        return statistics.quantiles([took for at, took in self.answers if begin <= at < end], n=100)[98]

    def rate(self, begin: float, end: float) -> float:
        """Answers a second, in that part of the time."""
        return sum(begin <= at < end for at, _ in self.answers) / (end - begin)


async def load(port: int, seconds: float) -> Load:
    """64 callers, each on a connection of its own, one request after the other."""
    answers: list[tuple[float, float]] = []
    began = time.perf_counter()

    async def caller(number: int) -> None:
        reader, writer = await connect(port)
        count = number
        while (asked := time.perf_counter()) - began < seconds:
            count += CALLERS
            writer.write(f"GET /runs/{canned.run_id(count)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            begin = head.index(b"content-length: ") + 16
            await reader.readexactly(int(head[begin : head.index(b"\r", begin)]))
            now = time.perf_counter()
            answers.append((now - began, now - asked))
        writer.close()

    await asyncio.gather(*map(caller, range(CALLERS)))
    return Load(answers)


def ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}"


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, as soon as somebody listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.005)


def backend_under_load(server: Server, name: str, seconds: float) -> Load:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", BACKEND, name, server.url(LATENCY), canned.EVAL_ID, str(port)]
    with subprocess.Popen(command, env=environment()) as backend:
        try:

            async def run() -> Load:
                _, writer = await connect(port)  # the clock of the first seconds begins when it listens
                writer.close()
                return await load(port, seconds)

            return asyncio.run(run())
        finally:
            backend.terminate()


def backends(server: Server, rounds: int, seconds: float) -> Table:
    """Requests a second once warm, and p99 of the first seconds beside that of the later ones."""
    pin(1)  # the load; the backend has the other core for itself
    names: tuple[str, ...] = (OURS, OPENAI)
    seen: dict[str, list[Load]] = in_turns(names, lambda name: backend_under_load(server, name, seconds), rounds)
    pin(0)
    first = min(FIRST, seconds / 2)

    def middle(name: str) -> tuple[float, float, float]:
        loads = seen[name]
        return (
            statistics.median(each.rate(first, seconds) for each in loads),
            statistics.median(each.p99(0, first) for each in loads),
            statistics.median(each.p99(first, seconds) for each in loads),
        )

    found = {name: middle(name) for name in seen}
    rows = [
        (
            name,
            f"{rate:,.0f}",
            f"{rate / found[OPENAI][0]:.1f}",
            f"{cold * 1e3:,.0f}",
            f"{warm * 1e3:,.0f}",
            f"{cold / warm:.2f}",
        )
        for name, (rate, cold, warm) in found.items()
    ]
    heads = ("client", "requests/s", "x openai", f"p99 of the first {first:g} s, ms", "p99 later, ms", "x later")
    figures = {
        "backend: requests/s, x openai": found[OURS][0] / found[OPENAI][0],
        "backend: p99 of the first seconds, x warm": found[OURS][1] / found[OURS][2],
    }
    title = f"A FastAPI backend: {CALLERS} callers, upstream {LATENCY} ms"
    return Table(title, heads, rows, figures=figures)

"""A local server with thousands of runs in a process of its own, so that it shares no event loop with what is measured.

`LargeServer` is the side of the tests. Run as a program, this file is the server: it says where it is, and then
answers each line, a JSON list of faults or null, with what it has seen since the line before.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
from aiohttp import web

from evals_async.server import Fault, FaultPlan, LocalServer


SCHEDULE = Path("/proc/thread-self/schedstat")  # on Linux: nanoseconds on a core, nanoseconds waiting for one
EVALS = 4
WATCH = 0.005  # seconds between two looks of a watchdog
RUN = "GET /evals/{eval_id}/runs/{run_id}"


def key_of(number: int) -> tuple[str, str]:
    """The ids of a run: those of neighbours belong to different evals."""
    return f"eval_{number % EVALS}", f"evalrun_{number:05}"


def body_of(number: int) -> dict[str, object]:
    """A run as a server tells it, of the usual size."""
    eval_id, run_id = key_of(number)
    return {
        "object": "eval.run",
        "id": run_id,
        "eval_id": eval_id,
        "report_url": f"https://evals.example/{eval_id}/{run_id}",
        "status": "completed",
        "model": "gpt-4.1-mini",
        "name": f"Run {number}",
        "created_at": 1_746_133_200 + number,
        "result_counts": {"total": 8, "errored": 0, "failed": 2, "passed": 6},
        "per_model_usage": [
            {
                "model_name": "gpt-4.1-mini-2025-04-14",
                "invocation_count": 8,
                "prompt_tokens": 640,
                "completion_tokens": 80,
                "total_tokens": 720,
                "cached_tokens": 0,
            }
        ],
        "per_testing_criteria_results": [{"testing_criteria": "Exact-0", "passed": 6, "failed": 2}],
        "data_source": {
            "type": "completions",
            "source": {"type": "file_id", "id": "file-1"},
            "input_messages": {
                "type": "template",
                "template": [
                    {"type": "message", "role": "developer", "content": {"type": "input_text", "text": "Be brief."}},
                    {"type": "message", "role": "user", "content": {"type": "input_text", "text": "{{ item.text }}"}},
                ],
            },
            "model": "gpt-4.1-mini",
            "sampling_params": {"temperature": 0.2, "seed": number},
        },
        "error": None,
        "metadata": {"number": str(number)},
    }


@attrs.frozen
class Seen:
    """What the server saw: requests, how many of them were under way at once and still are, and the connections that
    carried any.
    """

    requests: int
    most_at_once: int
    under_way: int
    connections: int


class LargeServer:
    """`with LargeServer(10_000) as crowd: EvalsClient(base_url=crowd.base_url, ...)`"""

    def __init__(self, runs: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(runs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.base_url = str(self.read())

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, line: object) -> Seen:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return Seen(**self.read())

    def plan(self, *faults: Fault) -> None:
        """From now on let these faults happen to reads of runs, and no others; what was seen is forgotten."""
        self.ask([attrs.asdict(fault, filter=differs) for fault in faults])

    def seen(self) -> Seen:
        """What was seen since this was asked before."""
        return self.ask(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.process:  # closes its input, which ends it
            pass


class Watchdog:
    """`async with Watchdog() as watchdog:` measures the event loop's longest absence, in seconds of own time."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        seen = own_time()
        while True:
            await asyncio.sleep(WATCH)
            now = own_time()
            self.longest = max(self.longest, now - seen - WATCH)
            seen = now

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def own_time() -> float:
    """Seconds, without those in which this thread was ready to go on and the machine had no core for it.

    Only differences mean anything. Where the system does not tell, all seconds count.
    """
    waited = int(SCHEDULE.read_text().split()[1]) / 1e9 if SCHEDULE.exists() else 0.0
    return time.perf_counter() - waited


def differs(attribute: "attrs.Attribute[Any]", value: object) -> bool:
    return bool(value != attribute.default)


class WatchedServer(LocalServer):
    """A local server that counts who comes."""

    def __init__(self) -> None:
        super().__init__(faults=FaultPlan())
        self.under_way = 0
        self.forget()

    def forget(self) -> None:
        self.count = 0
        self.most = self.under_way
        self.peers: set[object] = set()

    async def start(self) -> Self:
        await super().start()
        assert self._runner is not None
        assert self._runner.server is not None
        self._runner.server.handler_cancellation = True  # a request is under way until its client leaves
        return self

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self.count += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        try:
            return await super()._respond(request)
        finally:
            self.under_way -= 1


async def serve(runs: int) -> None:
    async with WatchedServer() as server:
        evals: list[dict[str, object]] = [{"object": "eval", "id": f"eval_{number}"} for number in range(EVALS)]
        await server.seed(evals=evals, runs=map(body_of, range(runs)))
        print(json.dumps(server.base_url), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            seen = Seen(server.count, server.most, server.under_way, len(server.peers))
            server.forget()
            planned: list[dict[str, Any]] | None = json.loads(line)
            if planned is not None:
                server.faults.clear()
                server.faults.add(*(Fault(**dict[str, Any](route=RUN) | fault) for fault in planned))
            print(json.dumps(attrs.asdict(seen)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

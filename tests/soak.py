"""Soak: every fault at random, from a raw server, while 64 workers read and some change things.

    python tests/soak.py [--seconds 600] [--seed 0]

Checked the whole time: every answer is the one asked for, every listing is whole, every failure is an error of ours,
and what a create, cancel or delete says of itself is what happened: once, or not at all, or "maybe". At the end: memory
is as flat as it was, and no task, connection or turn is left. Prints a summary, and exits with 1 if anything was wrong.

The server records what really happened. It shares no code with the client.
"""

import argparse
import asyncio
import gc
import gzip
import itertools
import json
import os
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

import attrs


sys.path.insert(0, str(Path(__file__).parent))  # it is run by its path, and may be in safe mode

from doubles import ScaledClock
from transport.faultserver import FaultServer, Peer, message

from evals_async import EvalsClient, EvalsError, NotFound, RequestError, Statistics, Timeouts


KEY = "sk-of-the-soak-test"
RUNS = 2000
EVALS = 4
PAGED = 230  # runs of the eval that is listed
READERS = 64
CHANGERS = 8
CANCELLED = 0.03  # the share of reads that their caller gives up on
GOOD = 0.86  # the share of requests that nothing happens to
SPEED = 10.0  # of the client's clock
TIMES = Timeouts(total=20.0, attempt=3.0, connect=2.0)
MAX_BODY = 1 << 20
FLAT = 32.0  # MB by which memory may differ from what it was once everything was warm

Answer: TypeAlias = tuple[int, object]
Deed: TypeAlias = Callable[[], Answer]
"""Carries a request out, and says what to answer."""


def eval_of(number: int) -> str:
    return f"eval_{number % EVALS}"


def run_body(run_id: str, eval_id: str, status: str = "completed") -> dict[str, object]:
    return {
        "object": "eval.run",
        "id": run_id,
        "eval_id": eval_id,
        "status": status,
        "name": f"name of {run_id}",
        "metadata": {"mark": f"{eval_id}/{run_id}"},
    }


@attrs.define
class ServerState:
    """What is so, on the server: names of evals and how often each was created, and the runs that may change."""

    created: Counter[str] = attrs.field(factory=Counter[str])
    runs: dict[str, str] = attrs.field(factory=dict[str, str])
    count: int = 0

    def deed(self, method: str, target: str, body: bytes) -> Deed:
        """What the request asks for."""
        parts = urlsplit(target)
        match method, parts.path.removeprefix("/v1/evals").split("/")[1:]:
            case "POST", []:
                return lambda: self.create(json.loads(body)["name"])
            case "GET", [eval_id, "runs"]:
                return lambda: self.listed(eval_id, dict(parse_qsl(parts.query)))
            case "GET", [eval_id, "runs", run_id]:
                status = self.runs.get(run_id, "completed")
                return lambda: (200, run_body(run_id, eval_id, status))
            case "POST", [eval_id, "runs", run_id, "cancel"]:
                return lambda: self.cancel(run_id, eval_id)
            case "DELETE", [_, "runs", run_id]:
                return lambda: self.delete(run_id)
            case other:
                raise AssertionError(other)

    def create(self, name: str) -> Answer:
        self.count += 1
        self.created[name] += 1
        return 201, {"object": "eval", "id": f"eval_new_{self.count}", "name": name}

    def listed(self, eval_id: str, query: dict[str, str]) -> Answer:
        begin = int(query["after"].rpartition("_")[2]) + 1 if "after" in query else 0
        end = min(begin + int(query.get("limit", "20")), PAGED)
        data = [run_body(f"evalrun_{number}", eval_id) for number in range(begin, end)]
        return 200, {"object": "list", "data": data, "last_id": f"evalrun_{end - 1}", "has_more": end < PAGED}

    def cancel(self, run_id: str, eval_id: str) -> Answer:
        if self.runs.get(run_id) != "in_progress":
            return 400, {"error": {"message": "the run is over"}}
        self.runs[run_id] = "canceled"
        return 200, run_body(run_id, eval_id, "canceled")

    def delete(self, run_id: str) -> Answer:
        if self.runs.pop(run_id, None) is None:
            return 404, {"error": {"message": "no such run"}}
        return 200, {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


class Storm:
    """The server's side: carries requests out, and lets things happen to the answers."""

    def __init__(self, state: ServerState, dice: random.Random) -> None:
        self.state = state
        self.dice = dice
        self.happened: Counter[str] = Counter()
        self.server = FaultServer(self.play)

    async def play(self, peer: Peer) -> bool:
        self.server.seen.clear()  # or the requests of the whole soak would be the memory that is measured
        method = peer.seen.line.split(" ")[0]
        deed = self.state.deed(method, peer.seen.target, peer.seen.body)
        fault = self.well if self.dice.random() < GOOD else self.dice.choice(self.faults())
        self.happened[fault.__name__] += 1
        return await fault(peer, deed)

    def faults(self) -> list[Callable[[Peer, Deed], Awaitable[bool]]]:
        kinds = [
            self.turned_away,
            self.fails,
            self.resets,
            self.breaks_off,
            self.truncates,
            self.zips_badly,
            self.drips,
        ]
        kinds += [self.falls_silent, self.stale_after, self.stale_before, self.of_another, self.garbage, self.too_large]
        return [*kinds, self.redirects, self.hangs_up_politely]

    def told(self, deed: Deed, *headers: tuple[str, str]) -> bytes:
        status, value = deed()
        return message(status, json.dumps(value).encode(), ("Content-Type", "application/json"), *headers)

    def stale(self) -> bytes:
        """An answer to a question of somebody else."""
        number = self.dice.randrange(RUNS)
        return message(200, json.dumps(run_body(f"evalrun_{number}", eval_of(number))).encode())

    def perhaps(self, deed: Deed) -> None:
        if self.dice.random() < 0.5:
            deed()

    async def well(self, peer: Peer, deed: Deed) -> bool:
        await peer.send(self.told(deed))
        return True

    async def turned_away(self, peer: Peer, deed: Deed) -> bool:
        told = [("Retry-After-Ms", "50")], [("Retry-After", "0.2")], [("X-RateLimit-Remaining-Requests", "0")]
        status = self.dice.choice((429, 503))
        headers = self.dice.choice(told[:2] if status == 503 else told)
        await peer.send(message(status, b'{"error": {"message": "too fast"}}', *headers))
        return True

    async def fails(self, peer: Peer, deed: Deed) -> bool:
        self.perhaps(deed)
        status = self.dice.choice((500, 502, 503, 504, 520, 529, 408))
        await peer.send(message(status, self.dice.choice((b"", b"<html>", b'{"error": {"message": "no"}}'))))
        return True

    async def resets(self, peer: Peer, deed: Deed) -> bool:
        self.perhaps(deed)
        peer.reset()
        return False

    async def breaks_off(self, peer: Peer, deed: Deed) -> bool:
        answer = self.told(deed)
        await peer.send(answer[: self.dice.randrange(len(answer))])
        return False

    async def truncates(self, peer: Peer, deed: Deed) -> bool:
        status, value = deed()
        body = json.dumps(value).encode()
        await peer.send(message(status, body[: len(body) // 2], length=len(body)))
        peer.reset()
        return False

    async def zips_badly(self, peer: Peer, deed: Deed) -> bool:
        status, value = deed()
        packed = gzip.compress(json.dumps(value).encode())
        body = self.dice.choice((packed[: len(packed) // 2], b"not gzip at all"))
        await peer.send(message(status, body, ("Content-Encoding", "gzip")))
        return True

    async def drips(self, peer: Peer, deed: Deed) -> bool:
        answer = self.told(deed)
        step = len(answer) // 5 + 1
        for begin in range(0, len(answer), step):
            await peer.send(answer[begin : begin + step])
            await asyncio.sleep(0.004)
        return True

    async def falls_silent(self, peer: Peer, deed: Deed) -> bool:
        self.perhaps(deed)
        await peer.reader.read()
        return False

    async def stale_after(self, peer: Peer, deed: Deed) -> bool:
        await peer.send(self.told(deed))
        await asyncio.sleep(self.dice.choice((0, 0.002)))
        await peer.send(self.stale())
        return True

    async def stale_before(self, peer: Peer, deed: Deed) -> bool:
        await peer.send(self.stale() + self.told(deed))
        return True

    async def of_another(self, peer: Peer, deed: Deed) -> bool:
        deed()
        await peer.send(self.stale())
        return True

    async def garbage(self, peer: Peer, deed: Deed) -> bool:
        deed()
        bodies = (b"", b"null", b"[]", b'"completed"', b"<html>", b"\xff\xfe", b'{"object":', b"7", b"{}{}")
        heads = [message(200, body) for body in bodies] + [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA" * 9 + b"\r\n\r\n",
        ]
        await peer.send(self.dice.choice(heads))
        return False

    async def too_large(self, peer: Peer, deed: Deed) -> bool:
        deed()
        await peer.send(message(200, gzip.compress(bytes(MAX_BODY + 1)), ("Content-Encoding", "gzip")))
        return True

    async def redirects(self, peer: Peer, deed: Deed) -> bool:
        await peer.send(message(307, b"", ("Location", f"http://127.0.0.1:{self.server.port}/v1/evals/eval_0/runs/x")))
        return True

    async def hangs_up_politely(self, peer: Peer, deed: Deed) -> bool:
        await peer.send(self.told(deed))
        return False


class Soak:
    """The client's side: workers that send calls until `enough`, and compare the results with the state."""

    def __init__(
        self,
        client: EvalsClient,
        state: ServerState,
        dice: random.Random,
        happened: Counter[str],
        enough: Callable[["Soak"], bool],
    ) -> None:
        self.client = client
        self.state = state
        self.dice = dice
        self.happened = happened
        self.enough = enough
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.numbers = itertools.count()
        self.doubtful: set[str] = (
            set()
        )  # names that may be created yet: the request was on its way when its time was up

    def check(self, right: bool, text: str) -> None:
        if not right:
            self.wrong.append(text)

    def failed(self, what: str, error: BaseException) -> None:
        """A failure is an outcome as long as it is ours."""
        self.outcomes[f"{what}: {type(error).__name__}"] += 1
        self.check(isinstance(error, EvalsError), f"{what} raised {error!r}")

    async def work(self, task: Callable[[], Awaitable[None]]) -> None:
        while len(self.wrong) < 20 and not self.enough(self):
            await task()
            await asyncio.sleep(0)  # a call that the limiter refuses awaits nothing

    async def read(self) -> None:
        number = self.dice.randrange(RUNS)
        run_id, eval_id = f"evalrun_{number}", eval_of(number)
        seconds = self.dice.random() * 0.02 if self.dice.random() < CANCELLED else None
        try:
            async with asyncio.timeout(seconds):
                run = await self.client.evals.runs.retrieve(run_id, eval_id=eval_id)
        except EvalsError as error:
            self.failed("read", error)
        except TimeoutError as error:
            self.check(seconds is not None, f"read raised {error!r}")
            self.outcomes["read: given up"] += 1
        else:
            self.outcomes["read: ok"] += 1
            mark = (run.metadata or {}).get("mark")
            self.check((run.id, mark) == (run_id, f"{eval_id}/{run_id}"), f"asked for {run_id}, got {run!r}")

    async def read_many(self) -> None:
        numbers = [self.dice.randrange(RUNS) for _ in range(40)]
        keys = [(eval_of(number), f"evalrun_{number}") for number in numbers]
        runs = await self.client.evals.runs.retrieve_many(keys, on_error="return", concurrency=8)
        self.check(len(runs) == len(keys), "retrieve_many lost something")
        for (eval_id, run_id), run in zip(keys, runs, strict=False):
            if isinstance(run, Exception):
                self.failed("read many", run)
            else:
                self.outcomes["read many: ok"] += 1
                self.check((run.eval_id, run.id) == (eval_id, run_id), f"{run_id} has the place of {run.id}")

    async def list_all(self) -> None:
        eval_id = eval_of(self.dice.randrange(EVALS))
        found: list[str] = []
        try:
            async for run in self.client.evals.runs.list(eval_id):
                found.append(run.id)  # noqa: PERF401  # what came before an error counts too
        except EvalsError as error:
            self.failed("list", error)
        else:
            self.outcomes["list: ok"] += 1
            self.check(len(found) == PAGED, f"a listing of {PAGED} ended after {len(found)}")
        self.check(found == [f"evalrun_{number}" for number in range(len(found))], "a listing is out of order")

    async def create(self) -> None:
        name = f"eval number {next(self.numbers)}"
        doubt = False
        try:
            made = await self.client.evals.create(
                data_source_config={"type": "custom", "item_schema": {"type": "object"}}, testing_criteria=[], name=name
            )
        except RequestError as error:
            self.failed("create", error)
            least, doubt = 0, error.maybe_executed
        else:
            self.outcomes["create: ok"] += 1
            self.check(made.name == name, f"created {name}, got {made.name}")
            least = 1
        times = self.state.created.pop(name, 0)
        if doubt and not times:
            self.doubtful.add(name)
        self.check(least <= times <= (1 if least or doubt else 0), f"{name} exists {times} times; {least}, {doubt}")

    async def cancel(self) -> None:
        run_id = f"evalrun_c{next(self.numbers)}"
        self.state.runs[run_id] = "in_progress"
        try:
            run = await self.client.evals.runs.cancel(run_id, eval_id="eval_0")
        except RequestError as error:
            self.failed("cancel", error)
            sure = not error.maybe_executed
            self.check(not sure or self.state.runs[run_id] == "in_progress", f"{run_id} is canceled: {error!r}")
        else:
            self.outcomes["cancel: ok"] += 1
            told = (run.id, run.status, self.state.runs[run_id])
            self.check(told == (run_id, "canceled", "canceled"), f"cancelled {run_id}, got {told}")
        del self.state.runs[run_id]

    async def delete(self) -> None:
        run_id = f"evalrun_d{next(self.numbers)}"
        self.state.runs[run_id] = "completed"
        try:
            gone = await self.client.evals.runs.delete(run_id, eval_id="eval_0")
        except RequestError as error:
            self.failed("delete", error)
            self.check(not isinstance(error, NotFound), f"{run_id} was there, and {error!r}")
            self.check(error.maybe_executed or run_id in self.state.runs, f"{run_id} is gone: {error!r}")
        else:
            self.outcomes["delete: assumed" if gone.assumed else "delete: ok"] += 1
            self.check(gone.run_id == run_id and run_id not in self.state.runs, f"deleted {run_id}, got {gone!r}")
        self.state.runs.pop(run_id, None)

    async def change(self) -> None:
        await self.dice.choice((self.create, self.cancel, self.delete))()


def memory() -> float:
    """MB that this process has in use now."""
    gc.collect()
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # elsewhere the peak has to do
    return most / (2**20 if sys.platform == "darwin" else 2**10)


@attrs.frozen(kw_only=True)
class Report:
    """The result of one soak."""

    outcomes: Counter[str]
    happened: Counter[str]
    statistics: Statistics
    grown: float
    wrong: list[str]

    def __str__(self) -> str:
        counted = [f"{count:>9,}  {name}" for name, count in sorted(self.outcomes.items())]
        faults = [f"{count:>9,}  {name}" for name, count in self.happened.most_common()]
        done = self.statistics
        totals = f"{done.requests:,} requests, {done.retries:,} retries, {done.throttles:,} throttles"
        verdict = self.wrong or ["nothing lost, nothing doubled, nothing of another caller"]
        memory = f"memory {self.grown:+.1f} MB since it was warm"
        return "\n".join(["what came of it:", *counted, "what happened:", *faults, totals, memory, *verdict])


def after(seconds: float) -> Callable[[Soak], bool]:
    """True once so many seconds of the clock on the wall have passed."""
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() >= end


async def soak(enough: Callable[[Soak], bool], seed: int, warm: float = 1.0) -> Report:
    """One soak that ends when it is `enough`. Memory is compared with what it was after `warm` seconds."""
    dice = random.Random(seed)
    state = ServerState()
    storm = Storm(state, dice)
    noise: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: noise.append(f"the loop says {context}"))
    before = asyncio.all_tasks()
    async with storm.server as server:
        client = EvalsClient(
            base_url=server.url, api_key=KEY, clock=ScaledClock(SPEED), timeout=TIMES, max_body=MAX_BODY
        )
        soak = Soak(client, state, dice, storm.happened, enough)
        work = [soak.read] * READERS + [soak.read_many] * 2 + [soak.list_all] * 2 + [soak.change] * CHANGERS
        async with asyncio.TaskGroup() as group:
            for task in work:
                group.create_task(soak.work(task))
            await asyncio.sleep(warm)
            usual = memory()
        statistics = client.statistics()
        soak.check((statistics.in_flight, statistics.waiting) == (0, 0), f"turns are left: {statistics}")
        grown = memory() - usual
        await client.close()
        soak.check(await server.all_closed(), f"{server.open} connections are open after close()")
        left = asyncio.all_tasks() - before - server.handlers
        soak.check(not left, f"tasks are left: {left}")
    soak.check(grown < FLAT, f"memory grew by {grown:.1f} MB")
    late = {name: times for name, times in state.created.items() if times > 1 or name not in soak.doubtful}
    soak.check(not late and not state.runs, f"something happened later: {late}, {state.runs}")
    gc.collect()
    loop.set_exception_handler(None)
    return Report(
        outcomes=soak.outcomes,
        happened=storm.happened,
        statistics=statistics,
        grown=grown,
        wrong=[*soak.wrong, *noise],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Every fault at random, for minutes.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    print(f"{chosen.seconds:g} s, seed {chosen.seed}", flush=True)
    warnings.simplefilter("error")
    report = asyncio.run(soak(after(chosen.seconds), chosen.seed, warm=chosen.seconds / 5))
    print(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

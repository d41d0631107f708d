"""Fewer requests: many known runs by pages, and many waits by listings, beside one request for each run, with this
package and with the official client.

    python tests/benchmarks/bench_pages.py [--short] [--only WORD]

Each case is a function that gives a `Table`; `tables()` has them by name. Run with the argument `serve`, this file is
the server: runs of one eval, with a latency, and with a limit of requests per second where there is to be one.
"""

import argparse
import asyncio
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs


sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks import canned
from benchmarks.cases import Table
from benchmarks.measure import nothing_old_collected
from benchmarks.server import pin


CONCURRENCY = 32
BURST = 10
ROUNDS = 5  # of what takes a tenth of a second
HEADS = ("", "requests", "wall, s", "CPU, s")
RUN = canned.SMALL.split(canned.RUN_ID.encode())


# --- the server -------------------------------------------------------------------------------------------------------

REQUEST = re.compile(rb"GET (?P<path>/[^? ]*)(?:\?(?P<query>[^ ]*))? HTTP/1\.1\r\n")


def run_ids(count: int, *, mixed: bool = False) -> list[str]:
    """The ids of the runs of the server in the order of its listing. If they are `mixed`, sorting does not give it."""
    ids = [canned.run_id(number) for number in range(count)]
    return random.Random(1).sample(ids, count) if mixed else ids


class Service:
    """`count` runs that end evenly within `seconds`, counted in requests; a token bucket of `rate` per second."""

    def __init__(self, count: int, latency: float, rate: float, seconds: float, *, mixed: bool = False) -> None:
        self.latency = latency
        self.rate = rate
        self.seconds = seconds
        self.names = run_ids(count, mixed=mixed)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.restart()

    def restart(self) -> None:
        self.requests = 0
        self.began = time.monotonic()
        self.tokens, self.filled = float(BURST), self.began

    def allowed(self) -> bool:
        now = time.monotonic()
        self.tokens = min(BURST, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def is_over(self, number: int) -> bool:
        return time.monotonic() - self.began >= self.seconds * (number + 1) / len(self.names)

    def body(self, number: int) -> bytes:
        body = self.names[number].encode().join(RUN)
        return body if self.is_over(number) else body.replace(b'"completed"', b'"in_progress"', 1)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path == "/restart":
            requests = self.requests
            self.restart()
            return 200, str(requests).encode()
        self.requests += 1
        if self.rate and not self.allowed():
            return 429, b'{"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}'
        name = path.rpartition("/")[2]
        if name != "runs":
            return (200, self.body(self.numbers[name])) if name in self.numbers else (404, b'{"error": null}')
        start = self.numbers[query["after"]] + 1 if "after" in query else 0
        limit = int(query.get("limit", 20))
        chosen: list[int] = []
        status = query.get("status")
        for number in range(start, len(self.names)):
            if status is None or (status == "in_progress" and not self.is_over(number)):
                chosen.append(number)
                if len(chosen) > limit:
                    break
        page, more = chosen[:limit], len(chosen) > limit
        last = json.dumps(self.names[page[-1]] if page else None).encode()
        data = b",".join(map(self.body, page))
        has_more = b"true" if more else b"false"
        return 200, b'{"object":"list","data":[%s],"last_id":%s,"has_more":%s}' % (data, last, has_more)


class Answerer(asyncio.Protocol):
    """One connection to a service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.received.endswith(b"\r\n\r\n"):
            return
        request = REQUEST.match(self.received)
        self.received = b""
        assert request is not None
        query = dict(part.split("=", 1) for part in (request["query"] or b"").decode().split("&") if part)
        status, body = self.service.answer(request["path"].decode(), query)
        retry = b"Retry-After: 1\r\n" if status == 429 else b""
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        answer = head % (status, retry, len(body)) + body
        asyncio.get_running_loop().call_later(self.service.latency, self.transport.write, answer)


async def serve(service: Service) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answerer(service), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextmanager
def serving(
    count: int, *, latency: float = 0.0, rate: float = 0.0, seconds: float = 0.0, mixed: bool = False
) -> Generator[str]:
    """A server in a process of its own; gives where it is."""
    arguments = [sys.executable, __file__, "serve", *map(str, (count, latency, rate, seconds, int(mixed)))]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def restart(url: str) -> int:
    """Begin anew; returns the requests until now."""
    with urllib.request.urlopen(f"{url}/restart") as answer:
        return int(answer.read())


# --- what is compared -------------------------------------------------------------------------------------------------


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@attrs.frozen
class Row:
    """What some work took: medians of its rounds, but the most requests, and the most that was not got."""

    name: str
    requests: int
    wall: float
    cpu: float
    lost: int

    def cells(self) -> tuple[str, ...]:
        lost = f" ({self.lost} lost)" if self.lost else ""
        return f"{self.name}{lost}", f"{self.requests:,}", f"{self.wall:.2f}", f"{self.cpu:.2f}"


def measured(
    url: str, name: str, work: Callable[[str], Coroutine[Any, Any, int]], expected: int, *, rounds: int = 1
) -> Row:
    """What the work took. A client that does not get everything has a row that says so."""

    async def timed() -> tuple[int, float, float]:
        wall, used = time.perf_counter(), cpu()
        got = await work(url)
        return got, time.perf_counter() - wall, cpu() - used

    def once() -> Row:
        restart(url)
        with nothing_old_collected():
            got, wall, used = asyncio.run(timed())
        return Row(name, restart(url), wall, used, expected - got)

    every = [once() for _ in range(rounds)]
    return Row(
        name,
        requests=max(each.requests for each in every),
        wall=statistics.median(each.wall for each in every),
        cpu=statistics.median(each.cpu for each in every),
        lost=max(each.lost for each in every),
    )


def ours(ids: list[str], *, by_pages: bool = False) -> Callable[[str], Coroutine[Any, Any, int]]:
    async def work(url: str) -> int:
        from evals_async import EvalRun, EvalsClient

        async with EvalsClient(base_url=f"{url}/v1", api_key="sk-benchmark", timeout=600) as client:
            runs = await client.evals.runs.retrieve_many(
                ids, eval_id=canned.EVAL_ID, by_pages=by_pages, concurrency=CONCURRENCY, on_error="return"
            )
        return sum(isinstance(run, EvalRun) and run.id == wanted for run, wanted in zip(runs, ids, strict=True))

    return work


async def official(url: str, work: Callable[[Any], Awaitable[bool]], ids: list[str]) -> int:
    import openai

    semaphore = asyncio.Semaphore(CONCURRENCY)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-benchmark", max_retries=10) as client:

        async def one(run_id: str) -> bool:
            async with semaphore:
                return await work((client, run_id))

        found = await asyncio.gather(*map(one, ids), return_exceptions=True)
    return sum(each is True for each in found)


def theirs(ids: list[str]) -> Callable[[str], Coroutine[Any, Any, int]]:
    async def one(named: Any) -> bool:
        client, run_id = named
        return bool((await client.evals.runs.retrieve(run_id, eval_id=canned.EVAL_ID)).id == run_id)

    return lambda url: official(url, one, ids)


def fetching(count: int, latency: float, rate: float = 0.0) -> Table:
    """All runs of an eval whose ids are known: by pages, in any order, and one by one."""
    ids = run_ids(count)
    shuffled = random.Random(0).sample(ids, count)
    with (
        serving(count, latency=latency / 1000, rate=rate) as url,
        serving(count, latency=latency / 1000, rate=rate, mixed=True) as mixed,
    ):
        for client in (ours, theirs):  # what is imported for the first request is not measured
            asyncio.run(client(ids[:1])(url))

        def by_pages(url: str, name: str, ids: list[str]) -> Row:
            return measured(url, f"evals_async, by_pages, {name}", ours(ids, by_pages=True), count, rounds=ROUNDS)

        pages = [
            by_pages(url, "ids in order", ids),
            by_pages(url, "ids shuffled", shuffled),
            by_pages(mixed, "ids in order, but not when sorted", run_ids(count, mixed=True)),
            by_pages(mixed, "ids in no order", shuffled),
        ]
        single = measured(url, "evals_async", ours(shuffled), count)
        official_client = measured(url, "openai, 32 at once", theirs(shuffled), count)
    limit = f", at most {rate:.0f} requests a second" if rate else ""
    case = f"pages {count:,} runs at {latency:.0f} ms{limit}"
    figures = {
        f"{case}, {kind}: {what}": value
        for kind, of_kind in (("shuffled", pages[:2]), ("in no order", pages[2:]))
        for what, value in (
            ("requests", float(max(each.requests for each in of_kind))),
            ("wall, s", max(each.wall for each in of_kind)),
            ("wall, x openai", official_client.wall / max(*(each.wall for each in of_kind), 0.01)),
        )
    }
    rows = [each.cells() for each in (*pages, single, official_client)]
    return Table(f"{count:,} runs of one eval, {latency:.0f} ms{limit}", HEADS, rows, figures=figures)


def waiting(count: int, seconds: float, latency: float, rate: float = 0.0) -> Table:
    """Runs that end evenly within some seconds, looked at after 1 s, 1.5 s, 2.25 s and so on."""
    ids = [canned.run_id(number) for number in range(count)]

    async def by_listings(url: str) -> int:
        from evals_async import EvalsClient

        async with EvalsClient(base_url=f"{url}/v1", api_key="sk-benchmark", timeout=600) as client:
            return sum([each.ok async for each in client.evals.runs.wait_many(ids, eval_id=canned.EVAL_ID)])

    async def singly(url: str) -> int:
        from evals_async import EvalRun, EvalsClient, poll_many

        async with EvalsClient(base_url=f"{url}/v1", api_key="sk-benchmark", timeout=600) as client:

            async def look(run_id: str) -> EvalRun:
                return await client.evals.runs.retrieve(run_id, eval_id=canned.EVAL_ID)

            return sum([each.ok async for each in poll_many(look, lambda run: run.is_terminal, ids)])

    async def one(named: Any) -> bool:
        client, run_id = named
        pause = 1.0
        while (await client.evals.runs.retrieve(run_id, eval_id=canned.EVAL_ID)).status != "completed":
            await asyncio.sleep(pause)
            pause = min(30.0, 1.5 * pause)
        return True

    async def unbounded(url: str) -> int:
        import openai

        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-benchmark", max_retries=10) as client:
            found = await asyncio.gather(*(one((client, run_id)) for run_id in ids), return_exceptions=True)
        return sum(each is True for each in found)

    with serving(count, latency=latency / 1000, rate=rate, seconds=seconds) as url:
        rows = [
            measured(url, "evals_async, wait_many", by_listings, count).cells(),
            measured(url, "evals_async, poll_many over retrieve", singly, count).cells(),
            measured(url, "openai, a loop for each run", unbounded, count).cells(),
        ]
    limit = f", at most {rate:.0f} requests a second" if rate else ""
    return Table(f"Waiting for {count:,} runs that end within {seconds:.0f} s, {latency:.0f} ms{limit}", HEADS, rows)


def tables(*, short: bool) -> dict[str, Callable[[], Table]]:
    """Every case, by a name that `--only` may choose."""
    count, limited, waits = (500, 150, 100) if short else (5000, 3000, 500)
    seconds = 5.0 if short else 20.0
    return {
        **{f"pages {latency}": partial(fetching, count, latency) for latency in (0, 20, 50)},
        "pages limited": lambda: fetching(limited, 20, rate=50),
        **{f"pages wait {latency}": partial(waiting, waits, seconds, latency) for latency in (0, 20, 50)},
        "pages wait limited": lambda: waiting(waits, seconds, 20, rate=50),
    }


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        pin(1)
        count, latency, rate, seconds, mixed = sys.argv[2:]
        asyncio.run(serve(Service(int(count), float(latency), float(rate), float(seconds), mixed=mixed == "1")))
        return
    from benchmarks import report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", metavar="WORD", default="")
    options = parser.parse_args()
    pin(0)
    for name, measure in tables(short=options.short).items():
        if options.only in name:
            print(report.markdown([measure()]).partition("\n\n")[2], flush=True)


if __name__ == "__main__":
    main()

"""How cost grows: with runs, with pages, with concurrency, with the size of a body. Series for a plot."""

import asyncio
from functools import partial
from statistics import median

from benchmarks import canned
from benchmarks.cases import HAND, OPENAI, OURS, decoders
from benchmarks.measure import Server, cpu_of, crowd
from benchmarks.peers import PEERS
from benchmarks.report import Plot, Series


NAMES = (OURS, OPENAI, HAND)
ROUNDS = range(3)


def runs_and_concurrency(server: Server, most: int) -> list[Plot]:
    seconds: Series = {name: [] for name in NAMES}
    pace: Series = {name: [] for name in NAMES}

    async def fan(name: str, count: int, concurrency: int) -> tuple[float, float]:
        async with PEERS[name](server.url()) as peer:
            await crowd(peer.run, list(map(canned.run_id, range(concurrency))), concurrency)
            measured = await server.measure(crowd(peer.run, list(map(canned.run_id, range(count))), concurrency), 1)
            return measured.cpu, count / measured.wall

    for name in NAMES:
        count = 10
        while count <= (most if name != OPENAI else most // 10):
            seconds[name].append((count, median(asyncio.run(fan(name, count, 50))[0] for _ in ROUNDS)))
            count *= 10
        for concurrency in (1, 4, 16, 64, 200):
            enough = 1000 if name != OPENAI else 200
            pace[name].append((concurrency, median(asyncio.run(fan(name, enough, concurrency))[1] for _ in ROUNDS)))
    return [
        Plot("Runs, 50 at a time", "runs", "CPU seconds", seconds),
        Plot("Concurrency", "requests at once", "requests per second", pace),
    ]


def pages(server: Server, most: int) -> Plot:
    seconds: Series = {name: [] for name in NAMES}

    async def go(name: str, count: int) -> float:
        async def walk() -> None:
            seen = 0
            async for _ in peer.pages("walk"):
                seen += 1
                if seen == count:
                    break

        async with PEERS[name](server.url()) as peer:
            return (await server.measure(walk(), 1)).cpu

    for name in NAMES:
        for count in (1, 3, 10, 30, 100):
            if count <= most:
                seconds[name].append((count, median(asyncio.run(go(name, count)) for _ in ROUNDS)))
    return Plot("Pages of 100 output items", "pages", "CPU seconds", seconds)


def body_size(most: int) -> Plot:
    """Pages from one item of 2 KB to `most` items."""
    milliseconds: Series = {}
    for name, decode in decoders("page").items():
        if name == "msgspec Structs":
            continue
        points = milliseconds.setdefault(HAND if name.startswith("json") else name, [])
        size = 1
        while size <= most:
            body = canned.text(canned.page(0, size, has_more=False))
            points.append((len(body), median(cpu_of(partial(decode, body)) for _ in ROUNDS) * 1e3))
            size *= 4
    return Plot("Decoding a page (by hand: json.loads alone)", "bytes", "CPU milliseconds", milliseconds)

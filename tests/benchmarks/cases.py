"""The cases. Each gives a `Table`; what is compared in it is the same work on the same bytes."""

import asyncio
import gc
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from statistics import median
from typing import Any

import attrs
import msgspec
from benchmarks import canned, live, shapes
from benchmarks.measure import (
    Measured,
    Rounds,
    Server,
    child,
    cpu_of,
    crowd,
    in_rounds,
    in_turns,
    middle_ratio,
    nothing_old_collected,
    stall_watch,
)
from benchmarks.peers import PEERS


OURS_READ = "evals_async, all parts read"
OURS, ONE_BY_ONE, OPENAI = "evals_async", "evals_async, page by page", "openai"
OPENAI_AIOHTTP, HAND, HAND_MSGSPEC = "openai[aiohttp]", "aiohttp + json", "aiohttp + msgspec"
UNTYPED = "aiohttp + msgspec, dicts"
LIMIT = "asyncio streams + msgspec"
ALL = (OURS, HAND, HAND_MSGSPEC, LIMIT, OPENAI, OPENAI_AIOHTTP)


@attrs.frozen
class Table:
    """A title, column heads, and rows; `note` says what to know when reading it.

    `figures` are the numbers that `bounds.toml` may name, each under the name that it has there.
    """

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    figures: Mapping[str, float] = attrs.field(factory=dict[str, float])


def middle(times: dict[str, list[float]], name: str, *, unit: float = 1e-3, digits: int = 1) -> tuple[str, str]:
    """A client's median, and how many times as quick as the official client it was in the same round."""
    return f"{median(times[name]) / unit:,.{digits}f}", f"{middle_ratio(times[OPENAI], times[name]):,.1f}"


def costs(case: str, title: str, unit: str, measured: dict[str, Rounds], *, note: str = "") -> Table:
    """CPU and wall time of every client, and how they compare with the official client's and with those by hand.

    The figures are named for the `case`: how many times as quick as others we were, in CPU time and in wall time.
    """
    rows = [
        (
            name,
            f"{m.cpu * 1e6:,.0f}",
            *compared(m, measured, attrgetter("cpu")),
            f"{1 / m.wall:,.0f}",
            *compared(m, measured, attrgetter("wall")),
            f"{m.server:.0%}",
        )
        for name, m in measured.items()
    ]
    ratios = ("x openai", "x by hand")
    heads = ("client", f"CPU, us per {unit}", *ratios, f"{unit}s/s", *ratios, "server busy")
    figures = {
        f"{case}: {what}, x {other}": measured[OURS].times(measured[other], attrgetter(what))
        for what in ("cpu", "wall")
        for other in (OPENAI, HAND, HAND_MSGSPEC)
        if other in measured
    }
    return Table(title, heads, rows, note, figures)


def compared(rounds: Rounds, measured: dict[str, Rounds], what: Callable[[Measured], float]) -> tuple[str, str]:
    return f"{rounds.times(measured[OPENAI], what):.1f}", f"{rounds.times(measured[HAND], what):.2f}"


def fan_out(server: Server, count: int, concurrency: int, rounds: int) -> Table:
    async def work(name: str) -> Measured:
        async with PEERS[name](server.url()) as peer:
            # Opens the connections, by ids that differ: reads of one run would share a request, and so a connection.
            await crowd(peer.run, list(map(canned.run_id, range(2 * concurrency))), concurrency)
            return await server.measure(crowd(peer.run, list(map(canned.run_id, range(count))), concurrency), count)

    title = f"{rounds * count:,} runs, {concurrency} at a time, in turns of {count:,}"
    return costs(f"fan-out {concurrency}", title, "request", in_rounds(ALL, work, rounds))


LIVE = {"azure": "Azure", "foundry": "Foundry"}


def fan_out_live(server: Server, kind: str, count: int, rounds: int) -> Table:
    """Runs as Azure or Foundry send them. The structs of `shapes` are of OpenAI's, so msgspec makes dicts here."""
    ids = [f"{canned.run_id(number)}-{kind}" for number in range(count)]

    async def work(name: str) -> Measured:
        async with PEERS[name](server.url()) as peer:
            await crowd(peer.run, ids[:100], 50)
            return await server.measure(crowd(peer.run, ids, 50), count)

    measured = in_rounds((OURS, HAND, UNTYPED, OPENAI), work, rounds)
    return costs(f"fan-out {LIVE[kind]}", f"{rounds * count:,} runs of {LIVE[kind]}, 50 at a time", "request", measured)


def pages_live(server: Server, kind: str, count: int, rounds: int) -> Table:
    """Pages of a hundred output items as Foundry sends them, one after the other."""

    async def work(name: str) -> Measured:
        async def go() -> None:
            for number in range(count):
                async for _ in peer.items(f"{canned.run_id(number)}-{kind}"):
                    pass

        async with PEERS[name](server.url()) as peer:
            await anext(aiter(peer.pages(f"{canned.run_id(0)}-{kind}")))
            return await server.measure(go(), count)

    measured = in_rounds((OURS, HAND, UNTYPED, OPENAI), work, rounds)
    title = f"{rounds * count:,} pages of 100 output items of Foundry ({kind}), one after the other"
    return costs(f"pages Foundry {kind}", title, "page", measured)


def with_uvloop(server: Server, count: int, rounds: int) -> Table:
    import uvloop

    async def work(name: str) -> Measured:
        async with PEERS[name](server.url()) as peer:
            await crowd(peer.run, list(map(canned.run_id, range(100))), 50)
            return await server.measure(crowd(peer.run, list(map(canned.run_id, range(count))), 50), count)

    def cpu_in(client: tuple[str, Callable[[], asyncio.AbstractEventLoop]]) -> float:
        name, new_loop = client
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(work(name)).cpu

    loops = (asyncio.new_event_loop, uvloop.new_event_loop)
    cpu = in_turns([(name, new_loop) for new_loop in loops for name in (OURS, HAND)], cpu_in, rounds)
    rows: list[tuple[str, ...]] = []
    for name in (OURS, HAND):
        plain, quick = (cpu[name, new_loop] for new_loop in loops)
        medians = (f"{median(times) * 1e6:,.0f}" for times in (plain, quick))
        rows.append((name, *medians, f"{middle_ratio(plain, quick):.1f}"))
    return Table("uvloop: runs, 50 at a time", ("client", "asyncio, us per request", "uvloop, us", "faster"), rows)


def walk(server: Server, pages: int, latency: int, rounds: int) -> Table:
    """Page after page, with a consumer that takes as long over a page as the server."""

    async def work(name: str) -> Measured:
        async def go() -> None:
            seen = 0
            async for _ in peer.items("walk"):
                seen += 1
                if latency and seen % 100 == 0:
                    await asyncio.sleep(latency / 1000)
                if seen == pages * 100:
                    break

        async with PEERS[name](server.url(latency)) as peer:
            return await server.measure(go(), pages)

    names = (OURS, ONE_BY_ONE, OPENAI, HAND, HAND_MSGSPEC)
    measured = in_rounds(names, work, rounds)
    title = f"{pages} pages of 100 output items, one after the other, latency {latency} ms" + (
        ", and as long over each page" if latency else ""
    )
    return costs(f"walk {latency}", title, "page", measured)


def tree(server: Server, runs: int, rounds: int) -> Table:
    async def work(name: str) -> Measured:
        async def one(run_id: str) -> None:
            async for _ in peer.items(run_id):
                pass

        async with PEERS[name](server.url()) as peer:
            await one(canned.run_id(0))
            return await server.measure(crowd(one, list(map(canned.run_id, range(runs))), 50), runs * 5)

    names = (OURS, OPENAI, HAND, HAND_MSGSPEC)
    title = f"{rounds * runs} runs x 5 pages of 100 output items, 50 at a time, in turns of {runs}"
    return costs("tree", title, "page", in_rounds(names, work, rounds))


def decoders(body: str) -> dict[str, Callable[[bytes], Any]]:
    """What makes objects of the bytes of a run, or of a page."""
    from openai._models import construct_type  # what it does with every answer
    from openai.pagination import AsyncCursorPage
    from openai.types.evals import RunRetrieveResponse
    from openai.types.evals.runs import OutputItemListResponse

    from evals_async._codec import decode, decode_page
    from evals_async.models import EvalRun, OutputItem

    if body.endswith("page"):
        ours: Callable[[bytes], Any] = lambda data: tuple(decode_page(data, OutputItem))  # noqa: E731
        theirs: Any = AsyncCursorPage[OutputItemListResponse]
        structs: Callable[[bytes], Any] = msgspec.json.Decoder(shapes.Page).decode
    else:
        ours = lambda data: decode(data, EvalRun)  # noqa: E731
        theirs = RunRetrieveResponse
        structs = msgspec.json.Decoder(shapes.Run).decode
    return {
        OURS: ours,
        OURS_READ: lambda data: all_read(ours(data)),
        OPENAI: lambda data: construct_type(type_=theirs, value=json.loads(data)),
        "json.loads, no objects": json.loads,
        "msgspec Structs": structs,
    }


def all_read(found: Any) -> Any:
    """Read the deferred parts of a run, or of the items of a page, so that they are made."""
    from evals_async.models import EvalRun, OutputItem

    if isinstance(found, EvalRun):
        return found.data_source
    items: tuple[OutputItem, ...] = found
    return [(item.sample, [result.sample for result in item.results or ()]) for item in items]


OPENAI_BODIES = {"run": (canned.SMALL, 200), "large run": (canned.LARGE, 10), "page": (canned.PAGE, 20)}
LIVE_BODIES = {
    "Azure run": (live.AZURE_RUN, 200),
    "Foundry run": (live.FOUNDRY_RUN, 200),
    "Foundry label page": (live.LABEL_PAGE, 20),
    "Foundry target page": (live.TARGET_PAGE, 20),
    "Foundry agent page": (live.AGENT_PAGE, 20),
}


def decoding(rounds: int) -> Table:
    return decoding_of("Decoding: bytes to objects", OPENAI_BODIES, rounds)


def decoding_live(rounds: int) -> Table:
    return decoding_of("Decoding what Azure and Foundry send", LIVE_BODIES, rounds)


def decoding_of(title: str, bodies: dict[str, tuple[bytes, int]], rounds: int) -> Table:
    def times_of(body: str) -> dict[str, list[float]]:
        data, repeat = bodies[body]
        decode = decoders(body)
        if bodies is LIVE_BODIES:
            del decode["msgspec Structs"]  # those of `shapes` are of OpenAI's bodies
        for first in decode.values():
            first(data)  # functions are made at first use
        with nothing_old_collected():
            return in_turns(decode, lambda name: cpu_of(partial(decode[name], data), repeat), rounds)

    times = [times_of(body) for body in bodies]
    rows = [(name, *(cell for of in times for cell in middle(of, name, unit=1e-6))) for name in times[0]]
    heads = [(f"{body}, {len(data) / 1000:,.1f} KB, us", "x openai") for body, (data, _) in bodies.items()]
    figures = {
        f"decoding {body}{what}: x {OPENAI}": middle_ratio(of[OPENAI], of[ours])
        for body, of in zip(bodies, times, strict=True)
        for what, ours in (("", OURS), (", all read", OURS_READ))
    }
    note = "Of the garbage collector's work that counts which the made objects cause, not that of all that is imported."
    return Table(title, ("client", *chain.from_iterable(heads)), rows, note, figures)


RETAIN = """
import gc, re, resource, sys, time
from benchmarks import canned
from benchmarks.cases import decoders
name, count = sys.argv[1], int(sys.argv[2])
decode = decoders("run")[name]
pieces = canned.SMALL.split(canned.RUN_ID.encode())
kept = [decode(canned.RUN_ID.encode().join(pieces)) for _ in range(100)]
gc.collect()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
kept += [decode(canned.run_id(number).encode().join(pieces)) for number in range(count)]
gc.collect()
after = resident()
began = time.process_time()
gc.collect()
taken = time.process_time() - began
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # ru_maxrss begins with the parent's
print((after - before) / count, taken, peak)
"""


def retained(count: int) -> Table:
    found: dict[str, list[float]] = {}
    for name in (OURS, OPENAI, "json.loads, no objects", "msgspec Structs"):
        found[name] = [float(word) for word in child(RETAIN, name, str(count))[1].split()]
    rows = [
        (name, f"{each:,.0f}", f"{each / found[OPENAI][0]:.2f}", f"{collect * 1e3:,.0f}", f"{peak / 1024:,.0f}")
        for name, (each, collect, peak) in found.items()
    ]
    heads = ("client", "bytes per run", "of openai", "full collection, ms", "peak of the process, MB")
    figures = {"retained: of openai": found[OURS][0] / found[OPENAI][0]}
    return Table(f"{count:,} runs kept in memory", heads, rows, figures=figures)


FIRST_ANSWER = {
    OURS: """
        from evals_async import EvalsClient
        async def main():
            async with EvalsClient(base_url=url, api_key="k") as client:
                await client.evals.runs.retrieve(run, eval_id=eval_id)""",
    OPENAI: """
        import openai
        async def main():
            async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
                await client.evals.runs.retrieve(run, eval_id=eval_id)""",
    HAND: """
        import aiohttp
        async def main():
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{url}/evals/{eval_id}/runs/{run}") as response:
                    await response.json()""",
}


HELP = "import sys; sys.argv[1:] = ['--help']; from evals_async.cli import main; main()"


def first_answer(name: str) -> str:
    lines = "\n".join(line[8:] for line in FIRST_ANSWER[name].splitlines())
    return f"import asyncio, sys\nurl, run, eval_id = sys.argv[1:]{lines}\nasyncio.run(main())"


def start(server: Server, rounds: int) -> Table:
    """CPU times of whole processes, less that of one that does nothing."""
    clients = {OURS: "import evals_async", OPENAI: "import openai", HAND: "import aiohttp"}
    programs = ["pass", HELP, *clients.values(), *map(first_answer, clients)]
    arguments = (server.url(), canned.run_id(1), canned.EVAL_ID)
    taken = in_turns(programs, lambda program: child(program, *arguments)[0], rounds)

    def over_nothing(program: str) -> list[float]:
        return [max(of - nothing, 1e-4) for of, nothing in zip(taken[program], taken["pass"], strict=True)]

    imported = {name: over_nothing(program) for name, program in clients.items()}
    answered = {name: over_nothing(first_answer(name)) for name in clients}
    rows = [(name, *middle(imported, name), *middle(answered, name, digits=0)) for name in clients]
    shown, bare = median(over_nothing(HELP)), median(taken["pass"])
    note = f"`evals-async --help`: {shown * 1e3:,.0f} ms. The bare interpreter: {bare * 1e3:,.0f} ms."
    heads = ("client", "import, ms", "x openai", "import and first answer, ms", "x openai")
    figures = {
        "import: ms": median(imported[OURS]) * 1e3,
        f"first answer: x {OPENAI}": middle_ratio(answered[OPENAI], answered[OURS]),
    }
    return Table("Start: CPU time over the bare interpreter", heads, rows, note, figures)


def stalls(server: Server, rounds: int) -> Table:
    async def longest(name: str, body: str) -> float:
        async with PEERS[name](server.url()) as peer:
            async for _ in peer.pages(canned.run_id(0)):
                break
            with nothing_old_collected():
                async with stall_watch() as stall:
                    async for _ in peer.pages(body):
                        pass
            return stall.longest

    def held(body: str) -> dict[str, list[float]]:
        return in_turns(names, lambda name: asyncio.run(longest(name, body)), rounds)

    names: tuple[str, ...] = (OURS, OPENAI, HAND, HAND_MSGSPEC)
    small, large = held("5mb"), held("10mb")
    rows = [(name, *middle(small, name), *middle(large, name)) for name in names]
    heads = ("client", "5 MB, ms", "x openai", "10 MB, ms", "x openai")
    note = "After `gc.freeze()`, so that a collection of everything else is not counted."
    figures = {
        f"stall {size}: x {OPENAI}": middle_ratio(times[OPENAI], times[OURS])
        for size, times in (("5 MB", small), ("10 MB", large))
    } | {"stall 10 MB: ms": median(large[OURS]) * 1e3}
    return Table("How long the loop is held while one large page is read and decoded", heads, rows, note, figures)


MANY, GATHER = "evals_async, retrieve_many", ", gather"

AT_ONCE = """
import sys
from benchmarks.cases import asked_at_once
print(*asked_at_once(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def all_of(peer: Any, ids: list[str], *, many: bool) -> list[Any]:
    if many:
        runs = peer.client.evals.runs
        return [*await runs.retrieve_many(ids, eval_id=canned.EVAL_ID, concurrency=100, on_error="return")]
    return await asyncio.gather(*map(peer.run, ids), return_exceptions=True)


def asked_at_once(name: str, url: str, count: int) -> tuple[int, float]:
    """How many of so many runs were lost, and for how long the loop was held: in one call, or in one `gather`."""

    async def work() -> tuple[int, float]:
        ids = list(map(canned.run_id, range(count)))
        async with PEERS[OURS if name == MANY else name.removesuffix(GATHER)](url) as peer:
            await peer.run(ids[0])
            gc.collect()
            async with stall_watch() as stall:
                runs: list[Any] = await all_of(peer, ids, many=name == MANY)
        return sum(isinstance(run, BaseException) for run in runs), stall.longest

    return asyncio.run(work())


def at_once(server: Server, count: int, rounds: int) -> Table:
    """All of them asked for at the same time, by each client in a process of its own."""

    def work(name: str) -> tuple[int, float]:
        lost, held = child(AT_ONCE, name, server.url(), str(count))[1].split()
        return int(lost), float(held)

    found = in_turns((MANY, OURS + GATHER, HAND + GATHER), work, rounds)
    rows = [
        (name, f"{max(lost for lost, _ in seen):,}", f"{median(held for _, held in seen) * 1e3:,.0f}")
        for name, seen in found.items()
    ]
    heads = ("client", "lost", "longest hold of the loop, ms")
    note = "Each in a process of its own, and all runs are kept. Of what was lost the worst round is shown."
    figures = {
        "at once: lost": float(max(lost for lost, _ in found[MANY])),
        "at once: ms": median(held for _, held in found[MANY]) * 1e3,
    }
    return Table(f"{count:,} runs at once", heads, rows, note, figures)

"""A program of its own, whose memory can be measured: fetches the first COUNT runs of a crowd, PASSES times over.

`python fetch_all.py collect|stream BASE_URL COUNT GONE_EVERY PASSES`; prints what came of a warm-up and of each pass,
as JSON. With GONE_EVERY 100 one id in a hundred is of a run that is not there.
"""

import asyncio
import gc
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import attrs


sys.path.insert(0, str(Path(__file__).parent))  # it is run by its path, and may be in safe mode

from large_server import Watchdog, key_of

from evals_async import EvalRun, EvalsClient, NotFound, Outcome


GONE = "evalrun_gone"
WARM_UP = 200  # runs before the first pass: imports, and what is written on first use


@attrs.frozen(kw_only=True)
class Fetched:
    """What came of one pass: how many results were right and in the right place, the loop's longest stall in seconds,
    the process's peak of memory so far in MB.
    """

    right: int
    stall: float
    peak: float


def keys_of(count: int, gone_every: int) -> list[tuple[str, str]]:
    """The ids of runs, of which one in so many is not there."""
    pairs = [key_of(number) for number in range(count)]
    for number in range(gone_every - 1, count, gone_every) if gone_every else ():
        pairs[number] = (pairs[number][0], GONE)
    return pairs


async def fetch(run_keys: Iterable[tuple[str, str]]) -> tuple[EvalRun | Exception, ...]:
    async with EvalsClient() as client:
        return await client.evals.runs.retrieve_many(run_keys, on_error="return")


async def stream(run_keys: Iterable[tuple[str, str]]) -> AsyncIterator[Outcome[tuple[str, str], EvalRun]]:
    async with EvalsClient() as client, client.evals.runs.stream_many(run_keys) as outcomes:
        async for outcome in outcomes:
            yield outcome


def peak() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def is_right(key: tuple[str, str], result: EvalRun | Exception | None) -> bool:
    if isinstance(result, EvalRun):
        return key == (result.eval_id, result.id)
    return isinstance(result, NotFound) and key[1] == GONE


async def collected(keys: list[tuple[str, str]]) -> int:
    results = await fetch(keys)
    assert len(results) == len(keys)
    return sum(is_right(key, result) for key, result in zip(keys, results, strict=True))


async def streamed(keys: list[tuple[str, str]]) -> int:
    right = 0
    async for outcome in stream(keys):
        right += is_right(outcome.key, outcome.value or outcome.error)
    return right


async def measured(how: str, keys: list[tuple[str, str]]) -> Fetched:
    async with Watchdog() as watchdog:
        right = await (collected(keys) if how == "collect" else streamed(keys))
    gc.collect()
    return Fetched(right=right, stall=watchdog.longest, peak=peak())


async def main(how: str, base_url: str, count: int, gone_every: int, passes: int) -> None:
    os.environ.update(OPENAI_BASE_URL=base_url, OPENAI_API_KEY="local")
    sizes = [WARM_UP, *[count] * passes]
    print(json.dumps([attrs.asdict(await measured(how, keys_of(size, gone_every))) for size in sizes]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))

"""One process of several that share a quota: fetches runs, and says what became of them.

python worker.py BASE_URL REDIS_URL NAME CALLS [SECONDS]

It begins when it is sent a line. Its clock is wrong by SECONDS.
"""

import asyncio
import json
import sys
import time

from evals_async import EvalsClient, EvalsError
from evals_async._clock import SystemClock
from evals_async.redis import RedisLimiter


class WrongClock(SystemClock):
    def __init__(self, wrong: float) -> None:
        self.time = lambda: time.time() + wrong


async def main(base_url: str, redis_url: str, name: str, calls: int, wrong: float) -> None:
    lost: list[str] = []
    async with (
        RedisLimiter(redis_url, name=name, clock=WrongClock(wrong)) as limiter,
        EvalsClient(api_key="sk-worker", base_url=base_url, limiter=limiter, timeout=300) as client,
    ):
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()

        async def one(number: int) -> None:
            try:
                await client.evals.runs.retrieve(f"evalrun_{number}", eval_id="eval_1")
            except EvalsError as error:
                lost.append(repr(error))

        await asyncio.gather(*(one(number) for number in range(calls)))
        standing = client.statistics()
        told = {
            "lost": lost,
            "seconds": time.monotonic() - began,
            "requests": standing.requests,
            "rate": standing.rate,
            "source": standing.rate_source,
        }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float((*sys.argv, "0")[5])))

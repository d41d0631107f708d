"""The server of the benchmark: a bare asyncio protocol that answers with canned bodies, in a process and on a core of
its own. It spends a few microseconds on an answer, so that clients are what is measured; the report says how busy it
was.

Paths as the service has them, behind a first segment that is the latency in milliseconds: `/20/v1/evals/...`. A run
whose id ends in `-large` is the one of 100 KB; one that ends in `-azure` or `-foundry` is what those send. The items
of a run that ends in `-label`, `-target` or `-agent` are one page of such items. Every other run has five pages of a
hundred output items, and the run `walk` has a hundred.
Run as a program it prints its port, and ends with its standard input.
"""

import asyncio
import os
import re
import sys
from typing import cast

from benchmarks import canned, live


REQUEST = re.compile(
    rb"GET /(?P<latency>\d+)/v1/evals/[^/]+/runs(?:/(?P<run>[^/? ]+))?(?P<items>/output_items)?"
    rb"(?:\?(?P<query>[^ ]*))? HTTP/1\.1\r\n"
)
AFTER = re.compile(rb"after=outputitem_(\d+)")
HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Nov 2026 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n"
    b"openai-version: 2020-10-01\r\nopenai-processing-ms: 12\r\nx-request-id: req_00000000000000000000000000000000\r\n"
    b"x-ratelimit-limit-requests: 1000000\r\nx-ratelimit-remaining-requests: 999999\r\nx-ratelimit-reset-requests: 1ms"
    b"\r\n\r\n"
)

CORES = "EVALS_ASYNC_BENCHMARK_CORES"
PAGES = 5
PAGES_OF_WALK = 100
PAGE_SIZE = 100
LATENCY_OF_TIMERS = 0.0005  # seconds by which a timer is late, on the average


def pieces_of(body: bytes) -> list[bytes]:
    """A body, cut where the run's id is to be filled in."""
    return body.split(canned.RUN_ID.encode())


RUN = pieces_of(canned.SMALL)
LARGE_RUN = pieces_of(canned.LARGE)
LARGE_PAGES = {b"5mb": pieces_of(canned.page_of(5)), b"10mb": pieces_of(canned.page_of(10))}
ITEMS = [
    pieces_of(canned.text(canned.page(number, PAGE_SIZE, has_more=number + 1 < PAGES_OF_WALK)))
    for number in range(PAGES_OF_WALK)
]
LIVE_RUNS = {
    b"azure": pieces_of(live.with_ids(live.AZURE_RUN)),
    b"foundry": pieces_of(live.with_ids(live.FOUNDRY_RUN)),
}
LIVE_PAGES = {
    b"label": pieces_of(live.with_ids(live.LABEL_PAGE)),
    b"target": pieces_of(live.with_ids(live.TARGET_PAGE)),
    b"agent": pieces_of(live.with_ids(live.AGENT_PAGE)),
}
LAST = {number: pieces_of(canned.text(canned.page(number, PAGE_SIZE, has_more=False))) for number in (PAGES - 1,)}


def answer_to(request: "re.Match[bytes]") -> bytes:
    run = request["run"] or b""
    kind = run.rpartition(b"-")[2]
    if request["items"] is None:
        body = run.join(LARGE_RUN if kind == b"large" else LIVE_RUNS.get(kind, RUN))
    elif kind in LIVE_PAGES:
        body = run.join(LIVE_PAGES[kind])
    elif run in LARGE_PAGES:
        body = run.join(LARGE_PAGES[run])
    else:
        after = AFTER.search(request["query"] or b"")
        number = 0 if after is None else int(after[1]) // PAGE_SIZE + 1
        body = run.join(ITEMS[number] if run == b"walk" else LAST.get(number, ITEMS[number]))
    return HEAD % len(body) + body


class Answerer(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while self.received.endswith(b"\r\n\r\n"):
            request = REQUEST.match(self.received)
            self.received = b""
            if request is None:
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
                return
            answer = answer_to(request)
            if latency := int(request["latency"]):
                delay = latency / 1000 - LATENCY_OF_TIMERS
                asyncio.get_running_loop().call_later(delay, self.transport.write, answer)
            else:
                self.transport.write(answer)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answerer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def pin(core: int) -> None:
    """Keep this process on one core, where the system can.

    A child inherits the core of its parent. So the cores that there were before anybody was pinned are handed on in the
    environment, or client and server would share one.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    if CORES not in os.environ:
        os.environ[CORES] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    cores = os.environ[CORES].split(",")
    os.sched_setaffinity(0, {int(cores[core % len(cores)])})


if __name__ == "__main__":
    pin(1)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())

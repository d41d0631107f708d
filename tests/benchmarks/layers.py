"""What each layer of a call costs: the same request over more and more of the package, with the same decoding."""

import asyncio
from typing import Any

import aiohttp
from benchmarks import canned
from benchmarks.cases import HAND, OURS, Table
from benchmarks.measure import Measured, Server, crowd, in_rounds
from benchmarks.peers import BEARER, PEERS, Peer
from yarl import URL

from evals_async._clock import alarm_of
from evals_async._codec import decode
from evals_async._transport import Pipeline, Request, Response, RetryPolicy, StaticKey, Timeouts, Transport
from evals_async._transport.state import CallState, UsualHeaders
from evals_async.models import EvalRun


def wanted(run_id: str) -> Request:
    return Request(method="GET", route="", path=f"/evals/{canned.EVAL_ID}/runs/{run_id}", kind="read")


class Tuned(Peer):
    """aiohttp alone, set up as we do: no cookies, no timer of its own, a URL that is not parsed."""

    name = "aiohttp, set up for this"

    async def open(self) -> None:
        self.session = await self.stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=200),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
        self.base = URL(self.base_url)
        self.headers = {**UsualHeaders(BEARER).plain}

    async def run(self, run_id: str) -> Any:
        url = self.base.with_path(self.base.raw_path + wanted(run_id).path, encoded=True)
        response = await self.session.request("GET", url, headers=self.headers, allow_redirects=False)
        return decode(await response.read(), EvalRun)


class OverTransport(Peer):
    """The guarded connection: nothing that was not asked for, no hidden resending, a bounded body, our own errors."""

    name = "+ guards of the connection"

    async def open(self) -> None:
        self.transport = Transport(self.base_url, connections=200)
        self.stack.push_async_callback(self.transport.close)
        self.headers = UsualHeaders(BEARER).plain
        self.timeouts, self.policy = Timeouts(), RetryPolicy()

    async def run(self, run_id: str) -> Any:
        task = asyncio.current_task()
        assert task is not None
        call = CallState(
            wanted(run_id),
            run_of,
            timeouts=self.timeouts,
            policy=self.policy,
            headers=self.headers,
            query=(),
            start=0.0,
            resolve=None,
            task=task,
            alarm=alarm_of(task.get_loop()),
        )
        response = await self.transport.send(call, self.headers)
        return decode(response.body, EvalRun)


class OverPipeline(Peer):
    """Deadline, limiter, credentials, limits, judgement, and retries that are not needed."""

    name = "+ deadline, limiter, retries"

    async def open(self) -> None:
        self.pipeline = Pipeline(Transport(self.base_url, connections=200), StaticKey("sk-benchmark"))
        self.stack.push_async_callback(self.pipeline.close)
        self.timeouts, self.policy = Timeouts(), RetryPolicy()

    async def run(self, run_id: str) -> Any:
        return await self.pipeline.send(wanted(run_id), run_of, timeouts=self.timeouts, policy=self.policy)


async def run_of(response: Response) -> EvalRun:
    return decode(response.body, EvalRun)


LAYERS = (HAND, Tuned.name, OverTransport.name, OverPipeline.name, OURS)


def layers(server: Server, count: int, rounds: int) -> Table:
    peers = {**PEERS, **{peer.name: peer for peer in (Tuned, OverTransport, OverPipeline)}}

    async def work(name: str) -> Measured:
        async with peers[name](server.url()) as peer:
            await crowd(peer.run, list(map(canned.run_id, range(100))), 50)
            return await server.measure(crowd(peer.run, list(map(canned.run_id, range(count))), 50), count)

    measured = in_rounds(LAYERS, work, rounds)
    names = {OURS: "+ checked ids, shared reads: the client"}
    rows: list[tuple[str, ...]] = []
    for place, name in enumerate(LAYERS):
        adds = f"{measured[name].more_than(measured[LAYERS[place - 1]]) * 1e6:+,.0f}" if place > 1 else ""
        rows.append((names.get(name, name), f"{measured[name].cpu * 1e6:,.0f}", adds))
    return Table("Where the time of a request goes: 50 at a time", ("layer", "CPU, us per request", "adds"), rows)

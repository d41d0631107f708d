"""Many calls of one client on a bad day, over sockets: how many requests that makes, when, and what is lost."""

import asyncio
from collections.abc import Callable

from doubles import ScaledClock
from faults.harness import RUN, text_of, with_faults
from transport.faultserver import Peer, Scene, message

from evals_async import EvalRun, EvalsClient, ServerError


def judged(verdict: Callable[[], bytes | None]) -> Scene:
    """Answers with the run asked for, unless the verdict is another answer."""

    async def play(peer: Peer) -> bool:
        found = {**RUN, "id": peer.seen.target.rsplit("/", 1)[1]}
        await peer.send(verdict() or message(200, text_of(found)))
        return True

    return play


async def outcomes(client: EvalsClient, count: int) -> list[EvalRun | BaseException]:
    """What becomes of reads of that many runs at once."""
    calls = [client.evals.runs.retrieve(f"evalrun_{number}", eval_id="eval_1") for number in range(count)]
    return await asyncio.gather(*calls, return_exceptions=True)


def names_of(runs: list[EvalRun | BaseException]) -> list[str]:
    return [run.id if isinstance(run, EvalRun) else repr(run) for run in runs]


async def test_a_dead_server() -> None:
    """L02: 200 calls send at most 235 requests: one each, and what the budget pays for."""
    async with with_faults(judged(lambda: message(503, b""))) as (server, client):
        ended = await outcomes(client, 200)
        assert 200 < len(server.seen) <= 200 + 500 // 14
        assert len(server.seen) == client.statistics().requests == 200 + client.statistics().retries
    assert {ServerError} == {type(error) for error in ended}
    notes = {error.note for error in ended if isinstance(error, ServerError)}
    assert "the client's budget for retries is used up" in notes


async def test_a_server_with_a_limit() -> None:
    """L03: 1,000 calls against a limit of 200 a second: none is lost, with at most 1,150 requests."""
    clock = ScaledClock(2.0)
    seconds: dict[int, int] = {}

    def limit() -> bytes | None:
        second = int(clock.monotonic())
        seconds[second] = seconds.get(second, 0) + 1
        return None if seconds[second] <= 200 else message(429, b"{}")

    async with with_faults(judged(limit), clock=clock) as (server, client):
        ended = await outcomes(client, 1000)
        assert [f"evalrun_{number}" for number in range(1000)] == names_of(ended)
        assert len(server.seen) <= 1150
        assert len(server.seen) - 1000 == client.statistics().throttles

"""A client's life in one process: made anywhere, used in one loop, closed at any moment."""

import asyncio

import pytest
from doubles import caller_of, loop_time
from faults.harness import EVAL, LISTINGS, READS, Do, create_eval, told, with_faults
from transport.faultserver import FaultServer, answer, raw
from transport.harness import assert_plain
from waiting import LONGEST, until

from evals_async import ClientClosed, EvalsClient, WrongLoop


STALLS = raw(b"", then="stall")
WAITS = answer(429, b"{}", ("Retry-After", "50"))
AT_ONCE = 0.1  # seconds of the loop within which calls end with their client
CALLS: dict[str, Do] = {**READS, "listing": LISTINGS["runs"], "create": create_eval}


@pytest.mark.parametrize("where", ["reading", "pausing", "queueing"])
async def test_closing_ends_the_calls_under_way(where: str) -> None:
    """L06: wherever they are, they end with ClientClosed, at once; what comes later is refused before it is sent."""
    scene = WAITS if where == "pausing" else STALLS
    slots = 1 if where == "queueing" else 100
    async with with_faults(scene, max_connections=slots, timeout=None) as (server, client):
        calls = [asyncio.ensure_future(do(client)) for do in CALLS.values()]
        await until(lambda: len(server.seen) == min(slots, len(calls)) or client.statistics().throttles > 0)
        await asyncio.sleep(0.02)
        began = loop_time()
        await client.close()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert loop_time() - began < AT_ONCE
        assert [ClientClosed] * len(calls) == [type(error) for error in errors]
        sent = len(server.seen)
        await client.close()
        for do in CALLS.values():
            with pytest.raises(ClientClosed) as caught:
                await do(client)
            assert_plain(caught.value)
        assert sent == len(server.seen)


async def test_a_twin_is_closed_with_its_client() -> None:
    """L06: copies with other options share the connections, and so the end."""
    async with with_faults(told(EVAL)) as (_, client):
        twin = client.with_options(timeout=5)
        await twin.evals.retrieve("eval_1")
        await client.close()
        with pytest.raises(ClientClosed):
            await twin.evals.retrieve("eval_1")


async def test_closing_a_client_that_was_never_used() -> None:
    """L06: there is nothing to close, and that is fine."""
    client = EvalsClient(base_url="http://localhost:9", api_key="sk-1")
    await client.close()
    await client.close()


def test_a_client_is_made_before_there_is_a_loop() -> None:
    """L10: at import time of an application, say; the session is made on first use."""
    client = EvalsClient(base_url="http://localhost:9", api_key="sk-1")
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()

    async def use() -> str | None:
        async with FaultServer(told(EVAL)) as server:
            caller_of(client).pipeline.transport.base_url = server.url
            assert caller_of(client).pipeline.transport.session is None
            async with client:
                return (await client.evals.retrieve("eval_1")).name

    assert "Greetings" == asyncio.run(use())


async def test_a_second_thread_is_told() -> None:
    """L08: another thread's loop is another loop; the client stays good for its own."""
    async with with_faults(told(EVAL)) as (server, client):
        await client.evals.retrieve("eval_1")

        def elsewhere() -> None:
            asyncio.run(asyncio.wait_for(client.evals.retrieve("eval_1"), LONGEST))

        with pytest.raises(WrongLoop, match="one client per loop") as caught:
            await asyncio.to_thread(elsewhere)
        assert_plain(caught.value)
        assert "eval_1" == (await client.evals.retrieve("eval_1")).id
        assert (2, 1) == (len(server.seen), server.accepted)

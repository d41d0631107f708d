"""Every way in which a fan-out can end early, over real sockets: nothing goes on, and nobody else is hurt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from large_server import LargeServer, key_of, own_time
from waiting import SLOWER, until

from evals_async import EvalsClient
from evals_async.server import Fault, LocalServer, SampleTree


PROMPT = SLOWER * 0.05  # seconds in which everything has to be gone


@pytest.fixture
async def client(nothing_left: None, crowd: LargeServer) -> AsyncIterator[EvalsClient]:
    """A client of the server in the other process: all tasks here are the client's or the test's."""
    async with EvalsClient(base_url=crowd.base_url, api_key="local") as opened:
        yield opened


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def keys(count: int = 10_000) -> Iterator[tuple[str, str]]:
    return map(key_of, range(count))


async def no_request_under_way(crowd: LargeServer) -> None:
    """The server agrees, as soon as it has noticed."""
    await until(lambda: not crowd.seen().under_way)


async def collect(client: EvalsClient) -> object:
    return await client.evals.runs.retrieve_many(keys())


async def stream(client: EvalsClient) -> object:
    return [outcome async for outcome in client.evals.runs.stream_many(keys())]


async def list_all(client: EvalsClient) -> object:
    return [outcome async for outcome in client.evals.runs.list_many([key_of(number)[0] for number in range(4)])]


async def wait_all(client: EvalsClient) -> object:
    return [outcome async for outcome in client.evals.runs.wait_many(list(keys(100)))]


@pytest.mark.measures_time
@pytest.mark.parametrize("work", [collect, stream, list_all, wait_all])
async def test_cancelled_while_every_answer_is_awaited(
    crowd: LargeServer, client: EvalsClient, work: Callable[[EvalsClient], Awaitable[object]]
) -> None:
    """The task ends within 50 ms as cancelled; no task is left, and no request is under way on either side."""
    crowd.plan(Fault(delay=60, times=None), Fault(route="GET /evals/{eval_id}/runs", delay=60, times=None))
    task = asyncio.ensure_future(work(client))
    await until(lambda: client.statistics().in_flight >= 4)
    await asyncio.sleep(0.02)
    began = own_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert own_time() - began < PROMPT
    assert (set(), 0) == (others(), client.statistics().in_flight)
    await no_request_under_way(crowd)


@pytest.mark.measures_time
async def test_cancelled_in_the_middle_of_the_traffic(crowd: LargeServer, client: EvalsClient) -> None:
    """Thousands of answers coming in: the same, and the client is as good as new afterwards."""
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1

    task = asyncio.create_task(client.evals.runs.retrieve_many(keys(), on_progress=count))
    await until(lambda: done > 300)
    began = own_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert own_time() - began < PROMPT
    assert (set(), 0) == (others(), client.statistics().in_flight)
    await no_request_under_way(crowd)
    runs = await client.evals.runs.retrieve_many(keys(100))
    assert list(keys(100)) == [(run.eval_id, run.id) for run in runs]


@pytest.mark.measures_time
async def test_a_timeout_around_it(crowd: LargeServer, client: EvalsClient) -> None:
    """`asyncio.timeout`, as a web backend has it around a request, ends it when it says."""
    crowd.plan(Fault(delay=60, times=None))
    began = own_time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.evals.runs.retrieve_many(keys())
    assert own_time() - began < 0.1 + PROMPT
    assert set() == others()
    await no_request_under_way(crowd)


@pytest.mark.measures_time
async def test_a_consumer_who_leaves_early(crowd: LargeServer, client: EvalsClient) -> None:
    """`break` after ten runs: the workers are gone within 50 ms, without a word about it in the code."""
    crowd.plan(Fault(delay=60, skip=20, times=None))
    count = 0
    async for _ in client.evals.runs.stream_many(keys()):
        count += 1
        if count == 10:
            break
    began = own_time()
    await until(lambda: not others())
    assert own_time() - began < PROMPT
    assert client.statistics().in_flight == 0
    await no_request_under_way(crowd)
    assert crowd.seen().requests == 0


async def test_a_consumer_who_raises(crowd: LargeServer, client: EvalsClient) -> None:
    """An error in the loop's body comes through as it is, and takes the workers with it."""
    crowd.plan(Fault(delay=60, skip=20, times=None))

    async def consume() -> None:
        async with client.evals.runs.stream_many(keys()) as outcomes:
            async for _ in outcomes:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    assert (set(), 0) == (others(), client.statistics().in_flight)
    await no_request_under_way(crowd)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_generator_that_raises(crowd: LargeServer, client: EvalsClient, asynchronous: bool) -> None:
    """What the iterable of keys raises is raised to the consumer; calls under way are ended, none is begun."""
    crowd.plan(Fault(delay=60, skip=20, times=None))

    def broken() -> Iterator[tuple[str, str]]:
        yield from keys(50)
        raise OSError("the file of ids ended in the middle of a line")

    async def broken_later() -> AsyncIterator[tuple[str, str]]:
        for key in broken():
            yield key

    with pytest.raises(OSError, match="middle of a line"):
        await client.evals.runs.retrieve_many(broken_later() if asynchronous else broken())
    assert (set(), 0) == (others(), client.statistics().in_flight)
    await no_request_under_way(crowd)


async def test_a_slow_consumer_slows_the_requests(crowd: LargeServer, client: EvalsClient) -> None:
    """While the consumer thinks, at most twice `concurrency` runs are ahead of him; he gets all of them in the end."""
    stream = client.evals.runs.stream_many(keys(200), concurrency=5)
    requests = taken = 0
    async for outcome in stream:
        assert outcome.ok
        taken += 1
        if taken in (1, 50, 100):
            await asyncio.sleep(0.05)
            requests += crowd.seen().requests
            assert taken <= requests <= taken + 10
    assert 200 == taken == requests + crowd.seen().requests


async def test_two_users_and_one_is_cancelled(crowd: LargeServer, client: EvalsClient) -> None:
    """Two tasks fetch the same 500 runs with one client; one is cancelled half way, the other gets all, in order."""
    crowd.plan(Fault(delay=0.02, every=10, times=None))
    progress: list[int] = []
    stays = asyncio.create_task(client.evals.runs.retrieve_many(keys(500)))
    leaves = asyncio.create_task(
        client.evals.runs.retrieve_many(keys(500), on_progress=lambda seen: progress.append(seen.done))
    )
    await until(lambda: len(progress) > 100)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert list(keys(500)) == [(run.eval_id, run.id) for run in await stays]
    seen = crowd.seen()
    assert seen.requests < 2 * 500  # what both asked for at the same time was one request
    assert set() == others()


async def test_two_users_share_the_connections(crowd: LargeServer, client: EvalsClient) -> None:
    """Two fan-outs at full concurrency keep to the client's connections."""
    crowd.plan(Fault(delay=1.0, times=None))  # long enough for all to meet there, on any machine
    async with EvalsClient(base_url=crowd.base_url, api_key="local", max_connections=40) as narrow:
        first, second = await asyncio.gather(
            narrow.evals.runs.retrieve_many(keys(60)),
            narrow.evals.runs.retrieve_many(map(key_of, range(60, 120))),
        )
    assert list(keys(120)) == [(run.eval_id, run.id) for run in (*first, *second)]
    seen = crowd.seen()
    assert seen.requests == 120
    assert 32 < seen.most_at_once <= 40
    assert seen.connections <= 40


@pytest.mark.measures_time
async def test_a_closed_client_ends_it(crowd: LargeServer) -> None:
    """`close()` under a running fan-out: each call ends with `ClientClosed`, and nothing hangs."""
    crowd.plan(Fault(delay=60, times=None))
    client = EvalsClient(base_url=crowd.base_url, api_key="local")
    task = asyncio.create_task(client.evals.runs.retrieve_many(keys(40), on_error="return"))
    await until(lambda: client.statistics().in_flight == 32)
    began = own_time()
    await client.close()
    errors = await task
    assert own_time() - began < 2 * PROMPT
    assert {"ClientClosed"} == {type(error).__name__ for error in errors}
    assert set() == others()


async def test_a_client_of_a_local_server_in_the_same_loop(server: LocalServer, tree: SampleTree) -> None:
    """The usual arrangement of users' own tests works too: server, client and fan-out in one loop."""
    pairs = [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]
    async with EvalsClient(base_url=server.base_url, api_key="local") as client:
        async for outcome in client.evals.runs.stream_many(pairs):
            assert outcome.ok
            break

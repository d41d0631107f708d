"""One request for many readers, and a cache for what is over: what a web backend gets from one client."""

import asyncio

import pytest
from waiting import until

from evals_async import EvalRun, EvalsClient, LRUCache, NotFound, ServerError
from evals_async.server import Fault, LocalServer, SampleTree


RUN = "GET /evals/{eval_id}/runs/{run_id}"


def pair_with(tree: SampleTree, status: str) -> tuple[str, str]:
    run = next(run for run in tree["runs"] if run["status"] == status)
    return str(run["eval_id"]), str(run["id"])


def completed_pairs(tree: SampleTree, count: int) -> list[tuple[str, str]]:
    return [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"] if run["status"] == "completed"][:count]


# --- single flight ---------------------------------------------------------------------------------------------------


async def test_a_hundred_readers_are_one_request(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """100 concurrent retrieves of one run, named in three ways, send one request and get the same run."""
    eval_id, run_id = pair_with(tree, "completed")
    run = await client.evals.runs.retrieve(run_id, eval_id=eval_id)
    read = client.evals.runs.retrieve
    runs = await asyncio.gather(
        *(read(run_id, eval_id=eval_id) for _ in range(50)), *(read((eval_id, run_id)) for _ in range(25)),
        *(read(run) for _ in range(25)),
    )  # fmt: skip
    assert [run] * 100 == runs
    assert server.request_count == 1 + 1


async def test_other_things_are_not_shared(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """Different runs, calls with options of their own, and a run read later are requests of their own."""
    first, second = completed_pairs(tree, 2)
    read = client.evals.runs.retrieve
    await asyncio.gather(read(first), read(second), read(first, timeout=5.0), read(first, extra_headers={"x-a": "b"}))
    await read(first)
    assert server.request_count == 5


async def test_a_reader_who_leaves_hurts_nobody(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """The first of three is cancelled, who made the request; the others get the run from the next one's request."""
    server.faults.add(Fault(route=RUN, delay=0.05))
    pair = pair_with(tree, "completed")
    readers = [asyncio.create_task(client.evals.runs.retrieve(pair)) for _ in range(3)]
    await until(lambda: server.request_count > 0)
    readers[0].cancel()
    first, *others = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert [pair[1]] * 2 == [run.id for run in others if isinstance(run, EvalRun)]
    assert server.request_count == 2


async def test_when_the_last_reader_leaves_the_request_ends(
    server: LocalServer, client: EvalsClient, tree: SampleTree
) -> None:
    """Nobody waits any more: the request is cancelled, and the next reader sends his own."""
    server.faults.add(Fault(route=RUN, delay=0.05))
    pair = pair_with(tree, "completed")
    readers = [asyncio.create_task(client.evals.runs.retrieve(pair)) for _ in range(3)]
    await until(lambda: server.request_count > 0)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    assert client.statistics().in_flight == 0
    assert (await client.evals.runs.retrieve(pair)).id == pair[1]
    assert server.request_count == 2


async def test_a_failure_is_shared_and_forgotten(server: LocalServer, tree: SampleTree) -> None:
    """All who wait get the error, each an object of his own; the next to ask is answered."""
    server.faults.add(Fault(route=RUN, status=500))
    pair = pair_with(tree, "completed")
    async with EvalsClient(base_url=server.base_url, api_key="local", max_retries=0) as client:
        read = client.evals.runs.retrieve
        errors = await asyncio.gather(*(read(pair) for _ in range(10)), return_exceptions=True)
        assert [error.status for error in errors if isinstance(error, ServerError)] == [500] * 10
        assert len({id(error) for error in errors}) == 10
        assert (await read(pair)).id == pair[1]
    assert server.request_count == 2


async def test_sharing_can_be_switched_off(server: LocalServer, tree: SampleTree) -> None:
    """`single_flight=False`: ten readers, ten requests."""
    pair = pair_with(tree, "completed")
    async with EvalsClient(base_url=server.base_url, api_key="local", single_flight=False) as client:
        await asyncio.gather(*(client.evals.runs.retrieve(pair) for _ in range(10)))
    assert server.request_count == 10


async def test_other_resources_are_shared_too(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """Evals, output items and files: ten readers of each are three requests."""
    item = next(item for item in tree["output_items"])
    run = (str(item["eval_id"]), str(item["run_id"]))
    await asyncio.gather(
        *(client.evals.retrieve(run[0]) for _ in range(10)),
        *(client.evals.runs.output_items.retrieve(str(item["id"]), run_id=run) for _ in range(10)),
        *(client.files.retrieve(str(tree["files"][0]["id"])) for _ in range(10)),
    )
    assert server.request_count == 3


# --- the cache -------------------------------------------------------------------------------------------------------


class Shelf:
    """The whole protocol: two methods. Redis looks like this from here."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self.kept[key] = value


async def test_there_is_no_cache_unless_asked_for(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """By default what is read twice is asked twice."""
    pair = pair_with(tree, "completed")
    assert await client.evals.runs.retrieve(pair) == await client.evals.runs.retrieve(pair)
    assert server.request_count == 2


@pytest.mark.parametrize("status", ["completed", "failed", "canceled", "cancelled"])
async def test_what_is_over_is_asked_once(server: LocalServer, tree: SampleTree, status: str) -> None:
    """A run that has ended, in whichever way, is read from the cache, equal to what the server sent."""
    body = {**tree["runs"][0], "id": "evalrun_over", "status": status}
    await server.seed(runs=[body])
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=LRUCache()) as client:
        read = client.evals.runs.retrieve
        first, second = [await read((str(body["eval_id"]), "evalrun_over")) for _ in range(2)]
    assert first == second
    assert server.request_count == 1


@pytest.mark.parametrize("status", ["queued", "in_progress", "paused"])
async def test_what_may_change_is_asked_again(server: LocalServer, tree: SampleTree, status: str) -> None:
    """A run that is under way, or in a status that nobody knows, is never cached."""
    body = {**tree["runs"][0], "id": "evalrun_open", "status": status}
    await server.seed(runs=[body])
    shelf = Shelf()
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf) as client:
        for _ in range(2):
            await client.evals.runs.retrieve((str(body["eval_id"]), "evalrun_open"))
    assert shelf.kept == {}
    assert server.request_count == 2


async def test_nothing_but_runs_is_cached(server: LocalServer, tree: SampleTree) -> None:
    """An eval can be changed, and a run can be gone: neither an eval nor a 404 is kept."""
    shelf = Shelf()
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf) as client:
        await client.evals.retrieve(str(tree["evals"][0]["id"]))
        with pytest.raises(NotFound):
            await client.evals.runs.retrieve((str(tree["evals"][0]["id"]), "evalrun_gone"))
    assert shelf.kept == {}


async def test_a_cache_of_ones_own_outlives_the_client(server: LocalServer, tree: SampleTree) -> None:
    """Two methods are enough; a second client with the same cache asks the server nothing."""
    shelf = Shelf()
    pairs = completed_pairs(tree, 5)
    runs: list[tuple[EvalRun, ...]] = []
    for _ in range(2):
        async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf) as client:
            runs.append(await client.evals.runs.retrieve_many(pairs))
    assert runs[0] == runs[1]
    assert 5 == server.request_count == len(shelf.kept)


async def test_a_damaged_entry_is_read_anew(server: LocalServer, tree: SampleTree) -> None:
    """What a cache gives back is checked like an answer; an entry that is no run, or another, is replaced."""
    shelf = Shelf()
    first, second = completed_pairs(tree, 2)
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf) as client:
        await client.evals.runs.retrieve_many([first, second])
        (one, other) = shelf.kept
        shelf.kept = {one: shelf.kept[other], other: b"{"}
        runs = await client.evals.runs.retrieve_many([first, second])
        assert [first[1], second[1]] == [run.id for run in runs]
        assert server.request_count == 4
        await client.evals.runs.retrieve_many([first, second])
    assert server.request_count == 4


async def test_other_headers_are_another_answer(server: LocalServer, tree: SampleTree) -> None:
    """Clients that differ in project or headers do not read each other's entries; other timeouts make no difference."""
    pair = pair_with(tree, "completed")
    shelf = Shelf()
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf) as client:
        await client.evals.runs.retrieve(pair)
        await client.with_options(timeout=5).evals.runs.retrieve(pair)
        assert server.request_count == 1
        await client.with_options(headers={"x-tenant": "b"}).evals.runs.retrieve(pair)
        assert server.request_count == 2
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=shelf, project="proj_2") as client:
        await client.evals.runs.retrieve(pair)
    assert server.request_count == 3


async def test_the_cache_is_bounded_by_count(server: LocalServer, tree: SampleTree) -> None:
    """Of three runs in a cache for two, the one unused for longest is asked again, and no other."""
    a, b, c = completed_pairs(tree, 3)
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=LRUCache(max_items=2)) as client:
        for pair in (a, b, a, c, a):
            await client.evals.runs.retrieve(pair)
        assert server.request_count == 3
        await client.evals.runs.retrieve(b)
    assert server.request_count == 4


async def test_the_cache_is_bounded_by_bytes(server: LocalServer, tree: SampleTree) -> None:
    """However many runs are read, the bytes kept stay within the bound."""
    cache = LRUCache(max_bytes=10_000)
    pairs = completed_pairs(tree, 30)
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=cache) as client:
        await client.evals.runs.retrieve_many(pairs)
        assert 0 < cache.size <= 10_000
        assert 0 < len(cache) < 30
        before = server.request_count
        await client.evals.runs.retrieve(pairs[-1])
        assert server.request_count == before


async def test_a_hundred_readers_and_a_cache(server: LocalServer, tree: SampleTree) -> None:
    """Both together: one request, whoever asks and whenever."""
    pair = pair_with(tree, "completed")
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=LRUCache()) as client:
        for _ in range(3):
            await asyncio.gather(*(client.evals.runs.retrieve(pair) for _ in range(100)))
    assert server.request_count == 1

"""`stream_many` and `list_many`: outcomes as they arrive, with what they were asked for, over a real socket."""

import asyncio
from collections import Counter

from large_server import LargeServer, key_of

from evals_async import EvalRun, EvalsClient, NotFound, Outcome, OutputItem, Progress, RunKey
from evals_async._clock import SystemClock
from evals_async.server import Fault, FaultPlan, LocalServer, SampleTree


RUN = "GET /evals/{eval_id}/runs/{run_id}"
RUNS = "GET /evals/{eval_id}/runs"
ITEMS = "GET /evals/{eval_id}/runs/{run_id}/output_items"


def pairs_of(tree: SampleTree) -> list[tuple[str, str]]:
    return [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]


class Patient(SystemClock):
    """A clock on which nobody who sleeps wakes up before he is told to."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await self.released.wait()


async def test_the_slow_one_comes_last(tree: SampleTree) -> None:
    """Runs come as they are answered: one answer that takes as long as all others together holds back none of them."""
    clock = Patient()
    pairs = pairs_of(tree)
    got: list[tuple[str, str]] = []
    async with LocalServer(clock=clock, faults=FaultPlan(Fault(delay=1))) as server:
        await server.seed(**tree)
        async with EvalsClient(base_url=server.base_url, api_key="local") as client:
            async for outcome in client.evals.runs.stream_many(pairs, concurrency=4):
                got.append(outcome.key)
                if len(got) == len(pairs) - 1:
                    clock.released.set()
    assert sorted(got) == sorted(pairs)
    assert got[-1] in pairs[:4]  # one of the first requests was the slow one


async def test_failures_come_among_the_others(client: EvalsClient, tree: SampleTree) -> None:
    """An outcome has the key that was given, and either a run or an error; one failure ends nothing."""
    pairs = pairs_of(tree)
    gone = (pairs[0][0], "evalrun_gone")
    run = await client.evals.runs.retrieve(pairs[1])
    outcomes: dict[RunKey, Outcome[tuple[str, str] | EvalRun, EvalRun]] = {}
    keys: list[tuple[str, str] | EvalRun] = [pairs[0], gone, run]
    async for outcome in client.evals.runs.stream_many(keys):
        outcomes[outcome.key] = outcome
    assert outcomes.keys() == {pairs[0], gone, run}
    assert outcomes[run].unwrap() == run
    assert outcomes[gone].value is None
    assert isinstance(outcomes[gone].error, NotFound)


async def test_every_resource_streams(client: EvalsClient, tree: SampleTree) -> None:
    """Evals, output items and files as they arrive, each with the id that was asked for."""
    eval_ids = {str(body["id"]) for body in tree["evals"]}
    async for found in client.evals.stream_many(eval_ids):
        assert found.key == found.unwrap().id
    run = await client.evals.runs.retrieve(pairs_of(tree)[0])
    item_ids = {item.id async for item in client.evals.runs.output_items.list(run)}
    got = {item.key async for item in client.evals.runs.output_items.stream_many(item_ids, run_id=run) if item.ok}
    assert item_ids == got
    file_ids = {str(body["id"]) for body in tree["files"]}
    assert file_ids == {file.unwrap().id async for file in client.files.stream_many(file_ids)}


async def test_concurrency_is_what_the_server_sees(crowd: LargeServer) -> None:
    """With `concurrency=7` and slow answers, exactly seven requests are under way at the most, on seven connections."""
    crowd.plan(Fault(delay=0.5, times=None))  # long enough for seven to meet there, on any machine
    async with EvalsClient(base_url=crowd.base_url, api_key="local") as client:
        count = 0
        async for _ in client.evals.runs.stream_many(map(key_of, range(21)), concurrency=7):
            count += 1
    seen = crowd.seen()
    assert (count, seen.requests, seen.most_at_once, seen.connections) == (21, 21, 7, 7)


# --- listing in depth ----------------------------------------------------------------------------------------------


async def test_all_runs_of_many_evals(server: LocalServer, tree: SampleTree, client: EvalsClient) -> None:
    """Every run of every eval once, with its eval as key, in the order of that eval's listing."""
    eval_ids = [str(body["id"]) for body in tree["evals"]]
    got: dict[str, list[EvalRun]] = {eval_id: [] for eval_id in eval_ids}
    async for outcome in client.evals.runs.list_many(eval_ids):
        got[outcome.key].append(outcome.unwrap())
    for eval_id in eval_ids:
        assert got[eval_id] == await client.evals.runs.list(eval_id).collect()
    assert sum(map(len, got.values())) == len(tree["runs"])


async def test_all_pages_of_many_parents(crowd: LargeServer) -> None:
    """10,000 runs of four evals come whole through 100 pages, each with its eval."""
    async with EvalsClient(base_url=crowd.base_url, api_key="local") as client:
        eval_ids = sorted({key_of(number)[0] for number in range(10)})
        progress: list[Progress] = []
        stream = client.evals.runs.list_many(eval_ids, on_progress=progress.append)
        got = [(outcome.key, outcome.unwrap().id) async for outcome in stream]
    assert sorted(got) == sorted(key_of(number) for number in range(10_000))
    assert Progress(started=4, done=4, failed=0, total=4) == progress[-1]
    assert 100 <= crowd.seen().requests <= 104


async def test_items_of_runs_of_many_evals(client: EvalsClient, tree: SampleTree) -> None:
    """Runs as a listing gave them are good as parents: their items come with the run itself as key."""
    eval_ids = [str(body["id"]) for body in tree["evals"]]
    runs = [outcome.unwrap() async for outcome in client.evals.runs.list_many(eval_ids, status="completed")]
    counts: Counter[str] = Counter()
    async for outcome in client.evals.runs.output_items.list_many(runs):
        assert isinstance(outcome.key, EvalRun)
        assert isinstance(outcome.value, OutputItem)
        assert outcome.value.run_id == outcome.key.id
        counts[outcome.key.id] += 1
    expected = Counter(str(item["run_id"]) for item in tree["output_items"])
    assert expected == counts
    failed = [o async for o in client.evals.runs.output_items.list_many(runs, status="fail")]
    assert {"fail"} == {outcome.unwrap().status for outcome in failed}


async def test_a_parent_that_fails_does_not_end_the_others(
    server: LocalServer, client: EvalsClient, tree: SampleTree
) -> None:
    """An eval that is gone gives one outcome with the error; the runs of the others all come."""
    eval_ids = [str(body["id"]) for body in tree["evals"]]
    outcomes = [o async for o in client.evals.runs.list_many([eval_ids[0], "eval_gone", *eval_ids[1:]])]
    (failed,) = [outcome for outcome in outcomes if not outcome.ok]
    assert failed.key == "eval_gone"
    assert isinstance(failed.error, NotFound)
    assert len(tree["runs"]) == len(outcomes) - 1


async def test_listing_in_depth_is_bounded(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """At most `concurrency` parents are read at once, and none further than the consumer lets them."""
    runs = pairs_of(tree)
    stream = client.evals.runs.output_items.list_many(runs, concurrency=2)
    async with stream:
        await anext(stream)
        await asyncio.sleep(0.05)
        asked = {request.path for request in server.requests}
        assert len(asked) <= 5  # a capacity of four, and one consumed outcome
    async for _ in stream:
        raise AssertionError("a stream that was left goes on")

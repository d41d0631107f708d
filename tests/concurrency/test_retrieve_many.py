"""`retrieve_many`: order, keys of every kind, errors, and progress, over a real socket."""

import pickle
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from evals_async import EvalRun, EvalsClient, EvalsError, InvalidArgument, NotFound, PartialFailure, Progress, RunKey
from evals_async.cli.output import follow
from evals_async.models.params import JsonlDataSourceParam
from evals_async.server import Fault, LocalServer, SampleTree


RUN = "GET /evals/{eval_id}/runs/{run_id}"


def pairs_of(tree: SampleTree) -> list[tuple[str, str]]:
    return [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]


async def test_runs_of_one_eval_come_in_the_order_asked(client: EvalsClient, tree: SampleTree) -> None:
    """Plain ids with their eval beside them: a tuple of runs, in order, whatever the order of the ids."""
    eval_id = pairs_of(tree)[0][0]
    run_ids = [run_id for parent, run_id in pairs_of(tree) if parent == eval_id][::-1]
    runs = await client.evals.runs.retrieve_many(run_ids, eval_id=eval_id)
    assert run_ids == [run.id for run in runs]
    assert isinstance(runs, tuple)


async def test_runs_of_many_evals_in_one_call(client: EvalsClient, tree: SampleTree) -> None:
    """Pairs and runs of four evals, mixed: each arrives from its own eval, in order."""
    pairs = pairs_of(tree)
    listed = {run.id: run for eval_id in {pair[0] for pair in pairs} async for run in client.evals.runs.list(eval_id)}
    keys: list[tuple[str, str] | EvalRun] = [
        listed[pair[1]] if number % 2 else pair for number, pair in enumerate(pairs)
    ]
    runs = await client.evals.runs.retrieve_many(keys)
    assert pairs == [(run.eval_id, run.id) for run in runs]
    assert [listed[run_id] for _, run_id in pairs] == list(runs)


async def test_plain_ids_may_be_mixed_with_runs_of_the_same_eval(client: EvalsClient, tree: SampleTree) -> None:
    """An object that knows its ids need not have them repeated, and may."""
    eval_id, run_id = pairs_of(tree)[0]
    run = await client.evals.runs.retrieve(run_id, eval_id=eval_id)
    runs = await client.evals.runs.retrieve_many([run_id, run, (eval_id, run_id)], eval_id=eval_id)
    assert (run, run, run) == runs


async def test_keys_are_taken_lazily_from_an_async_iterable(
    server: LocalServer, client: EvalsClient, tree: SampleTree
) -> None:
    """An async generator of keys is as good as a list, and is read no further than the calls are."""
    pairs = pairs_of(tree)
    ahead: list[int] = []

    async def keys() -> AsyncIterator[tuple[str, str]]:
        for number, pair in enumerate(pairs, 1):
            ahead.append(number - server.request_count)
            yield pair

    runs = await client.evals.runs.retrieve_many(keys(), concurrency=2)
    assert pairs == [(run.eval_id, run.id) for run in runs]
    assert max(ahead) <= 1 + 2  # one that is being taken, two whose request is not there yet


async def test_one_failure_does_not_lose_the_others(client: EvalsClient, tree: SampleTree) -> None:
    """`PartialFailure` holds what arrived and what did not, by key and in order; `except*` takes it apart."""
    pairs = pairs_of(tree)[:6]
    gone = (pairs[0][0], "evalrun_gone")
    keys = [*pairs[:3], gone, *pairs[3:]]
    with pytest.raises(EvalsError, match=r"^1 of 7 calls failed") as caught:
        await client.evals.runs.retrieve_many(keys)
    error: object = caught.value
    failure = cast("PartialFailure[tuple[str, str], EvalRun]", error)
    assert pairs == list(failure.results)
    assert pairs == [(run.eval_id, run.id) for run in failure.results.values()]
    assert [gone] == list(failure.errors)
    assert isinstance(failure.errors[gone], NotFound)
    assert isinstance(error, PartialFailure)
    assert isinstance(error, ExceptionGroup)
    assert list(failure.errors.values()) == list(failure.exceptions)
    matched, rest = failure.split(NotFound)
    assert matched is not None
    assert rest is None
    assert dict(pickle.loads(pickle.dumps(failure)).results) == failure.results


async def test_errors_in_their_places(client: EvalsClient, tree: SampleTree) -> None:
    """`on_error="return"` puts each error where its run would be."""
    eval_id, run_id = pairs_of(tree)[0]
    found, missing, again = await client.evals.runs.retrieve_many(
        [run_id, "evalrun_gone", run_id], eval_id=eval_id, on_error="return"
    )
    assert isinstance(found, EvalRun)
    assert isinstance(missing, NotFound)
    assert missing.path == f"/evals/{eval_id}/runs/evalrun_gone"
    assert found == again


async def test_a_run_without_its_eval_fails_before_anything_is_sent(server: LocalServer, client: EvalsClient) -> None:
    """A plain id with no eval anywhere, and a pair that contradicts `eval_id`, are that key's own error."""
    bare: Any = ["evalrun_1"]  # type checkers refuse it
    nameless = await client.evals.runs.retrieve_many(bare, on_error="return")
    wrong = await client.evals.runs.retrieve_many([("eval_1", "evalrun_1")], eval_id="eval_2", on_error="return")
    for error in (*nameless, *wrong):
        assert isinstance(error, InvalidArgument)
    assert server.request_count == 0


async def test_on_error_is_one_of_two_words(client: EvalsClient) -> None:
    """A word that is neither is refused, and not taken for one of them."""
    with pytest.raises(InvalidArgument, match="on_error"):
        await client.evals.runs.retrieve_many([], on_error="ignore")  # type: ignore[call-overload]  # that is the test


async def test_every_resource_has_it(client: EvalsClient, tree: SampleTree) -> None:
    """Evals, output items and files are fetched many at once as runs are."""
    eval_ids = [str(body["id"]) for body in tree["evals"]]
    assert eval_ids == [found.id for found in await client.evals.retrieve_many(eval_ids)]
    run = await client.evals.runs.retrieve(pairs_of(tree)[0])
    item_ids = [item.id async for item in client.evals.runs.output_items.list(run)][::-1]
    items = await client.evals.runs.output_items.retrieve_many(item_ids, run_id=run)
    assert item_ids == [item.id for item in items]
    file_ids = [str(body["id"]) for body in tree["files"]]
    assert file_ids == [found.id for found in await client.files.retrieve_many(file_ids)]
    for outcome in (
        await client.evals.retrieve_many(["eval_gone"], on_error="return"),
        await client.evals.runs.output_items.retrieve_many(["item_gone"], run_id=run, on_error="return"),
        await client.files.retrieve_many(["file-gone"], on_error="return"),
    ):
        assert isinstance(outcome[0], NotFound)


class Bar:
    """What tqdm, rich or a web socket would be: it can go forward, and knows no other way."""

    def __init__(self) -> None:
        self.n = self.failed = 0
        self.total: int | None = None
        self.events: list[Progress] = []

    def update(self, progress: Progress) -> None:
        assert 0 <= progress.done - self.n <= 1
        assert progress.failed <= progress.done <= progress.started
        assert progress.total is None or progress.started <= progress.total
        assert progress.failed - self.failed in (0, 1)
        self.n, self.failed, self.total = progress.done, progress.failed, progress.total
        self.events.append(progress)


async def test_progress_fills_a_bar(client: EvalsClient, tree: SampleTree) -> None:
    """One event for each call that ends: counts only grow, never pass each other, and end at the total."""
    pairs = pairs_of(tree)
    keys = [*pairs, (pairs[0][0], "evalrun_gone")]
    bar = Bar()
    await client.evals.runs.retrieve_many(keys, on_error="return", on_progress=bar.update)
    assert Progress(started=41, done=41, failed=1, total=41) == bar.events[-1]
    assert list(range(1, 42)) == [event.done for event in bar.events]


async def test_progress_of_a_generator_has_no_total(client: EvalsClient, tree: SampleTree) -> None:
    """How many a generator gives cannot be known: `total` is None from the first event to the last."""
    bar = Bar()
    await client.evals.runs.retrieve_many((pair for pair in pairs_of(tree)), on_progress=bar.update)
    assert (bar.n, bar.failed, bar.total) == (40, 0, None)


async def test_retries_are_not_progress(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """A call that is answered with 503 first and then well counts once, as done."""
    server.faults.add(Fault(route=RUN, status=503))
    bar = Bar()
    await client.evals.runs.retrieve_many(pairs_of(tree)[:3], on_progress=bar.update)
    assert (bar.n, bar.failed, bar.total) == (3, 0, 3)
    assert server.request_count == 4


@pytest.fixture
async def unhurried(nothing_left: None, tree: SampleTree) -> AsyncIterator[EvalsClient]:
    """A client of a server where new runs stay queued."""
    async with LocalServer(queued_seconds=3600) as running:
        await running.seed(**tree)
        async with EvalsClient(base_url=running.base_url, api_key="local") as opened:
            yield opened


async def test_a_run_is_named_as_one_likes_everywhere(unhurried: EvalsClient, tree: SampleTree) -> None:
    """`retrieve`, `wait`, `cancel`, `delete` and both methods of output items take an id, a pair or the run."""
    runs = unhurried.evals.runs
    eval_id = str(tree["evals"][0]["id"])
    source: JsonlDataSourceParam = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}
    made = [await runs.create(eval_id, data_source=source) for _ in range(3)]
    names: list[tuple[RunKey, Any]] = [
        (made[0].id, eval_id),
        ((eval_id, made[1].id), None),
        (made[2], None),
    ]
    for run, (key, parent) in zip(made, names, strict=True):
        assert (await runs.retrieve(key, eval_id=parent)).id == run.id
        assert (await runs.cancel(key, eval_id=parent)).status == "canceled"
        assert (await runs.wait(key, eval_id=parent)).id == run.id
        assert await runs.output_items.list(key, eval_id=parent).collect() == []
        with pytest.raises(NotFound):
            await runs.output_items.retrieve("item", run_id=key, eval_id=parent)
        assert (await runs.delete(key, eval_id=parent)).run_id == run.id


async def test_the_bars_of_the_command_line_follow(client: EvalsClient, tree: SampleTree) -> None:
    """`follow` turns the same events into what the command line draws: done, total, and how many failed."""
    drawn: list[tuple[int, int | None, str]] = []

    def update(done: int, total: int | None = None, detail: str = "") -> None:
        drawn.append((done, total, detail))

    keys = [*pairs_of(tree)[:3], (pairs_of(tree)[0][0], "evalrun_gone")]
    await client.evals.runs.retrieve_many(keys, on_error="return", on_progress=follow(update))
    assert [done for done, _, _ in drawn] == [1, 2, 3, 4]
    assert drawn[-1] == (4, 4, "1 failed")

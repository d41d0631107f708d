"""`wait`, `wait_many` and `create_and_wait` against a server that lives on the same injected clock: nothing sleeps."""

import logging
from collections.abc import AsyncIterator

import pytest
from doubles import FakeClock

from evals_async import (
    EvalRun,
    EvalsClient,
    NotFound,
    Outcome,
    Pace,
    Progress,
    RunFailed,
    RunKey,
    ServerError,
    WaitTimeout,
)
from evals_async.models.params import JsonlDataSourceParam
from evals_async.server import Fault, LocalServer, SampleTree


RUN = "GET /evals/{eval_id}/runs/{run_id}"
SOURCE: JsonlDataSourceParam = {
    "type": "jsonl",
    "source": {"type": "file_content", "content": [{"item": {"expected": "a"}, "sample": {"output_text": "a"}}]},
}
EVEN = Pace(jitter=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(nothing_left: None, clock: FakeClock, tree: SampleTree) -> AsyncIterator[LocalServer]:
    async with LocalServer(clock=clock, queued_seconds=3, running_seconds=100) as running:
        await running.seed(**tree)
        yield running


@pytest.fixture
async def client(server: LocalServer, clock: FakeClock) -> AsyncIterator[EvalsClient]:
    async with EvalsClient(base_url=server.base_url, api_key="local", clock=clock) as opened:
        yield opened


@pytest.fixture
def eval_id(tree: SampleTree) -> str:
    return str(tree["evals"][0]["id"])


async def seeded(server: LocalServer, tree: SampleTree, status: str, name: str = "evalrun_seeded") -> tuple[str, str]:
    """A run that stays in a status."""
    await server.seed(runs=[{**tree["runs"][0], "id": name, "status": status}])
    return str(tree["runs"][0]["eval_id"]), name


async def test_a_run_is_watched_at_growing_intervals(client: EvalsClient, clock: FakeClock, eval_id: str) -> None:
    """From one second by half as much again, 30 at the most, until it is over; every state is shown."""
    states: list[str | None] = []
    run = await client.evals.runs.create(eval_id, data_source=SOURCE)
    run = await client.evals.runs.wait(run, pace=EVEN, on_poll=lambda seen: states.append(seen.status))
    grown = [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625, 17.0859375, 25.62890625, 30.0]
    assert grown == clock.slept
    assert states == ["queued"] * 3 + ["in_progress"] * 7 + ["completed"]
    assert run.status == "completed"


async def test_intervals_are_jittered(client: EvalsClient, clock: FakeClock, eval_id: str) -> None:
    """By default each interval is off by up to a tenth, so that many waits do not ask in step."""
    run = await client.evals.runs.create(eval_id, data_source=SOURCE)
    clock.draws = [0.0, 1.0, 0.5]
    await client.evals.runs.wait(run)
    assert pytest.approx(clock.slept[:3]) == [0.9, 1.65, 2.25]


async def test_create_and_wait(client: EvalsClient, server: LocalServer, eval_id: str) -> None:
    """One call from the data source to the result; it is created once."""
    states: list[str | None] = []
    run = await client.evals.runs.create_and_wait(
        eval_id, data_source=SOURCE, name="One", on_poll=lambda seen: states.append(seen.status)
    )
    assert (run.status, run.name) == ("completed", "One")
    assert states[-1] == "completed"
    assert [request.method for request in server.requests if request.method != "GET"] == ["POST"]


@pytest.mark.parametrize("status", ["completed", "failed", "canceled", "cancelled"])
async def test_every_end_ends_it(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree, status: str
) -> None:
    """Both spellings of canceled, too: one look, and nothing slept."""
    run = await client.evals.runs.wait(await seeded(server, tree, status))
    assert (status, []) == (run.status, clock.slept)


@pytest.mark.parametrize("status", ["failed", "canceled", "cancelled"])
async def test_failure_is_raised_where_asked_for(
    server: LocalServer, client: EvalsClient, tree: SampleTree, status: str
) -> None:
    """`raise_on_failure`: any end but `completed` is a `RunFailed` with the run in it."""
    with pytest.raises(RunFailed, match=f"ended as {status}") as caught:
        await client.evals.runs.wait(await seeded(server, tree, status), raise_on_failure=True)
    assert isinstance(caught.value.run, EvalRun)
    assert status == caught.value.run.status


async def test_success_is_not_raised(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """`raise_on_failure` with a run that completed gives the run."""
    run = await client.evals.runs.wait(await seeded(server, tree, "completed"), raise_on_failure=True)
    assert run.status == "completed"


async def test_a_canceled_run_ends_the_wait_of_another_task(
    client: EvalsClient, clock: FakeClock, eval_id: str
) -> None:
    """Canceled while it is waited for: the next look ends the wait."""
    run = await client.evals.runs.create(eval_id, data_source=SOURCE)
    await client.evals.runs.cancel(run)
    assert (await client.evals.runs.wait(run)).status == "canceled"
    assert clock.slept == []


async def test_the_last_state_is_in_the_timeout(client: EvalsClient, clock: FakeClock, eval_id: str) -> None:
    """`WaitTimeout` carries the run as it was last seen, a second before the end at the earliest."""
    run = await client.evals.runs.create(eval_id, data_source=SOURCE)
    began = clock.now
    with pytest.raises(WaitTimeout, match="not done within 50 seconds") as caught:
        await client.evals.runs.wait(run, timeout=50)
    assert isinstance(caught.value, TimeoutError)
    assert (run.id, "in_progress") == (caught.value.last.id, caught.value.last.status)
    assert 49 <= clock.now - began <= 50


async def test_an_unknown_status_is_waited_out_and_told_once(
    server: LocalServer, client: EvalsClient, tree: SampleTree, caplog: pytest.LogCaptureFixture
) -> None:
    """Three looks at a status that nobody knows: the wait goes on, and the log has one line about it."""
    pair = await seeded(server, tree, "completed")
    strange = {**tree["runs"][0], "id": pair[1], "status": "paused_for_review"}
    server.faults.add(Fault(route=RUN, status=200, body=strange, times=3))
    states: list[str | None] = []
    with caplog.at_level(logging.WARNING, "evals_async"):
        run = await client.evals.runs.wait(pair, on_poll=lambda seen: states.append(seen.status))
    assert states == ["paused_for_review"] * 3 + ["completed"]
    assert run.status == "completed"
    assert caplog.messages == ["a run has the unknown status 'paused_for_review'; waiting continues"]


@pytest.mark.parametrize(
    ("headers", "slept"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"x-ms-retry-after-ms": "4000"}, 4.0),
        ({"openai-poll-after-ms": "5000"}, 5.0),
        ({"openai-poll-after-ms": "soon"}, 1.0),
    ],
)
async def test_what_a_good_answer_asks_to_wait(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree, headers: dict[str, str], slept: float
) -> None:
    """A delay that the server asks for with a run under way goes before the interval, and does not make it grow."""
    pair = await seeded(server, tree, "completed")
    body = {**tree["runs"][0], "id": pair[1], "status": "in_progress"}
    server.faults.add(Fault(route=RUN, status=200, body=body, headers=headers), Fault(route=RUN, status=200, body=body))
    clock.draws = [0.0]
    await client.evals.runs.wait(pair, pace=EVEN)
    assert [slept, 1.0 if slept != 1.0 else 1.5] == clock.slept


async def test_what_an_error_asks_to_wait(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree
) -> None:
    """Outages that outlast the retries do not end an hour's wait; their Retry-After is kept to."""
    pair = await seeded(server, tree, "completed")
    patient = client.with_options(max_retries=0)
    server.faults.add(Fault(route=RUN, status=503, headers={"Retry-After": "120"}), Fault(route=RUN, status=500))
    clock.draws = [0.0]
    run = await patient.evals.runs.wait(pair, pace=EVEN)
    assert run.status == "completed"
    assert [seconds for seconds in clock.slept if seconds > 0.1] == [120.0, 1.0]


async def test_a_delay_past_the_end_is_not_slept(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree
) -> None:
    """A server that wants to be asked after the deadline ends the wait now, and not then."""
    pair = await seeded(server, tree, "in_progress")
    server.faults.add(Fault(route=RUN, headers={"Retry-After": "3600"}))
    with pytest.raises(WaitTimeout) as caught:
        await client.evals.runs.wait(pair, timeout=60)
    assert (caught.value.last.status, clock.slept) == ("in_progress", [])


async def test_what_waiting_does_not_cure_is_raised(client: EvalsClient, clock: FakeClock, eval_id: str) -> None:
    """A run that is not there is told at once."""
    with pytest.raises(NotFound):
        await client.evals.runs.wait("evalrun_gone", eval_id=eval_id)
    assert clock.slept == []


async def test_an_outage_without_end_is_raised(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree
) -> None:
    """After five failures in a row that are waited out, the sixth is raised."""
    pair = await seeded(server, tree, "completed")
    server.faults.add(Fault(route=RUN, status=500, times=None))
    with pytest.raises(ServerError):
        await client.with_options(max_retries=0).evals.runs.wait(pair)
    assert server.request_count == 6


# --- many ------------------------------------------------------------------------------------------------------------


async def test_many_waits_share_the_clock(
    server: LocalServer, client: EvalsClient, clock: FakeClock, tree: SampleTree, eval_id: str
) -> None:
    """Runs of two evals, named in three ways, come as they end, with the key they were named by; those that fail, time
    out or are not there are errors among the others.
    """
    made = [await client.evals.runs.create(eval_id, data_source=SOURCE) for _ in range(3)]
    stuck = await seeded(server, tree, "in_progress", "evalrun_stuck")
    failed = await seeded(server, tree, "failed", "evalrun_failed")
    gone = (eval_id, "evalrun_gone")
    progress: list[Progress] = []
    keys: list[tuple[str, str] | EvalRun] = [made[0], (eval_id, made[1].id), made[2], stuck, failed, gone]
    outcomes: dict[RunKey, Outcome[tuple[str, str] | EvalRun, EvalRun]] = {}
    waits = client.evals.runs.wait_many(keys, timeout=200, raise_on_failure=True, on_progress=progress.append)
    async for outcome in waits:
        outcomes[outcome.key] = outcome
    assert set(keys) == set(outcomes)
    assert [outcomes[key].unwrap().status for key in keys[:3]] == ["completed"] * 3
    assert isinstance(outcomes[failed].error, RunFailed)
    assert isinstance(outcomes[gone].error, NotFound)
    late = outcomes[stuck].error
    assert isinstance(late, WaitTimeout)
    assert (late.last.id, late.last.status) == ("evalrun_stuck", "in_progress")
    assert Progress(started=6, done=6, failed=3, total=6) == progress[-1]


async def test_without_raise_on_failure_every_end_is_a_value(
    server: LocalServer, client: EvalsClient, tree: SampleTree
) -> None:
    """By default a failed run is a run that ended."""
    keys = [await seeded(server, tree, status, f"evalrun_{status}") for status in ("failed", "cancelled", "completed")]
    ended = {outcome.unwrap().status async for outcome in client.evals.runs.wait_many(keys)}
    assert {"failed", "cancelled", "completed"} == ended


async def test_hundreds_of_waits_ask_seldom(
    server: LocalServer, client: EvalsClient, clock: FakeClock, eval_id: str
) -> None:
    """150 runs that take 103 seconds: all end soon after. Each is fetched once, and listed in between, some ten times;
    an interval is 33 s at most.
    """
    made = [await client.evals.runs.create(eval_id, data_source=SOURCE) for _ in range(150)]
    began, before = clock.now, server.request_count
    ended = [outcome.unwrap().id async for outcome in client.evals.runs.wait_many(made, timeout=None)]
    assert sorted(run.id for run in made) == sorted(ended)
    assert 103 <= clock.now - began <= 103 + 34
    assert 150 < server.request_count - before <= 150 + 40


async def test_unknown_statuses_of_many_are_told_once(
    server: LocalServer, client: EvalsClient, tree: SampleTree, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten runs in the same strange status: one line in the log, for all of them."""
    keys = [await seeded(server, tree, "paused", f"evalrun_{number}") for number in range(10)]
    with caplog.at_level(logging.WARNING, "evals_async"):
        errors = [outcome.error async for outcome in client.evals.runs.wait_many(keys, timeout=10)]
    assert all(isinstance(error, WaitTimeout) for error in errors)
    assert len(caplog.messages) == 1

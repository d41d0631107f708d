"""Changes whose answer is lost, with a whole client before the local server: what was done is done once, and told."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from doubles import ScaledClock
from faults.harness import CONFIG, GRADER, RUN, SPEED, create_eval, told, with_faults
from transport.faultserver import answer, raw
from transport.harness import KEY, assert_plain

from evals_async import (
    ConnectionDropped,
    DeadlineExceeded,
    EvalRun,
    EvalsClient,
    RequestError,
    ResponseTruncated,
    ServerError,
)
from evals_async.server import Fault, LocalServer


EVALS = "POST /evals"
RUNS = "POST /evals/{eval_id}/runs"
ROWS = [{"item": {"a": "x", "b": "x"}}, {"item": {"a": "x", "b": "y"}}]


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer(queued_seconds=60, running_seconds=60) as running:
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[EvalsClient]:
    clock = ScaledClock(SPEED)
    async with EvalsClient(base_url=server.base_url, api_key=KEY, clock=clock) as opened:
        yield opened


async def new_run(client: EvalsClient, eval_id: str) -> EvalRun:
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": ROWS}}
    return await client.evals.runs.create(eval_id, data_source=source, name="Monday")


async def new_eval(client: EvalsClient) -> str:
    return (await client.evals.create(data_source_config=CONFIG, testing_criteria=[GRADER])).id


def sent(server: LocalServer, route: str) -> int:
    return sum(f"{seen.method} {seen.route}" == route for seen in server.requests)


LOST = [(Fault(drop="after"), ConnectionDropped), (Fault(truncate=10), ResponseTruncated)]


@pytest.mark.parametrize(("fault", "error"), LOST, ids=["drop", "truncate"])
@pytest.mark.parametrize("what", ["eval", "run"])
async def test_a_create_whose_answer_is_lost(
    server: LocalServer, client: EvalsClient, what: str, fault: Fault, error: type[RequestError]
) -> None:
    """W01: exactly one is there, it was asked for once, and the error says that it may be there."""
    route = EVALS if what == "eval" else RUNS
    eval_id = await new_eval(client)
    before = sent(server, route)
    server.faults.add(Fault(route=route, drop=fault.drop, truncate=fault.truncate))
    with pytest.raises(error) as caught:
        await (create_eval(client) if what == "eval" else new_run(client, eval_id))
    assert caught.value.maybe_executed
    assert "check before you send it again" in str(caught.value)
    assert before + 1 == sent(server, route)
    assert_plain(caught.value)
    if what == "eval":
        assert ["Greetings"] == [found.name async for found in client.evals.list() if found.id != eval_id]
    else:
        assert ["Monday"] == [found.name async for found in client.evals.runs.list(eval_id)]


async def test_a_create_that_is_answered_too_late() -> None:
    """W01: carried out, and the answer stalls: one request, a DeadlineExceeded, and the doubt in it."""
    async with with_faults(raw(b"", then="stall")) as (server, client):
        with pytest.raises(DeadlineExceeded) as caught:
            await create_eval(client.with_options(timeout=2.0))
        assert (1, True) == (len(server.seen), caught.value.maybe_executed)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408])
async def test_a_create_that_the_server_fails(server: LocalServer, client: EvalsClient, status: int) -> None:
    """W01: a 5xx may come after the deed; it is not sent again."""
    server.faults.add(Fault(route=EVALS, status=status, times=None))
    with pytest.raises(ServerError) as caught:
        await create_eval(client)
    assert caught.value.maybe_executed
    assert 1 == sent(server, EVALS)


@pytest.mark.parametrize(("status", "headers"), [(429, {}), (429, {"Retry-After": "1"}), (503, {"Retry-After": "1"})])
async def test_a_create_that_is_turned_away(
    server: LocalServer, client: EvalsClient, status: int, headers: dict[str, str]
) -> None:
    """W02: what was turned away was not carried out: it is sent again, with the same Idempotency-Key, and is there
    once.
    """
    server.faults.add(Fault(route=EVALS, status=status, headers=headers, times=2))
    await create_eval(client)
    keys = [seen.headers["Idempotency-Key"] for seen in server.requests]
    assert (3, 1) == (len(keys), len(set(keys)))
    assert 1 == len(await client.evals.list().collect())
    await create_eval(client)
    assert server.requests[-1].headers["Idempotency-Key"] not in keys


@pytest.mark.parametrize("lost", [Fault(drop="after"), Fault(truncate=5)], ids=["drop", "truncate"])
@pytest.mark.parametrize("what", ["eval", "run"])
async def test_a_delete_whose_answer_is_lost(server: LocalServer, client: EvalsClient, what: str, lost: Fault) -> None:
    """W03: it is sent again, the 404 says that it is gone, and the result says that this was concluded."""
    eval_id = await new_eval(client)
    run_id = (await new_run(client, eval_id)).id
    route = "DELETE /evals/{eval_id}" if what == "eval" else "DELETE /evals/{eval_id}/runs/{run_id}"
    server.faults.add(Fault(route=route, drop=lost.drop, truncate=lost.truncate))
    if what == "eval":
        deleted = await client.evals.delete(eval_id)
        assert (eval_id, True, True) == (deleted.eval_id, deleted.deleted, deleted.assumed)
        assert [] == await client.evals.list().collect()
    else:
        gone = await client.evals.runs.delete(run_id, eval_id=eval_id)
        assert (run_id, True, True) == (gone.run_id, gone.deleted, gone.assumed)
        assert [] == await client.evals.runs.list(eval_id).collect()
    assert 2 == sent(server, route)


@pytest.mark.parametrize("status", [400, 409])
async def test_a_cancel_that_is_resolved_by_a_look(status: int) -> None:
    """W04: whether the server then says 400 or 409, the run's status decides."""
    refusal = {"error": {"message": "Run is already canceled"}}
    scenes = (raw(b"", then="rst"), told(refusal, status), told({**RUN, "status": "canceled"}))
    async with with_faults(*scenes) as (server, client):
        run = await client.evals.runs.cancel("evalrun_1", eval_id="eval_1")
        assert ("canceled", ["POST", "POST", "GET"]) == (run.status, [seen.line.split()[0] for seen in server.seen])


@pytest.mark.parametrize("how", ["create", "update", "upload"])
async def test_what_is_sent_again_is_the_same_to_the_byte(how: str) -> None:
    """W05: bodies, forms and keys of all attempts are equal."""
    busy = answer(503, b"{}", ("Retry-After-Ms", "1"))
    file = {"object": "file", "id": "file-1", "purpose": "evals"}
    last = told(file if how == "upload" else {"object": "eval", "id": "eval_1"})
    async with with_faults(busy, busy, last) as (server, client):
        if how == "create":
            await create_eval(client)
        elif how == "update":
            await client.evals.update("eval_1", name="café", metadata={"ключ": "värde"})
        else:
            await client.files.create(file=("rows.jsonl", b'{"item": {}}\n' * 1000), purpose="evals")
        assert 3 == len(server.seen)
        assert 1 == len({(seen.body, seen.header("content-type")) for seen in server.seen})
        assert 1 == len({seen.header("idempotency-key") for seen in server.seen})
        assert server.seen[0].body

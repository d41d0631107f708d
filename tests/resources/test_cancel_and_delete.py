"""Cancelling and deleting on bad days: two paths for one thing, and answers that are lost."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from doubles import FakeClock

from evals_async import EvalsClient
from evals_async.errors import BadRequest, NotFound, PermissionDenied, RequestError, ServerError
from evals_async.server import Fault, LocalServer


RUN = "/evals/{eval_id}/runs/{run_id}"
CANCEL = f"POST {RUN}/cancel"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer() as running:
        await running.seed(
            evals=[{"id": "e1", "object": "eval", "created_at": 1}],
            runs=[
                {"id": "r1", "object": "eval.run", "eval_id": "e1", "created_at": 1, "status": "in_progress"},
                {"id": "r2", "object": "eval.run", "eval_id": "e1", "created_at": 2, "status": "completed"},
            ],
            files=[{"id": "file-1", "object": "file", "created_at": 1, "purpose": "evals"}],
        )
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[EvalsClient]:
    async with EvalsClient(base_url=server.base_url, api_key="sk-local-123", clock=FakeClock()) as made:
        yield made


def seen(server: LocalServer) -> list[str]:
    return [f"{request.method} {request.path.removeprefix('/v1/evals/e1/runs/')}" for request in server.requests]


async def test_cancel(client: EvalsClient, server: LocalServer) -> None:
    """A run is canceled by one request, on the path of the official client."""
    assert "canceled" == (await client.evals.runs.cancel("r1", eval_id="e1")).status
    assert ["POST r1/cancel"] == seen(server)


@pytest.mark.parametrize("status", [404, 405])
async def test_servers_with_the_other_path(client: EvalsClient, server: LocalServer, status: int) -> None:
    """A server that does not know the one path is asked by the other."""
    server.faults.add(Fault(route=CANCEL, status=status, times=None))
    assert "canceled" == (await client.evals.runs.cancel("r1", eval_id="e1")).status
    assert ["POST r1/cancel", "POST r1"] == seen(server)


@pytest.mark.parametrize(("first", "second"), [(404, 405), (405, 405)])
async def test_servers_with_neither_path(client: EvalsClient, server: LocalServer, first: int, second: int) -> None:
    """Of a server that knows neither path the first answer is told; it says more."""
    server.faults.add(Fault(route=CANCEL, status=first, times=None), Fault(route=f"POST {RUN}", status=second))
    with pytest.raises(RequestError) as caught:
        await client.evals.runs.cancel("r1", eval_id="e1")
    assert (first, "/evals/e1/runs/r1/cancel") == (getattr(caught.value, "status", None), caught.value.path)


async def test_cancel_of_nothing(client: EvalsClient, server: LocalServer) -> None:
    """A run that is not there is not found, on either path."""
    with pytest.raises(NotFound):
        await client.evals.runs.cancel("r9", eval_id="e1")
    assert ["POST r9/cancel", "POST r9"] == seen(server)


async def test_cancel_of_what_is_over(client: EvalsClient, server: LocalServer) -> None:
    """A run that is completed cannot be canceled: the server's own words are told, and there is no second look."""
    with pytest.raises(BadRequest):
        await client.evals.runs.cancel("r2", eval_id="e1")
    assert ["POST r2/cancel"] == seen(server)


@pytest.mark.parametrize("status", [400, 403])
async def test_other_refusals_are_final(client: EvalsClient, server: LocalServer, status: int) -> None:
    """A refusal that says nothing of the path is not tried on the other."""
    server.faults.add(Fault(route=CANCEL, status=status))
    with pytest.raises((BadRequest, PermissionDenied)):
        await client.evals.runs.cancel("r1", eval_id="e1")
    assert ["POST r1/cancel"] == seen(server)


@pytest.mark.parametrize("fault", [Fault(route=CANCEL, drop="after"), Fault(route=CANCEL, truncate=5)])
async def test_the_answer_to_a_cancel_is_lost(client: EvalsClient, server: LocalServer, fault: Fault) -> None:
    """The run is asked to be canceled again; if it is already, a look at it tells so."""
    server.faults.add(fault, Fault(route=CANCEL, status=400, body={"error": {"message": "already canceled"}}))
    run = await client.evals.runs.cancel("r1", eval_id="e1")
    assert "canceled" == run.status
    assert ["POST r1/cancel", "POST r1/cancel", "GET r1"] == seen(server)


async def test_all_answers_to_a_cancel_are_lost(client: EvalsClient, server: LocalServer) -> None:
    """When no answer comes at all, the look alone decides."""
    server.faults.add(Fault(route=CANCEL, drop="after", times=None))
    assert "canceled" == (await client.evals.runs.cancel("r1", eval_id="e1")).status


async def test_a_cancel_that_did_not_happen(client: EvalsClient, server: LocalServer) -> None:
    """When the look shows a run that goes on, the failure is told, and that nothing was done."""
    server.faults.add(Fault(route=CANCEL, status=503, times=None))
    with pytest.raises(ServerError) as caught:
        await client.evals.runs.cancel("r1", eval_id="e1")
    assert not caught.value.maybe_executed
    assert "in_progress" == (await client.evals.runs.retrieve("r1", eval_id="e1")).status


async def test_the_look_fails_too(client: EvalsClient, server: LocalServer) -> None:
    """When the look fails as well, the error says that it is not known what became of the run."""
    server.faults.add(Fault(route=CANCEL, drop="after", times=None), Fault(route=f"GET {RUN}", status=403))
    with pytest.raises(RequestError) as caught:
        await client.evals.runs.cancel("r1", eval_id="e1")
    assert caught.value.maybe_executed
    assert "a look at what became of it failed too" in (caught.value.note or "")


DELETIONS: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "/evals/{eval_id}": ("evals", ("e1",), {}),
    RUN: ("evals.runs", ("r1",), {"eval_id": "e1"}),
    "/files/{file_id}": ("files", ("file-1",), {}),
}


@pytest.mark.parametrize("route", DELETIONS)
@pytest.mark.parametrize("lost", [False, True])
async def test_delete(client: EvalsClient, server: LocalServer, route: str, lost: bool) -> None:
    """What is deleted is reported as deleted, also when the answer was lost; then as `assumed`, for it is."""
    place, arguments, options = DELETIONS[route]
    if lost:
        server.faults.add(Fault(route=f"DELETE {route}", drop="after"))
    resource: Any = client
    for step in place.split("."):
        resource = getattr(resource, step)
    gone = await resource.delete(*arguments, **options)
    assert (True, True if lost else None) == (gone.deleted, gone.assumed)
    named = getattr(gone, {"evals": "eval_id", "evals.runs": "run_id", "files": "id"}[place])
    assert arguments[0] == named
    with pytest.raises(NotFound):
        await resource.delete(*arguments, **options)
    with pytest.raises(NotFound):
        await resource.retrieve(*arguments, **options)

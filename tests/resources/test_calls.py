"""`Caller`: shared reads, cached reads, and answers that belong to someone else."""

import asyncio
import json
from operator import attrgetter
from typing import Any

import pytest
from doubles import FakeClock, caller_over, reply_of
from resources.session_double import Answer, SessionDouble

from evals_async import EvalsClient, LRUCache, Request, Response, encode
from evals_async._concurrency.cache import Cache
from evals_async._concurrency.single_flight import SingleFlight
from evals_async.errors import DecodeError, EvalsError, ResponseMismatch
from evals_async.models import EvalRun
from evals_async.resources import Runs


def body_of(run: dict[str, Any]) -> bytes:
    return json.dumps(run).encode()


class Wire:
    """Responds when it is told to, and counts who asked."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request.path)
        await asyncio.sleep(0)  # as every network: others get their turn meanwhile
        await self.open.wait()
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return reply_of(body)


QUEUED = body_of({"id": "r1", "eval_id": "e1", "status": "queued"})
DONE = b'{ "id": "r1", "eval_id": "e1", "status": "completed", "new_field": [1.0] }'


def runs(wire: Wire, *, flight: SingleFlight | None = None, cache: Cache | None = None, scope: str = "") -> Runs:
    return Runs(caller_over(wire, flight=flight, cache=cache, scope=scope))


# --- single flight ----------------------------------------------------------------------------------------------------


async def test_concurrent_reads_share_a_request() -> None:
    """A hundred who ask for one run at the same time are one request, whatever they call it."""
    wire = Wire(DONE)
    shared = runs(wire, flight=SingleFlight())
    keys: list[Any] = [("e1", "r1"), EvalRun(id="r1", eval_id="e1", status="queued")] * 50
    found = await asyncio.gather(*[shared.retrieve(key) for key in keys])
    assert ["/evals/e1/runs/r1"] == wire.asked
    assert [found[0]] * 100 == found


async def test_one_of_two_is_cancelled() -> None:
    """The one who asked leaves, and the other asks in his place; the next to come asks anew."""
    wire = Wire(DONE)
    wire.open.clear()
    shared = runs(wire, flight=SingleFlight())
    first, second = (asyncio.create_task(shared.retrieve("r1", eval_id="e1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    wire.open.set()
    assert "completed" == (await second).status
    assert 2 == len(wire.asked)
    await shared.retrieve("r1", eval_id="e1")
    assert 3 == len(wire.asked)


async def test_readers_who_share_a_request_share_no_object() -> None:
    """Each has an object of his own: what one does to its free-form JSON, another never sees."""
    wire = Wire(body_of({"id": "r1", "status": "queued", "metadata": {"a": [1]}, "new": {"b": 2}, "name": None}))
    shared = runs(wire, flight=SingleFlight())
    found = await asyncio.gather(*[shared.retrieve("r1", eval_id="e1") for _ in range(3)])
    assert 1 == len(wire.asked)
    before = encode(found[0])
    for run in found[:2]:
        metadata: Any = run.metadata
        metadata["a"].append(2)
        metadata["x"] = 1
        extra: Any = run.extra
        extra["new"]["b"] = 3
    assert before == encode(found[2])
    assert {"name"} == found[2].nulls


async def test_what_is_not_shared() -> None:
    """Other things, calls with options of their own, and clients that opt out make requests of their own."""
    wire = Wire(
        b'{"id": "r1", "status": "queued"}', b'{"id": "r2", "status": "queued"}', b'{"id": "r1", "status": "queued"}'
    )
    shared = runs(wire, flight=SingleFlight())
    await asyncio.gather(shared.retrieve("r1", eval_id="e1"), shared.retrieve("r2", eval_id="e1"))
    await asyncio.gather(*[shared.retrieve("r1", eval_id="e1", timeout=5.0) for _ in range(2)])
    await asyncio.gather(*[runs(wire).retrieve("r1", eval_id="e1") for _ in range(2)])
    assert ["r1", "r2", "r1", "r1", "r1", "r1"] == [path.rsplit("/", 1)[1] for path in wire.asked]


async def test_failures_are_not_remembered() -> None:
    """A failure reaches all who wait for it, each as an error of his own, and the next one asks anew."""
    wire = Wire(b"no json", DONE)
    shared = runs(wire, flight=SingleFlight())
    errors = await asyncio.gather(*[shared.retrieve("r1", eval_id="e1") for _ in range(3)], return_exceptions=True)
    assert [DecodeError] * 3 == [type(error) for error in errors]
    assert 3 == len({id(error) for error in errors})
    assert "completed" == (await shared.retrieve("r1", eval_id="e1")).status
    assert 2 == len(wire.asked)


async def test_single_flight_of_a_client(session: SessionDouble) -> None:
    """A client shares by default, apart from its copies on other terms, and not at all with `single_flight=False`."""
    session.gives({"id": "e1"})
    async with EvalsClient(api_key="sk-shared-12") as client:
        await asyncio.gather(client.evals.retrieve("e1"), client.evals.retrieve("e1"))
        assert 1 == len(session.sent)
        other = client.with_options(headers={"X-Tenant": "other"})
        await asyncio.gather(client.evals.retrieve("e1"), other.evals.retrieve("e1"))
        assert [None, None, "other"] == [sent.headers.get("X-Tenant") for sent in session.sent]
    async with EvalsClient(api_key="sk-shared-12", single_flight=False) as client:
        await asyncio.gather(client.evals.retrieve("e1"), client.evals.retrieve("e1"))
        await asyncio.gather(*[client.with_options(timeout=9).evals.retrieve("e1") for _ in range(2)])
    assert 7 == len(session.sent)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed", "canceled", "cancelled"])
async def test_runs_that_are_over_are_cached(status: str) -> None:
    """A run that cannot change any more is asked for once, and what is kept are the exact bytes."""
    body = DONE.replace(b"completed", status.encode())
    wire, cache = Wire(body), LRUCache()
    cached = runs(wire, cache=cache, scope="https://a.example/v1")
    assert await cached.retrieve("r1", eval_id="e1") == await cached.retrieve("r1", eval_id="e1")
    assert 1 == len(wire.asked)
    assert body == await cache.get("https://a.example/v1/evals/e1/runs/r1")
    await runs(wire, cache=cache, scope="https://b.example/v1").retrieve("r1", eval_id="e1")
    assert 2 == len(wire.asked)


@pytest.mark.parametrize("status", ["queued", "in_progress", "paused"])
async def test_runs_that_are_not_over_are_not_cached(status: str) -> None:
    """A run that may change is asked for each time; a status that nobody knows may change too."""
    wire, cache = Wire(body_of({"id": "r1", "status": status})), LRUCache()
    for _ in range(2):
        await runs(wire, cache=cache).retrieve("r1", eval_id="e1")
    assert (2, 0) == (len(wire.asked), cache.size)


@pytest.mark.parametrize("kept", [b"", b"garbage", b"[]", b'{"id": 7}', b'{"id": "another"}'])
async def test_damaged_cache(kept: bytes) -> None:
    """An entry that is not the run is as good as none, and is replaced."""
    wire, cache = Wire(DONE), LRUCache()
    await cache.put("/evals/e1/runs/r1", kept)
    assert "completed" == (await runs(wire, cache=cache).retrieve("r1", eval_id="e1")).status
    assert DONE == await cache.get("/evals/e1/runs/r1")


async def test_least_recently_used_goes_first() -> None:
    """The cache stays within its bounds, and lets go of what was not asked for the longest."""
    bodies = [body_of({"id": f"r{n}", "status": "failed"}) for n in (1, 2, 1, 3, 1, 2)]
    wire = Wire(bodies[0], bodies[1], bodies[3], bodies[5])
    cached = runs(wire, cache=LRUCache(max_items=2))
    for number in (1, 2, 1, 3, 1, 2):
        await cached.retrieve(f"r{number}", eval_id="e1")
    assert ["r1", "r2", "r3", "r2"] == [path.rsplit("/", 1)[1] for path in wire.asked]


async def test_options_pass_the_cache_by() -> None:
    """A call with options of its own asks the server."""
    wire, cache = Wire(DONE), LRUCache()
    for _ in range(2):
        await runs(wire, cache=cache).retrieve("r1", eval_id="e1", extra_headers={"Cache-Control": "no-cache"})
    assert 2 == len(wire.asked)


async def test_cache_of_a_client(session: SessionDouble) -> None:
    """A client keeps nothing by default; with a cache, it and its copies keep runs, and nothing but runs."""
    session.gives({"id": "r1", "status": "completed"})
    for cache, expected in ((None, 3), (LRUCache(), 1)):
        session.sent.clear()
        options: Any = {} if cache is None else {"cache": cache}
        async with EvalsClient(api_key="sk-cache-123", **options) as client:
            for _ in range(2):
                await client.evals.runs.retrieve("r1", eval_id="e1")
            await client.with_options(timeout=9).evals.runs.retrieve("r1", eval_id="e1")
            assert expected == len(session.sent)
            for _ in range(2):
                await client.evals.retrieve("r1")
            assert expected + 2 == len(session.sent)


# --- answers of others ------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[str, tuple[str, ...], dict[str, str], dict[str, Any]]] = {
    "eval": ("evals.retrieve", ("e1",), {}, {"id": "e2"}),
    "updated eval": ("evals.update", ("e1",), {"name": "n"}, {"id": "e2"}),
    "deleted eval": ("evals.delete", ("e1",), {}, {"eval_id": "e2", "deleted": True}),
    "run": ("evals.runs.retrieve", ("r1",), {"eval_id": "e1"}, {"id": "r2", "eval_id": "e1", "status": "queued"}),
    "run of another eval": (
        "evals.runs.retrieve",
        ("r1",),
        {"eval_id": "e1"},
        {"id": "r1", "eval_id": "e2", "status": "queued"},
    ),
    "canceled run": ("evals.runs.cancel", ("r1",), {"eval_id": "e1"}, {"id": "r2", "status": "queued"}),
    "deleted run": ("evals.runs.delete", ("r1",), {"eval_id": "e1"}, {"run_id": "r2", "deleted": True}),
    "listed run": ("evals.runs.list", ("e1",), {}, {"data": [{"id": "r1", "eval_id": "e2", "status": "queued"}]}),
    "file": ("files.retrieve", ("f1",), {}, {"id": "f2"}),
    "deleted file": ("files.delete", ("f1",), {}, {"id": "f2", "deleted": True}),
}


@pytest.mark.parametrize(("name", "arguments", "options", "body"), OTHERS.values(), ids=OTHERS.keys())
async def test_answers_that_belong_to_others(
    client: EvalsClient,
    session: SessionDouble,
    name: str,
    arguments: tuple[str, ...],
    options: dict[str, str],
    body: object,
) -> None:
    """An object that was not asked for is never returned: the error has both ids, and is about the request."""
    session.gives(body)
    with pytest.raises(ResponseMismatch) as caught:
        await attrgetter(name)(client)(*arguments, **options)
    error = caught.value
    assert ({"1"}, {"2"}) == ({error.asked[-1]}, {error.got[-1]})
    assert (session.sent[0].method, session.sent[0].path) == (error.method, error.path)


async def test_ids_that_are_left_out(client: EvalsClient, session: SessionDouble) -> None:
    """A server that leaves an id out is believed: Azure and proxies do."""
    session.gives({"id": "r1", "object": "eval.run", "status": "cancelled"})
    assert (await client.evals.runs.cancel("r1", eval_id="e1")).is_terminal


# --- listings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["", "a b", "\n", "..", "x" * 257])
async def test_cursors_that_are_none(client: EvalsClient, session: SessionDouble, after: str) -> None:
    """A cursor is an id: what is none is refused before anything is sent."""
    with pytest.raises(EvalsError, match=r"^after "):
        await client.evals.list(after=after)
    assert [] == session.sent


async def test_bodies_of_runs_may_be_too_large(session: SessionDouble) -> None:
    """Runs carry their rows: a page that is more than is read at once is asked for again at half its size."""
    rows = [{"id": f"r{n}", "status": "queued", "metadata": {"a": "x" * 300}} for n in range(4)]
    session.gives(
        {"data": rows, "has_more": False}, {"data": rows[:2], "has_more": True}, {"data": rows[2:], "has_more": False}
    )
    async with EvalsClient(api_key="sk-large-123", max_body=1000, clock=FakeClock()) as client:
        found = [run.id async for run in client.evals.runs.list("e1", limit=4)]
    assert ["r0", "r1", "r2", "r3"] == found
    assert [("4", None), ("2", None), ("2", "r1")] == [(s.query["limit"], s.query.get("after")) for s in session.sent]


@pytest.mark.parametrize("status", [408, 500, 502, 504])
async def test_pages_of_items_may_be_too_heavy(session: SessionDouble, status: int) -> None:
    """A page of output items that the server cannot make in time is asked for again at half its size."""
    heavy = Answer({"error": {"message": "timeout"}}, status=status)
    session.gives(
        heavy, heavy, {"data": [{"id": "1", "status": "pass"}, {"id": "2", "status": "pass"}], "has_more": False}
    )
    async with EvalsClient(api_key="sk-heavy-123", max_retries=0, clock=FakeClock()) as client:
        items = await client.evals.runs.output_items.list("r1", eval_id="e1").collect()
    assert (["1", "2"], ["100", "50", "25"]) == ([item.id for item in items], [s.query["limit"] for s in session.sent])


async def test_iterating_asks_for_the_largest_pages(client: EvalsClient, session: SessionDouble) -> None:
    """Whoever iterates gets pages of the API's largest size; whoever awaits gets the server's own."""
    session.gives({"data": [], "has_more": False})
    await client.evals.list()
    await client.evals.list().collect()
    await client.files.list().collect()
    assert [{}, {"limit": "100"}, {"limit": "10000"}] == [sent.query for sent in session.sent]

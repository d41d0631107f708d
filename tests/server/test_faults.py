"""The fault plan: what it takes when, and what then happens on the wire."""

import math
from typing import Any

import aiohttp
import pytest
from doubles import FakeClock
from plainhttp import PlainHttp, eval_request

from evals_async.errors import InvalidArgument
from evals_async.server import Fault, FaultPlan, LocalServer


def hits(plan: FaultPlan, count: int, method: str = "GET", template: str = "/evals") -> str:
    """A letter for each request: `x` where a fault was taken."""
    return "".join("x" if plan.take(method, template) else "." for _ in range(count))


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        (Fault(), "x......."),
        (Fault(times=3), "xxx....."),
        (Fault(skip=2), "..x....."),
        (Fault(skip=1, times=2, every=3), ".x..x..."),
        (Fault(times=None), "xxxxxxxx"),
        (Fault(times=None, every=4), "x...x..."),
        (Fault(times=0), "........"),
    ],
)
def test_a_fault_counts_the_requests_it_meets(fault: Fault, pattern: str) -> None:
    """Some are spared, then every n-th is hit, so many in all."""
    assert hits(FaultPlan(fault), 8) == pattern


def test_a_fault_is_for_its_route() -> None:
    """A template means every method, a method before it means that one, and other requests do not count."""
    plan = FaultPlan(Fault(route="/evals", skip=1), Fault(route="POST /evals"))
    assert hits(plan, 2, "GET", "/files") == ".."
    assert hits(plan, 1, "GET") == "."
    assert hits(plan, 1, "POST") == "x"
    assert plan.used == (1, 0)
    assert hits(plan, 2, "POST") == "x."
    assert plan.used == (1, 1)


def test_faults_can_be_added_and_cleared() -> None:
    """The first fault that applies is the one that happens; a cleared plan does nothing."""
    plan = FaultPlan()
    assert hits(plan, 1) == "."
    plan.add(Fault(status=500), Fault(status=503))
    taken = [plan.take("GET", "/evals") for _ in range(3)]
    assert [fault and fault.status for fault in taken] == [500, 503, None]
    plan.add(Fault())
    plan.clear()
    assert hits(plan, 2) == ".."


async def test_a_status_comes_in_the_apis_form(http: PlainHttp, server: LocalServer) -> None:
    """Without a body of its own, a fault answers with an error object and its headers, and nothing is carried out."""
    server.faults.add(Fault(status=429, headers={"Retry-After": "7", "x-request-id": "mine"}), Fault(status=500))
    answer = await http.post("/evals", eval_request())
    assert answer.problem == (429, "rate_limit_exceeded", None)
    assert (answer.headers["Retry-After"], answer.headers["x-request-id"]) == ("7", "mine")
    assert (await http.post("/evals", eval_request())).problem == (500, None, None)
    assert (await http.get("/evals")).json["data"] == []


async def test_a_body_can_be_anything(http: PlainHttp, server: LocalServer) -> None:
    """Bytes and text are sent as they are, all else as JSON, with any status."""
    server.faults.add(
        Fault(status=200, body=b"{"), Fault(status=502, body="<html>"), Fault(status=200, body={"data": None})
    )
    answers = [await http.get("/evals") for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"{"),
        (502, b"<html>"),
        (200, b'{"data":null}'),
    ]
    assert [answer.headers["Content-Type"].split(";")[0] for answer in answers] == [
        *("text/plain", "text/plain", "application/json")
    ]


async def test_a_delay_passes_on_the_servers_clock(http: PlainHttp, server: LocalServer, clock: FakeClock) -> None:
    """The answer is the server's own, after the delay."""
    server.faults.add(Fault(delay=30))
    assert (await http.get("/evals")).status == 200
    assert clock.slept == [30]


async def test_a_drop_before_does_nothing(http: PlainHttp, server: LocalServer) -> None:
    """The connection closes without an answer, and nothing was carried out."""
    server.faults.add(Fault(route="POST /evals", drop="before"))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post("/evals", eval_request())
    assert (await http.get("/evals")).json["data"] == []
    assert [(seen.method, seen.status) for seen in server.requests] == [("POST", None), ("GET", 200)]


async def test_a_drop_after_has_carried_it_out(http: PlainHttp, server: LocalServer) -> None:
    """The connection closes without an answer, and the eval is there."""
    server.faults.add(Fault(route="POST /evals", drop="after"))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post("/evals", eval_request())
    assert len((await http.get("/evals")).json["data"]) == 1


async def test_a_truncated_body_breaks_off(http: PlainHttp, server: LocalServer) -> None:
    """The length of the whole is announced, the beginning is sent, and the connection closes."""
    server.faults.add(Fault(truncate=10))
    with pytest.raises(aiohttp.ClientPayloadError, match="10 of"):
        await http.get("/evals")
    assert (await http.get("/evals")).status == 200


async def test_an_added_header_does_not_change_the_answer(http: PlainHttp, server: LocalServer) -> None:
    """A fault of headers only is the server's own answer, with them."""
    server.faults.add(Fault(headers={"x-ratelimit-remaining-requests": "0"}))
    answer = await http.get("/evals")
    assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, "0")


@pytest.mark.parametrize(
    "options",
    [
        {"skip": -1},
        {"every": 0},
        {"times": -1},
        {"times": 1.5},
        {"delay": -1},
        {"delay": math.nan},
        {"status": 99},
        {"status": 600},
        {"status": "500"},
        {"truncate": -1},
        {"drop": "during"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(options: Any) -> None:
    """The error names the value when the fault is made, not in a response of the server."""
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        Fault(**options)

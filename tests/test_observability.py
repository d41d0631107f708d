"""What a running client shows of itself: hooks, log lines, statistics and spans, over the local server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Unpack

import pytest
from doubles import ScaledClock
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from evals_async import ClientOptions, EvalsClient, NotFound, RequestError, ServerError
from evals_async._transport import Request, Response
from evals_async.server import Fault, LocalServer, SampleTree, sample_tree


KEY = "sk-recognisable-0b5e"
RUN = "/evals/{eval_id}/runs/{run_id}"
SOON = {"Retry-After-Ms": "10"}


@pytest.fixture(scope="module")
def tree() -> SampleTree:
    return sample_tree(runs=8, items=2)


@pytest.fixture
async def server(tree: SampleTree) -> AsyncIterator[LocalServer]:
    async with LocalServer() as running:
        await running.seed(**tree)
        yield running


def ids_in(tree: SampleTree) -> tuple[str, str]:
    run = tree["runs"][0]
    return str(run["id"]), str(run["eval_id"])


def client_of(server: LocalServer, **options: Unpack[ClientOptions]) -> EvalsClient:
    options["clock"] = ScaledClock(20.0)
    return EvalsClient(base_url=server.base_url, api_key=KEY, **options)


# --- hooks -----------------------------------------------------------------------------------------------------------


async def test_hooks_tell_the_story_of_a_call(server: LocalServer, tree: SampleTree) -> None:
    """on_request before each attempt, on_response after each answer, on_retry before each pause, in this order."""
    story: list[tuple[object, ...]] = []

    def on_request(request: Request) -> None:
        story.append(("request", request.method, request.route, request.kind))

    def on_response(request: Request, response: Response, seconds: float) -> None:
        story.append(("response", response.status, response.request_id is not None, 0 < seconds < 20))

    def on_retry(request: Request, error: RequestError, wait: float) -> None:
        story.append(("retry", type(error), error.request_id is not None, wait >= 0.01))

    server.faults.add(Fault(status=503, headers=SOON))
    run_id, eval_id = ids_in(tree)
    async with client_of(server, on_request=on_request, on_response=on_response, on_retry=on_retry) as client:
        await client.evals.runs.retrieve(run_id, eval_id=eval_id)
        with pytest.raises(NotFound):
            await client.with_options(max_retries=0).evals.retrieve("eval_gone")
    asked = ("request", "GET", RUN, "read")
    assert [
        asked,
        ("response", 503, True, True),
        ("retry", ServerError, True, True),
        asked,
        ("response", 200, True, True),
        ("request", "GET", "/evals/{eval_id}", "read"),
        ("response", 404, True, True),
    ] == story


async def test_a_lost_connection_has_no_response(server: LocalServer, tree: SampleTree) -> None:
    """An attempt without an answer shows in on_retry alone."""
    story: list[str] = []
    server.faults.add(Fault(drop="before"))
    async with client_of(
        server,
        on_request=lambda request: story.append("request"),
        on_response=lambda request, response, seconds: story.append(str(response.status)),
        on_retry=lambda request, error, wait: story.append(type(error).__name__),
    ) as client:
        await client.evals.list()
    assert ["request", "ConnectionDropped", "request", "200"] == story


@pytest.mark.parametrize("name", ["on_request", "on_response", "on_retry"])
async def test_what_a_hook_raises_comes_through(server: LocalServer, name: str) -> None:
    """It ends the call as it is, and nothing is left of the call: no turn, no half-read connection."""

    def fail(*_: object) -> None:
        raise LookupError("a hook of mine")

    server.faults.add(Fault(status=503, headers=SOON))
    hook: Any = {name: fail}
    async with client_of(server, **hook) as client:
        with pytest.raises(LookupError, match="a hook of mine"):
            await client.evals.list()
        assert (0, 0) == (client.statistics().in_flight, client.statistics().waiting)


async def test_hooks_see_no_key(server: LocalServer) -> None:
    """Requests reach the hooks before a key is added."""
    seen: list[Request] = []
    async with client_of(server, on_request=seen.append) as client:
        await client.evals.list()
    assert KEY not in repr(seen) + repr([dict(request.headers) for request in seen])


async def test_statistics_add_up(server: LocalServer, tree: SampleTree) -> None:
    """What the client counted is what the server saw; copies on other terms count together."""
    server.faults.add(Fault(status=503, headers=SOON), Fault(status=429, skip=2))
    run_id, eval_id = ids_in(tree)
    async with client_of(server) as client:
        await client.evals.runs.retrieve(run_id, eval_id=eval_id)
        await client.with_options(timeout=5).evals.list()
        done = client.statistics()
    assert server.request_count == done.requests == 4
    assert (2, 1) == (done.retries, done.throttles)
    assert done.bytes_received > 1000


# --- log lines -------------------------------------------------------------------------------------------------------


async def test_one_line_per_attempt_and_retry(
    server: LocalServer, tree: SampleTree, caplog: pytest.LogCaptureFixture
) -> None:
    """Each names method, route template, status or error, seconds, wait and request id, as text and as attributes of
    the record.
    """
    caplog.set_level(logging.DEBUG, "evals_async")
    server.faults.add(Fault(drop="before"), Fault(status=503, headers=SOON))
    run_id, eval_id = ids_in(tree)
    async with client_of(server) as client:
        await client.evals.runs.retrieve(run_id, eval_id=eval_id)
    records = [record for record in caplog.records if record.name == "evals_async"]
    events = [record.getMessage().split()[2] for record in records]
    assert ["failed", "retries", "answered", "retries", "answered"] == events
    facts: list[dict[str, Any]] = [vars(record) for record in records]
    assert {("GET", RUN)} == {(fact["method"], fact["route"]) for fact in facts}
    assert ["DEBUG", "INFO", "DEBUG", "INFO", "DEBUG"] == [fact["levelname"] for fact in facts]
    failed, dropped, busy, turned, good = facts
    assert "ConnectionDropped" == failed["error"] == dropped["error"]
    assert (503, 200) == (busy["status"], good["status"])
    assert "ServerError" == turned["error"]
    assert turned["wait"] >= 0.01
    assert busy["request_id"] == turned["request_id"] != good["request_id"]
    assert all(fact["seconds"] > 0 for fact in (failed, busy, good))
    assert f"GET {RUN} answered status=200 seconds=" in caplog.text
    for secret in (KEY, run_id, eval_id, "The server is overloaded"):
        assert secret not in "".join(map(repr, facts))


async def test_the_log_is_silent_unless_asked(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """At WARNING, nothing is written of a request that succeeds in the end."""
    caplog.set_level(logging.WARNING)
    server.faults.add(Fault(status=503, headers=SOON))
    async with client_of(server) as client:
        await client.evals.list()
    assert [] == [record for record in caplog.records if record.name == "evals_async"]


# --- OpenTelemetry ---------------------------------------------------------------------------------------------------


class Tracing:
    """A tracer, and the spans that it finished."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.config = create_trace_config(tracer_provider=self.provider)
        self.tracer = self.provider.get_tracer("test")

    def requests(self) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == "GET"]


def status_of(span: ReadableSpan) -> object:
    return (span.attributes or {}).get("http.status_code")


async def test_every_attempt_is_a_span(server: LocalServer) -> None:
    """Each is a child of the caller's span, and the server is told its id in `traceparent`."""
    tracing = Tracing()
    server.faults.add(Fault(status=503, headers=SOON))
    async with client_of(server, trace_configs=[tracing.config]) as client:
        with tracing.tracer.start_as_current_span("of the caller") as outer:
            await client.evals.list()
    spans = tracing.requests()
    assert [503, 200] == [status_of(span) for span in spans]
    assert [StatusCode.ERROR, StatusCode.UNSET] == [span.status.status_code for span in spans]
    context = outer.get_span_context()
    assert {context.span_id} == {span.parent.span_id for span in spans if span.parent}
    told = [f"00-{context.trace_id:032x}-{span.context.span_id:016x}" for span in spans if span.context]
    assert told == [seen.headers["traceparent"][:52] for seen in server.requests]


async def test_an_attempt_that_breaks_off_is_a_span_too(server: LocalServer) -> None:
    """Its status is an error, and the key is in none of its attributes and events."""
    tracing = Tracing()
    server.faults.add(Fault(drop="before"))
    async with client_of(server, trace_configs=[tracing.config]) as client:
        await client.evals.list()
    broken, good = tracing.requests()
    assert [StatusCode.ERROR, StatusCode.UNSET] == [broken.status.status_code, good.status.status_code]
    assert 1 == len(broken.events)
    assert KEY not in broken.to_json() + good.to_json()


async def test_the_spans_of_a_fan_out_have_one_parent(server: LocalServer, tree: SampleTree) -> None:
    """Workers run in the context of who called them; reads that share a request share its span."""
    tracing = Tracing()
    pairs = [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]
    async with client_of(server, trace_configs=[tracing.config]) as client:
        with tracing.tracer.start_as_current_span("of the caller") as outer:
            await asyncio.gather(client.evals.runs.retrieve_many(pairs), client.evals.runs.retrieve_many(pairs[:1]))
    spans = tracing.requests()
    assert len(pairs) == len(spans)
    assert {outer.get_span_context().span_id} == {span.parent.span_id for span in spans if span.parent}

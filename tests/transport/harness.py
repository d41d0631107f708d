"""How the tests of the wire run a call against a server that misbehaves, and what they check every time."""

import asyncio
import contextlib
import gc
import importlib
import logging
import pickle
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any, Literal

import attrs
from doubles import ScaledClock
from transport.faultserver import FaultServer, Scene

from evals_async import _json
from evals_async._transport import (
    AdaptiveLimiter,
    Kind,
    Pipeline,
    Request,
    Response,
    RetryPolicy,
    Sink,
    StaticKey,
    Timeouts,
    Transport,
    Upload,
)
from evals_async._transport.messages import NO_HEADERS
from evals_async.errors import DecodeError, EvalsError


# What the first request and the first retry import is imported here, so that no test's time is an import's.
WARM = [importlib.import_module(name) for name in ("evals_async._transport.connection", "tenacity")]

KEY = "sk-recognisable-5f1c9d"
SPEED = 10.0
TIMES = Timeouts(total=10.0, attempt=2.0, connect=1.0)
POLICY = RetryPolicy()
SLACK = 1.0  # seconds of the scaled clock that the machine may take beside


@attrs.frozen(kw_only=True)
class Case:
    """One fault: what the server does, what is asked, and what must come of it. A new fault is one of these."""

    id: str
    scenes: tuple[Scene, ...]
    requests: int
    value: object = None
    error: type[EvalsError] | None = None
    check: Callable[[Any], bool] = lambda error: True
    kind: Kind = "read"
    within: float = 1.0
    gap: tuple[float, float] | None = None
    body: bytes | None = None
    times: Timeouts = TIMES
    policy: RetryPolicy = POLICY
    max_body: int = 1 << 20
    read: Callable[[Response], Awaitable[object]] = lambda response: body_of(response)


async def body_of(response: Response) -> bytes:
    return response.body


async def json_of(response: Response) -> object:
    """The JSON of a response, or a `DecodeError`, as the codec does it."""
    try:
        return _json.parse(response.body)
    except _json.NotJSON as error:
        raise DecodeError(str(error), body=response.body) from None


def request(
    kind: Kind = "read",
    *,
    path: str = "/evals/e1",
    route: str = "/evals/{eval_id}",
    query: tuple[tuple[str, str], ...] = (),
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes | Upload | None = None,
    sink: Sink | None = None,
) -> Request:
    """A request of that kind, with the method that the API has for it."""
    methods: dict[Kind, Literal["GET", "POST", "DELETE"]] = {"read": "GET", "delete": "DELETE"}
    return Request(
        method=methods.get(kind, "POST"),
        route=route,
        path=path,
        kind=kind,
        query=query,
        headers=headers,
        body=body,
        sink=sink,
    )


def pipeline_for(url: str, *, speed: float = SPEED, max_body: int = 1 << 20, **more: Any) -> Pipeline:
    clock = ScaledClock(speed)
    transport = Transport(url, clock=clock, max_body=max_body, **more)
    limiter = AdaptiveLimiter(max_in_flight=transport.connections, clock=clock)
    return Pipeline(transport, StaticKey(KEY), clock=clock, limiter=limiter)


@contextlib.contextmanager
def loop_messages() -> Generator[list[Mapping[str, Any]]]:
    """What the loop's exception handler is told."""
    messages: list[Mapping[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: messages.append(context))
    yield messages
    loop.set_exception_handler(None)


@contextlib.contextmanager
def all_logs() -> Generator[list[str]]:
    """Every line that any logger writes, at DEBUG."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {vars(record)!r}")

    root, handler = logging.getLogger(), Keep()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def text_forms(error: BaseException) -> list[str]:
    """Every way in which an error becomes text, its whole chain and the local variables of its traceback included."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    plain = traceback.format_exception(error)
    pickled = pickle.dumps(error).decode("latin-1")
    return [str(error), repr(error), repr(vars(error)), repr(error.args), *plain, *shown.format(), pickled]


def image(error: BaseException) -> object:
    """An error as a value that can be compared."""
    inside = {key: image(value) if isinstance(value, EvalsError) else value for key, value in vars(error).items()}
    return type(error), error.args, inside


def assert_plain(error: BaseException, secret: str = KEY) -> None:
    """The error shows no secret in any form, holds nothing of aiohttp, and survives pickle."""
    for text in text_forms(error):
        assert secret not in text, text
    assert image(error) == image(pickle.loads(pickle.dumps(error)))
    chain: list[BaseException] = [error]
    for link in chain:
        chain.extend(following for following in (link.__cause__, link.__context__) if following is not None)
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(link.__traceback__)]
        held = [name for name in (*modules, type(link).__module__) if name.startswith("aiohttp")]
        assert [] == held, "aiohttp's frames and exceptions hold the headers"


@contextlib.asynccontextmanager
async def serving(*scenes: Scene, **more: Any) -> AsyncGenerator[tuple[FaultServer, Pipeline]]:
    """A server that plays the scenes, and a pipeline to it; afterwards nothing may be left open or unsaid."""
    server_options = {name: more.pop(name) for name in ("tls", "greeting") if name in more}
    if "tls" in server_options:
        more["ssl"] = more.pop("trust", True)
    with loop_messages() as messages, all_logs() as lines:
        async with FaultServer(*scenes, **server_options) as server:
            pipeline = pipeline_for(server.url, **more)
            try:
                yield server, pipeline
            finally:
                await pipeline.close()
            assert await server.all_closed(), "a connection is open after close()"
        gc.collect()  # what was not closed says so now; warnings are errors
        await asyncio.sleep(0)
        assert [] == messages
        assert [] == [line for line in lines if KEY in line]


async def run(case: Case) -> None:
    """Play the case, and check everything that is always checked."""
    async with serving(*case.scenes, max_body=case.max_body) as (server, pipeline):
        value, error = None, None
        began = pipeline.clock.monotonic()
        try:
            value = await pipeline.send(
                request(case.kind, body=case.body),
                case.read,
                timeouts=case.times,
                policy=case.policy,
            )
        except EvalsError as caught:
            error = caught
        elapsed = pipeline.clock.monotonic() - began
        assert case.error == (None if error is None else type(error)), error
        assert case.value == value
        assert case.requests == len(server.seen)
        assert elapsed <= case.within + SLACK, f"took {elapsed:.2f} s"
        if case.gap is not None:
            pause = (server.seen[1].at - server.seen[0].at) * SPEED
            assert case.gap[0] <= pause <= case.gap[1] + SLACK
        if error is not None:
            assert_plain(error)
            assert case.check(error), vars(error)

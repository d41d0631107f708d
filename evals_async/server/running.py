"""`LocalServer`: the Evals API on a socket of this machine.

Only this module handles HTTP. For each request it applies `guard`, `faults` and `routes`, in this order.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Self

import attrs
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._json import JSONObject
from evals_async._store import Connection, Row, rows
from evals_async._store.database import StrPath
from evals_async._store.gaps import gaps
from evals_async.server.answers import Answer, Problem, error_answer
from evals_async.server.execution.limits import ExecutionLimits
from evals_async.server.faults import Fault, FaultPlan
from evals_async.server.guard import LOOPBACK, check_key, check_origin
from evals_async.server.opening import ModelsSource, PythonMode, ServerOptions, open_parts
from evals_async.server.reports import locked, wants_page
from evals_async.server.routes import Match, match, match_page
from evals_async.server.service import Limits, RequestContext, Service
from evals_async.server.threads import ServerThread


logger = logging.getLogger("evals_async.server")
access_logger = logging.getLogger("evals_async.server.access")  # one line per request, at level INFO

NO_QUERY: Mapping[str, str] = MappingProxyType({})
NO_CONTENTS: Mapping[str, bytes] = MappingProxyType({})
WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104  # the user must choose them
IDLE_SECONDS = 75.0  # after which a connection without a complete head of a request is closed
LONGEST_SENDING = 3600.0  # seconds for a response
SHUTDOWN_SECONDS = 0.1  # time for running requests when the server closes


@attrs.define
class SeenRequest:
    """A received request. `status` is the status of the response, or `None` if there is no response yet, or none
    was sent.
    """

    method: str
    path: str
    route: str | None
    query: Mapping[str, str]
    headers: Mapping[str, str] = attrs.field(repr=False)
    status: int | None = None


class JsonProtocol(web.RequestHandler):
    """aiohttp's protocol, but its errors (for example a head that is too large or not HTTP) have the form of the
    API.
    """

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        logger.log(logging.ERROR if status >= 500 else logging.DEBUG, "a request could not be handled", exc_info=exc)
        answer = error_answer(status, "We could not understand the request.")
        response = web.Response(status=status, body=answer.body, content_type=answer.content_type)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response. A client that does not read it loses its connection."""
        try:
            async with asyncio.timeout(LONGEST_SENDING):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            raise ConnectionResetError("the client did not read the response") from None


class JsonServer(web.Server):
    """aiohttp's low-level server, with our protocol for each connection."""

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        return JsonProtocol(self, loop=loop, access_log=access_logger, keepalive_timeout=IDLE_SECONDS)


class LocalServer:
    """The Evals API over a store: `async with LocalServer() as server: ... server.base_url ...`

    `store` is the path of the store's file, or `None` for a store in memory. A missing file is created. `port` 0 means
    any free port. With `api_key`, requests must send this key. `faults` are the faults that the server shows. With
    `read_only`, the response to each write is a 403, and the file is opened read-only. `allowed_hosts` are host names
    that are accepted in `Host` and `Origin`, in addition to those of the loopback interface. `body_limit` and
    `upload_limit` are the largest sizes of JSON bodies and uploads, in bytes. The attribute `requests` has the last
    `remembered` requests.

    Without `models` the server is a test double. A new run is queued for `queued_seconds` and in progress for
    `running_seconds` of the `clock`. Then its rows are graded without a model.

    With `models` (a `Models`, the path of a model map, or the URL of one endpoint) the server executes runs in the
    background. It samples and grades at most `run_concurrency` rows of a run, and `concurrency` rows of all runs, at
    once. A run that would make more than `max_calls` calls to models, or has used `max_tokens` tokens, fails, and keeps
    its items. After a restart, the server continues unfinished runs. If you pass a `Models` object, you must close it.

    `python_graders` is `off`, `sandbox`, or `trusted` (child processes without a sandbox). With `record`, requests for
    chat completions and responses are forwarded to the models, and stored so that runs can use them. Raises
    `ConfigurationError` for options that contradict each other.
    """

    def __init__(
        self,
        store: StrPath | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        faults: FaultPlan | None = None,
        read_only: bool = False,
        queued_seconds: float = 0.05,
        running_seconds: float = 0.1,
        models: "ModelsSource | None" = None,
        python_graders: PythonMode = "off",
        record: bool = False,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        concurrency: int = ExecutionLimits().rows,
        run_concurrency: int = ExecutionLimits().rows_per_run,
        allowed_hosts: Collection[str] = (),
        body_limit: int = Limits().body,
        upload_limit: int = Limits().upload,
        remembered: int = 1000,
    ) -> None:
        self._host = host
        self.port: int = port
        self._api_key = api_key
        self._clock = clock
        self.faults: FaultPlan = FaultPlan() if faults is None else faults
        self._read_only = read_only
        self._options = ServerOptions(
            store=store,
            read_only=read_only,
            clock=clock,
            queued_seconds=queued_seconds,
            running_seconds=running_seconds,
            models=models,
            python_graders=python_graders,
            record=record,
            limits=ExecutionLimits(
                max_calls=max_calls, max_tokens=max_tokens, rows=concurrency, rows_per_run=run_concurrency
            ),
        )
        self._allowed_hosts: frozenset[str] = LOOPBACK | {host.lower(), *(name.lower() for name in allowed_hosts)}
        self._limits: Limits = Limits(body_limit, upload_limit)
        self.requests: deque[SeenRequest] = deque(maxlen=remembered)
        self.request_count: int = 0
        self._service: Service | None = None
        self._told: Mapping[str, str] = {}
        self._runner: web.ServerRunner | None = None
        self._closing = AsyncExitStack()

    def __repr__(self) -> str:
        return (
            f"LocalServer({self.base_url if self._runner else 'not running'}, store={self._options.store or 'memory'})"
        )

    @classmethod
    def in_thread(cls, store: StrPath | None = None, **options: Any) -> ServerThread:
        """Make a server that runs in its own thread, for synchronous tests and programs. `options` are those of the
        class.

        `with LocalServer.in_thread() as server: httpx.get(f"{server.base_url}/evals")`
        """
        return ServerThread(cls(store, **options))

    # --- beginning and end -------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The base URL of the API, including `/v1`. Raises `RuntimeError` if the server is not running."""
        name = "127.0.0.1" if self._host in WILDCARDS else self._host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/v1"

    @property
    def _running(self) -> Service:
        """The parts of the running server. Raises `RuntimeError` if it is not running."""
        if self._service is None:
            raise RuntimeError("the local server is not running: use `async with LocalServer() as server:`")
        return self._service

    async def start(self) -> Self:
        """Open the store and the socket. Raises `ArchiveError` for a file that is not a store or whose runs another
        server executes, and `OSError` for a port in use.
        """
        parts = await open_parts(self._options)
        try:
            found = await parts.database.call(gaps)
            self._runner = web.ServerRunner(JsonServer(self._respond), shutdown_timeout=SHUTDOWN_SECONDS)
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self.port).start()
            self.port = self._runner.addresses[0][1]
            self._service = Service(
                database=parts.database,
                clock=self._clock,
                ids=parts.ids,
                runs=parts.runs,
                limits=self._limits,
                base_url=self.base_url,
                gaps=found,
                models=parts.models,
                python=parts.python,
                record=self._options.record,
            )
            self._told = {"x-archive-incomplete": "; ".join(found.missing)} if found.missing else {}
        except BaseException:
            await self._stop_listening()
            await parts.closing.aclose()
            raise
        self._closing = parts.closing
        return self

    async def _stop_listening(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        """Close the socket, then the store. A second call has no effect."""
        await self._stop_listening()
        self._service = None
        await self._closing.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # --- what it holds -----------------------------------------------------------------------------------------------

    async def seed(
        self,
        *,
        evals: Iterable[JSONObject] = (),
        runs: Iterable[JSONObject] = (),
        output_items: Iterable[JSONObject] = (),
        files: Iterable[JSONObject] = (),
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        """Store raw JSON objects in one transaction. They replace objects with the same ids.

        `contents` maps file ids to the bytes of files. The status of a seeded run does not change later.
        """
        kinds: tuple[rows.Kind, ...] = ("evals", "runs", "output_items", "files")
        made = {
            kind: [Row.of(kind, body) for body in bodies]
            for kind, bodies in zip(kinds, (evals, runs, output_items, files), strict=True)
        }

        def write(connection: Connection) -> None:
            for kind in kinds:
                rows.put(connection, kind, made[kind])
            for file_id, data in contents.items():
                rows.put_content(connection, file_id, data)

        await self._running.database.atomic(write)

    # --- one request -------------------------------------------------------------------------------------------------

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one request and return its response, also after an error."""
        began = time.monotonic()
        url = request.rel_url
        query = dict(url.query) if url.raw_query_string else NO_QUERY
        seen = SeenRequest(request.method, url.raw_path, None, query, request.headers)
        self.requests.append(seen)
        self.request_count += 1
        request_id = f"req_{self.request_count:032x}"
        fault: Fault | None = None
        page: Match | None = None
        try:
            check_origin(request.headers, self._allowed_hosts)
            page = match_page(url.raw_path) if wants_page(request.method, request.headers.get("Accept", "")) else None
            endpoint = page or match(request.method, url.raw_path)
            seen.route = endpoint.template
            fault = self.faults.take(request.method, endpoint.template)
            answer = await self._carry_out(request, endpoint, query, fault)
        except Problem as problem:
            answer = locked(problem) if problem.status == 401 and page is not None else problem.answer()
        except (web.RequestPayloadError, HttpProcessingError) as error:  # invalid chunks or compression
            answer = error_answer(400, f"We could not read the body of your request: {error}")
        except ConnectionError:  # the client has closed the connection
            return web.Response(status=400)
        except Exception:
            logger.exception("unexpected error in the request %s %s", request.method, seen.route)
            answer = error_answer(500, "The server had an error while processing your request.", type="server_error")
        headers = {
            **answer.headers,
            **self._told,
            "x-request-id": request_id,
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(round((time.monotonic() - began) * 1000)),
            **(fault.headers if fault else {}),
        }
        return await self._send(request, seen, answer, headers, fault)

    async def _carry_out(
        self, request: web.BaseRequest, endpoint: Match, query: Mapping[str, str], fault: Fault | None
    ) -> Answer:
        if fault is not None:
            if fault.delay:
                await self._clock.sleep(fault.delay)
            if fault.drop == "before":
                return Answer(0, b"")
            if (instead := fault.answer()) is not None:
                return instead
        check_key(request.headers, self._api_key, page=endpoint.page)
        if self._read_only and endpoint.writes:
            raise Problem(403, "This server is read-only.", code="read_only")
        if (
            request.headers.get("Expect", "").lower() == "100-continue"
        ):  # RFC 9110, 10.1.1: the body is requested only now
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return await endpoint.handler(self._running, RequestContext(endpoint.ids, query, request))

    async def _send(
        self,
        request: web.BaseRequest,
        seen: SeenRequest,
        answer: Answer,
        headers: Mapping[str, str],
        fault: Fault | None,
    ) -> web.StreamResponse:
        """Send a response, or the part of it that the fault allows."""
        content_type = {"Content-Type": answer.content_type}
        if fault is not None and fault.drop is not None:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        seen.status = answer.status
        if fault is not None and fault.truncate is not None:
            broken = web.StreamResponse(status=answer.status, headers={**content_type, **headers})
            broken.content_length = len(answer.body)
            await broken.prepare(request)
            await broken.write(answer.body[: fault.truncate])
            if request.transport is not None:
                request.transport.close()
            return broken
        return web.Response(status=answer.status, body=answer.body, headers={**content_type, **headers})

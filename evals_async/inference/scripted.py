"""`ScriptedModels`: an OpenAI-compatible endpoint on loopback whose responses follow rules. For tests and
demonstrations.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import attrs

from evals_async import InvalidArgument
from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._closing import Closing
from evals_async._json import JSONObject, NotJSON, as_object, dump, parse
from evals_async.inference import rules
from evals_async.inference.rules import Rule, ScriptedRequest


if TYPE_CHECKING:
    from aiohttp import web  # imported when a server starts: calls to models do not need it

NO_RULE = "no rule of this scripted endpoint matches the request; add one, for example Rule(text=...) as the last rule"
PATHS = ("/chat/completions", "/responses", "/embeddings", "/models")
THREAD_SECONDS = 30.0  # limit for the start and the end of a thread
MOST_BYTES = 32 * 2**20  # size of a request
STATUS_TYPES: Mapping[int, str] = {401: "authentication_error", 429: "rate_limit_error"}


class ScriptedModels(Closing):
    """An endpoint like that of a model, but without a model: rules decide the responses.

        async with ScriptedModels(Rule(contains="2 + 2", text="4"), Rule(text="I do not know.")) as scripted:
            async with Models.from_endpoint(scripted.base_url) as models: ...

    The first matching rule gives the response. If no rule matches, the response is a 400, so that a test shows the
    missing rule. The model in responses is `NAME-scripted`, and every response has the header `x-scripted-models`.
    Equal requests get equal responses. Embeddings are made from the words of a text, so texts with common words are
    close.

    `structured_output` is the highest supported form: `json_schema`, `json_object`, or `none`. Higher forms are refused
    as by real endpoints. With `responses`, `developer` or `embeddings` set to false, it has no /responses, no role
    `developer`, or no /embeddings. With `api_key`, requests must send this key. `models` are the names that /models
    lists. The attribute `requests` has the last `remembered` requests. It listens on 127.0.0.1 only. `port` 0 means any
    free port.
    """

    def __init__(
        self,
        *rules: Rule,
        models: Iterable[str] = ("scripted",),
        structured_output: Literal["json_schema", "json_object", "none"] = "json_schema",
        responses: bool = True,
        developer: bool = True,
        embeddings: bool = True,
        api_key: str | None = None,
        port: int = 0,
        remembered: int = 1000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.rules: list[Rule] = list(rules)
        self.requests: deque[ScriptedRequest] = deque(maxlen=remembered)
        self.request_count: int = 0
        self._models = tuple(models)
        self._structured: str = structured_output
        self._missing = {path for path, there in (("/responses", responses), ("/embeddings", embeddings)) if not there}
        self._developer = developer
        self._api_key = api_key
        self._port = port
        self._clock = clock
        self._used: dict[int, int] = {}
        self._runner: web.ServerRunner | None = None

    @property
    def base_url(self) -> str:
        """The base URL, including `/v1`. It is known when the endpoint has started."""
        return f"http://127.0.0.1:{self._port}/v1"

    def add(self, *rules: Rule) -> None:
        """Add rules before the existing ones."""
        self.rules[:0] = rules
        self._used.clear()

    async def start(self) -> None:
        """Start the endpoint. Raises `OSError` if the port is in use."""
        from aiohttp import web

        runner = web.ServerRunner(web.Server(self._handle), handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        try:
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._port = int(runner.addresses[0][1])
        self._runner = runner

    async def close(self) -> None:
        """Stop the endpoint and end running requests. A second call has no effect."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @classmethod
    @contextmanager
    def in_thread(cls, *rules: Rule, **options: Any) -> Generator[Self]:
        """Run an endpoint in its own thread, for synchronous programs and tests.

        `with ScriptedModels.in_thread(Rule(text="Hi")) as scripted: openai.OpenAI(base_url=scripted.base_url, ...)`. It
        has the arguments of the class. Rules can be added from other threads. Raises `OSError` if the port is in use.
        """
        scripted = cls(*rules, **options)
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            stop = asyncio.Event()
            async with scripted:
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that started it
                if not started.done():
                    started.set_exception(error)

        thread = threading.Thread(target=run, name="scripted-models", daemon=True)
        thread.start()
        loop, stop = started.result(THREAD_SECONDS)
        try:
            yield scripted
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(THREAD_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    def __repr__(self) -> str:
        return f"ScriptedModels({self.base_url if self._runner else 'not running'}, rules={len(self.rules)})"

    # --- one request --------------------------------------------------------------------------------------------------

    async def _handle(self, request: "web.BaseRequest") -> "web.StreamResponse":
        from aiohttp import web

        self.request_count += 1
        path = "/" + request.path.removeprefix("/v1").strip("/")
        status, body, headers = 200, dict[str, object](), dict[str, str]()
        try:
            body = dict(await self._answer(request, path))
        except Refusal as refusal:
            status, headers = refusal.status, refusal.headers
            body = {"error": refusal.error}
            if refusal.dropped:
                if request.transport is not None:
                    request.transport.abort()
                raise asyncio.CancelledError from None
        answer = web.Response(body=dump(body), status=status, content_type="application/json", headers=headers)
        answer.headers["x-scripted-models"] = "1"
        answer.headers["x-request-id"] = f"req_scripted_{self.request_count}"
        return answer

    async def _answer(self, request: "web.BaseRequest", path: str) -> JSONObject:
        if path not in PATHS or path in self._missing:
            raise Refusal(404, f"Unknown request URL: {request.method} {request.path}", code="unknown_url")
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._api_key is not None and key != self._api_key:
            raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        if path == "/models":
            return {"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]}
        body = await body_of(request)
        try:
            asked = rules.request_of(path, body, dict(request.headers))
        except InvalidArgument as error:
            raise Refusal(400, str(error)) from None
        return await self._remembered(asked)

    async def _remembered(self, asked: ScriptedRequest) -> JSONObject:
        try:
            answer = await self._scripted(asked)
        except Refusal as refusal:
            self.requests.append(attrs.evolve(asked, status=refusal.status))
            raise
        self.requests.append(asked)
        return answer

    async def _scripted(self, asked: ScriptedRequest) -> JSONObject:
        if asked.path == "/embeddings":
            return rules.embeddings_answer(asked.model, rules.embedding_texts(asked.body))
        self._check_abilities(asked)
        rule = self._rule_for(asked)
        if rule is None:
            raise Refusal(400, NO_RULE, code="no_rule")
        if rule.latency:
            await self._clock.sleep(rule.latency)
        if rule.drop or rule.status != 200:
            raise Refusal(rule.status, rule.message, code=rule.code, retry_after=rule.retry_after, dropped=rule.drop)
        make = rules.chat_answer if asked.path == "/chat/completions" else rules.response_answer
        return make(rule, asked, self.request_count)

    def _rule_for(self, asked: ScriptedRequest) -> Rule | None:
        for index, rule in enumerate(self.rules):
            used = self._used.get(index, 0)
            if (rule.times is None or used < rule.times) and rule.fits(asked):
                self._used[index] = used + 1
                return rule
        return None

    def _check_abilities(self, asked: ScriptedRequest) -> None:
        """Refuse abilities that are switched off, with the errors of real endpoints."""
        form = rules.structured_form(asked.body)
        able = {"json_schema": ("json_schema", "json_object"), "json_object": ("json_object",)}.get(
            self._structured, ()
        )
        if form is not None and form not in able:
            raise Refusal(
                400, f"response_format of type {form} is not supported by this model", param="response_format"
            )
        if not self._developer and any(message.get("role") == "developer" for message in asked.messages):
            raise Refusal(400, "Unexpected role 'developer': use system, user, assistant or tool", param="messages")


class Refusal(Exception):
    """The request is refused with an error status, or its connection is closed."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        dropped: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.dropped = dropped
        kind = STATUS_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.error: JSONObject = {"message": message, "type": kind, "param": param, "code": code}
        self.headers: dict[str, str] = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}


async def body_of(request: "web.BaseRequest") -> JSONObject:
    """Read the JSON object in the body of a request. Raises `Refusal`."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MOST_BYTES:
            raise Refusal(413, "the request is too large")
        parts.append(chunk)
    try:
        body = as_object(parse(b"".join(parts)))
    except NotJSON as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if body is None or not isinstance(body.get("model"), str):
        raise Refusal(400, "you must provide a model parameter", param="model")
    return body

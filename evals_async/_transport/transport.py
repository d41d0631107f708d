"""One attempt of a request over a real connection: `Transport`.

This module does not check the status, does not retry, and does not wait for the limiter. `pool` holds the session.
`connection` contains the classes that extend aiohttp. No aiohttp object leaves this module, because aiohttp's errors
hold the headers, and so the key.
"""

import asyncio
import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.bodies import BodyReader
from evals_async._transport.messages import Request, Response, Upload
from evals_async._transport.pool import ConnectionPool, PoolOptions
from evals_async._transport.proxies import environment_proxy
from evals_async._transport.state import CURRENT_CALL, KEY, CallState, Query
from evals_async.errors import ClientClosed, ConfigurationError


if TYPE_CHECKING:
    import aiohttp
    import yarl

    from evals_async._transport.direct import DirectExchange

MAX_BODY = 32 * 1024 * 1024
LARGE_BODY = 1024 * 1024  # bytes

UNTYPED = ("Content-Type",)  # aiohttp would add application/octet-stream to a POST without a body


class Transport:
    """Sends requests to one base URL over a pool of connections, and limits the size of responses.

    Without a `pool`, it creates its own pool with `options`. `max_body` limits the decoded bytes of a response body.
    `owner` is the name of the object that the user must close.

    A caller's session does not use our connector. So two features are missing: the check for unrequested bytes on a
    connection, and the knowledge that a request was certainly not sent.
    """

    def __init__(
        self,
        base_url: str,
        pool: ConnectionPool | None = None,
        *,
        max_body: int = MAX_BODY,
        clock: Clock = SYSTEM_CLOCK,
        owner: str = "Transport",
        **options: Unpack[PoolOptions],
    ) -> None:
        if max_body < 1:
            raise ConfigurationError("max_body must be 1 at least")
        self.base_url = base_url
        self.pool = pool or ConnectionPool(clock=clock, name=f"{owner}(base_url={base_url!r})", **options)
        self.proxy = self.pool.proxy
        if self.proxy is None and self.pool.trust_env:
            self.proxy = environment_proxy(base_url, os.environ)
        self.bodies = BodyReader(max_body, clock)
        self.clock = clock
        self.session: aiohttp.ClientSession | None = None
        self.base: yarl.URL  # set by `attach`
        self.prefix = ""
        self.base_options: dict[str, Any] = {}
        self.direct: DirectExchange | None = None
        self.over_session: str | None = "no request was sent yet"

    @property
    def connections(self) -> int:
        """The largest number of requests that run at the same time."""
        return self.pool.connections

    def at(self, base_url: str) -> "Transport":
        """Return a transport for another base URL over the same connections."""
        return Transport(base_url, self.pool, max_body=self.bodies.limit, clock=self.clock)

    def check(self) -> "aiohttp.ClientSession":
        """Return the open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` if it cannot be used."""
        session = self.pool.check()
        if session is not self.session:
            self.attach(session)
        return session

    def usable(self) -> "aiohttp.ClientSession":
        """Return the session that `check` found, or a new one if the pool changed it."""
        session = self.session
        if session is None or session is not self.pool.session:
            session = self.check()
        if not self.pool.owned and session.closed:
            raise ClientClosed("the session of this client is closed")
        return session

    def attach(self, session: "aiohttp.ClientSession") -> None:
        """Prepare this transport to send over a new session."""
        import yarl

        from evals_async._transport import connection, direct  # imported late, because they import aiohttp

        self.base = yarl.URL(self.base_url)
        self.prefix = self.base.raw_path.rstrip("/")
        self.base_options = {"allow_redirects": False}
        self.direct = None
        if self.proxy is not None:
            self.base_options["proxy"] = self.proxy
        if not self.pool.owned:
            self.over_session = "the session is the caller's"
            self.base_options |= connection.options_over(session)
        elif self.proxy is not None:
            self.over_session = "there is a proxy"
        elif self.pool.trace_configs:
            self.over_session = "there are trace configurations"
        else:
            self.over_session = direct.unfit()
            if self.over_session is None:
                connector: Any = session.connector  # our own class
                self.direct = direct.DirectExchange(connector, self.base, self.bodies)
        self.session = session

    async def send(self, call: CallState[Any], headers: Mapping[str, str]) -> Response:
        """Send one attempt of `call` and return the response, with any status except a redirect.

        `headers` are sent unchanged. The call's query is merged into the base URL's query. The caller must set the
        deadline of the attempt. Raises `TransportError`, `ResponseError`, and the errors of `check`. Errors of a sink,
        and of opening an upload's file, are raised unchanged.
        """
        session = self.usable()
        call.sent = True  # assume it; our connector corrects it
        direct = self.direct
        try:
            if direct is not None and direct.takes(call.request):
                return await direct.send(call, self.target(call.request.path, call.query), headers)
            return await self.send_over(session, call, headers)
        except asyncio.CancelledError as cancelled:
            # Remove aiohttp's frames from the traceback, because their variables hold the headers.
            raise cancelled.with_traceback(None)  # noqa: B904
        except Exception as error:  # `failure_of` returns None for unknown errors, which are raised unchanged
            from evals_async._transport import connection

            failure = connection.failure_of(error)
            if failure is None:
                raise
        # Raised outside the except block and without traceback, so that the error holds no aiohttp objects.
        raise failure.with_traceback(None)

    async def send_over(
        self, session: "aiohttp.ClientSession", call: CallState[Any], headers: Mapping[str, str]
    ) -> Response:
        """Send one attempt of `call` over the aiohttp session and return the response."""
        from evals_async._transport import connection

        request = call.request
        data, file = payload_of(request)
        options: dict[str, Any] = {
            **self.base_options,
            "timeout": connection.timeout_of(call.timeouts.connect, call.silence),
        }
        if data is not None:
            options["data"] = data
        elif request.method == "POST":
            options["skip_auto_headers"] = UNTYPED
        token = CURRENT_CALL.set(call)
        try:
            url = self.url(request.path, call.query)
            whole = headers if call.key is None else {**headers, KEY: call.key}
            response = await session.request(request.method, url, headers=whole, **options)
            try:
                return await self.bodies.read(call, response.status, response.headers, response.content)
            finally:
                # A complete body returns its connection to the pool. An incomplete one must close the connection.
                if response.connection is not None:
                    response.close()
        finally:
            CURRENT_CALL.reset(token)
            if file is not None:
                file.close()

    def url(self, path: str, query: Query) -> "yarl.URL":
        """Return the base URL with `path` appended and `query` merged in.

        `query` wins over the base URL's own query. `path` must be encoded already.
        """
        url = self.base.with_path(self.prefix + path, encoded=True, keep_query=True)
        return url.update_query(query) if query else url

    def target(self, path: str, query: Query) -> str:
        """Return the path and the query of `url`, for the request line."""
        return self.url(path, query).raw_path_qs if query or self.base.raw_query_string else self.prefix + path

    async def close(self) -> None:
        """End the running calls and close the connections, for every transport that shares them."""
        await self.pool.close()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"


def load_network() -> None:
    """Import the modules that requests need. The first call in a process is slow, and may run in a thread."""
    from evals_async._transport import direct  # it imports `connection`

    direct.unfit()


def payload_of(request: Request) -> tuple[Any, BinaryIO | None]:
    """Return the body of one attempt for aiohttp, and the file to close after the attempt."""
    body = request.body
    if isinstance(body, Upload):
        from evals_async._transport import connection

        return connection.multipart(body)
    # aiohttp sends a stream in pieces. A large `bytes` body would block the loop, and aiohttp warns about that.
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body, None

"""One attempt of a request over a real connection: `Transport`. Nothing here judges a status, retries, or waits for the
limiter.

The session is held by `pool`. What is built on aiohttp's classes is in `connection`, which imports it. No object of
aiohttp leaves: its errors hold the headers, and so the key.
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

UNTYPED = ("Content-Type",)  # aiohttp would say application/octet-stream of a POST without a body


class Transport:
    """Sends requests to one base URL over a pool of connections, and bounds what comes back.

    Without a `pool` it makes one of its own with these options. Where the pool's session is the caller's, what lives in
    our connector is missing: the guard against responses that nobody asked for, and the knowledge that a request surely
    did not leave. `max_body` bounds decoded bytes. `owner` is the name of what a user would have to close.
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
        self.base: yarl.URL  # made when the session is known
        self.prefix = ""
        self.base_options: dict[str, Any] = {}
        self.direct: DirectExchange | None = None
        self.over_session: str | None = "no request was sent yet"

    @property
    def connections(self) -> int:
        """How many requests there are at once."""
        return self.pool.connections

    def at(self, base_url: str) -> "Transport":
        """One for another base URL, over the same connections."""
        return Transport(base_url, self.pool, max_body=self.bodies.limit, clock=self.clock)

    def check(self) -> "aiohttp.ClientSession":
        """The open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` where it cannot be used."""
        session = self.pool.check()
        if session is not self.session:
            self.attach(session)
        return session

    def usable(self) -> "aiohttp.ClientSession":
        """The session that `check` found, if it is still there."""
        session = self.session
        if session is None or session is not self.pool.session:
            session = self.check()
        if not self.pool.owned and session.closed:
            raise ClientClosed("the session of this client is closed")
        return session

    def attach(self, session: "aiohttp.ClientSession") -> None:
        """Get ready to send over a session that was opened."""
        import yarl

        from evals_async._transport import connection, direct  # here, because they import aiohttp

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
                connector: Any = session.connector  # ours
                self.direct = direct.DirectExchange(connector, self.base, self.bodies)
        self.session = session

    async def send(self, call: CallState[Any], headers: Mapping[str, str]) -> Response:
        """The response to one attempt of `call`, whatever its status, redirects aside.

        `headers` are sent as they are; the call's query comes on top of the base URL's. The attempt as a whole is
        bounded by who calls. Raises `TransportError`s and `ResponseError`s, the errors of `check`, and what a sink or
        the opening of an upload's file raises.
        """
        session = self.usable()
        call.sent = True  # to be assumed, until our connector knows better
        direct = self.direct
        try:
            if direct is not None and direct.takes(call.request):
                return await direct.send(call, self.target(call.request.path, call.query), headers)
            return await self.send_over(session, call, headers)
        except asyncio.CancelledError as cancelled:
            # The same one, without aiohttp's frames: their variables hold the headers.
            raise cancelled.with_traceback(None)  # noqa: B904
        except Exception as error:  # what is not known there is raised as it is
            from evals_async._transport import connection

            failure = connection.failure_of(error)
            if failure is None:
                raise
        # Outside the except block and without its traceback, so that nothing of aiohttp hangs on it.
        raise failure.with_traceback(None)

    async def send_over(
        self, session: "aiohttp.ClientSession", call: CallState[Any], headers: Mapping[str, str]
    ) -> Response:
        """`send`, by way of the session."""
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
                # A body that was read to its end has given the connection back; any other takes it along.
                if response.connection is not None:
                    response.close()
        finally:
            CURRENT_CALL.reset(token)
            if file is not None:
                file.close()

    def url(self, path: str, query: Query) -> "yarl.URL":
        """The base URL with `path` after its own path, and `query` merged into its own query, where it wins.

        `path` is sent as it is.
        """
        url = self.base.with_path(self.prefix + path, encoded=True, keep_query=True)
        return url.update_query(query) if query else url

    def target(self, path: str, query: Query) -> str:
        """Path and query of `url`, for a request line."""
        return self.url(path, query).raw_path_qs if query or self.base.raw_query_string else self.prefix + path

    async def close(self) -> None:
        """End the calls under way and close the connections, for every transport that shares them."""
        await self.pool.close()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"


def load() -> None:
    """Import what requests and retries need. Takes a tenth of a second, once in a process; may run in a thread."""
    from evals_async._transport import direct, retry  # `direct` imports `connection`

    direct.unfit()
    retry.load()


def payload_of(request: Request) -> tuple[Any, BinaryIO | None]:
    """What aiohttp sends as the body of one attempt, and the file to close after it."""
    body = request.body
    if isinstance(body, Upload):
        from evals_async._transport import connection

        return connection.multipart(body)
    # A large body goes out in pieces; as bytes it would hold up the loop, and aiohttp warns of that.
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body, None

"""One attempt of a request over a real connection: `Transport`. The session's life is here, aiohttp itself behind `connection`.

Nothing here judges a status, retries or waits for a turn.
"""

import asyncio
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from evals_async.clock import SYSTEM_CLOCK, Clock
from evals_async.errors import ClientClosed, ForkedClient, WrongLoop
from evals_async.wire.exchange import Reply, Request
from evals_async.wire.trip import Trip


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp

MAX_BODY = 32 * 1024 * 1024


class Line(Protocol):
    """An open session, as `connection` makes it."""

    owned: bool

    @property
    def closed(self) -> bool: ...

    async def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        *,
        connect: float | None,
        silence: float | None,
        trip: Trip,
    ) -> Reply: ...

    async def close(self) -> None: ...

    def abandon(self) -> None: ...


class Transport:
    """Sends requests to one base URL over a pool of connections, and bounds what comes back.

    The session is opened by the first request, in the loop that runs then, and belongs to it. `session` is the caller's own: it is never
    closed here, and its connector, cookies and settings are its owner's business: the guards that live in our connector (against answers
    that nobody asked for, and for what is known of unsent requests) do not apply to it. `proxy` is a proxy's URL; `trust_env` takes it from
    the environment instead, and never reads netrc. `max_body` bounds decoded bytes. Raises nothing before the first request.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session: "aiohttp.ClientSession | None" = None,
        trace_configs: "Sequence[aiohttp.TraceConfig]" = (),
        proxy: str | None = None,
        trust_env: bool = False,
        connections: int = 100,
        max_body: int = MAX_BODY,
        ssl: "tls.SSLContext | bool" = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.base_url = base_url
        self.callers_session = session
        self.trace_configs = trace_configs
        self.proxy = proxy
        self.trust_env = trust_env
        self.connections = connections
        self.max_body = max_body
        self.ssl = ssl
        self.clock = clock
        self.closed = False
        self.pid = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.line: Line | None = None

    def check(self) -> Line:
        """The open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` where it cannot be used."""
        line = self.line
        if self.closed:
            raise ClientClosed("this client is closed; make a new one")
        if line is None:
            return self.open()
        if os.getpid() != self.pid:
            raise ForkedClient("the process was forked after this client was used; make a client in the child")
        if asyncio.get_running_loop() is not self.loop:
            raise WrongLoop("this client was first used in another event loop; make one client per loop, inside it")
        return line

    def open(self) -> Line:
        from evals_async.wire import connection  # here, because it imports aiohttp

        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        session = self.callers_session
        proxy = self.proxy
        if proxy is None and self.trust_env:
            proxy = connection.environment_proxy(self.base_url)
        self.line = connection.Exchange(
            session
            or connection.open_session(connections=self.connections, ssl=self.ssl, trace_configs=self.trace_configs),
            owned=session is None,
            base_url=self.base_url,
            proxy=proxy,
            max_body=self.max_body,
            clock=self.clock,
        )
        return self.line

    async def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]] = (),
        *,
        trip: Trip | None = None,
        connect: float | None = 5.0,
        silence: float | None = None,
    ) -> Reply:
        """The answer to one attempt, whatever its status below 300 or from 400 on.

        `headers` are sent as they are; `query` comes on top of the base URL's. `connect` and `silence` (between two reads) are seconds;
        the whole attempt is bounded by who calls. Raises `TransportError` and `ResponseError` kinds, and the errors of `check`.
        """
        line = self.check()
        trip = trip or Trip(self.clock.monotonic() + 20.0)
        if line.closed:
            raise ClientClosed("the session of this client is closed")
        return await line.send(request, headers, query, connect=connect, silence=silence, trip=trip)

    async def close(self) -> None:
        """Close the session, unless it is the caller's. A second time does nothing."""
        self.closed = True
        line, self.line = self.line, None
        if line is not None and line.owned and os.getpid() == self.pid:
            await line.close()

    def __del__(self) -> None:
        line = self.line
        if line is None or not line.owned or os.getpid() != self.pid:
            return
        warnings.warn(
            f"unclosed {self!r}: use `async with`, or await close()", ResourceWarning, source=self, stacklevel=2
        )
        line.abandon()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

"""One attempt of a request over a real connection: `Transport`. The session's life is here, aiohttp in `connection`.

Nothing here judges a status, retries or waits for a turn.
"""

import asyncio
import os
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.attempt import AttemptState
from evals_async._transport.messages import Request, Response
from evals_async.errors import ClientClosed, ConfigurationError, ForkedClient, WrongLoop


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp

MAX_BODY = 32 * 1024 * 1024

KEPT: set[object] = set()
"""Our open sessions, kept from the collector until their transport lets go of them.

It would finalize a forgotten client in any order, and aiohttp's complaint could come before ours. After a fork the
child's copies stay here for good, because to close them would end the parent's connections.
"""


class Line(Protocol):
    """An open session, as `connection` makes it."""

    owned: bool

    @property
    def closed(self) -> bool: ...

    def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        *,
        connect: float | None,
        silence: float | None,
        trip: AttemptState,
    ) -> Coroutine[Any, Any, Response]: ...

    async def close(self) -> None: ...

    def abandon(self) -> None: ...


class Transport:
    """Sends requests to one base URL over a pool of connections, and bounds what comes back.

    The session is opened by the first request, in the loop that runs then, and belongs to it. `session` is the caller's
    own: it is never closed here, and its connector, cookies and settings are its owner's business. What lives in our
    connector is then missing: the guard against answers that nobody asked for, and the knowledge that a request surely
    did not leave. `connections` is how many there are at once; the caller's session may allow fewer. `proxy` is a
    proxy's URL; `trust_env` takes it from the environment, and never reads netrc. `max_body` bounds decoded bytes.
    `owner` is the name of what a user would have to close, for the warning when nobody did.
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
        owner: str = "Transport",
    ) -> None:
        if connections < 1 or max_body < 1:
            raise ConfigurationError("connections and max_body must be 1 at least")
        if session is not None and session.connector is not None and session.connector.limit:
            connections = min(connections, session.connector.limit)
        self.base_url = base_url
        self.callers_session = session
        self.trace_configs = trace_configs
        self.proxy = proxy
        self.trust_env = trust_env
        self.connections = connections
        self.max_body = max_body
        self.ssl = ssl
        self.clock = clock
        self.owner = owner
        self.closed = False
        self.line: Line | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pid = 0

    def check(self) -> Line:
        """The open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` where it cannot be used."""
        if self.closed:
            raise ClientClosed("this client is closed; make a new one")
        line = self.line
        if line is None:
            return self.open()
        if os.getpid() != self.pid:
            raise ForkedClient("the process was forked after this client was used; make a client in the child")
        if asyncio.get_running_loop() is not self.loop:
            raise WrongLoop("this client was first used in another event loop; make one client per loop, inside it")
        return line

    def open(self) -> Line:
        from evals_async._transport import connection  # here, because it imports aiohttp

        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        session = self.callers_session
        proxy = self.proxy
        if proxy is None and self.trust_env:
            proxy = connection.environment_proxy(self.base_url)
        line = connection.Exchange(
            session
            or connection.open_session(connections=self.connections, ssl=self.ssl, trace_configs=self.trace_configs),
            owned=session is None,
            base_url=self.base_url,
            proxy=proxy,
            max_body=self.max_body,
            clock=self.clock,
        )
        if line.owned:
            KEPT.add(line)
        self.line = line
        return line

    def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]] = (),
        *,
        trip: AttemptState,
        connect: float | None = None,
        silence: float | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """The answer to one attempt, whatever its status, redirects aside.

        `headers` are sent as they are; `query` comes on top of the base URL's. `connect` bounds the connecting and
        `silence` the time between two reads, in seconds; the whole is bounded by who calls. Raises `TransportError`s
        and `ResponseError`s, the errors of `check`, and what a sink raises.
        """
        line = self.line or self.check()
        if not line.owned and line.closed:
            raise ClientClosed("the session of this client is closed")
        return line.send(request, headers, query, connect=connect, silence=silence, trip=trip)

    async def close(self) -> None:
        """Close the session, unless it is the caller's. A second time does nothing."""
        self.closed = True
        line, self.line = self.line, None
        if line is None or not line.owned:
            return
        if os.getpid() == self.pid:
            KEPT.discard(line)
            await line.close()

    def __del__(self) -> None:
        line: Line | None = vars(self).get("line")  # missing where the constructor refused
        if line is None or not line.owned or os.getpid() != self.pid:
            return
        KEPT.discard(line)
        line.abandon()
        unclosed = f"unclosed {self.owner}(base_url={self.base_url!r}): use `async with`, or await close()"
        warnings.warn(unclosed, ResourceWarning, 2, source=self)

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

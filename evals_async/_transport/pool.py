"""The connections that all copies of a client share: `ConnectionPool`, which holds the session and its event loop.

aiohttp is imported when the session is opened, because that takes longer than to import the rest of the package.
"""

import asyncio
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from evals_async._clock import SYSTEM_CLOCK, Alarm, Clock, TaskDeadline, alarm_of
from evals_async._transport.slots import Slots
from evals_async.errors import ClientClosed, ConfigurationError, ForkedClient, WrongLoop


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp


KEPT: set[object] = set()
"""Our open sessions. This set protects them from the garbage collector until their pool closes them.

The collector may finalize a forgotten client in any order, so aiohttp's warning could come before ours. After a fork,
the child's copies stay here forever, because closing them would end the parent's connections.
"""


class PoolOptions(TypedDict, total=False):
    """How connections are made; see `ConnectionPool`."""

    session: "aiohttp.ClientSession | None"
    trace_configs: "Sequence[aiohttp.TraceConfig]"
    proxy: str | None
    trust_env: bool
    connections: int
    ssl: "tls.SSLContext | bool"


class ConnectionPool:
    """Holds one session. The first request opens it, and it belongs to the event loop of that request.

    If that loop is closed and another one runs, the pool opens a new session. Two open loops never share a session.

    `session` is the caller's own session. The pool never closes it and never changes its settings. `connections` is
    the limit of open connections; the caller's session may have a lower one. `proxy` is the URL of a proxy. With
    `trust_env` the environment may name a proxy; netrc is never read. `name` is the object that the user must close,
    for the warning about an unclosed client. `calls` contains all running calls, and `close` ends them.
    """

    def __init__(
        self,
        *,
        session: "aiohttp.ClientSession | None" = None,
        trace_configs: "Sequence[aiohttp.TraceConfig]" = (),
        proxy: str | None = None,
        trust_env: bool = False,
        connections: int = 100,
        ssl: "tls.SSLContext | bool" = True,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "ConnectionPool()",
    ) -> None:
        if connections < 1:
            raise ConfigurationError("connections must be 1 at least")
        if session is not None and session.connector is not None and session.connector.limit:
            connections = min(connections, session.connector.limit)
        self.callers_session = session
        self.trace_configs = trace_configs
        self.proxy = proxy
        self.trust_env = trust_env
        self.connections = connections
        self.slots = Slots(connections, clock)
        self.ssl = ssl
        self.clock = clock
        self.name = name
        self.owned = session is None
        self.closed = False
        self.calls: set[TaskDeadline] = set()
        self.session: aiohttp.ClientSession | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.alarm: Alarm  # of the loop
        self.pid = 0

    def check(self) -> "aiohttp.ClientSession":
        """Return the open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` if it cannot be used."""
        if self.closed:
            raise ClientClosed("this client is closed; make a new one")
        session = self.session
        if session is None:
            return self.open()
        if os.getpid() != self.pid:
            raise ForkedClient("the process was forked after this client was used; make a client in the child")
        if asyncio.get_running_loop() is not self.loop:
            return self.reopen()
        return session

    def open(self) -> "aiohttp.ClientSession":
        from evals_async._transport import connection  # here, because it imports aiohttp

        self.loop = asyncio.get_running_loop()
        self.alarm = alarm_of(self.loop)
        self.pid = os.getpid()
        session = self.callers_session
        if session is None:
            session = connection.open_session(
                connections=self.connections, ssl=self.ssl, trace_configs=self.trace_configs
            )
            KEPT.add(session)
        self.session = session
        return session

    def reopen(self) -> "aiohttp.ClientSession":
        """Open a session in the running loop, if the loop of the old session is closed."""
        if self.loop is None or not self.loop.is_closed():
            raise WrongLoop("this client was first used in another event loop; make one client per loop, inside it")
        if not self.owned:
            raise WrongLoop("the session that this client was given belongs to a loop that is closed")
        self.abandon()
        self.slots = Slots(self.connections, self.clock)
        self.calls = set()
        return self.open()

    def abandon(self) -> None:
        """Close the connections without their event loop, and without warnings from asyncio and aiohttp."""
        from evals_async._transport import connection

        session, self.session = self.session, None
        if session is not None:
            KEPT.discard(session)
            connection.abandon(session)

    async def close(self) -> None:
        """End the running calls, and close the session if it is our own. A second call does nothing."""
        self.closed = True
        if self.loop is not None and self.loop.is_closed():
            if self.owned and os.getpid() == self.pid:
                self.abandon()
            return
        for task in {call.task for call in self.calls} - {asyncio.current_task()}:
            task.cancel()
        session, self.session = self.session, None
        if session is not None and self.owned and os.getpid() == self.pid:
            KEPT.discard(session)
            await session.close()

    def __del__(self) -> None:
        session: aiohttp.ClientSession | None = vars(self).get("session")  # missing where the constructor refused
        if session is None or not self.owned or os.getpid() != self.pid:
            return
        self.abandon()
        warnings.warn(f"unclosed {self.name}: use `async with`, or await close()", ResourceWarning, 2, source=self)

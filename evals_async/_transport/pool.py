"""The connections that all copies of a client share: `ConnectionPool`, which holds the session and its event loop.

aiohttp is imported when the session is opened, because that takes longer than to import the rest of the package.
"""

import asyncio
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from evals_async._clock import SYSTEM_CLOCK, Alarm, Clock, TaskDeadline, alarm_of
from evals_async._transport.limiter import Slots
from evals_async.errors import ClientClosed, ConfigurationError, ForkedClient, WrongLoop


if TYPE_CHECKING:
    import ssl as tls

    import aiohttp


KEPT: set[object] = set()
"""Our open sessions, kept from the collector until their pool lets go of them.

It would finalize a forgotten client in any order, and aiohttp's complaint could come before ours. After a fork the
child's copies stay here for good, because to close them would end the parent's connections.
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
    """A session, opened by the first request, in the loop that runs then. It belongs to that loop.

    When that loop is closed, and another one runs, a new session is opened there; two loops that are open never share
    one. `session` is the caller's own: it is never closed here, and its connector, cookies and settings are its owner's
    business. `connections` is how many there are at once; the caller's session may allow fewer. `proxy` is a proxy's
    URL; with `trust_env` the environment may name one, and netrc is never read. `name` is what a user would have to
    close, for the warning when nobody did. `calls` are all calls under way, which `close` ends.
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
        """The open session. Raises `ClientClosed`, `ForkedClient` or `WrongLoop` where it cannot be used."""
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
        """A session in the loop that runs now, where the loop of the last one is closed."""
        if self.loop is None or not self.loop.is_closed():
            raise WrongLoop("this client was first used in another event loop; make one client per loop, inside it")
        if not self.owned:
            raise WrongLoop("the session that this client was given belongs to a loop that is closed")
        self.abandon()
        self.slots = Slots(self.connections, self.clock)
        self.calls = set()
        return self.open()

    def abandon(self) -> None:
        """Close the connections without their loop, and without anybody's complaint about that."""
        from evals_async._transport import connection

        session, self.session = self.session, None
        if session is not None:
            KEPT.discard(session)
            connection.abandon(session)

    async def close(self) -> None:
        """End the calls under way, and close the session, unless it is the caller's. A second time does nothing."""
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

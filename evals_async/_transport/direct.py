"""The direct path: a request and its response over a connection of aiohttp's pool, without `ClientSession`.

The connections, their TLS and the response parser are aiohttp's own. The direct path skips the parts of the session
that this package does not need: a request object, cookies, redirects, timers and middlewares. A request costs about
half as much this way.

The direct path serves our own session without a proxy and without trace configurations. The request must have a small
body, and the response must fit in memory. All other requests use the session. There are two more cases for the session:

- The installed aiohttp has other internal names than this module expects. `unfit` checks this when the session opens.
- Another package has replaced `ClientSession._request`, as aioresponses does in tests.
"""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from evals_async._transport.bodies import BodyReader
from evals_async._transport.connection import GuardedConnector
from evals_async._transport.messages import Request, Response
from evals_async._transport.state import KEY, CallState
from evals_async.errors import ProtocolError


MOST_SENT = 64 * 1024  # bytes of a body that are sent with the head; a larger body must wait for the socket
BUFFER = 64 * 1024  # bytes, the same as the session's

NAMES: Mapping[type, Sequence[str]] = {
    Connection: ("protocol", "release", "close"),
    ResponseHandler: ("set_response_params", "read", "should_close", "transport", "force_close", "exception"),
    aiohttp.StreamReader: ("is_eof", "at_eof", "read_nowait", "readany"),
}
CONNECT = ("self", "req", "traces", "timeout")
RESPONSE_PARAMETERS = frozenset({"read_until_eof", "read_bufsize"})


@cache
def unfit() -> str | None:
    """Return why the installed aiohttp cannot be used directly, or `None` if it can.

    The reason is a missing name or an unexpected signature.
    """
    for kind, names in NAMES.items():
        for name in names:
            if not hasattr(kind, name):
                return f"aiohttp {aiohttp.__version__} has no {kind.__name__}.{name}"
    if tuple(inspect.signature(aiohttp.BaseConnector.connect).parameters) != CONNECT:
        return f"aiohttp {aiohttp.__version__} has another BaseConnector.connect"
    if not inspect.signature(ResponseHandler.set_response_params).parameters.keys() >= RESPONSE_PARAMETERS:
        return f"aiohttp {aiohttp.__version__} has another ResponseHandler.set_response_params"
    return None


def replaced() -> bool:
    """Return whether something has replaced aiohttp's own `ClientSession._request`.

    The check compares the source file, because the replacement may happen before this module is imported.
    """
    current: Any = aiohttp.ClientSession._request  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return not isinstance(current, FunctionType) or current.__code__.co_filename != aiohttp.client.__file__


class Head:
    """The part of a request's head after the target. Requests with the same headers share it.

    It is an object because its text holds the key, and tracebacks with local variables show plain strings.
    """

    __slots__ = ("headers", "text")

    def __init__(self, headers: Mapping[str, str], host: str) -> None:
        self.headers = headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.text = f" HTTP/1.1\r\nHost: {host}\r\n{lines}"


class ConnectionTarget(aiohttp.ClientRequest):
    """The request object that aiohttp's connector needs. It computes its connection key only once."""

    def __init__(self, base: URL) -> None:
        super().__init__("GET", base, loop=asyncio.get_running_loop())
        self.key = super().connection_key

    @property
    def connection_key(self) -> ConnectionKey:
        return self.key


class DirectExchange:
    """Sends requests to one base URL over the connections of `connector`."""

    def __init__(self, connector: GuardedConnector, base: URL, bodies: BodyReader) -> None:
        self.connector = connector
        self.bodies = bodies
        self.endpoint = ConnectionTarget(base)
        self.host = self.endpoint.headers["Host"]
        self.heads: dict[bool, Head] = {}  # the latest ones, with a body and without one
        self.timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    def takes(self, request: Request) -> bool:
        """Return whether this request can use the direct path.

        A request with a large body, or with a sink for its response, cannot.
        """
        body = request.body
        small = body is None or (isinstance(body, bytes) and len(body) <= MOST_SENT)
        return small and request.sink is None and not replaced()

    async def send(self, call: CallState[Any], target: str, headers: Mapping[str, str]) -> Response:
        """Send one attempt of `call` and return the response.

        `target` is the encoded path with the query. Raises the errors of aiohttp and of the socket, like the session.
        """
        connect = call.timeouts.connect
        timeout = self.timeouts.get(connect)
        if timeout is None:
            timeout = self.timeouts[connect] = aiohttp.ClientTimeout(total=None, connect=connect)
        try:
            connection = await self.connector.acquire(self.endpoint, [], timeout, call)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None
        try:
            protocol = connection.protocol
            socket = None if protocol is None else protocol.transport
            if protocol is None or socket is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, read_bufsize=BUFFER)
            socket.write(self.message(call, target, headers))
            head, content = await protocol.read()
            while (status := head.code) < 200 and status != 101:  # informational
                if status < 100:
                    raise ProtocolError(f"status {status} is not a status of an HTTP response")
                head, content = await protocol.read()
            response = await self.bodies.read(call, status, head.headers, content)
        except BaseException:
            connection.close()
            raise
        if content.is_eof():
            connection.release()
        else:
            connection.close()
        return response

    def message(self, call: CallState[Any], target: str, headers: Mapping[str, str]) -> bytes:
        """Return the bytes of a request."""
        request = call.request
        body = request.body
        head = self.heads.get(body is None)
        if head is None or head.headers is not headers:
            head = self.heads[body is None] = Head(headers, self.host)
        start = f"{request.method} {target}"
        if body is None and request.method != "POST":
            return f"{start}{head.text}\r\n".encode("latin-1")
        content = body if isinstance(body, bytes) else b""
        key = "" if call.key is None else f"{KEY}: {call.key}\r\n"
        return f"{start}{head.text}{key}Content-Length: {len(content)}\r\n\r\n".encode("latin-1") + content

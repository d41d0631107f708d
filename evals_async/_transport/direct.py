"""The direct path: a request and its response over a connection of aiohttp's pool, without `ClientSession`.

The connections, their TLS and the parser of responses are aiohttp's own, as ever. Left out is what a request of this
package does not need of the session: a request object, cookies, redirects, timers, middlewares. That is half of the
instructions of a request.

It is for our own session without a proxy and without trace configurations, for requests with small bodies, and for
responses that are held in memory. Everything else goes over the session. So does everything where aiohttp's names are
not the ones that are known here, which `unfit` finds out when the session is opened, and while something has
replaced `ClientSession._request`, as aioresponses does.
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


MOST_SENT = 64 * 1024  # bytes of a body that are sent with the head; more would need to wait for the socket
BUFFER = 64 * 1024  # bytes, as the session has it

NAMES: Mapping[type, Sequence[str]] = {
    Connection: ("protocol", "release", "close"),
    ResponseHandler: ("set_response_params", "read", "should_close", "transport", "force_close", "exception"),
    aiohttp.StreamReader: ("is_eof", "at_eof", "read_nowait", "readany"),
}
CONNECT = ("self", "req", "traces", "timeout")
RESPONSE_PARAMETERS = frozenset({"read_until_eof", "read_bufsize"})


@cache
def unfit() -> str | None:
    """Why the installed aiohttp cannot be used directly: a name or a signature that is not as it is known here."""
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
    """Whether `ClientSession._request` is not aiohttp's own function.

    Known by its file, because a replacement may have been there before this module was imported.
    """
    current: Any = aiohttp.ClientSession._request  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return not isinstance(current, FunctionType) or current.__code__.co_filename != aiohttp.client.__file__


class Head:
    """What follows the target in the head of a request: the same for all requests with the same headers.

    An object, because tracebacks with local variables show text, and this one holds the key.
    """

    __slots__ = ("headers", "text")

    def __init__(self, headers: Mapping[str, str], host: str) -> None:
        self.headers = headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.text = f" HTTP/1.1\r\nHost: {host}\r\n{lines}"


class ConnectionTarget(aiohttp.ClientRequest):
    """The target of connections: a request without path and headers, whose connection key is computed once."""

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
        self.heads: dict[bool, Head] = {}  # the latest, with a body and without one
        self.timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    def takes(self, request: Request) -> bool:
        """Whether this request can go this way: not one with a large body, nor one whose response goes into a sink."""
        body = request.body
        small = body is None or (isinstance(body, bytes) and len(body) <= MOST_SENT)
        return small and request.sink is None and not replaced()

    async def send(self, call: CallState[Any], target: str, headers: Mapping[str, str]) -> Response:
        """The response to one attempt of `call`. `target` is the request's path with its query, encoded.

        Raises what aiohttp and the socket raise, as the session does.
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
        """The bytes of a request."""
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

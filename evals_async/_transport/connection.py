"""What is built on aiohttp's classes: the session and its guarded connector, bodies, and what aiohttp's errors mean.

The only module that imports aiohttp's client; `transport` imports it when the session is opened.
"""

import asyncio
import io
import select
import socket
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from multidict import CIMultiDict, istr

from evals_async._transport.messages import USUAL, Sink, Upload
from evals_async._transport.state import CURRENT_CALL, CallState
from evals_async.errors import (
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    ProtocolError,
    RequestError,
    ResponseTruncated,
    TlsError,
    UnexpectedRedirect,
)


KEEPALIVE = 15.0  # seconds that an idle connection is kept: less than servers and balancers keep theirs
REASON_SHOWN = 200  # characters of a parser's words, which can quote what the server sent

NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

HANDED_OUT = "evals_async_handed_out"

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What aiohttp raises where a connection breaks, or a message does."""


class Carrier(Exception):
    """Takes an error through code that would act on it: aiohttp would send again, and we would take a sink's OSError
    for a broken connection.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class GuardedConnector(aiohttp.TCPConnector):
    """A pool that hands out no connection with bytes on it that nobody asked for: they would pass for the next answer.

    It also tells the call whether its request can have left, and over which connection; and gives an attempt no second
    one, which aiohttp asks for to send a GET or DELETE again, unasked and uncounted.
    """

    def __init__(self, *, limit: int, ssl: ssl.SSLContext | bool) -> None:
        # aiohttp's own annotation of `socket_factory` leaves a type open.
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            limit=limit, limit_per_host=0, keepalive_timeout=KEEPALIVE, ssl=ssl
        )

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # the signature is aiohttp's
    ) -> Connection:
        """What the session calls."""
        return await self.acquire(req, traces, timeout, CURRENT_CALL.get())

    async def acquire(
        self, request: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout, call: CallState[Any]
    ) -> Connection:
        """A connection for an attempt of `call`, which learns of it."""
        if call.connection is not None:
            raise Carrier(failure_for(call.connection.exception() or aiohttp.ServerDisconnectedError()))
        call.sent = False
        while True:
            connection = await super().connect(request, traces, timeout)
            protocol: Any = connection.protocol
            # An attribute of aiohttp's object: whether this connection was handed out before, is known to nobody else.
            call.reused = reused = getattr(protocol, HANDED_OUT, False)
            if not reused:
                setattr(protocol, HANDED_OUT, True)
            once = call.request.kind != "read"  # it is not sent again, so it must not meet a dead connection
            if not protocol.should_close and not (once and reused and has_input(protocol.transport)):
                break
            connection.close()
            if not reused:
                raise Carrier(ConnectionDropped("the server spoke before it was asked"))
        call.sent = True
        call.connection = protocol
        return connection

    def abandon(self) -> None:
        """Close without a running loop, and without aiohttp's own complaint about it."""
        if self._loop.is_closed():
            pooled = [protocol for idle in self._conns.values() for protocol, _ in idle]
            for protocol in (*pooled, *self._acquired):
                close_socket(protocol.transport)
        self._close()


def has_input(transport: asyncio.Transport | None) -> bool:
    """Whether something came over an idle connection that the loop has not read yet: mostly that the server closed it.

    A loop that was busy hands out connections before it has read that they are closed.
    """
    descriptor = None if transport is None else transport.get_extra_info("socket")
    if descriptor is None:
        return False
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def no_hidden_resend(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """What our connector does against a second sending, for a caller's session; slower, by two coroutines a request."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        failure = failure_for(error)
    raise Carrier(failure)


def open_session(
    *, connections: int, ssl: ssl.SSLContext | bool, trace_configs: Sequence[aiohttp.TraceConfig]
) -> aiohttp.ClientSession:
    """Our own session: no cookies, no environment, no time limits but those of each request."""
    return aiohttp.ClientSession(
        connector=GuardedConnector(limit=connections, ssl=ssl),
        headers=header_fields(USUAL.items()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        trace_configs=list(trace_configs),
    )


def options_over(session: aiohttp.ClientSession) -> dict[str, Any]:
    """The options of each request that bring a caller's session to what our own does by itself."""
    # Middlewares of a request replace the session's, which have no public name.
    theirs: Sequence[aiohttp.ClientMiddlewareType] = getattr(session, "_middlewares", ())
    return {"auto_decompress": True, "raise_for_status": False, "middlewares": (no_hidden_resend, *theirs)}


def abandon(session: aiohttp.ClientSession) -> None:
    """Close a session of our own without its loop: at once, and without asyncio's and aiohttp's complaints."""
    connector: Any = session.connector
    session.detach()
    connector.abandon()


def close_socket(transport: Any) -> None:
    """Close the socket under a transport whose loop is closed.

    The transport cannot do it without the loop. It would leave the socket to the collector, and asyncio warns of that.
    """
    encrypted = getattr(transport, "_ssl_protocol", None)
    if encrypted is not None:
        transport._closed = True  # noqa: SLF001  # what its `close` does first
        transport = getattr(encrypted, "_transport", None)
    raw = getattr(transport, "_sock", None)
    if raw is not None:
        raw.close()
        transport._sock = None  # noqa: SLF001  # as after its own `close`


def timeout_of(connect: float | None, silence: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)


async def pour(content: aiohttp.StreamReader, sink: Sink, call: CallState[Any]) -> None:
    """Hand a body to a sink, piece by piece."""
    failure: Exception
    try:
        sink.restart()
        while chunk := await next_of(content):
            call.received += len(chunk)
            sink.write(chunk)
            await asyncio.sleep(0)  # see `BodyReader.whole`
        return
    except Carrier as carrier:
        failure = carrier.error
    except Exception as error:  # noqa: BLE001  # a sink's own, carried past aiohttp as it is
        failure = Carrier(error)
    raise failure


async def next_of(content: aiohttp.StreamReader) -> bytes:
    """The next bytes of a body; errors of the connection are carried, so that they differ from a sink's."""
    try:
        return await content.readany()
    except BROKEN as error:
        failure = failure_for(error)
    raise Carrier(failure)


def header_fields(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Headers as aiohttp wants them, with names as it compares them: or each request would make those anew."""
    return CIMultiDict((istr(name), value) for name, value in headers)


def multipart(upload: Upload) -> tuple[aiohttp.MultipartWriter, BinaryIO]:
    """The form of an upload and the file in it, made anew for each attempt; all of them send the same bytes."""
    writer = aiohttp.MultipartWriter("form-data", boundary=upload.boundary)
    for name, value in upload.fields:
        writer.append(value).set_content_disposition("form-data", name=name)
    if isinstance(upload.source, bytes):
        source: BinaryIO = io.BytesIO(upload.source)
    else:
        try:
            source = Path(upload.source).open("rb")  # noqa: SIM115  # closed when the attempt is over
        except OSError as error:
            raise Carrier(error) from None
    part = aiohttp.get_payload(source, content_type=upload.content_type)
    part.headers.update(upload.headers)
    # Unquoted: servers take the name as it stands (RFC 7578, 4.2), and would keep the percent signs.
    part.set_content_disposition("form-data", quote_fields=False, name="file", filename=upload.filename)
    writer.append_payload(part)
    return writer, source


def redirect(status: int, location: str) -> UnexpectedRedirect:
    try:
        host = urlsplit(location).hostname or ""
    except ValueError:
        host = ""
    return UnexpectedRedirect(
        f"the server points {f'to {host}' if host else 'elsewhere'} (status {status}). Redirects are not followed, "
        "because the key would go along; check the base URL",
        status=status,
        location_host=host,
    )


def failure_of(error: Exception) -> Exception | None:
    """What an attempt raises where aiohttp, the socket or a sink raised `error`; `None` for what is none of theirs."""
    if isinstance(error, Carrier):
        return error.error
    if isinstance(error, RequestError):
        return error
    return failure_for(error) if isinstance(error, BROKEN) else None


def failure_for(error: BaseException) -> RequestError:
    """Our error for one of aiohttp's or the socket's, made of plain values: no URL, no header, no exception inside."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed("no connection in time")
        case aiohttp.ServerTimeoutError():
            return DeadlineExceeded("the server fell silent in the middle of the body")
        case aiohttp.ClientConnectorCertificateError():
            return TlsError(f"the certificate was refused: {words(error.certificate_error)}")
        case aiohttp.ClientConnectorError():
            return connect_failure(error)
        case aiohttp.ServerFingerprintMismatch():
            return TlsError("the certificate has an unexpected fingerprint")
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"the proxy answered {error.status}")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return ProtocolError(f"the response is not HTTP: {error.message[:REASON_SHOWN]}")
        case aiohttp.ClientPayloadError():
            return ResponseTruncated(f"the body ended early: {words(error)}")
        case aiohttp.ClientConnectionError() | OSError():
            return ConnectionDropped(f"the connection broke: {words(error)}")
        case _:
            return ProtocolError(f"the request failed: {type(error).__name__}")


def connect_failure(error: aiohttp.ClientConnectorError) -> RequestError:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TlsError(f"the TLS handshake with {error.host}:{error.port} failed: {words(cause)}")
    unknown = isinstance(cause, socket.gaierror) and cause.errno in NO_SUCH_HOST
    return ConnectFailed(f"no connection to {error.host}:{error.port}: {words(cause)}", unknown_host=unknown)


def words(error: BaseException) -> str:
    """What an error says of itself, in short; the system's words where it has them."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else None
    return first[:REASON_SHOWN] if isinstance(first, str) and first else type(error).__name__

"""Code that uses the classes of aiohttp: the session and its guarded connector, bodies, and the meaning of errors.

`transport` imports this module when the session is opened, because importing aiohttp takes time.
"""

import asyncio
import io
import select
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
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


KEEPALIVE = 15.0  # seconds that an idle connection is kept; servers and load balancers keep theirs longer
REASON_SHOWN = 200  # characters of a parser's message, which may quote the response

NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

INPUT_TEST = "evals_async_input_test"  # an attribute of connections that were used before

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""The errors of aiohttp for broken connections and invalid messages."""


class Carrier(Exception):
    """Carries an error through code that would handle it: aiohttp would send the request again, and an OSError of a
    sink would be treated as a broken connection.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class GuardedConnector(aiohttp.TCPConnector):
    """A pool that does not reuse a connection with unexpected bytes: they would be read as the next response.

    It also stores in the call whether its request may have been sent, and over which connection. It refuses a second
    connection for an attempt. aiohttp would use it to send a GET or DELETE again, without our retry policy.
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
        """Return a connection to the session of aiohttp."""
        return await self.acquire(req, traces, timeout, CURRENT_CALL.get())

    async def acquire(
        self, request: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout, call: CallState[Any]
    ) -> Connection:
        """Return a connection for an attempt of `call`, and store it in the call."""
        if call.connection is not None:
            raise Carrier(failure_for(call.connection.exception() or aiohttp.ServerDisconnectedError()))
        call.sent = False
        while True:
            connection = await super().connect(request, traces, timeout)
            protocol: Any = connection.protocol
            # Only this attribute of aiohttp's object says whether the connection was used before.
            has_input: Callable[[], bool] | None = getattr(protocol, INPUT_TEST, None)
            call.reused = reused = has_input is not None
            if not reused:
                setattr(protocol, INPUT_TEST, input_test(protocol.transport))
            once = call.request.kind != "read"  # it is not sent again, so the connection must not be closed
            if not protocol.should_close and not (once and has_input is not None and has_input()):
                break
            connection.close()
            if not reused:
                raise Carrier(ConnectionDropped("the server spoke before it was asked"))
        call.sent = True
        call.connection = protocol
        return connection

    def abandon(self) -> None:
        """Close without a running event loop, and without the warning of aiohttp."""
        if self._loop.is_closed():
            pooled = [protocol for idle in self._conns.values() for protocol, _ in idle]
            for protocol in (*pooled, *self._acquired):
                close_socket(protocol.transport)
        self._close()


def input_test(transport: asyncio.Transport | None) -> Callable[[], bool]:
    """Return a function that says whether an open, idle connection has input that the event loop has not read yet:
    usually the server closed it.

    After a busy time, the event loop may reuse a connection before it reads that the connection is closed.
    """
    descriptor = None if transport is None else transport.get_extra_info("socket")
    if descriptor is None:
        return lambda: False
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))


async def no_hidden_resend(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Prevent a hidden resend in the session of a caller. In our own session, the connector does this faster."""
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
    """Open our own session: without cookies, environment variables, and session timeouts."""
    return aiohttp.ClientSession(
        connector=GuardedConnector(limit=connections, ssl=ssl),
        headers=header_fields(USUAL.items()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        trace_configs=list(trace_configs),
    )


def options_over(session: aiohttp.ClientSession) -> dict[str, Any]:
    """Return the options of a request with which the session of a caller behaves like our own."""
    # Middlewares of a request replace those of the session, which have no public name.
    theirs: Sequence[aiohttp.ClientMiddlewareType] = getattr(session, "_middlewares", ())
    return {"auto_decompress": True, "raise_for_status": False, "middlewares": (no_hidden_resend, *theirs)}


def abandon(session: aiohttp.ClientSession) -> None:
    """Close our own session without its event loop: at once, and without warnings of asyncio and aiohttp."""
    connector: Any = session.connector
    session.detach()
    connector.abandon()


def close_socket(transport: Any) -> None:
    """Close the socket under a transport whose loop is closed.

    The transport needs the loop to close its socket. Otherwise the garbage collector closes it, and asyncio warns.
    """
    encrypted = getattr(transport, "_ssl_protocol", None)
    if encrypted is not None:
        transport._closed = True  # noqa: SLF001  # as its `close` does first
        transport = getattr(encrypted, "_transport", None)
    raw = getattr(transport, "_sock", None)
    if raw is not None:
        raw.close()
        transport._sock = None  # noqa: SLF001  # as after its own `close`


def timeout_of(connect: float | None, silence: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)


async def pour(content: aiohttp.StreamReader, sink: Sink, call: CallState[Any]) -> None:
    """Write a body to a sink, in parts."""
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
    except Exception as error:  # noqa: BLE001  # an error of the sink, which must not be changed
        failure = Carrier(error)
    raise failure


async def next_of(content: aiohttp.StreamReader) -> bytes:
    """Return the next bytes of a body. Errors of the connection are wrapped to differ from errors of a sink."""
    try:
        return await content.readany()
    except BROKEN as error:
        failure = failure_for(error)
    raise Carrier(failure)


def header_fields(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Return headers in the form of aiohttp, so that it need not convert the names for each request."""
    return CIMultiDict((istr(name), value) for name, value in headers)


def multipart(upload: Upload) -> tuple[aiohttp.MultipartWriter, BinaryIO]:
    """Return the form of an upload, and its open file. Each attempt has its own, and sends the same bytes."""
    writer = aiohttp.MultipartWriter("form-data", boundary=upload.boundary)
    for name, value in upload.fields:
        writer.append(value).set_content_disposition("form-data", name=name)
    if isinstance(upload.source, bytes):
        source: BinaryIO = io.BytesIO(upload.source)
    else:
        try:
            source = Path(upload.source).open("rb")  # noqa: SIM115  # closed after the attempt
        except OSError as error:
            raise Carrier(error) from None
    part = aiohttp.get_payload(source, content_type=upload.content_type)
    part.headers.update(upload.headers)
    # Unquoted, because servers do not decode the name (RFC 7578, 4.2), and would keep percent signs.
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
    """Return the error of an attempt for an `error` of aiohttp, the socket or a sink, or `None` for another error."""
    if isinstance(error, Carrier):
        return error.error
    if isinstance(error, RequestError):
        return error
    return failure_for(error) if isinstance(error, BROKEN) else None


def failure_for(error: BaseException) -> RequestError:
    """Return our error for an error of aiohttp or the socket. It has no URL, no header, and no other exception."""
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


NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
"""What OpenSSL calls an answer that is no TLS; newer versions have another name for it."""


def connect_failure(error: aiohttp.ClientConnectorError) -> RequestError:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        if cause.reason in NO_TLS:
            server = f"{error.host}:{error.port}"
            return TlsError(
                f"{server} does not speak TLS, but probably plain http; if so, use http:// instead of https://",
                no_tls=True,
            )
        return TlsError(f"the TLS handshake with {error.host}:{error.port} failed: {words(cause)}")
    unknown = isinstance(cause, socket.gaierror) and cause.errno in NO_SUCH_HOST
    return ConnectFailed(f"no connection to {error.host}:{error.port}: {words(cause)}", unknown_host=unknown)


def words(error: BaseException) -> str:
    """Return the short message of an error; the message of the operating system if there is one."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else None
    return first[:REASON_SHOWN] if isinstance(first, str) and first else type(error).__name__

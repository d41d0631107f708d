"""Everything that touches aiohttp's client: the session, its guards, one exchange, and what aiohttp's errors mean.

The only doorway. `transport` imports it when the first request is sent, because importing aiohttp takes longer than the
rest of the package together. No object of aiohttp leaves it: its errors hold the request's headers, and so the key.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict, istr
from yarl import URL

from evals_async._clock import Clock
from evals_async._transport.attempt import CURRENT, AttemptState
from evals_async._transport.messages import NO_HEADERS, USUAL, Request, Response, Sink, Upload
from evals_async.errors import (
    BodyTooLarge,
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
LARGE_BODY = 1024 * 1024  # bytes
ERROR_BODY = 64 * 1024  # bytes that are read of an error's body
ERROR_BODY_TIME = 2.0  # seconds that an error's body may take: the status is known already
TURN = 1024 * 1024  # bytes of a body after which the loop gets its turn
REASON_SHOWN = 200  # characters of a parser's words, which can quote what the server sent

NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

UNTYPED = ("Content-Type",)  # aiohttp would say application/octet-stream of a POST without a body


class Carrier(Exception):
    """Takes an error through code that would act on it: aiohttp would send again, and we would take a sink's OSError
    for a broken connection.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def new_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for a connection that has served no other request; `address` is what getaddrinfo says of one."""
    CURRENT.get().reused = False
    return socket.socket(*address[:3])


class GuardedConnector(aiohttp.TCPConnector):
    """A pool that hands out no connection with bytes on it that nobody asked for: they would pass for the next answer.

    It also tells the attempt under way (`CURRENT`) whether its request can have left, and over which connection; and
    gives it no second one, which aiohttp asks for to send a GET or DELETE again, unasked and uncounted.
    """

    def __init__(self, *, limit: int, ssl: ssl.SSLContext | bool) -> None:
        # aiohttp's own annotation of `socket_factory` leaves a type open.
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            limit=limit, limit_per_host=0, keepalive_timeout=KEEPALIVE, ssl=ssl, socket_factory=new_socket
        )

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # the signature is aiohttp's
    ) -> Connection:
        trip = CURRENT.get()
        if trip.connection is not None:
            raise Carrier(failure_for(trip.connection.exception() or aiohttp.ServerDisconnectedError()))
        trip.sent = False
        while True:
            trip.reused = True
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                break
            connection.close()
            if not trip.reused:
                raise Carrier(ConnectionDropped("the server spoke before it was asked"))
        trip.sent = True
        trip.connection = protocol
        return connection

    def abandon(self) -> None:
        """Close without a running loop, and without aiohttp's own complaint about it."""
        self._close()


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


class NoCookies(aiohttp.DummyCookieJar):
    """Takes no cookies, and makes no empty set of them for each request."""

    def __init__(self) -> None:
        super().__init__()
        self.none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:
        """The cookies for that URL: none, ever."""
        return self.none


def open_session(
    *, connections: int, ssl: ssl.SSLContext | bool, trace_configs: Sequence[aiohttp.TraceConfig]
) -> aiohttp.ClientSession:
    """Our own session: no cookies, no environment, no time limits but those of each request."""
    return aiohttp.ClientSession(
        connector=GuardedConnector(limit=connections, ssl=ssl),
        headers=header_fields(USUAL.items()),
        cookie_jar=NoCookies(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        trace_configs=list(trace_configs),
    )


class Exchange:
    """Sends requests over a session, one attempt each. What is the same for all of them is prepared here."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        owned: bool,
        base_url: str,
        proxy: str | None,
        max_body: int,
        clock: Clock,
    ) -> None:
        self.session = session
        self.owned = owned
        self.base = URL(base_url)
        self.prefix = self.base.raw_path.rstrip("/")
        self.max_body = max_body
        self.clock = clock
        self.latest: tuple[Mapping[str, str], CIMultiDict[str]] = (NO_HEADERS, CIMultiDict())
        self.options: dict[str, Any] = {"allow_redirects": False}
        if proxy is not None:
            self.options["proxy"] = proxy
        if not owned:
            # Middlewares of a request replace the session's, which have no public name.
            theirs: Sequence[aiohttp.ClientMiddlewareType] = getattr(session, "_middlewares", ())
            self.options.update(auto_decompress=True, raise_for_status=False, middlewares=(no_hidden_resend, *theirs))
        self.limited: tuple[tuple[float | None, float | None], dict[str, Any]] | None = None

    def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        *,
        connect: float | None,
        silence: float | None,
        trip: AttemptState,
    ) -> Coroutine[Any, Any, Response]:
        """One attempt. Raises our own errors, and what a sink or the opening of an upload's file raises."""
        options = self.options_for(connect, silence)
        body = request.body
        if isinstance(body, Upload):
            return self.uploaded(request, body, headers, query, options, trip)
        if body is not None:
            # A large body goes out in pieces; as bytes it would hold up the loop, and aiohttp warns of that.
            options = {**options, "data": io.BytesIO(body) if len(body) > LARGE_BODY else body}
        elif request.method == "POST":
            options = {**options, "skip_auto_headers": UNTYPED}
        return self.guarded(request, headers, query, options, trip)

    async def uploaded(
        self,
        request: Request,
        body: Upload,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        options: Mapping[str, Any],
        trip: AttemptState,
    ) -> Response:
        with ExitStack() as files:
            form = multipart(body, headers.get("Idempotency-Key"), files)
            return await self.guarded(request, headers, query, {**options, "data": form}, trip)

    async def guarded(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        options: Mapping[str, Any],
        trip: AttemptState,
    ) -> Response:
        failure: Exception
        token = CURRENT.set(trip)
        trip.sent = True  # to be assumed, until our connector knows better
        try:
            response = await self.session.request(
                request.method, self.url(request.path, query), headers=self.prepared(headers), **options
            )
            try:
                content = response.content
                if response.status < 300 and request.sink is None and content.is_eof():
                    # All of it came with its headers, as small answers do: there is nothing to wait for.
                    return Response(response.status, response.headers, self.bounded(content.read_nowait(), trip))
                return await self.reply(request, response, trip)
            finally:
                # A body that was read to its end has given the connection back; any other takes it along.
                if response.connection is not None:
                    response.close()
        except asyncio.CancelledError as cancelled:
            # The same one, without aiohttp's frames: their variables hold the headers.
            raise cancelled.with_traceback(None)  # noqa: B904
        except Carrier as carrier:
            failure = carrier.error
        except RequestError as error:
            failure = error
        except (aiohttp.ClientError, OSError) as error:
            failure = failure_for(error)
        finally:
            CURRENT.reset(token)
        # Outside the except block and without its traceback, so that nothing of aiohttp hangs on it.
        raise failure.with_traceback(None)

    async def reply(self, request: Request, response: aiohttp.ClientResponse, trip: AttemptState) -> Response:
        status = response.status
        if 300 <= status < 400:
            raise redirect(status, response.headers.get("Location", ""))
        if status >= 400:
            body = await self.error_body(response.content, trip)
        elif request.sink is None:
            body = await self.body(response.content, trip)
        else:
            body = b""
            await pour(response.content, request.sink, trip)
        return Response(status, response.headers, body)

    async def body(self, content: aiohttp.StreamReader, trip: AttemptState) -> bytes:
        chunks: list[bytes] = []
        turn = TURN
        while chunk := await content.readany():
            chunks.append(self.bounded(chunk, trip))
            if content.at_eof():
                break
            if trip.received >= turn:
                # Bytes that are there, or only need be decompressed, are not waited for: others would get no turn.
                turn = trip.received + TURN
                await asyncio.sleep(0)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def bounded(self, chunk: bytes, trip: AttemptState) -> bytes:
        """The same bytes, if all that came until now is not too much."""
        trip.received += len(chunk)
        if trip.received > self.max_body:
            raise BodyTooLarge(f"the body is larger than {self.max_body} bytes", limit=self.max_body)
        return chunk

    async def error_body(self, content: aiohttp.StreamReader, trip: AttemptState) -> bytes:
        """The beginning of an error's body: what comes of it soon. The status matters more than the rest of it."""
        received = bytearray()
        left = trip.ends - self.clock.monotonic()
        try:
            with self.clock.timeout(min(ERROR_BODY_TIME, left / 2)):
                while len(received) < ERROR_BODY and (chunk := await content.readany()):
                    received += chunk
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass  # what came is enough
        trip.received = len(received)
        return bytes(received[:ERROR_BODY])

    def url(self, path: str, query: Sequence[tuple[str, str]]) -> URL:
        """The base URL with `path` after its own path, and `query` merged into its own query, where it wins.

        `path` is sent as it is.
        """
        url = self.base.with_path(self.prefix + path, encoded=True, keep_query=True)
        return url.update_query(query) if query else url

    def prepared(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        """The headers as aiohttp wants them: made once for as long as the same are sent."""
        if self.latest[0] is not headers:
            # What our session sends anyway is left out: aiohttp goes through the others one by one for each request.
            usual = USUAL.items() if self.owned else ()
            self.latest = (headers, header_fields(header for header in headers.items() if header not in usual))
        return self.latest[1]

    def options_for(self, connect: float | None, silence: float | None) -> dict[str, Any]:
        """What aiohttp is told of every request with these limits, in seconds: made once for as long as they stay."""
        if self.limited is None or self.limited[0] != (connect, silence):
            timeout = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)
            self.limited = ((connect, silence), {**self.options, "timeout": timeout})
        return self.limited[1]

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def close(self) -> None:
        await self.session.close()

    def abandon(self) -> None:
        """Give up our own session, which nobody closed, quietly: the transport complains in its own name."""
        connector = self.session.connector
        self.session.detach()
        if isinstance(connector, GuardedConnector):
            connector.abandon()


async def pour(content: aiohttp.StreamReader, sink: Sink, trip: AttemptState) -> None:
    """Hand a body to a sink, piece by piece."""
    failure: Exception
    try:
        sink.restart()
        while chunk := await next_of(content):
            trip.received += len(chunk)
            sink.write(chunk)
            await asyncio.sleep(0)  # see `body`
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
    except (aiohttp.ClientError, OSError) as error:
        failure = failure_for(error)
    raise Carrier(failure)


def header_fields(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Headers as aiohttp wants them, with names as it compares them: or each request would make those anew."""
    return CIMultiDict((istr(name), value) for name, value in headers)


def multipart(upload: Upload, boundary: str | None, files: ExitStack) -> aiohttp.MultipartWriter:
    """The form of an upload, made anew for each attempt; with the call's own boundary, so that all send the same."""
    writer = aiohttp.MultipartWriter("form-data", boundary=boundary)
    for name, value in upload.fields:
        writer.append(value).set_content_disposition("form-data", name=name)
    if isinstance(upload.source, bytes):
        source: BinaryIO = io.BytesIO(upload.source)
    else:
        source = files.enter_context(Path(upload.source).open("rb"))  # noqa: SIM115  # the stack closes it
    part = aiohttp.get_payload(source, content_type=upload.content_type)
    # Unquoted: servers take the name as it stands (RFC 7578, 4.2), and would keep the percent signs.
    part.set_content_disposition("form-data", quote_fields=False, name="file", filename=upload.filename)
    writer.append_payload(part)
    return writer


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
            return TlsError("the certificate has another fingerprint")
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"the proxy answered {error.status}")
        case aiohttp.ClientResponseError():
            return ProtocolError(f"what came is not HTTP: {error.message[:REASON_SHOWN]}")
        case aiohttp.ClientPayloadError():
            return ResponseTruncated(f"the body ended early: {words(error)}")
        case aiohttp.ClientConnectionError() | OSError():
            return ConnectionDropped(f"the connection broke: {words(error)}")
        case _:
            return ProtocolError(f"the exchange failed: {type(error).__name__}")


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


def environment_proxy(base_url: str) -> str | None:
    """The proxy that the environment names for that URL, as the standard library understands it."""
    parts = urlsplit(base_url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")

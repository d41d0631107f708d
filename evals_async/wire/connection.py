"""Everything that touches aiohttp's client: the session, its guards, one exchange, and what aiohttp's errors mean. The only doorway.

`transport` imports it when the first request is sent, because importing aiohttp takes longer than the rest of the package together. No
object of aiohttp leaves this module: its errors hold the request's headers, and the key with them.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from evals_async.clock import Clock
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
from evals_async.wire.exchange import Reply, Request, Sink, Upload
from evals_async.wire.trip import CURRENT, Trip


KEEPALIVE = 15.0  # seconds that an idle connection is kept; servers and balancers often close theirs after 60 or 20
ERROR_BODY = 64 * 1024  # bytes that are read of an error's body
ERROR_BODY_TIME = 2.0  # seconds that an error's body may take: the status is known already


class Broken(Exception):
    """Stands in for an error of aiohttp that would make it send the request again by itself."""

    def __init__(self, failure: RequestError) -> None:
        super().__init__()
        self.failure = failure


class SinkFailed(Exception):
    """Carries what a sink raised past the handling of connection errors, which look the same (OSError)."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class GuardedConnector(aiohttp.TCPConnector):
    """A pool that hands out no connection on which bytes wait that nobody asked for: they would be taken for the next answer."""

    def __init__(self, *, limit: int, ssl: ssl.SSLContext | bool) -> None:
        super().__init__(limit=limit, limit_per_host=0, keepalive_timeout=KEEPALIVE, ssl=ssl)
        self.used: WeakSet[object] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        trip = CURRENT.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            reused = protocol in self.used
            if protocol is not None and not protocol.should_close:
                break
            connection.close()
            if not reused:
                raise aiohttp.ServerDisconnectedError("the server spoke before it was asked")
        self.used.add(protocol)
        if trip is not None:
            trip.sent = True
            trip.reused = reused
            trip.connection = protocol
        return connection

    def abandon(self) -> None:
        """Close what can be closed without a running loop, and without aiohttp's own complaint about it."""
        self._close()


async def no_hidden_resend(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp sends a GET or DELETE again when its connection breaks, unasked and uncounted. It does not know this exception."""
    failure: RequestError
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        failure = failure_for(error)
    raise Broken(failure)


def open_session(
    *, connections: int, ssl: ssl.SSLContext | bool, trace_configs: Sequence[aiohttp.TraceConfig]
) -> aiohttp.ClientSession:
    """Our own session: no cookies, no environment, no time limits but those of each request."""
    return aiohttp.ClientSession(
        connector=GuardedConnector(limit=connections, ssl=ssl),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        trace_configs=list(trace_configs),
        middlewares=(no_hidden_resend,),
    )


class Exchange:
    """Sends requests over a session, one attempt each. What stays the same for all of them is prepared here."""

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
        self.proxy = proxy
        self.max_body = max_body
        self.clock = clock
        self.timeouts: dict[tuple[float | None, float | None], aiohttp.ClientTimeout] = {}
        self.options: dict[str, Any] = {"allow_redirects": False, "raise_for_status": False}
        if proxy is not None:
            self.options["proxy"] = proxy
        if not owned:
            # Middlewares of a request replace the session's; there is no public name for the latter.
            self.options["middlewares"] = (no_hidden_resend, *getattr(session, "_middlewares", ()))

    async def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        *,
        connect: float | None,
        silence: float | None,
        trip: Trip,
    ) -> Reply:
        failure: BaseException
        trip.sent = not self.owned  # another's connector tells nothing
        token = CURRENT.set(trip)
        try:
            with ExitStack() as files:
                return await self.once(request, headers, query, self.timeout(connect, silence), trip, files)
        except asyncio.CancelledError as cancelled:
            raise cancelled.with_traceback(None)  # noqa: B904  # the same one, without aiohttp's frames, which hold the headers
        except Broken as broken:
            failure = broken.failure
        except SinkFailed as broken:
            failure = broken.error
        except RequestError as error:
            failure = error
        except (aiohttp.ClientError, OSError) as error:
            failure = failure_for(error)
        finally:
            CURRENT.reset(token)
        # Outside the except block, so that nothing of aiohttp is its context.
        raise failure.with_traceback(None)

    async def once(
        self,
        request: Request,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        timeout: aiohttp.ClientTimeout,
        trip: Trip,
        files: ExitStack,
    ) -> Reply:
        body = request.body
        data = form(body, headers, files) if isinstance(body, Upload) else body
        response = await self.session.request(
            request.method, self.url(request.path, query), headers=headers, data=data, timeout=timeout, **self.options
        )
        try:
            status = response.status
            names = tuple((name.lower(), value) for name, value in response.headers.items())
            if 300 <= status < 400:
                raise redirect(status, response.headers.get("Location", ""))
            if status >= 400:
                return Reply(status=status, headers=names, body=await self.error_body(response, trip))
            if request.sink is not None:
                await pour(response.content, request.sink, trip)
                return Reply(status=status, headers=names, body=b"")
            return Reply(status=status, headers=names, body=await self.body(response.content, trip))
        finally:
            # A body that was read to its end has given the connection back; any other must take it along.
            response.close()

    async def body(self, content: aiohttp.StreamReader, trip: Trip) -> bytes:
        first = await content.readany()
        if content.at_eof():
            chunks = [first]
            trip.received = len(first)
        else:
            chunks = [first]
            trip.received = len(first)
            while chunk := await content.readany():
                chunks.append(chunk)
                trip.received += len(chunk)
                if trip.received > self.max_body:
                    break
        if trip.received > self.max_body:
            raise BodyTooLarge(f"the body is larger than {self.max_body} bytes", limit=self.max_body)
        return first if len(chunks) == 1 else b"".join(chunks)

    async def error_body(self, response: aiohttp.ClientResponse, trip: Trip) -> bytes:
        """The beginning of an error's body: what comes of it in a short time. The status matters more than the rest of it."""
        received = bytearray()
        left = trip.ends - self.clock.monotonic()
        try:
            async with self.clock.timeout(min(ERROR_BODY_TIME, left / 2)):
                while len(received) < ERROR_BODY and (chunk := await response.content.readany()):
                    received += chunk
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass  # what came is enough
        trip.received = len(received)
        return bytes(received[:ERROR_BODY])

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def close(self) -> None:
        await self.session.close()

    def abandon(self) -> None:
        """Give up our own session that nobody closed, quietly: the transport complains in its own name."""
        connector = self.session.connector
        self.session.detach()
        if isinstance(connector, GuardedConnector):
            connector.abandon()

    def url(self, path: str, query: Sequence[tuple[str, str]]) -> URL:
        """The base URL, its path before `path`, its query kept and merged; what is asked for now wins over the base's."""
        url = self.base.with_path(self.prefix + path, encoded=True, keep_query=True)
        return url.update_query(query) if query else url

    def timeout(self, connect: float | None, silence: float | None) -> aiohttp.ClientTimeout:
        known = self.timeouts.get((connect, silence))
        if known is None:
            known = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)
            self.timeouts[connect, silence] = known
        return known


async def pour(content: aiohttp.StreamReader, sink: Sink, trip: Trip) -> None:
    """Hand a body to a sink, piece by piece."""
    try:
        sink.restart()
    except Exception as error:
        raise SinkFailed(error) from None
    while chunk := await content.readany():
        trip.received += len(chunk)
        try:
            sink.write(chunk)
        except Exception as error:
            raise SinkFailed(error) from None


def form(upload: Upload, headers: Mapping[str, str], files: ExitStack) -> aiohttp.MultipartWriter:
    """The multipart form of an upload, made anew for each attempt, with the same bytes each time: the boundary is the call's."""
    writer = aiohttp.MultipartWriter("form-data", boundary=headers.get("Idempotency-Key"))
    for name, value in upload.fields:
        writer.append(value).set_content_disposition("form-data", name=name)
    source = upload.source if isinstance(upload.source, bytes) else files.enter_context(Path(upload.source).open("rb"))
    part = writer.append(source, {"Content-Type": upload.content_type})  # type: ignore[arg-type]
    part.set_content_disposition("form-data", name="file", filename=upload.filename)
    return writer


def redirect(status: int, location: str) -> UnexpectedRedirect:
    try:
        host = urlsplit(location).hostname or ""
    except ValueError:
        host = ""
    where = f"to {host}" if host else "elsewhere"
    return UnexpectedRedirect(
        f"the server points {where} (status {status}), and redirects are not followed: the key would go along. Check the base URL",
        status=status,
        location_host=host,
    )


def failure_for(error: BaseException) -> RequestError:
    """Our error for one of aiohttp's or the socket's, made of plain values. Its text holds no URL and no header."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed("no connection in time")
        case aiohttp.ServerTimeoutError():
            return DeadlineExceeded("the server fell silent while it sent the body")
        case aiohttp.ClientConnectorCertificateError():
            return TlsError(f"the certificate was refused: {reason(error.certificate_error)}")
        case aiohttp.ClientConnectorSSLError() | aiohttp.ServerFingerprintMismatch():
            return tls_failure(error)
        case aiohttp.ClientConnectorError():
            return connect_failure(error)
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"the proxy answered {error.status}")
        case aiohttp.ClientResponseError():
            return ProtocolError(f"what came is not HTTP: {error.message}")
        case aiohttp.ClientPayloadError():
            return payload_failure(error)
        case aiohttp.ClientConnectionError() | OSError():
            return ConnectionDropped(f"the connection broke: {reason(error)}")
        case _:
            return ProtocolError(f"the exchange failed: {type(error).__name__}")


def connect_failure(error: aiohttp.ClientConnectorError) -> RequestError:
    cause = error.os_error
    unknown = isinstance(cause, socket.gaierror) and cause.errno in (
        socket.EAI_NONAME,
        getattr(socket, "EAI_NODATA", None),
    )
    return ConnectFailed(f"no connection to {error.host}:{error.port}: {reason(cause)}", unknown_host=unknown)


def tls_failure(error: Exception) -> RequestError:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return ConnectFailed(f"the connection broke in the TLS handshake: {reason(cause)}")
    return TlsError(f"the TLS handshake failed: {reason(cause)}")


def payload_failure(error: aiohttp.ClientPayloadError) -> RequestError:
    return ResponseTruncated(f"the body ended early: {type(error.__cause__ or error).__name__}")


def reason(error: BaseException) -> str:
    """The system's words for an error; those of aiohttp can be a whole response."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[0]) if error.args and isinstance(error.args[0], str) else ""
    return text or type(error).__name__


def environment_proxy(base_url: str) -> str | None:
    """The proxy that the environment names for that URL, as the standard library understands it."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(base_url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    proxies: Mapping[str, str] = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")

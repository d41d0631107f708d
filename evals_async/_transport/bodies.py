"""Reads the bodies of responses, up to a maximum size: `BodyReader`."""

import asyncio
from typing import TYPE_CHECKING, Any

from evals_async._clock import Clock
from evals_async._transport.messages import Headers, Response
from evals_async._transport.state import CallState
from evals_async.errors import BodyTooLarge


if TYPE_CHECKING:
    import aiohttp

ERROR_BODY = 64 * 1024  # bytes that are read of the body of an error
ERROR_BODY_TIME = 2.0  # seconds for the body of an error; its status is already known
SLICE = 1024 * 1024  # bytes of a body after which other tasks run


class BodyReader:
    """Makes a response from its head and its stream of bytes. `limit` is the maximum of decoded bytes of a body."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self.clock = clock

    async def read(
        self, call: CallState[Any], status: int, headers: Headers, content: "aiohttp.StreamReader"
    ) -> Response:
        """Return the response with its body. The body of an error is read only in part."""
        if status >= 400:
            body = await self.beginning(content, call)
        elif status >= 300:
            from evals_async._transport import connection

            raise connection.redirect(status, headers.get("Location", ""))
        elif call.request.sink is not None:
            from evals_async._transport import connection

            await connection.pour(content, call.request.sink, call)
            body = b""
        elif content.is_eof():
            # A small body arrives with its headers, so no wait is needed.
            body = self.bounded(content.read_nowait(), call)
        else:
            body = await self.whole(content, call)
        return Response(status, headers, body)

    async def whole(self, content: "aiohttp.StreamReader", call: CallState[Any]) -> bytes:
        chunks: list[bytes] = []
        pause_at = SLICE
        while chunk := await content.readany():
            chunks.append(self.bounded(chunk, call))
            if content.at_eof():
                break
            if call.received >= pause_at:
                # Bytes that have arrived, or are decompressed, cause no wait, so other tasks would not run.
                pause_at = call.received + SLICE
                await asyncio.sleep(0)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def bounded(self, chunk: bytes, call: CallState[Any]) -> bytes:
        """Return the bytes. Raises `BodyTooLarge` if the body is now above the limit."""
        call.received += len(chunk)
        if call.received > self.limit:
            raise BodyTooLarge(f"the body is larger than {self.limit} bytes", limit=self.limit)
        return chunk

    async def beginning(self, content: "aiohttp.StreamReader", call: CallState[Any]) -> bytes:
        """Return the first part of the body of an error, within a short time. Its status is more important."""
        from evals_async._transport import connection

        received = bytearray()
        left = call.attempt_ends - self.clock.monotonic()
        try:
            with self.clock.timeout(min(ERROR_BODY_TIME, left / 2)):
                while len(received) < ERROR_BODY and (chunk := await content.readany()):
                    received += chunk
        except (TimeoutError, *connection.BROKEN):
            pass  # the received part is enough
        call.received = len(received)
        return bytes(received[:ERROR_BODY])

"""The bodies of responses, read within bounds: `BodyReader`."""

import asyncio
from typing import TYPE_CHECKING, Any

from evals_async._clock import Clock
from evals_async._transport.messages import Headers, Response
from evals_async._transport.state import CallState
from evals_async.errors import BodyTooLarge


if TYPE_CHECKING:
    import aiohttp

ERROR_BODY = 64 * 1024  # bytes that are read of an error's body
ERROR_BODY_TIME = 2.0  # seconds that an error's body may take: the status is known already
SLICE = 1024 * 1024  # bytes of a body after which other tasks run


class BodyReader:
    """Makes responses of heads and streams of bytes. `limit` bounds the decoded bytes of a body."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self.clock = clock

    async def read(
        self, call: CallState[Any], status: int, headers: Headers, content: "aiohttp.StreamReader"
    ) -> Response:
        """The response with its body; of an error's body only the beginning."""
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
            # All of it came with its headers, as small ones do: there is nothing to wait for.
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
                # Bytes that are there, or only need be decompressed, are not waited for: other tasks would not run.
                pause_at = call.received + SLICE
                await asyncio.sleep(0)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def bounded(self, chunk: bytes, call: CallState[Any]) -> bytes:
        """The same bytes, if all that came until now is not too much."""
        call.received += len(chunk)
        if call.received > self.limit:
            raise BodyTooLarge(f"the body is larger than {self.limit} bytes", limit=self.limit)
        return chunk

    async def beginning(self, content: "aiohttp.StreamReader", call: CallState[Any]) -> bytes:
        """The beginning of an error's body: what comes of it soon. The status matters more than the rest of it."""
        from evals_async._transport import connection

        received = bytearray()
        left = call.attempt_ends - self.clock.monotonic()
        try:
            with self.clock.timeout(min(ERROR_BODY_TIME, left / 2)):
                while len(received) < ERROR_BODY and (chunk := await content.readany()):
                    received += chunk
        except (TimeoutError, *connection.BROKEN):
            pass  # what came is enough
        call.received = len(received)
        return bytes(received[:ERROR_BODY])

"""A server that does what a script says, byte by byte, over real sockets: what no HTTP library would send.

A scene is what happens after one request has been read; the script's scenes are played one per request, the last one
for ever. `FaultServer` keeps what it was sent. Nothing here knows of the client.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

import attrs


@attrs.frozen(kw_only=True)
class Seen:
    """A request as the server got it: its head's first line and headers, its body, the connection's number, the
    time."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    at: float

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@attrs.define
class Peer:
    """The other end of a connection, for a scene."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Scene: TypeAlias = Callable[[Peer], Awaitable[bool]]
"""Plays, and says whether the connection stays open for another request."""


def message(
    status: int = 200, body: bytes = b"{}", *headers: tuple[str, str], length: int | None = None, reason: str = "X"
) -> bytes:
    """The bytes of an ordinary answer; `length` lies about the body's."""
    head = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body) if length is None else length}"]
    head += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def raw(data: bytes, *, then: str = "keep", pause: float = 0.0) -> Scene:
    """Send exactly these bytes, and then keep the connection, close it (fin), reset it (rst) or fall silent (stall)."""

    async def play(peer: Peer) -> bool:
        if data:
            await peer.send(data)
        if pause:
            await asyncio.sleep(pause)
        if then == "rst":
            await asyncio.sleep(0.01 if data else 0)  # let what was sent arrive before the reset destroys it
            peer.reset()
        if then == "stall":
            await peer.reader.read()  # until the client has had enough
        return then == "keep"

    return play


def answer(
    status: int = 200, body: bytes = b"{}", *headers: tuple[str, str], then: str = "keep", length: int | None = None
) -> Scene:
    """An ordinary answer."""
    return raw(message(status, body, *headers, length=length), then=then)


def drip(data: bytes, every: float = 0.02) -> Scene:
    """Send `data` a byte at a time, for ever from its last byte."""

    async def play(peer: Peer) -> bool:
        position = 0
        while not peer.writer.is_closing():
            await peer.send(data[position : position + 1])
            position = min(position + 1, len(data) - 1)
            await asyncio.sleep(every)
        return False

    return play


def endless(head: bytes, chunk: bytes) -> Scene:
    """Send `head`, and then `chunk` for as long as the client takes it."""

    async def play(peer: Peer) -> bool:
        await peer.send(head)
        while not peer.writer.is_closing():
            await peer.send(chunk)
            await asyncio.sleep(0)
        return False

    return play


class FaultServer:
    """Plays scenes on a loopback port; an asynchronous context manager."""

    def __init__(self, *scenes: Scene, tls: ssl.SSLContext | None = None, greeting: bytes = b"") -> None:
        self.scenes = scenes
        self.tls = tls
        self.greeting = greeting  # sent on connection, before any request
        self.seen: list[Seen] = []
        self.accepted = 0
        self.open = 0
        self.handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls, limit=1 << 20)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.close()
        for task in self.handlers:
            task.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        task.add_done_callback(self.handlers.discard)
        self.accepted += 1
        self.open += 1
        number = self.accepted
        try:
            if self.greeting:
                writer.write(self.greeting)
            while await self.one(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            self.open -= 1
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in head[1:] if line))
        seen = Seen(line=head[0], headers=headers, body=b"", connection=number, at=asyncio.get_running_loop().time())
        if (length := seen.header("content-length")) is not None:
            seen = attrs.evolve(seen, body=await reader.readexactly(int(length)))
        elif seen.header("transfer-encoding") is not None:
            seen = attrs.evolve(seen, body=await chunked(reader))
        self.seen.append(seen)
        scene = self.scenes[min(len(self.seen), len(self.scenes)) - 1]
        return await scene(Peer(reader, writer, seen))

    async def all_closed(self, within: float = 30.0) -> bool:
        """Whether every connection ends; `within` bounds the wait, and is waited only where one does not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while self.open and loop.time() < end:
            await asyncio.sleep(0.01)
        return self.open == 0


async def chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body

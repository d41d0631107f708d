"""A Redis, and a server that grants 200 requests a second."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from ports import silent_port
from waiting import LONGEST

from evals_async import _json


LIMIT = 200.0
BURST = 20.0
TICK = 0.01  # seconds between two looks at how late the machine is


def answers(port: int) -> bool:
    """Whether a Redis is there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


class OwnRedis:
    """A Redis of this test's own, which can be stopped and started."""

    def __init__(self, binary: str, folder: Path, port: int, *options: str) -> None:
        self.binary = binary
        self.folder = folder
        self.port = port
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([self.binary, *options, *self.options], stdout=subprocess.DEVNULL)
        end = time.monotonic() + LONGEST
        while not answers(self.port):
            assert time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(folder: Path, *options: str) -> Generator[OwnRedis]:
    """A Redis with the given options."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on this machine")
    with silent_port() as port:
        redis = OwnRedis(binary, folder, port, *options)
        try:
            yield redis
        finally:
            redis.stop()


@asynccontextmanager
async def relay(port: int, passes: Callable[[bytes, bytes], Awaitable[bool]]) -> AsyncGenerator[str]:
    """The URL of a way to the Redis on that port. `passes` gets what was sent and the response, may wait, and returns
    whether the response goes on. If not, the connection is closed.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while data := await reader.read(65536):
                redis_writer.write(data)
                answer = await redis_reader.read(65536)
                if not await passes(data, answer):
                    return
                writer.write(answer)
        except ConnectionError:
            pass
        finally:
            redis_writer.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Generator[OwnRedis]:
    """A Redis that may be stopped."""
    with redis_server(tmp_path) as redis:
        yield redis


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The Redis at 127.0.0.1:6379 where it runs, or else one of this test's own."""
    if answers(6379):
        return "redis://127.0.0.1:6379"
    own: OwnRedis = request.getfixturevalue("own_redis")
    return own.url


class LimitedServer:
    """An HTTP server with a token bucket; `seen` are the times of its requests, `granted` how many it answered.

    `late` are the seconds for which the machine held it up: what is promised for a good machine allows for them.
    """

    def __init__(self) -> None:
        self.late = 0.0
        self.tokens = BURST
        self.filled = time.monotonic()
        self.seen: list[float] = []
        self.granted = 0
        self.on_request: Callable[[int], None] = lambda count: None

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens, self.filled = min(BURST, self.tokens + (now - self.filled) * LIMIT), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK)
            over = time.monotonic() - began - TICK
            self.late += over if over > TICK else 0.0

    @property
    def excusable(self) -> int:
        """Requests that may be refused because of that: those of a second for each second."""
        return int(LIMIT * self.late)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                self.seen.append(time.monotonic())
                self.on_request(len(self.seen))
                run_id = line.split()[1].rsplit(b"/", 1)[1].decode()
                granted = self.take()
                self.granted += granted
                body = _json.dump(
                    {"object": "eval.run", "id": run_id, "eval_id": "eval_1", "status": "completed"} if granted else {}
                )
                await asyncio.sleep(0.02)
                head = f"HTTP/1.1 {200 if granted else 429} X\r\nContent-Length: {len(body)}\r\n"
                writer.write((head + ("" if granted else "Retry-After: 1\r\n") + "\r\n").encode() + body)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def limited() -> AsyncGenerator[tuple[LimitedServer, str]]:
    """The server and its base URL."""
    limited = LimitedServer()
    server = await asyncio.start_server(limited.serve, "127.0.0.1", 0, backlog=1000)
    watching = asyncio.create_task(limited.watch())
    yield limited, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    watching.cancel()
    server.close()

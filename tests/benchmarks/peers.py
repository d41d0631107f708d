"""The clients that are compared: ours, the official one, and what people write by hand. Each reads a run, and walks
through the pages of a run's output items.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
from benchmarks import canned, shapes


BEARER = {"Authorization": "Bearer sk-benchmark"}


def part(thing: Any, name: str) -> Any:
    """A part of an object or of a dict, whatever the client makes."""
    return getattr(thing, name) if hasattr(thing, name) else thing[name]


async def one_by_one(client: Any, run_id: str) -> AsyncIterator[Any]:
    """The pages of a run's output items, each asked for when the last one is done with."""
    page = await client.evals.runs.output_items.list(run_id, eval_id=canned.EVAL_ID, limit=100)
    yield page
    while page.has_next_page():
        page = await page.get_next_page()
        yield page


class Peer:
    """A client of the benchmark's server; made within a loop, and closed there."""

    name = ""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stack.aclose()

    async def open(self) -> None:
        raise NotImplementedError

    async def run(self, run_id: str) -> Any:
        raise NotImplementedError

    def pages(self, run_id: str) -> AsyncIterator[Any]:
        raise NotImplementedError

    async def items(self, run_id: str) -> AsyncIterator[Any]:
        async for page in self.pages(run_id):
            for item in part(page, "data"):
                yield item


class Ours(Peer):
    name = "evals_async"

    async def open(self) -> None:
        from evals_async import EvalsClient

        self.client = await self.stack.enter_async_context(
            EvalsClient(base_url=self.base_url, api_key="sk-benchmark", max_connections=200)
        )

    async def run(self, run_id: str) -> Any:
        return await self.client.evals.runs.retrieve(run_id, eval_id=canned.EVAL_ID)

    def pages(self, run_id: str) -> AsyncIterator[Any]:
        return self.client.evals.runs.output_items.list(run_id, eval_id=canned.EVAL_ID).pages()

    def items(self, run_id: str) -> AsyncIterator[Any]:
        return aiter(self.client.evals.runs.output_items.list(run_id, eval_id=canned.EVAL_ID))


class OursOneByOne(Ours):
    """Without the page ahead."""

    name = "evals_async, page by page"

    def pages(self, run_id: str) -> AsyncIterator[Any]:
        return one_by_one(self.client, run_id)

    def items(self, run_id: str) -> AsyncIterator[Any]:
        return Peer.items(self, run_id)


class Official(Peer):
    name = "openai"

    async def open(self) -> None:
        import openai

        self.client = await self.stack.enter_async_context(
            openai.AsyncOpenAI(base_url=self.base_url, api_key="sk-benchmark", http_client=self.transport())
        )

    def transport(self) -> Any:
        return None

    async def run(self, run_id: str) -> Any:
        return await self.client.evals.runs.retrieve(run_id, eval_id=canned.EVAL_ID)

    def pages(self, run_id: str) -> AsyncIterator[Any]:
        return one_by_one(self.client, run_id)

    def items(self, run_id: str) -> AsyncIterator[Any]:
        return aiter(self.client.evals.runs.output_items.list(run_id, eval_id=canned.EVAL_ID, limit=100))


class OfficialOverAiohttp(Official):
    name = "openai[aiohttp]"

    def transport(self) -> Any:
        import openai

        return openai.DefaultAioHttpClient()


class ByHand(Peer):
    """What a good programmer writes: a session, a status check, `json.loads`."""

    name = "aiohttp + json"
    run_of: Callable[[bytes], Any] = staticmethod(json.loads)
    page_of: Callable[[bytes], Any] = staticmethod(json.loads)

    async def open(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=200)
        self.session = await self.stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=BEARER))

    async def get(self, path: str, decode: Callable[[bytes], Any]) -> Any:
        async with self.session.get(f"{self.base_url}/evals/{canned.EVAL_ID}/runs/{path}") as response:
            response.raise_for_status()
            return decode(await response.read())

    async def run(self, run_id: str) -> Any:
        return await self.get(run_id, self.run_of)

    async def pages(self, run_id: str) -> AsyncIterator[Any]:
        after = ""
        while True:
            page = await self.get(f"{run_id}/output_items?limit=100{after}", self.page_of)
            yield page
            if not part(page, "has_more"):
                return
            after = f"&after={part(page, 'last_id')}"


class ByHandMsgspec(ByHand):
    name = "aiohttp + msgspec"
    run_of = staticmethod(msgspec.json.Decoder(shapes.Run).decode)
    page_of = staticmethod(msgspec.json.Decoder(shapes.Page).decode)


class ByHandMsgspecUntyped(ByHand):
    name = "aiohttp + msgspec, dicts"
    run_of = staticmethod(msgspec.json.Decoder().decode)
    page_of = staticmethod(msgspec.json.Decoder().decode)


class Streams(ByHandMsgspec):
    """The limit of asyncio: no HTTP library, no check of anything."""

    name = "asyncio streams + msgspec"

    async def open(self) -> None:
        host, _, rest = self.base_url.removeprefix("http://").partition(":")
        port, _, self.prefix = rest.partition("/")
        self.connect: Callable[[], Awaitable[Any]] = lambda: asyncio.open_connection(host, int(port), limit=2**20)
        self.idle: list[Any] = []
        self.stack.callback(lambda: [writer.close() for _, writer in self.idle])

    async def get(self, path: str, decode: Callable[[bytes], Any]) -> Any:
        reader, writer = self.idle.pop() if self.idle else await self.connect()
        url = f"/{self.prefix}/evals/{canned.EVAL_ID}/runs/{path}"
        writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        begin = head.index(b"Content-Length: ") + 16
        body = await reader.readexactly(int(head[begin : head.index(b"\r", begin)]))
        self.idle.append((reader, writer))
        return decode(body)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        *(Ours, OursOneByOne, Official, OfficialOverAiohttp),
        *(ByHand, ByHandMsgspec, ByHandMsgspecUntyped, Streams),
    )
}

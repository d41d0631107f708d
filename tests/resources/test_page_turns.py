"""Pages ahead, of many listings, that come at the same time: each is used before the next one is decoded."""

import asyncio
import json
from typing import TypeVar

import pytest
from doubles import caller_over, reply_of

from evals_async import Request, Response
from evals_async._codec import decode_page
from evals_async._paging.listing import PageBody
from evals_async.errors import DecodeError
from evals_async.resources import _caller as call
from evals_async.resources.output_items import OutputItems


T = TypeVar("T")


def page(item: str, *, has_more: bool) -> bytes:
    return json.dumps(
        {"object": "list", "data": [{"id": item, "run_id": "r1", "status": ""}], "has_more": has_more}
    ).encode()


FIRST, LAST = page("i1", has_more=True), page("i2", has_more=False)


class ManyListings:
    """Many readers of listings of two pages. The second ones, which are asked for ahead, all come in the same turn of
    the loop; `log` tells what became of them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: bytes = LAST) -> None:
        self.go = asyncio.Event()
        self.last = last
        self.log: list[str] = []
        self.items = OutputItems(caller_over(self.respond))

        def logged(data: bytes, shape: type[T]) -> PageBody[T]:
            if data is self.last:
                self.log.append("decoded")
            return decode_page(data, shape)

        monkeypatch.setattr(call, "decode_page", logged)

    async def respond(self, request: Request) -> Response:
        if dict(request.query).get("after") is None:
            return reply_of(FIRST)
        await self.go.wait()
        return reply_of(self.last)

    async def reader(self) -> None:
        async for item in self.items.list("r1", eval_id="e1"):
            if item.id == "i2":
                self.log.append("used")

    async def start(self, count: int) -> list[asyncio.Task[None]]:
        readers = [asyncio.create_task(self.reader()) for _ in range(count)]
        for _ in range(10 * count):  # until all wait for their second pages
            await asyncio.sleep(0)
        assert [] == self.log
        self.go.set()
        return readers


async def test_each_page_is_used_before_the_next_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its records are still in the processor's caches, and the loop is held for one page at a time."""
    crowd = ManyListings(monkeypatch)
    await asyncio.gather(*await crowd.start(5))
    assert ["decoded", "used"] * 5 == crowd.log


@pytest.mark.parametrize("turns", range(5))
async def test_readers_that_leave_hold_up_nobody(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """Some are cancelled while their pages wait for their turn, or in the moment it comes: the others go on."""
    crowd = ManyListings(monkeypatch)
    readers = await crowd.start(6)
    for _ in range(turns):
        await asyncio.sleep(0)
    for reader in readers[1::2]:
        reader.cancel()
    await asyncio.wait(readers)
    assert [False] * 3 == [reader.cancelled() for reader in readers[::2]]
    assert crowd.log.count("used") == [reader.cancelled() for reader in readers].count(False)


async def test_a_page_that_cannot_be_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reader has its error."""
    crowd = ManyListings(monkeypatch, b"{}")
    errors = await asyncio.gather(*await crowd.start(3), return_exceptions=True)
    assert [DecodeError] * 3 == list(map(type, errors))

"""Large pages: whichever way a page is decoded, the listing is the same, and a large one lets others go on."""

import asyncio
import json

import pytest
from doubles import caller_over, reply_of

from evals_async import Request, Response
from evals_async.errors import DecodeError, ResponseMismatch
from evals_async.resources._caller import LARGE_PAGE
from evals_async.resources.output_items import OutputItems


def items_of(body: object) -> OutputItems:
    """The resource, whose server answers everything with that body."""

    async def respond(request: Request) -> Response:
        return reply_of(json.dumps(body).encode())

    return OutputItems(caller_over(respond))


def page(size: int = 2 * LARGE_PAGE, **last: object) -> dict[str, object]:
    text = "x" * (size // 100)
    items = [
        {"id": f"i{number}", "run_id": "r1", "status": "pass", "datasource_item": {"text": text}}
        for number in range(101)
    ]
    return {
        "object": "list",
        "data": [*items, {"id": "last", "run_id": "r1", "status": "pass", **last}],
        "has_more": False,
    }


async def test_a_large_page_lets_others_go_on() -> None:
    """All items of a page of a megabyte arrive, and another task has more turns in between than with a small page."""

    async def turns(size: int) -> int:
        count = 0
        task = asyncio.create_task(items_of(page(size)).list("r1", eval_id="e1").collect())
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        assert [*(f"i{number}" for number in range(101)), "last"] == [item.id for item in task.result()]
        return count

    assert await turns(2 * LARGE_PAGE) >= await turns(100) + 2


async def test_errors_of_a_large_page() -> None:
    """A wrong value is named by its place, and an item of another run is refused, as on a small page."""
    with pytest.raises(DecodeError) as caught:
        await items_of(page(created_at="now")).list("r1", eval_id="e1")
    assert "$.data[101].created_at" == caught.value.at
    with pytest.raises(ResponseMismatch):
        await items_of(page(run_id="r2")).list("r1", eval_id="e1")

"""Listings: what is asked, what comes out, and what happens with servers that are not what they should be."""

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import assert_type

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from evals_async._paging.cursor import too_heavy
from evals_async._paging.listing import PageBody
from evals_async._paging.pages import Page, Pager
from evals_async.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    EvalsError,
    InvalidArgument,
    NotFound,
    PaginationError,
    ServerError,
)


@attrs.frozen
class Item:
    id: str


Body = PageBody[Item]
Response = Body | Exception


def others() -> set[asyncio.Task[object]]:
    """The tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def turns(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def body(ids: str | Sequence[str], *, more: bool | None = True, last: str | None = None) -> Body:
    """A page with one item per letter."""
    return PageBody(entries=tuple(Item(key) for key in ids), last_id=last, has_more=more)


class Script:
    """A server that answers with a list of pages, the last one for ever, and notes what it was asked."""

    def __init__(self, *responses: Response) -> None:
        self.responses = list(responses)
        self.asked: list[tuple[str | None, int | None]] = []

    async def __call__(self, after: str | None, limit: int | None) -> Body:
        self.asked.append((after, limit))
        await asyncio.sleep(0)
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, Exception):
            raise response
        return response

    @property
    def cursors(self) -> list[str | None]:
        return [after for after, _ in self.asked]


class Shelf:
    """An honest server of `count` items, named by their number; 20 a page by default."""

    def __init__(self, count: int, *, most: int = 100) -> None:
        self.ids = [f"{number:04}" for number in range(count)]
        self.most = most
        self.asked: list[tuple[str | None, int | None]] = []
        self.answered = 0

    async def __call__(self, after: str | None, limit: int | None) -> Body:
        self.asked.append((after, limit))
        await asyncio.sleep(0)
        self.answered += 1
        if after is not None and after not in self.ids:
            raise NotFound("No such item.", status=404)
        start = 0 if after is None else self.ids.index(after) + 1
        size = min(self.most, limit or 20)
        ids = self.ids[start : start + size]
        return PageBody(
            entries=tuple(map(Item, ids)),
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
            has_more=start + size < len(self.ids),
        )


async def ids_until_error(items: AsyncIterator[Item]) -> tuple[list[str], Exception]:
    """The ids that came, and the error after them."""
    got: list[str] = []
    try:
        async for item in items:
            got.append(item.id)  # noqa: PERF401  # a comprehension would lose them
    except Exception as error:
        return got, error
    raise AssertionError("the listing ended without an error")


# --- the everyday -------------------------------------------------------------------------------------------------


async def test_await_gives_the_first_page_of_the_servers_size() -> None:
    """`await list()` is one request, without a limit of our own."""
    shelf = Shelf(50)
    page = await Pager(shelf)
    assert_type(page, Page[Item])
    assert shelf.asked == [(None, None)]
    assert [item.id for item in page] == shelf.ids[:20]
    assert (len(page), page[0].id, page[-1].id) == (20, "0000", "0019")
    assert page[:2] == (Item("0000"), Item("0001"))
    assert (page.first_id, page.last_id, page.has_more) == ("0000", "0019", True)


async def test_iteration_gives_all_items_in_large_pages() -> None:
    """`async for` over a listing gives every item once, in order, a hundred per request."""
    shelf = Shelf(250)
    got: list[Item] = []
    async for item in Pager(shelf):
        assert_type(item, Item)
        got.append(item)
    assert [item.id for item in got] == shelf.ids
    assert shelf.asked == [(None, 100), ("0099", 100), ("0199", 100)]


async def test_the_users_page_size_and_start_are_used() -> None:
    """`limit` and `after` of the caller go into the requests, awaiting and iterating."""
    shelf = Shelf(10)
    assert [page.data[0].id async for page in Pager(shelf, after="0003", limit=4).pages()] == ["0004", "0008"]
    assert len(await Pager(shelf, limit=3)) == 3
    assert shelf.asked == [("0003", 4), ("0007", 4), (None, 3)]


async def test_each_use_begins_anew() -> None:
    """One `list()` can be awaited and iterated, several times and at once."""
    shelf = Shelf(230)
    pager = Pager(shelf)

    async def read_all() -> list[str]:
        return [item.id async for item in pager]

    assert list(await asyncio.gather(read_all(), read_all())) == [shelf.ids, shelf.ids]
    assert (await pager).data == (await pager).data


async def test_items_are_made_one_by_one() -> None:
    """Walking through a listing makes an item when its turn comes; a page that is kept makes its own once."""
    made: list[str] = []

    def make(entry: Item) -> Item:
        made.append(entry.id)
        return Item(entry.id)

    shelf = Shelf(5)

    async def fetch(after: str | None, limit: int | None) -> PageBody[Item]:
        return attrs.evolve(await shelf(after, limit), make=make)

    async for item in Pager(fetch):
        assert made[-1] == item.id
    assert made == shelf.ids
    page = await Pager(fetch)
    assert (len(page), made) == (5, shelf.ids)
    assert page.data is page.data
    assert [*page] == list(page.data)
    assert made == [*shelf.ids, *shelf.ids]


async def test_cancelling_one_of_two_iterations_leaves_the_other() -> None:
    """Two tasks go through the same listing; one is cancelled, the other gets everything."""
    shelf = Shelf(230)
    pager = Pager(shelf, limit=10)
    kept, doomed = (asyncio.create_task(pager.collect()) for _ in range(2))
    await turns(10)
    doomed.cancel()
    assert [item.id for item in await kept] == shelf.ids
    assert doomed.cancelled()


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        (None, [(None, 100), ("0099", 100), ("0199", 100)]),
        (0, []),
        (7, [(None, 7)]),
        (100, [(None, 100)]),
        (101, [(None, 100), ("0099", 100)]),
    ],
)
async def test_collect_requests_what_it_needs(limit: int | None, asked: list[tuple[str | None, int]]) -> None:
    """`collect(limit=n)` gives the first n items and asks for no page beyond them."""
    shelf = Shelf(250)
    assert [item.id for item in await Pager(shelf).collect(limit)] == shelf.ids[:limit]
    await turns()
    assert shelf.asked == asked


async def test_pages_as_the_official_client_has_them() -> None:
    """`has_next_page`, `get_next_page`, `iter_pages` and `async for` over a page go through the whole listing."""
    shelf = Shelf(50)
    first = await Pager(shelf)
    page, sizes = first, [len(first)]
    while page.has_next_page():
        page = await page.get_next_page()
        sizes.append(len(page))
    assert sizes == [20, 20, 10]
    with pytest.raises(PaginationError, match="last page"):
        await page.get_next_page()
    assert [len(page) async for page in first.iter_pages()] == [20, 30]
    assert [item.id async for item in first] == shelf.ids
    assert [item.id async for item in page] == shelf.ids[40:]


async def test_the_next_page_can_be_asked_for_twice() -> None:
    """What follows a page does not depend on who asked for it before."""
    first = await Pager(Shelf(50))
    second = await first.get_next_page()
    third = await second.get_next_page()
    assert (await first.get_next_page()).data == second.data
    assert (await second.get_next_page()).data == third.data


async def test_two_walks_from_one_page_do_not_disturb_each_other() -> None:
    """When the listing changes between two walks from one page, neither loses what the other saw elsewhere."""
    responses = {
        None: [body("abc")],
        "c": [body("de"), body("df")],
        "e": [body("fg", more=False)],
        "f": [body("g", more=False)],
    }

    async def fetch(after: str | None, limit: int | None) -> Body:
        return responses[after].pop(0)

    first = await Pager(fetch)
    one, two = first.iter_pages(), first.iter_pages()
    pages = [await anext(one), await anext(two)]
    await turns()
    pages += [page async for page in one] + [page async for page in two]
    assert ["".join(item.id for item in page) for page in pages] == ["abc", "abc", "de", "fg", "df", "g"]


async def test_a_forgotten_await_is_seen() -> None:
    """What is printed instead of a page says what to do with it, and that nothing was requested."""
    shelf = Shelf(3)
    assert repr(Pager(shelf, after="0000", limit=2)) == (
        "<Pager, after='0000', limit=2: nothing is requested yet; "
        "`await` it for the first page, `async for` over it for all items>"
    )
    assert repr(await Pager(shelf)) == "Page(3 items, last_id='0002', has_more=False)"
    assert "0000" not in repr(Pager(shelf))


def test_a_page_size_below_one_is_refused() -> None:
    """`limit=0` is refused before anything is sent."""
    with pytest.raises(InvalidArgument, match="at least 1"):
        Pager(Shelf(1), limit=0)


# --- one page ahead -----------------------------------------------------------------------------------------------


async def test_next_page_is_requested_before_the_consumer_works() -> None:
    """When the first item arrives the next request is out already, and only that one, however long he takes."""
    shelf = Shelf(50)
    items = aiter(Pager(shelf, limit=10))
    assert (await anext(items)).id == "0000"
    assert shelf.asked == [(None, 10), ("0009", 10)]
    await turns(20)
    assert len(shelf.asked) == 2
    await items.aclose()


class Hanging:
    """An honest first page; every further request hangs, and is counted."""

    def __init__(self) -> None:
        self.open = 0

    async def __call__(self, after: str | None, limit: int | None) -> Body:
        if after is None:
            return body("abc")
        self.open += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
        return body("")


async def test_break_cancels_the_request_ahead() -> None:
    """Leaving the loop is enough: the request ahead is cancelled, and no other is made."""
    server = Hanging()
    async for _ in Pager(server):
        assert server.open == 1
        break
    await turns()
    assert server.open == 0
    assert others() == set()


@pytest.mark.parametrize("over", ["items", "pages"])
async def test_aclose_waits_for_the_request_ahead(over: str) -> None:
    """After `aclosing` the request ahead is gone on the next line."""
    server = Hanging()
    pager = Pager(server)
    async with aclosing(aiter(pager) if over == "items" else pager.pages()) as listing:
        await anext(listing)
        assert server.open == 1
    assert server.open == 0
    assert others() == set()
    with pytest.raises(StopAsyncIteration):
        await anext(listing)


async def test_cancelled_consumer_cancels_its_request() -> None:
    """A task cancelled while it waits for the next page leaves no request behind."""
    server = Hanging()
    task = asyncio.create_task(Pager(server).collect())
    await turns(6)
    assert server.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.open == 0
    assert others() == set()


async def test_failure_ahead_is_nobodys_if_the_consumer_leaves() -> None:
    """A page ahead that fails is not reported to the loop when nobody wants it any more."""
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    script = Script(body("ab"), ServerError("down", status=500))
    async for _ in Pager(script):
        await turns(5)
        break
    await turns()
    gc.collect()
    assert (script.cursors, reports) == ([None, "b"], [])


async def test_two_tasks_on_one_iterator_are_refused() -> None:
    """A second task that waits on the same iterator gets an error; the first is not disturbed."""
    shelf = Shelf(3)
    items = aiter(Pager(shelf))
    first = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(items)
    assert (await first).id == "0000"


# --- servers that are not what they should be ---------------------------------------------------------------------


@pytest.mark.parametrize("pages", [["abc"], ["abc", "def"], ["abc", "def", "ghi"]])
@pytest.mark.parametrize("has_more", [True, None])
@pytest.mark.parametrize("named", [True, False])
async def test_cycles_end_in_an_error(pages: list[str], has_more: bool | None, named: bool) -> None:
    """The same page for ever, or a cycle of two or three, raises after at most two requests too many."""
    count = 0

    async def fetch(after: str | None, limit: int | None) -> Body:
        nonlocal count
        count += 1
        ids = pages[(count - 1) % len(pages)]
        return body(ids, more=has_more, last=ids[-1] if named else None)

    got, error = await ids_until_error(aiter(Pager(fetch)))
    assert "".join(got) == "".join(pages)
    assert isinstance(error, PaginationError)
    assert error.after is not None
    assert count <= len(pages) + 2


async def test_page_by_page_a_cycle_ends_too() -> None:
    """The loop `while page.has_next_page()` does not run for ever either."""
    page = await Pager(Script(body("abc")))

    async def loop() -> None:
        nonlocal page
        while page.has_next_page():
            page = await page.get_next_page()

    with pytest.raises(PaginationError, match="does not move on"):
        await loop()


@pytest.mark.parametrize(("last", "cursor"), [(None, "b"), ("b", "b"), ("x", "x")])
async def test_empty_pages_do_not_end_a_listing(last: str | None, cursor: str) -> None:
    """`has_more` without data goes on from the same cursor, or from `last_id`."""
    script = Script(body("ab"), body("", last=last), body("", last=last), body("c", more=False))
    assert [item.id for item in await Pager(script).collect()] == ["a", "b", "c"]
    assert script.cursors == [None, "b", cursor, cursor]


async def test_empty_pages_for_ever_are_an_error() -> None:
    """Twenty empty pages in a row end in an error."""
    script = Script(body("ab"), body(""))
    got, error = await ids_until_error(aiter(Pager(script)))
    assert got == ["a", "b"]
    assert str(error) == "the listing does not move on: 20 pages in a row brought nothing new"
    assert isinstance(error, PaginationError)
    assert error.after == "b"
    assert len(script.asked) == 21


async def test_missing_last_id_is_taken_from_the_last_item() -> None:
    """Without `last_id` the id of the last item is the cursor; without either the listing raises, and does not end."""
    script = Script(body("ab"), body("cd", more=False))
    assert len(await Pager(script).collect()) == 4
    assert script.cursors == [None, "b"]

    async def nameless(after: str | None, limit: int | None) -> PageBody[int]:
        return PageBody(entries=(1, 2), has_more=True)

    with pytest.raises(PaginationError, match="no cursor"):
        await Pager(nameless).collect()


async def test_last_id_wins_over_the_last_item() -> None:
    """Where `last_id` is not the id of the last item, the server knows better."""
    script = Script(body("ab", last="x9"), body("c", more=False))
    assert len(await Pager(script).collect()) == 3
    assert script.cursors == [None, "x9"]


@pytest.mark.parametrize(
    ("pages", "requests"),
    [(["abc", "def", ""], 3), (["abc", "de"], 2), (["a", "b", ""], 3), (["a", ""], 2), ([""], 1)],
)
async def test_missing_has_more_goes_on_until_empty_or_short(pages: list[str], requests: int) -> None:
    """Without `has_more` a listing ends with a page that is empty, or shorter than one before."""
    script = Script(*(body(ids, more=None) for ids in pages))
    assert [item.id for item in await Pager(script, limit=3).collect()] == list("".join(pages))
    assert len(script.asked) == requests


async def test_overlapping_pages_give_each_item_once() -> None:
    """An item that comes again on a later page is left out."""
    script = Script(body("abc"), body("bcd"), body("dea", more=False))
    assert [item.id for item in await Pager(script).collect()] == list("abcde")


async def test_error_comes_after_the_items_before_it() -> None:
    """An error on page three is raised after two pages of items, and says where to go on, also when it was pickled."""
    script = Script(body("ab"), body("cd"), ServerError("down", status=500))
    got, error = await ids_until_error(aiter(Pager(script)))
    assert got == list("abcd")
    assert isinstance(error, ServerError)
    assert (error.after, error.__notes__) == ("d", ["page 3 of a listing failed; to go on where it stood: after='d'"])
    assert pickle.loads(pickle.dumps(error)).after == "d"


async def test_any_error_says_where_the_listing_stood() -> None:
    """An error that is not of this package gets the note, too."""
    _, error = await ids_until_error(aiter(Pager(Script(body("ab"), ValueError("bug")))))
    assert error.__notes__ == ["page 2 of a listing failed; to go on where it stood: after='b'"]


async def test_error_on_the_first_page_is_left_as_it_is() -> None:
    """An error on the first page, refused cursors included, is raised untouched and not asked again."""
    script = Script(NotFound("no such eval", status=404))
    with pytest.raises(NotFound) as caught:
        await Pager(script, after="x")
    assert caught.value.after is None
    assert not hasattr(caught.value, "__notes__")
    assert script.cursors == ["x"]


@pytest.mark.parametrize("kind", [NotFound, BadRequest])
async def test_deleted_cursor_steps_back(kind: type[ApiError]) -> None:
    """A cursor refused on a later page is replaced by the nearest older id; nothing is lost or doubled."""
    ids = list("abcdefghij")

    async def fetch(after: str | None, limit: int | None) -> Body:
        asked.append(after)
        if after in deleted:
            raise kind("gone")
        start = ids.index(after) + 1 if after else 0
        return body(ids[start : start + 5], more=start + 5 < len(ids))

    asked: list[str | None] = []
    deleted = {"e", "d"}
    assert [item.id for item in await Pager(fetch).collect()] == ids
    assert asked == [None, "e", "d", "c", "h"]


async def test_deleted_cursors_without_end() -> None:
    """After twenty older ids that are refused as well the listing is given up, with the server's error as the cause."""
    gone = NotFound("gone", status=404)
    script = Script(body("abcdefghijklmnopqrstuvwxyz"), gone)
    got, error = await ids_until_error(aiter(Pager(script)))
    assert len(got) == 26
    assert isinstance(error, PaginationError)
    assert str(error) == "the cursor 'f' was refused, and so were 20 others"
    assert error.__cause__ is gone
    assert script.cursors == [None, *"zyxwvutsrqponmlkjihgf"]
    with pytest.raises(PaginationError, match="refused"):
        await Pager(Script(body("a"), gone)).collect()


async def test_server_that_starts_again_after_a_deleted_cursor() -> None:
    """Where a deleted cursor silently gives the first page again, the listing goes on from the nearest older id."""
    ids = list("abcdefghij")

    async def fetch(after: str | None, limit: int | None) -> Body:
        asked.append(after)
        start = ids.index(after) + 1 if after and after != "f" else 0
        return body(ids[start : start + 3], more=start + 3 < len(ids))

    asked: list[str | None] = []
    assert [item.id for item in await Pager(fetch).collect()] == ids
    assert asked == [None, "c", "f", "e", "h"]


@st.composite
def shelves(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, bool]]]:
    """How many items there are; and for each request the page's size, its overlap, and whether `last_id` is there."""
    count = draw(st.integers(0, 60))
    shape = st.tuples(st.integers(0, 7), st.integers(0, 5), st.booleans())
    return count, draw(st.lists(shape, min_size=1, max_size=30))


@given(shelf=shelves())
@settings(deadline=None, max_examples=200)
def test_every_item_once_and_in_order(shelf: tuple[int, list[tuple[int, int, bool]]]) -> None:
    """Whatever the sizes of the pages, however they overlap, with and without `last_id`: every item once, in order."""
    count, shapes = shelf
    ids = [f"i{number}" for number in range(count)]
    requests = 0

    async def fetch(after: str | None, limit: int | None) -> Body:
        nonlocal requests
        size, overlap, named = shapes[requests % len(shapes)] if requests < 19 else (7, 0, True)
        requests += 1
        start = ids.index(after) + 1 if after else 0
        end = start + size
        data = ids[max(0, start - overlap) : end] if size else []
        return body(data, more=end < count, last=data[-1] if data and named else None)

    async def main() -> list[str]:
        return [item.id async for item in Pager(fetch)]

    assert asyncio.run(main()) == ids


# --- pages that are too heavy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        *(lambda status=status: ServerError("too slow", status=status) for status in (408, 500, 502, 504)),
        lambda: DeadlineExceeded("too slow"),
        lambda: BodyTooLarge("too large", limit=10),
    ],
)
async def test_heavy_pages_are_halved(error: Callable[[], EvalsError]) -> None:
    """A page that is too heavy is asked again at half the size, which stays; nothing is lost or doubled."""
    shelf = Shelf(130)

    async def fetch(after: str | None, limit: int | None) -> Body:
        if after == "0099" and (limit or 0) > 12:
            shelf.asked.append((after, limit))
            raise error()
        return await shelf(after, limit)

    got = await Pager(fetch, shrink=too_heavy).collect()
    assert [item.id for item in got] == shelf.ids
    assert shelf.asked == [
        (None, 100),
        ("0099", 100),
        ("0099", 50),
        ("0099", 25),
        ("0099", 12),
        ("0111", 12),
        ("0123", 12),
    ]


async def test_a_page_of_one_is_not_halved() -> None:
    """When a single item is too heavy the error is raised; awaiting starts from the server's page size of 20."""
    script = Script(ServerError("too slow", status=504))
    with pytest.raises(ServerError):
        await Pager(script, shrink=too_heavy)
    assert script.asked == [(None, None), (None, 10), (None, 5), (None, 2), (None, 1)]


@pytest.mark.parametrize("error", [ServerError("x", status=503), NotFound("x", status=404), ValueError("x")])
async def test_other_errors_do_not_shrink(error: Exception) -> None:
    """An error that a smaller page does not cure is raised as it is; so is any error where no `shrink` is given."""
    script = Script(error)
    with pytest.raises(type(error)):
        await Pager(script, shrink=too_heavy)
    assert len(script.asked) == 1
    with pytest.raises(ServerError):
        await Pager(Script(ServerError("too slow", status=504)))


async def test_short_pages_after_halving_are_not_the_end() -> None:
    """Without `has_more`, a page of the reduced size is full, not short."""
    shelf = Shelf(90)

    async def fetch(after: str | None, limit: int | None) -> Body:
        if after is not None and (limit or 0) > 20:
            raise ServerError("too slow", status=504)
        return attrs.evolve(await shelf(after, limit), has_more=None)

    got = await Pager(fetch, limit=40, shrink=too_heavy).collect()
    assert [item.id for item in got] == shelf.ids


# --- types --------------------------------------------------------------------------------------------------------


async def test_types_go_through() -> None:
    """The item's type is known to type checkers in every way of using a listing."""
    fetch: Callable[[str | None, int | None], Awaitable[Body]] = Shelf(3)
    pager = Pager(fetch, limit=2)
    assert_type(await pager, Page[Item])
    assert_type(await pager.collect(), list[Item])
    assert_type([item async for item in await pager], list[Item])
    assert_type([page async for page in pager.pages()], list[Page[Item]])
    assert_type([page[0] async for page in (await pager).iter_pages()], list[Item])

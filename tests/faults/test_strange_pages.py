"""Listings of a server that lost its way: nothing is left out in silence, nothing comes twice, nothing goes on for
ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

import pytest
from faults.harness import RUN, Query, pages, text_of, with_faults
from transport.faultserver import Scene, answer, raw

from evals_async import DecodeError, EvalRun, EvalsClient, PaginationError, ServerError


def run_of(name: str) -> dict[str, object]:
    return {**RUN, "id": name}


def page(names: str, **envelope: object) -> dict[str, object]:
    """A page of runs with those one-letter ids. Its last id and `has_more: true` stand unless they are given."""
    whole = {"object": "list", "data": [run_of(name) for name in names], "last_id": names[-1:] or None}
    return {**whole, "has_more": True, **envelope}


def bare(names: str, *missing: str, **envelope: object) -> dict[str, object]:
    """A page without some fields of its envelope."""
    return {name: value for name, value in page(names, **envelope).items() if name not in missing}


def by_cursor(**answers: object) -> Scene:
    """Answers by the cursor asked for; `start` is the answer to none."""
    return pages(lambda query: answers[query.get("after", "start")])


async def walked(client: EvalsClient, into: list[str], limit: int | None = None) -> None:
    """Put the ids of all runs into the list, as they come."""
    async for run in client.evals.runs.list("eval_1", limit=limit):
        into.append(run.id)  # noqa: PERF401  # what comes before an error counts too


async def ended(scene: Scene, error: type[Exception], **options: object) -> tuple[str, int, Exception]:
    """The ids before the error in which a listing ends, the requests it took, and the error."""
    found: list[str] = []
    async with with_faults(scene, **options) as (server, client):
        with pytest.raises(error) as caught:
            await walked(client, found)
        return "".join(found), len(server.seen), caught.value


async def listed(scene: Scene, limit: int | None = None) -> tuple[str, int]:
    """The ids of a listing that ends well, and the requests it took."""
    found: list[str] = []
    async with with_faults(scene) as (server, client):
        await walked(client, found, limit)
        return "".join(found), len(server.seen)


CYCLES: list[tuple[str, Sequence[str], str]] = [
    ("one page for ever", ["ab"], "ab"),
    ("two", ["ab", "cd"], "abcd"),
    ("three", ["ab", "cd", "ef"], "abcdef"),
]


@pytest.mark.parametrize(("name", "cycle", "items"), CYCLES, ids=[row[0] for row in CYCLES])
async def test_pages_that_come_round(name: str, cycle: Sequence[str], items: str) -> None:
    """P01: a PaginationError after two requests too many at most, and after every item that there was."""
    asked: list[str] = []

    def turn(query: Query) -> object:
        asked.append(query.get("after", ""))
        return page(cycle[(len(asked) - 1) % len(cycle)])

    found, requests, error = await ended(pages(turn), PaginationError)
    assert items == found
    assert requests <= len(cycle) + 2
    assert isinstance(error, PaginationError)
    assert error.after is not None


async def test_empty_pages_do_not_end_a_listing() -> None:
    """P02: has_more without data: the listing goes on, with the page's last id or with the same cursor."""
    turns = [page("ab"), page("", last_id="q"), page(""), page(""), page("cd", has_more=False)]
    asked: list[str | None] = []

    def turn(query: Query) -> object:
        asked.append(query.get("after"))
        return turns[len(asked) - 1]

    assert ("abcd", 5) == await listed(pages(turn))
    assert [None, "b", "q", "q", "q"] == asked


async def test_empty_pages_for_ever() -> None:
    """P02: twenty in a row are an error."""
    found, requests, error = await ended(by_cursor(start=page("ab"), b=page("")), PaginationError)
    assert ("ab", 21) == (found, requests)
    assert "20 pages" in str(error)


@pytest.mark.parametrize("missing", [True, False])
async def test_a_page_without_its_last_id(missing: bool) -> None:
    """P03: the last item's id takes its place; the listing does not end in silence."""
    first = bare("ab", "last_id") if missing else page("ab", last_id=None)
    assert ("abcd", 2) == await listed(by_cursor(start=first, b=page("cd", has_more=False)))


@pytest.mark.parametrize("missing", [True, False])
async def test_a_listing_that_does_not_say_whether_there_is_more(missing: bool) -> None:
    """P04: it goes on until a page is empty, or shorter than those before it."""

    def silent(names: str) -> dict[str, object]:
        return bare(names, "has_more") if missing else page(names, has_more=None)

    assert ("abcde", 3) == await listed(by_cursor(start=silent("ab"), b=silent("cd"), d=silent("e")))
    assert ("abcd", 3) == await listed(by_cursor(start=silent("ab"), b=silent("cd"), d=silent("")))


@pytest.mark.parametrize("word", ["false", "true", 0, 1, []])
async def test_a_has_more_that_is_no_boolean(word: object) -> None:
    """P04: it is refused, with the place where it stands."""
    found, requests, error = await ended(by_cursor(start=page("ab", has_more=word)), DecodeError)
    assert ("", 2) == (found, requests)
    assert isinstance(error, DecodeError)
    assert "has_more" in error.at


async def test_the_pages_last_id_wins() -> None:
    """P05: where it is not the last item's, it is the cursor all the same."""
    assert ("abcd", 2) == await listed(by_cursor(start=page("ab", last_id="z"), z=page("cd", has_more=False)))


async def test_pages_that_overlap() -> None:
    """P06: each item comes once."""
    scene = by_cursor(start=page("abc"), c=page("bcd"), d=page("cde", has_more=False))
    assert ("abcde", 3) == await listed(scene)


async def test_an_error_on_a_later_page() -> None:
    """P07: it comes after the items before it, and says where to go on; from there nothing is lost."""
    down = True

    def turn(query: Query) -> object:
        if "after" not in query:
            return page("ab")
        return (500, {"error": {"message": "later"}}) if down else page("cd", has_more=False)

    found: list[str] = []
    async with with_faults(pages(turn)) as (_, client):
        with pytest.raises(ServerError) as caught:
            await walked(client, found)
        assert (["a", "b"], "b") == (found, caught.value.after)
        down = False
        rest = [run.id async for run in client.evals.runs.list("eval_1", after=caught.value.after)]
    assert ["c", "d"] == rest


@pytest.mark.parametrize("status", [404, 400])
async def test_the_cursors_object_was_deleted(status: int) -> None:
    """P08: the listing steps back to an older id, and still gives each item once."""
    gone = (status, {"error": {"message": "no such cursor"}})
    scene = by_cursor(start=page("abc"), c=gone, b=page("cd", has_more=False))
    assert ("abcd", 3) == await listed(scene)


async def test_every_cursor_was_deleted() -> None:
    """P08: a PaginationError, after the items that there were."""
    gone: object = 404, {"error": None}
    scene = pages(lambda query: gone if "after" in query else page("abc"))
    found, requests, _ = await ended(scene, PaginationError)
    assert ("abc", 4) == (found, requests)


STALLS = raw(b"", then="stall")
FIRST = answer(200, text_of(page("abc")))


Ahead: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until the page ahead was asked for."""


async def break_off(client: EvalsClient, ahead: Ahead) -> None:
    async for _ in client.evals.runs.list("eval_1"):
        await ahead()
        break


async def close_early(client: EvalsClient, ahead: Ahead) -> None:
    runs = aiter(client.evals.runs.list("eval_1"))
    await anext(runs)
    await ahead()
    await runs.aclose()


async def be_cancelled(client: EvalsClient, ahead: Ahead) -> None:
    async def consume() -> None:
        async for _ in client.evals.runs.list("eval_1"):
            pass

    task = asyncio.create_task(consume())
    await ahead()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def raise_an_error(client: EvalsClient, ahead: Ahead) -> None:
    async def consume() -> None:
        async for run in client.evals.runs.list("eval_1"):
            await ahead()
            raise LookupError(run.id)

    with pytest.raises(LookupError):
        await consume()


@pytest.mark.parametrize("leave", [break_off, close_early, be_cancelled, raise_an_error])
async def test_leaving_a_listing(leave: Callable[[EvalsClient, Ahead], Awaitable[None]]) -> None:
    """P09: the request ahead ends with its connection, before the client is closed, and no other follows."""
    async with with_faults(FIRST, STALLS) as (server, client):

        async def ahead() -> None:
            while len(server.seen) < 2:  # what is seen is a list, without an event
                await asyncio.sleep(0.001)

        await leave(client, ahead)
        assert await server.all_closed()
        await asyncio.sleep(0.02)
        assert 2 == len(server.seen)
        assert 0 == client.statistics().in_flight


async def test_a_listing_goes_on_after_a_bad_moment() -> None:
    """Each page has the retries of any other read: a reset, a truncated page and a 503 in between lose nothing."""
    last = text_of(page("d", has_more=False))
    scenes = (
        FIRST,
        raw(b"", then="rst"),
        answer(200, text_of(page("d"))[:20], length=999, then="fin"),
        answer(200, last),
    )
    found: list[EvalRun] = []
    async with with_faults(*scenes) as (server, client):
        found.extend([run async for run in client.evals.runs.list("eval_1")])
        assert 4 == len(server.seen)
    assert list("abcd") == [run.id for run in found]


ODD = ("a/b", "a?after=b", "#", "%2F", "&limit=1", "=", "+", ";", "é", "😀", "http://x/")


async def test_cursors_with_characters_of_a_query() -> None:
    """I02: a cursor stays one value, and changes no other parameter."""
    async with with_faults(pages(lambda query: page("", has_more=False))) as (server, client):
        for cursor in ODD:
            await client.evals.runs.list("eval_1", after=cursor, limit=7)
            query = dict(parse_qsl(urlsplit(server.seen[-1].target).query, strict_parsing=True))
            assert {"after": cursor, "limit": "7"} == query

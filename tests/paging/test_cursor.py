"""The rules by which a listing goes on, as a table; and the pager and the export follow the same ones."""

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from evals_async._paging.listing import PageBody
from evals_async._paging.pages import Pager
from evals_async.archive.export.cursor import cursor_after, cursor_of
from evals_async.archive.export.listing_page import ListingPage
from evals_async.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    EvalsError,
    NotFound,
    PaginationError,
    ServerError,
)
from evals_async.pagination import Cursor, may_step_back, next_cursor, older_cursor, smaller_page, too_heavy


BEGUN = Cursor(after="c", limit=3, pages=1, fullest=3, recent=("a", "b", "c"))
NO_CURSOR = "the server says that there is more, but the page has no cursor"
STUCK = "the listing does not move on: 20 pages in a row brought nothing new"
ROUND = "the listing does not move on: what came after 'c' had come before"


@attrs.frozen
class Answer:
    """A page: its ids, those of them that are new, and what the server says about what follows."""

    ids: Sequence[str | None]
    fresh: Sequence[str | None]
    last_id: str | None = None
    has_more: bool | None = True


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        (Answer("def", "def"), {"after": "f", "recent": "abcdef", "moved": True}),
        (Answer("def", "def", last_id="x9"), {"after": "x9", "recent": "abcdef", "moved": True}),
        (Answer("cdef", "def"), {"after": "f", "recent": "abcdef", "moved": True, "fullest": 4}),
        (Answer("de", "de"), {"after": "e", "recent": "abcde", "moved": True}),
        (Answer("def", "def", has_more=None), {"after": "f", "recent": "abcdef", "moved": True}),
        (Answer([None, "d"], [None, "d"]), {"after": "d", "recent": "abcd", "moved": True}),
        (Answer([], []), {"stale": 1}),
        (Answer([], [], last_id="f"), {"after": "f", "stale": 1}),
        (Answer("abc", ""), {"after": "b", "stale": 1, "repeated": "a"}),
        (Answer("abc", "", last_id="c"), {"after": "b", "stale": 1, "repeated": "a"}),
        (Answer("abc", "", has_more=None), {"after": "b", "stale": 1, "repeated": "a"}),
    ],
)
def test_where_a_listing_goes_on(answer: Answer, changes: dict[str, Any]) -> None:
    """Each row of the table of rules for a listing that goes on."""
    onward = next_cursor(BEGUN, answer.ids, answer.fresh, last_id=answer.last_id, has_more=answer.has_more)
    if "recent" in changes:
        changes["recent"] = tuple(changes["recent"])
    assert onward == attrs.evolve(BEGUN, pages=2, **changes)


def test_the_first_page_may_be_short() -> None:
    """Where `has_more` is missing, a first page that is shorter than asked for proves nothing."""
    onward = next_cursor(Cursor.at(limit=100), "ab", "ab", last_id=None, has_more=None)
    assert onward == Cursor(after="b", limit=100, pages=1, fullest=2, recent=("a", "b"))


def test_a_smaller_page_is_not_a_short_one() -> None:
    """Where `has_more` is missing, a page that is as full as it was asked for does not end the listing."""
    halved = attrs.evolve(BEGUN, limit=2)
    onward = next_cursor(halved, "de", "de", last_id=None, has_more=None)
    assert onward == attrs.evolve(halved, after="e", pages=2, recent=tuple("abcde"), moved=True)


def test_a_page_that_repeats_may_be_an_answer_to_deleted_cursors() -> None:
    """A server that went on after a cursor, and then begins again, is asked after one older id after the other; the
    first one that is still there leads on. Another page in between is a circle.
    """
    cursor: Cursor | None = attrs.evolve(BEGUN, moved=True)
    asked: list[str | None] = []
    for _ in range(2):
        assert cursor is not None
        cursor = next_cursor(cursor, "xyz", "", last_id=None, has_more=True)
        assert cursor is not None
        asked.append(cursor.after)
    assert asked == ["b", "a"]
    assert cursor is not None
    onward = next_cursor(cursor, "bcd", "d", last_id=None, has_more=True)
    assert onward is not None
    assert (onward.after, onward.stale, onward.repeated, onward.fault) == ("d", 0, None, None)
    circle = next_cursor(cursor, "uvw", "", last_id=None, has_more=True)
    assert circle is not None
    assert circle.fault == "the listing does not move on: what came after 'a' had come before"


@pytest.mark.parametrize(
    "answer",
    [
        Answer("de", "de", has_more=False),
        Answer("de", "de", last_id="e", has_more=False),
        Answer([], [], has_more=False),
        Answer("abc", "", has_more=False),
        Answer([], [], has_more=None),
        Answer([], [], last_id="c", has_more=None),
        Answer("de", "de", has_more=None),
    ],
)
def test_where_a_listing_ends(answer: Answer) -> None:
    """Only `has_more: false` ends a listing, or an empty or short page where `has_more` is missing."""
    assert next_cursor(BEGUN, answer.ids, answer.fresh, last_id=answer.last_id, has_more=answer.has_more) is None


@pytest.mark.parametrize(
    ("cursor", "answer", "fault"),
    [
        (BEGUN, Answer([None, None], [None, None]), NO_CURSOR),
        (attrs.evolve(BEGUN, stale=19), Answer([], []), STUCK),
        (attrs.evolve(BEGUN, stale=19, moved=True), Answer("abc", ""), STUCK),
        (attrs.evolve(BEGUN, stale=1, repeated="a"), Answer("abc", ""), ROUND),
        (attrs.evolve(BEGUN, stale=1, repeated="a", moved=True), Answer("xyz", ""), ROUND),
    ],
)
def test_where_a_listing_is_broken(cursor: Cursor, answer: Answer, fault: str) -> None:
    """A page without a cursor, the twentieth answer without news, a page that comes round: the cursor says why it leads
    nowhere.
    """
    onward = next_cursor(cursor, answer.ids, answer.fresh, last_id=answer.last_id, has_more=answer.has_more)
    assert onward is not None
    assert onward.fault == fault
    with pytest.raises(PaginationError) as caught:
        onward.check()
    assert caught.value.after == onward.after


def test_the_nearest_older_id() -> None:
    """A cursor that is refused is replaced by one older id after the other, while there are some, twenty at most."""
    older = older_cursor(BEGUN)
    assert older == attrs.evolve(BEGUN, after="b", stale=1)
    oldest = older_cursor(older)
    assert oldest == attrs.evolve(BEGUN, after="a", stale=2)
    assert older_cursor(oldest).fault == "the cursor 'a' was refused, and so were 2 others"
    assert older_cursor(attrs.evolve(BEGUN, after="x9")).after == "c"
    assert older_cursor(attrs.evolve(BEGUN, stale=20)).fault == "the cursor 'c' was refused, and so were 20 others"
    only = attrs.evolve(BEGUN, recent=("c",))
    assert older_cursor(only).fault == "the cursor 'c' was refused"


def test_a_refusal_of_the_first_page_is_about_the_listing() -> None:
    """At its beginning there is nothing to step back to, whether it begins at the first object or after an id."""
    assert may_step_back(BEGUN)
    assert not may_step_back(Cursor.at(limit=3))
    assert not may_step_back(Cursor.at("x", 3))
    assert not may_step_back(attrs.evolve(BEGUN, after=None))


def test_only_the_last_ids_are_remembered() -> None:
    """However long a listing is, its cursor stays small."""
    cursor: Cursor | None = Cursor.at(limit=100)
    for page in range(50):
        assert cursor is not None
        ids = [f"{page}-{number}" for number in range(100)]
        cursor = next_cursor(cursor, ids, ids, last_id=None, has_more=True)
    assert cursor is not None
    assert cursor.recent == tuple(f"49-{number}" for number in range(60, 100))
    assert len(cursor.text()) < 1000


@pytest.mark.parametrize(
    ("limit", "came", "then"), [(100, None, 50), (None, None, 10), (1, None, 1), (100, 60, 30), (50, 80, 25)]
)
def test_half_the_page(limit: int | None, came: int | None, then: int) -> None:
    """Half of what was asked for or came; where nothing was asked for, half of the server's twenty."""
    assert smaller_page(Cursor.at("x", limit), came) == Cursor.at("x", then)


@pytest.mark.parametrize(
    ("error", "heavy"),
    [
        *((ServerError("x", status=status), True) for status in (408, 500, 502, 504)),
        (ServerError("x", status=503), False),
        (DeadlineExceeded("x"), True),
        (BodyTooLarge("x", limit=1), True),
        (NotFound("x", status=404), False),
    ],
)
def test_what_a_smaller_page_may_cure(error: EvalsError, heavy: bool) -> None:
    """Statuses and errors that tell that a page was too much for the server, or for us."""
    assert too_heavy(error) is heavy


def test_no_page_is_too_large_before_it_was_asked_for() -> None:
    """A call that waits for the limiter until its deadline tells nothing about the size of the page."""
    error = DeadlineExceeded("the rate limit delayed requests until the deadline of this call")
    error.attempts = 0
    assert not too_heavy(error)


texts = st.none() | st.text(max_size=5)


@given(
    after=texts,
    limit=st.none() | st.integers(1, 1000),
    start=texts,
    pages=st.integers(0, 9),
    stale=st.integers(0, 20),
    fullest=st.integers(0, 100),
    repeated=texts,
    moved=st.booleans(),
    recent=st.lists(st.text(max_size=5), max_size=5).map(tuple),
)
def test_a_cursor_is_kept_as_text(**fields: Any) -> None:
    """What is written into the store is read again by another process."""
    cursor = Cursor(**fields)
    assert Cursor.of(cursor.text()) == cursor


def test_what_is_no_cursor_is_refused() -> None:
    """A text of something else is not taken for the beginning of a listing."""
    with pytest.raises(ValueError, match="JSON object"):
        Cursor.of("[]")
    with pytest.raises(ValueError, match="Expecting property name"):
        Cursor.of("{")


def test_an_export_asks_for_large_pages() -> None:
    """Listings begin with the API's largest page; only files have a larger one."""
    assert cursor_of(None, "runs") == Cursor.at(limit=100)
    assert cursor_of(None, "files") == Cursor.at(limit=1000)
    assert cursor_of(BEGUN.text(), "runs") == BEGUN


# --- the pager and the export beside each other -----------------------------------------------------------------------


@attrs.frozen
class Item:
    id: str


@attrs.define
class Server:
    """A listing of `count` items whose every answer is odd in some way, by a script: the page's size, how many items
    before the cursor come again, whether `last_id` is there, and whether the cursor is refused or ignored.
    """

    count: int
    script: list[tuple[int, int, bool, str]]
    tells_more: bool
    asked: list[str | None] = attrs.Factory(list[str | None])

    def answer(self, after: str | None) -> tuple[list[str], str | None, bool | None]:
        size, overlap, named, fault = self.script[len(self.asked) % len(self.script)]
        self.asked.append(after)
        if after is not None and fault in ("404", "400"):
            raise BadRequest("x", status=400) if fault == "400" else NotFound("x", status=404)
        start = 0 if after is None or fault == "restart" else int(after) + 1
        end = min(self.count, start + size)
        ids = [f"{number}" for number in range(max(0, start - overlap), end)] if size else []
        return ids, ids[-1] if ids and named else None, end < self.count if self.tells_more else None


async def by_pager(server: Server) -> tuple[list[str], str]:
    async def fetch(after: str | None, limit: int | None) -> PageBody[Item]:
        ids, last_id, has_more = server.answer(after)
        return PageBody(entries=tuple(map(Item, ids)), last_id=last_id, has_more=has_more)

    got: list[str] = []
    try:
        async for item in Pager(fetch):
            got.append(item.id)  # noqa: PERF401  # a comprehension would lose them
    except (PaginationError, ApiError) as error:
        return got, type(error).__name__
    return got, "ended"


def by_export(server: Server) -> tuple[list[str], str]:
    """As the export does it, with the cursor kept as text between any two requests."""
    got: dict[str, None] = {}
    text: str | None = None
    while True:
        cursor = cursor_of(text, "runs")
        try:
            ids, last_id, has_more = server.answer(cursor.after)
        except (NotFound, BadRequest) as error:
            if not may_step_back(cursor):
                return list(got), type(error).__name__
            onward: Cursor | None = older_cursor(cursor)
        else:
            page = ListingPage(
                rows=(), bodies=(), damaged=(), ids=tuple(ids), last_id=last_id, has_more=has_more, size=0
            )
            onward = cursor_after(cursor, page, got.keys() & set(ids))
            got.update(dict.fromkeys(ids))
        if onward is None:
            return list(got), "ended"
        if onward.fault is not None:
            return list(got), "PaginationError"
        text = onward.text()


faults = st.sampled_from(["", "", "", "404", "400", "restart"])
scripts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.booleans(), faults), min_size=1, max_size=12)


@given(count=st.integers(0, 40), script=scripts, tells_more=st.booleans())
@settings(deadline=None, max_examples=300)
def test_the_pager_and_the_export_ask_the_same(
    count: int, script: list[tuple[int, int, bool, str]], tells_more: bool
) -> None:
    """Whatever the server does: the same requests, the same items in the same order, the same end. And a listing that
    ends where the server says so is whole.
    """
    one, other = Server(count, script, tells_more), Server(count, script, tells_more)
    got = asyncio.run(by_pager(one))
    assert got == by_export(other)
    assert one.asked == other.asked
    if got[1] == "ended" and tells_more:
        assert sorted(map(int, got[0])) == list(range(count))

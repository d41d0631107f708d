"""Rows in and out: exact texts, keys, pages, contents."""

import json
from collections.abc import AsyncIterator
from itertools import chain

import pytest

from evals_async._json import JSONObject, as_object, parse
from evals_async._store import Database, Row, UnknownCursor, json_text, rows


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with await Database.open() as opened:
        yield opened


async def put(database: Database, kind: rows.Kind, *bodies: JSONObject) -> None:
    await database.atomic(rows.put, kind, [Row.of(kind, body) for body in bodies])


def run(id: str, created_at: int = 1, *, eval_id: str = "eval_1", status: str = "completed") -> dict[str, object]:
    return {"id": id, "eval_id": eval_id, "created_at": created_at, "status": status}


@pytest.mark.parametrize(
    "body",
    [
        {"id": "eval_1", "created_at": 2**63, "n": -(2**70)},
        {"id": "eval_1", "created_at": 1.5, "n": 1e300},
        {"id": "eval_1", "created_at": True},
        {"id": "eval_1", "created_at": None, "name": None},
        {"id": "eval_1", "name": "a\u0000b"},
        {"id": "eval_1", "name": "lone \ud83d surrogate"},
        {"id": "eval_1", "name": "😀 ä", "_x": [None, {"": 0}]},
        {"id": "ev\ud800al", "created_at": 1},
        {"id": "ev\u0000al' OR 1=1 --", "created_at": 1},
    ],
)
async def test_any_json_object_comes_back_as_it_was(database: Database, body: JSONObject) -> None:
    """Integers of any size, NUL and lone surrogates are stored safely, in ids too."""
    await put(database, "evals", body)
    text = await database.call(rows.get, "evals", (str(body["id"]),))
    assert text is not None
    assert parse(text.encode()) == body
    assert await database.call(rows.count, "evals") == 1


async def test_a_text_is_kept_to_the_byte(database: Database) -> None:
    """The text that was received is stored as it is: its spaces, its order of keys, its numbers."""
    text = '{ "id":"eval_1",\n "x": 1.50, "y":"\\u00e4 ä", "created_at": 7 }'
    body = as_object(parse(text.encode()))
    assert body is not None
    await database.atomic(rows.put, "evals", [Row.of("evals", body, text=text)])
    assert await database.call(rows.get, "evals", ("eval_1",)) == text


async def test_putting_again_replaces(database: Database) -> None:
    """A second row of the same key takes the place of the first, in the filters too."""
    await put(database, "runs", run("r", status="queued"))
    await put(database, "runs", run("r", status="completed"))
    assert await database.call(rows.count, "runs", ("eval_1",), label="queued") == 0
    assert await database.call(rows.count, "runs", ("eval_1",), label="completed") == 1


async def test_equal_ids_under_other_parents_are_other_rows(database: Database) -> None:
    """Output items that are counted anew in every run, and runs of the same id in two evals, do not meet."""
    items = [{"id": "1", "run_id": run_id, "eval_id": "eval_1", "n": run_id} for run_id in ("r1", "r2")]
    await put(database, "output_items", *items)
    await put(database, "runs", run("r", eval_id="eval_1"), run("r", eval_id="eval_2"))
    assert await database.call(rows.count, "output_items") == 2
    assert await database.call(rows.count, "runs") == 2
    assert await database.call(rows.get, "output_items", ("eval_1", "r2", "1")) == json_text(items[1])


async def test_parents_can_be_told(database: Database) -> None:
    """An object that does not know where it belongs is filed where its reader found it."""
    row = Row.of("output_items", {"id": "1", "run_id": None}, parents=("eval_1", "evalrun_1"))
    await database.atomic(rows.put, "output_items", [row])
    assert await database.call(rows.get, "output_items", ("eval_1", "evalrun_1", "1")) == '{"id":"1","run_id":null}'


@pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": 5}, {"id": "r", "eval_id": None}])
def test_an_object_without_an_id_is_no_row(body: JSONObject) -> None:
    """What cannot be found again is refused, and the message shows it."""
    with pytest.raises(ValueError, match="lacks eval_id or id"):
        Row.of("runs", body)


async def ids_of_pages(database: Database, limit: int, **wanted: str) -> list[list[str]]:
    found: list[list[str]] = []
    after: str | None = None
    while True:
        page = await database.call(
            rows.page,
            "runs",
            ("eval_1",),
            after=after,
            limit=limit,
            order="desc" if wanted.get("order") == "desc" else "asc",
            order_by="updated_at" if wanted.get("order_by") == "updated_at" else "created_at",
            label=wanted.get("label"),
        )
        found.append(list(page.ids))
        if not page.has_more:
            return found
        after = page.ids[-1]


async def test_pages_hold_every_row_once_in_order(database: Database) -> None:
    """Ordered by time and then by id, forwards and backwards, whatever the size of the page; ties do not matter."""
    await put(database, "runs", *(run(f"r{n}", created_at=n // 3) for n in range(9)), run("x", eval_id="eval_2"))
    everything = [f"r{n}" for n in range(9)]
    for limit in (1, 2, 4, 9, 10):
        assert list(chain(*await ids_of_pages(database, limit))) == everything
        assert list(chain(*await ids_of_pages(database, limit, order="desc"))) == everything[::-1]
    assert await ids_of_pages(database, 4) == [everything[:4], everything[4:8], everything[8:]]


async def test_pages_can_be_filtered_and_ordered_by_change(database: Database) -> None:
    """A label keeps some rows; the order can follow the last change."""
    made = [run(f"r{n}", status="failed" if n % 2 else "completed") for n in range(4)]
    changed = [Row.of("runs", body, updated_at=10 - n) for n, body in enumerate(made)]
    await database.atomic(rows.put, "runs", changed)
    assert await ids_of_pages(database, 1, label="failed") == [["r1"], ["r3"]]
    assert await ids_of_pages(database, 9, order_by="updated_at") == [["r3", "r2", "r1", "r0"]]


async def test_a_cursor_is_a_row_of_the_same_parents(database: Database) -> None:
    """A cursor that is gone, or belongs elsewhere, is an error, not the beginning; one that left the filter works."""
    await put(database, "runs", run("r1", status="queued"), run("r2"), run("x", eval_id="eval_2"))
    for cursor in ("gone", "x", "' OR 1=1 --"):
        with pytest.raises(UnknownCursor):
            await database.call(rows.page, "runs", ("eval_1",), after=cursor, limit=5)
    page = await database.call(rows.page, "runs", ("eval_1",), after="r1", limit=5, label="completed")
    assert page.ids == ("r2",)


async def test_deleting_takes_what_is_below(database: Database) -> None:
    """With an eval go its runs and their items; with a run go its items; nothing else goes."""
    item = {"id": "1", "run_id": "r1", "eval_id": "eval_1"}
    await put(database, "evals", {"id": "eval_1"}, {"id": "eval_2"})
    await put(database, "runs", run("r1"), run("r2"), run("r1", eval_id="eval_2"))
    await put(database, "output_items", item, {**item, "run_id": "r2"}, {**item, "eval_id": "eval_2"})
    assert await database.atomic(rows.delete, "runs", ("eval_1", "r1")) is True
    assert await database.atomic(rows.delete, "runs", ("eval_1", "r1")) is False
    assert await database.call(rows.count, "output_items") == 2
    assert await database.atomic(rows.delete, "evals", ("eval_1",)) is True
    assert [await database.call(rows.count, kind) for kind in rows.TABLES] == [1, 1, 1, 0]


async def test_equal_contents_are_kept_once(database: Database) -> None:
    """Contents are stored by their hash, outlive one of two files that share them, and go with the last."""
    await put(database, "files", {"id": "f1", "purpose": "evals"}, {"id": "f2", "purpose": "evals"}, {"id": "f3"})
    hashes = {await database.atomic(rows.put_content, id, b"\x00{}\n") for id in ("f1", "f2")}
    assert len(hashes) == 1
    assert await database.call(lambda c: c.execute("SELECT count(*) FROM file_contents").fetchone()) == (1,)
    await database.atomic(rows.delete, "files", ("f1",))
    assert await database.call(rows.get_content, "f2") == b"\x00{}\n"
    assert await database.call(rows.get_content, "f3") is None
    await database.atomic(rows.delete, "files", ("f2",))
    assert await database.call(lambda c: c.execute("SELECT count(*) FROM file_contents").fetchone()) == (0,)


async def test_a_file_read_again_keeps_its_content(database: Database) -> None:
    """Replacing a file's row leaves its bytes; bytes of a file that is not there are refused."""
    await put(database, "files", {"id": "f1", "purpose": "evals"})
    await database.atomic(rows.put_content, "f1", b"rows")
    await put(database, "files", {"id": "f1", "purpose": "evals", "status": "processed"})
    assert await database.call(rows.get_content, "f1") == b"rows"
    with pytest.raises(ValueError, match="no file f9"):
        await database.atomic(rows.put_content, "f9", b"rows")


def test_json_text_is_ascii_and_exact() -> None:
    """The text of a value is the value, in ASCII, and what is no JSON has none."""
    value = {"a": [1.0, 2**80, "ä\ud800\u0000", None, True]}
    assert json_text(value).isascii()
    assert json.loads(json_text(value)) == value
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))

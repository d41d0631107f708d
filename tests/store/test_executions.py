"""What is left to do of runs, the sums of what is done, stored answers, and files in pieces."""

from collections import Counter
from collections.abc import Iterator
from sqlite3 import Connection

import pytest

from evals_async._store import Row, rows
from evals_async._store.answers import StoredAnswer, next_answers, put_answer, runs_of_type
from evals_async._store.database import connect
from evals_async._store.executions import (
    FinishedRow,
    add_execution,
    add_rows,
    clear_rows,
    end_execution,
    finish_rows,
    next_rows,
    pending_execution,
    pending_executions,
    set_total,
    sums_of,
)


RUN = ("eval_1", "run_1")


@pytest.fixture
def store() -> Iterator[Connection]:
    opened = connect(None, read_only=False)
    yield opened
    opened.close()


def finished(number: int, **counts: int) -> FinishedRow:
    body = {"id": f"item_{number}", "eval_id": RUN[0], "run_id": RUN[1], "created_at": number, "status": "pass"}
    sums = Counter({("items", "", field): value for field, value in counts.items()})
    return FinishedRow(RUN, number, Row.of("output_items", body), sums)


def test_a_row_is_left_to_do_until_it_is_finished(store: Connection) -> None:
    """Its item is written, its sums are added and it is gone; the others stay in their order."""
    add_rows(store, RUN, [(number, f'{{"n":{number}}}') for number in range(5)])
    finish_rows(store, [finished(1, passed=1), finished(3, passed=1, failed=2)])
    assert next_rows(store, RUN, -1, 10) == [(0, '{"n":0}'), (2, '{"n":2}'), (4, '{"n":4}')]
    assert next_rows(store, RUN, 0, 1) == [(2, '{"n":2}')]
    assert sums_of(store, RUN) == {("items", "", "passed"): 2, ("items", "", "failed"): 2}
    assert rows.count(store, "output_items", RUN) == 2


def test_a_row_is_finished_once(store: Connection) -> None:
    """A second item for the same row, in the same transaction or later, is left out, with its sums."""
    add_rows(store, RUN, [(0, "{}")])
    finish_rows(store, [finished(0, passed=1), finished(0, passed=1)])
    finish_rows(store, [finished(0, passed=1), finished(7, passed=1)])
    assert sums_of(store, RUN) == {("items", "", "passed"): 1}
    assert rows.count(store, "output_items", RUN) == 1


def test_runs_wait_in_the_order_in_which_they_began(store: Connection) -> None:
    """With the number of their rows once these are put down, until they end."""
    add_execution(store, RUN, 2.0)
    add_execution(store, ("eval_1", "run_0"), 1.0)
    set_total(store, RUN, 3)
    assert [(each.run[1], each.total) for each in pending_executions(store)] == [("run_0", None), ("run_1", 3)]
    add_rows(store, RUN, [(0, "{}")])
    end_execution(store, RUN)
    assert pending_execution(store, RUN) is None
    assert next_rows(store, RUN, -1, 10) == []
    assert sums_of(store, RUN) == {}


def test_deleting_takes_what_was_left_to_do(store: Connection) -> None:
    """A run, or an eval with its runs, leaves nothing behind."""
    for eval_id, run_id in (RUN, ("eval_1", "run_2"), ("eval_2", "run_1")):
        add_execution(store, (eval_id, run_id), 1.0)
        add_rows(store, (eval_id, run_id), [(0, "{}"), (1, "{}")])
    finish_rows(store, [finished(0, passed=1)])
    rows.delete(store, "runs", RUN)
    assert (next_rows(store, RUN, -1, 10), sums_of(store, RUN)) == ([], {})
    rows.delete(store, "evals", ("eval_1",))
    assert [each.run for each in pending_executions(store)] == [("eval_2", "run_1")]
    clear_rows(store, ("eval_2", "run_1"))
    assert next_rows(store, ("eval_2", "run_1"), -1, 10) == []


def test_stored_answers_come_oldest_first_and_by_kind(store: Connection) -> None:
    """Pages go on after a time and an id; answers of one second are told apart by their ids."""
    for name, created_at in (("b", 5), ("a", 5), ("c", 1)):
        put_answer(store, StoredAnswer(name, "completions", "m", created_at, "{}"))
    put_answer(store, StoredAnswer("r", "responses", "m", 3, "{}"))
    assert [each.id for each in next_answers(store, "completions", (-1, ""), 2)] == ["c", "a"]
    assert [each.id for each in next_answers(store, "completions", (5, "a"), 2)] == ["b"]
    assert [each.id for each in next_answers(store, "responses", (-1, ""), 9)] == ["r"]


def test_a_file_is_read_in_pieces(store: Connection) -> None:
    """Its size, any piece of it, nothing beyond its end; a file that is not there is told."""
    rows.put(store, "files", [Row.of("files", {"id": "file-1", "created_at": 1, "purpose": "evals"})])
    assert rows.content_size(store, "file-1") is None
    rows.put_content(store, "file-1", bytes(range(256)) * 100)
    assert rows.content_size(store, "file-1") == 25_600
    assert rows.content_piece(store, "file-1", 250, 10) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
    assert rows.content_piece(store, "file-1", 25_598, 10) == bytes([254, 255])
    assert rows.content_piece(store, "file-1", 30_000, 10) == b""
    with pytest.raises(LookupError, match="file-2"):
        rows.content_piece(store, "file-2", 0, 1)


def test_runs_are_found_by_the_type_of_their_data_source(store: Connection) -> None:
    """Whatever else the store holds: runs without a data source, and JSON that SQLite cannot read."""
    bodies = [
        ("a", '{"data_source": {"type": "completions"}}'),
        ("b", '{"data_source": {"type": "responses"}}'),
        ("c", '{"data_source": null}'),
        ("d", "[" * 5000 + "]" * 5000),
        ("e", '{"data_source": {"type": "completions"}}'),
    ]
    made = [
        Row(key=("eval_1", name), label="completed", created_at=number, updated_at=number, text=text)
        for number, (name, text) in enumerate(bodies)
    ]
    rows.put(store, "runs", made)
    assert runs_of_type(store, "completions", 3) == [("eval_1", "a")]
    assert runs_of_type(store, "completions", 9) == [("eval_1", "a"), ("eval_1", "e")]

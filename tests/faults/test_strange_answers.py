"""Answers with a status of success that are not what was asked for: never an object, always one more look."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from faults.harness import EVAL, ITEM, LISTINGS, READS, RUN, Do, create_eval, pages, text_of, told, with_faults
from transport.faultserver import answer
from transport.harness import assert_plain

from evals_async import BodyTooLarge, DecodeError, EvalsClient, ResponseError, ResponseMismatch
from evals_async.models import FileId, JsonlDataSource


GOOD: Mapping[str, Mapping[str, object]] = {"eval": EVAL, "run": RUN, "item": ITEM}
WHOLE = text_of(RUN)

NO_JSON = {
    "HTML": b"<!doctype html><title>Welcome</title>",
    "empty": b"",
    "blank": b" \r\n",
    "truncated": WHOLE[:-9],
    "two documents": WHOLE + WHOLE,
    "garbage after": WHOLE + b"\n)]}'",
    "a comment": b"// generated\n" + WHOLE,
    "NaN": b'{"object":"eval.run","id":"evalrun_1","eval_id":"eval_1","created_at":NaN}',
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "latin-1": b'{"object":"eval.run","id":"evalrun_1","eval_id":"eval_1","name":"\xe9t\xe9"}',
    "cut in a character": b'{"object":"eval.run","id":"evalrun_1","name":"\xc3',
    "a surrogate as UTF-8": b'{"object":"eval.run","id":"evalrun_1","name":"\xed\xa0\x80"}',
}


async def refused(do: Do, body: bytes, kind: type[ResponseError], status: int = 200) -> Any:
    """The error after one more look over another connection, without a trace of the key."""
    html = ("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
    async with with_faults(answer(status, body, html)) as (server, client):
        with pytest.raises(kind) as caught:
            await do(client)
        assert 2 == len(server.seen) == server.accepted == caught.value.attempts
    error = caught.value
    assert not error.maybe_executed
    assert "no attempts left" == error.note
    assert_plain(error)
    return error


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("do", [READS["run"], LISTINGS["runs"]], ids=["object", "page"])
async def test_what_is_no_json(do: Do, body: bytes) -> None:
    """B01: a DecodeError that keeps the bytes."""
    error = await refused(do, body, DecodeError)
    assert body == error.body


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
async def test_what_is_no_json_after_a_create(body: bytes) -> None:
    """B01: a create is not sent again, and the error says that it may have been carried out."""
    async with with_faults(answer(201, body)) as (server, client):
        with pytest.raises(DecodeError) as caught:
            await create_eval(client)
        assert 1 == len(server.seen)
    assert caught.value.maybe_executed
    assert_plain(caught.value)


async def test_one_strange_answer_costs_a_retry() -> None:
    """B01: a page of HTML in between is got over."""
    async with with_faults(answer(200, NO_JSON["HTML"]), told(RUN)) as (server, client):
        run = await client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
        assert ("evalrun_1", 2) == (run.id, len(server.seen))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xef\xbb\xbf" + WHOLE, "application/json"),
        (WHOLE, "application/json; charset=utf-16"),
        (WHOLE, "text/plain; charset=latin-1"),
        (WHOLE, "text/html"),
        (WHOLE, None),
        (b"\n\t " + WHOLE + b"\r\n", "application/problem+json"),
    ],
)
async def test_what_is_taken(body: bytes, content_type: str | None) -> None:
    """B01 and B02: a byte order mark, a wrong label or none at all harms nobody."""
    headers = [("Content-Type", content_type)] if content_type else []
    async with with_faults(answer(200, body, *headers)) as (server, client):
        assert "completed" == (await client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")).status
        assert 1 == len(server.seen)


LIST = {"object": "list", "data": [RUN], "has_more": False}
ERROR = {"error": {"message": "The server is overloaded", "type": "server_error"}}
OTHERS: dict[str, object] = {
    "array": [RUN],
    "null": None,
    "string": "completed",
    "number": 7,
    "false": False,
    "empty object": {},
    "error": ERROR,
    "list page": LIST,
}
WRONG: list[tuple[str, str, object]] = [
    *((name, kind, body) for kind in READS for name, body in OTHERS.items()),
    *((f"{other} for {kind}", kind, GOOD[other]) for kind in READS for other in GOOD if other != kind),
]


@pytest.mark.parametrize(("name", "kind", "body"), WRONG, ids=[f"{name}, {kind}" for name, kind, _ in WRONG])
async def test_other_json(name: str, kind: str, body: object) -> None:
    """B03: nothing but the object asked for becomes one; the error says what was expected, what came, and where."""
    error = await refused(READS[kind], text_of(body), DecodeError)
    assert error.at.startswith("$")
    assert error.expected
    assert error.got
    assert error.expected in str(error)


NO_OBJECT: dict[str, object] = {}
NO_PAGES: dict[str, object] = OTHERS | {
    "list page": {"object": "list", "data": NO_OBJECT},
    "an object": RUN,
    "an item": {**LIST, "data": [7]},
}


@pytest.mark.parametrize("body", NO_PAGES.values(), ids=NO_PAGES)
async def test_other_json_for_a_page(body: object) -> None:
    """B03: what is no page is neither an empty page nor the end of a listing."""
    error = await refused(LISTINGS["runs"], text_of(body), DecodeError)
    assert error.expected
    assert error.got


MISMATCHES: list[tuple[str, Do, Mapping[str, object], tuple[str, str]]] = [
    ("eval", READS["eval"], {**EVAL, "id": "eval_2"}, ("eval_1", "eval_2")),
    ("run", READS["run"], {**RUN, "id": "evalrun_2"}, ("evalrun_1", "evalrun_2")),
    ("run of another eval", READS["run"], {**RUN, "eval_id": "eval_2"}, ("eval_1", "eval_2")),
    ("item", READS["item"], {**ITEM, "id": "outputitem_2"}, ("outputitem_1", "outputitem_2")),
    ("item of another run", READS["item"], {**ITEM, "run_id": "evalrun_2"}, ("evalrun_1", "evalrun_2")),
    ("item of another eval", READS["item"], {**ITEM, "eval_id": "eval_2"}, ("eval_1", "eval_2")),
    ("runs of another eval", LISTINGS["runs"], {**LIST, "data": [{**RUN, "eval_id": "e2"}]}, ("eval_1", "e2")),
    ("items of another run", LISTINGS["items"], {**LIST, "data": [{**ITEM, "run_id": "r2"}]}, ("evalrun_1", "r2")),
    ("items of another eval", LISTINGS["items"], {**LIST, "data": [{**ITEM, "eval_id": "e2"}]}, ("eval_1", "e2")),
]


@pytest.mark.parametrize(("name", "do", "body", "ids"), MISMATCHES, ids=[row[0] for row in MISMATCHES])
async def test_an_object_of_somebody_else(name: str, do: Do, body: object, ids: tuple[str, str]) -> None:
    """B04: an id that was not asked for is a ResponseMismatch, and the connection it came over is not used again."""
    error = await refused(do, text_of(body), ResponseMismatch)
    assert ids == (error.asked, error.got)


async def start_run(client: EvalsClient) -> object:
    source = JsonlDataSource(source=FileId(id="file_1"))
    return await client.evals.runs.create("eval_1", data_source=source)


CHANGES: list[tuple[str, Do, object, int]] = [
    ("create run", start_run, {**RUN, "eval_id": "eval_2"}, 1),
    ("update", lambda client: client.evals.update("eval_1", name="x"), {**EVAL, "id": "eval_2"}, 2),
    (
        "delete",
        lambda client: client.evals.delete("eval_1"),
        {"object": "eval.deleted", "deleted": True, "eval_id": "eval_2"},
        2,
    ),
    (
        "delete run",
        lambda client: client.evals.runs.delete("evalrun_1", eval_id="eval_1"),
        {"object": "eval.run.deleted", "deleted": True, "run_id": "evalrun_2"},
        2,
    ),
]


@pytest.mark.parametrize(("name", "do", "body", "requests"), CHANGES, ids=[row[0] for row in CHANGES])
async def test_somebody_elses_answer_to_a_change(name: str, do: Do, body: object, requests: int) -> None:
    """B04: the error says that the change may have been made; only what may be repeated is."""
    async with with_faults(told(body)) as (server, client):
        with pytest.raises(ResponseMismatch) as caught:
            await do(client)
        assert requests == len(server.seen) == server.accepted
    assert caught.value.maybe_executed
    assert_plain(caught.value)


DELETES: dict[str, tuple[Do, dict[str, object]]] = {
    "eval": (
        lambda client: client.evals.delete("eval_1"),
        {"object": "eval.deleted", "deleted": True, "eval_id": "eval_1"},
    ),
    "run": (
        lambda client: client.evals.runs.delete("evalrun_1", eval_id="eval_1"),
        {"object": "eval.run.deleted", "deleted": True, "run_id": "evalrun_1"},
    ),
    "file": (lambda client: client.files.delete("file-1"), {"object": "file", "deleted": True, "id": "file-1"}),
}
NOT_DELETED: list[tuple[str, str, object]] = [
    (f"{name}, {kind}", kind, body)
    for kind, (_, good) in DELETES.items()
    for name, body in {
        "error": ERROR,
        "empty object": {},
        "null": None,
        **{f"only {lacking} null": {**good, lacking: None} for lacking in good if lacking != "object"},
        **{f"only {said}": {said: good[said]} for said in good},
    }.items()
]


@pytest.mark.parametrize(("name", "kind", "body"), NOT_DELETED, ids=[row[0] for row in NOT_DELETED])
async def test_a_delete_that_does_not_say_what_was_deleted(name: str, kind: str, body: object) -> None:
    """B03: an error with a 200, or half an answer, is no deletion: it is asked once more, and the doubt is told."""
    async with with_faults(told(body)) as (server, client):
        with pytest.raises(DecodeError) as caught:
            await DELETES[kind][0](client)
        assert 2 == len(server.seen) == server.accepted
    assert caught.value.maybe_executed
    assert text_of(body) == caught.value.body
    assert_plain(caught.value)


@pytest.mark.parametrize("kind", DELETES)
async def test_a_delete_that_says_so_at_the_second_time(kind: str) -> None:
    """B03: what the second answer says counts; a 404 then means that the first delete was carried out."""
    do, good = DELETES[kind]
    gone = {"error": {"message": "not found"}}
    for second, assumed in ((told(good), None), (told(gone, 404), True)):
        async with with_faults(told(ERROR), second) as (server, client):
            deleted: Any = await do(client)
            assert (True, assumed, 2) == (deleted.deleted, deleted.assumed, len(server.seen))


OBJECTS: dict[str, Do] = {
    "file": lambda client: client.files.retrieve("file-1"),
    "create": create_eval,
    "update": lambda client: client.evals.update("eval_1", name="x"),
    "create run": start_run,
    "cancel": lambda client: client.evals.runs.cancel("evalrun_1", eval_id="eval_1"),
    "upload": lambda client: client.files.create(file=("rows.jsonl", b'{"item": {}}\n'), purpose="evals"),
}


@pytest.mark.parametrize("do", OBJECTS.values(), ids=OBJECTS)
async def test_an_error_with_a_status_of_success(do: Do) -> None:
    """B03: an error is an error whatever its status: every other call that answers with an object misses its id."""
    async with with_faults(told(ERROR)) as (_, client):
        with pytest.raises(DecodeError) as caught:
            await do(client)
    assert ("$.id", "nothing") == (caught.value.at, caught.value.got)


async def test_two_readers_of_one_strange_answer_each_have_their_error() -> None:
    """B04: reads that share a request share its failure, as errors of their own."""
    async with with_faults(told({**RUN, "id": "evalrun_2"})) as (server, client):
        calls = [client.evals.runs.retrieve("evalrun_1", eval_id="eval_1") for _ in range(3)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert 2 == len(server.seen)
    assert [ResponseMismatch] * 3 == [type(error) for error in errors]
    assert 3 == len({id(error) for error in errors})


@pytest.mark.parametrize("status", [202, 203, 204, 206, 226])
@pytest.mark.parametrize("do", [READS["run"], LISTINGS["evals"]], ids=["object", "page"])
async def test_successes_that_the_api_does_not_know(do: Do, status: int) -> None:
    """S14: a 202 is no run, even with a run's body."""
    error = await refused(do, b"" if status == 204 else WHOLE, DecodeError, status)
    assert ("200 or 201", str(status)) == (error.expected, error.got)


async def test_unknown_success_of_a_create() -> None:
    """S14: the create was perhaps carried out."""
    async with with_faults(told(EVAL, 202)) as (server, client):
        with pytest.raises(DecodeError) as caught:
            await create_eval(client)
        assert 1 == len(server.seen)
    assert caught.value.maybe_executed


async def test_a_page_that_is_too_large_is_asked_for_in_halves() -> None:
    """B15: a listing gets over the limit on bodies by smaller pages, and loses nothing."""
    runs = [{**RUN, "id": f"evalrun_{number:03}", "metadata": {"text": "x" * 1000}} for number in range(30)]

    def turn(query: Mapping[str, str]) -> object:
        begin = int(query["after"][-3:]) + 1 if "after" in query else 0
        data = runs[begin : begin + int(query["limit"])]
        return {"object": "list", "data": data, "has_more": begin + len(data) < len(runs)}

    async with with_faults(pages(turn), max_body=12_000) as (_, client):
        found = [run.id async for run in client.evals.runs.list("eval_1", limit=20)]
        assert [run["id"] for run in runs] == found
    async with with_faults(pages(turn), max_body=900) as (server, client):
        with pytest.raises(BodyTooLarge) as caught:
            await client.evals.runs.list("eval_1", limit=4).collect()
        assert (900, 3) == (caught.value.limit, len(server.seen))


@pytest.mark.parametrize(("kind", "do"), READS.items(), ids=READS)
async def test_what_was_asked_for_is_taken(kind: str, do: Do) -> None:
    """The rows above refuse what is wrong with an object, not the object."""
    async with with_faults(told(GOOD[kind])) as (server, client):
        assert GOOD[kind]["id"] == getattr(await do(client), "id", None)
        assert 1 == len(server.seen)

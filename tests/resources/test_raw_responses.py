"""Raw responses: what came, and what would have been returned."""

import asyncio
import json
import pickle
from datetime import timedelta
from operator import attrgetter

import pytest
from doubles import FakeClock
from resources.session_double import BASE, KEY, Answer, SessionDouble

from evals_async import EvalsClient
from evals_async.errors import DecodeError, NotFound, ResponseMismatch
from evals_async.resources._raw import ResponseHeaders


async def test_raw_response(client: EvalsClient, session: SessionDouble) -> None:
    """The raw answer has status, headers and exact bytes; `parse()` gives what the method would have."""
    body = b'{ "id": "e1",  "name": "n" }'
    session.gives(Answer(body, status=201, headers={"X-Request-Id": "req_1", "X-Odd": "Yes"}))
    raw = await client.with_raw_response.evals.retrieve("e1")
    assert (201, "req_1", body, "Yes") == (raw.status, raw.request_id, raw.content, raw.headers["x-odd"])
    assert await client.evals.retrieve("e1") == raw.parse()
    assert raw.parse() is raw.parse()
    assert "RawResponse(status=201, request_id='req_1')" == repr(raw)


async def test_names_of_the_official_client(client: EvalsClient, session: SessionDouble) -> None:
    """`status_code`, `text`, `method`, `url`, `elapsed` and `retries_taken` tell what they tell there."""
    session.gives(Answer('{"id": "e1", "name": "Prüfung"}'.encode()))
    raw = await client.evals.with_raw_response.retrieve("e1")
    assert (200, '{"id": "e1", "name": "Prüfung"}') == (raw.status_code, raw.text)
    assert ("GET", f"{BASE}/evals/e1") == (raw.method, raw.url)
    assert (timedelta(0), 0) == (raw.elapsed, raw.retries_taken)


async def test_headers_are_asked_for_in_any_case(client: EvalsClient, session: SessionDouble) -> None:
    """`headers["X-Request-Id"]` and `headers["x-request-id"]` are one header; iteration gives names in lower case."""
    session.gives(Answer({"id": "e1"}, headers={"X-Request-Id": "req_1"}))
    headers = (await client.evals.with_raw_response.retrieve("e1")).headers
    assert ["req_1"] * 3 == [headers["X-Request-Id"], headers["x-request-id"], headers["X-REQUEST-ID"]]
    assert "X-request-ID" in headers
    assert (None, "none") == (headers.get("X-Other"), headers.get("X-Other", "none"))
    assert "x-request-id" in list(headers)
    with pytest.raises(KeyError):
        headers["X-Other"]


def test_a_header_that_came_twice() -> None:
    """A repeated header is its first value; `get_list` gives all. The headers can be pickled."""
    headers = ResponseHeaders((("Set-Cookie", "a"), ("x-one", "1"), ("set-cookie", "b")))
    assert ("a", ["a", "b"], []) == (headers["Set-Cookie"], headers.get_list("SET-COOKIE"), headers.get_list("x-two"))
    assert {"set-cookie": "a", "x-one": "1"} == dict(headers)
    assert "ResponseHeaders({'set-cookie': 'a', 'x-one': '1'})" == repr(headers)
    assert headers == pickle.loads(pickle.dumps(headers))


async def test_retries_and_time_of_a_raw_call(session: SessionDouble) -> None:
    """`retries_taken` counts the attempts that failed before; `elapsed` is the time of the last one, without pauses."""
    clock = FakeClock(draws=(1.0,))
    refused = Answer({"error": {"message": "busy"}}, status=500)
    session.gives(refused, refused, {"id": "e1"})

    def take_time(*_: object) -> None:
        clock.now += 1.5

    async with EvalsClient(base_url=BASE, api_key=KEY, clock=clock, on_response=take_time) as client:
        raw = await client.evals.with_raw_response.retrieve("e1")
    assert (2, timedelta(seconds=1.5)) == (raw.retries_taken, raw.elapsed)
    assert 2 == len(clock.slept)


async def test_url_without_secrets(session: SessionDouble) -> None:
    """`url` has the parameters of the API, and shows the values of no others: they may be signatures or keys."""
    session.gives({"data": [], "has_more": False})
    async with EvalsClient(
        base_url="https://api.example/openai/?api-version=v1&sig=s3cret",
        api_key=KEY,
        default_query={"tenant": "s3cret"},
    ) as client:
        raw = await client.evals.with_raw_response.list(limit=2, order="desc", extra_query={"code": "s3cret"})
    path = "https://api.example/openai/evals"
    assert f"{path}?api-version=v1&sig=...&tenant=...&order=desc&code=...&limit=2" == raw.url
    assert "s3cret" not in repr(raw)


async def test_raw_content_of_a_file(client: EvalsClient, session: SessionDouble) -> None:
    """A file's bytes come with status and headers; `parse()` gives what `content` gives."""
    session.gives(Answer(b'{"item": 1}\n', headers={"Content-Type": "application/jsonl"}))
    raw = await client.files.with_raw_response.content("f1")
    assert (b'{"item": 1}\n', '{"item": 1}\n', "application/jsonl") == (
        raw.content,
        raw.text,
        raw.headers["Content-Type"],
    )
    assert b'{"item": 1}\n' == raw.parse().read()
    assert f"{BASE}/files/f1/content" == raw.url


async def test_raw_answers_are_not_shared(client: EvalsClient, session: SessionDouble) -> None:
    """Each raw call has requests of its own, and a body that stays unreadable is told by `parse()`."""
    session.gives(Answer(b"<html>", headers={"Content-Type": "text/html"}))
    first, _ = await asyncio.gather(*[client.evals.with_raw_response.retrieve("e1") for _ in range(2)])
    assert (4, b"<html>") == (len(session.sent), first.content)
    with pytest.raises(DecodeError, match="HTML"):
        first.parse()
    session.gives({"id": "e2"})
    with pytest.raises(ResponseMismatch):
        (await client.evals.with_raw_response.retrieve("e1")).parse()


async def test_raw_page(client: EvalsClient, session: SessionDouble) -> None:
    """A raw listing is its first page's bytes; `parse()` gives the page, which goes on to the next."""
    session.gives(
        {"data": [{"id": "r1", "status": "queued"}], "has_more": True, "last_id": "r1"},
        {"data": [{"id": "r2", "status": "queued"}], "has_more": False},
    )
    raw = await client.evals.runs.with_raw_response.list("e1", limit=1)
    assert {"data": [{"id": "r1", "status": "queued"}], "has_more": True, "last_id": "r1"} == json.loads(raw.content)
    page = raw.parse()
    assert ["r1", "r2"] == [run.id async for run in page]
    assert [{"limit": "1"}, {"limit": "1", "after": "r1"}] == [sent.query for sent in session.sent]


async def test_raw_errors_are_errors(client: EvalsClient, session: SessionDouble) -> None:
    """An error status is raised by a raw call as by any other."""
    session.gives(Answer({"error": {"message": "gone"}}, status=404))
    with pytest.raises(NotFound, match="gone"):
        await client.with_raw_response.files.retrieve("f1")


RAW = {
    "evals": "create retrieve update list delete",
    "evals.runs": "create retrieve list cancel delete",
    "evals.runs.output_items": "retrieve list",
    "files": "content create retrieve list delete",
    "graders": "run validate",
}


@pytest.mark.parametrize("place", RAW)
async def test_every_endpoint_can_be_raw(client: EvalsClient, place: str) -> None:
    """Raw answers are to be had of every endpoint, from the client and from each resource."""
    for name in RAW[place].split():
        assert callable(attrgetter(f"with_raw_response.{place}.{name}")(client))
        assert callable(attrgetter(f"{place}.with_raw_response.{name}")(client))

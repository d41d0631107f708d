"""Ids that are not what ids are: refused before anything is sent, or exactly one segment of the path."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from night.stage import EVAL, on_stage, text_of
from wire.faultserver import FaultServer, Peer, message

from evals_async import EvalsClient, EvalsError, InvalidArgument
from evals_async.resources.base import segment


REFUSED: list[Any] = [
    *("", " ", "a b", ".", "..", "a\n", "a\r\nHost: b", "\x00", "a\x7f", "a\u2028b", "a\u200b", "\ud800"),
    *("a" * 257, 7, b"eval_1", object()),
]
HOSTILE = (
    *("/", "?", "#", "%2F", "%2e%2e", "%", "%%", ";", ":", "@", "&", "=", "+", "\\", "//", "../..", "..;", "a/../b"),
    *("http://x/", "//x", "é", "漢字", "😀", "e\u0301", "'", '"', "<", "~", "*", "a?after=b", "a#b", "{id}", "%00"),
)


def calls_with(value: Any) -> list[Callable[[EvalsClient], Awaitable[object]]]:
    """Every place in a path where an id goes."""
    return [
        lambda client: client.evals.retrieve(value),
        lambda client: client.evals.delete(value),
        lambda client: client.evals.update(value, name="x"),
        lambda client: client.evals.runs.list(value).collect(),
        lambda client: client.evals.runs.retrieve("r", eval_id=value),
        lambda client: client.evals.runs.retrieve(value, eval_id="e"),
        lambda client: client.evals.runs.cancel(value, eval_id="e"),
        lambda client: client.evals.runs.delete(value, eval_id="e"),
        lambda client: client.evals.runs.output_items.retrieve(value, run_id="r", eval_id="e"),
        lambda client: client.files.retrieve(value),
        lambda client: client.files.content(value),
        lambda client: client.files.delete(value),
    ]


@pytest.fixture
async def client() -> AsyncIterator[EvalsClient]:
    """A client of an address where nobody is: whatever is sent fails otherwise."""
    async with EvalsClient(base_url="http://localhost:9", api_key="sk-1") as made:
        yield made


@pytest.mark.parametrize("value", REFUSED, ids=ascii)
async def test_refused_ids(client: EvalsClient, value: object) -> None:
    """I01: a ValueError of ours that names the argument, before any request, showing 40 characters at most."""
    for call in calls_with(value):
        with pytest.raises(InvalidArgument) as caught:
            await call(client)
        assert isinstance(caught.value, ValueError)
        assert "_id" in str(caught.value) or "run" in str(caught.value)
        assert len(str(caught.value)) < 160
    assert 0 == client.statistics().requests


@pytest.mark.parametrize("value", [None, ["eval_1"], {}, 1.5])
async def test_ids_of_another_type(client: EvalsClient, value: Any) -> None:
    """I01: what is no string is refused too."""
    for call in (
        client.evals.retrieve(value),
        client.evals.delete(value),
        client.files.retrieve(value),
        client.evals.runs.retrieve("r", eval_id=[value]),  # type: ignore[arg-type]  # that is the point
    ):
        with pytest.raises(InvalidArgument):
            await call
    assert 0 == client.statistics().requests


def sendable(value: str) -> bool:
    return value.isprintable() and not any(map(str.isspace, value)) and value not in (".", "..")


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused_or_one_segment(value: str) -> None:
    """I01: whatever the text, it is refused, or percent-encoded so that no character of it has a meaning in a path."""
    if value and len(value) <= 256 and sendable(value):
        encoded = segment(value, "eval_id")
        assert value.encode() == unquote_to_bytes(encoded)
        assert not set(encoded) & set("/?#;:@&=+$,\\ ")
        return
    with pytest.raises(InvalidArgument) as caught:
        segment(value, "eval_id")
    assert len(str(caught.value)) < 560  # 40 characters, escaped as \UXXXXXXXX at the worst


async def echo(peer: Peer) -> bool:
    """The eval whose id is the last segment of the path, as the server decodes it."""
    asked = peer.seen.target.rsplit("/", 1)[1]
    await peer.send(message(200, text_of({**EVAL, "id": unquote_to_bytes(asked).decode()})))
    return True


async def test_hostile_ids_arrive() -> None:
    """I02: the server finds one segment, and in it exactly the id; the object that comes back is taken for the one
    asked for.
    """
    async with on_stage(echo) as (server, client):
        for value in HOSTILE:
            assert value == (await client.evals.retrieve(value)).id
            target = server.seen[-1].target
            assert target.startswith("/v1/evals/")
            assert 3 == target.count("/")
            assert target.isascii()
            assert not set(target) & set("?#")


printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)
punctuated = st.text(st.sampled_from("/?#%;:@&=+\\.2eEfF0é"), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(printable | punctuated, min_size=1, max_size=10))
@example(list(HOSTILE))
async def test_any_id_arrives(ids: list[str]) -> None:
    """I02: for any id, over a socket: hundreds of them, each in its own right place among others."""
    values = [value for value in ids if sendable(value)]
    async with FaultServer(echo) as server, EvalsClient(base_url=server.url, api_key="sk-1") as client:
        for value in values:
            assert value == (await client.evals.retrieve(value)).id
        assert [3] * len(values) == [seen.target.count("/") for seen in server.seen]


async def test_hostile_query_values_arrive() -> None:
    """I02: a cursor with characters of a query in it changes no other parameter."""
    empty = {"object": "list", "data": [], "has_more": False}

    async def play(peer: Peer) -> bool:
        await peer.send(message(200, text_of(empty)))
        return True

    async with on_stage(play) as (server, client):
        for value in HOSTILE:
            await client.evals.list(after=value, limit=7)
            query = dict(parse_qsl(urlsplit(server.seen[-1].target).query))
            assert {"after": value, "limit": "7"} == query


async def test_ids_in_errors_do_not_break_lines() -> None:
    """An error's text names the path in its encoded form."""
    async with on_stage(echo) as (_, client):
        with pytest.raises(EvalsError) as caught:
            await client.evals.runs.retrieve("a?b", eval_id="c#d")
        assert "c%23d" in str(caught.value)
        assert "\n" not in str(caught.value)

"""Ids become exactly one path segment, or are refused before anything is sent."""

import re
from operator import attrgetter
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings, strategies as st
from resources.session_double import SessionDouble

from evals_async import EvalsClient
from evals_async._transport import Request, Response
from evals_async.errors import InvalidArgument, NotFound
from evals_async.resources._requests import segment
from evals_async.server import LocalServer


ODD_IDS = [
    "/",
    "a/b",
    "?",
    "a?b=c",
    "#",
    "%2F",
    "%2e%2e",
    "%",
    ";",
    "a;b",
    "http://x",
    "é",
    "日本",
    "😀",
    "...",
    "~",
    "+",
    "&=",
    "azureai://a/b/c",
    "a:b@c",
    "\\",
    "'\"",
    "{eval_id}",
    "x" * 256,
]

BAD_IDS: list[Any] = [
    "",
    " ",
    "a b",
    " a",
    "a ",
    ".",
    "..",
    "\n",
    "a\n",
    "a\tb",
    "\x00",
    "\x7f",
    "\u2028",
    "\xa0",
    "\u200b",
    "\ud800",
    "x" * 257,
    "x" * 10_000,
    None,
    7,
    b"bytes",
    ["a"],
    True,
]

ids = st.sampled_from(ODD_IDS) | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=500)
@given(value=st.text(max_size=300) | ids)
def test_any_text_is_one_segment_or_none(value: str) -> None:
    """Whatever is not refused is one segment that means itself and nothing else."""
    try:
        made = segment(value, "eval_id")
    except InvalidArgument:
        return
    assert re.fullmatch(r"[A-Za-z0-9._~%-]+", made)
    assert made not in (".", "..")
    assert value == unquote(made, errors="strict")


@settings(max_examples=25, deadline=None)
@given(values=st.lists(ids, min_size=20, max_size=20))
async def test_the_server_gets_exactly_the_id(values: list[str]) -> None:
    """Over a real socket, each id arrives as it was given, in the place of an id."""
    async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key="sk-local-123") as client:
        for value in values:
            with pytest.raises(NotFound):
                await client.evals.runs.retrieve(value, eval_id=value)
            path = server.requests[-1].path.removeprefix("/v1")
            assert ["", "evals", value, "runs", value] == [unquote(part) for part in path.split("/")]
            assert "/evals/{eval_id}/runs/{run_id}" == server.requests[-1].route


METHODS: dict[str, dict[str, Any]] = {
    "evals.retrieve": {},
    "evals.update": {},
    "evals.delete": {},
    "evals.runs.create": {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "f"}}},
    "evals.runs.list": {},
    "evals.runs.retrieve": {"eval_id": "e1"},
    "evals.runs.cancel": {"eval_id": "e1"},
    "evals.runs.delete": {"eval_id": "e1"},
    "evals.runs.wait": {"eval_id": "e1"},
    "evals.runs.output_items.list": {"eval_id": "e1"},
    "evals.runs.output_items.retrieve": {"eval_id": "e1", "run_id": "r1"},
    "files.retrieve": {},
    "files.content": {},
    "files.delete": {},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", BAD_IDS, ids=lambda value: ascii(value)[:20])
async def test_what_is_no_id(client: EvalsClient, session: SessionDouble, name: str, value: Any) -> None:
    """What is no id is refused by every method, with the argument's name and a little of the text, and not sent."""
    method: Any = attrgetter(name)(client)
    with pytest.raises(InvalidArgument, match=r"^\w+_id (is|has|contains|must be)") as caught:
        await method(value, **METHODS[name])
    assert isinstance(caught.value, ValueError)
    assert "x" * 41 not in str(caught.value)
    assert [] == session.sent


@pytest.mark.parametrize("value", [value for value in BAD_IDS if value is not None])
async def test_what_is_no_eval_id(client: EvalsClient, session: SessionDouble, value: Any) -> None:
    """The eval's id is checked as the run's is."""
    with pytest.raises(InvalidArgument, match=r"^eval_id "):
        await client.evals.runs.retrieve("r1", eval_id=value)
    assert [] == session.sent


async def test_no_file_is_made_for_a_bad_id(client: EvalsClient, session: SessionDouble, tmp_path: Any) -> None:
    """A download that is refused leaves nothing on the disk."""
    with pytest.raises(InvalidArgument):
        await client.files.content("..", to=tmp_path / "a")
    assert ([], []) == (list(tmp_path.iterdir()), session.sent)


@pytest.mark.parametrize("path", ["", "evals", "/a b", "/a\r\nX: y", "/a?b=c", "/a#b", "/é", "/a\x7f", "/<a>"])
async def test_paths_that_would_be_something_else(client: EvalsClient, session: SessionDouble, path: str) -> None:
    """Also the path of a request that no resource made is refused at once, unless it is percent-encoded."""

    async def read(response: Response) -> bytes:
        return response.body

    with pytest.raises(InvalidArgument, match="percent-encoded"):
        await client.send(Request("GET", "/evals", path, "read"), read)
    assert [] == session.sent

"""What people put into calls beside plain dicts and numbers, and what of it is refused before anything is sent."""

import dataclasses
import enum
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec
import numpy as np
import openai
import pytest
from openai.types.graders import ScoreModelGrader as OfficialScoreModel, StringCheckGrader as OfficialStringCheck
from pydantic import BaseModel, Field
from resources.session_double import SessionDouble

from evals_async import OMIT, EvalsClient
from evals_async.errors import ConfigurationError, InvalidArgument
from evals_async.models import FileContent, FileContentRow, JsonlDataSource


PAGE: dict[str, Any] = {"object": "list", "data": [], "has_more": False}
RUN = {"id": "run_1", "eval_id": "eval_1", "status": "queued"}
ROWS = [{"item": {"n": 1}}, {"item": {"n": 2}}]


def generated() -> Iterator[Any]:
    yield from ROWS


def source_of(content: Any) -> Any:
    return {"type": "jsonl", "source": {"type": "file_content", "content": content}}


SEQUENCES: dict[str, Callable[[], Any]] = {
    "generator": generated,
    "map": lambda: map(dict, ROWS),
    "filter": lambda: filter(None, ROWS),
    "values of a dict": lambda: {1: ROWS[0], 2: ROWS[1]}.values(),
    "iterator": lambda: iter(ROWS),
    "zip of models": lambda: (FileContentRow(item={"n": n}) for n in (1, 2)),
}


@pytest.mark.parametrize("kind", SEQUENCES)
async def test_rows_may_be_anything_to_go_through(client: EvalsClient, session: SessionDouble, kind: str) -> None:
    """Rows are sent in order, whatever they come out of; also in a class of ours."""
    session.gives(RUN)
    await client.evals.runs.create("eval_1", data_source=source_of(SEQUENCES[kind]()))
    made: Any = FileContent(content=SEQUENCES[kind]())
    await client.evals.runs.create("eval_1", data_source=JsonlDataSource(source=made))
    assert [source_of(ROWS)] * 2 == [sent.body["data_source"] for sent in session.sent]


async def test_criteria_may_be_anything_to_go_through(client: EvalsClient, session: SessionDouble) -> None:
    """`testing_criteria` too, and labels, and messages."""
    session.gives({"id": "eval_1"})
    grader: Any = {"type": "label_model", "name": "g", "model": "m", "labels": {"a": 1, "b": 2}.keys()}
    grader |= {"input": ({"role": "user", "content": text} for text in "xy"), "passing_labels": iter("a")}
    await client.evals.create(
        data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=(one for one in [grader])
    )
    [criterion] = session.sent[0].body["testing_criteria"]
    assert (["a", "b"], ["a"]) == (criterion["labels"], criterion["passing_labels"])
    assert [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}] == criterion["input"]


async def test_a_generator_that_is_used_up(client: EvalsClient, session: SessionDouble) -> None:
    """A second run over one generator would have no rows: it is refused."""
    session.gives(RUN)
    rows = generated()
    await client.evals.runs.create("eval_1", data_source=source_of(rows))
    with pytest.raises(InvalidArgument, match="generator that was gone through before has nothing left"):
        await client.evals.runs.create("eval_1", data_source=source_of(rows))
    assert 1 == len(session.sent)


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    at: datetime


class Row(BaseModel):
    schema_: str = Field("s", alias="schema")
    inner: Inner
    language: str = "en"


@dataclasses.dataclass
class Point:
    x: int
    when: date


@attrs.frozen
class Place:
    name: str
    point: Point


class Struct(msgspec.Struct, rename="camel"):
    some_name: int


AT = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
OBJECTS: dict[str, tuple[object, object]] = {
    "pydantic": (
        Row(schema="s", inner=Inner(at=AT)),
        {"schema": "s", "inner": {"at": "2026-11-28T12:30:00Z"}, "language": "en"},
    ),
    "dataclass": (Point(1, date(2026, 11, 28)), {"x": 1, "when": "2026-11-28"}),
    "attrs": (Place("a", Point(1, date(2026, 1, 2))), {"name": "a", "point": {"x": 1, "when": "2026-01-02"}}),
    "msgspec": (Struct(1), {"someName": 1}),
    "datetime": ({"at": AT}, {"at": "2026-11-28T12:30:00+00:00"}),
    "time without a zone": ({"at": datetime(2026, 11, 28)}, {"at": "2026-11-28T00:00:00"}),  # noqa: DTZ001
    "enum": ({"c": Colour.RED}, {"c": "red"}),
    "uuid": ({"id": UUID(int=1)}, {"id": "00000000-0000-0000-0000-000000000001"}),
    "numpy": ({"i": np.int64(3), "f": np.float32(0.5), "a": np.array([1, 2])}, {"i": 3, "f": 0.5, "a": [1, 2]}),
    "not given inside": ({"a": openai.NOT_GIVEN, "b": OMIT, "c": openai.omit, "d": None}, {"d": None}),
}


@pytest.mark.parametrize("kind", OBJECTS)
async def test_objects_in_rows(client: EvalsClient, session: SessionDouble, kind: str) -> None:
    """Pydantic models, dataclasses, attrs classes, structs, dates, enums: each in its usual JSON form."""
    given, expected = OBJECTS[kind]
    session.gives(RUN)
    await client.evals.runs.create("eval_1", data_source=source_of([{"item": given}]), metadata={"k": "v"})
    assert source_of([{"item": expected}]) == session.sent[0].body["data_source"]


async def test_graders_of_the_official_client(client: EvalsClient, session: SessionDouble) -> None:
    """Its grader classes are sent as it would send them: what was not set is left out."""
    session.gives({"id": "eval_1"})
    graders: Any = [
        OfficialStringCheck(type="string_check", name="a", input="i", reference="r", operation="eq"),
        OfficialScoreModel.model_validate(
            {"type": "score_model", "name": "b", "model": "m", "input": [{"role": "user", "content": "c"}]}
        ),
    ]
    await client.evals.create(data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=graders)
    assert [
        {"type": "string_check", "name": "a", "input": "i", "reference": "r", "operation": "eq"},
        {"type": "score_model", "name": "b", "model": "m", "input": [{"role": "user", "content": "c"}]},
    ] == session.sent[0].body["testing_criteria"]


class Table:
    columns = ("a",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


NO_JSON: dict[str, tuple[Any, str]] = {
    "table": (Table(), "a Table is a table: give its rows"),
    "bytes": (b"rows", "bytes has no form in JSON"),
    "class": (Row, "the class Row was given"),
    "object": (object(), "object has no form in JSON"),
    "left out in an array": ([OMIT], "cannot be left out"),
}


@pytest.mark.parametrize(("value", "match"), NO_JSON.values(), ids=NO_JSON.keys())
async def test_what_has_no_form(client: EvalsClient, session: SessionDouble, value: Any, match: str) -> None:
    """The argument is named, and nothing is sent."""
    with pytest.raises(InvalidArgument, match=f"^data_source: .*{match}"):
        await client.evals.runs.create("eval_1", data_source=source_of(value))
    assert [] == session.sent


@pytest.mark.parametrize("mark", [openai.NOT_GIVEN, openai.omit, OMIT], ids=["NOT_GIVEN", "omit", "OMIT"])
async def test_defaults_that_were_left_in(client: EvalsClient, session: SessionDouble, mark: Any) -> None:
    """`NOT_GIVEN` and `omit` mean what they mean in the official client: nothing is sent for them."""
    session.gives(PAGE)
    await client.evals.list(after=mark, limit=mark, order=mark, order_by=mark, timeout=mark, extra_query=mark)
    await client.files.list(purpose=mark, extra_headers=None, extra_body=mark)
    await client.evals.runs.list("eval_1", status=mark)
    session.gives({"id": "eval_1"})
    await client.evals.update("eval_1", name="n", metadata=mark, extra_body=mark)
    await client.evals.create(
        data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=[], name=mark, metadata=mark
    )
    assert [{}] * 5 == [sent.query for sent in session.sent]
    assert {"name": "n"} == session.sent[3].body
    assert {"data_source_config", "testing_criteria"} == session.sent[4].body.keys()


@pytest.mark.parametrize("limit", [5, np.int32(5), np.uint8(5)])
async def test_limits_of_any_integer_type(client: EvalsClient, session: SessionDouble, limit: Any) -> None:
    """Whatever is a whole number is one."""
    session.gives(PAGE)
    await client.evals.list(limit=limit)
    assert {"limit": "5"} == session.sent[0].query


@pytest.mark.parametrize("limit", ["5", 5.0, True, [], 0, -1])
async def test_limits_that_are_none(client: EvalsClient, session: SessionDouble, limit: Any) -> None:
    """A str, a float or a bool is refused, and so is less than 1."""
    with pytest.raises(InvalidArgument, match=r"^limit must be (a whole number|at least 1)"):
        await client.evals.list(limit=limit)
    assert [] == session.sent


@pytest.mark.parametrize("timeout", ["600", b"1", [], True, float("nan"), -1])
async def test_waits_of_no_time(client: EvalsClient, session: SessionDouble, timeout: Any) -> None:
    """`wait(timeout="600")` is refused before a look at the run."""
    with pytest.raises(InvalidArgument, match=r"^timeout must (be a number of seconds|not be negative)"):
        await client.evals.runs.wait("run_1", eval_id="eval_1", timeout=timeout)
    with pytest.raises(InvalidArgument, match=r"^timeout must"):
        client.evals.runs.wait_many(["run_1"], eval_id="eval_1", timeout=timeout)
    assert [] == session.sent


@pytest.mark.parametrize("host", ["a" * 64, f"{'a' * 64}.example", ".".join(["a" * 60] * 5)])
def test_host_names_that_are_too_long(host: str) -> None:
    """A label has at most 63 characters, a name 253: told when the client is made."""
    with pytest.raises(ConfigurationError, match=r"base_url .* has an invalid host name"):
        EvalsClient(base_url=f"https://{host}/v1", api_key="sk-long-1234")


@pytest.mark.parametrize("option", ["extra_headers", "extra_query", "extra_body"])
async def test_extras_that_are_no_mappings(client: EvalsClient, session: SessionDouble, option: str) -> None:
    """A list of pairs, or text, is refused with the option's name."""
    for value in ([("a", "1")], "a=1"):
        options: Any = {option: value}
        with pytest.raises(InvalidArgument, match=f"^{option} must be a mapping, not"):
            await client.evals.update("eval_1", **options)
    assert [] == session.sent


async def test_how_many_at_once(client: EvalsClient, session: SessionDouble) -> None:
    """`concurrency` and the `limit` of `collect` are whole numbers too."""
    text: Any = "5"
    with pytest.raises(InvalidArgument, match=r"^concurrency must be a whole number"):
        await client.evals.retrieve_many(["eval_1"], concurrency=text)
    with pytest.raises(InvalidArgument, match=r"^limit must be a whole number"):
        await client.evals.list().collect(limit=text)
    assert [] == session.sent


async def test_extra_query_wins_over_paging(client: EvalsClient, session: SessionDouble) -> None:
    """`limit`, `after` and `order`; `after` is where the listing begins, and it goes on from there."""
    session.gives({"data": [{"id": "eval_2"}], "has_more": True, "last_id": "eval_2"}, PAGE)
    listing = client.evals.list(
        limit=50, after="eval_0", order="asc", extra_query={"limit": 1, "after": "eval_1", "order": "desc", "new": "x"}
    )
    assert ["eval_2"] == [one.id async for one in listing]
    common = {"limit": "1", "order": "desc", "new": "x"}
    assert [common | {"after": "eval_1"}, common | {"after": "eval_2"}] == [sent.query for sent in session.sent]


async def test_page_sizes_that_only_a_server_knows(client: EvalsClient, session: SessionDouble) -> None:
    """A `limit` in `extra_query` that is no number is sent as it is, on each page."""
    session.gives({"data": [{"id": "eval_2"}], "has_more": True, "last_id": "eval_2"}, PAGE)
    assert 1 == len(await client.evals.list(extra_query={"limit": "all"}).collect())
    assert ["all", "all"] == [sent.query["limit"] for sent in session.sent]


async def test_extra_body_of_cancels_and_deletes(client: EvalsClient, session: SessionDouble) -> None:
    """It is sent as a JSON body."""
    session.gives(RUN | {"status": "canceled"})
    await client.evals.runs.cancel("run_1", eval_id="eval_1", extra_body={"reason": "x"})
    session.gives({"deleted": True, "run_id": "run_1", "id": "file_1", "eval_id": "eval_1"})
    await client.evals.runs.delete("run_1", eval_id="eval_1", extra_body={"reason": "x"})
    await client.evals.delete("eval_1", extra_body={"reason": "x"})
    await client.files.delete("file_1", extra_body={"reason": "x"})
    assert [{"reason": "x"}] * 4 == [sent.body for sent in session.sent]
    assert {"application/json"} == {sent.headers["Content-Type"] for sent in session.sent}

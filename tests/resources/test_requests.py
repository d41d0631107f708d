"""Every method of every resource, as it reaches the session: method, path, query, headers and body."""

from operator import attrgetter
from typing import Any, cast

import pytest
from resources.session_double import KEY, Answer, Do, SessionDouble

from evals_async import EvalsClient
from evals_async._concurrency.fanout import FanOut
from evals_async.errors import EvalsError, InvalidArgument
from evals_async.models import EvalRun, FileId, JsonlDataSource, StringCheckGrader


GRADER: Any = {"type": "string_check", "name": "g", "input": "i", "reference": "r", "operation": "eq"}
CONFIG: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
SOURCE: Any = {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}
PAGING: Any = {"after": "x_1", "limit": 7, "order": "desc"}
PAGED = {"after": "x_1", "limit": "7", "order": "desc"}
PAGE: dict[str, Any] = {"object": "list", "data": [], "has_more": False}

CALLS: dict[str, tuple[Do, str, str, dict[str, str], object]] = {
    "evals.create": (
        lambda c: c.evals.create(data_source_config=CONFIG, testing_criteria=[GRADER]),
        "POST",
        "/evals",
        {},
        {"data_source_config": CONFIG, "testing_criteria": [GRADER]},
    ),
    "evals.create, all": (
        lambda c: c.evals.create(
            data_source_config=CONFIG,
            testing_criteria=(StringCheckGrader(name="g", input="i", reference="r", operation="eq"), GRADER),
            name="n",
            metadata={"a": "b"},
        ),
        "POST",
        "/evals",
        {},
        {"data_source_config": CONFIG, "testing_criteria": [GRADER, GRADER], "name": "n", "metadata": {"a": "b"}},
    ),
    "evals.retrieve": (lambda c: c.evals.retrieve("e1"), "GET", "/evals/e1", {}, None),
    "evals.update, name": (lambda c: c.evals.update("e1", name="n"), "POST", "/evals/e1", {}, {"name": "n"}),
    "evals.update, null": (lambda c: c.evals.update("e1", metadata=None), "POST", "/evals/e1", {}, {"metadata": None}),
    "evals.update, nothing": (lambda c: c.evals.update("e1"), "POST", "/evals/e1", {}, {}),
    "evals.list": (lambda c: c.evals.list(), "GET", "/evals", {}, None),
    "evals.list, all": (
        lambda c: c.evals.list(**PAGING, order_by="updated_at"),
        "GET",
        "/evals",
        PAGED | {"order_by": "updated_at"},
        None,
    ),
    "evals.delete": (lambda c: c.evals.delete("e1"), "DELETE", "/evals/e1", {}, None),
    "runs.create": (
        lambda c: c.evals.runs.create("e1", data_source=SOURCE),
        "POST",
        "/evals/e1/runs",
        {},
        {"data_source": SOURCE},
    ),
    "runs.create, all": (
        lambda c: c.evals.runs.create(
            "e1", data_source=JsonlDataSource(source=FileId(id="file-1")), name="n", metadata={}
        ),
        "POST",
        "/evals/e1/runs",
        {},
        {"data_source": SOURCE, "name": "n", "metadata": {}},
    ),
    "runs.retrieve": (lambda c: c.evals.runs.retrieve("r1", eval_id="e1"), "GET", "/evals/e1/runs/r1", {}, None),
    "runs.list": (lambda c: c.evals.runs.list("e1"), "GET", "/evals/e1/runs", {}, None),
    "runs.list, all": (
        lambda c: c.evals.runs.list("e1", **PAGING, status="in_progress"),
        "GET",
        "/evals/e1/runs",
        PAGED | {"status": "in_progress"},
        None,
    ),
    "runs.cancel": (
        lambda c: c.evals.runs.cancel("r1", eval_id="e1"),
        "POST",
        "/evals/e1/runs/r1/cancel",
        {},
        None,
    ),
    "runs.delete": (lambda c: c.evals.runs.delete("r1", eval_id="e1"), "DELETE", "/evals/e1/runs/r1", {}, None),
    "output_items.retrieve": (
        lambda c: c.evals.runs.output_items.retrieve("o1", eval_id="e1", run_id="r1"),
        "GET",
        "/evals/e1/runs/r1/output_items/o1",
        {},
        None,
    ),
    "output_items.list": (
        lambda c: c.evals.runs.output_items.list("r1", eval_id="e1", **PAGING, status="fail"),
        "GET",
        "/evals/e1/runs/r1/output_items",
        PAGED | {"status": "fail"},
        None,
    ),
    "files.retrieve": (lambda c: c.files.retrieve("file-1"), "GET", "/files/file-1", {}, None),
    "files.list": (
        lambda c: c.files.list(**PAGING, purpose="evals"),
        "GET",
        "/files",
        PAGED | {"purpose": "evals"},
        None,
    ),
    "files.content": (lambda c: c.files.content("file-1"), "GET", "/files/file-1/content", {}, None),
    "files.delete": (lambda c: c.files.delete("file-1"), "DELETE", "/files/file-1", {}, None),
    "graders.run": (
        lambda c: c.graders.run(grader=GRADER, model_sample="m"),
        "POST",
        "/fine_tuning/alpha/graders/run",
        {},
        {"grader": GRADER, "model_sample": "m"},
    ),
    "graders.run, item": (
        lambda c: c.graders.run(grader=GRADER, model_sample="m", item={"a": 1}),
        "POST",
        "/fine_tuning/alpha/graders/run",
        {},
        {"grader": GRADER, "model_sample": "m", "item": {"a": 1}},
    ),
    "graders.validate": (
        lambda c: c.graders.validate(grader=GRADER),
        "POST",
        "/fine_tuning/alpha/graders/validate",
        {},
        {"grader": GRADER},
    ),
}

IDS = {"eval": "e1", "run": "r1", "output_item": "o1"}


def answer_for(method: str, path: str) -> dict[str, Any]:
    """A body with the right ids for that path."""
    parts = path.strip("/").split("/")
    if "list" in parts or (method == "GET" and parts[-1] in ("evals", "runs", "output_items", "files")):
        return PAGE
    if parts[0] == "files":
        return {"id": "file-1", **({"deleted": True} if method == "DELETE" else {})}
    if parts[0] == "fine_tuning":
        return {}
    if method == "DELETE":
        return {"deleted": True, **({"run_id": "r1"} if "runs" in parts else {"eval_id": "e1"})}
    if "output_items" in parts:
        return {"id": "o1", "run_id": "r1", "eval_id": "e1", "status": "pass"}
    return {"id": "r1", "eval_id": "e1", "status": "queued"} if "runs" in parts else {"id": "e1"}


@pytest.mark.parametrize(("do", "method", "path", "query", "body"), CALLS.values(), ids=CALLS.keys())
async def test_what_is_sent(
    client: EvalsClient, session: SessionDouble, do: Do, method: str, path: str, query: dict[str, str], body: object
) -> None:
    """Each method sends one request, as the API's reference has it, with the key and what is accepted."""
    session.gives(Answer(answer_for(method, path), status=201 if method == "POST" else 200))
    await do(client)
    [sent] = session.sent
    assert (method, path, query, body) == (sent.method, sent.path, sent.query, sent.body)
    assert f"Bearer {KEY}" == sent.headers["Authorization"]
    assert "application/json" == sent.headers["Accept"]
    assert ("application/json" if body is not None else None) == sent.headers.get("Content-Type")


@pytest.mark.parametrize(("do", "method", "path", "query", "body"), CALLS.values(), ids=CALLS.keys())
async def test_options_of_one_call(
    session: SessionDouble, client: EvalsClient, do: Do, method: str, path: str, query: dict[str, str], body: object
) -> None:
    """Every method takes the headers and the query that `with_options` gives, without losing its own."""
    session.gives(answer_for(method, path))
    await do(client.with_options(headers={"X-Tenant": "t"}, query={"api-version": "v1"}))
    [sent] = session.sent
    assert ("t", query | {"api-version": "v1"}, body) == (sent.headers["X-Tenant"], sent.query, sent.body)


METHODS: dict[str, tuple[tuple[object, ...], dict[str, Any], object]] = {
    "evals.create": ((), {"data_source_config": CONFIG, "testing_criteria": [], "name": "n"}, {"id": "e1"}),
    "evals.retrieve": (("e1",), {}, {"id": "e1"}),
    "evals.update": (("e1",), {"name": "n"}, {"id": "e1"}),
    "evals.list": ((), {"order": "asc"}, PAGE),
    "evals.delete": (("e1",), {}, {"eval_id": "e1", "deleted": True}),
    "evals.runs.create": (("e1",), {"data_source": SOURCE}, {"id": "r1", "status": "queued"}),
    "evals.runs.retrieve": (("r1",), {"eval_id": "e1"}, {"id": "r1", "status": "queued"}),
    "evals.runs.list": (("e1",), {"order": "asc"}, PAGE),
    "evals.runs.cancel": (("r1",), {"eval_id": "e1"}, {"id": "r1", "status": "queued"}),
    "evals.runs.delete": (("r1",), {"eval_id": "e1"}, {"run_id": "r1", "deleted": True}),
    "evals.runs.output_items.retrieve": (("o1",), {"run_id": "r1", "eval_id": "e1"}, {"id": "o1", "status": "pass"}),
    "evals.runs.output_items.list": (("r1",), {"eval_id": "e1", "order": "asc"}, PAGE),
    "files.create": ((), {"file": b"{}"}, {"id": "file-1"}),
    "files.retrieve": (("file-1",), {}, {"id": "file-1"}),
    "files.list": ((), {"order": "asc"}, PAGE),
    "files.content": (("file-1",), {}, {}),
    "files.delete": (("file-1",), {}, {"id": "file-1", "deleted": True}),
    "graders.run": ((), {"grader": GRADER, "model_sample": "m"}, {}),
    "graders.validate": ((), {"grader": GRADER}, {}),
}
READS = {name for name in METHODS if name.rpartition(".")[2] in ("retrieve", "list", "content")}
EACH_METHOD = pytest.mark.parametrize("name", METHODS)


async def called(client: EvalsClient, session: SessionDouble, name: str, **options: object) -> None:
    """Caller the method of that name with ordinary arguments, and with these options."""
    arguments, keywords, answer = METHODS[name]
    session.gives(answer)
    await attrgetter(name)(client)(*arguments, **keywords, **options)


@EACH_METHOD
async def test_extra_headers_query_and_body(client: EvalsClient, session: SessionDouble, name: str) -> None:
    """Every method takes extra headers, query parameters and fields of its body, which win over its own."""
    extra: dict[str, object] = {} if name in READS else {"extra_body": {"name": "call", "new": [1]}}
    await called(
        client.with_options(headers={"x-a": "client", "x-b": "client"}, query={"a": 1, "b": 1}),
        session,
        name,
        timeout=5,
        extra_headers={"X-A": "call"},
        extra_query={"a": 2, "order": "desc", "flag": True, "none": None},
        **extra,
    )
    [sent] = session.sent
    headers = {name.lower(): value for name, value in sent.headers.items()}
    assert ("call", "client") == (headers["x-a"], headers["x-b"])
    assert {"a": "2", "b": "1", "order": "desc", "flag": "true"} == sent.query
    if sent.method == "GET":
        assert sent.data is None
    elif isinstance(sent.data, bytes):
        assert ("call", [1]) == (sent.body["name"], sent.body["new"])
    else:
        assert "files.create" == name  # its form is looked at in test_uploads


@pytest.mark.parametrize("name", sorted(READS))
async def test_a_get_refuses_extra_body(client: EvalsClient, session: SessionDouble, name: str) -> None:
    """`extra_body` is never dropped: what has no body refuses it before anything is sent."""
    with pytest.raises(InvalidArgument, match=r"^extra_body: a GET has no body"):
        await called(client, session, name, extra_body={"a": 1})
    assert [] == session.sent


@EACH_METHOD
async def test_unknown_options(client: EvalsClient, session: SessionDouble, name: str) -> None:
    """A misspelt option is refused by every method, as Python does for any function, before anything is sent."""
    with pytest.raises(TypeError, match="unexpected keyword argument: tiemout"):
        await called(client, session, name, tiemout=5)
    assert [] == session.sent


BAD_OPTIONS: list[dict[str, Any]] = [
    {"extra_headers": {"X-A": "a\r\nX-B: b"}},
    {"extra_headers": {"X-A\r\nX-B": "b"}},
    {"extra_headers": {"X-A": 7}},
    {"extra_query": {"a": ["b"]}},
    {"extra_query": {"a": object()}},
]


@EACH_METHOD
@pytest.mark.parametrize("options", BAD_OPTIONS)
async def test_options_that_cannot_be_sent(
    client: EvalsClient, session: SessionDouble, name: str, options: dict[str, Any]
) -> None:
    """Headers that would break out of their line, and parameters without a text, are refused before they are sent."""
    with pytest.raises(InvalidArgument, match=r"^(the header|a must be)"):
        await called(client, session, name, **options)
    assert [] == session.sent


BAD_BODIES: list[tuple[Do, str]] = [
    (lambda c: c.evals.update("e1", metadata={"a": object()}), "metadata: object has no form in JSON"),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]  # on purpose
    (lambda c: c.evals.update("e1", name=b"bytes"), "name: bytes has no form in JSON"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
    (lambda c: c.evals.update("e1", extra_body={"a": {1: 2}}), "a: JSON objects have strings as keys, not 1"),
    (
        lambda c: c.graders.run(grader=GRADER, model_sample="m", item={"x": float("nan")}),
        "the body of POST .* cannot be encoded as JSON",
    ),
]


@pytest.mark.parametrize(("do", "text"), BAD_BODIES)
async def test_bodies_that_are_no_json(client: EvalsClient, session: SessionDouble, do: Do, text: str) -> None:
    """What JSON has no form for is refused by the name of the argument, before anything is sent."""
    with pytest.raises(InvalidArgument, match=f"^{text}"):
        await do(client)
    assert [] == session.sent


RUN = EvalRun(id="r1", eval_id="e1", status="queued")
NAMINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "id": ("r1", {"eval_id": "e1"}),
    "pair": (("e1", "r1"), {}),
    "run": (RUN, {}),
    "run without its eval": (EvalRun(id="r1", status="queued"), {"eval_id": "e1"}),
    "pair and eval": (("e1", "r1"), {"eval_id": "e1"}),
    "run and eval": (RUN, {"eval_id": "e1"}),
}
# How a run is given to each method that takes one.
FIRST, ONE_OF_MANY, KEYWORD = "as the first argument", "as one of many", "as run_id="
BY_RUN: dict[str, str] = {
    "retrieve": FIRST,
    "cancel": FIRST,
    "delete": FIRST,
    "wait": FIRST,
    "retrieve_many": ONE_OF_MANY,
    "stream_many": ONE_OF_MANY,
    "wait_many": ONE_OF_MANY,
    "output_items.list": FIRST,
    "output_items.list_many": ONE_OF_MANY,
    "output_items.retrieve": KEYWORD,
    "output_items.retrieve_many": KEYWORD,
    "output_items.stream_many": KEYWORD,
}


async def by_run(client: EvalsClient, name: str, key: object, options: dict[str, Any]) -> None:
    """Caller that method of `runs` for the run that is named so."""
    method = attrgetter(name)(client.evals.runs)
    if BY_RUN[name] == KEYWORD:
        result = method(["o1"] if name.endswith("many") else "o1", run_id=key, **options)
    else:
        result = method([key] if BY_RUN[name] == ONE_OF_MANY else key, **options)
    if isinstance(result, FanOut):
        async for outcome in cast("FanOut[object, object]", result):
            outcome.unwrap()
    else:
        await result


@pytest.mark.parametrize("name", BY_RUN)
@pytest.mark.parametrize(("key", "options"), NAMINGS.values(), ids=NAMINGS.keys())
async def test_how_a_run_may_be_named(
    client: EvalsClient, session: SessionDouble, name: str, key: Any, options: Any
) -> None:
    """Wherever a run is named, its id with its eval's, a pair of both, or the run itself does."""
    item = {"id": "o1", "run_id": "r1", "eval_id": "e1", "status": "pass"}
    run = {"id": "r1", "eval_id": "e1", "status": "completed"}
    gone = {"run_id": "r1", "deleted": True}
    session.gives(gone if name == "delete" else PAGE if "list" in name else item if "items" in name else run)
    await by_run(client, name, key, options)
    assert {"/evals/e1/runs/r1"} == {"/".join(sent.path.split("/")[:5]) for sent in session.sent}


@pytest.mark.parametrize("name", BY_RUN)
@pytest.mark.parametrize(
    ("key", "options", "text"),
    [
        ("r1", {}, "the eval of the run 'r1' is unknown"),
        ("r" * 1000, {}, "is unknown"),
        (EvalRun(id="r1", status="queued"), {}, "the eval of the run 'r1' is unknown"),
        (("e1", "r1"), {"eval_id": "e2"}, "belongs to the eval 'e1', not to 'e2'"),
        (RUN, {"eval_id": "e2"}, "belongs to the eval 'e1', not to 'e2'"),
        (("e1",), {}, "as a tuple must be a pair"),
        (("e1", "r1", "o1"), {}, "as a tuple must be a pair"),
        (7, {"eval_id": "e1"}, "run_id must be a str, not int"),
        (None, {"eval_id": "e1"}, "run_id must be a str, not NoneType"),
        (("", "r1"), {}, "eval_id is empty"),
    ],
)
async def test_runs_that_are_not_named(
    client: EvalsClient, session: SessionDouble, name: str, key: Any, options: dict[str, Any], text: str
) -> None:
    """A run whose eval is unknown or contradicted is refused in a short sentence, before anything is sent."""
    with pytest.raises(EvalsError) as caught:
        await by_run(client, name, key, options)
    [error] = cast("list[object]", getattr(caught.value, "exceptions", [caught.value]))
    assert isinstance(error, InvalidArgument)
    assert text in str(error)
    assert len(str(error)) < 200
    assert [] == session.sent

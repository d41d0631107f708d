"""The endpoints of evals, over a real socket."""

import json
import re

import pytest
from doubles import FakeClock
from plainhttp import EXACT, ITEM_SCHEMA, PlainHttp, eval_request, row, run_request


UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
MODEL_GRADER = {"type": "label_model", "name": "Tone", "model": "m", "labels": ["a", "b"], "passing_labels": ["a"]}


async def test_a_new_eval_has_the_services_shape(http: PlainHttp, clock: FakeClock) -> None:
    """201, and the fields that the service makes: the wrapped schema, ids of criteria, `{}` as metadata."""
    answer = await http.post("/evals", eval_request())
    made = answer.json
    assert answer.status == 201
    assert re.fullmatch(r"eval_[0-9a-f]{32}", made["id"])
    assert re.fullmatch(f"Exact-{UUID4}", made["testing_criteria"][0].pop("id"))
    schema = made.pop("data_source_config")["schema"]
    assert made == {
        "object": "eval",
        "id": made["id"],
        "testing_criteria": [EXACT],
        "name": "Test",
        "created_at": int(clock.time()),
        "metadata": {},
    }
    assert schema["properties"]["item"] == ITEM_SCHEMA
    assert schema["required"] == ["item", "sample"]
    assert set(schema["properties"]["sample"]["properties"]) == {
        *("model", "choices", "output_text", "output_json", "output_tools")
    }


async def test_the_schema_is_wrapped_without_a_sample(http: PlainHttp) -> None:
    """Without include_sample_schema only the item is in the schema; the other configs have open objects."""
    plain = {"type": "custom", "item_schema": ITEM_SCHEMA}
    made = (await http.post("/evals", eval_request(data_source_config=plain))).json
    wrapped = {"type": "object", "properties": {"item": ITEM_SCHEMA}, "required": ["item"]}
    assert made["data_source_config"] == {"type": "custom", "schema": wrapped}
    logs = {"type": "logs", "metadata": {"case": "chat"}}
    made = (await http.post("/evals", eval_request(data_source_config=logs))).json
    assert made["data_source_config"]["metadata"] == {"case": "chat"}
    assert made["data_source_config"]["schema"]["required"] == ["item", "sample"]


async def test_messages_of_model_graders_are_normalised(http: PlainHttp) -> None:
    """Plain messages come back typed, with `sampling_params` null."""
    given = [{"role": "user", "content": "Hello {{item.answer}}"}]
    made = (await http.post("/evals", eval_request({**MODEL_GRADER, "input": given}))).json
    criterion = made["testing_criteria"][0]
    part = {"type": "input_text", "text": "Hello {{item.answer}}"}
    assert criterion["input"] == [{"type": "message", "role": "user", "content": part}]
    assert criterion["sampling_params"] is None


async def test_an_eval_can_be_read_changed_and_removed(http: PlainHttp) -> None:
    """Update changes the name and the metadata and nothing else; delete answers the service's object, then 404."""
    made = (await http.post("/evals", eval_request())).json
    path = f"/evals/{made['id']}"
    assert (await http.get(path)).json == made
    changed = await http.post(path, {"name": "New", "metadata": {"a": "b"}, "testing_criteria": []})
    assert (changed.status, changed.json) == (200, {**made, "name": "New", "metadata": {"a": "b"}})
    assert (await http.post(path, {})).json == changed.json
    assert (await http.get(path)).json == changed.json
    removed = await http.delete(path)
    assert (removed.status, removed.json) == (200, {"object": "eval.deleted", "deleted": True, "eval_id": made["id"]})
    for again in (await http.get(path), await http.post(path, {"name": "x"}), await http.delete(path)):
        assert again.problem == (404, "not_found", "eval_id")


async def test_with_an_eval_go_its_runs(http: PlainHttp) -> None:
    """Runs of a deleted eval are gone, and so are their items."""
    eval_id = (await http.post("/evals", eval_request())).json["id"]
    run_id = (await http.post(f"/evals/{eval_id}/runs", run_request(row("a", "a")))).json["id"]
    await http.delete(f"/evals/{eval_id}")
    assert (await http.get(f"/evals/{eval_id}/runs/{run_id}")).problem == (404, "not_found", "run_id")
    assert (await http.get(f"/evals/{eval_id}/runs")).problem == (404, "not_found", "eval_id")


async def test_listing_goes_through_all_evals(http: PlainHttp, clock: FakeClock) -> None:
    """Oldest first, 20 a page unless told otherwise, each once, with the cursors of the envelope."""
    ids: list[str] = []
    for number in range(25):
        clock.now += number % 2  # some are of the same second
        ids.append((await http.post("/evals", eval_request())).json["id"])
    first = (await http.get("/evals")).json
    assert [entry["id"] for entry in first["data"]] == ids[:20]
    assert {**first, "data": None} == {
        "object": "list",
        "data": None,
        "first_id": ids[0],
        "last_id": ids[19],
        "has_more": True,
    }
    second = (await http.get("/evals", after=ids[19], limit=100)).json
    assert ([entry["id"] for entry in second["data"]], second["has_more"]) == (ids[20:], False)
    newest = (await http.get("/evals", order="desc", limit=3)).json
    assert [entry["id"] for entry in newest["data"]] == ids[:21:-1]


async def test_an_empty_listing_has_no_cursors(http: PlainHttp) -> None:
    """Nothing there: null cursors, and no more to come."""
    expected: dict[str, object] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert (await http.get("/evals")).json == expected


async def test_evals_can_be_ordered_by_their_last_change(http: PlainHttp, clock: FakeClock) -> None:
    """An eval that was changed moves to the end of `order_by=updated_at`, and stays in place by creation."""
    ids = [(await http.post("/evals", eval_request())).json["id"] for _ in range(3)]
    clock.now += 5
    await http.post(f"/evals/{ids[0]}", {"name": "changed"})
    by_change = (await http.get("/evals", order_by="updated_at")).json["data"]
    assert [entry["id"] for entry in by_change] == [ids[1], ids[2], ids[0]]
    assert [entry["id"] for entry in (await http.get("/evals")).json["data"]] == ids


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"limit": "101"}, "integer_above_max_value", "limit"),
        ({"limit": "9" * 5000}, "integer_above_max_value", "limit"),
        ({"limit": "0"}, "integer_below_min_value", "limit"),
        ({"limit": "-1"}, "integer_below_min_value", "limit"),
        ({"limit": "ten"}, "invalid_type", "limit"),
        ({"limit": ""}, "invalid_type", "limit"),
        ({"order": "up"}, "invalid_value", "order"),
        ({"order_by": "name"}, "invalid_value", "order_by"),
    ],
)
async def test_a_wrong_query_is_told(http: PlainHttp, query: dict[str, str], code: str, param: str) -> None:
    """What a query parameter may not be is answered with 400, its name and the service's code."""
    assert (await http.get("/evals", **query)).problem == (400, code, param)


async def test_the_limit_error_is_the_services_sentence(http: PlainHttp) -> None:
    """The one over-limit body that was captured, word by word."""
    assert (await http.get("/evals", limit=101)).json == {
        "error": {
            "message": "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
            "type": "invalid_request_error",
            "param": "limit",
            "code": "integer_above_max_value",
        }
    }


async def test_an_unknown_cursor_is_an_error(http: PlainHttp) -> None:
    """A cursor that is gone does not silently begin again."""
    assert (await http.get("/evals", after="eval_gone")).problem == (404, "not_found", "after")


CUSTOM = {"type": "custom", "item_schema": ITEM_SCHEMA}
SIMILAR = {**EXACT, "type": "text_similarity", "evaluation_metric": "bleu", "pass_threshold": 0.5}
LABELS = {**MODEL_GRADER, "input": []}


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"data_source_config": ...}, "missing_required_parameter", "data_source_config"),
        ({"testing_criteria": ...}, "missing_required_parameter", "testing_criteria"),
        ({"data_source_config": None}, "invalid_type", "data_source_config"),
        ({"data_source_config": {"type": "custom"}}, "missing_required_parameter", "data_source_config.item_schema"),
        ({"data_source_config": {**CUSTOM, "item_schema": []}}, "invalid_type", "data_source_config.item_schema"),
        ({"data_source_config": {"type": "csv"}}, "invalid_value", "data_source_config.type"),
        ({"data_source_config": {}}, "missing_required_parameter", "data_source_config.type"),
        ({"testing_criteria": {}}, "invalid_type", "testing_criteria"),
        ({"testing_criteria": ["x"]}, "invalid_type", "testing_criteria[0]"),
        ({"testing_criteria": [EXACT, {**EXACT, "type": "multi"}]}, "invalid_value", "testing_criteria[1].type"),
        ({"testing_criteria": [{**EXACT, "operation": "neq"}]}, "invalid_value", "testing_criteria[0].operation"),
        ({"testing_criteria": [{**EXACT, "name": 5}]}, "invalid_type", "testing_criteria[0].name"),
        (
            {"testing_criteria": [{**SIMILAR, "evaluation_metric": "x"}]},
            "invalid_value",
            "testing_criteria[0].evaluation_metric",
        ),
        (
            {"testing_criteria": [{key: SIMILAR[key] for key in SIMILAR if key != "pass_threshold"}]},
            "missing_required_parameter",
            "testing_criteria[0].pass_threshold",
        ),
        (
            {"testing_criteria": [{**LABELS, "passing_labels": ["c"]}]},
            "invalid_value",
            "testing_criteria[0].passing_labels[0]",
        ),
        (
            {"testing_criteria": [{**LABELS, "input": [{"role": "judge", "content": ""}]}]},
            "invalid_value",
            "testing_criteria[0].input[0].role",
        ),
        ({"name": 5}, "invalid_type", "name"),
        ({"name": 0.5}, "invalid_type", "name"),
        ({"name": True}, "invalid_type", "name"),
        (
            {"testing_criteria": [{**SIMILAR, "pass_threshold": "1"}]},
            "invalid_type",
            "testing_criteria[0].pass_threshold",
        ),
        ({"testing_criteria": [{**LABELS, "labels": ["a", 1]}]}, "invalid_type", "testing_criteria[0].labels[1]"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", "metadata." + "k" * 65),
        ({"metadata": {"k": 1}}, "invalid_type", "metadata.k"),
        ({"metadata": []}, "invalid_type", "metadata"),
    ],
)
async def test_a_wrong_eval_is_refused(http: PlainHttp, changes: dict[str, object], code: str, param: str) -> None:
    """400 names the parameter by its path, and nothing is made."""
    body = {key: value for key, value in {**eval_request(), **changes}.items() if value is not ...}
    assert (await http.post("/evals", body)).problem == (400, code, param)
    assert (await http.get("/evals")).json["data"] == []


async def test_fields_that_are_not_known_are_let_through(http: PlainHttp) -> None:
    """Unknown fields are kept where the service echoes, and null stands for missing."""
    made = await http.post("/evals", eval_request({**EXACT, "weight": 2}, name=None, metadata=None, color="red"))
    assert made.status == 201
    assert made.json["testing_criteria"][0]["weight"] == 2
    assert (made.json["name"], made.json["metadata"]) == ("", {})


@pytest.mark.parametrize(("depth", "status"), [(190, 201), (199, 400), (700, 400), (970, 400), (100_000, 400)])
async def test_nesting_has_a_limit(http: PlainHttp, depth: int, status: int) -> None:
    """What could not be written again is not taken in: 200 levels, and no more."""
    body = json.dumps(eval_request(data_source_config={"type": "custom", "item_schema": {"x": "HERE"}}))
    deep = body.replace('"HERE"', "[" * depth + "]" * depth)
    answer = await http.send("POST", "/evals", data=deep.encode())
    assert answer.status == status
    if status == 201:
        assert (await http.get(f"/evals/{answer.json['id']}")).json == answer.json


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"a":NaN}', b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(http: PlainHttp, body: bytes) -> None:
    """Broken JSON, other types and deep nesting are 400, never 500."""
    answer = await http.send("POST", "/evals", data=body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")

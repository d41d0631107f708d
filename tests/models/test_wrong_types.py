"""A value of the wrong JSON type is refused with its place in the body, and never bent into shape."""

import json
from typing import Any, Literal, get_args, get_origin

import pytest
from bodies import CLASSES, KINDS, fields_of, is_free, kinds, may_be_missing, members, payload, smallest

from evals_async._codec import decode
from evals_async.errors import DecodeError
from evals_async.models import (
    AzureSourceConfig,
    ContentPart,
    DataSourceConfig,
    Eval,
    EvalRun,
    Grader,
    GraderValidation,
    InputMessages,
    JsonlDataSource,
    Model,
    OutputItem,
    RunDataSource,
    Unknown,
)


FIELDS = [
    pytest.param(model, name, shape, id=f"{model.__name__}.{name}")
    for model in CLASSES
    for name, shape in fields_of(model).items()
]


def refusal(body: object, shape: Any) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps(body).encode(), shape)
    return caught.value


@pytest.mark.parametrize(("model", "name", "shape"), FIELDS)
def test_every_field_is_checked(model: type[Model], name: str, shape: Any) -> None:
    """Each field of each class refuses each kind of JSON value that it does not take, and says which field it was."""
    body = smallest(model)
    wrong = [value for kind, value in KINDS.items() if kind not in kinds(shape)]
    assert wrong or is_free(shape) or kinds(shape) == set(KINDS)
    for value in wrong:
        error = refusal(body | {name: value}, model)
        assert (f"$.{name}", json.dumps(body | {name: value}).encode()) == (error.at, error.body)
        assert error.expected
        assert error.got in KINDS


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [p for p in FIELDS if {get_origin(m) for m in members(p.values[2]) if m is not type(None)} == {Literal}],
)
def test_every_closed_literal_is_checked(model: type[Model], name: str, shape: Any) -> None:
    """A tag or an `object` of another thing is refused, and the message names what was expected."""
    allowed = [value for member in members(shape) for value in get_args(member)]
    error = refusal(smallest(model) | {name: "another thing"}, model)
    assert (f"$.{name}", "'another thing'") == (error.at, error.got)
    assert all(value in error.expected for value in allowed)


@pytest.mark.parametrize(("model", "name", "shape"), [p for p in FIELDS if not may_be_missing(p.values[2])])
def test_required_fields(model: type[Model], name: str, shape: Any) -> None:
    """Where one class is expected, its required fields must be there, and not null."""
    body = smallest(model)
    missing = refusal({key: value for key, value in body.items() if key != name}, model)
    assert (f"$.{name}", "nothing") == (missing.at, missing.got)
    null = refusal(body | {name: None}, model)
    assert (f"$.{name}", "null") == (null.at, null.got)


INCOMPLETE = [
    pytest.param(union, member, name, id=f"{member.__name__}.{name}")
    for union in (Grader, DataSourceConfig, RunDataSource, InputMessages, ContentPart)
    for member in get_args(union)
    if member is not Unknown
    for name, shape in fields_of(member).items()
    if not may_be_missing(shape) and name != "type"
]


@pytest.mark.parametrize(("union", "member", "name"), INCOMPLETE)
def test_variant_that_lacks_what_its_class_requires(union: Any, member: type[Model], name: str) -> None:
    """Where several kinds are expected, an object that lacks something is kept as `Unknown`."""
    body = {key: value for key, value in smallest(member).items() if key != name}
    assert Unknown(type=body.get("type"), raw=body) == decode(json.dumps(body).encode(), union)


@pytest.mark.parametrize("tag", [None, 7, [], {}])
def test_variant_without_a_usable_tag(tag: object) -> None:
    """An object without a tag, or with one that is no string, is `Unknown` as well."""
    shape: Any = Grader
    for body in ({"name": "?", "type": tag}, {"name": "?"}):
        assert Unknown(type=None, raw=body) == decode(json.dumps(body).encode(), shape)


def test_what_answers_need() -> None:
    """Of what a server answers, the id is enough, and of runs and items the status."""
    assert ("e", None, None) == ((e := decode(b'{"id": "e"}', Eval)).id, e.testing_criteria, e.object)
    assert ("r", None) == ((r := decode(b'{"id": "r", "status": "queued"}', EvalRun)).id, r.result_counts)
    assert ("i", None) == ((i := decode(b'{"id": "i", "status": "pass"}', OutputItem)).id, i.sample)


DEEP: list[tuple[str, Any, str, object]] = [
    ("run_completed_completions", EvalRun, "result_counts.total", "4"),
    ("run_completed_completions", EvalRun, "result_counts.total", True),
    ("run_completed_completions", EvalRun, "result_counts.total", 4.0),
    ("run_completed_completions", EvalRun, "per_model_usage[1].total_tokens", []),
    ("run_completed_completions", EvalRun, "per_model_usage[1]", "x"),
    ("run_completed_completions", EvalRun, "error", 3),
    ("run_jsonl_file_content", EvalRun, "data_source.source.content[2].item", 3),
    ("run_all_content_parts", EvalRun, "data_source.input_messages.template[1].content[3].detail", 3),
    ("item_pass_string_check", OutputItem, "results[0].passed", "true"),
    ("item_pass_string_check", OutputItem, "sample.usage.cached_tokens", {}),
    ("item_fail_score_model_with_hash", OutputItem, "_datasource_item_content_hash", 1),
    ("eval_custom_all_graders", Eval, "testing_criteria[2].labels[1]", None),
    ("grader_validation_multi_map", GraderValidation, "grader.graders.b.model", 5),
]


@pytest.mark.parametrize(("name", "shape", "place", "value"), DEEP)
def test_place_of_a_deep_mistake(name: str, shape: Any, place: str, value: object) -> None:
    """The path leads through objects, arrays, maps and variants."""
    body = target = payload(name)
    *way, last = [int(step) if step.isdigit() else step for step in place.replace("[", ".").replace("]", "").split(".")]
    for step in way:
        target = target[step]
    target[last] = value
    error = refusal(body, shape)
    assert f"$.{place}" == error.at
    assert str(error).startswith(f"DecodeError: $.{place}: expected ")


def test_open_words_let_new_ones_through() -> None:
    """A status, a scenario, an operation that nobody knew is kept as it came."""
    assert "paused" == decode(b'{"id": "r", "status": "paused"}', EvalRun).status
    config = decode(b'{"type": "azure_ai_source", "scenario": "next_year"}', AzureSourceConfig)
    assert "next_year" == config.scenario


def test_unknown_source_inside_a_known_data_source() -> None:
    """What is unknown stays small: the object around it keeps its class."""
    run = decode(json.dumps(payload("run_unknown_source")).encode(), EvalRun)
    assert (
        JsonlDataSource(source=Unknown(type="carrier_pigeon", raw={"type": "carrier_pigeon", "ring": "A-1"}))
        == run.data_source
    )

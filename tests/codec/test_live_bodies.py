"""What live servers are known to send goes the quick way, and no field of it is unknown."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import pytest
from bodies import PAYLOADS, payload

from evals_async._codec import encode, quick, structure
from evals_async.models import Eval, EvalRun, Model, OutputItem, Unknown


SHAPES: dict[str, Any] = {
    "eval_azure_label_model": Eval,
    "eval_azure_source": Eval,
    "eval_custom_with_sample_schema": Eval,
    "eval_foundry_schema_side_by_side": Eval,
    "run_azure_label_model": EvalRun,
    "run_azure_responses": EvalRun,
    "run_azure_target": EvalRun,
    "run_canceled_azure_untagged_messages": EvalRun,
    "run_cancelled_litellm_minimal": EvalRun,
    "run_completed_completions": EvalRun,
    "run_foundry_empty_error_and_skipped": EvalRun,
    "run_foundry_target_completions": EvalRun,
    "run_queued_nulls": EvalRun,
    "item_fail_score_model_with_hash": OutputItem,
    "item_foundry_completed": OutputItem,
    "item_foundry_grader_error": OutputItem,
    "item_foundry_item_error": OutputItem,
    "item_pass_string_check": OutputItem,
    "items_page_azure_label_model": OutputItem,
    "items_page_foundry_agent": OutputItem,
    "items_page_foundry_target": OutputItem,
    "runs_page_azure_without_ids": EvalRun,
}


def parts(value: object) -> Iterator[Model | Unknown]:
    """A model, and all that it is made of."""
    if isinstance(value, Model):
        yield value
        for field in attrs.fields(type(value)):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, Unknown):
        yield value
    elif isinstance(value, tuple):
        for one in cast("tuple[object, ...]", value):
            yield from parts(one)
    elif isinstance(value, Mapping):
        for one in cast("Mapping[str, object]", value).values():
            yield from parts(one)


def objects(name: str) -> list[dict[str, Any]]:
    body = payload(name)
    return list(body["data"]) if "_page" in name else [body]


@pytest.mark.parametrize("name", SHAPES)
def test_live_bodies_take_the_quick_way(name: str) -> None:
    """Each is read by msgspec, is what the hooks make, and comes out as it went in."""
    for body in objects(name):
        found = quick.read(json.dumps(body).encode(), SHAPES[name])
        assert found is not None
        assert structure(json.loads(json.dumps(body)), SHAPES[name]) == found
        assert body == encode(found)


@pytest.mark.parametrize("name", [name for name in SHAPES if "_page" in name])
def test_live_pages_take_the_quick_way(name: str) -> None:
    """So does each page, with the envelope that the server puts around it."""
    data = (PAYLOADS / f"{name}.json").read_bytes()
    page = quick.read_page(data, SHAPES[name])
    assert page is not None
    assert len(objects(name)) == len(page.entries)


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_of_live_bodies_is_unknown(name: str) -> None:
    """Every field has a name and a type of its own, and every variant a class."""
    for body in objects(name):
        for part in parts(structure(body, SHAPES[name])):
            assert isinstance(part, Model)
            assert {} == dict(part.extra)

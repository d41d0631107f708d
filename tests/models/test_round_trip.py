"""The law of the models: `encode(decode(body)) == body`, whatever a server sends."""

import json
from typing import Any

import pytest
from bodies import CLASSES, PAYLOADS, bodies, payload, values
from hypothesis import given, settings, strategies as st

from evals_async._codec import decode, decode_page, encode
from evals_async._json import canonical
from evals_async.models import (
    DataSourceConfig,
    Eval,
    EvalDeleted,
    EvalRun,
    File,
    FileDeleted,
    Grader,
    GraderRun,
    GraderValidation,
    InputMessages,
    OutputItem,
    RunDataSource,
    RunDeleted,
    WebhookEvent,
)


SHAPES: dict[str, Any] = {
    "eval": Eval,
    "eval_deleted": EvalDeleted,
    "run": EvalRun,
    "run_deleted": RunDeleted,
    "item": OutputItem,
    "file": File,
    "file_deleted": FileDeleted,
    "grader_run": GraderRun,
    "grader_validation": GraderValidation,
    "event": WebhookEvent,
}
PAGES: dict[str, Any] = {"evals_page": Eval, "runs_page": EvalRun, "items_page": OutputItem, "files_page": File}

NAMES = sorted(path.stem for path in PAYLOADS.glob("*.json"))
PAGE_NAMES = [name for name in NAMES if "_page" in name]
SINGLE_NAMES = [name for name in NAMES if "_page" not in name and not name.startswith("error_")]


def longest_prefix(name: str, table: dict[str, Any]) -> Any:
    return table[max((prefix for prefix in table if name.startswith(prefix)), key=len)]


def law(body: object, shape: Any) -> None:
    """Decode, encode, and compare as text: `1`, `1.0` and `true` are equal in Python, but not in JSON."""
    data = json.dumps(body).encode()
    model = decode(data, shape)
    assert canonical(json.loads(data)) == canonical(encode(model))
    assert model == decode(canonical(encode(model)), shape)
    assert hash(model) == hash(decode(data, shape))


@pytest.mark.parametrize("name", SINGLE_NAMES)
def test_body_survives(name: str) -> None:
    """Each kind of body that a server is known to send comes out as it went in."""
    law(payload(name), longest_prefix(name, SHAPES))


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_page_survives(name: str) -> None:
    """Each entry of a listing comes out as it went in."""
    body = payload(name)
    page = decode_page(json.dumps(body).encode(), longest_prefix(name, PAGES))
    assert canonical(body["data"]) == canonical(encode(tuple(page)))


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: str(model.__name__))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_body_survives(data: st.DataObject, model: Any) -> None:
    """Any body of any class does, with fields present, null or missing, unknown fields, unknown variants."""
    law(data.draw(bodies(model)), model)


@pytest.mark.parametrize(
    "union",
    [Grader, DataSourceConfig, RunDataSource, InputMessages, WebhookEvent],
    ids=["Grader", "DataSourceConfig", "RunDataSource", "InputMessages", "WebhookEvent"],
)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_variant_survives(data: st.DataObject, union: Any) -> None:
    """Any object does where a union is expected, of a known kind or not."""
    law(data.draw(values(union)), union)

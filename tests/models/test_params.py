"""The typed mappings and the classes of the same name say the same."""

from typing import Any

import pytest
from bodies import fields_of, may_be_missing, smallest

from evals_async import models
from evals_async._codec import encode, structure
from evals_async.models import CompletionsDataSource, FileId, Message


PAIRS = [
    pytest.param(getattr(models, name), getattr(models, name.removesuffix("Param")), id=name)
    for name in models.PLACES
    if name.endswith("Param")
]

SERVER_MADE = {"id", "schema", "grdr_id", "inactive_at", "max_items", "item_generation_params"}
"""What a class has for what servers add, and users do not write."""


@pytest.mark.parametrize(("mapping", "model"), PAIRS)
def test_fields_of_a_mapping(mapping: Any, model: Any) -> None:
    """A mapping has the fields of its class, but for those that only servers make."""
    written, known = set(mapping.__annotations__), set(fields_of(model))
    only_echoed = {"sampling_params"} if model is models.LabelModelGrader else set[str]()
    assert set() == written - known
    assert known - written <= SERVER_MADE | only_echoed


@pytest.mark.parametrize(("mapping", "model"), PAIRS)
def test_required_fields_of_a_mapping(mapping: Any, model: Any) -> None:
    """A mapping requires what its class does, and its tag.

    `item_schema` is one more: an eval cannot be created without it, though none is answered with it.
    """
    required = {name for name, shape in fields_of(model).items() if not may_be_missing(shape)}
    tag = {"type"} if "type" in mapping.__annotations__ and model is not Message else set[str]()
    schema = {"item_schema"} if model is models.CustomDataSourceConfig else set[str]()
    assert required | tag | schema == set(mapping.__required_keys__)


@pytest.mark.parametrize(("mapping", "model"), PAIRS)
def test_class_made_of_a_mapping(mapping: Any, model: Any) -> None:
    """What a mapping must hold is enough for its class, which is sent as the same JSON."""
    body = smallest(model)
    assert body.keys() <= mapping.__required_keys__
    assert body == encode(structure(body, model))


def test_mappings_may_hold_classes() -> None:
    """What is sent of a mapping with classes inside is what is sent of mappings alone."""
    plain = {
        "type": "completions",
        "source": {"type": "file_id", "id": "file-1"},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "hi"}]},
    }
    mixed = {
        "type": "completions",
        "source": FileId(id="file-1"),
        "input_messages": {"type": "template", "template": (Message(role="user", content="hi"),)},
    }
    assert plain == encode(mixed) == encode(structure(plain, CompletionsDataSource))

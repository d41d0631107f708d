"""An eval out of a server, and back into another one."""

import json
from datetime import UTC, datetime

import attrs
import pytest
from bodies import payload

from evals_async._codec import decode, encode
from evals_async.errors import InvalidArgument
from evals_async.models import CustomDataSourceConfig, Eval, Unknown


ITEM_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
}


REVIEWS = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "review": {"type": "string"}, "topic": {"type": "string"}},
    "required": ["id", "review", "topic"],
}


def evaluation(name: str) -> Eval:
    return decode(json.dumps(payload(name)).encode(), Eval)


def test_created() -> None:
    """The time of creation is there as a datetime, too; a missing one stays missing."""
    assert datetime(2025, 6, 27, 4, 53, 20, tzinfo=UTC) == evaluation("eval_logs").created
    assert evaluation("eval_without_required_fields").created is None


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("eval_custom_all_graders", {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": False}),
        (
            "eval_custom_with_sample_schema",
            {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": True},
        ),
        ("eval_azure_label_model", {"type": "custom", "item_schema": REVIEWS, "include_sample_schema": False}),
        ("eval_foundry_schema_side_by_side", {"type": "custom", "item_schema": REVIEWS, "include_sample_schema": True}),
        ("eval_logs", {"type": "logs", "metadata": {"feature": "search"}}),
        ("eval_stored_completions", {"type": "stored_completions"}),
        ("eval_azure_source", {"type": "azure_ai_source", "scenario": "red_team"}),
        ("eval_unknown_config_and_fields", {"type": "spreadsheet"}),
    ],
)
def test_config_to_create(name: str, config: object) -> None:
    """What the server made of the data source config is undone."""
    assert config == encode(evaluation(name).to_create()["data_source_config"])


def test_criteria_to_create() -> None:
    """Criteria lose the ids that the server gave them, and the nulls that it filled in; all else stays."""
    body = payload("eval_custom_all_graders")
    expected = [{k: v for k, v in criterion.items() if k != "id"} for criterion in body["testing_criteria"]]
    del expected[2]["sampling_params"]
    assert expected == encode(evaluation("eval_custom_all_graders").to_create()["testing_criteria"])


def test_what_azure_adds_to_criteria() -> None:
    """The fields that Azure makes for its criteria are not sent to another server."""
    body = payload("eval_azure_label_model")["testing_criteria"][0]
    made = {"id", "grdr_id", "inactive_at", "sampling_params"}
    definition = evaluation("eval_azure_label_model").to_create()
    assert [{k: v for k, v in body.items() if k not in made}] == encode(definition["testing_criteria"])


def test_empty_schema_of_the_rows() -> None:
    """An empty schema that a user wrote stays; so does one beside a schema that says nothing of the rows."""
    for schema in (None, {"type": "object"}):
        config = CustomDataSourceConfig(item_schema={}, schema=schema)
        definition = Eval(id="e", data_source_config=config, testing_criteria=()).to_create()
        assert CustomDataSourceConfig(item_schema={}) == definition["data_source_config"]


def test_name_and_metadata_to_create() -> None:
    """The name and the metadata go along where there are any."""
    definition = evaluation("eval_logs").to_create()
    assert "Capitals" == definition.get("name")
    assert {"team": "search"} == definition.get("metadata")
    unnamed = attrs.evolve(evaluation("eval_logs"), name=None, metadata=None)
    assert {"data_source_config", "testing_criteria"} == set(unnamed.to_create())


def test_definition_made_again_is_the_same() -> None:
    """A definition that is wrapped again by a server unwraps to itself."""
    definition = evaluation("eval_custom_with_sample_schema").to_create()
    config = definition["data_source_config"]
    assert isinstance(config, CustomDataSourceConfig)
    echoed = {
        "type": "object",
        "properties": {"item": config.item_schema, "sample": {"type": "object"}},
        "required": ["item", "sample"],
    }
    again = Eval(id="e", name="Capitals", data_source_config=CustomDataSourceConfig(schema=echoed), testing_criteria=())
    assert config == again.to_create()["data_source_config"]


def test_schema_that_is_not_wrapped() -> None:
    """A server that echoes the schema of the rows bare is understood."""
    config = CustomDataSourceConfig(schema=ITEM_SCHEMA)
    definition = Eval(id="e", data_source_config=config, testing_criteria=()).to_create()
    assert CustomDataSourceConfig(item_schema=ITEM_SCHEMA) == definition["data_source_config"]


def test_config_that_was_written_by_hand() -> None:
    """A config that was never sent needs no undoing."""
    config = CustomDataSourceConfig(item_schema=ITEM_SCHEMA, include_sample_schema=True)
    definition = Eval(id="e", data_source_config=config, testing_criteria=()).to_create()
    assert config == definition["data_source_config"]


def test_unknown_criterion_to_create() -> None:
    """A criterion of an unknown kind goes along without its id."""
    raw = {"type": "vibe_check", "id": "v-1", "mood": "good", "note": None}
    config = Unknown(type="x", raw={"type": "x"})
    evaluated = Eval(id="e", data_source_config=config, testing_criteria=(Unknown(type="vibe_check", raw=raw),))
    assert [{"type": "vibe_check", "mood": "good"}] == encode(evaluated.to_create()["testing_criteria"])


def test_eval_without_a_definition() -> None:
    """An eval that came without its definition cannot be created again, and says so."""
    with pytest.raises(InvalidArgument, match="came without its data_source_config"):
        evaluation("eval_without_required_fields").to_create()

"""Evals: their data source configs and testing criteria."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NotRequired, TypedDict, cast

import attrs

from evals_async._json import JSONObject, as_object
from evals_async.errors import InvalidArgument
from evals_async.models.base import NO_NULLS, Model, Unknown, moment, repeated
from evals_async.models.graders import Grader
from evals_async.models.sources import CustomDataSourceConfig, DataSourceConfig


class EvalDefinition(TypedDict):
    """The arguments that create an eval: `await client.evals.create(**definition)`."""

    data_source_config: DataSourceConfig
    testing_criteria: tuple[Grader, ...]
    name: NotRequired[str]
    metadata: NotRequired[Mapping[str, str]]


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Eval(Model):
    """An eval: a description of its rows, and the criteria that each row is graded by.

    https://platform.openai.com/docs/api-reference/evals/object
    """

    object: Literal["eval"] | None = None
    id: str
    name: str | None = None
    #: Seconds since the epoch.
    created_at: int | None = None
    #: Seconds since the epoch. Foundry only, as the two that follow.
    modified_at: int | None = None
    # : The name of its creator.
    created_by: str | None = repeated()
    # : Properties that Foundry sets, such as `evals_run_type`.
    properties: JSONObject | None = attrs.field(default=None, hash=False)
    data_source_config: DataSourceConfig | None = None
    testing_criteria: tuple[Grader, ...] | None = None
    metadata: JSONObject | None = attrs.field(default=None, hash=False)

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self.created_at)

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks: the main fields and the criteria."""
        from evals_async import _html

        source = self.data_source_config
        criteria = [(getattr(each, "plain_name", None), each.type) for each in self.testing_criteria or ()]
        return _html.document(
            self.name or "Eval",
            {"eval": self.id, "created": self.created, "rows": None if source is None else source.type},
            _html.Grid("Criteria", ("criterion", "type"), criteria),
        )

    def to_create(self) -> EvalDefinition:
        """Return the arguments that create this eval again, on this or another server.

        A server changes the definition: it wraps the schema of the rows, adds ids to the criteria, and adds nulls and
        other fields. These changes are undone. Fields that this package does not define are kept. Raises
        `InvalidArgument` if the data source config or the criteria are missing.
        """
        if self.data_source_config is None or self.testing_criteria is None:
            raise InvalidArgument(f"the eval {self.id} came without its data_source_config or its testing_criteria")
        definition = EvalDefinition(
            data_source_config=config_as_written(self.data_source_config),
            testing_criteria=tuple(map(criterion_as_written, self.testing_criteria)),
        )
        if self.name is not None:
            definition["name"] = self.name
        if self.metadata is not None:
            # In the API, the values are strings. Another server may have other values, which are kept.
            definition["metadata"] = cast("Mapping[str, str]", self.metadata)
        return definition


def config_as_written(config: DataSourceConfig) -> DataSourceConfig:
    """Return the config without the server's additions."""
    if isinstance(config, Unknown):
        return Unknown(type=config.type, raw=without(config.raw, "schema"))
    if isinstance(config, CustomDataSourceConfig):
        return unwrapped(config)
    return attrs.evolve(config, schema=None, nulls=NO_NULLS)


def unwrapped(config: CustomDataSourceConfig) -> CustomDataSourceConfig:
    """Return the config with the schema of the rows instead of the server's wrapped schema."""
    bare = attrs.evolve(config, schema=None, max_items=None, nulls=NO_NULLS)
    if config.schema is None or config.item_schema:
        return bare
    # Foundry sends an empty `item_schema`, and the two schemas without an object schema around them.
    wrapped = config.schema if config.item_schema is not None else config.schema.get("properties")
    properties = as_object(wrapped) or {}
    item = as_object(properties.get("item"))
    if item is not None:
        return attrs.evolve(bare, item_schema=item, include_sample_schema="sample" in properties)
    if config.item_schema is not None:
        return bare
    # It is not wrapped, so it must be the schema of the rows.
    return attrs.evolve(bare, item_schema=config.schema)


def criterion_as_written(criterion: Grader) -> Grader:
    """Return the criterion without the server's additions."""
    if isinstance(criterion, Unknown):
        return Unknown(type=criterion.type, raw=without(criterion.raw, "id", "grdr_id", "inactive_at"))
    return attrs.evolve(criterion, id=None, grdr_id=None, inactive_at=None, nulls=NO_NULLS)


def without(raw: JSONObject, *names: str) -> JSONObject:
    """Return the object without these fields, and without null fields."""
    return {key: value for key, value in raw.items() if key not in names and value is not None}


@attrs.frozen(kw_only=True, repr=False, eq=False)
class EvalDeleted(Model):
    """The response after an eval was deleted. https://platform.openai.com/docs/api-reference/evals/delete

    A response that does not say what was deleted raises `DecodeError`.
    """

    object: Literal["eval.deleted"] | None = None
    deleted: bool
    eval_id: str
    # : True if the response was lost and the second request found that the object is gone. The client sets it.
    assumed: bool | None = None

"""The data source configs of evals, the data sources of runs, and the sampling parameters.

Rows and schemas are free-form JSON, so they are mappings.
"""

from typing import Literal, TypeAlias

import attrs

from evals_async._json import JSONObject, JSONValue
from evals_async.models.base import Model, Unknown, repeated
from evals_async.models.messages import InputMessages


ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | str


# --- the data source configs of evals ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False, eq=False)
class CustomDataSourceConfig(Model):
    """Rows that the user provides.

    An eval is created with `item_schema` (required then) and `include_sample_schema`. The response has `schema`
    instead, which contains both.
    https://platform.openai.com/docs/api-reference/evals/create
    """

    type: Literal["custom"] = "custom"
    #: The JSON schema of one row.
    item_schema: JSONObject | None = attrs.field(default=None, hash=False)
    # : Whether graders may use `sample`. True if runs call a model.
    include_sample_schema: bool | None = None
    # : In responses: an object schema with the properties `item` and, if requested, `sample`.
    schema: JSONObject | None = attrs.field(default=None, hash=False)
    # : Azure only. Null in all known responses.
    max_items: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class LogsDataSourceConfig(Model):
    """Rows are logged responses, chosen by their metadata."""

    type: Literal["logs"] = "logs"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    # : Set by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class StoredCompletionsDataSourceConfig(Model):
    """Rows are stored chat completions, chosen by their metadata. This is the older name of `logs`."""

    type: Literal["stored_completions"] = "stored_completions"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    # : Set by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class AzureSourceConfig(Model):
    """Microsoft Foundry: one of its scenarios makes the rows.

    https://learn.microsoft.com/azure/foundry/how-to/develop/cloud-evaluation
    """

    type: Literal["azure_ai_source"] = "azure_ai_source"
    scenario: (
        Literal["red_team", "responses", "traces_preview", "synthetic_data_gen_preview", "benchmark_preview"] | str
    )
    # : Set by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


DataSourceConfig: TypeAlias = (
    CustomDataSourceConfig | LogsDataSourceConfig | StoredCompletionsDataSourceConfig | AzureSourceConfig | Unknown
)
"""The description of an eval's rows."""


# --- the data sources of runs ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False, eq=False)
class FileContentRow(Model):
    """One inline row of a run."""

    # : `item` in templates.
    item: JSONObject = attrs.field(hash=False)
    # : `sample` in templates: a model response that already exists.
    sample: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class FileContent(Model):
    """Inline rows of a run. Every response with the run contains all of them."""

    type: Literal["file_content"] = "file_content"
    content: tuple[FileContentRow, ...]


@attrs.frozen(kw_only=True, repr=False, eq=False)
class FileId(Model):
    """Rows of an uploaded JSON Lines file (or, on Foundry, of a dataset)."""

    type: Literal["file_id"] = "file_id"
    id: str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class StoredCompletionsSource(Model):
    """Rows are the stored chat completions that match all of these fields."""

    type: Literal["stored_completions"] = "stored_completions"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    model: str | None = None
    #: Seconds since the epoch.
    created_after: int | None = None
    #: Seconds since the epoch.
    created_before: int | None = None
    limit: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ResponsesSource(Model):
    """Rows are the stored responses that match all of these fields."""

    type: Literal["responses"] = "responses"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    model: str | None = None
    # : A string that the instructions contain.
    instructions_search: str | None = None
    #: Seconds since the epoch.
    created_after: int | None = None
    #: Seconds since the epoch.
    created_before: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    temperature: float | None = None
    top_p: float | None = None
    users: tuple[str, ...] | None = None
    #: The names of tools.
    tools: tuple[JSONValue, ...] | None = attrs.field(default=None, hash=False)
    # : The server accepts it, although the specification does not have it.
    limit: int | None = None


JsonlRows: TypeAlias = FileContent | FileId | Unknown
CompletionsRows: TypeAlias = FileContent | FileId | StoredCompletionsSource | Unknown
ResponsesRows: TypeAlias = FileContent | FileId | ResponsesSource | Unknown


@attrs.frozen(kw_only=True, repr=False, eq=False)
class SamplingParams(Model):
    """The sampling parameters of a run or of a model grader.

    The fields depend on the API: `response_format` is for completions, `text` is for responses, and the token limit has
    two names.
    """

    reasoning_effort: ReasoningEffort | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    # : The token limit of a run.
    max_completion_tokens: int | None = None
    # : The token limit of a model grader, and of a run in responses. The API uses this spelling.
    max_completions_tokens: int | None = None
    response_format: JSONObject | None = attrs.field(default=None, hash=False)
    text: JSONObject | None = attrs.field(default=None, hash=False)
    tools: tuple[JSONValue, ...] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class JsonlDataSource(Model):
    """Rows are graded without a call to a model."""

    type: Literal["jsonl"] = "jsonl"
    source: JsonlRows


@attrs.frozen(kw_only=True, repr=False, eq=False)
class CompletionsDataSource(Model):
    """A model is called through the chat completions API, once per row.

    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["completions"] = "completions"
    source: CompletionsRows
    input_messages: InputMessages | None = None
    model: str | None = repeated()
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ResponsesDataSource(Model):
    """A model is called through the responses API, once per row.

    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["responses"] = "responses"
    source: ResponsesRows
    input_messages: InputMessages | None = None
    model: str | None = repeated()
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class AzureTargetCompletionsDataSource(Model):
    """Microsoft Foundry: an agent or a deployed model is called once per row."""

    type: Literal["azure_ai_target_completions"] = "azure_ai_target_completions"
    source: JsonlRows
    input_messages: InputMessages | None = None
    #: `{"type": "azure_ai_agent", "name": …}` or `{"type": "azure_ai_model", "model": …}`.
    target: JSONObject = attrs.field(hash=False)
    # : The settings of calls to the target, set by the server: `{"type": "target_completions", "max_concurrency": 1}`.
    item_generation_params: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class AzureResponsesDataSource(Model):
    """Microsoft Foundry: existing responses are fetched and graded."""

    type: Literal["azure_ai_responses"] = "azure_ai_responses"
    #: `{"type": "response_retrieval", "source": …, "data_mapping": …}`.
    item_generation_params: JSONObject = attrs.field(hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class CsvDataSource(Model):
    """Microsoft Foundry: the rows of a CSV file are graded without a call to a model."""

    type: Literal["csv"] = "csv"
    source: JsonlRows


RunDataSource: TypeAlias = (
    JsonlDataSource
    | CompletionsDataSource
    | ResponsesDataSource
    | AzureTargetCompletionsDataSource
    | AzureResponsesDataSource
    | CsvDataSource
    | Unknown
)
"""The rows of a run, and the model calls before grading."""

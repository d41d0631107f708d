"""Where rows come from: the data source configs of evals, the data sources of runs, and how runs sample their models.

Rows and schemas are the user's own JSON and stay mappings. Nothing here reads a file.
"""

from typing import Literal, TypeAlias

import attrs

from evals_async._json import JSONObject, JSONValue
from evals_async.models.base import Model, Unknown, repeated
from evals_async.models.messages import InputMessages


ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | str


# --- what an eval expects of its rows ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class CustomDataSourceConfig(Model):
    """Rows that the user provides.

    An eval is created with `item_schema` (required then) and `include_sample_schema`. The response has `schema`
    instead, which contains both.
    https://platform.openai.com/docs/api-reference/evals/create
    """

    type: Literal["custom"] = "custom"
    #: The JSON schema of one row.
    item_schema: JSONObject | None = attrs.field(default=None, hash=False)
    #: Whether graders may refer to `sample`: true when a run lets a model answer.
    include_sample_schema: bool | None = None
    #: As echoed: an object schema with the properties `item` and, where asked for, `sample`.
    schema: JSONObject | None = attrs.field(default=None, hash=False)
    #: Made by Azure, and null as far as has been seen.
    max_items: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class LogsDataSourceConfig(Model):
    """Rows are logged responses, chosen by their metadata."""

    type: Literal["logs"] = "logs"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    #: Made by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class StoredCompletionsDataSourceConfig(Model):
    """Rows are stored chat completions, chosen by their metadata. The older name of `logs`."""

    type: Literal["stored_completions"] = "stored_completions"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    #: Made by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class AzureSourceConfig(Model):
    """Microsoft Foundry: rows are made by one of its scenarios.

    https://learn.microsoft.com/azure/foundry/how-to/develop/cloud-evaluation
    """

    type: Literal["azure_ai_source"] = "azure_ai_source"
    scenario: (
        Literal["red_team", "responses", "traces_preview", "synthetic_data_gen_preview", "benchmark_preview"] | str
    )
    #: Made by the server.
    schema: JSONObject | None = attrs.field(default=None, hash=False)


DataSourceConfig: TypeAlias = (
    CustomDataSourceConfig | LogsDataSourceConfig | StoredCompletionsDataSourceConfig | AzureSourceConfig | Unknown
)
"""What an eval expects of its rows."""


# --- where a run takes its rows from ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class FileContentRow(Model):
    """One row that is sent along with the run."""

    #: What templates call `item`.
    item: JSONObject = attrs.field(hash=False)
    #: What templates call `sample`: an answer that was made elsewhere.
    sample: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class FileContent(Model):
    """Rows that are sent along with the run. The server repeats all of them whenever it shows the run."""

    type: Literal["file_content"] = "file_content"
    content: tuple[FileContentRow, ...]


@attrs.frozen(kw_only=True, repr=False)
class FileId(Model):
    """Rows of an uploaded JSON Lines file (or, on Foundry, of a dataset)."""

    type: Literal["file_id"] = "file_id"
    id: str


@attrs.frozen(kw_only=True, repr=False)
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


@attrs.frozen(kw_only=True, repr=False)
class ResponsesSource(Model):
    """Rows are the stored responses that match all of these fields."""

    type: Literal["responses"] = "responses"
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    model: str | None = None
    #: A string to be found in the instructions.
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
    #: Taken by the server, though its specification does not have it.
    limit: int | None = None


JsonlRows: TypeAlias = FileContent | FileId | Unknown
CompletionsRows: TypeAlias = FileContent | FileId | StoredCompletionsSource | Unknown
ResponsesRows: TypeAlias = FileContent | FileId | ResponsesSource | Unknown


@attrs.frozen(kw_only=True, repr=False)
class SamplingParams(Model):
    """How a model is sampled: by a run of either API, or by a model grader.

    One class for all of them. Which fields count depends on where it stands: `response_format` goes with completions,
    `text` with responses, and the API itself writes the limit in two ways.
    """

    reasoning_effort: ReasoningEffort | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    #: The limit of a run.
    max_completion_tokens: int | None = None
    #: The limit of a model grader, and what the server echoes of a run; spelled like this by the API.
    max_completions_tokens: int | None = None
    response_format: JSONObject | None = attrs.field(default=None, hash=False)
    text: JSONObject | None = attrs.field(default=None, hash=False)
    tools: tuple[JSONValue, ...] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class JsonlDataSource(Model):
    """Rows are graded as they are; no model is called."""

    type: Literal["jsonl"] = "jsonl"
    source: JsonlRows


@attrs.frozen(kw_only=True, repr=False)
class CompletionsDataSource(Model):
    """A model is called through the chat completions API, once per row.

    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["completions"] = "completions"
    source: CompletionsRows
    input_messages: InputMessages | None = None
    model: str | None = repeated()
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False)
class ResponsesDataSource(Model):
    """A model is called through the responses API, once per row.

    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["responses"] = "responses"
    source: ResponsesRows
    input_messages: InputMessages | None = None
    model: str | None = repeated()
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False)
class AzureTargetCompletionsDataSource(Model):
    """Microsoft Foundry: an agent or a deployed model is called, once per row."""

    type: Literal["azure_ai_target_completions"] = "azure_ai_target_completions"
    source: JsonlRows
    input_messages: InputMessages | None = None
    #: `{"type": "azure_ai_agent", "name": …}` or `{"type": "azure_ai_model", "model": …}`.
    target: JSONObject = attrs.field(hash=False)
    #: How the target is asked, made by the server: `{"type": "target_completions", "max_concurrency": 1}`.
    item_generation_params: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class AzureResponsesDataSource(Model):
    """Microsoft Foundry: responses that exist already are fetched and graded."""

    type: Literal["azure_ai_responses"] = "azure_ai_responses"
    #: `{"type": "response_retrieval", "source": …, "data_mapping": …}`.
    item_generation_params: JSONObject = attrs.field(hash=False)


@attrs.frozen(kw_only=True, repr=False)
class CsvDataSource(Model):
    """Microsoft Foundry: the rows of a CSV file are graded as they are."""

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
"""Where a run takes its rows from, and what it does with them before they are graded."""

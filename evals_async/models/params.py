"""The inputs of the API as typed mappings, which may be used instead of the classes.

An alias that ends in `Input` is the type of an argument: a class, the mapping with the same fields, or an `Unknown`.
Mappings may contain classes at any depth. The required fields are those of the API. mypy and pyright check them; there
is no check at run time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NotRequired, TypeAlias, TypedDict

from evals_async.models.base import Unknown
from evals_async.models.graders import MultiGrader, SimilarityMetric, SingleGrader, StringOperation
from evals_async.models.messages import (
    ContentPart,
    InputAudioData,
    ItemReference,
    Message,
    PromptCacheBreakpoint,
    TemplateMessages,
)
from evals_async.models.sources import (
    DataSourceConfig,
    FileContent,
    FileContentRow,
    FileId,
    ResponsesSource,
    RunDataSource,
    SamplingParams,
    StoredCompletionsSource,
)


Json: TypeAlias = Mapping[str, object]
"""A free-form JSON object: any dict or TypedDict. Its values are checked when it is sent."""

Metadata: TypeAlias = Mapping[str, str]
"""At most 16 pairs, with keys of at most 64 characters and values of at most 512."""

Strings: TypeAlias = list[str] | tuple[str, ...]
"""Several strings. It is not a `Sequence`, because a single string is one too."""

Order: TypeAlias = Literal["asc", "desc"]
OrderBy: TypeAlias = Literal["created_at", "updated_at"]
RunStatus: TypeAlias = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemStatus: TypeAlias = Literal["fail", "pass"]
"""The statuses that listings can be filtered by."""

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


# --- messages ---------------------------------------------------------------------------------------------------------


class PromptCacheBreakpointParam(TypedDict):
    """See `PromptCacheBreakpoint`."""

    mode: NotRequired[Literal["explicit"]]
    ttl: NotRequired[Literal["30m", "12h"]]


class InputTextParam(TypedDict):
    """See `InputText`."""

    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: NotRequired[PromptCacheBreakpoint | PromptCacheBreakpointParam]


class OutputTextParam(TypedDict):
    """See `OutputText`."""

    type: Literal["output_text"]
    text: str


class InputImageParam(TypedDict):
    """See `InputImage`."""

    type: Literal["input_image"]
    image_url: NotRequired[str]
    file_id: NotRequired[str]
    detail: NotRequired[str]
    prompt_cache_breakpoint: NotRequired[PromptCacheBreakpoint | PromptCacheBreakpointParam]


class InputAudioDataParam(TypedDict):
    """See `InputAudioData`."""

    data: str
    format: Literal["mp3", "wav"]


class InputAudioParam(TypedDict):
    """See `InputAudio`."""

    type: Literal["input_audio"]
    input_audio: InputAudioData | InputAudioDataParam


ContentPartInput: TypeAlias = ContentPart | InputTextParam | OutputTextParam | InputImageParam | InputAudioParam


class MessageParam(TypedDict):
    """See `Message`."""

    type: NotRequired[Literal["message"]]
    role: Literal["user", "assistant", "system", "developer"]
    content: str | ContentPartInput | Sequence[str | ContentPartInput]
    phase: NotRequired[Literal["commentary", "final_answer"]]


MessageInput: TypeAlias = Message | MessageParam | Unknown


class TemplateMessagesParam(TypedDict):
    """See `TemplateMessages`."""

    type: Literal["template"]
    template: Iterable[MessageInput]


class ItemReferenceParam(TypedDict):
    """See `ItemReference`."""

    type: Literal["item_reference"]
    item_reference: str


InputMessagesInput: TypeAlias = TemplateMessages | ItemReference | TemplateMessagesParam | ItemReferenceParam | Unknown


# --- graders ----------------------------------------------------------------------------------------------------------


class SamplingParamsParam(TypedDict, total=False):
    """See `SamplingParams`."""

    reasoning_effort: Effort | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    max_completion_tokens: int | None
    max_completions_tokens: int | None
    response_format: Json
    text: Json
    tools: Iterable[Json]


SamplingParamsInput: TypeAlias = SamplingParams | SamplingParamsParam


class StringCheckGraderParam(TypedDict):
    """See `StringCheckGrader`."""

    type: Literal["string_check"]
    name: str
    input: str
    reference: str
    operation: StringOperation


class TextSimilarityGraderParam(TypedDict):
    """See `TextSimilarityGrader`."""

    type: Literal["text_similarity"]
    name: str
    input: str
    reference: str
    evaluation_metric: SimilarityMetric
    pass_threshold: NotRequired[float]


class LabelModelGraderParam(TypedDict):
    """See `LabelModelGrader`."""

    type: Literal["label_model"]
    name: str
    model: str
    input: Iterable[MessageInput]
    labels: Strings
    passing_labels: Strings


class ScoreModelGraderParam(TypedDict):
    """See `ScoreModelGrader`."""

    type: Literal["score_model"]
    name: str
    model: str
    input: Iterable[MessageInput]
    range: NotRequired[Sequence[float]]
    pass_threshold: NotRequired[float]
    sampling_params: NotRequired[SamplingParamsInput]


class PythonGraderParam(TypedDict):
    """See `PythonGrader`."""

    type: Literal["python"]
    name: str
    source: str
    image_tag: NotRequired[str]
    pass_threshold: NotRequired[float]


class AzureEvaluatorGraderParam(TypedDict):
    """See `AzureEvaluatorGrader`."""

    type: Literal["azure_ai_evaluator"]
    name: str
    evaluator_name: str
    evaluator_version: NotRequired[str]
    initialization_parameters: NotRequired[Json]
    data_mapping: NotRequired[Mapping[str, str]]


SingleGraderInput: TypeAlias = (
    SingleGrader
    | StringCheckGraderParam
    | TextSimilarityGraderParam
    | LabelModelGraderParam
    | ScoreModelGraderParam
    | PythonGraderParam
    | AzureEvaluatorGraderParam
)


class MultiGraderParam(TypedDict):
    """See `MultiGrader`."""

    type: Literal["multi"]
    name: str
    graders: SingleGraderInput | Sequence[SingleGraderInput] | Mapping[str, SingleGraderInput]
    calculate_output: str


GraderInput: TypeAlias = SingleGraderInput | MultiGrader | MultiGraderParam


# --- data source configs ----------------------------------------------------------------------------------------------


class CustomDataSourceConfigParam(TypedDict):
    """See `CustomDataSourceConfig`."""

    type: Literal["custom"]
    item_schema: Json
    include_sample_schema: NotRequired[bool]


class LogsDataSourceConfigParam(TypedDict):
    """See `LogsDataSourceConfig`."""

    type: Literal["logs"]
    metadata: NotRequired[Json]


class StoredCompletionsDataSourceConfigParam(TypedDict):
    """See `StoredCompletionsDataSourceConfig`."""

    type: Literal["stored_completions"]
    metadata: NotRequired[Json]


class AzureSourceConfigParam(TypedDict):
    """See `AzureSourceConfig`."""

    type: Literal["azure_ai_source"]
    scenario: str


DataSourceConfigInput: TypeAlias = (
    DataSourceConfig
    | CustomDataSourceConfigParam
    | LogsDataSourceConfigParam
    | StoredCompletionsDataSourceConfigParam
    | AzureSourceConfigParam
)


# --- data sources -----------------------------------------------------------------------------------------------------


class FileContentRowParam(TypedDict):
    """See `FileContentRow`."""

    item: Json
    sample: NotRequired[Json]


class FileContentParam(TypedDict):
    """See `FileContent`."""

    type: Literal["file_content"]
    content: Iterable[FileContentRow | FileContentRowParam]


class FileIdParam(TypedDict):
    """See `FileId`."""

    type: Literal["file_id"]
    id: str


class StoredCompletionsSourceParam(TypedDict):
    """See `StoredCompletionsSource`."""

    type: Literal["stored_completions"]
    metadata: NotRequired[Metadata | None]
    model: NotRequired[str | None]
    created_after: NotRequired[int | None]
    created_before: NotRequired[int | None]
    limit: NotRequired[int | None]


class ResponsesSourceParam(TypedDict):
    """See `ResponsesSource`."""

    type: Literal["responses"]
    metadata: NotRequired[Json | None]
    model: NotRequired[str | None]
    instructions_search: NotRequired[str | None]
    created_after: NotRequired[int | None]
    created_before: NotRequired[int | None]
    reasoning_effort: NotRequired[Effort | None]
    temperature: NotRequired[float | None]
    top_p: NotRequired[float | None]
    users: NotRequired[Strings | None]
    tools: NotRequired[Strings | None]
    limit: NotRequired[int | None]


JsonlRowsInput: TypeAlias = FileContent | FileId | FileContentParam | FileIdParam | Unknown
CompletionsRowsInput: TypeAlias = JsonlRowsInput | StoredCompletionsSource | StoredCompletionsSourceParam
ResponsesRowsInput: TypeAlias = JsonlRowsInput | ResponsesSource | ResponsesSourceParam


class JsonlDataSourceParam(TypedDict):
    """See `JsonlDataSource`."""

    type: Literal["jsonl"]
    source: JsonlRowsInput


class CompletionsDataSourceParam(TypedDict):
    """See `CompletionsDataSource`."""

    type: Literal["completions"]
    source: CompletionsRowsInput
    input_messages: NotRequired[InputMessagesInput]
    model: NotRequired[str]
    sampling_params: NotRequired[SamplingParamsInput]


class ResponsesDataSourceParam(TypedDict):
    """See `ResponsesDataSource`."""

    type: Literal["responses"]
    source: ResponsesRowsInput
    input_messages: NotRequired[InputMessagesInput]
    model: NotRequired[str]
    sampling_params: NotRequired[SamplingParamsInput]


class AzureTargetCompletionsDataSourceParam(TypedDict):
    """See `AzureTargetCompletionsDataSource`."""

    type: Literal["azure_ai_target_completions"]
    source: JsonlRowsInput
    input_messages: NotRequired[InputMessagesInput]
    target: Json


class AzureResponsesDataSourceParam(TypedDict):
    """See `AzureResponsesDataSource`."""

    type: Literal["azure_ai_responses"]
    item_generation_params: Json


class CsvDataSourceParam(TypedDict):
    """See `CsvDataSource`."""

    type: Literal["csv"]
    source: JsonlRowsInput


RunDataSourceInput: TypeAlias = (
    RunDataSource
    | JsonlDataSourceParam
    | CompletionsDataSourceParam
    | ResponsesDataSourceParam
    | AzureTargetCompletionsDataSourceParam
    | AzureResponsesDataSourceParam
    | CsvDataSourceParam
)

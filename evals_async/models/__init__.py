"""The classes of the API, one per kind of object, and typed mappings that may be used instead of them.

A module is imported when one of its names is first used, as in `evals_async` itself.
"""

from evals_async._names import lazy_names


TYPE_CHECKING = False

if TYPE_CHECKING:
    from evals_async.models.base import (
        Model as Model,
        Unknown as Unknown,
        without_uuid as without_uuid,
    )
    from evals_async.models.evals import (
        Eval as Eval,
        EvalDefinition as EvalDefinition,
        EvalDeleted as EvalDeleted,
    )
    from evals_async.models.events import (
        RunCanceledEvent as RunCanceledEvent,
        RunFailedEvent as RunFailedEvent,
        RunReference as RunReference,
        RunSucceededEvent as RunSucceededEvent,
        WebhookEvent as WebhookEvent,
    )
    from evals_async.models.files import (
        File as File,
        FileDeleted as FileDeleted,
    )
    from evals_async.models.grader_runs import (
        GraderRun as GraderRun,
        GraderRunErrors as GraderRunErrors,
        GraderRunMetadata as GraderRunMetadata,
        GraderValidation as GraderValidation,
    )
    from evals_async.models.graders import (
        AzureEvaluatorGrader as AzureEvaluatorGrader,
        Grader as Grader,
        LabelModelGrader as LabelModelGrader,
        MultiGrader as MultiGrader,
        PythonGrader as PythonGrader,
        ScoreModelGrader as ScoreModelGrader,
        StringCheckGrader as StringCheckGrader,
        TextSimilarityGrader as TextSimilarityGrader,
    )
    from evals_async.models.messages import (
        ContentPart as ContentPart,
        InputAudio as InputAudio,
        InputAudioData as InputAudioData,
        InputImage as InputImage,
        InputMessages as InputMessages,
        InputText as InputText,
        ItemReference as ItemReference,
        Message as Message,
        OutputText as OutputText,
        PromptCacheBreakpoint as PromptCacheBreakpoint,
        TemplateMessages as TemplateMessages,
    )
    from evals_async.models.output_items import (
        GraderResult as GraderResult,
        OutputItem as OutputItem,
        Sample as Sample,
        SampleMessage as SampleMessage,
        TokenUsage as TokenUsage,
    )
    from evals_async.models.params import (
        AzureEvaluatorGraderParam as AzureEvaluatorGraderParam,
        AzureResponsesDataSourceParam as AzureResponsesDataSourceParam,
        AzureSourceConfigParam as AzureSourceConfigParam,
        AzureTargetCompletionsDataSourceParam as AzureTargetCompletionsDataSourceParam,
        CompletionsDataSourceParam as CompletionsDataSourceParam,
        ContentPartInput as ContentPartInput,
        CsvDataSourceParam as CsvDataSourceParam,
        CustomDataSourceConfigParam as CustomDataSourceConfigParam,
        DataSourceConfigInput as DataSourceConfigInput,
        FileContentParam as FileContentParam,
        FileContentRowParam as FileContentRowParam,
        FileIdParam as FileIdParam,
        GraderInput as GraderInput,
        InputAudioDataParam as InputAudioDataParam,
        InputAudioParam as InputAudioParam,
        InputImageParam as InputImageParam,
        InputMessagesInput as InputMessagesInput,
        InputTextParam as InputTextParam,
        ItemReferenceParam as ItemReferenceParam,
        JsonlDataSourceParam as JsonlDataSourceParam,
        LabelModelGraderParam as LabelModelGraderParam,
        LogsDataSourceConfigParam as LogsDataSourceConfigParam,
        MessageInput as MessageInput,
        MessageParam as MessageParam,
        Metadata as Metadata,
        MultiGraderParam as MultiGraderParam,
        OutputTextParam as OutputTextParam,
        PromptCacheBreakpointParam as PromptCacheBreakpointParam,
        PythonGraderParam as PythonGraderParam,
        ResponsesDataSourceParam as ResponsesDataSourceParam,
        ResponsesSourceParam as ResponsesSourceParam,
        RunDataSourceInput as RunDataSourceInput,
        SamplingParamsInput as SamplingParamsInput,
        SamplingParamsParam as SamplingParamsParam,
        ScoreModelGraderParam as ScoreModelGraderParam,
        StoredCompletionsDataSourceConfigParam as StoredCompletionsDataSourceConfigParam,
        StoredCompletionsSourceParam as StoredCompletionsSourceParam,
        StringCheckGraderParam as StringCheckGraderParam,
        TemplateMessagesParam as TemplateMessagesParam,
        TextSimilarityGraderParam as TextSimilarityGraderParam,
    )
    from evals_async.models.runs import (
        TERMINAL_STATUSES as TERMINAL_STATUSES,
        CostEstimate as CostEstimate,
        CriterionResult as CriterionResult,
        ErrorInfo as ErrorInfo,
        EvalRun as EvalRun,
        Execution as Execution,
        ExecutionNote as ExecutionNote,
        Latency as Latency,
        ModelCost as ModelCost,
        ModelUsage as ModelUsage,
        ResultCounts as ResultCounts,
        RunDeleted as RunDeleted,
        RunStatus as RunStatus,
    )
    from evals_async.models.sources import (
        AzureResponsesDataSource as AzureResponsesDataSource,
        AzureSourceConfig as AzureSourceConfig,
        AzureTargetCompletionsDataSource as AzureTargetCompletionsDataSource,
        CompletionsDataSource as CompletionsDataSource,
        CsvDataSource as CsvDataSource,
        CustomDataSourceConfig as CustomDataSourceConfig,
        DataSourceConfig as DataSourceConfig,
        FileContent as FileContent,
        FileContentRow as FileContentRow,
        FileId as FileId,
        JsonlDataSource as JsonlDataSource,
        LogsDataSourceConfig as LogsDataSourceConfig,
        ReasoningEffort as ReasoningEffort,
        ResponsesDataSource as ResponsesDataSource,
        ResponsesSource as ResponsesSource,
        RunDataSource as RunDataSource,
        SamplingParams as SamplingParams,
        StoredCompletionsDataSourceConfig as StoredCompletionsDataSourceConfig,
        StoredCompletionsSource as StoredCompletionsSource,
    )

HOMES = {
    "base": "Model Unknown without_uuid",
    "evals": "Eval EvalDefinition EvalDeleted",
    "events": "RunCanceledEvent RunFailedEvent RunReference RunSucceededEvent WebhookEvent",
    "files": "File FileDeleted",
    "grader_runs": "GraderRun GraderRunErrors GraderRunMetadata GraderValidation",
    "graders": """
        AzureEvaluatorGrader Grader LabelModelGrader MultiGrader PythonGrader ScoreModelGrader
        StringCheckGrader TextSimilarityGrader
    """,
    "messages": """
        ContentPart InputAudio InputAudioData InputImage InputMessages InputText ItemReference
        Message OutputText PromptCacheBreakpoint TemplateMessages
    """,
    "output_items": "GraderResult OutputItem Sample SampleMessage TokenUsage",
    "params": """
        AzureEvaluatorGraderParam AzureResponsesDataSourceParam AzureSourceConfigParam
        AzureTargetCompletionsDataSourceParam CompletionsDataSourceParam ContentPartInput
        CsvDataSourceParam CustomDataSourceConfigParam DataSourceConfigInput FileContentParam
        FileContentRowParam FileIdParam GraderInput InputAudioDataParam InputAudioParam
        InputImageParam InputMessagesInput InputTextParam ItemReferenceParam JsonlDataSourceParam
        LabelModelGraderParam LogsDataSourceConfigParam MessageInput MessageParam Metadata
        MultiGraderParam OutputTextParam PromptCacheBreakpointParam PythonGraderParam
        ResponsesDataSourceParam ResponsesSourceParam RunDataSourceInput SamplingParamsInput
        SamplingParamsParam ScoreModelGraderParam StoredCompletionsDataSourceConfigParam
        StoredCompletionsSourceParam StringCheckGraderParam TemplateMessagesParam
        TextSimilarityGraderParam
    """,
    "runs": """
        TERMINAL_STATUSES CostEstimate CriterionResult ErrorInfo EvalRun Execution ExecutionNote
        Latency ModelCost ModelUsage ResultCounts RunDeleted RunStatus
    """,
    "sources": """
        AzureResponsesDataSource AzureSourceConfig AzureTargetCompletionsDataSource
        CompletionsDataSource CsvDataSource CustomDataSourceConfig DataSourceConfig FileContent
        FileContentRow FileId JsonlDataSource LogsDataSourceConfig ReasoningEffort
        ResponsesDataSource ResponsesSource RunDataSource SamplingParams
        StoredCompletionsDataSourceConfig StoredCompletionsSource
    """,
}
"""Which module each public name is made in."""

PLACES = {name: module for module, names in HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # to type checkers public is what the imports above rename to itself, and nothing else
    __all__ = sorted(PLACES)  # noqa: PLE0605  # computed
    __getattr__, __dir__ = lazy_names(__name__, PLACES)

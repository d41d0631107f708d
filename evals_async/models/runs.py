"""Runs of evals: their status, counts and errors. The result of each row is in `output_items`."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import attrs

from evals_async._json import JSONObject
from evals_async.models.base import Model, deferred, moment, repeated, without_uuid
from evals_async.models.sources import RunDataSource


RunStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "canceled", "cancelled"] | str

TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled", "cancelled"})
"""The final statuses of a run. OpenAI and Azure write `canceled`, LiteLLM writes `cancelled`."""

KNOWN_STATUSES = TERMINAL_STATUSES | {"queued", "in_progress"}


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ErrorInfo(Model):
    """The error of a run or of a sample."""

    code: str | None = None
    message: str | None = None


def real_error(error: ErrorInfo | str | None) -> ErrorInfo | None:
    """Return the error, or `None`. Without an error, Foundry sends an object of empty strings, and sometimes only a
    string.
    """
    if isinstance(error, str):
        return ErrorInfo(message=error) if error else None
    return error if error is not None and (error.code or error.message) else None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ResultCounts(Model):
    """How many rows of a run passed, failed or had an error. All are zero while it is queued."""

    total: int | None = None
    passed: int | None = None
    failed: int | None = None
    errored: int | None = None
    #: Foundry only.
    skipped: int | None = None

    @property
    def pass_rate(self) -> float | None:
        """The fraction of rows that passed, from 0 to 1. `None` if there are no rows."""
        try:
            return self.passed / self.total if self.passed is not None and self.total else None
        except OverflowError:  # JSON has integers of any size
            return None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ModelUsage(Model):
    """The calls and tokens of one model in a run."""

    # : Foundry lists the usage of its target twice: as the model, and as `azure_ai_model_target`.
    model_name: str | None = repeated()
    #: Azure only: the name under which the model is deployed.
    deployment_name: str | None = repeated()
    invocation_count: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class CriterionResult(Model):
    """How many rows of a run passed one criterion."""

    #: The criterion's id: `<name>-<uuid4>` on OpenAI, the name on Azure.
    testing_criteria: str | None = repeated()
    # : The same, if the server sends it.
    testing_criteria_id: str | None = repeated()
    # : Foundry only, in some responses: the name that the user gave.
    name: str | None = repeated()
    passed: int | None = None
    failed: int | None = None
    #: Foundry only.
    errored: int | None = None
    #: Foundry only.
    skipped: int | None = None
    # : Foundry only, in some responses: the fraction of rows that passed, from 0 to 1.
    pass_rate: float | None = None

    @property
    def plain_name(self) -> str | None:
        """The name of the criterion that the user gave."""
        return None if self.testing_criteria is None else without_uuid(self.testing_criteria)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Latency(Model):
    """The response times of one part of a Foundry run: the median and the 95th percentile."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    # : The number of measured responses.
    sample_count: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ModelCost(Model):
    """Foundry's estimate of the cost of one model, in the currency of its `CostEstimate`."""

    model_name: str | None = repeated()
    estimated_cost: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class CostEstimate(Model):
    """Foundry's estimate of the cost of one part of a run."""

    estimated_cost: float | None = None
    #: Such as `USD`.
    currency: str | None = None
    # : Whether the prices of all models are known.
    completeness: Literal["complete"] | str | None = None
    # : The price list that was used.
    pricing_version: str | None = repeated()
    model_costs: tuple[ModelCost, ...] | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ExecutionNote(Model):
    """A remark about the execution of a run, and the number of rows that it applies to."""

    text: str | None = None
    rows: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Execution(Model):
    """Details of the execution of a run by the local server."""

    # : Calls to models, for samples and judges.
    calls: int | None = None
    tokens: int | None = None
    # : Calls that were sent again after a lost response. They may be billed twice.
    billed_retries: int | None = None
    # : The cost by the prices of the model map, in its currency. `None` without prices.
    cost: float | None = None
    notes: tuple[ExecutionNote, ...] | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class EvalRun(Model):
    """One run of an eval. `create`, `retrieve`, `list` and `cancel` all return this class.

    https://platform.openai.com/docs/api-reference/evals/run-object
    """

    object: Literal["eval.run"] | None = None
    id: str
    eval_id: str | None = None
    status: RunStatus
    name: str | None = repeated()
    model: str | None = repeated()
    # : Seconds since the epoch. OpenAI and Azure send no other time, so the duration of a run is unknown.
    created_at: int | None = None
    # : A page of the provider's dashboard. It contains the id of the project, so do not publish it.
    report_url: str | None = None
    result_counts: ResultCounts | None = None
    #: `None` while queued, and when canceled early.
    per_model_usage: tuple[ModelUsage, ...] | None = None
    #: `None` while queued, and on some completed runs too.
    per_testing_criteria_results: tuple[CriterionResult, ...] | None = None
    data_source: RunDataSource | None = deferred("Where the rows come from, and what the model is asked.")
    # : The received value. Use `failure`, which is `None` for an empty error.
    error: ErrorInfo | str | None = None
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    shared_with_openai: bool | None = None
    #: Seconds since the epoch. LiteLLM only, as the next one.
    started_at: int | None = None
    #: Seconds since the epoch.
    completed_at: int | None = None
    #: Seconds since the epoch. Foundry only, as all that follow.
    modified_at: int | None = None
    # : The duration in ISO 8601: `PT52.1792726S`.
    duration: str | None = None
    # : The name of its creator.
    created_by: str | None = repeated()
    # : Properties that Foundry sets, such as `runType` and `TargetType`.
    properties: JSONObject | None = attrs.field(default=None, hash=False)
    # : By the part of the run, such as `target`.
    latency: Mapping[str, Latency] | None = attrs.field(default=None, hash=False)
    # : By the part of the run, such as `target`.
    estimated_cost: Mapping[str, CostEstimate] | None = attrs.field(default=None, hash=False)
    # : The id of the dataset with the items of the run.
    output_dataset_id: str | None = None
    # : Local server only.
    execution: Execution | None = None

    _shown_first: ClassVar[tuple[str, ...]] = ("id", "status", "pass_rate")

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self.created_at)

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final. A status that is unknown to this package is not final."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_known_status(self) -> bool:
        """Whether the status is one of the statuses that this package defines. An unknown status may be final or
        not.
        """
        return self.status in KNOWN_STATUSES

    @property
    def failure(self) -> ErrorInfo | None:
        """The error, or `None` if there is none. An empty error object counts as none."""
        return real_error(self.error)

    @property
    def pass_rate(self) -> float | None:
        """The fraction of rows that passed, from 0 to 1. `None` if there are no rows, or if the counts are missing."""
        return None if self.result_counts is None else self.result_counts.pass_rate

    @property
    def total_tokens(self) -> int | None:
        """The tokens of all models, or `None` if some are unknown. Foundry lists the tokens of a target twice; they
        are counted once.
        """
        if self.per_model_usage is None:
            return None
        counts = [usage.total_tokens for usage in self.per_model_usage if not self._is_repeated(usage)]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def _is_repeated(self, usage: ModelUsage) -> bool:
        """Whether this is Foundry's second entry for a target, with the same tokens as the entry of its model."""
        name = usage.model_name or ""
        if usage.total_tokens is None or not (name.startswith("azure_ai_") and name.endswith("_target")):
            return False
        others = [other for other in self.per_model_usage or () if other.model_name != name]
        return any((other.total_tokens or 0) >= usage.total_tokens for other in others)

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks: the counts as a bar, the criteria, and the tokens of each model."""
        from evals_async import _html

        counts, failure = self.result_counts, self.failure
        facts = {
            "run": self.id,
            "eval": self.eval_id,
            "status": self.status,
            "pass rate": self.pass_rate,
            "model": self.model,
            "created": self.created,
            "error": None if failure is None else failure.message or failure.code,
        }
        criteria = [(each.plain_name, each.passed, each.failed) for each in self.per_testing_criteria_results or ()]
        usage = [(each.model_name, each.invocation_count, each.total_tokens) for each in self.per_model_usage or ()]
        return _html.document(
            self.name or "Run",
            facts,
            "" if counts is None else _html.bar({name: getattr(counts, name) for name in _html.COLORS}),
            _html.Grid("Criteria", ("criterion", "passed", "failed"), criteria),
            _html.Grid("Tokens", ("model", "requests", "tokens"), usage),
        )


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunDeleted(Model):
    """The response after a run was deleted. https://platform.openai.com/docs/api-reference/evals/deleteRun

    A response that does not say what was deleted raises `DecodeError`.
    """

    # : Azure sends `eval.deleted` for a run too.
    object: Literal["eval.run.deleted", "eval.deleted"] | None = None
    deleted: bool
    run_id: str
    # : True if the response was lost and the second request found that the object is gone. The client sets it.
    assumed: bool | None = None

"""Runs of evals: their status, counts and errors. The result of each row is in `output_items`."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import attrs

from evals_async import _html
from evals_async._json import JSONObject
from evals_async.models.base import Model, moment, repeated
from evals_async.models.graders import without_uuid
from evals_async.models.sources import RunDataSource


RunStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "canceled", "cancelled"] | str

TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled", "cancelled"})
"""A run stays in these. OpenAI and Azure write `canceled`, LiteLLM writes `cancelled`."""

KNOWN_STATUSES = TERMINAL_STATUSES | {"queued", "in_progress"}


@attrs.frozen(kw_only=True, repr=False)
class ErrorInfo(Model):
    """What went wrong in a run or in a sample."""

    code: str | None = None
    message: str | None = None


def real_error(error: ErrorInfo | str | None) -> ErrorInfo | None:
    """The error, if there is one. Foundry sends an object of empty strings for none, and sometimes a mere string."""
    if isinstance(error, str):
        return ErrorInfo(message=error) if error else None
    return error if error is not None and (error.code or error.message) else None


@attrs.frozen(kw_only=True, repr=False)
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
        """The share of rows that passed, from 0 to 1; `None` if there were none."""
        return self.passed / self.total if self.passed is not None and self.total else None


@attrs.frozen(kw_only=True, repr=False)
class ModelUsage(Model):
    """How often a model was called during a run, and how many tokens this took."""

    #: Foundry lists what its target used twice: as the model, and as `azure_ai_model_target`.
    model_name: str | None = repeated()
    #: Azure only: the name under which the model is deployed.
    deployment_name: str | None = repeated()
    invocation_count: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class CriterionResult(Model):
    """How many rows of a run passed one criterion."""

    #: The criterion's id: `<name>-<uuid4>` on OpenAI, the name on Azure.
    testing_criteria: str | None = repeated()
    #: The same, where the server sends it.
    testing_criteria_id: str | None = repeated()
    #: Foundry only: the name as the user gave it, in some answers.
    name: str | None = repeated()
    passed: int | None = None
    failed: int | None = None
    #: Foundry only.
    errored: int | None = None
    #: Foundry only.
    skipped: int | None = None
    #: Foundry only, in some answers: the share of rows that passed, from 0 to 1.
    pass_rate: float | None = None

    @property
    def plain_name(self) -> str | None:
        """The criterion's name as the user gave it."""
        return None if self.testing_criteria is None else without_uuid(self.testing_criteria)


@attrs.frozen(kw_only=True, repr=False)
class Latency(Model):
    """How long a part of a Foundry run took to answer: half of its answers, and 95 of 100, came within that time."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    #: How many answers were measured.
    sample_count: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class ModelCost(Model):
    """What Foundry thinks the answers of one model cost, in the currency of the estimate around it."""

    model_name: str | None = repeated()
    estimated_cost: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class CostEstimate(Model):
    """What Foundry thinks a part of a run cost."""

    estimated_cost: float | None = None
    #: Such as `USD`.
    currency: str | None = None
    #: Are the prices of all models known?
    completeness: Literal["complete"] | str | None = None
    #: Which price list was used.
    pricing_version: str | None = repeated()
    model_costs: tuple[ModelCost, ...] | None = None


@attrs.frozen(kw_only=True, repr=False)
class ExecutionNote(Model):
    """Something to know about how a run was carried out, and how many rows it is about."""

    text: str | None = None
    rows: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class Execution(Model):
    """What the local server says of how it carried a run out."""

    #: Calls of models, for samples and judges.
    calls: int | None = None
    tokens: int | None = None
    #: Calls that were sent again after a lost response, and may be billed twice.
    billed_retries: int | None = None
    #: By the prices of the model map, in its currency; `None` without prices.
    cost: float | None = None
    notes: tuple[ExecutionNote, ...] | None = None


@attrs.frozen(kw_only=True, repr=False)
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
    #: Seconds since the epoch. OpenAI and Azure tell no other time: how long a run took cannot be known from it.
    created_at: int | None = None
    #: A page of the provider's dashboard. It names the project: think before you publish it.
    report_url: str | None = None
    result_counts: ResultCounts | None = None
    #: `None` while queued, and when canceled early.
    per_model_usage: tuple[ModelUsage, ...] | None = None
    #: `None` while queued, and on some completed runs too.
    per_testing_criteria_results: tuple[CriterionResult, ...] | None = None
    data_source: RunDataSource | None = None
    #: As it came; `failure` tells whether it means anything.
    error: ErrorInfo | str | None = None
    metadata: JSONObject | None = attrs.field(default=None, hash=False)
    shared_with_openai: bool | None = None
    #: Seconds since the epoch. LiteLLM only, as the next one.
    started_at: int | None = None
    #: Seconds since the epoch.
    completed_at: int | None = None
    #: Seconds since the epoch. Foundry only, as all that follow.
    modified_at: int | None = None
    #: How long it took, as an ISO 8601 duration: `PT52.1792726S`.
    duration: str | None = None
    #: The name of who made it.
    created_by: str | None = repeated()
    #: What Foundry notes of it, such as `runType` and `TargetType`.
    properties: JSONObject | None = attrs.field(default=None, hash=False)
    #: By what was asked, such as `target`.
    latency: Mapping[str, Latency] | None = attrs.field(default=None, hash=False)
    #: By what was asked, such as `target`.
    estimated_cost: Mapping[str, CostEstimate] | None = attrs.field(default=None, hash=False)
    #: The dataset that it wrote its items to.
    output_dataset_id: str | None = None
    #: Of the local server only.
    execution: Execution | None = None

    _shown_first: ClassVar[tuple[str, ...]] = ("id", "status", "pass_rate")

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self.created_at)

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final. A status that this package does not know is not final."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_known_status(self) -> bool:
        """Whether this package knows the status. An unknown status may be final or not."""
        return self.status in KNOWN_STATUSES

    @property
    def failure(self) -> ErrorInfo | None:
        """The error, or `None` if there is none. An empty error object counts as none."""
        return real_error(self.error)

    @property
    def pass_rate(self) -> float | None:
        """The share of rows that passed, from 0 to 1; `None` if there were none, or if it is not known."""
        return None if self.result_counts is None else self.result_counts.pass_rate

    @property
    def total_tokens(self) -> int | None:
        """The tokens of all models together; `None` if a part of them is not known.

        Foundry lists the tokens of a target twice; they are counted once.
        """
        if self.per_model_usage is None:
            return None
        counts = [usage.total_tokens for usage in self.per_model_usage if not self._is_repeated(usage)]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def _is_repeated(self, usage: ModelUsage) -> bool:
        """Is it Foundry's second entry for a target, next to the one of its model, which holds the same tokens?"""
        name = usage.model_name or ""
        if usage.total_tokens is None or not (name.startswith("azure_ai_") and name.endswith("_target")):
            return False
        others = [other for other in self.per_model_usage or () if other.model_name != name]
        return any((other.total_tokens or 0) >= usage.total_tokens for other in others)

    def _repr_html_(self) -> str:
        """What a notebook shows: the counts as a bar, the criteria, and the tokens of each model."""
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


@attrs.frozen(kw_only=True, repr=False)
class RunDeleted(Model):
    """The response to deleting a run. https://platform.openai.com/docs/api-reference/evals/deleteRun

    A response that does not say what was deleted raises `DecodeError`.
    """

    #: Azure says `eval.deleted` for a run too.
    object: Literal["eval.run.deleted", "eval.deleted"] | None = None
    deleted: bool
    run_id: str
    #: Set by the client, where the server's answer was lost and a second look found the object gone.
    assumed: bool | None = None

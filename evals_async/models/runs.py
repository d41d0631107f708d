"""Runs of evals: their status, their counts, their errors. What became of each row stands in `output_items`."""

from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from evals_async._json import JSONObject
from evals_async.models.base import Model, moment
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
    """How many rows of a run came out how. All are zero while it is queued."""

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
    """How often a model was asked during a run, and the tokens that took."""

    model_name: str | None = None
    invocation_count: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class CriterionResult(Model):
    """How many rows of a run passed one criterion."""

    #: The criterion's id: `<name>-<uuid4>` on OpenAI, the name on Azure.
    testing_criteria: str | None = None
    #: The same, where the server sends it.
    testing_criteria_id: str | None = None
    passed: int | None = None
    failed: int | None = None
    #: Foundry only.
    errored: int | None = None
    #: Foundry only.
    skipped: int | None = None

    @property
    def plain_name(self) -> str | None:
        """The criterion's name as the user gave it."""
        return None if self.testing_criteria is None else without_uuid(self.testing_criteria)


@attrs.frozen(kw_only=True, repr=False)
class EvalRun(Model):
    """One run of an eval: what creating, retrieving, listing and cancelling runs all answer with.

    https://platform.openai.com/docs/api-reference/evals/run-object
    """

    object: Literal["eval.run"] | None = None
    id: str
    eval_id: str | None = None
    status: RunStatus | None = None
    name: str | None = None
    model: str | None = None
    #: Seconds since the epoch. The API tells no other time: how long a run took cannot be known from it.
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

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self.created_at)

    @property
    def is_terminal(self) -> bool:
        """Will the status stay as it is? A status that this package does not know is not terminal."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_known_status(self) -> bool:
        """Is the status one that this package knows? Of others it cannot be said whether they will change."""
        return self.status in KNOWN_STATUSES

    @property
    def failure(self) -> ErrorInfo | None:
        """The error, if there really is one."""
        return real_error(self.error)

    @property
    def pass_rate(self) -> float | None:
        """The share of rows that passed, from 0 to 1; `None` if there were none, or if it is not known."""
        return None if self.result_counts is None else self.result_counts.pass_rate

    @property
    def total_tokens(self) -> int | None:
        """The tokens of all models together; `None` if a part of them is not known."""
        if self.per_model_usage is None:
            return None
        counts = [usage.total_tokens for usage in self.per_model_usage]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


@attrs.frozen(kw_only=True, repr=False)
class RunDeleted(Model):
    """The answer to deleting a run. https://platform.openai.com/docs/api-reference/evals/deleteRun

    One that does not say what was deleted is no such answer.
    """

    #: Azure says `eval.deleted` for a run too.
    object: Literal["eval.run.deleted", "eval.deleted"] | None = None
    deleted: bool
    run_id: str
    #: Set by the client, where the server's answer was lost and a second look found the object gone.
    assumed: bool | None = None

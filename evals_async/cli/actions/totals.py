"""`RunTotals`: add up the rows, verdicts and tokens of many runs. Prints nothing."""

from __future__ import annotations

from collections import Counter

import attrs

import evals_async


@attrs.define
class Verdicts:
    """How many rows passed and failed one grader."""

    passed: int = 0
    failed: int = 0

    @property
    def pass_rate(self) -> float | None:
        """The share of rows that passed; `None` without rows."""
        graded = self.passed + self.failed
        return self.passed / graded if graded else None


@attrs.define
class Tokens:
    """The calls and tokens of one model."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    total: int = 0


@attrs.define
class RunTotals:
    """The totals of many runs. Missing values count as 0."""

    statuses: Counter[str] = attrs.Factory(Counter[str])
    rows: int = 0
    passed: int = 0
    errored: int = 0
    graders: dict[tuple[str, str], Verdicts] = attrs.Factory(dict[tuple[str, str], Verdicts])
    models: dict[str, Tokens] = attrs.Factory(dict[str, Tokens])
    rated: list[evals_async.EvalRun] = attrs.Factory(list["evals_async.EvalRun"])

    def add(self, run: evals_async.EvalRun) -> None:
        """Add one run."""
        self.statuses[run.status or "unknown"] += 1
        if run.pass_rate is not None:
            self.rated.append(run)
        if run.result_counts is not None:
            self.rows += run.result_counts.total or 0
            self.passed += run.result_counts.passed or 0
            self.errored += run.result_counts.errored or 0
        for result in run.per_testing_criteria_results or ():
            verdicts = self.graders.setdefault((run.eval_id or "", result.plain_name or ""), Verdicts())
            verdicts.passed += result.passed or 0
            verdicts.failed += result.failed or 0
        for usage in run.per_model_usage or ():
            tokens = self.models.setdefault(usage.model_name or "unknown", Tokens())
            tokens.calls += usage.invocation_count or 0
            tokens.prompt += usage.prompt_tokens or 0
            tokens.completion += usage.completion_tokens or 0
            tokens.total += usage.total_tokens or 0

    @property
    def runs(self) -> int:
        """The number of runs."""
        return self.statuses.total()

    @property
    def pass_rate(self) -> float | None:
        """The share of all rows that passed; `None` without rows."""
        return self.passed / self.rows if self.rows else None

    @property
    def tokens(self) -> int:
        """The tokens of all models together."""
        return sum(tokens.total for tokens in self.models.values())

    def lowest(self, number: int) -> list[evals_async.EvalRun]:
        """Return the runs with the lowest pass rates, lowest first; runs with the same rate by age."""
        order = sorted(self.rated, key=lambda run: (run.pass_rate or 0.0, run.created_at or 0, run.id))
        return order[:number]

"""The limits of runs: calls and tokens of models, and concurrency."""

from collections.abc import Sequence

import attrs

from evals_async._json import JSONObject
from evals_async.errors import ConfigurationError
from evals_async.server.execution.sampling import SamplingPlan


MOST_RUNS = 8  # runs in progress at once; more wait in the queue


@attrs.frozen(kw_only=True)
class ExecutionLimits:
    """The limits of a server with models.

    A run may make `max_calls` calls to models and use `max_tokens` tokens, for sampling and judges together. `None`
    means no limit. At most `rows_per_run` rows of a run, and `rows` rows of all runs, are in progress at once.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    rows_per_run: int = 32
    rows: int = 64

    def __attrs_post_init__(self) -> None:
        for name, value in (
            ("max_calls", self.max_calls),
            ("max_tokens", self.max_tokens),
            ("run_concurrency", self.rows_per_run),
            ("concurrency", self.rows),
        ):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise ConfigurationError(f"{name} must be a whole number from 1, not {value!r:.40}")


class CallBudget:
    """The remaining calls and tokens of a run. A row starts only if all its calls are within the limit."""

    def __init__(self, limits: ExecutionLimits, calls_of_a_row: int, calls: int, tokens: int) -> None:
        self._limits = limits
        self._calls_of_a_row = calls_of_a_row
        self._calls = calls
        self._tokens = tokens
        self._under_way = 0

    def reserve(self) -> bool:
        """Reserve the calls of one more row. Returns whether they are within the limits."""
        limits = self._limits
        planned = self._calls + (self._under_way + 1) * self._calls_of_a_row
        if self._calls_of_a_row and limits.max_calls is not None and planned > limits.max_calls:
            return False
        if self._calls_of_a_row and limits.max_tokens is not None and self._tokens >= limits.max_tokens:
            return False
        self._under_way += 1
        return True

    def release(self, calls: int, tokens: int) -> None:
        """Release the reservation of a finished row, and add its calls and tokens."""
        self._under_way -= 1
        self._calls += calls
        self._tokens += tokens

    def reached(self) -> tuple[str, str]:
        """Return the limit that was reached: a code and a sentence."""
        limits = self._limits
        if limits.max_tokens is not None and self._tokens >= limits.max_tokens:
            used = f"{self._tokens:,} tokens were used"
            return "max_tokens_reached", f"the run may use {limits.max_tokens:,} tokens, and {used}; its items are kept"
        made = f"{self._calls:,} were made, and the next row needs {self._calls_of_a_row:,}"
        allowed = f"the run may make {limits.max_calls or 0:,} calls to models"
        return "max_calls_reached", f"{allowed}, {made}; its items are kept"


def calls_of_a_row(plan: SamplingPlan | None, criteria: Sequence[JSONObject]) -> int:
    """Return the number of calls to models for a row, if no judge must be called again."""
    judged = [
        criterion
        for criterion in criteria
        if criterion.get("type") in ("label_model", "score_model") or criterion.get("evaluation_metric") == "cosine"
    ]
    return len(judged) + (plan is not None)

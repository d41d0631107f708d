"""`RunOutcomes`: the verdicts and scores of a run, collected item by item, for a comparison.

Each item is reduced to its key, its verdicts and its scores, so a large run need not be in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Self, TypeAlias

import attrs

from evals_async import _json
from evals_async._json import JSONObject, JSONValue, as_array, as_object
from evals_async._numbers import float_of
from evals_async.errors import InvalidArgument
from evals_async.models import EvalRun, GraderResult, OutputItem, Sample, without_uuid


@attrs.frozen(order=True)
class CriterionName:
    """The key of a criterion: its name in the results, its metric (on Foundry), and its number among equal names."""

    name: str
    metric: str = ""
    number: int = 1

    @property
    def plain(self) -> str:
        """The name to show: without the server's uuid, with the metric if there is one."""
        plain = without_uuid(self.name)
        name = f"{plain} / {self.metric}" if self.metric and self.metric != plain else plain
        return name if self.number == 1 else f"{name} ({self.number})"

    def without_uuid(self) -> "CriterionName":
        """Return the criterion without the server's uuid, so that it can be matched with another eval."""
        return attrs.evolve(self, name=without_uuid(self.name))


@attrs.frozen
class CriterionOutcome:
    """The result of one criterion for one row; both are `None` if the grader failed or skipped the row."""

    passed: bool | None
    score: float | None

    @property
    def score_is_verdict(self) -> bool:
        """Whether the score only repeats the verdict (0 or 1), or there is no score."""
        return self.score is None or self.score == self.passed


@attrs.frozen(kw_only=True)
class RowOutcome:
    """One item of a run: the key of its row, and its results.

    `row` is a digest of the canonical JSON of the row. `passed` is `None` if the item is an error. `results` has the
    outcomes by the index of their criterion in `RunOutcomes.criteria`.
    """

    item_id: str
    source_id: int | str | None
    row: bytes
    passed: bool | None
    results: Mapping[int, CriterionOutcome]
    cluster: str | None = None


@attrs.frozen(kw_only=True)
class TokenCount:
    """The calls and tokens of one model."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def plus(self, calls: int | None, prompt: int | None, completion: int | None, cached: int | None) -> "TokenCount":
        """Return the sum with other counts; `None` counts as 0."""
        return TokenCount(
            calls=self.calls + (calls or 0),
            prompt=self.prompt + (prompt or 0),
            completion=self.completion + (completion or 0),
            cached=self.cached + (cached or 0),
        )

    @property
    def total(self) -> int:
        """Prompt and completion tokens together; cached tokens are part of the prompt tokens."""
        return self.prompt + self.completion


NO_TOKENS = TokenCount()
FOUNDRY_TARGET = "azure_ai_model_target"  # Foundry lists the usage of the target a second time under this name
FOUNDRY_ANSWER = "sample."  # Foundry writes the output (`sample.output_text`) and the ids of the call into the row
FOUNDRY_CALL = frozenset(
    {"response_id", "conversation_id", "previous_response_id", "agent_id", "agent_name", "agent_version"}
)


class TokenSums:
    """The sums of tokens by model, collected sample by sample."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}  # calls, prompt, completion and cached tokens

    @property
    def by_model(self) -> dict[str, TokenCount]:
        """The sums so far, by the name of the model."""
        return {
            name: TokenCount(calls=calls, prompt=prompt, completion=completion, cached=cached)
            for name, (calls, prompt, completion, cached) in self._sums.items()
        }

    def add(self, sample: Sample | None) -> None:
        """Add the usage of one model call; a sample without usage is ignored."""
        usage = None if sample is None else sample.usage
        if sample is None or usage is None or not (usage.prompt_tokens or usage.completion_tokens):
            return
        sums = self._sums.setdefault(sample.model or "?", [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += usage.prompt_tokens or 0
        sums[2] += usage.completion_tokens or 0
        sums[3] += usage.cached_tokens or 0


def tokens_of_run(run: EvalRun | None) -> dict[str, TokenCount] | None:
    """Return the calls and tokens by model in the run, or `None` if it has none. Foundry's second entry is skipped."""
    usage = None if run is None else run.per_model_usage
    if not usage:
        return None
    found: dict[str, TokenCount] = {}
    for entry in usage:
        name = entry.model_name or "?"
        if name != FOUNDRY_TARGET or len(usage) == 1:
            counts = entry.invocation_count, entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens
            found[name] = found.get(name, NO_TOKENS).plus(*counts)
    return found


Interned: TypeAlias = dict[tuple[bool | None, float | None], CriterionOutcome]


class RunOutcomes:
    """The outcomes of a run's items: `outcomes = RunOutcomes(run)`, then `outcomes.add(item)` for each item.

    The order of the items does not matter. An item that is added twice counts once. `cluster` is the path of a field of
    the item, such as `item.topic`. Rows with the same value may depend on each other. Raises `InvalidArgument` for
    a wrong path, and for an item of another run.
    """

    def __init__(self, run: EvalRun | None = None, *, cluster: str | None = None) -> None:
        self.run = run
        self.cluster = cluster
        self.rows: list[RowOutcome] = []
        self.criteria: dict[CriterionName, int] = {}
        self.repeated = 0
        #: Criteria for which a lower score may be better. Foundry evaluators do not say whether it is.
        self.unoriented: set[CriterionName] = set()
        self._path = cluster_path(cluster)
        self._seen: set[str] = set()
        self._tokens = TokenSums()
        self._interned: Interned = {}
        self._clusters: dict[str, str] = {}

    @classmethod
    def of(cls, items: Iterable[OutputItem], run: EvalRun | None = None, *, cluster: str | None = None) -> Self:
        """Make the outcomes of these items. Raises `InvalidArgument` as the constructor and `add` do."""
        found = cls(run, cluster=cluster)
        for item in items:
            found.add(item)
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, item: OutputItem) -> None:
        """Add one item of the run. Raises `InvalidArgument` for an item of another run."""
        if item.id in self._seen:
            self.repeated += 1
            return
        if self.run is not None and item.run_id not in (None, self.run.id):
            raise InvalidArgument(f"the item {item.id} belongs to the run {item.run_id}, not to {self.run.id}")
        self._seen.add(item.id)
        row = item.datasource_item
        self.rows.append(
            RowOutcome(
                item_id=item.id,
                source_id=item.datasource_item_id,
                row=digest(row),
                passed=None if item.is_error else item.passed,
                results=self._results(item.results or ()),
                cluster=None if self._path is None else self._cluster_of(row),
            )
        )
        self._tokens.add(item.sample)
        for result in item.results or ():
            self._tokens.add(result.sample)

    def tokens(self) -> Mapping[str, TokenCount]:
        """Return the calls and tokens by model: from the run, or if it has none, from the samples of its items."""
        return tokens_of_run(self.run) or self._tokens.by_model

    def _results(self, results: Sequence[GraderResult]) -> dict[int, CriterionOutcome]:
        found: dict[int, CriterionOutcome] = {}
        counts: dict[tuple[str, str], int] = {}
        for result in results:
            key = (result.name or result.type or "?", result.metric or "")
            counts[key] = counts.get(key, 0) + 1
            criterion = CriterionName(*key, counts[key])
            index = self.criteria.setdefault(criterion, len(self.criteria))
            if result.type == "azure_ai_evaluator":
                self.unoriented.add(criterion)
            found[index] = self._outcome(result)
        return found

    def _outcome(self, result: GraderResult) -> CriterionOutcome:
        failed = result.is_error or result.status == "skipped"
        passed = None if failed else result.passed
        score = None if failed or result.score is None else float_of(result.score)
        return self._interned.setdefault((passed, score), CriterionOutcome(passed, score))

    def _cluster_of(self, row: JSONValue) -> str:
        value: object = row
        for name in self._path or ():
            fields = as_object(value)
            value = None if fields is None else fields.get(name)
        text = value if isinstance(value, str) else canonical_text(value)
        return self._clusters.setdefault(text, text)


def cluster_path(cluster: str | None) -> tuple[str, ...] | None:
    if cluster is None:
        return None
    names = tuple(cluster.split("."))
    if names[0] != "item" or len(names) < 2 or not all(names):
        raise InvalidArgument(f"cluster must be a field of the item, such as 'item.topic', got {cluster!r}")
    return names[1:]


def with_equal_numbers(value: object) -> JSONValue:
    """Convert `1.0` to `1`, because servers in other languages use both for the same number."""
    fields, entries = as_object(value), as_array(value)
    if fields is not None:
        return {name: with_equal_numbers(field) for name, field in fields.items()}
    if entries is not None:
        return [with_equal_numbers(entry) for entry in entries]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float) else None


def canonical_text(value: object) -> str:
    return _json.canonical(with_equal_numbers(value)).decode()


def digest(row: JSONObject | None) -> bytes:
    """Return the digest of a row; equal JSON values have equal digests.

    The fields that Foundry adds to the row are ignored: the output of the model and the ids of the call.
    """
    if row is not None and any(name.startswith(FOUNDRY_ANSWER) for name in row):
        row = {
            name: value
            for name, value in row.items()
            if not name.startswith(FOUNDRY_ANSWER) and name not in FOUNDRY_CALL
        }
    return blake2b(canonical_text(row).encode(), digest_size=16).digest()

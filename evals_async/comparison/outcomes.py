"""What a comparison needs of a run: `RunOutcomes`, a few numbers for each item, gathered as the items come.

A run of 100,000 items need not be in memory: each item is reduced to its key, its verdicts and its scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Self, TypeAlias

import attrs

from evals_async import _json
from evals_async._json import JSONObject, JSONValue, as_array, as_object
from evals_async.errors import InvalidArgument
from evals_async.models import EvalRun, GraderResult, OutputItem, Sample, without_uuid


@attrs.frozen(order=True)
class CriterionName:
    """Which criterion a result belongs to: its name as results have it, its metric (on Foundry), and its number
    among those of the same name.
    """

    name: str
    metric: str = ""
    number: int = 1

    @property
    def plain(self) -> str:
        """The name for people: without the server's uuid, with the metric where there is one."""
        plain = without_uuid(self.name)
        name = f"{plain} / {self.metric}" if self.metric and self.metric != plain else plain
        return name if self.number == 1 else f"{name} ({self.number})"

    def without_uuid(self) -> "CriterionName":
        """The criterion as other evals may have it too."""
        return attrs.evolve(self, name=without_uuid(self.name))


@attrs.frozen
class CriterionOutcome:
    """What one criterion says of one row; both `None` where it failed itself, or skipped the row."""

    passed: bool | None
    score: float | None

    @property
    def score_is_verdict(self) -> bool:
        """Does the score say no more than the verdict does?"""
        return self.score is None or self.score == self.passed


@attrs.frozen(kw_only=True)
class RowOutcome:
    """One item of a run: which row it is, and what became of it.

    `row` is a digest of the canonical row. `passed` is `None` where the item is an error. `results` are in the order of
    the run's `criteria`, by their place there.
    """

    item_id: str
    source_id: int | str | None
    row: bytes
    passed: bool | None
    results: Mapping[int, CriterionOutcome]
    cluster: str | None = None


@attrs.frozen(kw_only=True)
class TokenCount:
    """TokenCount of one model, and how often it was called."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def plus(self, calls: int | None, prompt: int | None, completion: int | None, cached: int | None) -> "TokenCount":
        """With the counts of another call or entry; what is `None` adds nothing."""
        return TokenCount(
            calls=self.calls + (calls or 0),
            prompt=self.prompt + (prompt or 0),
            completion=self.completion + (completion or 0),
            cached=self.cached + (cached or 0),
        )

    @property
    def total(self) -> int:
        """Prompt and completion together; cached tokens are part of the prompt's."""
        return self.prompt + self.completion


NO_TOKENS = TokenCount()
FOUNDRY_TARGET = "azure_ai_model_target"  # the target's usage once more, under another name
FOUNDRY_ANSWER = "sample."  # Foundry writes the answer into the row: `sample.output_text`, and with it ids of the call
FOUNDRY_CALL = frozenset(
    {"response_id", "conversation_id", "previous_response_id", "agent_id", "agent_name", "agent_version"}
)


class TokenSums:
    """Sums of tokens by model, gathered sample by sample."""

    def __init__(self) -> None:
        self.by_model: dict[str, TokenCount] = {}

    def add(self, sample: Sample | None) -> None:
        """Add one conversation with a model; one without usage is none."""
        usage = None if sample is None else sample.usage
        if sample is None or usage is None or not (usage.prompt_tokens or usage.completion_tokens):
            return
        name = sample.model or "?"
        counts = (1, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        self.by_model[name] = self.by_model.get(name, NO_TOKENS).plus(*counts)


def tokens_of_run(run: EvalRun | None) -> dict[str, TokenCount] | None:
    """Calls and tokens by model as the run counts them; `None` where it does not. Foundry counts its target twice."""
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

    The order of the items does not matter; an item that comes twice counts once. `cluster` is the path of a field of
    the item, such as `item.topic`: rows with the same value there may depend on each other. Raises `InvalidArgument`
    for a path of another form, and for an item of another run.
    """

    def __init__(self, run: EvalRun | None = None, *, cluster: str | None = None) -> None:
        self.run = run
        self.cluster = cluster
        self.rows: list[RowOutcome] = []
        self.criteria: dict[CriterionName, int] = {}
        self.repeated = 0
        #: Criteria whose score may be a severity, where less is better: evaluators of Foundry do not tell.
        self.unoriented: set[CriterionName] = set()
        self._path = cluster_path(cluster)
        self._seen: set[str] = set()
        self._tokens = TokenSums()
        self._interned: Interned = {}
        self._clusters: dict[str, str] = {}

    @classmethod
    def of(cls, items: Iterable[OutputItem], run: EvalRun | None = None, *, cluster: str | None = None) -> Self:
        """The outcomes of those items."""
        found = cls(run, cluster=cluster)
        for item in items:
            found.add(item)
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, item: OutputItem) -> None:
        """Take in one item of the run."""
        if item.id in self._seen:
            self.repeated += 1
            return
        if self.run is not None and item.run_id not in (None, self.run.id):
            raise InvalidArgument(f"the item {item.id} is of the run {item.run_id}, not of {self.run.id}")
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
        """Calls and tokens by model: as the run counts them, or where it does not, as its items tell."""
        return tokens_of_run(self.run) or self._tokens.by_model

    def _results(self, results: Sequence[GraderResult]) -> dict[int, CriterionOutcome]:
        found: dict[int, CriterionOutcome] = {}
        counts: dict[tuple[str, str], int] = {}
        for result in results:
            key = (result.name or result.type or "?", result.metric or "")
            counts[key] = counts.get(key, 0) + 1
            criterion = CriterionName(*key, counts[key])
            place = self.criteria.setdefault(criterion, len(self.criteria))
            if result.type == "azure_ai_evaluator":
                self.unoriented.add(criterion)
            found[place] = self._outcome(result)
        return found

    def _outcome(self, result: GraderResult) -> CriterionOutcome:
        failed = result.is_error or result.status == "skipped"
        passed = None if failed else result.passed
        score = None if failed or result.score is None else float(result.score)
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
        raise InvalidArgument(f"the cluster {cluster!r} is no field of the item: write it as item.topic")
    return names[1:]


def with_equal_numbers(value: object) -> JSONValue:
    """The value with `1.0` as `1`: servers in other languages write one for the other."""
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
    """The digest of a row: equal for the same JSON, however it is written.

    Without what Foundry writes into the row afterwards: the answer, and the ids of the call that gave it.
    """
    if row is not None and any(name.startswith(FOUNDRY_ANSWER) for name in row):
        row = {
            name: value
            for name, value in row.items()
            if not name.startswith(FOUNDRY_ANSWER) and name not in FOUNDRY_CALL
        }
    return blake2b(canonical_text(row).encode(), digest_size=16).digest()

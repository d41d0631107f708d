"""Convert an object of the API to flat rows: the columns of each table, and their values.

Fixed columns are first and always exist. Columns that depend on the data follow; their names have a prefix, so that
they cannot collide: `item.<field>`, `metadata.<key>`, `tokens.<model>`, `score.<criterion>`, `passed.<criterion>`,
`failed.<criterion>`. Values are plain Python: numbers, strings, booleans, datetimes. Nested values of a data source's
row or of metadata remain dicts and lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from evals_async import _json, encode
from evals_async._json import JSONObject, JSONValue, as_object
from evals_async._numbers import float_of
from evals_async.models import Eval, EvalRun, File, OutputItem
from evals_async.models.base import without_uuid
from evals_async.models.output_items import GraderResult
from evals_async.models.runs import ModelUsage


TableName: TypeAlias = Literal["evals", "runs", "items", "results", "files"]
Row: TypeAlias = dict[str, object]
Thing: TypeAlias = Eval | EvalRun | OutputItem | File

MOST_FIELDS = 500  # columns with one prefix; further fields share one column of JSON text

COLUMNS: Mapping[TableName, Mapping[str, str]] = {
    "evals": {
        **dict.fromkeys(("eval_id", "name"), "text"),
        "created_at": "time",
        "data_source_type": "text",
        "criteria": "texts",
        "testing_criteria": "text",
    },
    "runs": {
        **dict.fromkeys(("eval_id", "run_id", "name", "status", "model"), "text"),
        "created_at": "time",
        **dict.fromkeys(("total", "passed", "failed", "errored", "skipped"), "int"),
        "pass_rate": "float",
        "total_tokens": "int",
        **dict.fromkeys(("error", "report_url", "data_source_type", "data_source"), "text"),
    },
    "items": {
        **dict.fromkeys(("eval_id", "run_id", "item_id"), "text"),
        "datasource_item_id": "any",
        "created_at": "time",
        "status": "text",
        "passed": "bool",
        "is_error": "bool",
        **dict.fromkeys(("error", "output_text", "finish_reason", "model"), "text"),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens"), "int"),
    },
    "results": {
        **dict.fromkeys(("eval_id", "run_id", "item_id"), "text"),
        "datasource_item_id": "any",
        **dict.fromkeys(("criterion", "grader", "metric", "type"), "text"),
        "score": "float",
        "passed": "bool",
        "is_error": "bool",
        "label": "any",
        **dict.fromkeys(("explanation", "grader_id"), "text"),
    },
    "files": {
        **dict.fromkeys(("file_id", "filename", "purpose"), "text"),
        "bytes": "int",
        "created_at": "time",
        "sha256": "text",
    },
}
"""The fixed columns of each table, and their types. The type of `any` depends on the values."""

PREFIXES: Mapping[TableName, tuple[str, ...]] = {
    "evals": ("metadata",),
    "runs": ("tokens", "passed", "failed", "metadata"),
    "items": ("score", "passed", "item"),
    "results": (),
    "files": (),
}
"""The prefixes of the columns that depend on the data, in order."""


@attrs.define
class CriterionNames:
    """Gives each criterion of an eval a unique name, the same in all rows of a table.

    It is the name of the grader. If several graders have the same name, the metric or a number is added: `g`, `g (f1)`,
    `g #2`.
    """

    named: dict[tuple[str, str, str | None, int], str] = attrs.Factory(dict[tuple[str, str, str | None, int], str])
    taken: dict[str, set[str]] = attrs.Factory(dict[str, set[str]])

    def of(self, eval_id: str | None, ids: Sequence[tuple[str | None, str | None]]) -> list[str]:
        """Return the names for the criteria of one row or run, which are given as (id or name, metric)."""
        owner = eval_id or ""
        plain = [without_uuid(name or "") or "grader" for name, _ in ids]
        found: list[str] = []
        counts: dict[tuple[str, str | None], int] = {}
        for (name, metric), bare in zip(ids, plain, strict=True):
            number = counts[name or "", metric] = counts.get((name or "", metric), 0) + 1
            key = (owner, name or "", metric, number)
            if key not in self.named:
                self.named[key] = self.unique_name(owner, bare, metric, plain.count(bare) > 1)
            found.append(self.named[key])
        return found

    def unique_name(self, owner: str, bare: str, metric: str | None, shared: bool) -> str:
        taken = self.taken.setdefault(owner, set())
        first = f"{bare} ({metric})" if metric and (shared or bare in taken) else bare
        name, number = first, 1
        while name in taken:
            number += 1
            name = f"{first} #{number}"
        taken.add(name)
        return name

    def of_results(self, eval_id: str | None, results: Iterable[GraderResult] | None) -> list[str]:
        """Return the names for the results of one output item."""
        return self.of(eval_id, [(result.name, result.metric) for result in results or ()])


def json_text(value: object) -> str | None:
    """Return the JSON text of a model or a value; `None` for `None`."""
    return None if value is None else _json.dump(encode(value)).decode()


def score_of(result: GraderResult) -> float | None:
    return None if result.score is None else float_of(result.score)


def prefixed(prefix: str, values: JSONObject | None, row: Row) -> None:
    """Add one column per field of an object to a row."""
    for name, value in (values or {}).items():
        row[f"{prefix}.{name}"] = value if isinstance(value, str | int | float | None) else encode(value)


# --- rows -------------------------------------------------------------------------------------------------------------


def eval_row(thing: Eval) -> Row:
    criteria = thing.testing_criteria
    row: Row = {
        "eval_id": thing.id,
        "name": thing.name,
        "created_at": thing.created,
        "data_source_type": None if thing.data_source_config is None else thing.data_source_config.type,
        "criteria": None if criteria is None else [without_uuid(getattr(each, "name", "") or "") for each in criteria],
        "testing_criteria": json_text(criteria),
    }
    prefixed("metadata", thing.metadata, row)
    return row


def run_row(run: EvalRun, names: CriterionNames) -> Row:
    counts, failure = run.result_counts, run.failure
    row: Row = {
        "eval_id": run.eval_id,
        "run_id": run.id,
        "name": run.name,
        "status": run.status,
        "model": run.model,
        "created_at": run.created,
        **{
            name: None if counts is None else getattr(counts, name)
            for name in ("total", "passed", "failed", "errored", "skipped")
        },
        "pass_rate": run.pass_rate,
        "total_tokens": run.total_tokens,
        "error": None if failure is None else failure.message or failure.code,
        "report_url": run.report_url,
        "data_source_type": None if run.data_source is None else run.data_source.type,
        "data_source": json_text(source_without_rows(run)[0]),
    }
    for usage in counted_once(run):
        column = f"tokens.{usage.model_name or 'unknown'}"
        before = row.get(column)
        if usage.total_tokens is not None:
            row[column] = usage.total_tokens + (before if isinstance(before, int) else 0)
    results = run.per_testing_criteria_results or ()
    labels = names.of(run.eval_id, [(each.testing_criteria, None) for each in results])
    for label, result in zip(labels, results, strict=True):
        row[f"passed.{label}"] = result.passed
        row[f"failed.{label}"] = result.failed
    prefixed("metadata", run.metadata, row)
    return row


def counted_once(run: EvalRun) -> Sequence[ModelUsage]:
    """Return the usage of each model that `total_tokens` counts. Foundry lists the usage of a target a second time."""
    listed = run.per_model_usage or ()
    if run.total_tokens is None or sum(usage.total_tokens or 0 for usage in listed) == run.total_tokens:
        return listed
    return [usage for usage in listed if not (usage.model_name or "").endswith("_target")]


def source_without_rows(run: EvalRun) -> tuple[JSONValue, bool]:
    """Return a run's data source without the rows inside it, and whether it had any. Those rows are the items."""
    whole = encode(run.data_source)
    source = as_object((as_object(whole) or {}).get("source"))
    if source is None or "content" not in source:
        return whole, False
    return {**(as_object(whole) or {}), "source": {k: v for k, v in source.items() if k != "content"}}, True


def item_row(item: OutputItem, names: CriterionNames, key: tuple[str | None, str | None] | None = None) -> Row:
    """Return the row of an output item. `key` has its eval id and run id if the item itself has none."""
    eval_id, run_id = key or (item.eval_id, item.run_id)
    sample = item.sample
    usage = None if sample is None else sample.usage
    failure = None if sample is None else sample.failure
    row: Row = {
        "eval_id": eval_id,
        "run_id": run_id,
        "item_id": item.id,
        "datasource_item_id": item.datasource_item_id,
        "created_at": item.created,
        "status": item.status,
        "passed": item.passed,
        "is_error": item.is_error,
        "error": None if failure is None else failure.message or failure.code,
        "output_text": None if sample is None else sample.output_text,
        "finish_reason": None if sample is None else sample.finish_reason,
        "model": None if sample is None else sample.model,
        **{
            name: None if usage is None else getattr(usage, name)
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens")
        },
    }
    for label, result in zip(names.of_results(eval_id, item.results), item.results or (), strict=True):
        row[f"score.{label}"] = score_of(result)
        row[f"passed.{label}"] = result.passed
    prefixed("item", item.datasource_item, row)
    return row


def result_rows(
    item: OutputItem, names: CriterionNames, key: tuple[str | None, str | None] | None = None
) -> Iterator[Row]:
    """Yield one row per result of an output item."""
    eval_id, run_id = key or (item.eval_id, item.run_id)
    for label, result in zip(names.of_results(eval_id, item.results), item.results or (), strict=True):
        yield {
            "eval_id": eval_id,
            "run_id": run_id,
            "item_id": item.id,
            "datasource_item_id": item.datasource_item_id,
            "criterion": label,
            "grader": result.plain_name,
            "metric": result.metric,
            "type": result.type,
            "score": score_of(result),
            "passed": result.passed,
            "is_error": result.is_error,
            "label": result.label,
            "explanation": result.explanation,
            "grader_id": result.name,
        }


def file_row(file: File, sha256: str | None = None) -> Row:
    return {
        "file_id": file.id,
        "filename": file.filename,
        "purpose": file.purpose,
        "bytes": file.bytes,
        "created_at": file.created,
        "sha256": sha256,
    }

"""Write an archive's results for `promptfoo import`: one JSON Lines file per eval; its runs become columns.

A row is `{run_id, data_source_idx, item, grades, passes, grader_samples?, sample}`. If promptfoo rejects one row, it
rejects the whole file, so invalid values are left out and reported. Source: the importer of promptfoo 0.123
(src/importers/openaiEvals). `promptfooconfig` converts definitions.
"""

import math
from collections.abc import Iterator

from evals_async import _json, encode
from evals_async._numbers import float_of
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, Output, file_name
from evals_async.archive.tables import eval_keys
from evals_async.models import EvalRun, OutputItem
from evals_async.models.output_items import Sample, SampleMessage
from evals_async.tables._cells import CriterionNames


USAGE = ("total_tokens", "prompt_tokens", "completion_tokens", "cached_tokens")


def to_promptfoo(source: ArchiveReader, out: Output) -> None:
    """Write `eval_items_<eval id>.jsonl` for each eval. Raises `ArchiveError` and `OSError`."""
    for eval_id in eval_keys(source):
        name, written = f"eval_items_{file_name(eval_id)}.jsonl", 0
        with out.file(name) as file:
            for row in rows_of_eval(source, eval_id, out.report):
                file.write(_json.dump(row) + b"\n")
                written += 1
        if not written:  # promptfoo rejects an empty file
            out.discard(name)
            out.report.add("dropped", "evals without output items", "promptfoo cannot import an empty file")


def rows_of_eval(source: ArchiveReader, eval_id: str, report: ConversionReport) -> Iterator[dict[str, object]]:
    criteria = CriterionNames()
    for run in source.run_models(eval_id, report):
        for number, item in enumerate(source.item_models(eval_id, run.id, report)):
            yield row_of(run, item, number, criteria.of_results(eval_id, item.results), report)


def row_of(
    run: EvalRun, item: OutputItem, number: int, names: list[str], report: ConversionReport
) -> dict[str, object]:
    """Return one row with values that promptfoo accepts. `names` are the names of its criteria."""
    index = item.datasource_item_id
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        report.add(
            "approximated", "positions of rows", "datasource_item_id is not a number: the order of the listing is used"
        )
        index = number
    if item.datasource_item is None:
        report.add("approximated", "rows without an item", "the item becomes an empty object")
    row: dict[str, object] = {
        "run_id": run.id,
        "data_source_idx": index,
        "item": dict(item.datasource_item or {}),
        "grades": grades_of(item, names, report),
        "passes": {
            name: result.passed
            for name, result in zip(names, item.results or (), strict=True)
            if result.passed is not None
        },
        "sample": sample_of(item, report),
    }
    samples = {
        name: encode(result.sample)
        for name, result in zip(names, item.results or (), strict=True)
        if result.sample is not None
    }
    if samples:
        row["grader_samples"] = samples
    report.add("mapped", "output items")
    return row


def grades_of(item: OutputItem, names: list[str], report: ConversionReport) -> dict[str, float]:
    grades: dict[str, float] = {}
    for name, result in zip(names, item.results or (), strict=True):
        score = None if result.score is None else float_of(result.score)
        if score is not None and math.isfinite(score):
            grades[name] = score
        else:
            report.add("dropped", "grades without a number", "promptfoo needs finite numbers; the verdict is kept")
    return grades


def sample_of(item: OutputItem, report: ConversionReport) -> dict[str, object]:
    """Return the output. `error` exists only if there is one, because promptfoo treats null as an error."""
    sample = item.sample or Sample()
    converted: dict[str, object] = {"outputs": [message_of(message, report) for message in sample.output or ()]}
    usage = sample.usage
    if usage is not None:
        counts = {name: getattr(usage, name) for name in USAGE}
        if all(count is not None for count in counts.values()):
            converted["token_usage"] = counts
        else:
            report.add("dropped", "incomplete token counts", "promptfoo requires all four")
    if sample.finish_reason is not None:
        converted["finish_reason"] = sample.finish_reason
    if item.is_error:
        failure = sample.failure
        message = None if failure is None else failure.message or failure.code
        converted["error"] = message or "the row ended with an error"
    if sample.input:
        report.add("dropped", "messages sent to the model", "promptfoo's format has no field for them")
    return converted


def message_of(message: SampleMessage, report: ConversionReport) -> dict[str, object]:
    content = message.content
    if content is not None and not isinstance(content, str):
        report.add("approximated", "outputs that are not text", "they become JSON text")
        content = _json.dump(encode(content)).decode()
    if message.tool_calls is not None:
        report.add("approximated", "tool calls", "they become JSON text")
        content = (content or "") + _json.dump(encode(message.tool_calls)).decode()
    return {"role": message.role or "assistant", "content": content or ""}

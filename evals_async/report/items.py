"""`ItemView`: one output item, prepared for a page. Pure functions of models."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from evals_async import _json, encode
from evals_async._json import JSONObject, NotJSON, as_array, as_object
from evals_async.models import GraderResult, OutputItem, Sample, SampleMessage
from evals_async.report.texts import (
    Part,
    Text,
    json_text,
    number_of,
    one_line,
    parts_of,
    shown,
    tidy_json,
    without_surrogates,
)


Verdict: TypeAlias = Literal["pass", "fail", "error", "none"]


@attrs.frozen
class ToolCall:
    """A tool call: the name of the tool and the arguments."""

    name: str
    arguments: Text


@attrs.frozen
class MessageView:
    """A message of a conversation."""

    role: str
    parts: Sequence[Part]
    calls: Sequence[ToolCall]


@attrs.frozen
class Step:
    """A step of a judge's reasoning."""

    description: Text | None
    conclusion: Text | None


@attrs.frozen(kw_only=True)
class ResultView:
    """The result of one criterion for the row."""

    name: str
    kind: str | None
    verdict: Verdict
    score: str | None
    label: str | None
    reason: Text | None
    steps: Sequence[Step]
    error: Text | None
    threshold: str | None
    model: str | None
    degraded: bool
    input: Sequence[MessageView]
    output: Sequence[MessageView]


@attrs.frozen(kw_only=True)
class ItemView:
    """One item: its row, the messages of the model, and the results of the criteria."""

    id: str
    position: str
    verdict: Verdict
    title: str
    about: str
    error: Text | None
    row: Sequence[tuple[str, Text]]
    input: Sequence[MessageView]
    output: Sequence[MessageView]
    results: Sequence[ResultView]
    facts: Sequence[tuple[str, str]]


WORDS: Mapping[Verdict, str] = {"pass": "pass", "fail": "fail", "error": "error", "none": "no verdict"}


def verdict_of(passed: bool | None, is_error: bool) -> Verdict:
    if is_error:
        return "error"
    return "none" if passed is None else "pass" if passed else "fail"


def item_verdict(item: OutputItem) -> Verdict:
    """Return whether the item passed, failed, has an error, or has no verdict."""
    return verdict_of(item.passed, item.is_error)


def result_verdict(result: GraderResult) -> Verdict:
    return "none" if result.status == "skipped" else verdict_of(result.passed, result.is_error)


def item_view(item: OutputItem) -> ItemView:
    """Prepare an item for a page."""
    sample = item.sample
    failure = None if sample is None else sample.failure
    output = messages_of(None if sample is None else sample.output)
    return ItemView(
        id=without_surrogates(item.id),
        position="?" if item.datasource_item_id is None else one_line(str(item.datasource_item_id), 24),
        verdict=item_verdict(item),
        title=title_of(item),
        about=about(item.datasource_item),
        error=None if failure is None else shown(": ".join(filter(None, (failure.code, failure.message)))),
        row=[(one_line(name, 60), shown(json_text(value))) for name, value in (item.datasource_item or {}).items()],
        input=messages_of(None if sample is None else sample.input),
        output=output,
        results=[result_view(result) for result in item.results or ()],
        facts=facts_of(sample),
    )


def title_of(item: OutputItem) -> str:
    """Return a title of one line: the error, the output of the model, or the first text of the row."""
    sample = item.sample
    if sample is not None and sample.failure is not None:
        return one_line(sample.failure.message or sample.failure.code or "")
    for message in reversed((None if sample is None else sample.output) or ()):
        for part in parts_of(encode(message.content)):
            if part.text.text.strip():
                return one_line(part.text.text)
        for call in calls_of(message):
            return one_line(f"{call.name} {call.arguments.text}")
    return about(item.datasource_item)


def about(row: JSONObject | None) -> str:
    """Return the first text of the row, on one line."""
    texts = (text for text in (row or {}).values() if isinstance(text, str) and text.strip())
    return next((one_line(text) for text in texts), "")


@attrs.frozen(kw_only=True)
class Filter:
    """Which items to list: by verdict, and by a text that they contain."""

    verdict: Verdict | None = None
    text: str = ""


def fits(item: OutputItem, wanted: Filter) -> bool:
    """Return whether the item matches the filter."""
    if wanted.verdict is not None and item_verdict(item) != wanted.verdict:
        return False
    return not wanted.text or contains(encode(item), wanted.text.casefold())


def contains(value: object, text: str) -> bool:
    """Return whether any string in a JSON value contains the (casefolded) text."""
    left = [value]
    while left:  # not recursive, because JSON may be nested deeply
        part = left.pop()
        if isinstance(part, str):
            if text in part.casefold():
                return True
            continue
        fields, entries = as_object(part), as_array(part)
        left.extend(entries or () if fields is None else fields.values())
    return False


def facts_of(sample: Sample | None) -> list[tuple[str, str]]:
    if sample is None:
        return []
    usage = sample.usage
    named: tuple[tuple[str, object], ...] = (
        ("model", sample.model),
        ("finish reason", sample.finish_reason),
        ("prompt tokens", None if usage is None else usage.prompt_tokens),
        ("completion tokens", None if usage is None else usage.completion_tokens),
        ("temperature", sample.temperature),
        ("top p", sample.top_p),
        ("seed", sample.seed),
    )
    return [(name, one_line(number_text(value))) for name, value in named if value not in (None, "")]


def number_text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def messages_of(messages: Sequence[SampleMessage] | None) -> list[MessageView]:
    return [
        MessageView(one_line(message.role or "?", 30), parts_of(encode(message.content)), list(calls_of(message)))
        for message in messages or ()
    ]


def calls_of(message: SampleMessage) -> list[ToolCall]:
    """Return the tool calls of a message, in the format of chat completions or of responses."""
    calls = [*(as_array(message.tool_calls) or ()), message.function_call]
    found: list[ToolCall] = []
    for call in calls:
        fields = as_object(call)
        if fields is None:
            continue
        inner = as_object(fields.get("function")) or fields
        arguments = inner.get("arguments")
        text = tidy_json(arguments) if isinstance(arguments, str) else json_text(arguments)
        found.append(ToolCall(one_line(str(inner.get("name") or fields.get("type") or "tool"), 80), shown(text)))
    return found


# --- results ----------------------------------------------------------------------------------------------------------


def result_view(result: GraderResult) -> ResultView:
    sample = result.sample
    failure = None if sample is None else sample.failure
    steps, answer = judgement_of(sample)
    label = answer if isinstance(answer, str) else result.label
    metric = result.metric if result.metric and result.metric != result.plain_name else None
    return ResultView(
        name=one_line(" / ".join(filter(None, (result.plain_name or "?", metric))), 120),
        kind=result.type,
        verdict=result_verdict(result),
        score=None if result.score is None else score_text(result.score),
        label=None if label is None else one_line(str(label), 60),
        reason=shown(result.reason) if result.reason else None,
        steps=steps,
        error=None if failure is None else shown(": ".join(filter(None, (failure.code, failure.message)))),
        threshold=None if result.threshold is None else score_text(result.threshold),
        model=None if sample is None or not sample.model else one_line(sample.model, 80),
        degraded=is_degraded(result),
        input=messages_of(None if sample is None else sample.input),
        output=[] if steps else messages_of(None if sample is None else sample.output),
    )


def score_text(score: float) -> str:
    if number_of(score) is None:
        return one_line(str(score), 20)
    return f"{score:.4f}".rstrip("0").rstrip(".")


def is_degraded(result: GraderResult) -> bool:
    """Return whether the judge responded without structured output. Our server sets `degraded` in the sample."""
    return result.sample is not None and bool(result.sample.extra.get("degraded"))


def judgement_of(sample: Sample | None) -> tuple[list[Step], object]:
    """Return the steps of a judge's output and its result (a number or a label); empty for another format."""
    text = None if sample is None else sample.output_text
    if text is None:
        return [], None
    try:
        answer = as_object(_json.parse(text.encode("utf-8", "surrogatepass"))) or {}
    except NotJSON:
        return [], None
    steps = [
        Step(text_or_none(step.get("description")), text_or_none(step.get("conclusion")))
        for step in map(as_object, as_array(answer.get("steps")) or ())
        if step is not None
    ]
    return [step for step in steps if step.description or step.conclusion], answer.get("result")


def text_or_none(value: object) -> Text | None:
    return shown(value, 5000) if isinstance(value, str) and value else None

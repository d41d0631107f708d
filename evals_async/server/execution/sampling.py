"""The requests to a model for the rows of a run, and its responses as samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from evals_async._json import JSONObject, as_array, as_object


if TYPE_CHECKING:
    from evals_async.inference import Completion

NO_PARAMS: JSONObject = {}


@attrs.frozen(kw_only=True)
class SamplingPlan:
    """The sampling of a run: API, model, messages and parameters."""

    api: Literal["chat", "responses"]
    model: str
    messages: object
    params: JSONObject
    shown: JSONObject
    """The parameters in the form of the samples of output items."""


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class SampledRow:
    """The response for one row: `seen` is the sample for graders, `shown` is the `sample` of the output item."""

    answer: Completion
    seen: JSONObject
    shown: JSONObject


def sampling_plan(data_source: JSONObject) -> SamplingPlan | None:
    """Return the plan for a run's data source, or `None` if its rows are graded without sampling.

    A Foundry run whose target is a deployed model becomes a completions run of that model.
    """
    kind = data_source.get("type")
    model, params = data_source.get("model"), data_source.get("sampling_params")
    if kind == "azure_ai_target_completions":
        target = as_object(data_source.get("target")) or {}
        if target.get("type") == "azure_ai_model":
            model, params = target.get("model"), target.get("sampling_params")
    elif kind not in ("completions", "responses"):
        return None
    given = as_object(data_source.get("input_messages"))
    if not isinstance(model, str) or given is None:
        return None
    messages = given.get("item_reference") or given.get("template")
    given_params = as_object(params) or NO_PARAMS
    if kind == "responses":
        shown = shown_params(given_params, "max_completions_tokens")
        return SamplingPlan(api="responses", model=model, messages=messages, params=given_params, shown=shown)
    shown = shown_params(given_params, "max_completion_tokens")
    return SamplingPlan(api="chat", model=model, messages=plain_messages(messages), params=given_params, shown=shown)


def plain_messages(template: object) -> object:
    """Return the messages of a template in the form of chat completions.

    A content with text only becomes a string. The API returns such contents as parts.
    """
    entries = as_array(template)
    return template if entries is None else [plain_message(entry) for entry in entries]


def plain_message(entry: object) -> object:
    message = as_object(entry) or {}
    content = message.get("content")
    parts = [as_object(part) or {} for part in as_array(content) or (content,)]
    texts = [part.get("text") for part in parts if part.get("type") in TEXTS]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) < len(parts):
        return entry
    kept = {name: value for name, value in message.items() if name != "type"}
    return {**kept, "content": "".join(found)}


TEXTS = ("text", "input_text", "output_text")


def sampled(plan: SamplingPlan, messages: Sequence[JSONObject], answer: Completion) -> SampledRow:
    """Return the two forms of a response: for graders, and for the output item."""
    message = answer.message
    shown_input = [shown_message(entry) for entry in messages]
    seen: dict[str, object] = {
        "model": answer.model,
        "input": shown_input,
        "input_text": "\n".join([str(entry["content"]) for entry in shown_input if entry["role"] == "user"]),
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason or "stop"}],
        "output_text": answer.text,
        "output_tools": message.get("tool_calls") or [],
        "finish_reason": answer.finish_reason or "stop",
        "usage": answer.usage,
    }
    shown = {
        "input": shown_input,
        "output": [{**message, "content": answer.text or message.get("refusal")}],
        "finish_reason": answer.finish_reason or "stop",
        "model": answer.model,
        "usage": answer.usage,
        "error": None,
        **plan.shown,
    }
    return SampledRow(answer, seen, shown)


def shown_params(given: JSONObject, limit_name: str) -> JSONObject:
    """Return sampling parameters in the form of samples. The token limit has another name in each API."""
    shown: dict[str, object] = {
        "temperature": 1.0 if given.get("temperature") is None else given["temperature"],
        limit_name: next((given[name] for name in LIMITS if given.get(name) is not None), None),
        "top_p": 1.0 if given.get("top_p") is None else given["top_p"],
        "seed": given.get("seed"),
    }
    return shown if given.get("reasoning_effort") is None else shown | {"reasoning_effort": given["reasoning_effort"]}


LIMITS = ("max_completion_tokens", "max_completions_tokens", "max_output_tokens", "max_tokens")


def shown_message(message: JSONObject) -> JSONObject:
    """Return a message in the form of samples: its content is text, with the URLs of images."""
    if len(message) == 2 and "role" in message and isinstance(message.get("content"), str):
        return message
    shown: dict[str, object] = {"role": message.get("role"), "content": shown_content(message.get("content"))}
    return shown | {name: message[name] for name in ("tool_calls", "tool_call_id") if message.get(name)}


def shown_content(content: object) -> object:
    """Return a content as text, in the form of captured samples: an image is `<image>URL</image>`."""
    if content is None or isinstance(content, str):
        return content
    return "".join(map(shown_part, as_array(content) or (content,)))


def shown_part(part: object) -> str:
    fields: Mapping[str, object] = as_object(part) or {"text": str(part)}
    if isinstance(text := fields.get("text"), str):
        return text
    image = fields.get("image_url")
    if image is not None:
        return f"<image>{(as_object(image) or {}).get('url', image)}</image>"
    return f"<{str(fields.get('type') or 'part').removeprefix('input_')}>"

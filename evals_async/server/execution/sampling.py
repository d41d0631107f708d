"""What a model is asked for a row, and its answer as a sample.

The calls themselves are those of `evals_async.inference`; it is imported when the first row is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from evals_async._json import JSONObject, as_array, as_object


if TYPE_CHECKING:
    from evals_async.inference import Completion, Models

NO_PARAMS: JSONObject = {}
TOKENS = ("total_tokens", "completion_tokens", "prompt_tokens", "cached_tokens")


@attrs.frozen(kw_only=True)
class SamplingPlan:
    """How the rows of a run are sampled: by which API, from which model, with which messages and parameters."""

    api: Literal["chat", "responses"]
    model: str
    messages: object
    params: JSONObject = NO_PARAMS


@attrs.frozen(kw_only=True)
class SampledRow:
    """The answer to one row: `seen` is what graders see, `shown` the `sample` of the output item."""

    seen: JSONObject
    shown: JSONObject
    model: str
    usage: JSONObject
    billed_retries: int
    cost: float | None
    notes: tuple[str, ...]


class SamplingFailed(Exception):
    """A row could not be sampled. `code` and the text are the item's error; `called` says whether a call was made."""

    def __init__(self, code: str, message: str, *, called: bool) -> None:
        super().__init__(message)
        self.code = code
        self.called = called


def sampling_plan(data_source: JSONObject) -> SamplingPlan | None:
    """The plan in a run's data source; `None` where its rows are graded as they are.

    A Foundry run whose target is a deployed model is a completions run of that model.
    """
    kind = data_source.get("type")
    model, params = data_source.get("model"), data_source.get("sampling_params")
    if kind == "azure_ai_target_completions":
        target = as_object(data_source.get("target")) or {}
        if target.get("type") == "azure_ai_model":
            model, params = target.get("model"), target.get("sampling_params")
    elif kind not in ("completions", "responses"):
        return None
    messages = as_object(data_source.get("input_messages"))
    if not isinstance(model, str) or messages is None:
        return None
    return SamplingPlan(
        api="responses" if kind == "responses" else "chat",
        model=model,
        messages=messages.get("item_reference") or messages.get("template"),
        params=as_object(params) or NO_PARAMS,
    )


async def sample_row(models: Models, plan: SamplingPlan, item: JSONObject) -> SampledRow:
    """Ask the model about a row. Raises `SamplingFailed`."""
    from evals_async.errors import ApiError, EvalsError, InvalidArgument
    from evals_async.grading import TemplateError, render_messages

    try:
        messages = render_messages(plan.messages, {"item": item})
    except TemplateError as error:
        raise SamplingFailed("invalid_variable_error", str(error), called=False) from None
    try:
        if plan.api == "responses":
            answer = await models.respond(plan.model, messages, params=plan.params)
        else:
            answer = await models.chat(plan.model, messages, params=plan.params)
    except InvalidArgument as error:
        raise SamplingFailed("invalid_request_error", str(error), called=False) from None
    except ApiError as error:
        raise SamplingFailed(error.code or error.type or f"http_{error.status}", str(error), called=True) from None
    except EvalsError as error:
        raise SamplingFailed("model_unavailable", str(error), called=True) from None
    return sampled(plan, messages, answer)


def sampled(plan: SamplingPlan, messages: Sequence[JSONObject], answer: Completion) -> SampledRow:
    """The two forms of an answer: what graders see, and what the output item shows."""
    message = answer.message
    shown_input = [shown_message(entry) for entry in messages]
    usage = {name: answer.usage.get(name, 0) for name in TOKENS}
    seen: dict[str, object] = {
        "model": answer.model,
        "input": shown_input,
        "input_text": "\n".join(str(entry["content"]) for entry in shown_input if entry["role"] == "user"),
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason or "stop"}],
        "output_text": answer.text,
        "output_tools": message.get("tool_calls") or [],
        "finish_reason": answer.finish_reason or "stop",
        "usage": usage,
    }
    shown = {
        "input": shown_input,
        "output": [{**message, "content": answer.text or message.get("refusal")}],
        "finish_reason": answer.finish_reason or "stop",
        "model": answer.model,
        "usage": usage,
        "error": None,
        **shown_params(plan),
    }
    return SampledRow(
        seen=seen,
        shown=shown,
        model=answer.model,
        usage=answer.usage,
        billed_retries=answer.billed_retries,
        cost=answer.cost,
        notes=answer.notes,
    )


def shown_params(plan: SamplingPlan) -> dict[str, object]:
    """Sampling parameters as samples show them: the limit of tokens has another name in each API."""
    given = plan.params
    limit = next((given[name] for name in LIMITS if given.get(name) is not None), None)
    own_name = "max_completions_tokens" if plan.api == "responses" else "max_completion_tokens"
    shown: dict[str, object] = {
        "temperature": 1.0 if given.get("temperature") is None else given["temperature"],
        own_name: limit,
        "top_p": 1.0 if given.get("top_p") is None else given["top_p"],
        "seed": given.get("seed"),
    }
    return shown if given.get("reasoning_effort") is None else shown | {"reasoning_effort": given["reasoning_effort"]}


LIMITS = ("max_completion_tokens", "max_completions_tokens", "max_output_tokens", "max_tokens")


def shown_message(message: JSONObject) -> dict[str, object]:
    """A message as samples show it: its content is text, and pictures are named in it."""
    shown: dict[str, object] = {"role": message.get("role"), "content": shown_content(message.get("content"))}
    return shown | {name: message[name] for name in ("tool_calls", "tool_call_id") if message.get(name)}


def shown_content(content: object) -> object:
    """A content as text, as captured samples have it: a picture is `<image>URL</image>`."""
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

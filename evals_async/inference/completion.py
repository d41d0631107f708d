"""`Completion` and `Embeddings`: the responses of models, in one form for both APIs."""

import math
from collections.abc import Mapping, Sequence

import attrs

from evals_async import DecodeError
from evals_async._json import JSONObject, as_array, as_object
from evals_async._numbers import float_of
from evals_async.inference.endpoints import TOKENS


LARGEST_COUNT = 2**40  # tokens
UNFINISHED = ("queued", "in_progress", "failed", "cancelled")  # states of a response without a usable output


@attrs.frozen(kw_only=True)
class Completion:
    """The response of a model.

    `message` has the form of chat completions (`role`, `content`, and possibly `tool_calls`) for both APIs. `text` is
    its text, which may be empty. `model` is the name in the response, usually with a date. `usage` has `prompt_tokens`,
    `completion_tokens`, `total_tokens` and `cached_tokens`. `raw` is the whole response. `notes` are remarks, for
    example that the request was translated. `billed_retries` counts earlier attempts whose response was lost, and which
    may have been billed. `cost` uses the prices of the model map, and is `None` without prices.
    """

    text: str
    message: JSONObject
    finish_reason: str | None
    model: str
    usage: JSONObject
    raw: JSONObject = attrs.field(repr=False)
    notes: tuple[str, ...] = ()
    billed_retries: int = 0
    cost: float | None = None


@attrs.frozen(kw_only=True)
class Embeddings:
    """The vectors of texts, in their order. The other fields are those of a `Completion`."""

    vectors: tuple[tuple[float, ...], ...] = attrs.field(repr=False)
    model: str
    usage: JSONObject
    billed_retries: int = 0
    cost: float | None = None


def missing(at: str, expected: str, got: object) -> DecodeError:
    """Return the error for a JSON response that is not a model's response."""
    kind = "nothing" if got is None else type(got).__name__
    return DecodeError(f"expected {expected} at {at}, got {kind}", at=at, expected=expected, got=kind)


def told_error(body: JSONObject) -> str | None:
    """Return the error in a response with status 200, as some proxies send it, or `None`."""
    error = body.get("error")
    message = (as_object(error) or {}).get("message", error)
    return message if isinstance(message, str) and message else None


def count(value: object) -> int:
    """Return a count from JSON. An invalid count is 0, and a count that is too large is the largest one."""
    return min(value, LARGEST_COUNT) if type(value) is int and value > 0 else 0


def usage_of(body: JSONObject) -> JSONObject:
    """Return token counts with the names of the Evals API. Endpoints use two sets of names. Missing counts are 0."""
    usage = as_object(body.get("usage")) or {}
    prompt = count(usage["prompt_tokens"] if "prompt_tokens" in usage else usage.get("input_tokens"))
    completion = count(usage["completion_tokens"] if "completion_tokens" in usage else usage.get("output_tokens"))
    details = as_object(usage.get("prompt_tokens_details")) or as_object(usage.get("input_tokens_details"))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": count(usage.get("total_tokens")) or prompt + completion,
        "cached_tokens": count(details.get("cached_tokens")) if details else 0,
    }


def added(usages: Sequence[JSONObject]) -> dict[str, int]:
    """Add several usages."""
    return {name: sum(count(usage.get(name)) for usage in usages) for name in TOKENS}


def content_text(content: object) -> str:
    """Return the text of a content: the string, or the joined text of its parts."""
    if isinstance(content, str):
        return content
    parts = [as_object(part) or {} for part in as_array(content) or ()]
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))


KEPT = ("tool_calls", "refusal", "audio")  # fields of a message beside its role and its content


def of_chat(body: JSONObject, asked: str) -> Completion:
    """Decode a response of /chat/completions. Raises `DecodeError`."""
    choices = as_array(body.get("choices"))
    choice = as_object(choices[0]) if choices else None
    message = as_object(choice.get("message")) if choice else None
    # Some proxies send an error with an empty message. Its text would be graded as an answer of the model.
    if (error := told_error(body) or told_error(choice or {})) is not None:
        raise DecodeError(f"the endpoint returned status 200 with an error: {error}", at="$.error")
    if choice is None or message is None:
        raise missing("$.choices[0].message", "an object", choice and choice.get("message"))
    role, content = message.get("role"), message.get("content")
    if content is not None and type(content) is not str and as_array(content) is None:
        raise missing("$.choices[0].message.content", "a text or an array", content)
    if (calls := message.get("tool_calls")) is not None and as_array(calls) is None:
        raise missing("$.choices[0].message.tool_calls", "an array", calls)
    text = content_text(content)
    kept: dict[str, object] = {"role": role if isinstance(role, str) and role else "assistant", "content": content}
    for name in KEPT:
        if message.get(name):
            kept[name] = message[name]
    reason = choice.get("finish_reason")
    return Completion(
        text=text,
        message=kept,
        finish_reason=reason if isinstance(reason, str) else None,
        model=model_of(body, asked),
        usage=usage_of(body),
        raw=body,
    )


def model_of(body: JSONObject, asked: str) -> str:
    model = body.get("model")
    return model if isinstance(model, str) and model else asked


def tool_call_of(item: JSONObject) -> JSONObject | None:
    """Convert a tool call in the output of /responses to the form of chat completions. Returns `None` for other
    items.
    """
    kind = item.get("type")
    if kind not in ("function_call", "mcp_call", "custom_tool_call"):
        return None
    call: dict[str, object] = {
        "id": item.get("call_id") or item.get("id"),
        "type": "function" if kind == "function_call" else kind,
        "function": {"name": item.get("name"), "arguments": item.get("arguments", item.get("input"))},
    }
    return call | {name: item[name] for name in ("server_label", "output", "error") if name in item}


def of_response(body: JSONObject, asked: str) -> Completion:
    """Decode a response of /responses. Raises `DecodeError`."""
    output = as_array(body.get("output"))
    if (error := told_error(body)) is not None:
        raise DecodeError(f"the endpoint returned status 200 with an error: {error}", at="$.error")
    if body.get("status") in UNFINISHED:
        raise DecodeError(f"the response is {body['status']}, so it has no output", at="$.status")
    if output is None:
        raise missing("$.output", "an array", body.get("output"))
    texts: list[str] = []
    calls: list[JSONObject] = []
    refusal = ""
    for item in (as_object(entry) or {} for entry in output):
        if item.get("type") == "message":
            texts.append(content_text(item.get("content")))
            refusal += "".join(refusals(item.get("content")))
        elif (call := tool_call_of(item)) is not None:
            calls.append(call)
    text = "".join(texts)
    message: dict[str, object] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    if refusal:
        message["refusal"] = refusal
    return Completion(
        text=text,
        message=message,
        finish_reason=finish_of_response(body, calls),
        model=model_of(body, asked),
        usage=usage_of(body),
        raw=body,
    )


def refusals(content: object) -> list[str]:
    parts = [as_object(part) or {} for part in as_array(content) or ()]
    return [text for part in parts if isinstance(text := part.get("refusal"), str)]


def finish_of_response(body: JSONObject, calls: Sequence[object]) -> str:
    """Return the finish reason of a response, in the words of chat completions."""
    details: Mapping[str, object] = as_object(body.get("incomplete_details")) or {}
    if body.get("status") == "incomplete":
        return "content_filter" if details.get("reason") == "content_filter" else "length"
    return "tool_calls" if calls else "stop"


def of_embeddings(body: JSONObject, asked: str, wanted: int) -> Embeddings:
    """Decode a response of /embeddings. Raises `DecodeError`, also if there are not exactly `wanted` vectors of equal
    length, one for each index.
    """
    entries = [as_object(entry) or {} for entry in as_array(body.get("data")) or ()]
    known = {index_of(entry, place): entry for place, entry in enumerate(entries)}
    vectors = tuple(vector_of(known.get(place, {}).get("embedding")) for place in range(wanted))
    if len(entries) != wanted or not all(vectors) or len(set(map(len, vectors))) > 1:
        raise missing("$.data", f"an array of {wanted} embeddings", body.get("data"))
    return Embeddings(vectors=vectors, model=model_of(body, asked), usage=usage_of(body))


def index_of(entry: JSONObject, place: int) -> int:
    """Return the index of the text of a vector. Without one, the order is that of the texts."""
    index = entry.get("index")
    if index is None:
        return place
    return index if isinstance(index, int) and not isinstance(index, bool) else -1


def vector_of(value: object) -> tuple[float, ...]:
    numbers = as_array(value) or ()
    found = tuple(float_of(each) for each in numbers if isinstance(each, int | float) and not isinstance(each, bool))
    return found if len(found) == len(numbers) and all(map(math.isfinite, found)) else ()

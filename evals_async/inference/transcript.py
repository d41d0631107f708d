"""The stored form of a chat with a model, as the Evals API has it in `sample`."""

from collections.abc import Sequence

from evals_async._json import JSONObject, as_array, as_object
from evals_async.inference.completion import Completion
from evals_async.inference.shapes import chat_messages, content_parts


SHOWN_OF_A_URL = 300  # characters; data URLs contain whole images, which the row has already


def shown_part(part: object) -> str:
    """Return a content part as text, in the form of the service: `<image>URL</image>`."""
    fields = as_object(part) or {}
    match fields.get("type"):
        case "image_url":
            return f"<image>{shown_url((as_object(fields.get('image_url')) or {}).get('url'))}</image>"
        case "input_audio":
            return f"<audio>{(as_object(fields.get('input_audio')) or {}).get('format')}</audio>"
        case "file":
            return f"<file>{(as_object(fields.get('file')) or {}).get('filename')}</file>"
        case _:
            text = fields.get("text", fields.get("refusal"))
            return text if isinstance(text, str) else ""


def shown_url(url: object) -> str:
    text = str(url)
    return text if len(text) <= SHOWN_OF_A_URL else text[:SHOWN_OF_A_URL] + "…"


def shown_message(message: JSONObject) -> JSONObject:
    """Return a message with its content as text."""
    content = message.get("content")
    if content is None:
        text = ""
    else:
        text = content if isinstance(content, str) else "".join(map(shown_part, content_parts(content)))
    kept = {key: value for key, value in message.items() if key in ("tool_calls", "tool_call_id", "name") and value}
    return {"role": message.get("role"), "content": text, **kept}


def sample_object(messages: Sequence[JSONObject], completion: Completion, params: JSONObject) -> dict[str, object]:
    """Return the request and the response of a model, in the form of `sample` in output items and results."""
    limit = next((params[name] for name in LIMITS if params.get(name) is not None), None)
    given: dict[str, object] = {
        "input": [shown_message(message) for message in chat_messages(messages)],
        "output": [shown_message(completion.message)],
        "finish_reason": completion.finish_reason,
        "model": completion.model,
        "usage": dict(completion.usage),
        "error": None,
        "temperature": 1.0 if params.get("temperature") is None else params["temperature"],
        "top_p": 1.0 if params.get("top_p") is None else params["top_p"],
        "seed": params.get("seed"),
        "max_completion_tokens": limit,
    }
    if refusal := completion.message.get("refusal"):
        given["error"] = {"code": "refusal", "message": str(refusal)}
    if tools := as_array(params.get("tools")):
        given["tools"] = tools
    return given


LIMITS = ("max_completion_tokens", "max_completions_tokens", "max_output_tokens", "max_tokens")

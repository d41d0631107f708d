"""The value of `sample` for templates and python graders: one form for all kinds of samples.

A sample may come from a row (`output_text`, `choices`), a chat completion, or the `sample` of an archived output item
(`output`). The form has `output_text`, `output` and `choices`, and possibly `output_tools` and `output_json`. Tool
calls have the form of chat completions.
"""

from collections.abc import Sequence
from contextlib import suppress

from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse
from evals_async.grading.templates import are_parts, opened
from evals_async.inference.completion import tool_call_of


BEGINNINGS = ("{", "[", '"', "-", *"0123456789", "true", "false", "null")


def sample_namespace(sample: JSONObject) -> JSONObject:
    """Return the value of `sample` in templates. The sample's fields are kept, except that an `output` of the
    Responses API becomes one message.
    """
    found: dict[str, object] = dict(sample)
    message = message_of(sample)
    if "output_text" not in found and (said := text_of_content(message.get("content"))) is not None:
        found["output_text"] = said
    if "output_tools" not in found and message.get("tool_calls"):
        found["output_tools"] = message["tool_calls"]
    text = found.get("output_text")
    if not message and isinstance(text, str):
        message = {"role": "assistant", "content": text}
        if (tools := as_array(found.get("output_tools"))) is not None:
            message = {**message, "tool_calls": tools}
    if message and (not found.get("output") or has_response_items(found["output"])):
        found["output"] = [message]
    if message and not found.get("choices"):
        found["choices"] = [{"index": 0, "message": message, "finish_reason": found.get("finish_reason") or "stop"}]
    if "output_json" not in found and isinstance(text, str) and may_be_json(text):
        # If the text is not JSON, there is no output_json, and a placeholder for it is an error.
        with suppress(NotJSON):
            found["output_json"] = parse(text.encode("utf-8", "surrogatepass"))
    return found


def may_be_json(text: str) -> bool:
    """Whether a text may be JSON, by its first characters. For most texts, this is faster than parsing."""
    begun = text.lstrip("\ufeff \t\r\n")
    return begun.startswith(BEGINNINGS)


def has_response_items(output: object) -> bool:
    """Whether this is the output of the Responses API, with separate items for calls and reasoning."""
    items = [as_object(item) or {} for item in as_array(output) or ()]
    return any("type" in item and (item["type"] != "message" or "tool_calls" not in item) for item in items)


def message_of(sample: JSONObject) -> JSONObject:
    """Return the response in a sample as one message, which is empty if there is none."""
    choices = as_array(sample.get("choices"))
    choice = as_object(choices[0]) if choices else None
    if choice is not None and (message := as_object(choice.get("message"))) is not None:
        return message
    return chat_message(as_array(sample.get("output")) or ())


def chat_message(output: Sequence[object]) -> JSONObject:
    """Return an `output` of messages, or of items of the Responses API, as one message.

    It has the text of the last message with a text, and the tool calls of all messages. It is empty if there is no
    message.
    """
    content: object = None
    tools: list[object] = []
    role: object = "assistant"
    seen = False
    for item in map(as_object, output):
        if item is None:
            continue
        kind = item.get("type", "message")
        if kind == "message":
            seen = True
            role = item.get("role", role)
            content = item.get("content") or content
            tools += as_array(item.get("tool_calls")) or ()
        elif (call := tool_call_of(item)) is not None:
            seen = True
            tools.append(call)
    if not seen:
        return {}
    message: dict[str, object] = {"role": role, "content": text_of_content(content)}
    return {**message, "tool_calls": tools} if tools else message


def text_of_content(content: object) -> str | None:
    """Return the text of a message's content: the string, or the joined text of its parts. `None` if there is none."""
    if isinstance(content, str):
        # Foundry's agents send their parts as JSON text.
        parts = opened(content) if content.startswith("[{") else None
        return text_of_content(parts) if are_parts(parts) else content
    parts = as_array(content) or (() if content is None else (content,))
    texts = [part.get("text") for part in map(as_object, parts) if part is not None]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None

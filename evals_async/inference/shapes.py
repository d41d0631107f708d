"""Messages, parameters and tools: from the shapes of /responses to those of /chat/completions, and back.

Pure functions.
"""

from collections.abc import Mapping, Sequence

from evals_async import InvalidArgument
from evals_async._json import JSONObject, as_array, as_object


def content_parts(content: object) -> Sequence[object]:
    """The parts of a content that is no text: an array, or a single one."""
    return as_array(content) or (() if content is None else (content,))


# --- to /chat/completions ---------------------------------------------------------------------------------------------


def chat_part(part: object) -> object:
    """A part of a content as chat completions have it."""
    fields = as_object(part)
    if fields is None:
        return {"type": "text", "text": str(part)}
    match fields.get("type"):
        case "input_text" | "output_text":
            return {"type": "text", "text": fields.get("text", "")}
        case "input_image":
            image: dict[str, object] = {"url": fields.get("image_url")}
            if fields.get("detail") is not None:
                image["detail"] = fields["detail"]
            return {"type": "image_url", "image_url": image}
        case "input_file":
            return {"type": "file", "file": {key: value for key, value in fields.items() if key != "type"}}
        case "image_url" if isinstance(fields.get("image_url"), str):
            return {"type": "image_url", "image_url": {"url": fields["image_url"]}}
        case _:
            return fields


def chat_content(content: object) -> object:
    """A content as chat completions have it; text alone becomes a string, which every endpoint knows."""
    if content is None or isinstance(content, str):
        return content
    parts = [chat_part(part) for part in content_parts(content)]
    fields = [as_object(part) or {} for part in parts]
    if all(part.get("type") == "text" for part in fields):
        return "".join(str(part.get("text") or "") for part in fields)
    return parts


PLAIN = frozenset({"role", "content"})  # what most messages have, and nothing else


def chat_messages(items: object) -> list[JSONObject]:
    """Messages of either API, or the input of a response, as messages of chat completions."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    found: list[JSONObject] = []
    for item in map(as_object, as_array(items) or ()):
        if item is None:
            raise InvalidArgument("a message must be an object with a role and a content")
        if item.keys() <= PLAIN and isinstance(item.get("content"), str):
            found.append(item)
            continue
        match item.get("type", "message"):
            case "message":
                message = {key: value for key, value in item.items() if key not in ("type", "status", "id")}
                found.append({**message, "content": chat_content(item.get("content"))})
            case "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments")}
                call = {"id": item.get("call_id"), "type": "function", "function": function}
                found.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case "function_call_output":
                output = item.get("output")
                found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": chat_content(output)})
            case "reasoning":
                continue  # chat completions have no place for it
            case other:
                raise InvalidArgument(f"chat completions have nothing for an input of type {other}")
    return found


def chat_tools(tools: object) -> list[JSONObject]:
    """Tools as chat completions have them. Raises `InvalidArgument` for one that only /responses carries out."""
    found: list[JSONObject] = []
    for tool in map(as_object, as_array(tools) or ()):
        if tool is None or tool.get("type", "function") != "function":
            kind = None if tool is None else tool.get("type")
            raise InvalidArgument(f"the endpoint has no /responses, and chat completions have no tool {kind}")
        function = as_object(tool.get("function")) or {key: value for key, value in tool.items() if key != "type"}
        found.append({"type": "function", "function": function})
    return found


def chat_params(params: JSONObject) -> dict[str, object]:
    """Parameters of either API, or the `sampling_params` of a run, as those of chat completions; nulls are left out."""
    found = {key: value for key, value in params.items() if value is not None}
    if not found:
        return found
    for plural in ("max_completions_tokens", "max_output_tokens"):
        if plural in found:
            found.setdefault("max_completion_tokens", found.pop(plural))
    if (reasoning := as_object(found.pop("reasoning", None))) is not None and reasoning.get("effort"):
        found.setdefault("reasoning_effort", reasoning["effort"])
    if (text := as_object(found.pop("text", None))) is not None and (form := as_object(text.get("format"))):
        found.setdefault("response_format", chat_format(form))
    if "tools" in found:
        found["tools"] = chat_tools(found["tools"])
    choice = as_object(found.get("tool_choice"))
    if choice is not None and "name" in choice:
        found["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    for name in RESPONSES_ONLY:
        found.pop(name, None)
    return found


RESPONSES_ONLY = ("include", "previous_response_id", "truncation", "instructions", "conversation", "background")


def chat_format(form: JSONObject) -> JSONObject:
    """`text.format` as `response_format`."""
    if form.get("type") != "json_schema" or "json_schema" in form:
        return form
    return {"type": "json_schema", "json_schema": {key: value for key, value in form.items() if key != "type"}}


# --- to /responses ----------------------------------------------------------------------------------------------------


def response_part(part: object, role: object) -> object:
    """A part of a content as /responses has it."""
    fields = as_object(part)
    if fields is None:
        return part
    match fields.get("type"):
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": fields.get("text", "")}
        case "image_url":
            image = as_object(fields.get("image_url")) or {"url": fields.get("image_url")}
            return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}
        case _:
            return fields


def response_input(messages: object) -> object:
    """Messages of either API as the input of a response."""
    if isinstance(messages, str):
        return messages
    found: list[JSONObject] = []
    for message in map(as_object, as_array(messages) or ()):
        if message is None:
            raise InvalidArgument("a message must be an object with a role and a content")
        if message.get("role") == "tool":
            output = chat_content(message.get("content"))
            found.append({"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output})
            continue
        calls = [as_object(call) or {} for call in as_array(message.get("tool_calls")) or ()]
        content = message.get("content")
        if content is not None or not calls:
            if content is not None and not isinstance(content, str):
                content = [response_part(part, message.get("role")) for part in content_parts(content)]
            kept = {key: value for key, value in message.items() if key not in ("tool_calls", "refusal")}
            found.append(kept | ({"content": content} if "content" in message else {}))
        found += [response_call(call) for call in calls]
    return found


def response_call(call: JSONObject) -> JSONObject:
    function: Mapping[str, object] = as_object(call.get("function")) or {}
    fields: dict[str, object] = {"name": function.get("name"), "arguments": function.get("arguments")}
    return {"type": "function_call", "call_id": call.get("id"), **fields}


def response_params(params: JSONObject) -> tuple[dict[str, object], tuple[str, ...]]:
    """Parameters of either API, or the `sampling_params` of a run, as those of /responses; and notes on what it does
    not know.
    """
    found = {key: value for key, value in params.items() if value is not None}
    notes: list[str] = []
    for name in ("max_completions_tokens", "max_completion_tokens", "max_tokens"):
        if name in found:
            found.setdefault("max_output_tokens", found.pop(name))
    if (effort := found.pop("reasoning_effort", None)) is not None:
        found["reasoning"] = {**(as_object(found.get("reasoning")) or {}), "effort": effort}
    if (form := as_object(found.pop("response_format", None))) is not None:
        schema = as_object(form.get("json_schema"))
        found["text"] = {"format": {"type": "json_schema", **schema} if schema is not None else form}
    if "tools" in found:
        found["tools"] = [response_tool(tool) for tool in as_array(found["tools"]) or ()]
    if found.pop("seed", None) is not None:
        notes.append("/responses has no seed: it was left out")
    return found, tuple(notes)


def response_tool(tool: object) -> object:
    fields = as_object(tool)
    function = as_object(fields.get("function")) if fields is not None else None
    return tool if function is None else {"type": "function", **function}

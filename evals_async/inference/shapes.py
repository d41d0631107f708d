"""Conversion of messages, parameters and tools between the forms of /responses and /chat/completions."""

from collections.abc import Mapping, Sequence

from evals_async import InvalidArgument
from evals_async._json import JSONObject, as_array, as_object


def content_parts(content: object) -> Sequence[object]:
    """Return the parts of a content that is not a text: an array, or a single part."""
    return as_array(content) or (() if content is None else (content,))


# --- to /chat/completions ---------------------------------------------------------------------------------------------


def chat_part(part: object) -> object:
    """Convert a content part to the form of chat completions."""
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
    """Convert a content to the form of chat completions. Text alone becomes a string, which all endpoints accept."""
    if content is None or isinstance(content, str):
        return content
    parts = [chat_part(part) for part in content_parts(content)]
    fields = [as_object(part) or {} for part in parts]
    if all(part.get("type") == "text" for part in fields):
        return "".join(str(part.get("text") or "") for part in fields)
    return parts


PLAIN = frozenset({"role", "content"})  # most messages have only these keys


def chat_messages(items: object) -> list[JSONObject]:
    """Convert messages of either API, or the input of /responses, to messages of chat completions."""
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
                continue  # chat completions have no such item
            case other:
                raise InvalidArgument(f"chat completions do not support an input of type {other}")
    return found


def chat_tools(tools: object) -> list[JSONObject]:
    """Convert tools to the form of chat completions. Raises `InvalidArgument` for a tool that only /responses
    supports.
    """
    found: list[JSONObject] = []
    for tool in map(as_object, as_array(tools) or ()):
        if tool is None or tool.get("type", "function") != "function":
            kind = None if tool is None else tool.get("type")
            raise InvalidArgument(
                f"the endpoint has no /responses, and chat completions do not support the tool {kind}"
            )
        function = as_object(tool.get("function")) or {key: value for key, value in tool.items() if key != "type"}
        found.append({"type": "function", "function": function})
    return found


def chat_params(params: JSONObject) -> dict[str, object]:
    """Convert parameters of either API, or the `sampling_params` of a run, to those of chat completions. Nulls are
    left out.
    """
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
    """Convert `text.format` to `response_format`."""
    if form.get("type") != "json_schema" or "json_schema" in form:
        return form
    return {"type": "json_schema", "json_schema": {key: value for key, value in form.items() if key != "type"}}


# --- to /responses ----------------------------------------------------------------------------------------------------


def response_part(part: object, role: object) -> object:
    """Convert a content part to the form of /responses."""
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
    """Convert messages of either API to the input of /responses."""
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
    """Convert parameters of either API, or the `sampling_params` of a run, to those of /responses. Also returns
    notes about parameters that it does not have.
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

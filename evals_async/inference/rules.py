"""The rules of a scripted endpoint: they decide the response to each request, without a model."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import attrs

from evals_async import ConfigurationError
from evals_async._json import JSONObject, as_array, as_object, dump
from evals_async.inference.completion import content_text
from evals_async.inference.shapes import chat_messages


DIMENSIONS = 64  # dimensions of scripted embeddings
SUFFIX = "-scripted"  # added to model names in responses, to mark them as scripted


@attrs.frozen(kw_only=True)
class ScriptedRequest:
    """A request to a scripted endpoint, and the status of its response."""

    path: str
    model: str
    messages: tuple[JSONObject, ...]
    body: JSONObject = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    status: int = 200

    @property
    def prompt(self) -> str:
        """The text of all messages, one per line."""
        return "\n".join(content_text(message.get("content")) for message in self.messages)


Answer = str | Callable[[ScriptedRequest], str]


@attrs.frozen(kw_only=True)
class Rule:
    """A condition on requests, and the response to them.

    A request matches if its prompt contains `contains`, its model matches the pattern `model`, and `when(request)` is
    true. Conditions that are not given match always. The response is one of: `text` (or a function of the request),
    `json` (any JSON value), `result` (a judge's verdict: a label or a number, in the structured form of judges),
    `tool_calls` (objects with `name` and `arguments`), `refusal`, or an error `status` with `message`.

    The response is sent after `latency` seconds. With `drop`, the connection is closed instead. With `times`, the rule
    is used only so many times. `usage` replaces the counted tokens. Raises `ConfigurationError` for a rule without a
    response, or with two.
    """

    contains: str | None = None
    model: str = "*"
    when: Callable[[ScriptedRequest], bool] | None = None
    text: Answer | None = None
    json: object = None
    result: str | float | None = None
    steps: Sequence[JSONObject] = ()
    tool_calls: Sequence[JSONObject] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    status: int = 200
    message: str = "an error from a rule of this scripted endpoint"
    code: str | None = None
    retry_after: float | None = None
    drop: bool = False
    latency: float = 0.0
    usage: JSONObject | None = None
    times: int | None = None

    def __attrs_post_init__(self) -> None:
        answers = [name for name in ("text", "json", "result", "refusal") if getattr(self, name) is not None]
        if len(answers) > 1:
            raise ConfigurationError(f"a rule has one response, not {' and '.join(answers)}")
        if self.status == 200 and not (answers or self.tool_calls or self.drop):
            raise ConfigurationError("a rule needs a response: text, json, result, tool_calls, refusal, status or drop")

    def fits(self, request: ScriptedRequest) -> bool:
        """Whether the rule matches a request."""
        if self.contains is not None and self.contains not in request.prompt:
            return False
        return fnmatchcase(request.model, self.model) and (self.when is None or self.when(request))

    def answer(self, request: ScriptedRequest) -> str | None:
        """Return the text of the response, or `None` if it has only tool calls."""
        if callable(self.text):
            return self.text(request)
        if self.result is not None:
            return dump({"steps": list(self.steps), "result": self.result}).decode()
        if self.json is not None:
            return dump(self.json).decode()  # type: ignore[arg-type]  # dump raises for a value that is not JSON
        return self.text


def finish_of(rule: Rule) -> str:
    return rule.finish_reason or ("tool_calls" if rule.tool_calls else "stop")


def chat_calls(rule: Rule) -> list[JSONObject]:
    """Return the tool calls of a rule in the form of chat completions."""
    return [
        {"id": f"call_{number}", "type": "function", "function": {"name": call["name"], "arguments": arguments(call)}}
        for number, call in enumerate(rule.tool_calls, 1)
    ]


def arguments(call: JSONObject) -> str:
    given = call.get("arguments", {})
    return given if isinstance(given, str) else dump(as_object(given)).decode()


def tokens(text: str) -> int:
    """Return the number of tokens of a text, estimated as one per four bytes."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4)


def usage_of(rule: Rule, request: ScriptedRequest, text: str) -> JSONObject:
    """Return the usage: from the rule, or counted."""
    prompt, completion = tokens(request.prompt), tokens(text)
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counted, "prompt_tokens_details": {"cached_tokens": 0}, **(rule.usage or {})}


def chat_answer(rule: Rule, request: ScriptedRequest, number: int) -> JSONObject:
    """Make the body of a chat completion."""
    text = rule.answer(request)
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": rule.refusal}
    if rule.tool_calls:
        message["tool_calls"] = chat_calls(rule)
    logprobs: JSONObject | None = None
    if request.body.get("logprobs") is True:
        entry: JSONObject = {"token": text or "", "logprob": 0.0, "bytes": None, "top_logprobs": []}
        logprobs = {"content": [entry], "refusal": None}
    return {
        "id": f"chatcmpl-scripted-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": request.model + SUFFIX,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_of(rule), "logprobs": logprobs}],
        "usage": usage_of(rule, request, text or ""),
        "system_fingerprint": "scripted",
    }


def response_answer(rule: Rule, request: ScriptedRequest, number: int) -> JSONObject:
    """Make the body of /responses."""
    text = rule.answer(request)
    usage = usage_of(rule, request, text or "")
    output: list[JSONObject] = []
    if text is not None or rule.refusal is not None:
        part: JSONObject = {"type": "output_text", "text": text, "annotations": []}
        if text is None:
            part = {"type": "refusal", "refusal": rule.refusal}
        output.append(
            {
                "type": "message",
                "id": f"msg_scripted_{number}",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for call in chat_calls(rule):
        function = as_object(call["function"]) or {}
        output.append({"type": "function_call", "id": f"fc_{call['id']}", "call_id": call["id"], **function})
    cut = finish_of(rule) in ("length", "content_filter")
    reason = "content_filter" if finish_of(rule) == "content_filter" else "max_output_tokens"
    return {
        "id": f"resp_scripted_{number}",
        "object": "response",
        "created_at": 0,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": reason} if cut else None,
        "error": None,
        "model": request.model + SUFFIX,
        "output": output,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def vector_of(text: str) -> list[float]:
    """Return a deterministic vector of a text: the hash of each word selects a dimension. Texts with common words
    are close, and equal texts have equal vectors.
    """
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.casefold()) or [text]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[digest[0] % DIMENSIONS] += 1.0 if digest[1] % 2 else -1.0
        vector[digest[2] % DIMENSIONS] += 0.5
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


def embeddings_answer(model: str, texts: Sequence[str]) -> JSONObject:
    """Make the body of /embeddings."""
    counted = sum(map(tokens, texts))
    return {
        "object": "list",
        "model": model + SUFFIX,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector_of(text)} for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": counted, "total_tokens": counted},
    }


def request_of(path: str, body: JSONObject, headers: Mapping[str, str]) -> ScriptedRequest:
    """Decode a request body. Raises `InvalidArgument` for invalid messages."""
    given = body.get("messages") if path == "/chat/completions" else body.get("input")
    messages = [] if path == "/embeddings" else chat_messages(given)
    if isinstance(instructions := body.get("instructions"), str):
        messages = [{"role": "system", "content": instructions}, *messages]
    return ScriptedRequest(
        path=path, model=str(body.get("model")), messages=tuple(messages), body=body, headers=headers
    )


def embedding_texts(body: JSONObject) -> list[str]:
    """Return the texts of a request for embeddings: one text, or an array."""
    given = body.get("input")
    return [given] if isinstance(given, str) else [str(text) for text in as_array(given) or ()]


def structured_form(body: JSONObject) -> str | None:
    """Return the output form that a request requires: `json_schema`, `json_object`, or `None`."""
    form = as_object(body.get("response_format")) or as_object((as_object(body.get("text")) or {}).get("format")) or {}
    kind = form.get("type")
    return next((name for name in ("json_schema", "json_object") if name == kind), None)

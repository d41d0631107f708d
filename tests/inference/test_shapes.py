"""The shapes of both APIs, by table: messages, parameters, answers."""

from typing import Any

import pytest

from evals_async import DecodeError, InvalidArgument
from evals_async.inference.completion import of_chat, of_embeddings, of_response
from evals_async.inference.shapes import chat_messages, chat_params, response_input, response_params
from evals_async.inference.transcript import sample_object


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
]
ITEMS = [
    {"role": "user", "content": "Hi"},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "done"},
]
IMAGE = "https://example.com/cat.png"


def test_tool_calls_go_both_ways() -> None:
    """A conversation with a tool call is the same in both APIs."""
    assert response_input(CHAT) == ITEMS
    assert chat_messages(ITEMS) == CHAT


@pytest.mark.parametrize(
    ("content", "chat"),
    [
        ("text", "text"),
        ({"type": "input_text", "text": "a"}, "a"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "ab"),
        (
            [{"type": "input_image", "image_url": IMAGE, "detail": "low"}],
            [{"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}],
        ),
        ([{"type": "image_url", "image_url": IMAGE}], [{"type": "image_url", "image_url": {"url": IMAGE}}]),
        (
            [{"type": "input_file", "filename": "a.pdf", "file_data": "x"}],
            [{"type": "file", "file": {"filename": "a.pdf", "file_data": "x"}}],
        ),
        (
            [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}],
            [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}],
        ),
    ],
)
def test_contents_for_chat(content: object, chat: object) -> None:
    """Parts keep their kind; text alone becomes a string, which every endpoint knows."""
    assert chat_messages([{"type": "message", "role": "user", "content": content}]) == [
        {"role": "user", "content": chat}
    ]


def test_contents_for_responses() -> None:
    """Text and images of chat completions become inputs, text of the assistant an output."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    assert response_input([{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": IMAGE, "detail": "auto"},
            ],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
    ]


@pytest.mark.parametrize("items", [[{"type": "computer_call"}], ["text"], [3]])
def test_what_chat_has_nothing_for_is_refused(items: object) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(InvalidArgument):
        chat_messages(items)


FUNCTION: dict[str, Any] = {"name": "f", "parameters": {}}
SCHEMA: dict[str, Any] = {"name": "s", "schema": {}, "strict": True}


@pytest.mark.parametrize(
    ("given", "chat", "responses"),
    [
        ({"temperature": None}, {}, {}),
        ({"max_completions_tokens": 5}, {"max_completion_tokens": 5}, {"max_output_tokens": 5}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"seed": 3, "top_p": 0.5}, {"seed": 3, "top_p": 0.5}, {"top_p": 0.5}),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            {"text": {"format": {"type": "json_schema", **SCHEMA}}},
        ),
        (
            {"text": {"format": {"type": "json_schema", **SCHEMA}}},
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            {"text": {"format": {"type": "json_schema", **SCHEMA}}},
        ),
        (
            {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "f"}},
            {
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
            {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "f"}},
        ),
        (
            {"tools": [{"type": "function", "function": FUNCTION}]},
            {"tools": [{"type": "function", "function": FUNCTION}]},
            {"tools": [{"type": "function", **FUNCTION}]},
        ),
    ],
)
def test_parameters(given: dict[str, object], chat: dict[str, object], responses: dict[str, object]) -> None:
    """Each API gets its own spelling; nulls are left out."""
    assert chat_params(given) == chat
    assert response_params(given)[0] == responses


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"status": "completed"}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
    ],
)
def test_how_a_response_ended(body: dict[str, Any], reason: str) -> None:
    """In the words of chat completions."""
    assert of_response({**body, "output": []}, "m").finish_reason == reason


def test_a_response_with_mcp_calls() -> None:
    """They are tool calls of the chat shape too, with what they gave."""
    item = {"type": "mcp_call", "id": "m1", "name": "search", "arguments": "{}", "server_label": "s", "output": "found"}
    found = of_response({"output": [item], "usage": {"input_tokens": 3, "output_tokens": 4}}, "m")
    assert found.message["tool_calls"] == [
        {
            "id": "m1",
            "type": "mcp_call",
            "function": {"name": "search", "arguments": "{}"},
            "server_label": "s",
            "output": "found",
        }
    ]
    assert (found.model, found.text) == ("m", "")
    assert found.usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cached_tokens": 0}


NO_COMPLETIONS: list[dict[str, object]] = [
    {},
    {"choices": []},
    {"choices": [{}]},
    {"choices": "x"},
    {"choices": [{"message": 3}]},
]


@pytest.mark.parametrize("body", NO_COMPLETIONS)
def test_what_is_no_chat_completion(body: dict[str, object]) -> None:
    """JSON of another kind is an error with its place."""
    with pytest.raises(DecodeError, match=r"choices\[0\]\.message"):
        of_chat(body, "m")


@pytest.mark.parametrize(
    "data", [None, [], [{"embedding": []}], [{"embedding": ["a"]}], [{"embedding": [1.0]}, {"embedding": [1.0]}]]
)
def test_what_is_no_embedding(data: object) -> None:
    """As many vectors as texts, all of numbers, or an error."""
    with pytest.raises(DecodeError):
        of_embeddings({"data": data}, "m", 1)
    with pytest.raises(DecodeError):
        of_response({"output": None}, "m")


def test_embeddings_are_put_in_order() -> None:
    """By their index, whatever order they came in."""
    data = [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]
    assert of_embeddings({"data": data}, "m", 2).vectors == ((1.0,), (2.0,))


def test_a_sample_keeps_what_was_asked_and_said() -> None:
    """The chat object of output items: contents as text, long data cut, the parameters that were set."""
    completion = of_chat(
        {"choices": [{"message": {"content": "ok", "tool_calls": [CALL]}, "finish_reason": "stop"}]}, "m"
    )
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    audio = {"type": "input_audio", "input_audio": {"format": "wav", "data": "x"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See: "}, image, audio]}]
    kept: Any = sample_object(messages, completion, {"temperature": 0, "max_completions_tokens": 9, "seed": 4})
    assert kept["output"] == [{"role": "assistant", "content": "ok", "tool_calls": [CALL]}]
    assert kept["input"][0]["content"].startswith("See: <image>data:image/png;base64,AAA")
    assert kept["input"][0]["content"].endswith("…</image><audio>wav</audio>")
    assert len(kept["input"][0]["content"]) < 400
    assert (kept["temperature"], kept["top_p"], kept["seed"], kept["max_completion_tokens"]) == (0, 1.0, 4, 9)
    assert kept["error"] is None

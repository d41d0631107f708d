"""Responses of endpoints that are strange in status 200: none is taken for an answer that no model gave."""

from typing import Any

import pytest

from evals_async import DecodeError
from evals_async.inference import Endpoint
from evals_async.inference.completion import of_chat, of_embeddings, of_response, usage_of


EMPTY: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [EMPTY], "error": {"message": "overloaded"}},
        {"choices": [EMPTY], "error": "overloaded"},
        {"choices": [{**EMPTY, "finish_reason": "error", "error": {"code": 502, "message": "overloaded"}}]},
    ],
)
def test_an_error_beside_an_empty_message_is_an_error(body: dict[str, Any]) -> None:
    """Some proxies send an empty message and an error: the row must not be graded as an empty answer."""
    with pytest.raises(DecodeError, match="overloaded"):
        of_chat(body, "m")


@pytest.mark.parametrize(
    "fields", [{"content": 5}, {"content": {"text": "a"}}, {"tool_calls": "x"}, {"tool_calls": {}}]
)
def test_a_message_of_another_shape_is_an_error(fields: dict[str, Any]) -> None:
    """A content that is no text would be graded as an empty answer."""
    with pytest.raises(DecodeError, match=next(iter(fields))):
        of_chat({"choices": [{"message": {"content": "a", **fields}}]}, "m")


@pytest.mark.parametrize("role", [7, None, "", ["assistant"]])
def test_a_message_without_a_role_is_the_assistants(role: object) -> None:
    """The stored item has a role that every client can read."""
    assert "assistant" == of_chat({"choices": [{"message": {"role": role, "content": "a"}}]}, "m").message["role"]


@pytest.mark.parametrize("status", ["queued", "in_progress", "failed", "cancelled"])
def test_a_response_without_its_output_is_an_error(status: str) -> None:
    """A response of /responses that has not ended, or has failed, has no answer, also without an `error`."""
    with pytest.raises(DecodeError, match=f"the response is {status}"):
        of_response({"output": [], "status": status, "error": None}, "m")


def test_counts_of_tokens_have_bounds() -> None:
    """A negative count, a boolean and a number that is too large for a float give no negative cost and no crash."""
    usage = usage_of({"usage": {"prompt_tokens": -5, "completion_tokens": True, "total_tokens": 10**400}})
    assert {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 2**40, "cached_tokens": 0} == usage
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1", prices={"input": 1.0, "output": 1.0})
    assert 0.0 == endpoint.cost(usage)
    large = endpoint.cost(usage_of({"usage": {"prompt_tokens": 10**400}}))
    assert large is not None
    assert 2**40 / 1_000_000 == pytest.approx(large)


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}],
        [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": [], "embedding": [2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": True, "embedding": [2.0]}],
        [{"index": 0, "embedding": [True]}, {"index": 1, "embedding": [2.0]}],
        [{"index": 0, "embedding": [10**400]}, {"index": 1, "embedding": [2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [2.0, 3.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [2.0]}, {"index": 2, "embedding": [3.0]}],
    ],
)
def test_each_text_has_its_own_vector(data: list[dict[str, Any]]) -> None:
    """An index that is missing or occurs twice, other lengths, and what is no number are errors: vectors are not
    mixed up.
    """
    with pytest.raises(DecodeError, match="an array of 2 embeddings"):
        of_embeddings({"data": data}, "m", 2)


@pytest.mark.parametrize(("first", "second"), [({}, {}), ({"index": 0}, {"index": 1}), ({"index": None}, {})])
def test_without_an_index_the_order_counts(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Endpoints that send no index send the vectors in the order of the texts."""
    data = [{**first, "embedding": [1.0]}, {**second, "embedding": [2.0]}]
    assert ((1.0,), (2.0,)) == of_embeddings({"data": data}, "m", 2).vectors

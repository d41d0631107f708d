"""The pass-through to models, and runs over what it kept and over what an archive holds."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from executing import ECHO, Executing, executing, sampling
from plainhttp import EXACT, PlainHttp

from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer


SAYS_A = {**EXACT, "reference": "a"}
STORED = {"type": "completions", "source": {"type": "stored_completions"}}
LOGGED = {"type": "responses", "source": {"type": "responses"}}


@pytest.fixture
async def running() -> AsyncIterator[Executing]:
    refused = Rule(contains="Say: bad", status=400, message="not welcome", code="content_policy")
    tool = Rule(contains="Say: tool", tool_calls=[{"name": "f", "arguments": {}}])
    async with executing(refused, tool, ECHO, record=True) as made:
        yield made


@pytest.fixture
async def client(running: Executing) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=running.server.base_url, api_key="local", max_retries=0) as made:
        yield made


async def chat(client: openai.AsyncOpenAI, text: str, **fields: Any) -> Any:
    messages: Any = [{"role": "developer", "content": "Say it again."}, {"role": "user", "content": f"Say: {text}"}]
    made: Any = client.chat.completions  # what it returns depends on `stream`
    return await made.create(model="gpt-4.1", messages=messages, **fields)


async def test_chat_completions_pass_through(client: openai.AsyncOpenAI, running: Executing) -> None:
    """The official client gets the endpoint's own answer; parameters go on, what is for this server does not."""
    answer = await chat(client, "a", store=True, metadata={"k": "v"}, temperature=0)
    assert answer.choices[0].message.content == "a"
    assert answer.model == "gpt-4.1-scripted"
    body = running.models.requests[0].body
    assert body["temperature"] == 0
    assert not {"store", "metadata"} & body.keys()


async def test_stored_completions_are_graded_as_they_are(client: openai.AsyncOpenAI, running: Executing) -> None:
    """What said `store` is a row: its messages, its answer, its metadata; nothing is asked for the run."""
    await chat(client, "a", store=True, metadata={"k": "v"})
    await chat(client, "b", store=True)
    await chat(client, "c")
    asked = running.models.request_count
    run, items = await running.carry_out(STORED, SAYS_A)
    assert running.models.request_count == asked
    assert [item["status"] for item in items] == ["pass", "fail"]
    assert items[0]["datasource_item"]["input"][1] == {"role": "user", "content": "Say: a"}
    assert items[0]["datasource_item"]["metadata"] == {"k": "v"}
    assert items[0]["sample"]["output"] == [{"role": "assistant", "content": "a"}]
    assert items[0]["sample"]["model"] == "gpt-4.1-scripted"
    assert run["per_model_usage"] == []


async def test_stored_completions_are_asked_again(client: openai.AsyncOpenAI, running: Executing) -> None:
    """With a model and `item.input` as its messages, the same questions go to another model."""
    await chat(client, "a", store=True)
    again = {"type": "item_reference", "item_reference": "item.input"}
    _, (item,) = await running.carry_out({**STORED, "model": "gpt-5", "input_messages": again}, SAYS_A)
    assert (item["status"], item["sample"]["model"]) == ("pass", "gpt-5-scripted")
    assert running.models.requests[-1].body["messages"] == running.models.requests[0].body["messages"]


@pytest.mark.parametrize(
    ("wanted", "answers"),
    [
        ({"model": "gpt-4.1"}, ["a", "b"]),
        ({"model": "gpt-4.1-scripted"}, ["a", "b"]),
        ({"model": "gpt-5"}, []),
        ({"metadata": {"k": "v"}}, ["a"]),
        ({"limit": 1}, ["a"]),
        ({"created_after": 4_000_000_000}, []),
        ({"created_before": 1}, []),
    ],
)
async def test_a_source_filters_stored_completions(
    client: openai.AsyncOpenAI, running: Executing, wanted: dict[str, object], answers: list[str]
) -> None:
    """By model, metadata, time and number; a run that nothing fits fails, and says so."""
    await chat(client, "a", store=True, metadata={"k": "v", "other": "x"})
    await chat(client, "b", store=True, metadata={"k": "w"})
    source = {"type": "completions", "source": {"type": "stored_completions", **wanted}}
    run, items = await running.carry_out(source, SAYS_A)
    assert [item["sample"]["output"][0]["content"] for item in items] == answers
    assert run["status"] == ("completed" if answers else "failed")


async def test_responses_are_logs(client: openai.AsyncOpenAI, running: Executing) -> None:
    """The official client's responses are kept unless they say otherwise, with what filters ask for."""
    said = await client.responses.create(model="gpt-4.1", input="Say: a", instructions="Be BRIEF", user="u-1")
    assert said.output_text == "a"
    await client.responses.create(model="gpt-4.1", input="Say: b", temperature=0)
    await client.responses.create(model="gpt-4.1", input="Say: c", store=False)
    for wanted, answers in (
        ({}, ["a", "b"]),
        ({"instructions_search": "brief"}, ["a"]),
        ({"users": ["u-1", "u-2"]}, ["a"]),
        ({"temperature": 0}, ["b"]),
        ({"tools": ["web_search"]}, []),
    ):
        source = {"type": "responses", "source": {"type": "responses", **wanted}}
        _, items = await running.carry_out(source, SAYS_A)
        assert [item["sample"]["output"][0]["content"] for item in items] == answers, wanted


async def test_tool_calls_are_kept(client: openai.AsyncOpenAI, running: Executing) -> None:
    """A stored answer that is a call of a tool can be graded by its name."""
    await chat(client, "tool", store=True)
    check = {**EXACT, "input": "{{ sample.output_tools[0].function.name }}", "reference": "f"}
    _, (item,) = await running.carry_out(STORED, check)
    assert item["status"] == "pass"


async def test_what_endpoints_refuse_is_told_with_their_words(client: openai.AsyncOpenAI) -> None:
    """The endpoint's status and error; a stream and an unknown model are refused here."""
    with pytest.raises(openai.BadRequestError, match="not welcome") as caught:
        await chat(client, "bad")
    assert caught.value.code == "content_policy"
    with pytest.raises(openai.BadRequestError, match="stream"):
        await chat(client, "a", stream=True)


async def test_without_record_nothing_passes() -> None:
    """A server without models, and one without --record, has no such endpoints; a read-only one is read-only."""
    async with executing() as running, LocalServer() as plain, PlainHttp(plain) as http:
        for each in (running.http, http):
            answer = await each.post("/chat/completions", {"model": "m", "messages": []})
            assert answer.status == 404
            assert "--record" in answer.json["error"]["message"]
        assert running.models.request_count == 0


async def test_the_items_of_an_archive_are_stored_answers(running: Executing) -> None:
    """Answers in the output items of earlier runs can be graded by other criteria, each once, errored ones not."""
    source = sampling("a", "b", "bad")
    for _ in range(2):
        await running.carry_out(source, EXACT)
    run, items = await running.carry_out(STORED, SAYS_A)
    assert [item["sample"]["output"][0]["content"] for item in items] == ["a", "b"]
    assert items[0]["datasource_item"]["input"][-1] == {"role": "user", "content": "Say: a"}
    assert run["result_counts"]["passed"] == 1
    assert (await running.carry_out(LOGGED, SAYS_A))[0]["status"] == "failed"


@pytest.mark.parametrize("fields", [{"reasoning": "high"}, {"metadata": {"k": 5}}, {"tools": ["x"]}])
async def test_a_request_that_cannot_be_stored_is_refused_before_the_call(
    running: Executing, fields: dict[str, Any]
) -> None:
    """A call that would end with an error of this server is not made, because it must be paid for."""
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Say: a"}], "store": True, **fields}
    assert 400 == (await running.http.post("/chat/completions", body)).status
    assert 0 == running.models.request_count


async def test_a_response_that_cannot_be_stored_is_returned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the file cannot be written, the response that was paid for is returned, and a log line says it."""
    store = tmp_path / "store.db"
    async with (
        ScriptedModels(ECHO) as models,
        LocalServer(store, models=models.base_url, record=True) as server,
        PlainHttp(server) as http,
    ):
        with closing(sqlite3.connect(store)) as other:
            other.execute("DROP TABLE stored_answers")
        body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Say: a"}], "store": True}
        answer = await http.post("/chat/completions", body)
    assert (200, "a") == (answer.status, answer.json["choices"][0]["message"]["content"])
    assert "was returned, but not stored" in caplog.text

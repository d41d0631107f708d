"""The scripted endpoint: its rules, its failures, and that it never passes for a real model."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import openai
import pytest
from doubles import FakeClock
from waiting import LONGEST

from evals_async import BadRequest, ConfigurationError
from evals_async.inference import Models, Rule, ScriptedModels, ScriptedRequest, probe_models


HELLO = [{"role": "user", "content": "Hello"}]


async def test_the_official_client_can_use_it() -> None:
    """Chat completions, responses, embeddings and models are what the official client reads."""
    rules = Rule(contains="weather", tool_calls=[{"name": "look", "arguments": {"city": "Rome"}}]), Rule(text="Hi")
    async with ScriptedModels(*rules, models=("one", "two")) as scripted:
        client = openai.AsyncOpenAI(base_url=scripted.base_url, api_key="any")
        async with client:
            chat = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
            called = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "weather"}])
            response = await client.responses.create(model="m", input="Hello")
            vectors = await client.embeddings.create(model="e", input="Hello", encoding_format="float")
            listed = [model.id async for model in await client.models.list()]
    assert (chat.choices[0].message.content, chat.model, response.output_text) == ("Hi", "m-scripted", "Hi")
    tools: Any = called.choices[0].message.tool_calls
    [tool] = tools
    assert (tool.function.name, json.loads(tool.function.arguments)) == ("look", {"city": "Rome"})
    assert called.choices[0].finish_reason == "tool_calls"
    assert len(vectors.data[0].embedding) == 64
    assert listed == ["one", "two"]


async def test_every_answer_says_that_it_is_scripted() -> None:
    """By a header and by the name of the model, also in errors."""
    async with ScriptedModels() as scripted:

        def asked() -> tuple[int, str | None]:
            request = urllib.request.Request(f"{scripted.base_url}/chat/completions", data=b"{", method="POST")
            try:
                urllib.request.urlopen(request, timeout=LONGEST)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers["x-scripted-models"]
            raise AssertionError("no error")

        assert await asyncio.to_thread(asked) == (400, "1")


async def test_the_first_rule_that_fits_answers() -> None:
    """By text, by model, by a function of the request, and so often."""

    def long(request: ScriptedRequest) -> bool:
        return len(request.prompt) > 100

    rules = (
        Rule(contains="Hello", text="once", times=1),
        Rule(model="gpt-*", text="by model"),
        Rule(when=long, text="long"),
        Rule(text=lambda request: request.prompt.upper()),
    )
    async with ScriptedModels(*rules) as scripted, Models.from_endpoint(scripted.base_url) as models:
        said = [(await models.chat(name, HELLO)).text for name in ("gpt-5", "gpt-5", "m")]
        said.append((await models.chat("m", [{"role": "user", "content": "x" * 101}])).text)
        scripted.add(Rule(json={"a": [1]}))
        said.append((await models.respond("m", "Hello")).text)
    assert said == ["once", "by model", "HELLO", "long", '{"a":[1]}']


async def test_equal_requests_get_equal_answers() -> None:
    """Nothing is drawn by chance: text, usage and vectors are the same in another run."""
    bodies: list[object] = []
    for _ in range(2):
        async with ScriptedModels(Rule(text="Hi")) as scripted, Models.from_endpoint(scripted.base_url) as models:
            bodies.append(((await models.chat("m", HELLO)).raw, (await models.embed("e", ["a", "b c"])).vectors))
    assert bodies[0] == bodies[1]


async def test_latency_is_by_the_clock() -> None:
    """An answer waits for as long as its rule says."""
    clock = FakeClock()
    async with (
        ScriptedModels(Rule(text="slow", latency=12.5), clock=clock) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        assert (await models.chat("m", HELLO)).text == "slow"
    assert clock.slept == [12.5]


async def test_failures_are_those_of_the_rule() -> None:
    """Status, words, code and type arrive as an endpoint sends them."""
    rule = Rule(status=500, message="out of order", code="broken")
    async with ScriptedModels(rule) as scripted:
        client = openai.AsyncOpenAI(base_url=scripted.base_url, api_key="any", max_retries=0)
        async with client:
            with pytest.raises(openai.InternalServerError, match="out of order") as caught:
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert (caught.value.code, caught.value.type) == ("broken", "server_error")


async def test_refusals_of_abilities() -> None:
    """An endpoint without structured output, responses or embeddings refuses them as endpoints do."""
    form = {"response_format": {"type": "json_object"}}
    async with (
        ScriptedModels(Rule(text="x"), structured_output="none", embeddings=False) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        with pytest.raises(BadRequest, match="response_format of type json_object is not supported"):
            await models.chat("m", HELLO, params=form)
        ability = (await probe_models(models, ["m"]))[0]
    assert (ability.answers, ability.embeddings, ability.structured_output) == (True, False, "text")


async def test_requests_are_kept_and_bounded() -> None:
    """The last ones are there for a test to look at; the count goes on."""
    async with (
        ScriptedModels(Rule(text="x"), remembered=2) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        for number in range(3):
            await models.chat("m", [{"role": "user", "content": str(number)}])
    assert [request.prompt for request in scripted.requests] == ["1", "2"]
    assert scripted.request_count == 3
    assert repr(scripted) == "ScriptedModels(not running, rules=1)"


def test_a_synchronous_test_can_use_it(scripted_models_in_thread: ScriptedModels) -> None:
    """In a thread of its own it answers while the test waits; rules may be added from outside."""
    scripted_models_in_thread.add(Rule(text="Hi"))
    with openai.OpenAI(base_url=scripted_models_in_thread.base_url, api_key="any") as client:
        chat = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert chat.choices[0].message.content == "Hi"


def test_a_thread_that_cannot_start_says_why() -> None:
    """A port that is taken is told where the thread was started."""
    with ScriptedModels.in_thread() as first:
        port = int(first.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(OSError, match="address already in use"), ScriptedModels.in_thread(port=port):
            pass


async def test_the_fixture_has_no_rules(scripted_models: ScriptedModels) -> None:
    """A test gives it the rules that it needs."""
    assert scripted_models.rules == []
    async with Models.from_endpoint(scripted_models.base_url) as models:
        with pytest.raises(BadRequest):
            await models.chat("m", HELLO)


@pytest.mark.parametrize("answer", [{}, {"text": "a", "result": 1}, {"times": 2}, {"json": 1, "refusal": "no"}])
def test_a_rule_has_one_answer(answer: dict[str, Any]) -> None:
    """None, or two, is a mistake in the test that wrote it."""
    with pytest.raises(ConfigurationError):
        Rule(**answer)

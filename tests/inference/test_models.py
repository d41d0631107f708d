"""The model map over real sockets: chat completions, responses, embeddings, from a scripted endpoint."""

import asyncio

import pytest
from doubles import ScaledClock
from waiting import LONGEST

from evals_async import (
    BadRequest,
    ConfigurationError,
    DeadlineExceeded,
    DecodeError,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
)
from evals_async.inference import Endpoint, Models, Rule, ScriptedModels, ScriptedRequest, modelmap
from evals_async.inference.completion import of_chat, of_response


HELLO = [{"role": "user", "content": "Hello"}]


async def test_a_chat_completion() -> None:
    """The answer has text, message, dated model, usage and the whole body; the request went to the mapped name."""
    async with (
        ScriptedModels(Rule(contains="Hello", text="Hi")) as scripted,
        Models.from_endpoint(scripted.base_url, model="deployed") as models,
    ):
        answer = await models.chat(
            "gpt-4.1", HELLO, params={"temperature": 0, "max_completions_tokens": 5, "seed": None}
        )
    assert (answer.text, answer.finish_reason, answer.model) == ("Hi", "stop", "deployed-scripted")
    assert answer.message == {"role": "assistant", "content": "Hi"}
    assert answer.usage == {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "cached_tokens": 0}
    assert answer.raw["object"] == "chat.completion"
    assert (answer.notes, answer.billed_retries, answer.cost) == ((), 0, None)
    [seen] = scripted.requests
    assert seen.body == {"model": "deployed", "messages": HELLO, "temperature": 0, "max_completion_tokens": 5}


async def test_a_response_is_told_as_a_chat_message() -> None:
    """Both APIs end in one form: tool calls have the chat shape."""
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    async with (
        ScriptedModels(Rule(text="Looking", tool_calls=[call])) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        by_chat = await models.chat("m", HELLO)
        by_response = await models.respond("m", HELLO, params={"reasoning_effort": "low", "seed": 1})
    assert by_chat.message == by_response.message
    assert by_chat.message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    ]
    assert by_chat.usage == by_response.usage
    assert by_response.finish_reason == "tool_calls"
    assert by_response.notes == ("/responses has no seed: it was left out",)
    assert [seen.path for seen in scripted.requests] == ["/chat/completions", "/responses"]
    assert scripted.requests[1].body["reasoning"] == {"effort": "low"}


async def test_without_responses_the_request_is_translated() -> None:
    """An endpoint that has no /responses is asked by chat completions, says so, and is not asked for it again."""
    async with (
        ScriptedModels(Rule(text="Hi"), responses=False) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        given = [{"type": "message", "role": "user", "content": {"type": "input_text", "text": "Hello"}}]
        params = {"instructions": "Be brief", "max_output_tokens": 9, "text": {"format": {"type": "json_object"}}}
        answers = [await models.respond("m", given, params=params) for _ in range(2)]
        with pytest.raises(InvalidArgument, match="do not support the tool web_search"):
            await models.respond("m", "Hello", params={"tools": [{"type": "web_search"}]})
    assert [answer.text for answer in answers] == ["Hi", "Hi"]
    assert all("translated to /chat/completions" in answer.notes[0] for answer in answers)
    assert scripted.request_count == 3
    assert scripted.requests[-1].body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}],
        "max_completion_tokens": 9,
        "response_format": {"type": "json_object"},
    }


async def test_a_role_that_is_not_known_becomes_system() -> None:
    """`developer` is sent as `system` where the endpoint refuses it; it is refused once, and the note stays."""
    asked = [{"role": "developer", "content": "Be brief"}, *HELLO]
    async with (
        ScriptedModels(Rule(text="Hi"), developer=False) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        answers = [await models.chat("m", asked), await models.chat("m", asked), await models.chat("m", HELLO)]
    assert [bool(answer.notes) for answer in answers] == [True, True, False]
    assert [seen.status for seen in scripted.requests] == [400, 200, 200, 200]


async def test_the_older_limit_of_tokens() -> None:
    """`max_tokens` goes out where `max_completion_tokens` is refused; other refusals are not guessed at."""

    def newer(asked: ScriptedRequest) -> bool:
        return "max_completion_tokens" in asked.body

    refusal = Rule(when=newer, status=422, message="extra inputs: max_completion_tokens")
    async with (
        ScriptedModels(refusal, Rule(contains="no", status=400), Rule(text="Hi")) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        answers = [await models.chat("m", HELLO, params={"max_completion_tokens": 5}) for _ in range(2)]
        with pytest.raises(BadRequest):
            await models.chat("m", [{"role": "developer", "content": "no"}])
    assert [answer.notes for answer in answers] == [
        ("the endpoint does not support max_completion_tokens: max_tokens was sent",)
    ] * 2
    assert [seen.status for seen in scripted.requests] == [422, 200, 200, 400]
    assert scripted.requests[1].body == {"model": "m", "messages": HELLO, "max_tokens": 5}


class CountingClock(ScaledClock):
    """A clock that counts who sleeps at the same time."""

    def __init__(self) -> None:
        super().__init__(1000.0)
        self.asleep = self.most = 0

    async def sleep(self, seconds: float) -> None:
        self.asleep += 1
        self.most = max(self.most, self.asleep)
        await super().sleep(seconds)
        self.asleep -= 1


@pytest.mark.virtual_time
async def test_names_of_one_endpoint_share_its_limit() -> None:
    """`concurrency` is of the endpoint, whichever names lead to it."""
    clock = CountingClock()
    async with ScriptedModels(Rule(text="x", latency=10), clock=clock) as scripted:
        entry = {"base_url": scripted.base_url, "concurrency": 2}
        async with Models.from_mapping({"models": {"a": entry, "b": entry}}) as models:
            await asyncio.gather(*(models.chat(name, HELLO) for name in "ab" * 5))
    assert scripted.request_count == 10
    assert clock.most == 2


@pytest.mark.virtual_time
async def test_a_call_ends_within_its_timeout() -> None:
    """An endpoint that does not answer costs as much time as was given, and the error says so."""
    async with ScriptedModels(Rule(text="late", latency=3600)) as scripted:
        endpoint = Endpoint(base_url=scripted.base_url)
        async with Models({"*": endpoint}, clock=ScaledClock(100)) as models:
            with pytest.raises(DeadlineExceeded):
                await models.chat("m", HELLO, timeout=20)


async def test_a_call_that_is_cancelled_ends_at_once() -> None:
    """And the endpoint's connections can be closed."""
    async with (
        ScriptedModels(Rule(text="late", latency=3600)) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        call = asyncio.ensure_future(models.chat("m", HELLO))
        async with asyncio.timeout(LONGEST):
            while not scripted.request_count:
                await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("body", [{"error": {"message": "upstream is down"}}, {"error": "upstream is down"}])
def test_an_error_with_status_200_is_one(body: dict[str, object]) -> None:
    """Some proxies answer so; their words are in the error."""
    for read in (of_chat, of_response):
        with pytest.raises(DecodeError, match="status 200 with an error: upstream is down"):
            read({**body, "output": []}, "m")


async def test_embeddings() -> None:
    """One vector per text, in order."""
    async with ScriptedModels() as scripted, Models.from_endpoint(scripted.base_url) as models:
        found = await models.embed("e", ["the cat", "a dog", "the cat"])
        with pytest.raises(InvalidArgument):
            await models.embed("e", [""])
    first, second, third = found.vectors
    assert first == third != second
    assert found.usage["prompt_tokens"] == 6


async def test_names_and_patterns() -> None:
    """A name goes before patterns, a longer pattern before a shorter one; other names are an error that lists them."""
    async with ScriptedModels(Rule(text="x")) as scripted:
        entries = {
            name: {"base_url": scripted.base_url, "model": f"to-{name}"} for name in ("gpt-4.1", "gpt-*", "gpt-4*")
        }
        async with Models.from_mapping({"models": entries}) as models:
            for name in ("gpt-4.1", "gpt-4o", "gpt-5"):
                await models.chat(name, HELLO)
            assert models.names() == ("gpt-4.1", "gpt-*", "gpt-4*")
            assert models.resolves("gpt-9")
            assert not models.resolves("o3")
            with pytest.raises(InvalidArgument, match=r"'o3'; configured: gpt-4\.1, gpt-\*, gpt-4\*"):
                await models.chat("o3", HELLO)
    assert [seen.model for seen in scripted.requests] == ["to-gpt-4.1", "to-gpt-4*", "to-gpt-*"]


async def test_a_lost_answer_is_asked_for_again_and_counted() -> None:
    """A broken connection may have been billed; a 429 and a 503 were not."""
    async with (
        ScriptedModels(
            Rule(drop=True, times=1),
            Rule(status=429, retry_after=0, times=1),
            Rule(status=503, retry_after=0, times=1),
            Rule(text="at last"),
        ) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        answer = await models.chat("m", HELLO)
    assert (answer.text, answer.billed_retries) == ("at last", 1)
    assert scripted.request_count == 4


async def test_prices_give_the_cost() -> None:
    """Per million tokens; cached ones by their own price."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    usage_given = {**usage, "prompt_tokens_details": {"cached_tokens": 400}}
    async with ScriptedModels(Rule(text="x", usage=usage_given)) as scripted:
        prices = {"input": 2.0, "cached_input": 0.5, "output": 8.0}
        entry = {"base_url": scripted.base_url, "prices": prices}
        async with Models.from_mapping({"models": {"*": entry}}) as models:
            answer = await models.chat("m", HELLO)
    assert answer.usage == {**usage, "cached_tokens": 400}
    assert answer.cost == pytest.approx((600 * 2.0 + 400 * 0.5 + 100 * 8.0) / 1e6)


async def test_keys_are_those_that_the_map_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The named variable's value is sent; what the OPENAI_ variables say is not, and no text has a key."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "of-the-service")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Own: of-the-service")
    monkeypatch.setenv("MY_KEY", "sk-local-secret")
    async with ScriptedModels(Rule(text="x"), api_key="sk-local-secret") as scripted:
        entry = {"base_url": scripted.base_url, "api_key_env": "MY_KEY", "headers": {"X-Team": "evals"}}
        async with Models.from_mapping({"models": {"*": entry}}) as models:
            await models.chat("m", HELLO)
            assert "sk-local-secret" not in repr(models)
        async with Models.from_endpoint(scripted.base_url) as models:
            with pytest.raises(Unauthenticated) as refused:
                await models.chat("m", HELLO)
    [seen] = scripted.requests
    assert seen.headers["X-Team"] == "evals"
    assert "of-the-service" not in str(dict(seen.headers))
    assert "of-the-service" not in str(refused.value)


async def test_a_key_that_comes_back_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers echo keys in their refusals; no error shows them."""
    monkeypatch.setenv("EVALS_MODEL_API_KEY", "sk-local-secret")
    rule = Rule(status=403, message="the key sk-local-secret may not do this")
    async with ScriptedModels(rule) as scripted, Models.from_endpoint(scripted.base_url) as models:
        with pytest.raises(PermissionDenied) as refused:
            await models.chat("m", HELLO)
    assert scripted.requests[0].headers["Authorization"] == "Bearer sk-local-secret"
    assert "sk-local-secret" not in f"{refused.value} {vars(refused.value)}"
    assert "[redacted]" in str(refused.value)


async def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an empty one."""
    monkeypatch.delenv("EVALS_MODEL_API_KEY", raising=False)
    async with ScriptedModels(Rule(text="x")) as scripted, Models.from_endpoint(scripted.base_url) as models:
        await models.chat("m", HELLO)
    assert "Authorization" not in scripted.requests[0].headers


async def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that names a variable which is not set is refused at once, with both names."""
    monkeypatch.delenv("MY_KEY", raising=False)
    entry = {"base_url": "http://127.0.0.1:1/v1", "api_key_env": "MY_KEY"}
    with pytest.raises(ConfigurationError, match=r'models\."m": the environment variable MY_KEY'):
        Models.from_mapping({"models": {"m": entry}})


async def test_a_request_without_a_rule() -> None:
    """What is refused comes as the API's error; the scripted endpoint refuses what no rule fits."""
    async with ScriptedModels() as scripted, Models.from_endpoint(scripted.base_url) as models:
        with pytest.raises(BadRequest, match="no rule of this scripted endpoint"):
            await models.chat("m", HELLO)


async def test_what_was_learned_of_a_model_outlives_many_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the calls for a name go is remembered for a bounded number of names; what was found out is kept."""
    monkeypatch.setattr(modelmap, "MOST_NAMES", 3)
    async with (
        ScriptedModels(Rule(text="ok"), responses=False) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
    ):
        await models.respond("first", "Hello")
        learned = models.learned("first")
        for number in range(10):
            models.learned(f"other {number}")
            assert len(vars(models)["_destinations"]) <= 3
        assert learned.responses is False
        assert models.learned("first") is learned
        assert models.learned("other 1") is not learned

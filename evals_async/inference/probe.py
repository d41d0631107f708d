"""Tests of a model's abilities at its endpoint: structured output, /responses, embeddings, logprobs."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import attrs

from evals_async import EvalsError, NotFound, RequestError
from evals_async._clock import SYSTEM_CLOCK
from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse
from evals_async.inference.completion import Completion
from evals_async.inference.modelmap import NO_RESPONSES, Models
from evals_async.inference.structured import structured_chat


T = TypeVar("T")

TIMEOUT = 60.0  # seconds for each of the questions
ASKED: tuple[JSONObject, ...] = ({"role": "user", "content": "Is 1 + 1 equal to 2? Answer yes or no."},)
SCHEMA: JSONObject = {
    "type": "object",
    "properties": {"result": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["result"],
    "additionalProperties": False,
}


@attrs.frozen(kw_only=True)
class Ability:
    """The abilities of one entry of a model map.

    `entry` is the name or pattern, `asked` the requested model, and `model` the name in the response. `answers` is true
    if the model returned a completion or embeddings. Otherwise `error` has the reason. `structured_output` is the best
    form for judges: `json_schema`, `json_object` or `text`. `seconds` is the duration of a short completion.
    """

    entry: str
    asked: str
    base_url: str
    model: str | None = None
    answers: bool = False
    structured_output: str | None = None
    responses: bool = False
    embeddings: bool = False
    logprobs: bool = False
    seconds: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the ability as a JSON object."""
        return attrs.asdict(self)


async def tried(call: Awaitable[T]) -> T | EvalsError:
    """Return the result of a call, or its error. For a probe, an error is a normal result."""
    try:
        return await call
    except EvalsError as error:
        return error


def yes_or_no(completion: Completion) -> str | None:
    """Return the result in a response to the probe's question, if it has the requested form."""
    try:
        result = (as_object(parse(completion.text.strip().encode("utf-8", "surrogatepass"))) or {}).get("result")
    except NotJSON:
        return None
    return result if isinstance(result, str) and result in ("yes", "no") else None


async def probe_models(
    models: Models, names: Sequence[str] = (), *, timeout: float | None = TIMEOUT
) -> tuple[Ability, ...]:
    """Find the abilities of the models of a map by a few short requests, which cost a few tokens.

    Without `names`, all entries are tested. A pattern without a `model` is tested with the first model that its
    endpoint lists. A failed request raises no exception; the ability has an `error`. Raises `InvalidArgument` for an
    unknown name.
    """
    for name in names:
        models.endpoint(name)
    return tuple(await asyncio.gather(*(ability_of(models, name, timeout) for name in names or models.names())))


async def ability_of(models: Models, entry: str, timeout: float | None) -> Ability:
    """Test the model of one entry."""
    endpoint = models.endpoint(entry)
    base = Ability(entry=entry, asked=endpoint.model or entry, base_url=endpoint.base_url)
    name = entry
    if "*" in entry and endpoint.model is None:
        listed = await tried(models.listed(entry, timeout=timeout))
        fitting = (
            () if isinstance(listed, EvalsError) else [each for each in listed if models.endpoint(each) is endpoint]
        )
        if not fitting:
            why = listed if isinstance(listed, EvalsError) else "the endpoint lists no model that matches the pattern"
            return attrs.evolve(base, error=f"there is no model to test: {why}; pass the name of a model")
        name = fitting[0]
    began = SYSTEM_CLOCK.monotonic()
    chat = await tried(models.chat(name, ASKED, timeout=timeout))
    seconds = SYSTEM_CLOCK.monotonic() - began
    vectors = await tried(models.embed(name, ["probe"], timeout=timeout))
    found = attrs.evolve(base, asked=endpoint.model or name, embeddings=not isinstance(vectors, EvalsError))
    if isinstance(chat, EvalsError):
        if isinstance(vectors, EvalsError):
            hint = "; check base_url, which usually ends in /v1" if isinstance(chat, NotFound) else ""
            return attrs.evolve(found, error=f"{chat}{hint}")
        return attrs.evolve(found, model=vectors.model, answers=True)
    return attrs.evolve(
        found,
        model=chat.model,
        answers=True,
        seconds=round(seconds, 3),
        structured_output=await structured_form(models, name, timeout),
        responses=await has_responses(models, name, timeout),
        logprobs=await has_logprobs(models, name, timeout),
    )


async def structured_form(models: Models, name: str, timeout: float | None) -> str | None:
    """Return the most structured form that the model supports. It is `text` if no structured form works."""
    call = structured_chat(
        models, name, ASKED, name="answer", schema=SCHEMA, read=yes_or_no, params={}, timeout=timeout
    )
    found = await tried(call)
    if isinstance(found, RequestError):
        return None
    return "text" if isinstance(found, EvalsError) or found.value is None else found.form


async def has_responses(models: Models, name: str, timeout: float | None) -> bool:
    """Whether the endpoint has /responses."""
    found = await tried(models.respond(name, ASKED, timeout=timeout))
    return not isinstance(found, EvalsError) and NO_RESPONSES not in found.notes


async def has_logprobs(models: Models, name: str, timeout: float | None) -> bool:
    """Whether the endpoint returns log probabilities of tokens."""
    found = await tried(models.chat(name, ASKED, params={"logprobs": True}, timeout=timeout))
    if isinstance(found, EvalsError):
        return False
    choices = [as_object(choice) or {} for choice in as_array(found.raw.get("choices")) or ()]
    return any(choice.get("logprobs") for choice in choices)

"""`Models`: calls models by their names, through the endpoints of a model map."""

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self, TypeVar

import attrs

from evals_async import (
    ApiError,
    BadRequest,
    ConfigurationError,
    InvalidArgument,
    NotFound,
    Response,
    RetryPolicy,
    Unprocessable,
)
from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._closing import Closing
from evals_async._json import JSONObject, NotJSON, as_object, parse
from evals_async.inference.adaptation import Adaptation, adaptation_for
from evals_async.inference.completion import Completion, Embeddings, missing, of_chat, of_embeddings, of_response
from evals_async.inference.endpoints import API_KEY_ENV, Endpoint, endpoints_of, matching, read_file
from evals_async.inference.shapes import chat_messages, chat_params, response_input, response_params
from evals_async.inference.traffic import Traffic


T = TypeVar("T", Completion, Embeddings)

LISTING_TIMEOUT = 60.0
TIMEOUT = 600.0  # seconds for a call with all attempts; reasoning models take minutes
MOST_NAMES = 1000  # names whose destinations are cached
NO_PARAMS: JSONObject = MappingProxyType({})
NO_RESPONSES = "the endpoint has no /responses: the request was translated to /chat/completions"


@attrs.define
class Learned:
    """The known abilities of a model at its endpoint, so that each is tested only once."""

    responses: bool | None = None
    adaptations: list[Adaptation] = attrs.Factory(list[Adaptation])
    structured: int = 0
    structured_proven: bool = False


@attrs.frozen
class Destination:
    """The endpoint for one name, and the model's name at this endpoint."""

    model: str
    endpoint: Endpoint
    traffic: Traffic
    learned: Learned


class Models(Closing):
    """Calls models by name, through the endpoints of a model map.

        async with Models.from_file("models.toml") as models:
            answer = await models.chat("gpt-4.1", [{"role": "user", "content": "Hello"}])

    An entry is a name or a pattern (`gpt-4*`, `*`). An exact name has priority over patterns, and a longer pattern over
    a shorter one. Names with the same endpoint and key share its connections, rate limits and retry budget. If a
    response is lost, the call is sent again and may be billed twice; `Completion.billed_retries` counts this. Every
    call ends within its `timeout`. Keys come from the environment variables that the map names, and appear in no text.
    OPENAI_API_KEY and OPENAI_BASE_URL are not read. Raises `ConfigurationError` for an invalid map.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        environment: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not endpoints:
            raise ConfigurationError("the model map is empty")
        self._endpoints = dict(endpoints)
        self._traffic: dict[tuple[object, ...], Traffic] = {}
        self._learned: dict[tuple[tuple[object, ...], str], Learned] = {}
        self._destinations: dict[str, Destination] = {}
        environ = os.environ if environment is None else environment
        for name, endpoint in self._endpoints.items():
            if endpoint.connection not in self._traffic:
                self._traffic[endpoint.connection] = Traffic.to(name, endpoint, environ, retry=retry, clock=clock)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the map from a TOML file. Raises `ConfigurationError`, which names the file, the entry and the field."""
        document = read_file(path)
        try:
            return cls.from_mapping(document)
        except ConfigurationError as error:
            raise ConfigurationError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def from_mapping(cls, document: Mapping[str, object]) -> Self:
        """Make the map from a mapping with the same form as the TOML: `{"models": {"gpt-4.1": {"base_url": ...}}}`."""
        return cls(endpoints_of(document))

    @classmethod
    def from_endpoint(cls, url: str, *, model: str | None = None, api_key_env: str = API_KEY_ENV) -> Self:
        """Use one endpoint for all names. With `model`, all calls use this model. If the environment variable
        `api_key_env` is set, its value is the key; otherwise no key is sent.
        """
        key = api_key_env if os.environ.get(api_key_env) else None
        return cls({"*": Endpoint(base_url=url, model=model, api_key_env=key)})

    def names(self) -> tuple[str, ...]:
        """Return the names and patterns of the map, in their order."""
        return tuple(self._endpoints)

    def resolves(self, name: str) -> bool:
        """Whether the map has an endpoint for this name."""
        return matching(name, self._endpoints) is not None

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint for a name. Raises `InvalidArgument`, which lists the known names."""
        entry = matching(name, self._endpoints)
        if entry is None:
            names = ", ".join(self.names())
            raise InvalidArgument(f"no endpoint is configured for the model {name!r:.80}; configured: {names}")
        return self._endpoints[entry]

    def learned(self, name: str) -> Learned:
        """Return the known abilities of a model at its endpoint."""
        return self._destination(name).learned

    def _destination(self, name: str) -> Destination:
        found = self._destinations.get(name)
        if found is None:
            endpoint = self.endpoint(name)
            connection, model = endpoint.connection, endpoint.model or name
            learned = self._learned.setdefault((connection, model), Learned())
            found = Destination(model, endpoint, self._traffic[connection], learned)
            if len(self._destinations) >= MOST_NAMES:
                self._destinations.clear()
            self._destinations[name] = found
        return found

    # --- calls --------------------------------------------------------------------------------------------------------

    async def chat(
        self,
        name: str,
        messages: Sequence[JSONObject],
        *,
        params: JSONObject = NO_PARAMS,
        timeout: float | None = TIMEOUT,
    ) -> Completion:
        """Send messages to a model and return its response: POST /chat/completions.

        `params` are the parameters of the API (`temperature`, `tools`, `response_format` ...), or a run's
        `sampling_params`. Raises `RequestError` if the endpoint refuses the request or sends no response within
        `timeout` seconds, and `InvalidArgument` for an unknown name.
        """
        destination = self._destination(name)
        learned = destination.learned
        body = {"model": destination.model, "messages": chat_messages(messages), **chat_params(params)}
        notes: list[str] = []
        for known in learned.adaptations:
            body = known.applied(body, notes)
        tried: list[Adaptation] = []
        while True:
            try:
                completion = await self._call(destination, "/chat/completions", body, of_chat, timeout)
            except (BadRequest, Unprocessable) as error:
                adaptation = adaptation_for(error.message, body)
                if adaptation is None:
                    raise
                body = adaptation.applied(body, notes)
                tried.append(adaptation)
            else:
                learned.adaptations += [each for each in tried if each not in learned.adaptations]
                return attrs.evolve(completion, notes=tuple(notes)) if notes else completion

    async def respond(
        self, name: str, input: object, *, params: JSONObject = NO_PARAMS, timeout: float | None = TIMEOUT
    ) -> Completion:
        """Send a text or messages to a model and return its response: POST /responses.

        If the endpoint has no /responses, the request is translated to chat completions, with a remark in `notes`.
        Raises the errors of `chat`, and `InvalidArgument` for a request that cannot be translated, for example with
        hosted tools.
        """
        destination = self._destination(name)
        learned = destination.learned
        if learned.responses is not False:
            fields, notes = response_params(params)
            body = {"model": destination.model, "input": response_input(input), **fields}
            try:
                completion = await self._call(destination, "/responses", body, of_response, timeout)
            except ApiError as error:
                if learned.responses or not is_unknown_path(error):
                    raise
            else:
                learned.responses = True
                return attrs.evolve(completion, notes=notes)
        messages = chat_messages(input)
        if isinstance(instructions := params.get("instructions"), str):
            messages = [{"role": "system", "content": instructions}, *messages]
        completion = await self.chat(name, messages, params=params, timeout=timeout)
        learned.responses = False
        return attrs.evolve(completion, notes=(NO_RESPONSES, *completion.notes))

    async def embed(self, name: str, texts: Sequence[str], *, timeout: float | None = TIMEOUT) -> Embeddings:
        """Return the embedding vectors of texts: POST /embeddings. Raises the errors of `chat`."""
        if not texts or not all(texts):
            raise InvalidArgument("embeddings need one or more non-empty texts")

        def read(body: JSONObject, asked: str) -> Embeddings:
            return of_embeddings(body, asked, len(texts))

        destination = self._destination(name)
        body = {"model": destination.model, "input": list(texts)}
        return await self._call(destination, "/embeddings", body, read, timeout)

    async def _call(
        self,
        destination: Destination,
        path: str,
        body: JSONObject,
        read: Callable[[JSONObject, str], T],
        timeout: float | None,
    ) -> T:
        """Make one call. `read` decodes the response. If it raises an error, the call is sent once more."""

        async def value(response: Response) -> T:
            try:
                answer = as_object(parse(response.body))
            except NotJSON:
                answer = None
            if answer is None:
                raise missing("$", "an object", response.body[:40].decode("utf-8", "replace"))
            return read(answer, destination.model)

        found, billed = await destination.traffic.send(path, body, value, timeout)
        cost = destination.endpoint.cost(found.usage)
        return attrs.evolve(found, billed_retries=billed, cost=cost) if billed or cost is not None else found

    async def listed(self, name: str, *, timeout: float | None = LISTING_TIMEOUT) -> tuple[str, ...]:
        """Return the model names that the endpoint lists: GET /models. Raises the errors of `chat`."""
        return await self._destination(name).traffic.names(timeout)

    # --- end ----------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End running calls and close the connections. A second call has no effect."""
        for traffic in self._traffic.values():
            await traffic.close()

    def __repr__(self) -> str:
        return f"Models({', '.join(self.names())})"


def told(error: ApiError) -> str:
    """Return all texts of an error response, in lower case."""
    return " ".join(filter(None, (error.message, error.code, error.param, error.body))).lower()


def is_unknown_path(error: ApiError) -> bool:
    """Whether the error means that the path does not exist. An unknown model gives another error."""
    if error.status in (405, 501):
        return True
    return isinstance(error, NotFound) and error.code != "model_not_found" and "model" not in told(error)

"""Recording: requests to models are forwarded to their endpoints, and stored so that runs can use them.

`POST /chat/completions` is stored with `store: true`, and `POST /responses` without `store: false`, as on the service.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evals_async._json import JSONObject, as_array
from evals_async._store import json_text
from evals_async._store.answers import AnswerKind, StoredAnswer, put_answer
from evals_async.errors import ArchiveError
from evals_async.server import checks
from evals_async.server.answers import Answer, Problem, listed
from evals_async.server.execution.items import USAGE
from evals_async.server.execution.sampling import shown_message
from evals_async.server.handlers import request_object
from evals_async.server.service import RequestContext, Service


if TYPE_CHECKING:
    from evals_async.inference import Completion, Models

logger = logging.getLogger("evals_async.server")

OWN_FIELDS = ("model", "messages", "input", "store", "stream", "metadata")  # not parameters of the model


def models_of(service: Service) -> Models:
    """Return the models of the server. Raises `Problem` if recording is off."""
    if service.models is None or not service.record:
        raise Problem(404, "This server does not forward requests to models: start it with --models and --record.")
    return service.models


async def pass_on(service: Service, call: RequestContext, kind: AnswerKind, asked: str) -> Answer:
    models = models_of(service)
    body = await request_object(service, call)
    name = checks.required(body, "model", checks.text)
    if body.get("stream"):
        raise Problem(400, "This server does not support streaming: leave `stream` out.", param="stream")
    metadata = checks.optional(body, "metadata", checks.metadata)
    given = checks.required(body, asked, checks.anything)
    if not models.resolves(name):
        message = f"No endpoint is configured for the model '{name:.100}'. Configured models: {listed(models.names())}."
        raise Problem(404, message, param="model", code="model_not_found")
    # All that can be refused is checked before the call, which must be paid for.
    stored = stored_request(body)
    completion = await ask(models, kind, name, given, {key: body[key] for key in body if key not in OWN_FIELDS})
    if kind == "responses" and as_array(completion.raw.get("output")) is None:
        message = "The endpoint of this model has no /responses: use /chat/completions."
        raise Problem(400, message, code="responses_not_supported")
    if body.get("store", kind == "responses"):
        try:
            await keep(service, kind, body, stored, metadata or {}, completion)
        except ArchiveError as error:  # an error response would make the client pay for the call again
            logger.warning("a response of %s was returned, but not stored: %s", name, error)
    return Answer.of(200, completion.raw)


async def ask(models: Models, kind: AnswerKind, name: str, given: object, params: JSONObject) -> Completion:
    """Send the request to the model and return its response. Raises `Problem` with the error of the endpoint."""
    from evals_async.errors import ApiError, EvalsError, InvalidArgument

    try:
        if kind == "responses":
            return await models.respond(name, given, params=params)
        messages = [checks.mapping(entry, "messages") for entry in checks.array(given, "messages")]
        return await models.chat(name, messages, params=params)
    except ApiError as error:
        problem = Problem(error.status, error.message, param=error.param, code=error.code)
        problem.type = error.type or problem.type
        raise problem from None
    except InvalidArgument as error:
        raise Problem(400, str(error)) from None
    except EvalsError as error:
        raise Problem(502, str(error), type="server_error") from None


def stored_request(body: JSONObject) -> dict[str, object]:
    """Return the parameters of a request that are stored with its response. Raises `Problem`."""
    tools = [checks.mapping(tool, "tools").get("type") for tool in as_array(body.get("tools")) or ()]
    request = {name: body.get(name) for name in ("temperature", "top_p", "instructions", "user")}
    effort = checks.optional(body, "reasoning", checks.mapping) or {}
    return request | {"tools": tools, "reasoning_effort": body.get("reasoning_effort", effort.get("effort"))}


async def keep(
    service: Service,
    kind: AnswerKind,
    body: JSONObject,
    request: JSONObject,
    metadata: Mapping[str, object],
    completion: Completion,
) -> None:
    """Store a response as a row for later runs: `item.input` has the messages, `sample.output_text` the text."""
    given = body.get("messages") if kind == "completions" else body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if isinstance(body.get("instructions"), str):
        messages = [{"role": "system", "content": body["instructions"]}, *(as_array(messages) or ())]
    sample = {
        "input": [shown_message(checks.mapping(entry, "input")) for entry in as_array(messages) or ()],
        "output": [{**completion.message, "content": completion.text}],
        "output_text": completion.text,
        "choices": [{"index": 0, "message": completion.message, "finish_reason": completion.finish_reason}],
        "finish_reason": completion.finish_reason,
        "model": completion.model,
        "usage": {name: completion.usage.get(name, 0) for name in USAGE},
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
    }
    item = {"input": messages, "metadata": metadata}
    answer = StoredAnswer(
        id=service.ids.new("answer"),
        kind=kind,
        model=str(body["model"]),
        created_at=int(service.clock.time()),
        text=json_text({"item": item, "sample": sample, "request": request}),
    )
    await service.database.atomic(put_answer, answer)


async def chat_completion(service: Service, call: RequestContext) -> Answer:
    return await pass_on(service, call, "completions", "messages")


async def response(service: Service, call: RequestContext) -> Answer:
    return await pass_on(service, call, "responses", "input")

"""Responses in the form of a JSON schema, also from endpoints without schemas.

Three forms are tried in this order: `response_format` with the schema; `json_object` with the schema in the prompt;
plain text with the schema in the prompt. If an endpoint refuses or ignores a form, this is stored for the model, and
the form is not tried again. No other model is ever used.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import attrs

from evals_async import BadRequest, Unprocessable
from evals_async._json import JSONObject, dump
from evals_async.inference.completion import Completion
from evals_async.inference.modelmap import TIMEOUT, Models
from evals_async.inference.shapes import chat_content


V = TypeVar("V")

FORMS = ("json_schema", "json_object", "text")
DEGRADED = {
    "json_object": "the endpoint does not support JSON schemas: JSON was requested, with the schema in the prompt",
    "text": "the endpoint does not support structured output: the response was read from its text",
}
INSTRUCTION = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"
CUT = ("length", "content_filter")


@attrs.frozen(kw_only=True)
class Structured(Generic[V]):
    """The last completion, its value (`None` if it is invalid), and all completions that were paid for."""

    completion: Completion
    value: V | None
    completions: tuple[Completion, ...]
    form: str
    notes: tuple[str, ...]


def params_for(form: str, name: str, schema: JSONObject) -> JSONObject:
    """Return the parameters that request this form."""
    if form == "json_schema":
        return {"response_format": {"type": form, "json_schema": {"name": name, "strict": True, "schema": schema}}}
    return {"response_format": {"type": form}} if form == "json_object" else {}


def messages_for(form: str, messages: Sequence[JSONObject], schema: JSONObject) -> Sequence[JSONObject]:
    """Return the messages. They contain the schema if the form does not. Some endpoints require `system` to be the
    first message.
    """
    if form == "json_schema":
        return messages
    instruction = INSTRUCTION + dump(schema).decode()
    first = messages[0] if messages else None
    if first is not None and first.get("role") in ("system", "developer"):
        content = chat_content(first.get("content"))
        if isinstance(content, str):
            return [{**first, "content": f"{content}\n\n{instruction}"}, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


async def structured_chat(
    models: Models,
    model: str,
    messages: Sequence[JSONObject],
    *,
    name: str,
    schema: JSONObject,
    read: Callable[[Completion], V | None],
    params: JSONObject,
    timeout: float | None = TIMEOUT,
) -> Structured[V]:
    """Send messages and decode the response with `read`, which returns `None` for an invalid response.

    Raises `RequestError` as `Models.chat` does. If all forms are refused, it raises the first error.
    """
    learned = models.learned(model)
    refusal: BadRequest | Unprocessable | None = None
    paid: list[Completion] = []
    form = FORMS[learned.structured]
    for level in range(learned.structured, len(FORMS)):
        # If the form has worked for this model before, an error is about this request, and an invalid response is
        # final.
        proven = learned.structured_proven
        form = FORMS[level]
        asked = messages_for(form, messages, schema)
        try:
            completion = await models.chat(
                model, asked, params={**params, **params_for(form, name, schema)}, timeout=timeout
            )
        except (BadRequest, Unprocessable) as error:
            if proven and level <= learned.structured:
                raise
            refusal = refusal or error
            continue
        paid.append(completion)
        value = read(completion)
        if value is not None:
            learned.structured = max(level, learned.structured)
            learned.structured_proven = True
        if value is not None or proven or completion.finish_reason in CUT or completion.message.get("refusal"):
            break
    if not paid:
        assert refusal is not None  # noqa: S101  # every form was either paid for or refused
        raise refusal
    last = paid[-1]
    notes = (*((DEGRADED[form],) if form in DEGRADED else ()), *last.notes)
    return Structured(completion=last, value=read(last), completions=tuple(paid), form=form, notes=notes)

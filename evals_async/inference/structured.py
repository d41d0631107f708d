"""An answer in the form of a JSON schema, from endpoints that take schemas and from those that do not.

Three forms are tried in this order: `response_format` with the schema; `json_object` with the schema in the prompt;
plain text with the schema in the prompt. What an endpoint refuses, or silently ignores, is remembered for its model,
and not tried again. The model itself is never replaced by another one.
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
    "json_object": "the endpoint takes no JSON schema: it was asked for JSON, with the schema in the prompt",
    "text": "the endpoint gives no structured output: the answer was read from its text",
}
INSTRUCTION = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"
CUT = ("length", "content_filter")


@attrs.frozen(kw_only=True)
class Structured(Generic[V]):
    """What came: the last completion, its value (`None` where it could not be read), and every completion paid for."""

    completion: Completion
    value: V | None
    completions: tuple[Completion, ...]
    form: str
    notes: tuple[str, ...]


def params_for(form: str, name: str, schema: JSONObject) -> JSONObject:
    """The parameters that demand this form."""
    if form == "json_schema":
        return {"response_format": {"type": form, "json_schema": {"name": name, "strict": True, "schema": schema}}}
    return {"response_format": {"type": form}} if form == "json_object" else {}


def messages_for(form: str, messages: Sequence[JSONObject], schema: JSONObject) -> Sequence[JSONObject]:
    """The messages, with the schema in them where the form does not carry it; endpoints want `system` to come first."""
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
    """The answer of a model to messages, read by `read`, which returns `None` for what it cannot read.

    Raises `RequestError` as `Models.chat` does; where every form is refused, the first refusal.
    """
    learned = models.learned(model)
    refusal: BadRequest | Unprocessable | None = None
    paid: list[Completion] = []
    form = FORMS[learned.structured]
    for level in range(learned.structured, len(FORMS)):
        # Once an answer of this model was read, a refusal is about the request, and a bad answer is just that.
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

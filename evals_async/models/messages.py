"""Messages and what they are made of: the templates that a run sends to a model, or that a model grader is asked with.

What a model answered stands in `output_items`. Nothing here fills in a template.
"""

from typing import Literal, TypeAlias

import attrs

from evals_async.models.base import Model, Unknown


Role: TypeAlias = Literal["user", "assistant", "system", "developer"] | str


@attrs.frozen(kw_only=True, repr=False)
class PromptCacheBreakpoint(Model):
    """The end of a part of the prompt that the provider may keep for later requests."""

    mode: Literal["explicit"] | str | None = None
    #: How long it is kept at least.
    ttl: Literal["30m", "12h"] | str | None = None


@attrs.frozen(kw_only=True, repr=False)
class InputText(Model):
    """Text for the model; it may hold templates such as `{{ item.question }}`."""

    #: Azure leaves the tag out of what it echoes, which decodes to `None` here.
    type: Literal["input_text"] | None = "input_text"
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


@attrs.frozen(kw_only=True, repr=False)
class OutputText(Model):
    """Text that a model is made to have said before."""

    type: Literal["output_text"] = "output_text"
    text: str


@attrs.frozen(kw_only=True, repr=False)
class InputImage(Model):
    """An image for the model, by URL (a `data:` URL too) or, in messages of a responses run, by an uploaded file."""

    type: Literal["input_image"] = "input_image"
    image_url: str | None = None
    file_id: str | None = None
    #: How closely the model looks; the server's default is `auto`.
    detail: Literal["auto", "low", "high"] | str | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


@attrs.frozen(kw_only=True, repr=False)
class InputAudioData(Model):
    """The sound of an `InputAudio`: base64 text, and what it is the base64 of."""

    data: str
    format: Literal["mp3", "wav"] | str


@attrs.frozen(kw_only=True, repr=False)
class InputAudio(Model):
    """Sound for the model."""

    type: Literal["input_audio"] = "input_audio"
    input_audio: InputAudioData


ContentPart: TypeAlias = InputText | OutputText | InputImage | InputAudio | Unknown
"""One part of a message's content."""

Content: TypeAlias = str | ContentPart | tuple[str | ContentPart, ...]
"""All that a message's content may be: text, one part, or several of both."""


@attrs.frozen(kw_only=True, repr=False)
class Message(Model):
    """A message of a template (`EvalItem` in the API's specification).

    Servers normalise what they echo: a plain string may come back as one `InputText`.
    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["message"] | None = None
    role: Role
    content: Content
    #: Of an assistant's message in a responses run: is it a comment on the way, or the final answer?
    phase: Literal["commentary", "final_answer"] | str | None = None


TemplateMessage: TypeAlias = Message | Unknown


@attrs.frozen(kw_only=True, repr=False)
class TemplateMessages(Model):
    """Messages to fill in for each row of the data source."""

    #: Azure leaves the tag out of what it lists, which decodes to `None` here.
    type: Literal["template"] | None = "template"
    template: tuple[TemplateMessage, ...]


@attrs.frozen(kw_only=True, repr=False)
class ItemReference(Model):
    """Messages that each row brings along, in the field named here (`item.messages`)."""

    type: Literal["item_reference"] = "item_reference"
    item_reference: str


InputMessages: TypeAlias = TemplateMessages | ItemReference | Unknown
"""Where the messages that a run sends come from."""

"""Messages and their parts: the templates that a run or a model grader sends to a model.

The responses of models are in `output_items`.
"""

from typing import Literal, TypeAlias

import attrs

from evals_async.models.base import Model, Unknown


Role: TypeAlias = Literal["user", "assistant", "system", "developer"] | str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class PromptCacheBreakpoint(Model):
    """The end of a part of the prompt that the provider may cache for later requests."""

    mode: Literal["explicit"] | str | None = None
    # : The minimum time in the cache.
    ttl: Literal["30m", "12h"] | str | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class InputText(Model):
    """Text for the model. It may contain templates such as `{{ item.question }}`."""

    # : Azure leaves the tag out of its responses; it is then `None`.
    type: Literal["input_text"] | None = "input_text"
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class OutputText(Model):
    """Text of an earlier response of the model."""

    type: Literal["output_text"] = "output_text"
    text: str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class InputImage(Model):
    """An image for the model, by URL (a `data:` URL too) or, in messages of a responses run, by an uploaded file."""

    type: Literal["input_image"] = "input_image"
    image_url: str | None = None
    file_id: str | None = None
    # : The level of detail of the image. The server's default is `auto`.
    detail: Literal["auto", "low", "high"] | str | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class InputAudioData(Model):
    """The audio of an `InputAudio`: base64 text, and the format of the audio."""

    data: str
    format: Literal["mp3", "wav"] | str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class InputAudio(Model):
    """Audio for the model."""

    type: Literal["input_audio"] = "input_audio"
    input_audio: InputAudioData


ContentPart: TypeAlias = InputText | OutputText | InputImage | InputAudio | Unknown
"""One part of a message's content."""

Content: TypeAlias = str | ContentPart | tuple[str | ContentPart, ...]
"""The content of a message: text, one part, or several of both."""


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Message(Model):
    """A message of a template (`EvalItem` in the API's specification).

    Servers normalise messages: a plain string may be returned as one `InputText`.
    https://platform.openai.com/docs/api-reference/evals/createRun
    """

    type: Literal["message"] | None = None
    role: Role
    content: Content
    # : For an assistant's message in a responses run: whether it is a comment or the final answer.
    phase: Literal["commentary", "final_answer"] | str | None = None


TemplateMessage: TypeAlias = Message | Unknown


@attrs.frozen(kw_only=True, repr=False, eq=False)
class TemplateMessages(Model):
    """Messages with templates, which are filled in for each row of the data source."""

    # : Azure leaves the tag out of its responses; it is then `None`.
    type: Literal["template"] | None = "template"
    template: tuple[TemplateMessage, ...]


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ItemReference(Model):
    """Messages that each row contains, in the field named here (`item.messages`)."""

    type: Literal["item_reference"] = "item_reference"
    item_reference: str


InputMessages: TypeAlias = TemplateMessages | ItemReference | Unknown
"""The messages that a run sends: templates, or a field of each row."""

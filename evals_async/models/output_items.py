"""Output items: the result of each row of a run.

The model's response is the item's `sample`; the result of a grader is a `GraderResult`.
"""

from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import attrs

from evals_async._json import JSONObject, JSONValue, NotJSON, as_array, as_object, parse
from evals_async.models.base import Model, Unknown, deferred, moment, repeated, without_uuid
from evals_async.models.messages import Content, ContentPart, InputText, OutputText
from evals_async.models.runs import ErrorInfo, real_error


ItemStatus: TypeAlias = Literal["pass", "fail", "error", "completed"] | str
"""On OpenAI, the status is the verdict. On Foundry it is `completed`, and the results have the verdict."""


@attrs.frozen(kw_only=True, repr=False, eq=False)
class TokenUsage(Model):
    """The tokens of one model response."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class SampleMessage(Model):
    """A message to a model, or from it. An image may be in the text as `<image>URL</image>`."""

    role: str | None = None
    content: Content | None = None
    tool_calls: JSONValue = attrs.field(default=None, hash=False)
    tool_call_id: str | None = None
    function_call: JSONValue = attrs.field(default=None, hash=False)

    @property
    def text(self) -> str | None:
        """The text of all parts of the message, or `None`.

        On Foundry, the text of an agent's message is a JSON array of parts. It is decoded.
        """
        if self.content is None or isinstance(self.content, str):
            return None if self.content is None else text_of_parts(self.content) or self.content
        parts = self.content if isinstance(self.content, tuple) else (self.content,)
        texts = [text for text in map(text_of_part, parts) if text is not None]
        return "".join(texts) if texts else None


def text_of_part(part: str | ContentPart) -> str | None:
    if isinstance(part, Unknown):  # chat completions have a part of the type `text`
        text = part.raw.get("text") if part.type == "text" else None
        return text if isinstance(text, str) else None
    return part if isinstance(part, str) else part.text if isinstance(part, InputText | OutputText) else None


def text_of_parts(content: str) -> str | None:
    """Return the text of a JSON array of content parts, or `None` for other texts."""
    if not content.startswith('[{"') or '"output_text"' not in content:
        return None
    parts = [as_object(part) for part in as_array(json_in(content)) or ()]
    texts = [part.get("text") for part in parts if part is not None and part.get("type") == "output_text"]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found and len(texts) == len(found) and None not in parts else None


def json_in(text: str) -> JSONValue:
    """Parse a text as JSON. Returns `None` if it is not JSON."""
    try:
        return parse(text.encode("utf-8", "surrogatepass"))
    except NotJSON:
        return None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class Sample(Model):
    """A conversation with a model, either of the run or of a model grader. It is empty if no model was called."""

    input: tuple[SampleMessage, ...] | None = None
    output: tuple[SampleMessage, ...] | None = None
    finish_reason: str | None = None
    model: str | None = repeated()
    usage: TokenUsage | None = None
    # : The received value. Use `failure`, which is `None` for an empty error.
    error: ErrorInfo | str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    # : For a completions run.
    max_completion_tokens: int | None = None
    # : For a responses run and a model grader. The API uses this spelling.
    max_completions_tokens: int | None = None
    # : Foundry only: the response time of the target.
    latency_ms: float | None = None

    @property
    def failure(self) -> ErrorInfo | None:
        """The error, or `None` if there is none. An empty error object counts as none."""
        return real_error(self.error)

    @property
    def output_text(self) -> str | None:
        """The text of the last message from the model. In templates it is `sample.output_text`."""
        return self.output[-1].text if self.output else None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class GraderResult(Model):
    """The result of one grader for one row. Unknown fields are in `extra`."""

    #: The criterion's id: `<name>-<uuid4>` on OpenAI, the name on Azure.
    name: str | None = repeated()
    #: The grader's type: mostly absent on OpenAI, always there on Foundry.
    type: str | None = repeated()
    # : A custom evaluator on Foundry may return `true`, which counts as 1.
    score: float | bool | None = None
    # : `None` on Foundry if the row was skipped or the grader failed.
    passed: bool | None = None
    sample: Sample | None = deferred("The conversation with the grader's model, if it has one.")
    # : Foundry only, like all fields below. An evaluator has one result per metric.
    metric: str | None = repeated()
    _label: str | bool | None = attrs.field(default=None, alias="label", metadata={"wire": "label"})
    reason: str | None = None
    threshold: float | None = None
    status: Literal["completed", "error", "skipped"] | str | None = None
    properties: JSONObject | None = attrs.field(default=None, hash=False)

    @property
    def label(self) -> str | bool | None:
        """The label from Foundry, or from the label model."""
        if self._label is not None or self.sample is None:
            return self._label
        answer = as_object(json_in(self.sample.output_text or ""))
        chosen = None if answer is None else answer.get("result")
        return chosen if isinstance(chosen, str) else None

    @property
    def plain_name(self) -> str | None:
        """The name of the grader that the user gave."""
        return None if self.name is None else without_uuid(self.name)

    @property
    def is_error(self) -> bool:
        """Whether the grader itself failed."""
        return self.status == "error" or (self.sample is not None and self.sample.failure is not None)

    @property
    def explanation(self) -> str | None:
        """The reason from Foundry, or the text of the grader's model. If the text has steps, they are returned one
        per line.
        """
        if self.reason:
            return self.reason
        text = None if self.sample is None else self.sample.output_text
        return None if text is None else steps_of(text) or text


def steps_of(text: str) -> str | None:
    """Return the steps of a model grader's response, one per line. The response is JSON in a string: `{"steps":
    [{"description": …, "conclusion": …}], "result": 0.5}`.
    """
    lines: list[str] = []
    for step in map(as_object, as_array((as_object(json_in(text)) or {}).get("steps")) or ()):
        said = (step.get("description"), step.get("conclusion")) if step else ()
        lines.append(" ".join(part for part in said if isinstance(part, str) and part))
    return "\n".join(filter(None, lines)) or None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class OutputItem(Model):
    """One row of a run: the row, the response of the model, and the result of every grader.

    https://platform.openai.com/docs/api-reference/evals/run-output-item-object
    """

    object: Literal["eval.run.output_item"] | None = None
    id: str
    run_id: str | None = None
    eval_id: str | None = None
    #: Seconds since the epoch.
    created_at: int | None = None
    status: ItemStatus
    # : The position of the row in its source, from 0 or from 1. The order of listings is not defined: sort by this
    # field.
    datasource_item_id: int | str | None = None
    datasource_item: JSONObject | None = attrs.field(default=None, hash=False)
    results: tuple[GraderResult, ...] | None = None
    sample: Sample | None = deferred("The response of the model to the row, if the run has a model.")
    #: SHA-256 of the row.
    datasource_item_content_hash: str | None = attrs.field(
        default=None, metadata={"wire": "_datasource_item_content_hash"}
    )
    # : Azure only: related objects that can be requested with the item.
    available_includes: tuple[str, ...] | None = None

    _shown_first: ClassVar[tuple[str, ...]] = ("id", "status", "passed")

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self.created_at)

    @property
    def is_error(self) -> bool:
        """Whether sampling or grading of the row failed. It is false if the status is `pass` or `fail`."""
        if self.status in ("pass", "fail", "error"):
            return self.status == "error"
        failed = self.sample is not None and self.sample.failure is not None
        return failed or any(result.is_error for result in self.results or ())

    @property
    def passed(self) -> bool | None:
        """Whether the row passed: by its status, or else by all its results. `None` after an error."""
        if self.status in ("pass", "fail"):
            return self.status == "pass"
        verdicts = [result.passed for result in self.results or () if result.passed is not None]
        return all(verdicts) if verdicts and not self.is_error else None

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks: the row, the response, and the result of each grader."""
        from evals_async import _html

        failure = None if self.sample is None else self.sample.failure
        facts = {
            "item": self.id,
            "run": self.run_id,
            "row": self.datasource_item_id,
            "status": self.status,
            "passed": self.passed,
            "error": None if failure is None else failure.message or failure.code,
            "answer": None if self.sample is None else self.sample.output_text,
        }
        row = [(name, value) for name, value in (self.datasource_item or {}).items()]
        results = [(each.plain_name, each.score, each.passed, each.explanation) for each in self.results or ()]
        return _html.document(
            "Output item",
            facts,
            _html.Grid("Row", ("field", "value"), row),
            _html.Grid("Results", ("criterion", "score", "passed", "explanation"), results),
        )

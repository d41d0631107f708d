"""Write an archive's definitions as promptfoo configurations: one directory per eval.

    eval_abc/promptfooconfig.yaml   eval_abc/prompt.json   eval_abc/tests.jsonl   eval_abc/graders/*.py

The prompt, the model and the rows come from the newest completed run of the eval. Rows become `vars: {item: {...}}`, so
that templates need no change; this requires PROMPTFOO_DISABLE_OBJECT_STRINGIFY. A run that only graded existing outputs
is replayed with the provider `echo`. `promptfoo` converts results.
"""

import json
from collections.abc import Iterator, Mapping

import attrs

from evals_async import _json, encode
from evals_async._json import JSONObject, NotJSON, as_object
from evals_async.archive.convert.assertions import Converter, has_only_text, text_of
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, Output, file_name
from evals_async.archive.convert.yaml import document
from evals_async.models import Eval, EvalRun
from evals_async.models.messages import ItemReference, Message, TemplateMessages
from evals_async.models.sources import (
    CompletionsDataSource,
    FileContent,
    FileId,
    JsonlDataSource,
    ResponsesDataSource,
    SamplingParams,
)


ENVIRONMENT = {"PROMPTFOO_DISABLE_OBJECT_STRINGIFY": "true"}  # without it, {{ item.x }} in rubrics is empty
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_completion_tokens": "max_completion_tokens",
    "max_completions_tokens": "max_completion_tokens",
    "reasoning_effort": "reasoning_effort",
}


@attrs.frozen
class Prompt:
    """The prompt of a run: the name and text of the prompt file, and the provider."""

    name: str
    text: str
    provider: object


def to_promptfooconfig(source: ArchiveReader, out: Output) -> None:
    """Write one directory per eval. Raises `ArchiveError` and `OSError`."""
    for evaluation in source.eval_models(out.report):
        write_eval(source, evaluation, out)


def write_eval(source: ArchiveReader, evaluation: Eval, out: Output) -> None:
    report, directory = out.report, file_name(evaluation.id)
    run = newest_run(source, evaluation, report)
    criteria = evaluation.testing_criteria or ()
    converter = Converter(report)
    assertions = converter.assertions(evaluation.id, criteria)
    prompt = prompt_of(run, report)
    with out.file(directory, "tests.jsonl") as file:
        for variables in rows_of(source, evaluation, run, report):
            file.write(_json.dump({"vars": variables}) + b"\n")
            report.add("mapped", "rows")
    out.text(prompt.text, directory, prompt.name)
    for name, text in converter.files.items():
        out.text(text, directory, "graders", name)
    config: JSONObject = {
        "description": f"{evaluation.name or evaluation.id}",
        "env": ENVIRONMENT,
        "prompts": [f"file://{prompt.name}"],
        "providers": [prompt.provider],
        "defaultTest": {"assert": assertions},
        "tests": "file://tests.jsonl",
    }
    comments = [f"From the eval {evaluation.id}" + (f", run {run.id}" if run else ", which has no runs")]
    if converter.files:
        comments.append("The files in graders/ are code from this eval; promptfoo runs them without a sandbox.")
    out.text(document(config, [*comments, *converter.comments]), directory, "promptfooconfig.yaml")


def newest_run(source: ArchiveReader, evaluation: Eval, report: ConversionReport) -> EvalRun | None:
    """Return the newest completed run, or without one the newest run."""
    newest: EvalRun | None = None
    for run in source.run_models(evaluation.id, report):
        if newest is None or run.status == "completed" or newest.status != "completed":
            newest = run
    return newest


# --- the prompt and the model -----------------------------------------------------------------------------------------


def prompt_of(run: EvalRun | None, report: ConversionReport) -> Prompt:
    source = None if run is None else run.data_source
    if isinstance(source, CompletionsDataSource | ResponsesDataSource):
        kind = "chat" if isinstance(source, CompletionsDataSource) else "responses"
        model = source.model or (run.model if run else None)
        if model is not None and isinstance(source.input_messages, TemplateMessages | ItemReference):
            provider = provider_of(f"openai:{kind}:{model}", source.sampling_params, report)
            return Prompt("prompt.json", template_of(source.input_messages, report), provider)
        report.add("approximated", "runs without a template or a model", "their outputs are replayed")
    elif not isinstance(source, JsonlDataSource):
        kind = "no run" if source is None else f"runs of type {source.type}"
        report.add("approximated", kind, "promptfoo cannot sample them: existing outputs are replayed")
    else:
        report.add("mapped", "runs that grade existing outputs")
    return Prompt("prompt.txt", "{{ sample.output_text }}", "echo")


def provider_of(name: str, parameters: SamplingParams | None, report: ConversionReport) -> object:
    config: dict[str, object] = {}
    for ours, theirs in PARAMETERS.items():
        value = getattr(parameters, ours, None)
        if value is not None:
            config[theirs] = value
    if parameters is not None and parameters.tools:
        config["tools"] = encode(parameters.tools)
    if parameters is not None and parameters.response_format is not None:
        config["response_format"] = encode(parameters.response_format)
    if parameters is not None and parameters.text is not None:
        report.add("dropped", "text formats of responses runs", "promptfoo has no such parameter")
    report.add("mapped", "models with their sampling parameters")
    return {"id": name, "config": config} if config else name


def template_of(messages: TemplateMessages | ItemReference, report: ConversionReport) -> str:
    """Return the text of the prompt file for a run's messages."""
    if isinstance(messages, ItemReference):
        report.add("approximated", "messages in the rows", "promptfoo inserts them as JSON")
        return "{{ " + messages.item_reference + " | dump }}"
    texts = [message for message in messages.template if isinstance(message, Message)]
    if len(texts) < len(messages.template) or not all(map(has_only_text, texts)):
        report.add("dropped", "parts of messages that are not text", "images, sound and unknown parts")
    report.add("mapped", "templates of messages")
    prompt = [{"role": message.role, "content": text_of(message)} for message in texts]
    return json.dumps(prompt, indent=2, ensure_ascii=False)


# --- the rows ---------------------------------------------------------------------------------------------------------


def rows_of(
    source: ArchiveReader, evaluation: Eval, run: EvalRun | None, report: ConversionReport
) -> Iterator[Mapping[str, object]]:
    """Yield the variables of each row, from the run's data source, or else from its output items."""
    if run is None:
        report.add("dropped", "rows of evals without runs", "the archive has none")
        return
    rows = getattr(run.data_source, "source", None)
    data = source.content(rows.id) if isinstance(rows, FileId) else None
    if isinstance(rows, FileContent):
        for row in rows.content:
            yield variables(row.item, row.sample)
    elif data is not None:
        yield from rows_of_file(data, report)
    else:
        for item in source.item_models(evaluation.id, run.id, report):
            said = None if item.sample is None else item.sample.output_text
            yield variables(item.datasource_item, {"output_text": said or ""})


def rows_of_file(data: bytes, report: ConversionReport) -> Iterator[Mapping[str, object]]:
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            row = as_object(_json.parse(line)) or {}
        except NotJSON:
            row = {}
        item = as_object(row.get("item"))
        if item is None:
            report.add("dropped", "lines of files that are not rows", "they have no object `item`")
        else:
            yield variables(item, as_object(row.get("sample")))


def variables(item: JSONObject | None, sample: JSONObject | None) -> Mapping[str, object]:
    found: dict[str, object] = {"item": dict(item or {})}
    if sample is not None:
        found["sample"] = dict(sample)
    return found

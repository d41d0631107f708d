"""Write an archive's results as logs of Inspect AI, one per run, with the classes of `inspect_ai.log`.

    eval_abc/2025-05-05T03-42-50-00-00_<eval>_evalrun_def.eval

`inspect view`, `inspect_ai.log.read_eval_log` and `inspect_ai.analysis` read them. The mapping:

- A row is a sample. Its id is its position in the data source. Rows that were sampled more than once are epochs.
- The input is what was sent to the model, or without it the row as JSON text. The row is also in the metadata.
- The target is the field that all graders compare with (`reference: "{{ item.answer }}"`), or empty without one. The
  definitions of the graders are in the metadata of the log.
- Each criterion is a scorer, even if graders have the same name. Its value is the score; whether it passed is in the
  metadata. A criterion without a score is unscored and not part of the means.
- A row that ended with an error has an error. A failed run is a log with the status `error`.
- Inspect counts cached tokens separately from the other input tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import attrs

from evals_async import _json, encode
from evals_async._extras import extra_missing
from evals_async._json import JSONObject, NotJSON, as_array, as_object
from evals_async._numbers import float_of
from evals_async.archive.convert.report import ArchiveReader, ConversionReport, Output, file_name
from evals_async.errors import MissingExtra
from evals_async.models import Eval, EvalRun, OutputItem
from evals_async.models.graders import StringCheckGrader, TextSimilarityGrader
from evals_async.models.output_items import GraderResult, Sample, SampleMessage, TokenUsage
from evals_async.tables._cells import CriterionNames, counted_once, source_without_rows


STATUSES = {"completed": "success", "failed": "error", "canceled": "cancelled", "cancelled": "cancelled"}
STOPS = {
    "stop": "stop",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
FIELD = re.compile(r"\s*\{\{\s*item\.(\w+)\s*\}\}\s*")


@attrs.frozen
class Inspect:
    """The modules of Inspect. They have no useful types, and their import takes a second."""

    log: Any
    model: Any
    scorer: Any
    tool: Any

    @classmethod
    def load(cls) -> Inspect:
        """Import the modules. Raises `MissingExtra`."""
        try:
            return cls(*(import_module(f"inspect_ai.{name}") for name in ("log", "model", "scorer", "tool")))
        except ImportError as error:
            raise MissingExtra(extra_missing("logs of Inspect need", "inspect")) from error

    def write(self, log: Any, path: str) -> None:
        """Write a log. This is done in a thread without an event loop, because in a running loop Inspect would patch
        asyncio for the whole process.
        """
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self.log.write_eval_log, log, path, format="eval").result()


def to_inspect(source: ArchiveReader, out: Output) -> None:
    """Write one log per run. The items of one run are in memory.

    Raises `ArchiveError`, `OSError`, and `MissingExtra`.
    """
    inspect = Inspect.load()
    for evaluation in source.eval_models(out.report):
        for run in source.run_models(evaluation.id, out.report):
            items = source.item_models(evaluation.id, run.id, out.report)
            path = out.new_path(file_name(evaluation.id), name_of(evaluation, run))
            log = LogBuilder(inspect, evaluation, run, out.report).log(items)
            if not out.dry:
                inspect.write(log, str(path))


def name_of(evaluation: Eval, run: EvalRun) -> str:
    """Return a file name in the format of Inspect: time, task and run id."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", evaluation.name or "")[:40].strip("-") or "eval"
    return f"{time_of(run).replace(':', '-').replace('+', '-')}_{words}_{file_name(run.id)}.eval"


def time_of(run: EvalRun) -> str:
    return (run.created or datetime.fromtimestamp(0, UTC)).isoformat(timespec="seconds")


def plain(value: object) -> Any:
    """Convert a model to a plain JSON value."""
    return encode(value)


@attrs.define
class LogBuilder:
    """Builds one log."""

    inspect: Inspect
    evaluation: Eval
    run: EvalRun
    report: ConversionReport
    names: CriterionNames = attrs.Factory(CriterionNames)
    scores: dict[str, list[float]] = attrs.Factory(dict[str, list[float]])
    passes: dict[str, list[bool]] = attrs.Factory(dict[str, list[bool]])
    epochs: dict[int | str, int] = attrs.Factory(dict["int | str", int])

    def log(self, items: Iterator[OutputItem]) -> Any:
        """Return the log."""
        log, run = self.inspect.log, self.run
        samples = [self.sample(item, number) for number, item in enumerate(items)]
        failure = run.failure
        self.report.add("mapped", "runs")
        return log.EvalLog(
            status=STATUSES.get(run.status or "", "started"),
            eval=self.spec(samples),
            results=log.EvalResults(
                total_samples=len(samples),
                completed_samples=sum(sample.error is None for sample in samples),
                scores=[self.score_summary(name) for name in self.scores],
            ),
            stats=log.EvalStats(started_at=time_of(run), completed_at=time_of(run), model_usage=self.run_usage()),
            error=None if failure is None else self.error(failure.message or failure.code or "the run failed"),
            samples=samples,
        )

    def spec(self, samples: Sequence[Any]) -> Any:
        log, run, evaluation = self.inspect.log, self.run, self.evaluation
        ids = list(dict.fromkeys(sample.id for sample in samples))
        dataset = log.EvalDataset(name=evaluation.name, samples=len(ids))
        epochs = max((sample.epoch for sample in samples), default=1)
        return log.EvalSpec(
            eval_id=run.id,
            run_id=run.id,
            created=time_of(run),
            task=evaluation.name or evaluation.id,
            task_id=evaluation.id,
            dataset=dataset,
            model=run.model or "none",
            config=log.EvalConfig(epochs=epochs),
            metadata={
                "eval_id": evaluation.id,
                "run_id": run.id,
                "run_name": run.name,
                "report_url": run.report_url,
                "eval_metadata": plain(evaluation.metadata),
                "run_metadata": plain(run.metadata),
                "testing_criteria": plain(evaluation.testing_criteria),
                "data_source": source_without_rows(run)[0],
            },
        )

    def error(self, message: str) -> Any:
        return self.inspect.log.EvalError(message=message, traceback="", traceback_ansi="")

    # --- rows ---------------------------------------------------------------------------------------------------------

    def sample(self, item: OutputItem, number: int) -> Any:
        """Convert one item."""
        sample = item.sample or Sample()
        position = number if item.datasource_item_id is None else item.datasource_item_id
        epoch = self.epochs[position] = self.epochs.get(position, 0) + 1
        usage = self.usage(sample.usage)
        sent = [self.message(each) for each in sample.input or ()]
        received = [self.model_message(each, sample) for each in sample.output or ()]
        failure = sample.failure
        message = None if failure is None else failure.message or failure.code
        self.report.add("mapped", "output items")
        return self.inspect.log.EvalSample(
            id=position,
            epoch=epoch,
            input=sent or _json.dump(plain(item.datasource_item or {})).decode(),
            target=self.target(item),
            messages=[*sent, *received],
            output=self.output(sample, received, usage, message),
            scores=self.scores_of(item, sample),
            metadata={
                "item": plain(item.datasource_item),
                "item_id": item.id,
                "status": item.status,
                "passed": item.passed,
            },
            model_usage={sample.model or "unknown": usage} if usage is not None else {},
            error=self.error(message or "the row ended with an error") if item.is_error else None,
            started_at=None if item.created is None else item.created.isoformat(),
        )

    def target(self, item: OutputItem) -> str:
        """Return the target, if all graders compare the output with one field of the row."""
        fields = {
            found[1] if (found := FIELD.fullmatch(grader.reference)) else ""
            for grader in self.evaluation.testing_criteria or ()
            if isinstance(grader, StringCheckGrader | TextSimilarityGrader)
        }
        value = (item.datasource_item or {}).get(fields.pop()) if len(fields) == 1 else None
        if value is None:
            self.report.add("approximated", "rows without a target", "the graders do not compare with one field")
            return ""
        return value if isinstance(value, str) else _json.dump(plain(value)).decode()

    def output(self, sample: Sample, received: Sequence[Any], usage: Any, error: str | None) -> Any:
        """Return the output of the model."""
        model = self.inspect.model
        stop = STOPS.get(sample.finish_reason or "stop", "unknown")
        choices = [model.ChatCompletionChoice(message=each, stop_reason=stop) for each in received[-1:]]
        return model.ModelOutput(model=sample.model or "", choices=choices, usage=usage, error=error)

    def usage(self, usage: TokenUsage | None) -> Any:
        if usage is None:
            return None
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            self.report.add("approximated", "incomplete token counts", "unknown counts become 0")
        return self.model_usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens)

    def model_usage(self, prompt: int | None, completion: int | None, total: int | None, cached: int | None) -> Any:
        return self.inspect.model.ModelUsage(
            input_tokens=max(0, (prompt or 0) - (cached or 0)),
            output_tokens=completion or 0,
            total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
            input_tokens_cache_read=cached,
        )

    def run_usage(self) -> Mapping[str, Any]:
        return {
            each.model_name or "unknown": self.model_usage(
                each.prompt_tokens, each.completion_tokens, each.total_tokens, each.cached_tokens
            )
            for each in counted_once(self.run)
        }

    # --- scores -------------------------------------------------------------------------------------------------------

    def scores_of(self, item: OutputItem, sample: Sample) -> dict[str, Any]:
        """Return one score per criterion."""
        results = item.results or ()
        names = self.names.of_results(self.evaluation.id, results)
        return {name: self.score(name, result, sample) for name, result in zip(names, results, strict=True)}

    def score(self, name: str, result: GraderResult, sample: Sample) -> Any:
        known = {"passed": result.passed, "label": result.label, "threshold": result.threshold, "metric": result.metric}
        metadata = {key: value for key, value in known.items() if value is not None}
        about = {"answer": sample.output_text, "explanation": result.explanation, "metadata": metadata}
        self.scores.setdefault(name, [])
        if result.passed is not None:
            self.passes.setdefault(name, []).append(result.passed)
        if result.sample is not None:
            self.report.add(
                "approximated", "conversations with graders", "the explanation is kept, the messages are not"
            )
        score = None if result.score is None else float_of(result.score)
        if score is None or not math.isfinite(score):
            self.report.add(
                "approximated", "results without a score", "they are unscored; the verdict is in the metadata"
            )
            reason = "grader_failed" if result.is_error else "scoring_failed"
            return self.inspect.scorer.Score.unscored(reason=reason, **about)
        self.scores[name].append(score)
        return self.inspect.scorer.Score(value=score, **about)

    def score_summary(self, name: str) -> Any:
        """Return the mean score and the pass rate of a criterion."""
        log, scores, passes = self.inspect.log, self.scores[name], self.passes.get(name, [])
        means: Mapping[str, Sequence[float]] = {"mean": scores, "pass_rate": passes}
        metrics = {
            metric: log.EvalMetric(name=metric, value=sum(values) / len(values))
            for metric, values in means.items()
            if values
        }
        return log.EvalScore(name=name, scorer=name, scored_samples=len(scores), metrics=metrics)

    # --- messages -----------------------------------------------------------------------------------------------------

    def message(self, message: SampleMessage) -> Any:
        """Convert a message that was sent to the model."""
        model, content = self.inspect.model, self.content(message)
        if message.role in ("system", "developer"):
            return model.ChatMessageSystem(content=content)
        if message.role == "assistant":
            return self.model_message(message, Sample())
        if message.role in ("tool", "function"):
            return model.ChatMessageTool(content=content, tool_call_id=message.tool_call_id)
        if message.role != "user":
            self.report.add("approximated", f"messages of the role {message.role}", "they become messages of a user")
        return model.ChatMessageUser(content=content)

    def model_message(self, message: SampleMessage, sample: Sample) -> Any:
        """Convert a message of the model with its tool calls."""
        calls = [self.tool_call(each, number) for number, each in enumerate(as_array(message.tool_calls) or ())]
        return self.inspect.model.ChatMessageAssistant(
            content=self.content(message), tool_calls=calls or None, model=sample.model, source="generate"
        )

    def content(self, message: SampleMessage) -> str:
        """Return the text of a message; other content becomes JSON text."""
        if message.text is not None:
            return message.text
        if message.content is None:
            return ""
        self.report.add("approximated", "messages that are not text", "they become JSON text")
        return _json.dump(plain(message.content)).decode()

    def tool_call(self, call: object, number: int) -> Any:
        """Convert a tool call. Arguments that are not a JSON object are kept as text, with an error."""
        found: JSONObject = as_object(call) or {}
        function = as_object(found.get("function")) or found
        name, text = function.get("name"), function.get("arguments")
        arguments, problem = arguments_of(text)
        if problem is not None:
            self.report.add("approximated", "arguments of tool calls", "they are not a JSON object, and kept as text")
        return self.inspect.tool.ToolCall(
            id=str(found.get("id") or found.get("call_id") or f"call_{number}"),
            function=name if isinstance(name, str) else "unknown",
            arguments=arguments,
            parse_error=problem,
        )


def arguments_of(text: object) -> tuple[dict[str, Any], str | None]:
    """Return the arguments of a tool call, and the problem if they are not a JSON object."""
    try:
        value = _json.parse(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else text
    except NotJSON as error:
        return {"arguments": text}, str(error)
    found = as_object(value)
    if found is None:
        return ({}, None) if value is None else ({"arguments": value}, "the arguments are not an object")
    return dict(found), None

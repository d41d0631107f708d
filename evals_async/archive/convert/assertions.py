"""Convert graders to promptfoo assertions, and report what is lost. Pure functions.

Templates need no change, because tests have nested variables (`vars: {item: {...}}`). Only `{{ sample.output_text }}`
becomes `{{ output }}`. Source: promptfoo 0.123, docs and code of its assertions.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from evals_async.archive.convert.report import ConversionReport, file_name
from evals_async.models.base import Unknown
from evals_async.models.graders import (
    Grader,
    LabelModelGrader,
    NamedGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from evals_async.models.messages import Message, TemplateMessage
from evals_async.tables._cells import CriterionNames


Assertion: TypeAlias = dict[str, object]

OUTPUT = re.compile(r"\{\{\s*sample\.output_text\s*\}\}")
WHOLE_OUTPUT = re.compile(r"\s*\{\{\s*sample\.output_text\s*\}\}\s*")
CHECKS = {"eq": "equals", "ne": "not-equals", "like": "contains", "ilike": "icontains"}
SIMILAR: Mapping[str, tuple[str, str]] = {
    "rouge_1": ("rouge-n", "promptfoo splits words differently"),
    "bleu": ("bleu", "promptfoo uses another smoothing and ignores case"),
    "gleu": ("gleu", "promptfoo splits words differently"),
    "meteor": ("meteor", "another word list; needs the npm package `natural`"),
    "cosine": ("similar:cosine", "the same embedding model, compared by promptfoo"),
}

# The start of a generated Python file: a simple version of the Evals API's templates.
TEMPLATES = """\
import json
import re


def look_up(path, names):
    value = names
    for part in re.findall(r"[^.\\[\\]]+", path):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value if isinstance(value, str) else json.dumps(value)


def fill(template, output, context):
    names = {"item": context["vars"].get("item", {}), "sample": {"output_text": output}}
    try:
        names["sample"]["output_json"] = json.loads(output)
    except ValueError:
        pass
    return re.sub(r"{{\\s*(.+?)\\s*}}", lambda found: look_up(found[1], names), template)
"""
STRING_CHECK = """

def get_assert(output, context):
    found, wanted = fill({input!r}, output, context), fill({reference!r}, output, context)
    return {test}
"""
STRING_TESTS = {
    "eq": "found == wanted",
    "ne": "found != wanted",
    "like": "wanted in found",
    "ilike": "wanted.lower() in found.lower()",
}
SIMILARITY = """

def get_assert(output, context):
    {imported}

    found, wanted = fill({input!r}, output, context), fill({reference!r}, output, context)
    score = {score}
    return {{"pass": score >= {threshold!r}, "score": score, "reason": {name!r}}}
"""
SCORES: Mapping[str, tuple[str, str]] = {
    "fuzzy_match": (
        "from rapidfuzz import fuzz, utils",
        "fuzz.WRatio(found, wanted, processor=utils.default_process) / 100",
    ),
    **{
        f"rouge_{n}": (
            "from rouge_score import rouge_scorer",
            f'rouge_scorer.RougeScorer(["rouge{n.upper()}"]).score(wanted, found)["rouge{n.upper()}"].fmeasure',
        )
        for n in ("1", "2", "3", "4", "5", "l")
    },
}
PYTHON = """\
{source}


def get_assert(output, context):
    score = grade({{"output_text": output}}, context["vars"].get("item", {{}}))
    return {{"pass": {test}, "score": score, "reason": {name!r}}}
"""


@attrs.define
class Converter:
    """Converts graders. `files` are the generated Python files by name, `comments` the lines for the configuration."""

    report: ConversionReport
    files: dict[str, str] = attrs.Factory(dict[str, str])
    comments: list[str] = attrs.Factory(list[str])

    def assertions(self, eval_id: str, criteria: Sequence[Grader]) -> list[Assertion]:
        """Return the assertions of an eval's criteria.

        Each has a unique metric: the name of the criterion in the results and tables of this eval.
        """
        names = CriterionNames().of(eval_id, [(identity(grader), None) for grader in criteria])
        made = [self.assertion(grader, name) for grader, name in zip(criteria, names, strict=True)]
        return [each for each in made if each is not None]

    def assertion(self, grader: Grader, name: str) -> Assertion | None:
        """Return the assertion of a grader with the metric `name`, or `None` (reported) if there is none."""
        made = self.convert(grader, name)
        if made is not None:
            return {"type": made.pop("type"), "metric": name, **made}
        kind = grader.type or "of an unknown kind"
        if not isinstance(grader, TextSimilarityGrader):
            self.comments.append(f"grader {name} ({kind}) is not converted")
            self.report.add("dropped", f"graders of type {kind}", "promptfoo has no such assertion")
        return None

    def convert(self, grader: Grader, name: str) -> Assertion | None:
        match grader:
            case StringCheckGrader():
                return string_check(self, grader, name)
            case TextSimilarityGrader():
                return text_similarity(self, grader, name)
            case PythonGrader():
                return python(self, grader, name)
            case ScoreModelGrader():
                return score_model(self, grader)
            case LabelModelGrader():
                return label_model(self, grader)
            case _:
                return None

    def python(self, name: str, source: str) -> Assertion:
        """Return an assertion with a Python file."""
        file = f"{file_name(name)}.py"
        self.files[file] = source
        return {"type": "python", "value": f"file://graders/{file}"}


def identity(grader: Grader) -> str | None:
    """Return the key of a grader in results."""
    if isinstance(grader, Unknown):
        name = grader.raw.get("id") or grader.raw.get("name")
        return name if isinstance(name, str) else None
    return grader.id or grader.name


def of_output(template: str) -> bool:
    """Return whether a template is only the output of the model."""
    return WHOLE_OUTPUT.fullmatch(template) is not None


def with_output(template: str) -> str:
    return OUTPUT.sub("{{ output }}", template)


def string_check(converter: Converter, grader: StringCheckGrader, name: str) -> Assertion:
    if of_output(grader.input) and grader.operation in CHECKS:
        converter.report.add("mapped", "string_check")
        return {"type": CHECKS[grader.operation], "value": with_output(grader.reference)}
    if grader.operation not in STRING_TESTS:
        converter.report.add("approximated", "string_check", f"the operation {grader.operation} becomes eq")
    else:
        converter.report.add("mapped", "string_check of another value than the output, in Python")
    test = STRING_TESTS.get(grader.operation, STRING_TESTS["eq"])
    body = STRING_CHECK.format(input=grader.input, reference=grader.reference, test=test)
    return converter.python(name, TEMPLATES + body)


def text_similarity(converter: Converter, grader: TextSimilarityGrader, name: str) -> Assertion | None:
    metric, threshold = grader.evaluation_metric, grader.pass_threshold or 0.0
    if of_output(grader.input) and metric in SIMILAR:
        kind, why = SIMILAR[metric]
        converter.report.add("approximated", f"text_similarity {metric}", why)
        made: Assertion = {"type": kind, "threshold": threshold}
        if metric == "cosine":
            made["provider"] = "openai:embeddings:text-embedding-3-large"
        return {**made, "value": with_output(grader.reference)}
    if metric not in SCORES:
        converter.comments.append(f"grader {name} ({metric} of {grader.input}) is not converted")
        converter.report.add("dropped", f"text_similarity {metric}", "it needs the output as its input")
        return None
    why = "the variant of the service is unknown" if metric == "fuzzy_match" else "rouge-score has its own stemming"
    converter.report.add("approximated", f"text_similarity {metric}, in Python", why)
    imported, score = SCORES[metric]
    fields = {"input": grader.input, "reference": grader.reference, "threshold": threshold}
    body = SIMILARITY.format(imported=imported, score=score, name=metric, **fields)
    return converter.python(name, TEMPLATES + body)


def python(converter: Converter, grader: PythonGrader, name: str) -> Assertion:
    if grader.pass_threshold is None:
        converter.report.add("approximated", "python without a threshold", "a score above 0 passes")
        test = "score > 0"
    else:
        converter.report.add("mapped", "python, with its own source")
        test = f"score >= {grader.pass_threshold!r}"
    source = PYTHON.format(source=grader.source.rstrip(), test=test, name=name)
    return converter.python(name, source)


def score_model(converter: Converter, grader: ScoreModelGrader) -> Assertion:
    low, high = grader.range if grader.range and len(grader.range) == 2 else (0.0, 1.0)
    converter.report.add("approximated", "score_model", "an llm-rubric uses another prompt: compare the results")
    ask = f"Answer with a JSON object {{reason: string, score: number from {low:g} to {high:g}, pass: boolean}}."
    return rubric(grader, grader.model, grader.input, ask, grader.pass_threshold)


def label_model(converter: Converter, grader: LabelModelGrader) -> Assertion:
    converter.report.add("approximated", "label_model", "an llm-rubric uses another prompt: compare the results")
    labels, passing = ", ".join(grader.labels), ", ".join(grader.passing_labels)
    ask = (
        f"Choose one of these labels: {labels}. Answer with a JSON object {{reason: the label and why, score: 1 or 0, "
        f"pass: boolean}}; pass is true, and score 1, for: {passing}."
    )
    return rubric(grader, grader.model, grader.input, ask, None)


def rubric(
    grader: NamedGrader, model: str, messages: tuple[TemplateMessage, ...], ask: str, threshold: float | None
) -> Assertion:
    prompt = [{"role": m.role, "content": with_output(text_of(m))} for m in messages if isinstance(m, Message)]
    prompt.append({"role": "user", "content": ask})
    made: Assertion = {"type": "llm-rubric", "provider": f"openai:chat:{model}"}
    if threshold is not None:
        made["threshold"] = threshold
    # promptfoo requires `value`, but uses `rubricPrompt` as the prompt.
    return {**made, "value": grader.plain_name, "rubricPrompt": json.dumps(prompt, ensure_ascii=False)}


def text_of(message: Message) -> str:
    """Return the text of a message: the text parts, one per line. Other parts are left out."""
    content = message.content
    parts = content if isinstance(content, tuple) else (content,)
    return "\n".join(part if isinstance(part, str) else str(getattr(part, "text", "")) for part in parts)


def has_only_text(message: Message) -> bool:
    content = message.content
    parts = content if isinstance(content, tuple) else (content,)
    return all(isinstance(part, str) or hasattr(part, "text") for part in parts)

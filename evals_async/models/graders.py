"""Graders: the criteria of an eval, and what the graders API runs.

They are definitions: nothing here grades. A grader of another kind is an `Unknown`.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from evals_async._json import JSONObject
from evals_async.models.base import Model, Unknown
from evals_async.models.messages import TemplateMessage
from evals_async.models.sources import SamplingParams


UUID_SUFFIX = re.compile(r"(?<=.)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.DOTALL)


def without_uuid(name: str) -> str:
    """The name that a user gave, out of the server's `<name>-<uuid4>`. Other names stay as they are."""
    return UUID_SUFFIX.sub("", name)


StringOperation: TypeAlias = Literal["eq", "ne", "like", "ilike"]

SimilarityMetric: TypeAlias = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


@attrs.frozen(kw_only=True, repr=False)
class NamedGrader(Model):
    """What all graders have."""

    name: str
    #: `<name>-<uuid4>`, made by the server when an eval is created (not by Azure's). Results are filed under it.
    id: str | None = None
    #: Made by Azure, and null as far as has been seen; as the next one.
    grdr_id: str | None = None
    #: Seconds since the epoch.
    inactive_at: int | None = None

    @property
    def plain_name(self) -> str:
        """The name as the user gave it."""
        return without_uuid(self.name)


@attrs.frozen(kw_only=True, repr=False)
class StringCheckGrader(NamedGrader):
    """Compares two strings: equal, not equal, contained, contained in any letter case.

    https://platform.openai.com/docs/api-reference/graders/string-check
    """

    type: Literal["string_check"] = "string_check"
    input: str
    reference: str
    operation: StringOperation | str


@attrs.frozen(kw_only=True, repr=False)
class TextSimilarityGrader(NamedGrader):
    """Measures how similar two texts are.

    https://platform.openai.com/docs/api-reference/graders/text-similarity
    """

    type: Literal["text_similarity"] = "text_similarity"
    input: str
    reference: str
    evaluation_metric: SimilarityMetric | str
    #: Required in the criteria of an eval, unknown to the graders API.
    pass_threshold: float | None = None


@attrs.frozen(kw_only=True, repr=False)
class LabelModelGrader(NamedGrader):
    """Lets a model choose a label. Labels in `passing_labels` pass.

    https://platform.openai.com/docs/api-reference/graders/label-model
    """

    type: Literal["label_model"] = "label_model"
    model: str
    input: tuple[TemplateMessage, ...]
    labels: tuple[str, ...]
    passing_labels: tuple[str, ...]
    #: Echoed (as null), though the specification does not have it.
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False)
class ScoreModelGrader(NamedGrader):
    """Lets a model give a score.

    https://platform.openai.com/docs/api-reference/graders/score-model
    """

    type: Literal["score_model"] = "score_model"
    model: str
    input: tuple[TemplateMessage, ...]
    #: The lowest and the highest score; the server's default is 0 and 1.
    range: tuple[float, ...] | None = None
    pass_threshold: float | None = None
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False)
class PythonGrader(NamedGrader):
    """Runs Python source on the server: a function `grade(sample, item)` that returns a number.

    https://platform.openai.com/docs/api-reference/graders/python
    """

    type: Literal["python"] = "python"
    source: str
    #: Which image it runs in, such as `2025-05-08`.
    image_tag: str | None = None
    pass_threshold: float | None = None


@attrs.frozen(kw_only=True, repr=False)
class AzureEvaluatorGrader(NamedGrader):
    """Microsoft Foundry: one of its evaluators. It may give several results per item, one for each of its metrics.

    https://learn.microsoft.com/azure/foundry/how-to/develop/cloud-evaluation
    """

    type: Literal["azure_ai_evaluator"] = "azure_ai_evaluator"
    #: Such as `builtin.coherence`.
    evaluator_name: str
    evaluator_version: str | None = None
    initialization_parameters: JSONObject | None = attrs.field(default=None, hash=False)
    #: From the evaluator's inputs to templates: `{"query": "{{item.query}}"}`.
    data_mapping: JSONObject | None = attrs.field(default=None, hash=False)


SingleGrader: TypeAlias = (
    StringCheckGrader
    | TextSimilarityGrader
    | LabelModelGrader
    | ScoreModelGrader
    | PythonGrader
    | AzureEvaluatorGrader
    | Unknown
)
"""A grader that is not made of others."""


@attrs.frozen(kw_only=True, repr=False)
class MultiGrader(NamedGrader):
    """Combines the scores of other graders by a formula. For the graders API; evals do not take it.

    https://platform.openai.com/docs/api-reference/graders/multi
    """

    type: Literal["multi"] = "multi"
    #: One grader (by the specification), an array (by its example), or a map of names to graders (by the guide).
    graders: SingleGrader | tuple[SingleGrader, ...] | Mapping[str, SingleGrader] = attrs.field(hash=False)
    calculate_output: str


Grader: TypeAlias = SingleGrader | MultiGrader
"""A criterion of an eval, or a grader of the graders API."""

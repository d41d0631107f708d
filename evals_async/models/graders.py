"""Graders: the criteria of an eval, and the graders of the graders API.

These classes are definitions; `evals_async.grading` runs them. A grader of an unknown type is an `Unknown`.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from evals_async._json import JSONObject
from evals_async.models.base import Model, Unknown, without_uuid
from evals_async.models.messages import TemplateMessage
from evals_async.models.sources import SamplingParams


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


@attrs.frozen(kw_only=True, repr=False, eq=False)
class NamedGrader(Model):
    """The fields of all graders."""

    name: str
    # : `<name>-<uuid4>`. The server makes it when an eval is created (Azure does not). Results have it as their name.
    id: str | None = None
    # : Azure only, like the next field. Null in all known responses.
    grdr_id: str | None = None
    #: Seconds since the epoch.
    inactive_at: int | None = None

    @property
    def plain_name(self) -> str:
        """The name that the user gave."""
        return without_uuid(self.name)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class StringCheckGrader(NamedGrader):
    """Compares two strings: equal, not equal, contained, or contained without regard to case.

    https://platform.openai.com/docs/api-reference/graders/string-check
    """

    type: Literal["string_check"] = "string_check"
    input: str
    reference: str
    operation: StringOperation | str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class TextSimilarityGrader(NamedGrader):
    """Measures how similar two texts are.

    https://platform.openai.com/docs/api-reference/graders/text-similarity
    """

    type: Literal["text_similarity"] = "text_similarity"
    input: str
    reference: str
    evaluation_metric: SimilarityMetric | str
    # : Required in the criteria of an eval. The graders API does not have it.
    pass_threshold: float | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class LabelModelGrader(NamedGrader):
    """A model chooses a label. Labels in `passing_labels` pass.

    https://platform.openai.com/docs/api-reference/graders/label-model
    """

    type: Literal["label_model"] = "label_model"
    model: str
    input: tuple[TemplateMessage, ...]
    labels: tuple[str, ...]
    passing_labels: tuple[str, ...]
    # : Returned by the server (as null), although the specification does not have it.
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class ScoreModelGrader(NamedGrader):
    """A model gives a score.

    https://platform.openai.com/docs/api-reference/graders/score-model
    """

    type: Literal["score_model"] = "score_model"
    model: str
    input: tuple[TemplateMessage, ...]
    # : The lowest and the highest score. The server's default is 0 and 1.
    range: tuple[float, ...] | None = None
    pass_threshold: float | None = None
    sampling_params: SamplingParams | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class PythonGrader(NamedGrader):
    """Runs Python source on the server: a function `grade(sample, item)` that returns a number.

    https://platform.openai.com/docs/api-reference/graders/python
    """

    type: Literal["python"] = "python"
    source: str
    # : The container image, such as `2025-05-08`.
    image_tag: str | None = None
    pass_threshold: float | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class AzureEvaluatorGrader(NamedGrader):
    """Microsoft Foundry: one of its evaluators. It may give several results per item, one for each of its metrics.

    https://learn.microsoft.com/azure/foundry/how-to/develop/cloud-evaluation
    """

    type: Literal["azure_ai_evaluator"] = "azure_ai_evaluator"
    # : For example `builtin.coherence`.
    evaluator_name: str
    evaluator_version: str | None = None
    initialization_parameters: JSONObject | None = attrs.field(default=None, hash=False)
    # : The templates of the evaluator's inputs: `{"query": "{{item.query}}"}`.
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
"""Any grader except a multi grader."""


@attrs.frozen(kw_only=True, repr=False, eq=False)
class MultiGrader(NamedGrader):
    """Combines the scores of other graders by a formula. Only the graders API accepts it, evals do not.

    https://platform.openai.com/docs/api-reference/graders/multi
    """

    type: Literal["multi"] = "multi"
    # : One grader (in the specification), an array (in its example), or an object of graders by name (in the guide).
    graders: SingleGrader | tuple[SingleGrader, ...] | Mapping[str, SingleGrader] = attrs.field(hash=False)
    calculate_output: str


Grader: TypeAlias = SingleGrader | MultiGrader
"""A criterion of an eval, or a grader of the graders API."""

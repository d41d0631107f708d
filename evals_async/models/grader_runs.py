"""The responses of the graders API: the result of one grader for one sample, and the validation of a grader.

https://platform.openai.com/docs/api-reference/graders
"""

import attrs

from evals_async._json import JSONObject
from evals_async.models.base import Model
from evals_async.models.graders import Grader
from evals_async.models.output_items import TokenUsage


@attrs.frozen(kw_only=True, repr=False, eq=False)
class GraderRunErrors(Model):
    """The errors of a grader: a field is true, or has a text, if this error happened."""

    formula_parse_error: bool | None = None
    sample_parse_error: bool | None = None
    truncated_observation_error: bool | None = None
    unresponsive_reward_error: bool | None = None
    invalid_variable_error: bool | None = None
    other_error: bool | None = None
    python_grader_server_error: bool | None = None
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool | None = None
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool | None = None
    model_grader_server_error_details: str | None = None
    model_grader_refusal_error: bool | None = None
    model_grader_parse_error: bool | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class GraderRunMetadata(Model):
    """Details of the run of a grader."""

    name: str | None = None
    type: str | None = None
    errors: GraderRunErrors | None = None
    #: Seconds.
    execution_time: float | None = None
    scores: JSONObject | None = attrs.field(default=None, hash=False)
    # : A number in the specification, an object in its example.
    token_usage: int | TokenUsage | None = None
    sampled_model_name: str | None = None


@attrs.frozen(kw_only=True, repr=False, eq=False)
class GraderRun(Model):
    """The result of a grader. The score is `reward`."""

    reward: float | None = None
    metadata: GraderRunMetadata | None = None
    # : The scores of the parts of a multi grader, by name.
    sub_rewards: JSONObject | None = attrs.field(default=None, hash=False)
    model_grader_token_usage_per_model: JSONObject | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class GraderValidation(Model):
    """The response to the validation of a grader: the grader as the server decoded it."""

    grader: Grader | None = None

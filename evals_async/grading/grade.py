"""`Grade`: the result of a grader for a row."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from evals_async._json import JSONObject


NO_USAGE: Mapping[str, JSONObject] = MappingProxyType({})
NO_PARTS: "Mapping[str, Grade]" = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Grade:
    """The result of a grader for one row.

    If the grader was run, `score` and `passed` are set. If the score is 0 because the judge's response was invalid, or
    the code of a python grader failed, `cause` has the reason. If the grader could not be run, `score` and `passed` are
    `None`, and `error` has the reason. `error` and `cause` have a `code` and a `message`.
    """

    score: float | None = None
    passed: bool | None = None
    label: str | None = None
    """The label from the judge of a label_model grader."""
    error: JSONObject | None = None
    cause: JSONObject | None = None
    sample: JSONObject | None = attrs.field(default=None, repr=False)
    """The whole chat with a judge, in the form of a result of the service: `input`, `output`, `finish_reason`,
    `model` (dated), `usage`, `error`, `temperature`, `top_p`.
    """
    steps: tuple[JSONObject, ...] = attrs.field(default=(), repr=False)
    """A judge's reasoning: objects with `description` and `conclusion`."""
    usage: Mapping[str, JSONObject] = attrs.field(default=NO_USAGE, repr=False)
    """For each called model, by its dated name: `invocation_count`, and the token counts of the API."""
    cost: float | None = None
    """The cost by the prices of the model map, or `None` without prices."""
    billed_retries: int = 0
    """The number of attempts whose response was lost, and which may have been billed."""
    parts: Mapping[str, "Grade"] = attrs.field(default=NO_PARTS, repr=False)
    """The grades of the parts of a multi grader, by name."""
    notes: tuple[str, ...] = ()
    """Remarks about the grade, for example that the judge returned no structured output."""

    @classmethod
    def failed(cls, code: str, message: str) -> "Grade":
        """Return a grade without a score, with the reason."""
        return cls(error={"code": code, "message": message})

    def result(self, name: str, kind: str | None = None) -> dict[str, object]:
        """Return this grade as an entry of the `results` of an output item."""
        why = self.error or self.cause
        sample: JSONObject | None = self.sample
        if why is not None:
            sample = {**(sample or {}), "error": why}
        found: dict[str, object] = {"name": name, "score": self.score, "passed": self.passed, "sample": sample}
        return found if kind is None else {**found, "type": kind}

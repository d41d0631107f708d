"""`Grade`: what a grader says about a row, and why."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from evals_async._json import JSONObject


NO_USAGE: Mapping[str, JSONObject] = MappingProxyType({})
NO_PARTS: "Mapping[str, Grade]" = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Grade:
    """What a grader says about one row.

    Either the grader was carried out: then `score` and `passed` are there, and where the score is 0 because the judge's
    answer could not be read, or because the code of a python grader failed, `cause` says so. Or it could not be carried
    out: then `score` and `passed` are `None`, and `error` says why. `error` and `cause` have a `code` and a `message`.
    """

    score: float | None = None
    passed: bool | None = None
    label: str | None = None
    """The label that a label_model grader's judge chose."""
    error: JSONObject | None = None
    cause: JSONObject | None = None
    sample: JSONObject | None = attrs.field(default=None, repr=False)
    """All that a judge was asked and said, as the service shows it in a result: `input`, `output`, `finish_reason`,
    `model` (dated), `usage`, `error`, `temperature`, `top_p`."""
    steps: tuple[JSONObject, ...] = attrs.field(default=(), repr=False)
    """A judge's reasoning: objects with `description` and `conclusion`."""
    usage: Mapping[str, JSONObject] = attrs.field(default=NO_USAGE, repr=False)
    """By the dated name of each model that was asked: `invocation_count`, and tokens as the API counts them."""
    cost: float | None = None
    """By the prices of the model map; `None` without them."""
    billed_retries: int = 0
    """Attempts whose answer was lost, and which may have been billed."""
    parts: Mapping[str, "Grade"] = attrs.field(default=NO_PARTS, repr=False)
    """The grades of a multi grader's parts, by name."""
    notes: tuple[str, ...] = ()
    """What a reader of the grade should know, such as that the judge gave no structured output."""

    @classmethod
    def failed(cls, code: str, message: str) -> "Grade":
        """A grade that could not be given, and why."""
        return cls(error={"code": code, "message": message})

    def result(self, name: str, kind: str | None = None) -> dict[str, object]:
        """This grade as an entry of `results` of an output item."""
        why = self.error or self.cause
        sample: JSONObject | None = self.sample
        if why is not None:
            sample = {**(sample or {}), "error": why}
        found: dict[str, object] = {"name": name, "score": self.score, "passed": self.passed, "sample": sample}
        return found if kind is None else {**found, "type": kind}

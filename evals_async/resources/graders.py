"""`client.graders`: run a grader on one sample, or validate it, without an eval.

Both endpoints are marked alpha and belong to fine-tuning. Source:
https://platform.openai.com/docs/api-reference/graders
"""

from typing import Unpack

from evals_async._omit import OMIT
from evals_async.models.grader_runs import GraderRun, GraderValidation
from evals_async.models.params import GraderInput, Json
from evals_async.resources._caller import Resource
from evals_async.resources._raw import raw
from evals_async.resources._requests import CallOptions, json_body, request


GRADERS = "/fine_tuning/alpha/graders"


class Graders(Resource):
    """Graders without an eval."""

    @property
    def with_raw_response(self) -> "GradersWithRawResponse":
        """The same methods; they return status, headers and exact bytes."""
        return GradersWithRawResponse(self)

    async def run(
        self,
        *,
        grader: GraderInput,
        model_sample: str,
        item: Json | None = None,
        **options: Unpack[CallOptions],
    ) -> GraderRun:
        """Grade one sample: POST /fine_tuning/alpha/graders/run.

        In the templates of the grader, `{{ sample.output_text }}` is `model_sample`, and `{{ item }}` is `item`.
        """
        body = json_body(grader=grader, model_sample=model_sample, item=OMIT if item is None else item)
        return (
            await self._caller.fetch(
                request("POST", f"{GRADERS}/run", "create", options, body=body), GraderRun, options
            )
        ).value

    async def validate(self, *, grader: GraderInput, **options: Unpack[CallOptions]) -> GraderValidation:
        """Validate the definition of a grader: POST /fine_tuning/alpha/graders/validate. Raises `BadRequest` if it
        is invalid.
        """
        body = json_body(grader=grader)
        # It does not change anything on the server, so it may be sent again like an update.
        wanted = request("POST", f"{GRADERS}/validate", "update", options, body=body)
        return (await self._caller.fetch(wanted, GraderValidation, options)).value


class GradersWithRawResponse:
    """`Graders` with methods that return a `RawResponse`."""

    def __init__(self, graders: Graders) -> None:
        self.run = raw(graders, Graders.run)
        self.validate = raw(graders, Graders.validate)

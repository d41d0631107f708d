"""The work on one row: sampling, grading, and the output item."""

import logging

from evals_async._json import JSONObject, as_object, parse
from evals_async._store.executions import AddedSums, SumKey
from evals_async.errors import ApiError, EvalsError, InvalidArgument
from evals_async.grading import PythonGraders, TemplateError, render_messages
from evals_async.inference import Models
from evals_async.server.execution.committing import ItemText
from evals_async.server.execution.grading import GradingTools, grade_row, unsampled_item
from evals_async.server.execution.items import error_result, output_item, problem
from evals_async.server.execution.sampling import SampledRow, SamplingPlan, sampled, sampling_plan
from evals_async.server.execution.source import SourceRow, source_row
from evals_async.server.execution.state import RunRecord
from evals_async.server.execution.sums import (
    BILLED_RETRIES,
    CALLS,
    add,
    add_calls,
    add_cost,
    add_item,
    add_model,
)


logger = logging.getLogger("evals_async.server")


class SamplingFailed(Exception):
    """A row could not be sampled. `code` and the text are the item's error; `called` says whether a call was made."""

    def __init__(self, code: str, message: str, *, called: bool) -> None:
        super().__init__(message)
        self.code = code
        self.called = called


class RowWork:
    """The work on the rows of one run. `plan` is `None` if rows are graded without sampling."""

    def __init__(self, record: RunRecord, models: Models | None, python: PythonGraders | None) -> None:
        self.record = record
        self.models = models
        self.grading = GradingTools(models, python)
        source = as_object(record.body["data_source"]) or {}
        self.plan = sampling_plan(source) if models is not None else None

    async def carry_out(self, number: int, text: str) -> tuple[ItemText, AddedSums]:
        """Return the output item of the row with this JSON text, and its sums."""
        row = source_row(parse(text.encode()), f"row {number}")
        try:
            item, sums = await self.graded_item(number, row)
            written = ItemText.of(item)
        except Exception:
            logger.exception("unexpected error of this server in row %d of the run %s", number, self.record.key[1])
            cause = problem("internal_error", "the server had an unexpected error in this row; see its log")
            item, sums = self.errored_item(number, row, cause), dict[SumKey, int]()
            written = ItemText.of(item)
        add_item(sums, item)
        return written, sums

    async def graded_item(self, number: int, row: SourceRow) -> tuple[JSONObject, AddedSums]:
        run, criteria = self.record.body, self.record.criteria
        if self.plan is None or self.models is None:
            return await unsampled_item(run, number, row, criteria, self.grading)
        try:
            answered = await sample_row(self.models, self.plan, row.item)
        except SamplingFailed as error:
            return self.errored_item(number, row, problem(error.code, str(error))), {CALLS: int(error.called)}
        given = await grade_row(criteria, row.item, answered.seen, self.grading)
        add_sampling(given.sums, answered)
        return output_item(run, number, row, given.results, answered.shown), given.sums

    def errored_item(self, number: int, row: SourceRow, cause: JSONObject) -> JSONObject:
        """Return the output item of a row that could not be sampled or graded."""
        results = [error_result(criterion, cause) for criterion in self.record.criteria]
        return output_item(self.record.body, number, row, results, None, cause)


async def sample_row(models: Models, plan: SamplingPlan, item: JSONObject) -> SampledRow:
    """Call the model for a row. Raises `SamplingFailed`."""
    try:
        messages = render_messages(plan.messages, {"item": item})
    except TemplateError as error:
        raise SamplingFailed("invalid_variable_error", str(error), called=False) from None
    ask = models.respond if plan.api == "responses" else models.chat
    try:
        return sampled(plan, messages, await ask(plan.model, messages, params=plan.params))
    except InvalidArgument as error:
        raise SamplingFailed("invalid_request_error", str(error), called=False) from None
    except ApiError as error:
        raise SamplingFailed(error.code or error.type or f"http_{error.status}", str(error), called=True) from None
    except EvalsError as error:
        raise SamplingFailed("model_unavailable", str(error), called=True) from None


def add_sampling(sums: AddedSums, answered: SampledRow) -> None:
    """Add the sampling of a row to the sums."""
    answer = answered.answer
    add_model(sums, answer.model, answer.usage)
    add_calls(sums, 1, answer.usage)
    if answer.billed_retries:
        add(sums, BILLED_RETRIES, answer.billed_retries)
    add_cost(sums, answer.cost)
    for note in answer.notes:
        add(sums, ("note", note, "rows"), 1)

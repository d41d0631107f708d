"""What a run tells about itself."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bodies import payload

from evals_async._codec import decode, encode
from evals_async.models import (
    TERMINAL_STATUSES,
    CompletionsDataSource,
    CriterionResult,
    ErrorInfo,
    EvalRun,
    InputText,
    Message,
    ModelUsage,
    ResultCounts,
    RunCanceledEvent,
    RunFailedEvent,
    RunSucceededEvent,
    TemplateMessages,
    Unknown,
    WebhookEvent,
)


def run(name: str) -> EvalRun:
    return decode(json.dumps(payload(name)).encode(), EvalRun)


@pytest.mark.parametrize(
    ("status", "terminal", "known"),
    [
        ("queued", False, True),
        ("in_progress", False, True),
        ("completed", True, True),
        ("failed", True, True),
        ("canceled", True, True),
        ("cancelled", True, True),
        ("running", False, False),
        (None, False, False),
    ],
)
def test_status(status: str | None, terminal: bool, known: bool) -> None:
    """Both spellings of canceled end a run; a status that nobody knows does not."""
    value = EvalRun(id="r", status=status)
    assert (terminal, known) == (value.is_terminal, value.is_known_status)
    assert terminal == (status in TERMINAL_STATUSES)


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("run_completed_completions", None),
        ("run_foundry_empty_error_and_skipped", None),
        ("run_failed_with_error", ErrorInfo(code="UserError", message="The deployment does not exist.")),
        ("run_error_is_a_string", ErrorInfo(message="The judge could not be reached.")),
    ],
)
def test_failure(name: str, failure: ErrorInfo | None) -> None:
    """Null, empty strings and a mere string are read as what they mean."""
    assert failure == run(name).failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [("", None), (ErrorInfo(), None), (ErrorInfo(code="x"), ErrorInfo(code="x"))],
)
def test_failure_of_half_an_error(error: ErrorInfo | str, failure: ErrorInfo | None) -> None:
    """An error needs a code or a message."""
    assert failure == EvalRun(id="r", error=error).failure


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        (ResultCounts(total=4, passed=3), 0.75),
        (ResultCounts(total=4, passed=0), 0.0),
        (ResultCounts(total=0, passed=0), None),
        (ResultCounts(total=4), None),
        (ResultCounts(passed=4), None),
        (None, None),
    ],
)
def test_pass_rate(counts: ResultCounts | None, rate: float | None) -> None:
    """The share of rows that passed, or nothing where there is nothing to divide."""
    assert rate == EvalRun(id="r", result_counts=counts).pass_rate


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        ((), 0),
        ((ModelUsage(total_tokens=3), ModelUsage(total_tokens=4)), 7),
        ((ModelUsage(total_tokens=3), ModelUsage()), None),
    ],
)
def test_total_tokens(usage: tuple[ModelUsage, ...] | None, tokens: int | None) -> None:
    """The sum over all models; a sum of which a part is missing is not known."""
    assert tokens == EvalRun(id="r", per_model_usage=usage).total_tokens


def test_completed_run() -> None:
    """The usual run tells all of it."""
    value = run("run_completed_completions")
    assert (0.75, 1452, True) == (value.pass_rate, value.total_tokens, value.is_terminal)
    assert datetime(2025, 6, 27, 5, 1, 40, tzinfo=UTC) == value.created
    assert ["Right capital"] == [result.plain_name for result in value.per_testing_criteria_results or ()]


def test_queued_run() -> None:
    """A queued run knows nothing yet, and does not pretend: no zeros, no empty lists."""
    value = run("run_queued_nulls")
    assert (None, None, None, False) == (
        value.pass_rate,
        value.total_tokens,
        value.per_testing_criteria_results,
        value.is_terminal,
    )


def test_foundry_counts() -> None:
    """Foundry's skipped rows are counted, and its own fields are kept."""
    value = run("run_foundry_empty_error_and_skipped")
    results = value.per_testing_criteria_results
    assert results is not None
    assert ResultCounts(total=3, errored=0, failed=1, passed=1, skipped=1) == value.result_counts
    assert ("Violence", 1, None) == (results[0].plain_name, results[0].skipped, results[1].plain_name)
    assert {"name": "Coherence", "pass_rate": 0.5} == results[1].extra
    assert {"output_dataset_id": "azureai://datasets/out/1"} == value.extra
    assert CriterionResult().plain_name is None


def test_azure_messages_without_tags() -> None:
    """Azure's echo of messages, which lacks their tags, is understood, and is written again without them."""
    value = run("run_canceled_azure_untagged_messages")
    assert isinstance(value.data_source, CompletionsDataSource)
    message = Message(type="message", role="user", content=InputText(type=None, text="{{item.question}}"))
    assert TemplateMessages(type=None, template=(message,)) == value.data_source.input_messages
    assert payload("run_canceled_azure_untagged_messages")["data_source"] == encode(value.data_source)


def decode_event(body: object) -> WebhookEvent:
    shape: Any = WebhookEvent  # a union, and so no `type[T]`
    event: WebhookEvent = decode(json.dumps(body).encode(), shape)
    return event


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("event_run_succeeded", RunSucceededEvent),
        ("event_run_failed", RunFailedEvent),
        ("event_run_canceled", RunCanceledEvent),
    ],
)
def test_events(name: str, kind: type) -> None:
    """An event has the class of its type, and names the run."""
    event = decode_event(payload(name))
    assert type(event) is kind
    assert not isinstance(event, Unknown)
    assert payload(name)["data"]["id"] == event.run_id
    assert datetime(2025, 6, 27, 5, 10, tzinfo=UTC) == event.created


def test_unknown_event() -> None:
    """An event of another kind is kept whole."""
    body = payload("event_unknown")
    assert Unknown(type="batch.completed", raw=body) == decode_event(body)

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
    FileContent,
    FileContentRow,
    InputText,
    Latency,
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
    ],
)
def test_status(status: str, terminal: bool, known: bool) -> None:
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
    assert failure == EvalRun(id="r", status="failed", error=error).failure


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
    assert rate == EvalRun(id="r", status="completed", result_counts=counts).pass_rate


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
    assert tokens == EvalRun(id="r", status="completed", per_model_usage=usage).total_tokens


TARGET = ModelUsage(model_name="azure_ai_model_target", total_tokens=7)


@pytest.mark.parametrize(
    ("others", "tokens"),
    [
        ((), 7),
        ((ModelUsage(model_name="gpt-5-nano", total_tokens=7),), 7),
        ((ModelUsage(model_name="gpt-5-nano", total_tokens=9), ModelUsage(model_name="judge", total_tokens=1)), 10),
        ((ModelUsage(model_name="judge", total_tokens=5),), 12),
        ((ModelUsage(model_name="judge"),), None),
    ],
)
def test_tokens_of_a_target(others: tuple[ModelUsage, ...], tokens: int | None) -> None:
    """What Foundry's target used is counted once: the entry for the target repeats that of its model, if there is one
    which may hold it.
    """
    for usage in ((*others, TARGET), (TARGET, *others)):
        assert tokens == EvalRun(id="r", status="completed", per_model_usage=usage).total_tokens


def test_foundry_run() -> None:
    """What Foundry adds is typed, and its target is not counted twice."""
    value = run("run_foundry_target_completions")
    assert (431, "PT50.25S", "a.tester", 1790000150) == (
        value.total_tokens,
        value.duration,
        value.created_by,
        value.modified_at,
    )
    assert {"target": Latency(p50_ms=1605.5, p95_ms=3102.75, sample_count=2)} == value.latency
    assert value.estimated_cost is not None
    assert ("USD", 0.00011) == (value.estimated_cost["target"].currency, value.estimated_cost["target"].estimated_cost)
    azure = run("run_azure_label_model").per_model_usage
    assert azure is not None
    assert "gpt-5-mini" == azure[0].deployment_name


def test_repr_of_a_run() -> None:
    """It begins with what one wants to know, and shows of long arrays how long they are."""
    text = repr(run("run_completed_completions"))
    assert text.startswith("EvalRun(id='")
    assert "status='completed', pass_rate=0.75, " in text
    rows = tuple(FileContentRow(item={"n": number}) for number in range(300))
    assert "FileContent(type='file_content', content=<300 items>)" == repr(FileContent(content=rows))


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
    assert ("Coherence", 0.5) == (results[1].name, results[1].pass_rate)
    assert "azureai://datasets/out/1" == value.output_dataset_id
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

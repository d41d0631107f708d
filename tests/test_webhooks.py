"""Webhooks: held to the reference implementation of Standard Webhooks, and to what strangers may send."""

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
from doubles import FakeClock
from hypothesis import given, strategies as st

from evals_async import EvalsClient
from evals_async._settings import Secret
from evals_async.errors import BadSignature, ConfigurationError, InvalidArgument, TimestampOutOfRange, WebhookError
from evals_async.models import RunCanceledEvent, RunFailedEvent, RunSucceededEvent, Unknown
from evals_async.webhooks import Webhooks, event_of, sign, verify


NOW = 1_700_000_000
KEY = base64.b64encode(b"a key of twenty-four bytes").decode()
SECRET = f"whsec_{KEY}"
BODY = json.dumps(
    {"id": "evt_1", "object": "event", "type": "eval.run.succeeded", "created_at": NOW, "data": {"id": "evalrun_1"}}
)


def signed(body: str | bytes = BODY, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    return sign(body, secret=secret, webhook_id="evt_1", timestamp=at)


def client(now: float = NOW, secret: str | None = SECRET) -> Webhooks:
    return Webhooks(None if secret is None else Secret(secret), FakeClock(epoch=now))


# --- the reference implementation -------------------------------------------------------------------------------------


@given(body=st.text(st.characters(codec="utf-8")), webhook_id=st.from_regex(r"[!-~]{1,40}", fullmatch=True))
def test_reference_verifies_what_we_sign(body: str, webhook_id: str) -> None:
    """A receiver that uses the reference implementation takes what we sign, to the letter."""
    reference = standardwebhooks.Webhook(SECRET)
    headers = sign(body, secret=SECRET, webhook_id=webhook_id, timestamp=NOW)
    theirs = reference.sign(webhook_id, datetime.fromtimestamp(NOW, UTC), body)
    assert theirs == headers["webhook-signature"]


def test_reference_takes_our_headers() -> None:
    """The reference implementation's own check passes with our headers."""
    at = int(datetime.now(UTC).timestamp())  # it knows no clock but the machine's
    assert json.loads(BODY) == standardwebhooks.Webhook(SECRET).verify(BODY, signed(at=at))


@given(body=st.text(st.characters(codec="utf-8")), webhook_id=st.from_regex(r"[!-~]{1,40}", fullmatch=True))
def test_we_verify_what_reference_signs(body: str, webhook_id: str) -> None:
    """We take what the reference implementation signs, as text and as bytes."""
    signature = standardwebhooks.Webhook(SECRET).sign(webhook_id, datetime.fromtimestamp(NOW, UTC), body)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(NOW), "webhook-signature": signature}
    verify(body, headers, secret=SECRET, now=NOW)
    verify(body.encode(), headers, secret=SECRET, now=NOW)


def test_plain_secrets() -> None:
    """A secret without its prefix is the key itself, as UTF-8."""
    key = "plain secret, é"
    prefixed = "whsec_" + base64.b64encode(key.encode()).decode()
    assert signed(secret=prefixed) == signed(secret=key)


# --- what is refused --------------------------------------------------------------------------------------------------


@given(at=st.integers(0, len(BODY) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_is_noticed(at: int, byte: int) -> None:
    """No byte of the body can be changed."""
    changed = bytearray(BODY.encode())
    same = changed[at] == byte
    changed[at] = byte
    if same:
        verify(bytes(changed), signed(), secret=SECRET, now=NOW)
    else:
        with pytest.raises(BadSignature):
            verify(bytes(changed), signed(), secret=SECRET, now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "another", "1", "\ud800", "é", "\x00"])
def test_changed_headers_are_noticed(name: str, value: str | None) -> None:
    """A header that is missing, or that a stranger made up, is a bad signature (or time), and never a crash."""
    headers = signed()
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(WebhookError):
        verify(BODY, headers, secret=SECRET, now=NOW)


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1e9", "1_700_000_000", " 1700000000", "\u0661" * 10, "9" * 400])
def test_timestamps_that_are_none(timestamp: str) -> None:
    """Only plain digits are a time; a number of hundreds of digits is not computed with."""
    with pytest.raises(BadSignature, match="not a whole number of seconds"):
        verify(BODY, signed() | {"webhook-timestamp": timestamp}, secret=SECRET, now=NOW)


@pytest.mark.parametrize(("age", "fine"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
def test_tolerance_both_ways(age: int, fine: bool) -> None:
    """A time stamp may be five minutes old, or five minutes ahead, and no more."""
    if fine:
        verify(BODY, signed(at=NOW - age), secret=SECRET, now=NOW)
        return
    with pytest.raises(TimestampOutOfRange, match="ago" if age > 0 else "in the future"):
        verify(BODY, signed(at=NOW - age), secret=SECRET, now=NOW)


def test_tolerance_can_be_changed() -> None:
    """The tolerance is the caller's to choose, in both methods of the client."""
    webhooks = client(now=NOW + 1000)
    with pytest.raises(TimestampOutOfRange):
        webhooks.unwrap(BODY, signed(), tolerance=999)
    webhooks.verify_signature(BODY, signed(), tolerance=1000)
    assert isinstance(webhooks.unwrap(BODY, signed(), tolerance=1000), RunSucceededEvent)


@pytest.mark.parametrize(
    ("signatures", "fine"),
    [
        ("{good}", True),
        ("v1,AAAA {good}", True),
        ("{good} v1,AAAA v2,BBBB", True),
        ("v1a,AAAA {good}", True),
        ("{bare}", True),
        ("v1,AAAA v1,BBBB", False),
        ("v2,{bare}", False),
        ("v1, {bare}x", False),
        ("v1,", False),
        ("not base64 at all \udce9", False),
    ],
)
def test_several_signatures(signatures: str, fine: bool) -> None:
    """While secrets are rotated there are several signatures; one that fits is enough, whatever is beside it."""
    good = signed()["webhook-signature"]
    headers = signed() | {"webhook-signature": signatures.format(good=good, bare=good.removeprefix("v1,"))}
    if fine:
        verify(BODY, headers, secret=SECRET, now=NOW)
    else:
        with pytest.raises(BadSignature):
            verify(BODY, headers, secret=SECRET, now=NOW)


def test_header_names_in_any_case() -> None:
    """Frameworks write header names as they like."""
    for style in (str.upper, str.title):
        verify(BODY, {style(name): value for name, value in signed().items()}, secret=SECRET, now=NOW)


def test_another_secret() -> None:
    """What was signed with another secret is refused, in words that help and show neither."""
    other = "whsec_" + base64.b64encode(b"another").decode()
    with pytest.raises(BadSignature, match="the secret is another one") as caught:
        verify(BODY, signed(), secret=other, now=NOW)
    assert other not in str(caught.value)


@pytest.mark.parametrize("secret", ["whsec_not base64!", "whsec_é", "whsec_abc", "whsec_", ""])
def test_secrets_that_are_none(secret: str) -> None:
    """A secret that is not base64 is a wrong setting, and so is an empty one, with which anyone could sign."""
    for act in (lambda: client(secret=secret), lambda: client().unwrap(BODY, signed(), secret=secret)):
        with pytest.raises(ConfigurationError, match="the webhook secret") as caught:
            act()
        assert "not base64!" not in str(caught.value)


@pytest.mark.parametrize("secret", [f"{SECRET}\n", f" {SECRET}", "plain\r\n"])
def test_a_secret_with_a_newline_is_refused_when_the_client_is_made(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is given or found in the environment, and not only at the first delivery."""
    with pytest.raises(ConfigurationError, match="newline"):
        EvalsClient(webhook_secret=secret)
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", secret)
    with pytest.raises(ConfigurationError, match="newline"):
        EvalsClient()


@pytest.mark.parametrize("payload", [{"type": "eval.run.succeeded"}, ["x"], None, 7])
def test_a_body_that_was_parsed_is_refused_in_clear_words(payload: Any) -> None:
    """A signature fits the exact bytes only, and the error says so. Every kind of bytes will do."""
    for act in (client().verify_signature, client().unwrap):
        with pytest.raises(InvalidArgument, match=r"the exact bytes .* not (dict|list|NoneType|int)"):
            act(payload, signed())
    assert client().unwrap(bytearray(BODY.encode()), signed()) == client().unwrap(BODY, signed())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- events -----------------------------------------------------------------------------------------------------------

EVENTS = {
    "eval.run.succeeded": RunSucceededEvent,
    "eval.run.failed": RunFailedEvent,
    "eval.run.canceled": RunCanceledEvent,
}


@pytest.mark.parametrize(("kind", "shape"), EVENTS.items())
@pytest.mark.parametrize("form", [str, str.encode])
def test_events(kind: str, shape: type, form: Any) -> None:
    """Each kind of event is of its class, and names the run."""
    body = form(json.dumps(json.loads(BODY) | {"type": kind}))
    event = client().unwrap(body, signed(body))
    assert isinstance(event, shape)
    assert isinstance(event, RunSucceededEvent | RunFailedEvent | RunCanceledEvent)
    assert ("evt_1", "evalrun_1") == (event.id, event.run_id)


@pytest.mark.parametrize(
    "body", [{"type": "response.completed", "data": {"id": "resp_1"}}, {"type": "eval.run.failed"}, {}]
)
def test_unknown_events(body: dict[str, Any]) -> None:
    """An event of another kind, or one that lacks something, is kept as it came."""
    event = client().unwrap(text := json.dumps(body), signed(text))
    assert Unknown(type=body.get("type"), raw=body) == event


@pytest.mark.parametrize("body", ["", "[]", "null", "7", "<html>", '{"type":', b"\xff", "[" * 100_000])
def test_bodies_that_are_no_event(body: str | bytes) -> None:
    """A genuine delivery that says nothing is a webhook error, and not one about a request that nobody made."""
    with pytest.raises(WebhookError, match="not an event") as caught:
        client().unwrap(body, signed(body))
    assert caught.value.__context__ is None


def test_nothing_is_read_before_it_is_verified() -> None:
    """A body that is not genuine is not even parsed."""
    with pytest.raises(BadSignature):
        client().unwrap("no json", signed("other"))
    with pytest.raises(WebhookError, match="not an event"):
        event_of("no json")


def test_secret_of_the_call_before_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret comes from the call, else from the client, else from OPENAI_WEBHOOK_SECRET; none is told of."""
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
    clients = [EvalsClient(clock=FakeClock(epoch=NOW)), EvalsClient(webhook_secret="other", clock=FakeClock(epoch=NOW))]
    clients += [EvalsClient.azure(endpoint="https://a.example", clock=FakeClock(epoch=NOW))]
    clients[0].webhooks.verify_signature(BODY, signed())
    clients[1].webhooks.verify_signature(BODY, signed(secret="other"))
    clients[1].webhooks.verify_signature(BODY, signed(), secret=SECRET)
    clients[2].webhooks.verify_signature(BODY, signed())
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET")
    with pytest.raises(ConfigurationError, match="OPENAI_WEBHOOK_SECRET"):
        EvalsClient().webhooks.unwrap(BODY, signed())


@pytest.mark.parametrize("name", ["now", "tolerance"])
@pytest.mark.parametrize("number", [math.nan, -1, "300", None, True])
def test_ages_are_compared_with_numbers_only(name: str, number: Any) -> None:
    """NaN as a tolerance would accept a delivery of any age. It is refused, like all that is no number of seconds."""
    options = {"now": NOW, "tolerance": 300.0, name: number}
    with pytest.raises(InvalidArgument, match=f"{name} must"):
        verify(BODY, signed(at=1), secret=SECRET, **options)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [5, ["v1,x"], b"v1,x", {}])
def test_headers_that_are_no_texts_are_a_wrong_signature(name: str, value: Any) -> None:
    """A framework that has lists or bytes as values of headers gets our error, not a TypeError."""
    with pytest.raises(BadSignature, match=name):
        verify(BODY, {**signed(), name: value}, secret=SECRET, now=NOW)

"""Verify and decode webhooks, and sign them in tests. The functions do no I/O.

The scheme is Standard Webhooks (https://www.standardwebhooks.com): the headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, and an HMAC-SHA256 of `id.timestamp.body`. An event contains the id of the run, but not of its
eval: a receiver must store the eval of each run. `webhook-id` is the same for every delivery of one event: use it to
drop duplicates.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._codec import parse, structure
from evals_async._numbers import seconds
from evals_async._settings import Secret
from evals_async.errors import (
    BadSignature,
    ConfigurationError,
    DecodeError,
    InvalidArgument,
    TimestampOutOfRange,
    WebhookError,
)
from evals_async.models.events import WebhookEvent


TOLERANCE = 300.0  # seconds between a time stamp and now, before or after; recommended by Standard Webhooks

PREFIX = "whsec_"

SECONDS = re.compile(r"[0-9]{1,12}")  # enough digits for any date, and few enough for exact floats


def key_of(secret: str) -> bytes:
    """Return the signing key of a secret: the decoded base64 after `whsec_`, or the secret itself as UTF-8.

    Raises `ConfigurationError` for an empty secret, for invalid base64, for white space around the secret, and for a
    secret that is not text.
    """
    if not isinstance(cast("object", secret), str):
        raise ConfigurationError(f"the webhook secret must be a str, not {type(secret).__name__}")
    if secret != secret.strip():
        raise ConfigurationError(
            "the webhook secret has white space around it, perhaps the newline of a file: strip it"
        )
    try:
        key = base64.b64decode(secret[len(PREFIX) :], validate=True) if secret.startswith(PREFIX) else secret.encode()
    except ValueError:
        raise ConfigurationError("the webhook secret starts with whsec_, but the rest is not base64") from None
    if not key:
        raise ConfigurationError("the webhook secret is empty, so anyone could sign with it")
    return key


def bytes_of(text: str | bytes) -> bytes:
    """Encode text as UTF-8. Lone surrogates in a received header must not raise an error here: the signature is then
    wrong.
    """
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def checked_payload(payload: object) -> bytes:
    """Return the body of a webhook as bytes. Raises `InvalidArgument` for a parsed body."""
    if isinstance(payload, str):
        return bytes_of(payload)
    if isinstance(payload, bytes | bytearray):
        return bytes(payload)
    raise InvalidArgument(
        f"payload must be the exact bytes (or the text) of the received body, not {type(payload).__name__}: the "
        "signature is valid for these bytes only. Read the raw body of the request before you parse it"
    )


def signature(payload: bytes, webhook_id: str, timestamp: str, secret: str) -> bytes:
    content = b".".join((bytes_of(webhook_id), bytes_of(timestamp), payload))
    return base64.b64encode(hmac.digest(key_of(secret), content, sha256))


def sign(payload: str | bytes, *, secret: str, webhook_id: str, timestamp: int) -> dict[str, str]:
    """Sign a webhook. For tests of receivers, and for servers that send webhooks.

    `timestamp` is in whole seconds since the epoch. `secret` is `whsec_` followed by base64, or any other non-empty
    text. Returns the three headers to send with `payload`: `webhook-id`, `webhook-timestamp` and `webhook-signature`
    (`v1,` and the base64 HMAC-SHA256). `verify` accepts them within its tolerance of `timestamp`. Raises
    `ConfigurationError` for an invalid secret.
    """
    signed = signature(bytes_of(payload), webhook_id, str(timestamp), secret)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + signed.decode(),
    }


def verify(
    payload: str | bytes,
    headers: Mapping[str, str],
    *,
    secret: str,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Check the signature and the age of a webhook. Returns nothing if it is valid.

    `payload` is the received body, before any parsing. The case of header names does not matter. If there are several
    signatures, one must match. `now` is in seconds since the epoch.

    Raises `BadSignature` if a header is missing or no signature matches. Raises `TimestampOutOfRange` if the time stamp
    is more than `tolerance` seconds before or after `now`. Raises `InvalidArgument` if `payload` is not bytes or text,
    or a number is not valid, and `ConfigurationError` for an invalid secret.
    """
    body = checked_payload(payload)
    # NaN would be neither more nor less than any age.
    now, tolerance = seconds(now, "now"), seconds(tolerance, "tolerance")
    lower = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (header(lower, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not SECONDS.fullmatch(timestamp):
        raise BadSignature("the header webhook-timestamp is not a whole number of seconds")
    sent = int(timestamp)
    if abs(now - sent) > tolerance:
        when = "ago" if now > sent else "in the future"
        raise TimestampOutOfRange(
            f"signed {abs(now - sent):.0f} s {when}, but at most {tolerance:g} s are allowed: this is an old "
            "delivery, or a clock is wrong"
        )
    expected = signature(body, webhook_id, timestamp, secret)
    offered = [part.removeprefix("v1,") for part in signatures.split()]
    # A list, so that all signatures are compared. The time then reveals nothing about them.
    if not any([hmac.compare_digest(expected, bytes_of(candidate)) for candidate in offered]):  # noqa: C419
        raise BadSignature(
            "no signature matches: the secret is another one, or the body is not the exact bytes received"
        )


def header(headers: Mapping[str, str], name: str) -> str:
    if not (value := headers.get(name)):
        raise BadSignature(f"the header {name} is missing; is this a webhook?")
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # some frameworks have lists
        raise BadSignature(f"the header {name} must be a text, not {type(value).__name__}")
    return value


def event_of(payload: str | bytes) -> WebhookEvent:
    """Decode the event in a verified body. An event of an unknown type is an `Unknown`.

    Raises `WebhookError` if the body is not an event, and `InvalidArgument` if `payload` is not bytes or text.
    """
    body = checked_payload(payload)
    try:
        # The type of `structure` accepts classes only, and a union is not a class.
        return cast("WebhookEvent", structure(parse(body), cast("type[Any]", WebhookEvent), body))
    except DecodeError as error:
        reason = str(error)
    raise WebhookError(f"the body is not an event: {reason}")


class Webhooks:
    """`client.webhooks`: `verify` and `event_of` with the client's secret (OPENAI_WEBHOOK_SECRET) and clock."""

    def __init__(self, secret: Secret | None, clock: Clock = SYSTEM_CLOCK) -> None:
        if secret is not None:
            key_of(secret.reveal())  # an invalid secret raises here, not at each delivery
        self._secret = secret
        self._clock = clock

    def verify_signature(
        self,
        payload: str | bytes,
        headers: Mapping[str, str],
        *,
        secret: str | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Check the signature and the age of a webhook; see `verify`, also for the errors."""
        if secret is None:
            if self._secret is None:
                raise ConfigurationError(
                    "no webhook secret: pass secret= or webhook_secret=, or set OPENAI_WEBHOOK_SECRET"
                )
            secret = self._secret.reveal()
        verify(payload, headers, secret=secret, now=self._clock.time(), tolerance=tolerance)

    def unwrap(
        self,
        payload: str | bytes,
        headers: Mapping[str, str],
        *,
        secret: str | None = None,
        tolerance: float = TOLERANCE,
    ) -> WebhookEvent:
        """Verify a webhook and return its event. Raises the errors of `verify` and `event_of`."""
        self.verify_signature(payload, headers, secret=secret, tolerance=tolerance)
        return event_of(payload)

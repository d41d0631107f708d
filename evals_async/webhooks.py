"""Verify and read webhooks, and sign them in tests. Pure functions of bytes and headers.

The scheme is Standard Webhooks (https://www.standardwebhooks.com): the headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, and an HMAC-SHA256 of `id.timestamp.body`. An event has the id of the run, but not of its eval: a
receiver must remember the eval of each run. `webhook-id` is the same for every delivery of one event: use it to drop
duplicates.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._codec import parse, structure
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


TOLERANCE = 300.0  # seconds that a time stamp may be off, either way; as Standard Webhooks recommends

PREFIX = "whsec_"

SECONDS = re.compile(r"[0-9]{1,12}")  # more digits than any date needs, and few enough for arithmetic with floats


def key_of(secret: str) -> bytes:
    """The signing key in a secret: what follows `whsec_` in base64, or the secret itself as UTF-8.

    Raises `ConfigurationError` for an empty one, with which anyone could sign, and for one with white space around it.
    """
    if secret != secret.strip():
        raise ConfigurationError(
            "the webhook secret has white space around it; was it read from a file with its newline? Strip it"
        )
    try:
        key = base64.b64decode(secret[len(PREFIX) :], validate=True) if secret.startswith(PREFIX) else secret.encode()
    except ValueError:
        raise ConfigurationError("the webhook secret begins with whsec_ but is not base64 after it") from None
    if not key:
        raise ConfigurationError("the webhook secret is empty: anyone could sign with it")
    return key


def bytes_of(text: str | bytes) -> bytes:
    """Text as UTF-8. Strangers send headers: lone surrogates in them fit no signature, and raise nothing."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def checked_payload(payload: object) -> bytes:
    """The body of a webhook. Raises `InvalidArgument` for one that was parsed already."""
    if isinstance(payload, str):
        return bytes_of(payload)
    if isinstance(payload, bytes | bytearray):
        return bytes(payload)
    raise InvalidArgument(
        f"payload must be the exact bytes (or the text) of the body as it was received, not {type(payload).__name__}: "
        "a signature fits no other. Read the raw body of the request, before any parsing"
    )


def signature(payload: bytes, webhook_id: str, timestamp: str, secret: str) -> bytes:
    content = b".".join((bytes_of(webhook_id), bytes_of(timestamp), payload))
    return base64.b64encode(hmac.digest(key_of(secret), content, sha256))


def sign(payload: str | bytes, *, secret: str, webhook_id: str, timestamp: int) -> dict[str, str]:
    """The headers of a valid webhook with that body.

    For tests of receivers, and for servers that send webhooks.
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
    """Raise an error for a webhook that is not valid, or not recent. `payload` is the body exactly as received, before
    any parsing; anything but bytes or text raises `InvalidArgument`.

    Header names may be in any case; of several signatures one must match. Raises `BadSignature`, and
    `TimestampOutOfRange` when the time stamp is more than `tolerance` seconds before or after `now`.
    """
    body = checked_payload(payload)
    lower = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (header(lower, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not SECONDS.fullmatch(timestamp):
        raise BadSignature("the header webhook-timestamp is no number of seconds")
    sent = int(timestamp)
    if abs(now - sent) > tolerance:
        when = "ago" if now > sent else "in the future"
        raise TimestampOutOfRange(
            f"signed {abs(now - sent):.0f} s {when}, more than {tolerance:g} s: an old delivery, or a wrong clock"
        )
    expected = signature(body, webhook_id, timestamp, secret)
    offered = [part.removeprefix("v1,") for part in signatures.split()]
    # A list, so that every one is compared, in constant time: timing tells nothing.
    if not any([hmac.compare_digest(expected, bytes_of(candidate)) for candidate in offered]):  # noqa: C419
        raise BadSignature("no signature fits: another secret, or a body that is not the exact bytes received")


def header(headers: Mapping[str, str], name: str) -> str:
    if not (value := headers.get(name)):
        raise BadSignature(f"the header {name} is missing; is this a webhook?")
    return value


def event_of(payload: str | bytes) -> WebhookEvent:
    """The event in a body that was verified. An event of a kind unknown to this package is an `Unknown`.

    Raises `WebhookError` when the body is no event.
    """
    body = checked_payload(payload)
    try:
        # A union is no class, which is all that `structure` can say in types.
        return cast("WebhookEvent", structure(parse(body), cast("type[Any]", WebhookEvent), body))
    except DecodeError as error:
        reason = str(error)
    raise WebhookError(f"the body is no event: {reason}")


class Webhooks:
    """`client.webhooks`: `verify` and `event_of` with the client's secret (OPENAI_WEBHOOK_SECRET) and clock."""

    def __init__(self, secret: Secret | None, clock: Clock = SYSTEM_CLOCK) -> None:
        if secret is not None:
            key_of(secret.reveal())  # refused now, and not at each delivery
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
        """Raise an error for a webhook that is not valid; see `verify`."""
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
        """The event of a webhook, once it is verified. Raises `WebhookError`, as `verify` and `event_of` do."""
        self.verify_signature(payload, headers, secret=secret, tolerance=tolerance)
        return event_of(payload)

"""Errors for failed responses: `error_for(response)`, a table from statuses to errors, and a tolerant reader of error
bodies.

Errors of connections are in `connection`. The module `retry` decides about another attempt.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from evals_async._json import JSONObject, NotJSON, parse
from evals_async._transport.auth import redacted
from evals_async._transport.delays import server_delay
from evals_async._transport.messages import Response
from evals_async.errors import (
    ApiError,
    BadRequest,
    Conflict,
    DecodeError,
    NotFound,
    PermissionDenied,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ServerError,
    Unauthenticated,
    Unprocessable,
)


E = TypeVar("E", bound=RequestError)

SUCCESS = (200, 201)  # the only success statuses of this API
BODY_SHOWN = 2048  # characters that are kept of the body and of the message of an error
DEEPEST_ERROR = 4  # how many nested objects named "error" are read

BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    408: ServerError,
    409: Conflict,
    422: Unprocessable,
    425: ServerError,
    429: RateLimited,
}

# Codes and types of a 429 that time does not change (OpenAI's guide to error codes; gateways send the billing codes).
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})


def error_for(response: Response, now: float) -> RequestError:
    """Return the error for a response without success. `now` is in seconds since the epoch, for `Retry-After` dates.

    An unknown 4xx is an `ApiError`, an unknown 5xx a `ServerError`. A 2xx other than 200 and 201 is a `DecodeError`.
    """
    status = response.status
    if 200 <= status < 300:
        return DecodeError(
            f"status {status} is not a status that this API uses",
            at="$",
            expected="200 or 201",
            got=str(status),
            body=response.body,
        )
    if not 400 <= status < 600:
        return ProtocolError(f"status {status} is not a status of an HTTP response")
    text = response.body.decode("utf-8", "replace").lstrip("\ufeff")
    told = error_object(response.body)
    code, kind = text_of(told.get("code")), text_of(told.get("type"))
    error_class = BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    if error_class is RateLimited and (code in QUOTA_CODES or kind in QUOTA_CODES):
        error_class = QuotaExceeded
    message = text_of(told.get("message")) or " ".join(text[:BODY_SHOWN].split()) or "the server gave no reason"
    return error_class(
        message[:BODY_SHOWN],
        status=status,
        code=code,
        type=kind,
        param=text_of(told.get("param")),
        retry_after=server_delay(response, now),
        body=text[:BODY_SHOWN],
    )


def error_object(body: bytes) -> JSONObject:
    """Return the object with `message`, `code` and other fields from an error body, or an empty object.

    Known forms: `{"error": {…}}`, `{"error": "text"}`, `{"error": null}`, an error inside an error, the bare
    object (Azure), text, HTML.
    """
    try:
        value: object = parse(body)
    except NotJSON:
        return {}
    told: JSONObject = {}
    for _ in range(DEEPEST_ERROR):
        value = first_of(value)
        if isinstance(value, str):
            return {**told, "message": value}
        if not isinstance(value, Mapping):
            break
        told = cast("JSONObject", value)
        value = told.get("error")
    return told


def first_of(value: object) -> object:
    """Return the first element of an array (`None` if it is empty), or another value unchanged."""
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    return items[0] if items else None


def text_of(value: object) -> str | None:
    """Return a field of an error object as text. Numbers occur as codes. Other types give `None`."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def scrubbed(error: E, secrets: Sequence[str]) -> E:
    """Replace every secret in the texts of `error`, and return it. Some servers repeat keys in errors."""
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, redacted(value, secrets))
        elif isinstance(value, bytes):
            for secret in secrets:
                value = value.replace(secret.encode(), b"[redacted]")  # noqa: PLW2901  # the next secret is replaced in the new value
            setattr(error, name, value)
    error.args = tuple(redacted(part, secrets) if isinstance(part, str) else part for part in error.args)
    return error

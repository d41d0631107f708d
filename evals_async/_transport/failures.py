"""What a failed answer means: `error_for(response)`, a table from statuses to errors, and a reader of error bodies that
expects anything.

Only answers are judged here; broken connections are in `connection`. Whether to try again is in `retry`.
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

SUCCESS = (200, 201)  # the only statuses of success that this API has
BODY_SHOWN = 2048  # characters of an error's body, and of its message, that are kept
DEEPEST_ERROR = 4  # how many objects named "error" inside each other are looked into

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

# Codes and types of a 429 that waiting does not cure (OpenAI's error codes guide; the billing ones as seen from
# gateways).
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})


def error_for(response: Response, now: float) -> RequestError:
    """The error that an answer without success stands for. `now` is seconds since the epoch, for `Retry-After` dates.

    An unknown 4xx is an `ApiError`, an unknown 5xx a `ServerError`; a success that is not 200 or 201 is a
    `DecodeError`.
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
    """The object with `message`, `code` and so on that an error body holds, wherever it is; empty if there is none.

    Seen in the wild: `{"error": {…}}`, `{"error": "text"}`, `{"error": null}`, an error inside an error, the bare
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
    """The first element of an array that has one; anything else as it is."""
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    return items[0] if items else None


def text_of(value: object) -> str | None:
    """A field of an error object as text: numbers are seen as codes, anything larger is not one."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def scrubbed(error: E, secrets: Sequence[str]) -> E:
    """`error`, with every secret in its texts replaced: servers echo keys."""
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, redacted(value, secrets))
        elif isinstance(value, bytes):
            for secret in secrets:
                value = value.replace(secret.encode(), b"[redacted]")  # noqa: PLW2901  # one secret after the other
            setattr(error, name, value)
    error.args = tuple(redacted(part, secrets) if isinstance(part, str) else part for part in error.args)
    return error

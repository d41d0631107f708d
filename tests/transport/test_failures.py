"""Error bodies of every shape that servers send: the right class and fields, and never a parser's exception."""

import pytest
from doubles import reply_of

from evals_async._transport import error_for
from evals_async.errors import (
    ApiError,
    DecodeError,
    NotFound,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    ServerError,
)


NOW = 1_700_000_000.0
NONE = (None, None, None)

BODIES: list[tuple[bytes, str, tuple[str | None, str | None, str | None]]] = [
    (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', "m", ("c", "t", "p")),
    (b'{"error":{"message":"m","type":"t","param":null,"code":null},"status":401}', "m", (None, "t", None)),
    (b'{"code":"notFound","message":"m"}', "m", ("notFound", None, None)),  # Azure
    (b'{"error":"m"}', "m", NONE),
    (b'{"error":"m","code":7}', "m", ("7", None, None)),
    (b'{"error":null,"message":"m"}', "m", NONE),
    (b'{"error":{"error":{"message":"m","code":404}}}', "m", ("404", None, None)),
    (b'[{"error":{"message":"m"}}]', "m", NONE),
    (b'"m"', "m", NONE),
    (b'\xef\xbb\xbf{"error":{"message":"m"}}', "m", NONE),
    (
        b'{"error":{"message":["m"],"code":{"a":1},"type":true}}',
        '{"error":{"message":["m"],"code":{"a":1},"type":true}}',
        NONE,
    ),
    (b'{"detail":"m"}', '{"detail":"m"}', NONE),
    (b"null", "null", NONE),
    (b"[]", "[]", NONE),
    (b"7", "7", NONE),
    (b"", "the server gave no reason", NONE),
    (b"   \n ", "the server gave no reason", NONE),
    (b"upstream\n  connect   error", "upstream connect error", NONE),
    (b"\xff\xfe", "\ufffd\ufffd", NONE),
    (b'{"error":' * 2000, ('{"error":' * 2000)[:2048], NONE),
    (b"[" * 5000, "[" * 2048, NONE),
]


@pytest.mark.parametrize(("body", "message", "fields"), BODIES, ids=lambda value: ascii(value)[:50])
def test_error_bodies(body: bytes, message: str, fields: tuple[str | None, str | None, str | None]) -> None:
    """What is there is found wherever it is; what is not there is `None`."""
    error = error_for(reply_of(body, status=404), NOW)
    assert isinstance(error, NotFound)
    assert message == error.message
    assert fields == (error.code, error.type, error.param)
    assert len(error.body) <= 2048


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"])
@pytest.mark.parametrize("field", ["code", "type"])
def test_quotas(code: str, field: str) -> None:
    """S06: a 429 that waiting does not cure is told apart, by its code or its type."""
    response = reply_of(b'{"error":{"%s":"%s"}}' % (field.encode(), code.encode()), status=429)
    assert QuotaExceeded is type(error_for(response, NOW))
    assert RateLimited is type(error_for(reply_of(b'{"error":{"code":"requests"}}', status=429), NOW))


@pytest.mark.parametrize(
    ("status", "kind"), [(418, ApiError), (402, ApiError), (500, ServerError), (599, ServerError), (408, ServerError)]
)
def test_other_statuses(status: int, kind: type[ApiError]) -> None:
    """An unknown 4xx is an ApiError, an unknown 5xx a ServerError."""
    error = error_for(reply_of(status=status, headers=(("retry-after", "3"),)), NOW)
    assert kind is type(error)
    assert isinstance(error, ApiError)
    assert (status, 3.0) == (error.status, error.retry_after)


def test_statuses_that_are_no_errors_of_this_api() -> None:
    """A 2xx of another kind is an answer that cannot be used; what HTTP does not have is no HTTP."""
    assert DecodeError is type(error_for(reply_of(status=204), NOW))
    assert ProtocolError is type(error_for(reply_of(status=999), NOW))

"""How long a server asks to wait: a table of every form that has been seen, and of what must not be taken for one."""

import pytest
from doubles import reply_of

from evals_async._transport import Allowance, RateLimits, server_delay
from evals_async._transport.delays import go_duration, rate_limits


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
HOUR_AGO = "Tue, 14 Nov 2023 21:13:20 GMT"

FORMS: list[tuple[list[tuple[str, str]], float | None]] = [
    ([], None),
    ([("retry-after", "1")], 1.0),
    ([("retry-after", " 7 ")], 7.0),
    ([("retry-after", "0.25")], 0.25),
    ([("retry-after-ms", "1500")], 1.5),
    ([("retry-after-ms", "0.5")], 0.0005),
    ([("x-ms-retry-after-ms", "250")], 0.25),
    ([("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT")], 10.0),
    ([("retry-after", "Tuesday, 14-Nov-23 22:13:30 GMT")], 10.0),
    ([("retry-after", "Tue Nov 14 22:13:30 2023")], 10.0),
    ([("retry-after", "Tue, 14 Nov 2023 21:13:25 GMT"), ("date", HOUR_AGO)], 5.0),  # a clock that is an hour behind
    ([("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT"), ("date", "yesterday")], 10.0),
    ([("retry-after", HOUR_AGO)], None),
    ([("retry-after", "0")], None),
    ([("retry-after", "-5")], None),
    ([("retry-after", "soon")], None),
    ([("retry-after", "nan")], None),
    ([("retry-after", "inf")], None),
    ([("retry-after", "1e400")], None),
    ([("retry-after", "1e3")], None),
    ([("retry-after", "1_000")], None),
    ([("retry-after", "٣")], None),  # a digit, but not one of HTTP's
    ([("retry-after", "")], None),
    ([("retry-after", "9" * 400)], None),
    ([("retry-after", "Tue, 99 Nov 2023 22:13:30 GMT")], None),
    ([("retry-after", "1"), ("retry-after", "3")], 3.0),
    ([("retry-after", "soon"), ("retry-after", "3")], 3.0),
    ([("retry-after-ms", "1500"), ("retry-after", "1")], 1.5),
    ([("retry-after-ms", "1500"), ("retry-after", "2")], 2.0),
    ([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")], 2.0),
    ([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "250ms")], 0.25),
    ([("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")], 360.0),
    ([("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", "2s")], None),
    ([("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-requests", "2s")], None),
    ([("x-ratelimit-remaining-requests", "0")], None),
    (
        [("retry-after", "1"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m1.5s")],
        61.5,
    ),
]


@pytest.mark.parametrize(("headers", "expected"), FORMS, ids=lambda value: str(value)[:60])
def test_server_delay(headers: list[tuple[str, str]], expected: float | None) -> None:
    """S03, S05: the largest delay that can be understood; everything else counts as not given."""
    delay = server_delay(reply_of(status=429, headers=headers), NOW)
    assert delay == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("120ms", 0.12), ("7µs", 7e-6), ("7us", 7e-6), ("5", 5.0)],
)
def test_go_durations(text: str, seconds: float) -> None:
    """All units of Go's format; a plain number is seconds."""
    assert seconds == pytest.approx(go_duration(text))


@pytest.mark.parametrize("text", ["", "s", "1x", "-1s", "1s garbage", "1.s", "9" * 400 + "h"])
def test_what_is_no_duration(text: str) -> None:
    """None, and no exception."""
    assert go_duration(text) is None


def test_rate_limits_are_read_and_nonsense_in_them_is_not() -> None:
    """Each header by itself: one that cannot be understood spoils no other."""
    headers = (
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "many"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "later"),
    )
    limits = rate_limits(reply_of(headers=headers).headers)
    assert RateLimits(Allowance(60, None, 1.0), Allowance(None, 0, None)) == limits
    assert limits is not None
    assert limits.delay is None
    assert rate_limits(reply_of(headers=[("date", "x")]).headers) is None

"""Whatever a server sends in headers, in bodies or instead of them, and whatever a caller puts into a header."""

import math
from email.utils import formatdate

import pytest
from doubles import ScaledClock, reply_of
from faults.harness import EVAL, SPEED, text_of, told
from hypothesis import example, given, settings, strategies as st
from transport.faultserver import FaultServer, answer, raw
from transport.harness import KEY, assert_plain

from evals_async import ApiError, EvalsClient, EvalsError, InvalidArgument, RequestError, Timeouts
from evals_async._transport import Response, error_for, server_delay
from evals_async._transport.delays import rate_limits


NOW = 1_700_000_000.0
NAMES = ("retry-after", "retry-after-ms", "x-ms-retry-after-ms", "date", "x-should-retry")
LIMITS = tuple(
    f"x-ratelimit-{word}-{what}" for word in ("limit", "remaining", "reset") for what in ("requests", "tokens")
)
numeric = st.text(st.sampled_from("0123456789.-+eE_ smhµn:"), max_size=12)
dates = st.integers(-(10**7), 10**7).map(lambda offset: formatdate(NOW + offset, usegmt=True))
header_values = numeric | dates | st.text(max_size=20)
told_headers = st.lists(st.tuples(st.sampled_from(NAMES + LIMITS), header_values), max_size=6)


def throttled(*headers: tuple[str, str]) -> Response:
    return reply_of(status=429, headers=headers)


@settings(max_examples=500, deadline=None)
@given(told_headers)
@example([("retry-after", "Mon, 99 Feb 99999 99:99:99 GMT")])
@example([("retry-after", "Mon, 01 Jan 0000 00:00:00 +9999")])
def test_any_delay(headers: list[tuple[str, str]]) -> None:
    """S03: whatever the headers say, the delay is a finite number above zero, or none; and one more header that asks to
    wait never makes it shorter.
    """
    rate_limits(throttled(*headers).headers)
    delay = server_delay(throttled(*headers), NOW)
    assert delay is None or (delay > 0 and math.isfinite(delay))
    assert (delay or 0.0) <= (server_delay(throttled(*headers, ("retry-after", "7")), NOW) or 0.0)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(-(10**8), 10**8))
def test_any_moment(seconds: int, skew: int) -> None:
    """S03: a date is so many seconds away, whatever the client's own clock says, if the server tells the time."""
    server = NOW + skew
    headers = ("date", formatdate(server, usegmt=True)), ("retry-after", formatdate(server + seconds, usegmt=True))
    assert server_delay(throttled(*headers), NOW) == pytest.approx(seconds, abs=1)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_any_go_duration(hours: int, minutes: int, milliseconds: int) -> None:
    """S05: a reset in Go's notation is the sum of its parts."""
    text = f"{hours}h{minutes}m{milliseconds / 1000:g}s"
    total = hours * 3600 + minutes * 60 + milliseconds / 1000
    headers = ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", text)
    assert (server_delay(throttled(*headers), NOW) or 0.0) == pytest.approx(total)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "code", "message"]), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(400, 599), st.binary(max_size=80) | json_values.map(text_of))
def test_any_error_body(status: int, body: bytes) -> None:
    """S11: whatever the body, an error status is an ApiError with that status, a sentence and bounded texts."""
    error = error_for(reply_of(body * 100, status=status), NOW)
    assert isinstance(error, ApiError)
    assert status == error.status
    assert error.message
    assert len(str(error)) < 600
    assert len(error.body) <= 2048
    assert len(error.message) <= 2048


async def outcome(server: FaultServer) -> object:
    """What becomes of one read without retries: a run or an error of ours; anything else comes through."""
    clock, times = ScaledClock(SPEED), Timeouts(total=4.0, attempt=4.0)
    async with EvalsClient(base_url=server.url, api_key=KEY, max_retries=0, clock=clock, timeout=times) as client:
        try:
            return await client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
        except RequestError as error:
            assert_plain(error)
            return error


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | json_values.map(text_of))
async def test_any_body(body: bytes) -> None:
    """B01, B03: whatever bytes a 200 carries, if they are not the run that was asked for, they are an error of ours."""
    async with FaultServer(answer(200, body)) as server:
        assert isinstance(await outcome(server), EvalsError)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: "]))
async def test_any_bytes_instead_of_http(data: bytes, before: bytes) -> None:
    """C13: whatever comes over the line instead of an answer, it ends in an error of ours, and in time."""
    async with FaultServer(raw(before + data, then="fin")) as server:
        assert isinstance(await outcome(server), EvalsError)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30) | st.text(st.characters(max_codepoint=127), max_size=30), min_size=1, max_size=10))
@example(["a\r\nHost: evil", "a\nb", "\x00", "é", " a", "a ", "", "a\tb", "a: b"])
async def test_any_header_value(values: list[str]) -> None:
    """I05: a value is refused before anything is sent, or arrives as it is and as one header."""
    async with FaultServer(told(EVAL)) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
        for value in values:
            before = len(server.seen)
            try:
                await client.evals.retrieve("eval_1", extra_headers={"X-Mine": value})
            except InvalidArgument:
                assert before == len(server.seen)
            else:
                assert [value] == [found for name, found in server.seen[-1].headers if name == "X-Mine"]

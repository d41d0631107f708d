"""The delay that a server requests, in all the forms that servers use. Pure functions of headers, without policy."""

import math
import re
from collections.abc import Callable, Iterator

import attrs

from evals_async._transport.messages import Headers, Response


DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+")
GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
MOST_ADDED = 0.25  # the most seconds of jitter
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@attrs.frozen
class Allowance:
    """One rate limit from the headers: the limit per minute, how many remain, and the seconds until the reset."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None

    @property
    def spent(self) -> bool:
        """Whether nothing remains, and the time of the reset is known."""
        return self.remaining == 0 and self.reset is not None and self.reset > 0


@attrs.frozen
class RateLimits:
    """The `x-ratelimit-*` headers of one response."""

    requests: Allowance = Allowance()
    tokens: Allowance = Allowance()

    @property
    def delay(self) -> float | None:
        """Seconds until the reset of what is spent, or `None` if nothing is spent."""
        resets = [a.reset for a in (self.requests, self.tokens) if a.spent and a.reset is not None]
        return max(resets, default=None)


def decimal(text: str) -> float | None:
    """Return the finite, positive number in a header, or `None` for other text, exponents, nan, zero and negative
    numbers.
    """
    text = text.strip()
    if not DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if value > 0 else None


def go_duration(text: str) -> float | None:
    """Return the seconds of a Go duration (`6m0s`, `250ms`) or of a number, or `None` for other text."""
    text = text.strip()
    if not GO_DURATION.fullmatch(text):
        return decimal(text)
    total = sum(float(number) * UNITS[unit] for number, unit in GO_PART.findall(text))
    return total if math.isfinite(total) else None


def http_date(text: str) -> float | None:
    """Return the seconds since the epoch of an HTTP date (RFC 9110, 5.6.7), or `None` for other text."""
    from email.utils import parsedate_to_datetime  # rarely used, and slow to import

    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def something_left(headers: Headers) -> bool | None:
    """Whether something remains of the rate limit. `None` if the response has no limits, as on management endpoints.

    False must be verified with `rate_limits`. This function runs for every response, so it reads few characters.
    """
    requests, tokens = headers.get("x-ratelimit-remaining-requests"), headers.get("x-ratelimit-remaining-tokens")
    if requests is None and tokens is None:
        return True if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers else None
    return (requests or "")[:1] != "0" and (tokens or "")[:1] != "0"


def rate_limits(headers: Headers) -> RateLimits | None:
    """Return the rate limits in the headers, or `None` if there are none."""
    if something_left(headers) is None:
        return None
    return RateLimits(allowance(headers, "requests"), allowance(headers, "tokens"))


def allowance(headers: Headers, what: str) -> Allowance:
    limit = headers.get(f"x-ratelimit-limit-{what}", "")
    remaining = headers.get(f"x-ratelimit-remaining-{what}", "")
    return Allowance(
        int(limit) if DECIMAL.fullmatch(limit) and limit.isdecimal() else None,
        int(remaining) if DECIMAL.fullmatch(remaining) and remaining.isdecimal() else None,
        go_duration(headers.get(f"x-ratelimit-reset-{what}", "")),
    )


def told_delays(response: Response, now: float) -> Iterator[float]:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        for text in response.all_headers(name):
            if (milliseconds := decimal(text)) is not None:
                yield milliseconds / 1000
    for text in response.all_headers("retry-after"):
        if (seconds := decimal(text)) is not None:
            yield seconds
        elif (moment := http_date(text)) is not None:
            sent = http_date(response.header("date") or "")
            yield moment - (now if sent is None else sent)  # by the clock of the server, if the response has a date
    if (limits := rate_limits(response.headers)) is not None and limits.delay is not None:
        yield limits.delay


def with_jitter(delay: float, random: Callable[[], float]) -> float:
    """Return a delay of the server plus up to 0.25 s or a quarter of it: never earlier, and not all calls together."""
    return delay + random() * min(MOST_ADDED, delay / 4)


def shortened(seconds: float, held: float, random: Callable[[], float]) -> float:
    """Return how long a refused call waits, if responses before its own said that a limit holds all calls for `held`
    seconds. Servers round delays up, so the one that ends first is the best estimate.
    """
    return seconds if held <= 0 else min(seconds, with_jitter(held, random))


def server_delay(response: Response, now: float) -> float | None:
    """Return the seconds that the server requests to wait, or `None` without a valid request.

    This is the largest of `retry-after-ms`, `x-ms-retry-after-ms` (Azure), `Retry-After` in seconds or as a date, and
    `x-ratelimit-reset-*` if nothing remains. Zero, negative and invalid values are ignored. `now` is in seconds since
    the epoch.
    """
    return max((delay for delay in told_delays(response, now) if delay > 0 and math.isfinite(delay)), default=None)


def poll_delay(response: Response, now: float) -> float | None:
    """Return the seconds that the server requests to wait before the next poll: as `server_delay`, or from
    `openai-poll-after-ms`, which the service sends with unfinished objects.
    """
    asked = (decimal(text) for text in response.all_headers("openai-poll-after-ms"))
    delays = [milliseconds / 1000 for milliseconds in asked if milliseconds is not None]
    return max((*delays, server_delay(response, now) or 0.0)) or None

"""What the rate limiter knows about a server, and how it is kept: `LimitState`. The algorithm is in `rate_control`."""

import math
from collections import deque
from typing import Literal


FIRST_PROBE = 0.05  # seconds after a refusal: a bucket of 20 a second has a token by then
SLOWER = 1.5  # factor between the gaps of probes; it limits the delay until the end of a hold is found
LAST_PROBE = 5.0  # the longest gap between probes in seconds
SURE = 0.95  # fraction of the last hold's duration after which the next hold is probed
ENOUGH = 8  # grants that a measurement needs: its error is then below an eighth
IDLE = 0.1  # seconds without a waiting request that a measurement leaves out
SAVED = 5.0  # saved refusals at most, see `credit`
SMOOTH = 16  # responses in a moving average
BACK = 0.95  # fraction of the measured rate from which more is tried, so that a slower client reaches its share
SPACED = 0.8  # fraction of the even gap between requests that is kept, because bursts cannot test a ceiling
EVEN = 1.02  # factor of the even gap, so that a bucket has a token for each request if its rate is high enough
LATE = 0.004  # seconds that a timer or the process may be late; requests of this time are sent at once
SLACK = LATE / 2  # seconds of requests that the copy of the bucket allows after a late timer

RateSource = Literal["unknown", "given", "told", "measured"]


class LimitState:
    """The measurements, holds and headers of one limit. Times are seconds of one clock. At most `most` requests run at
    once.
    """

    def __init__(
        self, most: int, now: float, *, start_rate: float | None = None, max_rate: float | None = None
    ) -> None:
        self.most = most
        self.max_rate = math.inf if max_rate is None else max_rate
        self.under_way = 0
        self.width = float(most)  # the current limit of running requests
        self.ceiling = float(most)  # the limit of running requests that the server has
        self.met = float(most)  # the ceiling at its last refusal
        self.measured = math.inf if start_rate is None else start_rate  # the measured rate between two refusals
        self.tried = 1.0  # factor of the measured rate that is tried now
        self.tokens = 1.0
        self.filled = now
        self.source: RateSource = "unknown" if self.rate == math.inf else "given"
        self.since = now
        self.untouched = self.rate == math.inf  # no refusal so far, so there is no limit
        self.refused_at = -math.inf  # when the last refused request was sent
        self.granted_at = -math.inf
        self.cut_at = -math.inf
        self.held_until = -math.inf
        self.held_from = -math.inf
        self.expected = 0.0  # the duration of a hold in seconds
        self.probe_at = math.inf
        self.gap = FIRST_PROBE
        self.begin = math.inf  # when the refused request at the start of the measurement was sent
        self.end = math.inf  # when the refused request at its end was sent
        self.counted = 0  # granted requests that were sent between them
        self.after = 0  # granted requests that were sent later
        self.in_a_row = 0
        self.run: float = 0  # grants since the last hold
        self.last_run = math.inf  # grants between the two previous holds, if the last one was real
        self.credit = SAVED  # refusals that trying for more may cost
        self.too_many = False  # the last refusal was because of the ceiling
        self.clear = False  # that refusal starts no hold
        self.proven = False  # the ceiling is confirmed
        self.refusals: deque[tuple[float, float]] = deque(
            maxlen=4 * most
        )  # the last refusals: times of the request and of the response
        self.grants = [0.0] * (most + 2)  # recent grants, by the number of running requests
        self.left = 0  # remaining requests of a window, from the headers
        self.left_at = -math.inf
        self.shared = 1.0  # requests of all clients per response, from the headers
        self.reset_at = -math.inf
        self.spaced_until = -math.inf
        self.released_at = now
        self.latency: float = 0.0
        self.quickest: float = 0.0  # the shortest recent latency: without delays of a connection or of this process

    @property
    def rate(self) -> float:
        """The current rate in requests per second, or `inf` if it is unknown."""
        return min(self.max_rate, self.measured * self.tried)

    def held(self, now: float) -> bool:
        return self.refused_at > self.granted_at and now < self.held_until

    def told(self, now: float) -> bool:
        """Whether the headers gave the remaining requests of a window that has not ended."""
        return now < self.reset_at

    @property
    def known(self) -> bool:
        """Whether the allowed rate is known, so that delays in single responses are not needed."""
        return self.source == "measured" or (self.ceiling < self.most and self.proven)

    def understood(self, now: float) -> bool:
        """Whether it is known when a refused call may be sent, so that the delay in its response is not needed."""
        return self.known or (self.left == 0 and self.told(now))

    def told_hold(self, now: float) -> float:
        """Return the seconds until the end of a hold that the server requested, or 0."""
        held = now
        if self.held(now) and self.held_until < math.inf and not self.known:
            held = self.held_until
        if self.left == 0 and self.told(now):
            held = max(held, self.reset_at)
        return held - now

    def fill(self, now: float) -> None:
        """Add the tokens since the last call. Without a rate there are none."""
        if self.rate < math.inf:
            full = math.inf if self.held(now) else max(self.tokens, 1 + SLACK * self.rate)
            self.tokens = min(self.tokens + (now - self.filled) * self.rate, full)
        self.filled = now

    def take(self, now: float, *, waited: bool = False) -> int:
        """Take a permit for a request. `waited` says whether it had to wait. Returns the number of running requests."""
        self.under_way += 1
        if self.untouched:
            return self.under_way
        if self.under_way == 1 and not waited and now - self.released_at > IDLE:  # no request was waiting
            self.begin += now - self.released_at
            self.end += now - self.released_at
        self.space(now)
        if self.rate < math.inf:
            self.fill(now)
            self.tokens -= 1
        if self.held(now):
            self.probe_at = now + max(1.0, 2 * self.gap)  # unless its response arrives before
        return self.under_way

    def space(self, now: float) -> None:
        """Delay the next request for an even gap, if there is a ceiling."""
        apart, late = EVEN * self.latency / int(self.width), min(LATE, now - self.released_at)
        if apart < LATE:  # shorter than the error of timers
            apart = SPACED * self.quickest / int(self.width)
            late = min(LATE, SPACED * self.quickest / ENOUGH) if self.proven else 0.0
        self.spaced_until = max(self.spaced_until, now - late) + apart

    def give(self, now: float) -> None:
        """Release the permit of a request."""
        self.under_way -= 1
        self.released_at = now

    def beside_refused(self, sent_at: float, among: int) -> int:
        """Return the number of running requests without those that the server had already refused."""
        for sent, answered in reversed(self.refusals):
            if answered <= sent_at:
                break
            among -= sent < sent_at
        return max(among, 1)

    def seen_from(self, among: int) -> float:
        """Return the number of recent grants with at least so many running requests."""
        return sum(self.grants[among:])

    def measure(self, now: float) -> None:
        """Compute the rate from the counted grants, if there are enough."""
        if self.counted < ENOUGH:
            return
        self.fill(now)
        if self.counted == ENOUGH:
            self.tried = BACK
        self.measured = self.counted / (self.end - self.begin)
        if self.source != "measured":
            self.source, self.since = "measured", now

    def hold(self, now: float, sent_at: float, delay: float | None, *, probe: bool, news: bool) -> None:
        """Start a hold."""
        ends = math.inf if delay is None else now + delay
        if not self.held(now):
            self.held_from = now
            self.held_until = ends
            self.probe_at = now + max(FIRST_PROBE, self.expected)
        elif probe:
            self.held_until = min(
                self.held_until, ends
            )  # delays are rounded up, so the earliest end is the best estimate
        else:
            self.held_until = max(self.held_until, ends)
        self.refused_at = max(self.refused_at, sent_at)
        if news and probe:
            self.gap = min(SLOWER * self.gap, LAST_PROBE)
            self.probe_at = now + self.gap
        elif news:
            self.gap = FIRST_PROBE
            self.probe_at = now + max(FIRST_PROBE, self.expected)

    def end_hold(self, sent_at: float) -> None:
        """End a hold: a request that was sent after the refused ones was granted."""
        lasted = sent_at - self.held_from
        window = self.left_at == -math.inf and max(self.gap, self.expected) > FIRST_PROBE
        self.last_run, self.run = (self.run if window else math.inf), 0
        self.expected = lasted / 2 if self.gap == FIRST_PROBE else SURE * lasted

    def tell(self, now: float, sent_at: float, left: int, reset: float) -> None:
        """Observe headers: the remaining requests, and the seconds until the reset."""
        if sent_at < self.left_at and now < self.reset_at:
            return
        if self.told(now) and 0 < left < self.left:
            self.shared += (self.left - left - self.shared) / SMOOTH
        self.left, self.left_at, self.reset_at = left, sent_at, now + reset

"""The algorithm of the rate limiter: it measures a limit from responses, and computes when to send the next request.

`RateControl` only computes; it does not wait. A refusal is a 429, or a 503 with Retry-After. A grant is any other
response below 500. A hold is a time in which only probes are sent. A probe is a single test request. The rules:

1. There is no limit until a request is refused, or the headers say that no requests remain.
2. A refusal starts a hold. It ends after the delay that the server requests, or when a probe is granted. The first
   probe is sent after 50 ms, and the gaps between probes grow. Later holds are first probed where the last one ended. A
   grant of a request that was sent after the refused one ends the hold. Then half as many requests as before may run
   at once, and each grant allows more.
3. If a request was refused while more requests were running than were ever granted at once, the limit is one of
   concurrent requests. The ceiling is one less than the number of running requests. If several were refused together,
   the first one counts. Below a ceiling, requests are spaced evenly. So a bucket with a single token grants them, and
   the ceiling rises. A refusal below the ceiling shows that there is no limit of concurrent requests.
4. Any other refusal means that the server's token bucket is empty. The rate is the number of grants between two such
   refusals, divided by the time in which requests were waiting. This is valid for buckets and windows. A copy of the
   bucket is then kept here. It is empty at a refusal, and each request takes a token. A single refusal then starts no
   hold. With fewer than eight grants there is no measurement: half as many requests run at once, and the rate is
   reduced, at most to a half.
5. A hold in which a probe was refused is the end of a window. In the next window, few requests run at once near the
   same time, and more before and after it.
6. More is always tried: a tenth of the rate in each round trip, and one more than the ceiling. So of two clients that
   share a limit, the slower one reaches its share. This may cost one refusal in 25 grants. If a rate is refused after
   it grew, the next one starts between the mean and the last rate, because the mean includes slower times.
7. If the headers give the remaining requests of a window, they are used up, and then the client waits for the reset.
   If fewer remain than this client's requests explain, other clients share the window. Near its end, fewer requests
   run at once.
"""

import math
from collections import deque
from typing import Literal


# Holds
FIRST_PROBE = 0.05  # seconds after a refusal: a bucket of 20 a second has a token by then
SLOWER = 1.5  # factor between the gaps of probes; it limits the delay until the end of a hold is found
LAST_PROBE = 5.0  # the longest gap between probes in seconds
SURE = 0.95  # fraction of the last hold's duration after which the next hold is probed
# Measuring
ENOUGH = 8  # grants that a measurement needs: its error is then below an eighth
IDLE = 0.1  # seconds without a waiting request that a measurement leaves out
SMOOTH = 16  # responses in a moving average
# Trying for more
EARNED = 0.04  # refusals that each grant allows; this keeps the requests per call below 1.1
SAVED = 5.0  # saved refusals at most
QUIET = 16  # grants in a row before more is tried
BACK = 0.95  # fraction of the measured rate from which more is tried, so that a slower client reaches its share
MORE = 0.1  # fraction of the rate that is added in each round trip
# How many at once
FEW = 4  # running requests at the time where the last window ended; more at other times
CLEAR = 0.75  # fraction of the running requests below which a ceiling is certain
SPACED = 0.8  # fraction of the even gap between requests that is kept, because bursts cannot test a ceiling
EVEN = 1.02  # factor of the even gap, so that a bucket has a token for each request if its rate is high enough
# Timers
LATE = 0.004  # seconds that a timer or the process may be late; requests of this time are sent at once
SLACK = LATE / 2  # seconds of requests that the copy of the bucket allows after a late timer

RateSource = Literal["unknown", "given", "told", "measured"]


class RateControl:
    """The state of the algorithm above. Times are seconds of one clock. At most `most` requests run at once."""

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
        self.run = 0  # grants since the last hold
        self.last_run = math.inf  # grants between the two previous holds, if the last one was real
        self.credit = SAVED
        self.too_many = False  # the last refusal was because of the ceiling
        self.clear = False  # many more requests than the ceiling were running
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
        self.latency = 0.0
        self.quickest = 0.0  # the shortest recent latency: without delays of a connection or of this process

    @property
    def rate(self) -> float:
        """The current rate in requests per second, or `inf` if it is unknown."""
        return min(self.max_rate, self.measured * self.tried)

    def held(self, now: float) -> bool:
        return self.refused_at > self.granted_at and now < self.held_until

    def told_hold(self, now: float) -> float:
        """Return the seconds until the end of a hold that the server requested, or 0."""
        held = now
        if self.held(now) and self.held_until < math.inf and not self.known:
            held = self.held_until
        if self.left == 0 and self.told(now):
            held = max(held, self.reset_at)
        return held - now

    def next_turn(self, now: float) -> float:
        """Return the time when the next request may be sent. It is `inf` if a response must arrive first."""
        if self.under_way >= int(self.width):
            return math.inf
        if self.untouched and now >= self.reset_at:
            return now
        if self.told(now) and self.under_way * self.shared >= self.left:
            return self.reset_at
        if self.held(now):
            return min(self.held_until, max(now, self.probe_at))
        if self.told(now):
            return now
        if self.under_way >= FEW + abs(self.last_run - self.run):
            return math.inf
        at = max(now, self.spaced_until) if self.ceiling < self.most else now
        if self.rate < math.inf:
            self.fill(now)
            at = max(at, now + (1 - self.tokens) / self.rate)
        return at

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

    def granted(self, now: float, sent_at: float, among: int) -> None:
        """Observe a grant. Its request was sent at `sent_at`, with `among` running requests."""
        took, quickest = now - sent_at, 1.02 * self.quickest
        if not self.untouched:
            among = self.beside_refused(sent_at, among)
        self.grants[min(among, self.most)] += 1
        self.run += 1
        self.latency += (took - self.latency) / 8 if self.latency else took
        self.quickest = quickest if 0 < quickest < took else took
        if self.untouched:  # the usual case
            self.in_a_row += 1
            self.granted_at = max(self.granted_at, sent_at)
            return
        if sent_at > self.granted_at:
            if self.granted_at < self.refused_at < sent_at:
                self.end_hold(sent_at)
            self.granted_at = sent_at
        if sent_at > self.end:
            self.after += 1
        elif sent_at > self.begin:
            self.counted += 1
            self.measure(now)
        self.credit = min(SAVED, self.credit + EARNED)
        if sent_at > self.cut_at:  # older grants say nothing about the current limit
            self.in_a_row += 1
            self.gap = FIRST_PROBE
            self.proven = self.ceiling < self.most and (self.proven or self.in_a_row >= QUIET)
            self.width = min(self.ceiling, self.width + 1)
            if self.credit >= 1:
                self.try_more(now)

    def end_hold(self, sent_at: float) -> None:
        """End a hold: a request that was sent after the refused ones was granted."""
        lasted = sent_at - self.held_from
        window = self.left_at == -math.inf and max(self.gap, self.expected) > FIRST_PROBE
        self.last_run, self.run = (self.run if window else math.inf), 0
        self.expected = lasted / 2 if self.gap == FIRST_PROBE else SURE * lasted

    def try_more(self, now: float) -> None:
        """Increase the ceiling and the rate a little. The steps grow with the time without a refusal."""
        over = (self.in_a_row - QUIET) / self.ceiling
        if over > 0:
            self.ceiling = min(float(self.most), self.ceiling + (1 + over / 2) / self.ceiling)
        if self.rate < math.inf:
            self.fill(now)
            self.tried *= 1 + MORE * min(1.0, self.in_a_row / QUIET) / max(1.0, self.rate * self.latency)

    @property
    def known(self) -> bool:
        """Whether the allowed rate is known, so that delays in single responses are not needed."""
        return self.source == "measured" or (self.ceiling < self.most and self.proven)

    def understood(self, now: float) -> bool:
        """Whether it is known when a refused call may be sent, so that the delay in its response is not needed."""
        return self.known or (self.left == 0 and self.told(now))

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

    def refused(self, now: float, sent_at: float, among: int, delay: float | None) -> None:
        """Observe a refusal with a delay from the server. Its request was sent at `sent_at`, with `among` running
        requests.
        """
        self.untouched = False
        probe = self.held(sent_at)
        news = (
            sent_at > self.cut_at
        )  # a request that was sent before the last refusal was known gives no new information
        among = self.beside_refused(sent_at, among)
        self.refusals.append((sent_at, now))
        if self.tried > 1 or self.proven:
            self.credit = max(-1.0, self.credit - 1)
        if news:
            alone = self.in_a_row > 0 and (self.source == "measured" or self.latency > FIRST_PROBE)
            self.too_many = not probe and self.crowded(among)
            row, self.cut_at, self.in_a_row = self.in_a_row, now, 0
            if self.too_many:
                self.clear = among <= CLEAR * (self.under_way + 1) and delay is None
                if self.too_many_at_once(among) or self.clear:
                    return
            elif not probe:
                self.empty(now, sent_at, row)
                if alone:
                    return  # other requests continue at the known rate
        elif self.too_many:
            if 1 < among <= self.ceiling:  # of requests that were refused together, the first one counts
                self.ceiling = self.met = among - 1.0
                self.width = min(self.width, self.ceiling)
            if self.clear:
                return
        self.hold(now, sent_at, delay, probe=probe, news=news)

    def too_many_at_once(self, among: int) -> bool:
        """Set the ceiling to one less than `among`. Returns whether a ceiling was known before."""
        known = self.ceiling < self.most
        self.ceiling = self.met = among - 1.0
        self.width = min(self.width, self.ceiling, math.inf if known else max(1.0, (self.under_way + 1) / 2))
        self.grants = [count / 2 for count in self.grants]
        return known

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

    def crowded(self, among: int) -> bool:
        """Whether the number of running requests caused the refusal: fewer were never refused, and the rate is not
        used up.
        """
        paced = self.rate < math.inf and self.tokens < 1
        if self.proven and among > self.met:
            return True
        met = among <= self.ceiling < self.most and self.in_a_row < ENOUGH  # this number was granted a moment ago
        return among > 1 and not paced and not met and self.seen_from(among) < ENOUGH

    def empty(self, now: float, sent_at: float, row: int) -> None:
        """Handle a refusal because of an empty bucket, after so many grants in a row."""
        half = max(1.0, (self.under_way + 1) / 2)
        self.ceiling = float(self.most)
        if self.begin == math.inf:
            self.width = min(self.width, half)
            self.begin = self.end = sent_at
        else:
            if self.counted >= ENOUGH:
                self.begin, self.counted = self.end, 0
            self.counted, self.after, self.end = self.counted + self.after, 0, sent_at
            self.fill(now)
            if self.counted >= ENOUGH:
                before = self.rate
                self.measure(now)
                grown = row >= ENOUGH and before < math.inf and self.last_run == math.inf
                self.tried = BACK * (math.sqrt(max(1.0, before / self.measured)) if grown else 1.0)
            else:
                self.width = max(1.0, min(self.width, half) / 2)
                likely = (self.counted + 1) / (sent_at - self.begin) / self.measured
                self.tried = min(self.tried, max(self.tried / 2, likely))
        self.tokens = min(self.tokens, 0.0)
        self.grants = [count / 2 for count in self.grants]

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

    def told(self, now: float) -> bool:
        """Whether the headers gave the remaining requests of a window that has not ended."""
        return now < self.reset_at

    def tell(self, now: float, sent_at: float, left: int, reset: float) -> None:
        """Observe headers: the remaining requests, and the seconds until the reset."""
        if sent_at < self.left_at and now < self.reset_at:
            return
        if self.told(now) and 0 < left < self.left:
            self.shared += (self.left - left - self.shared) / SMOOTH
        self.left, self.left_at, self.reset_at = left, sent_at, now + reset

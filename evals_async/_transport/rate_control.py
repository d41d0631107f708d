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
   the ceiling rises. A refusal of nearly as many requests lowers a ceiling that was confirmed by 16 grants in a row,
   because responses arrive late. Any other refusal below the ceiling shows that there is no limit of concurrent
   requests. If a ceiling was known, its refusals start no hold.
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

from evals_async._transport.limit_state import BACK, ENOUGH, FIRST_PROBE, SAVED, LimitState


EARNED = 0.04  # refusals that each grant allows; this keeps the requests per call below 1.1
QUIET = 16  # grants in a row before more is tried
MORE = 0.1  # fraction of the rate that is added in each round trip
FEW = 4  # running requests at the time where the last window ended; more at other times
CLEAR = 0.75  # fraction of the running requests or of a ceiling: fewer are clearly below it


class RateControl(LimitState):
    """The algorithm above. It decides when the next request may be sent, and what responses change."""

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

    def try_more(self, now: float) -> None:
        """Increase the ceiling and the rate a little. The steps grow with the time without a refusal."""
        over = (self.in_a_row - QUIET) / self.ceiling
        if over > 0:
            self.ceiling = min(float(self.most), self.ceiling + (1 + over / 2) / self.ceiling)
        if self.rate < math.inf:
            self.fill(now)
            self.tried *= 1 + MORE * min(1.0, self.in_a_row / QUIET) / max(1.0, self.rate * self.latency)

    def refused(self, now: float, sent_at: float, among: int, delay: float | None) -> None:
        """Observe a refusal with a delay from the server. Its request was sent at `sent_at`, with `among` running
        requests.
        """
        self.untouched = False
        probe = self.held(sent_at)
        news = sent_at > self.cut_at  # sent when the last refusal was known; others give no new information
        among = self.beside_refused(sent_at, among)
        self.refusals.append((sent_at, now))
        if self.tried > 1 or self.proven:
            self.credit = max(-1.0, self.credit - 1)
        if news:
            alone = self.in_a_row > 0 and (self.source == "measured" or self.latency > FIRST_PROBE)
            self.too_many = not probe and self.crowded(among)
            row, self.cut_at, self.in_a_row = self.in_a_row, now, 0
            if self.too_many:
                clear = among <= CLEAR * (self.under_way + 1) and delay is None
                self.clear = self.too_many_at_once(among) or clear
                if self.clear:
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

    def crowded(self, among: int) -> bool:
        """Whether the number of running requests caused the refusal: fewer were never refused, and the rate is not
        used up.
        """
        if self.proven and 1 < among > CLEAR * self.met:
            self.proven = among > self.met  # a second one in a row disproves the ceiling
            return True
        paced = self.rate < math.inf and self.tokens < 1
        met = among <= self.ceiling < self.most and self.in_a_row < ENOUGH  # this number was granted a moment ago
        return among > 1 and not paced and not met and self.seen_from(among) < ENOUGH

    def too_many_at_once(self, among: int) -> bool:
        """Set the ceiling to one less than `among`. Returns whether a ceiling was known before."""
        known = self.ceiling < self.most
        self.ceiling = self.met = among - 1.0
        self.width = min(self.width, self.ceiling, math.inf if known else max(1.0, (self.under_way + 1) / 2))
        self.grants = [count / 2 for count in self.grants]
        return known

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

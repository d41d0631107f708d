"""The algorithm of the rate limiter: it measures a limit from responses, and computes when to send the next request.

`RateControl` only computes; it does not wait. A refusal is a 429, or a 503 with Retry-After. A grant is any other
response below 500. A hold is a time in which only probes are sent. A probe is a single test request. The rules:

1. There is no limit until a request is refused, or the headers say that no requests remain.
2. Silence is a grant. Servers refuse quickly. So a request without a response for three times the duration of a refusal
   was granted, and a limit is found as quickly if responses take long. Processes that share a limit learn of each
   other's refusals late, so there silence says nothing, and `high` is at most a tenth above the measured rate.
3. A refusal starts a hold. The first probe is sent after 10 ms, and the gaps between probes grow. A grant ends the
   hold. If no rate is known, the search for it begins: the pace doubles with each grant of a request that was sent
   after it doubled the last time.
4. A refusal means that the server's token bucket is empty. The rate of the server is then between two bounds. `low` is
   the number of grants since an earlier refusal, divided by the time. `high` is the pace that was refused. After less
   than four grants, it is 1 divided by the time since the request before, but at least 70 % of its last value, because
   another client may have taken the token. The pace is the geometric mean of both. Each grant raises `low`, so the pace
   approaches `high`. `high` rises with time, if it does not cost more than one refusal in 20 grants. It rises faster if
   it is low, so of two clients that share a limit, the slower one reaches its part. It also rises faster after many
   grants in a row. The rate of a bucket is found as in a bisection, and the pace stays close to it and follows it. A
   copy of the bucket is kept here. It is empty at a refusal, and each request takes a token. A single refusal then
   starts no hold.
5. A hold in which two probes were refused is the end of a window. Its tokens may all be used after it, because the next
   window grants them at once. After as many grants as in the last window, few requests run at once. If two windows in a
   row granted the same number, the next one does too. If it is large, that many are sent without a pace. If it is
   small, each refusal matters: after that many grants a refusal is the end of the window, and the first probe is sent
   when the next one opens.
6. If a request was refused while more requests were running than were ever granted at once, the limit may be one of
   concurrent requests. The ceiling is one less than the number of running requests. If several were refused together,
   the first one counts. Below a ceiling, requests are spaced evenly. A test shows if it is true: one request more, 10
   ms after the last one, or shortly before the next response. If it is granted, or if the ceiling rises by more than
   one, or if a request is refused with clearly fewer running requests, it was a bucket. After 12 grants in a row a
   ceiling is confirmed. It rises after 12 times the latency, or after 3 times if the test was never refused. At its
   next refusal it is lowered to 60 %, and soon rises again, so that another client can reach its share.
7. If the headers give the remaining requests of a window, they are used up, and then the client waits for the reset.
   Then at most as many run at once as the last window allowed, until a response says what remains. If fewer remain than
   this client's requests explain, other clients share the window. If the reset is later after each request, it is the
   time when a bucket is full: then the headers are not used.
"""

import math

from evals_async._transport.limit_state import FIRST_GAP, SAVED, SLACK, LimitState


LAST_GAP = 5.0  # the longest gap between probes in seconds
SILENT = 3  # times the duration of a refusal: a request without a response for longer was not refused
JITTER = 0.001  # seconds that refusals differ in duration
SLOWER = 1.3  # factor between the gaps of probes; it limits the delay until the end of a hold is found
PROBE_LATE = 1.0  # seconds; a probe that is later than planned by more had no call to be sent for
FASTER = 2.0  # factor of the pace in a search
FASTEST = 10_000.0  # requests per second: there is no limit in practice
ENOUGH = 4  # grants that a measurement needs
UNTRIED = 3  # latencies before a higher ceiling, if no request more than the ceiling was refused
AFTER = 0.75  # fraction of the time between two responses, after which a ceiling is tested
QUIET = 12  # grants in a row that confirm a ceiling or let `high` rise faster; latencies before a higher ceiling
CALM = 20  # grants in a row after which `high` rises whatever it costs
QUIET_TIME = 0.5  # seconds before `high` rises if the rate was not measured: the pace may be far too low
SOONER = 3.0  # how many times as fast it then rises, for each second since the refusal
LEFT = 0.7  # fraction of `high` that is left at least if the rate was not measured
EARNED = 0.045  # refusals that each grant allows; this keeps the requests per call below 1.1
MORE = 0.25  # fraction of `high` that is added in each second
ALIKE = 100.0  # requests per second; below that, up to 1.3 times as much is added, and above it down to 0.7 times
SOON = 0.25  # seconds after a refusal; later, `high` rises up to three times as fast
MOST = 0.5  # fraction of `high` that a single grant may add
BACK = 0.5  # what each grant adds to a ceiling below its last one
FEW = 4  # running requests at the end of a window; more before and after it
CLEAR = 0.75  # fraction of a ceiling: fewer running requests are clearly below it
OFTEN = 8  # grants with a number of running requests that show that it is allowed


class RateControl(LimitState):
    """The algorithm above. It decides when the next request may be sent, and what responses change."""

    def next_turn(self, now: float) -> float:
        """Return the time when the next request may be sent, or when to ask again. It is `inf` if a response must
        arrive first.
        """
        if self.untouched and self.under_way < int(self.width) and self.last_grant > self.reset_at:  # the usual case
            return now
        self.listen(now, now - self.silence)
        at = self.turn(now)
        if at == math.inf and self.unanswered and self.silence < math.inf:
            silent_at = self.unanswered[0].at + self.silence
            return max(now + JITTER / 10, silent_at)  # later than now, also if both are equal after rounding
        if now < at < math.inf:
            self.asked_at = at
        return at

    def turn(self, now: float) -> float:
        """Return the time when the next request may be sent, from what is known now."""
        if self.under_way >= int(self.width):
            return math.inf
        if self.told(now) and self.under_way * max(1.0, self.shared) >= self.left:
            return self.reset_at
        if self.last_grant < self.reset_at <= now and self.under_way >= self.at_reset:
            return math.inf
        if self.under_way >= int(self.ceiling):
            return self.ceiling_test(now)
        if self.held():
            return max(now, self.probe_at)
        if self.told(now):
            return now
        if self.under_way >= FEW + abs(self.last_run - self.run):
            return math.inf
        return self.paced(now)

    def ceiling_test(self, now: float) -> float:
        """Return the time of a request that tests a ceiling: a bucket has a token until then, and no request ends."""
        if self.proven or self.under_way > int(self.ceiling) or (self.tried and not self.latency):
            return math.inf
        return max(now, max(self.cut_at, self.sent_at) + max(self.first_gap, AFTER * self.quickest / int(self.ceiling)))

    def paced(self, now: float) -> float:
        """Return the time of the next request below a ceiling, or with the next token of the bucket."""
        at = max(now, self.spaced_until) if self.ceiling < self.most else now
        if self.rate < math.inf:
            self.fill(now)
            at = max(at, now + (1 - self.tokens) / self.rate)
            if at > now:  # timers are late: ask them earlier, and do not wait again for a shorter time
                early = min(self.late, SLACK)
                return now if at - now <= early else at - early
        return at

    def listen(self, now: float, before: float) -> None:
        """Count requests that were sent before that time as granted, because they were not refused until now."""
        while self.unanswered and self.unanswered[0].at < before:
            sent = self.unanswered.popleft()
            self.grant(now, sent.at, sent.among)

    def granted(self, now: float, sent_at: float, among: int) -> None:
        """Observe a grant. Its request was sent at `sent_at`, with `among` running requests."""
        took, quickest = now - sent_at, 1.02 * self.quickest
        self.latency += (took - self.latency) / 8 if self.latency else took
        self.quickest = quickest if 0 < quickest < took else took
        if self.untouched:  # the usual case
            self.grants[min(among, self.most)] += 1
            self.run += 1
            self.last_grant = max(self.last_grant, sent_at)
        elif not self.prompt or self.answered(sent_at) or sent_at <= self.tracked_from:
            self.grant(now, sent_at, among)

    def grant(self, now: float, sent_at: float, among: int) -> None:
        """Apply a grant to what is known about the limit."""
        among = self.beside_refused(sent_at, among)
        self.grants[min(among, self.most)] += 1
        if sent_at > self.begin:
            self.counted += 1
        elif sent_at > self.measured_from:  # its response was late
            self.measured += 1
            self.low = max(self.low, self.measured / max(self.begin - self.measured_from, 1 / FASTEST))
        apart, self.last_grant = sent_at - self.last_grant, max(self.last_grant, sent_at)
        if sent_at <= self.cut_at:  # older grants say nothing about the current limit
            if self.held():  # they belong to the window that has ended
                self.run += 1
            return
        tested = among > self.ceiling and not self.proven
        if tested or among > self.tuning.above * self.met + 1:
            self.give_up_ceiling(now, tested=tested)
        if self.held() and sent_at > self.refused_at:
            self.end_hold(now, sent_at)
        self.granted_at = max(self.granted_at, sent_at)
        self.in_a_row += 1
        self.run += 1
        self.credit = min(SAVED, self.credit + EARNED)
        if self.ceiling < self.most:
            self.raise_ceiling(sent_at)
        if self.pace < math.inf:
            self.fill(now)
            self.raise_pace(now, sent_at, apart)

    def raise_ceiling(self, sent_at: float) -> None:
        """Raise the ceiling after a grant: soon to its last value, and slowly above."""
        self.proven = self.proven or self.in_a_row >= QUIET
        over = (sent_at - self.cut_at) / max(self.latency, JITTER) - (QUIET if self.tried else UNTRIED)
        if over > 0 and self.proven:
            self.ceiling = min(float(self.most), self.ceiling + (1 + over / 2) / self.ceiling)
        elif self.ceiling < self.met:
            self.ceiling = min(self.met, self.ceiling + BACK)

    def raise_pace(self, now: float, sent_at: float, apart: float) -> None:
        """Raise the pace after a grant. Its request was sent `apart` seconds after the last one."""
        if self.searching:
            if sent_at > self.raised_at:
                self.pace, self.raised_at = min(FASTER * self.pace, FASTEST), now
            return
        if self.counted >= ENOUGH and sent_at > self.begin:
            self.low = max(self.low, (self.counted - 1) / (sent_at - self.begin))
        if self.brief and self.begin < math.inf and sent_at > self.cut_at + QUIET_TIME:
            self.high *= 1 + min(1.0, max(0.0, apart) * max(1.0, SOONER * (sent_at - self.cut_at)))
        elif self.credit >= 1 or self.in_a_row > CALM:
            risen = self.in_a_row / QUIET * max(1.0, self.in_a_row / self.tuning.many) ** 2
            faster = max(1.0, risen, min(3.0, (sent_at - self.cut_at) / SOON))
            faster *= min(1.3, max(0.7, ALIKE / self.high))
            self.high *= 1 + min(MOST, max(0.0, MORE * apart) * faster)
            if self.source == "given" and self.in_a_row > QUIET:  # the rate at the start; now it is higher
                self.source, self.since = "unknown", now
        self.pace = min(math.sqrt(self.low * self.high), FASTEST)

    def search(self, now: float, pace: float = 0.0) -> None:
        """Begin to search for the rate. Without a pace it begins with four requests between two probes."""
        self.pace, self.searching, self.raised_at = pace or max(self.tuning.search, 4 / self.gap), True, now
        self.tokens, self.filled = 0.0, now

    def give_up_ceiling(self, now: float, *, tested: bool) -> None:
        """A request was granted that the ceiling forbids: search for a rate instead."""
        self.search(now, 1 / FIRST_GAP if tested or not self.latency else self.ceiling / self.latency)
        self.ceiling = self.met = float(self.most)
        self.proven = False

    def refused(self, now: float, sent_at: float, among: int, delay: float | None) -> None:
        """Observe a refusal with a delay from the server. Its request was sent at `sent_at`, with `among` running
        requests.
        """
        if self.untouched:
            self.untouched, self.tracked_from = False, now
        sent = self.answered(sent_at)
        if self.prompt:
            before = 0.9 * self.silence if self.silence < math.inf else 0.0
            self.silence = max(SILENT * (now - sent_at) + JITTER, before)
            self.listen(now, sent_at)
        among = self.beside_refused(sent_at, among)
        self.refusals.append((sent_at, now))
        if sent_at > self.cut_at:
            self.news(now, sent_at, among, delay, max(self.last_grant, sent.before if sent else -math.inf))
            return
        if self.too_many and 1 < among <= self.ceiling:  # of requests that were refused together, the first one counts
            self.ceiling = self.met = among - 1.0
        if self.held() or (self.prompt and not self.too_many):
            self.hold(now, sent_at, delay, probe=self.held(), news=False)

    def news(self, now: float, sent_at: float, among: int, delay: float | None, before: float) -> None:
        """Handle the refusal of a request that was sent when the last refusal was known. The request before it was sent
        at the time `before`.
        """
        probe = self.held()
        row, self.in_a_row, self.cut_at = self.in_a_row, 0, now
        if self.pace < math.inf:
            self.credit = max(-1.0, self.credit - 1)
        if among > self.ceiling and not self.proven:  # the test of a ceiling
            self.too_many = self.tried = True
            self.proven = self.latency > 0
            if probe:
                self.hold(now, sent_at, delay, probe=True, news=True)
            return
        self.too_many = not probe and self.crowded(among, row)
        if self.too_many:
            known = self.ceiling < self.most
            self.lower_ceiling(sent_at, among - 1.0, known=known)
            alone = known or delay is None
        else:
            self.empty(now, sent_at, before, row)
            # The copy of the bucket delays the next request, but at the end of a window all must wait.
            alone = self.pace < math.inf and row > 0 and not self.used_up
        if not alone:
            self.hold(now, sent_at, delay, probe=probe, news=True)
            if not self.held() and self.pace == math.inf and self.ceiling == self.most:
                self.search(now)  # there is no hold to end, because grants arrive sooner than refusals

    def crowded(self, among: int, row: int) -> bool:
        """Whether the number of running requests caused the refusal, after so many grants in a row."""
        if self.proven and 1 < among > CLEAR * self.met:
            self.proven = among > self.met  # a second one in a row disproves the ceiling
            return True
        met = among <= self.ceiling < self.most and row < OFTEN  # this number was granted a moment ago
        return among > 1 and self.pace == math.inf and not met and self.seen_from(among) < OFTEN

    def lower_ceiling(self, sent_at: float, met: float, *, known: bool) -> None:
        """Set the ceiling after a refusal."""
        self.met = met
        self.tried = known
        self.ceiling = max(1.0, self.tuning.less * met) if known else met
        self.begin, self.counted = sent_at, 0
        self.grants = [count / 2 for count in self.grants]

    def empty(self, now: float, sent_at: float, before: float, row: int) -> None:
        """Handle a refusal because of an empty bucket, after so many grants in a row."""
        self.ceiling = float(self.most)
        if self.begin == math.inf:
            self.begin, self.counted = sent_at, 0
        elif self.pace < math.inf:
            if row > 0:
                self.measure(sent_at)
            if self.brief:
                self.high = min(self.high, max(LEFT * self.high, 1 / max(sent_at - before, 1 / FASTEST)))
                if self.high < self.low:
                    self.low = self.high / 2
            self.pace = math.sqrt(self.low * self.high)
            if self.source != "measured":
                self.source, self.since = "measured", now
        self.fill(now)
        self.tokens = min(self.tokens, 0.0)
        self.grants = [count / 2 for count in self.grants]

    def measure(self, sent_at: float) -> None:
        """Compute the bounds of the rate from the counted grants."""
        self.brief = self.counted < ENOUGH
        if not self.brief or self.searching:
            rate = self.counted / max(sent_at - self.begin, 1 / FASTEST)
            self.low = self.tuning.cut * rate if self.counted > 1 else self.pace / 4
            self.high = max(self.low, min(self.pace, self.tuning.surplus * self.low))
        if not self.brief:
            self.measured_from, self.measured = self.begin, self.counted
            self.begin, self.counted = sent_at, 0
        self.searching = False

    def hold(self, now: float, sent_at: float, delay: float | None, *, probe: bool, news: bool) -> None:
        """Start a hold, or continue it."""
        ends = math.inf if delay is None else now + delay
        if not probe:
            self.held_from, self.held_until, self.probes = now, ends, 0
            opens = self.next_window(now)
            self.awaited = opens < math.inf
            self.gap = max(self.first_gap, self.unsure / 2 if self.awaited else self.expected / 8)
            self.probe_at = opens if self.awaited else now + self.gap
        elif news:
            self.held_until = min(self.held_until, ends)  # delays are rounded up: the earliest end is the best estimate
            self.gap, self.probes = min(SLOWER * self.gap, LAST_GAP), self.probes + 1
            self.probe_at = now + self.gap
        else:
            self.held_until = max(self.held_until, ends)
        if not probe or news:
            self.probe_at = min(self.probe_at, max(ends, now + self.gap / 8))
        self.refused_at = max(self.refused_at, sent_at)

    def end_hold(self, now: float, sent_at: float) -> None:
        """End a hold: a request that was sent after the refused ones was granted."""
        self.fill(now)
        # Without calls there are no probes, so nobody knows when the limit allowed requests again.
        told_end = self.held_until if self.held_until < math.inf else self.cut_at
        probed = self.awaited or sent_at <= max(told_end, self.cut_at + 2 * self.gap) + PROBE_LATE
        if probed:
            self.expected = sent_at - self.held_from
        ended = probed and self.window_ended
        if ended:
            unsure = self.unsure / 2 if self.awaited and not self.probes else sent_at - self.refused_at
            self.open_window(sent_at, self.expected, unsure)
        self.count_grants(ended=ended)
        if self.large:  # the next window allows as many
            self.tokens = max(self.tokens, self.last_run)
        self.probes = 0
        if (self.pace == math.inf or (ended and self.brief)) and self.ceiling == self.most:
            self.search(now)

"""What answers say about a limit, and when the next request may go: `RateControl`. Arithmetic only, no waiting.

A refusal is a 429, or a 503 with Retry-After. A grant is any other answer below 500. The law:

1. Nothing is limited until something is refused, or the server tells that nothing remains.
2. A refusal holds everyone: as long as the server asks, or until a probe is granted. Probes are single requests, first
   after 50 ms, then further and further apart; later ones begin where the last hold ended. A grant to what was sent
   after the refused request ends the hold. Then half of what was under way may go at once, and more with each grant.
3. A refusal of what was sent beside more requests than were ever granted at once is a limit of how many at once: one
   fewer is the ceiling; of those refused together, the one sent first tells it. Below a ceiling requests follow each
   other evenly: so a bucket that keeps a single token grants them, and the ceiling rises. A refusal below it says that
   it was none.
4. Any other refusal says that the server's bucket was empty. What is granted between two of them, divided by the time
   in which somebody asked, is the rate at which it fills: of a bucket and of a window alike. From then on a copy of
   the bucket is kept here, empty at a refusal, and each request takes a token out. A refusal then holds nobody, if it
   is a single one. Fewer than eight grants measure nothing: then half as many go at once, and the rate is cut, to a
   half at most.
5. A hold in which a probe was refused is the end of a window. In the next one few go at once where the last one ended,
   and more and more before and after.
6. More is always tried: of the rate a tenth in each round trip, whatever it is, so that of two clients who share a
   limit the one with less catches up; of the ceiling one. What is tried may cost one refusal in 25 grants. A rate that
   grew when it was refused begins between its mean and its end: the mean counts the time when it was too low.
7. What remains of a window that the server tells is spent, and then its reset is waited for. If less remains than the
   own requests explain, others share it, and near its end fewer go at once.
"""

import math
from collections import deque
from typing import Literal


# Holds
FIRST_PROBE = 0.05  # seconds after a refusal: a bucket of 20 a second has a token by then
SLOWER = 1.5  # times the gap before, from probe to probe: the end of a limit is noticed that much too late at most
LAST_PROBE = 5.0  # seconds between probes: that a limit has ended is noticed so late at most
SURE = 0.95  # of the time that the last hold lasted, when a probe found its end: the next one is probed then
# Measuring
ENOUGH = 8  # grants: a rate that is counted between two refusals is then right within an eighth
IDLE = 0.1  # seconds without a request that are no part of a measurement
SMOOTH = 16  # answers of which an average is kept
# Trying for more
EARNED = 0.04  # refusals that a grant allows: with the first ones, fewer than 1.1 requests a call
SAVED = 5.0  # refusals that may be spent at once
QUIET = 16  # grants in a row after which more is tried
BACK = 0.95  # of what was measured is where more is tried from: who has less catches up
MORE = 0.1  # of the rate is tried in addition in each round trip
# How many at once
FEW = 4  # under way where the last window ended; more, the further from there
CLEAR = 0.75  # of what was under way is a ceiling that need not be doubted
SPACED = 0.8  # of the time that so many under way leave between two: bursts are no test of how many there may be
EVEN = 1.02  # times that time: so a bucket has a token for each, if its rate allows so many
# Timers
LATE = 0.004  # seconds that a timer, or the process, may be late: what was to be sent meanwhile follows at once
SLACK = LATE / 2  # seconds of requests that a bucket's copy makes up for, when timers ring late

RateSource = Literal["unknown", "given", "told", "measured"]


class RateControl:
    """The law above. Times are seconds of one clock; `most` requests may be under way at all."""

    def __init__(
        self, most: int, now: float, *, start_rate: float | None = None, max_rate: float | None = None
    ) -> None:
        self.most = most
        self.max_rate = math.inf if max_rate is None else max_rate
        self.under_way = 0
        self.width = float(most)  # how many may be under way now
        self.ceiling = float(most)  # how many may ever be
        self.met = float(most)  # where the ceiling was met last
        self.measured = math.inf if start_rate is None else start_rate  # what was counted between two refusals
        self.tried = 1.0  # times what was measured
        self.tokens = 1.0
        self.filled = now
        self.source: RateSource = "unknown" if self.rate == math.inf else "given"
        self.since = now
        self.untouched = self.rate == math.inf  # nothing was refused so far: there is nothing to keep to
        self.refused_at = -math.inf  # when the latest of what was refused was sent
        self.granted_at = -math.inf
        self.cut_at = -math.inf
        self.held_until = -math.inf
        self.held_from = -math.inf
        self.expected = 0.0  # seconds that a hold lasts
        self.probe_at = math.inf
        self.gap = FIRST_PROBE
        self.begin = math.inf  # when the refused request was sent from which grants are counted
        self.end = math.inf  # when the refused one was sent up to which they are
        self.counted = 0  # what was sent between them and granted
        self.after = 0  # and what was sent later
        self.in_a_row = 0
        self.run = 0  # grants since the last hold
        self.last_run = math.inf  # and between the two holds before, if the last one was real
        self.credit = SAVED
        self.too_many = False  # the latest refusal was the ceiling's
        self.clear = False  # many more than the ceiling were under way
        self.proven = False  # the ceiling is right
        self.refusals: deque[tuple[float, float]] = deque(maxlen=4 * most)  # the latest: when sent, when answered
        self.grants = [0.0] * (most + 2)  # lately, by how many were under way
        self.left = 0  # in a window that the server tells
        self.left_at = -math.inf
        self.shared = 1.0  # requests, of others too, that each answer tells of
        self.reset_at = -math.inf
        self.spaced_until = -math.inf
        self.released_at = now
        self.latency = 0.0
        self.quickest = 0.0  # latency lately: those that a connection, or this process, delays are no measure

    @property
    def rate(self) -> float:
        """Requests a second, `inf` if nothing is known."""
        return min(self.max_rate, self.measured * self.tried)

    def held(self, now: float) -> bool:
        return self.refused_at > self.granted_at and now < self.held_until

    def told_hold(self, now: float) -> float:
        """Seconds that everyone is held by the server's word, or 0."""
        held = now
        if self.held(now) and self.held_until < math.inf and not self.known:
            held = self.held_until
        if self.left == 0 and self.told(now):
            held = max(held, self.reset_at)
        return held - now

    def next_turn(self, now: float) -> float:
        """When the next request may go: now, later, or `inf` if something must be answered first."""
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
        """Put the tokens in that came since the last time. Without a rate there are none."""
        if self.rate < math.inf:
            full = math.inf if self.held(now) else max(self.tokens, 1 + SLACK * self.rate)
            self.tokens = min(self.tokens + (now - self.filled) * self.rate, full)
        self.filled = now

    def take(self, now: float, *, waited: bool = False) -> int:
        """Send one, for which somebody waited or not: how many are under way with it."""
        self.under_way += 1
        if self.untouched:
            return self.under_way
        if self.under_way == 1 and not waited and now - self.released_at > IDLE:  # nobody asked for anything
            self.begin += now - self.released_at
            self.end += now - self.released_at
        self.space(now)
        if self.rate < math.inf:
            self.fill(now)
            self.tokens -= 1
        if self.held(now):
            self.probe_at = now + max(1.0, 2 * self.gap)  # unless it is answered before
        return self.under_way

    def space(self, now: float) -> None:
        """Let the next one go some time after this one, if there is a ceiling."""
        apart, late = EVEN * self.latency / int(self.width), min(LATE, now - self.released_at)
        if apart < LATE:  # no timer keeps that
            apart = SPACED * self.quickest / int(self.width)
            late = min(LATE, SPACED * self.quickest / ENOUGH) if self.proven else 0.0
        self.spaced_until = max(self.spaced_until, now - late) + apart

    def give(self, now: float) -> None:
        """One is over, however it ended."""
        self.under_way -= 1
        self.released_at = now

    def granted(self, now: float, sent_at: float, among: int) -> None:
        """What was sent then, when so many were under way, was granted."""
        took, quickest = now - sent_at, 1.02 * self.quickest
        if not self.untouched:
            among = self.beside_refused(sent_at, among)
        self.grants[min(among, self.most)] += 1
        self.run += 1
        self.latency += (took - self.latency) / 8 if self.latency else took
        self.quickest = quickest if 0 < quickest < took else took
        if self.untouched:  # nearly always
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
        if sent_at > self.cut_at:  # or else it says nothing of what is allowed now
            self.in_a_row += 1
            self.gap = FIRST_PROBE
            self.proven = self.ceiling < self.most and (self.proven or self.in_a_row >= QUIET)
            self.width = min(self.ceiling, self.width + 1)
            if self.credit >= 1:
                self.try_more(now)

    def end_hold(self, sent_at: float) -> None:
        """What was sent then, after the refused ones, was granted."""
        lasted = sent_at - self.held_from
        window = self.left_at == -math.inf and max(self.gap, self.expected) > FIRST_PROBE
        self.last_run, self.run = (self.run if window else math.inf), 0
        self.expected = lasted / 2 if self.gap == FIRST_PROBE else SURE * lasted

    def try_more(self, now: float) -> None:
        """Raise ceiling and rate a little, the more, the longer nothing was refused."""
        over = (self.in_a_row - QUIET) / self.ceiling
        if over > 0:
            self.ceiling = min(float(self.most), self.ceiling + (1 + over / 2) / self.ceiling)
        if self.rate < math.inf:
            self.fill(now)
            self.tried *= 1 + MORE * min(1.0, self.in_a_row / QUIET) / max(1.0, self.rate * self.latency)

    @property
    def known(self) -> bool:
        """It is known what is allowed, whatever delay single answers ask for."""
        return self.source == "measured" or (self.ceiling < self.most and self.proven)

    def understood(self, now: float) -> bool:
        """It is known when a refused call may go, whatever delay its answer asks for."""
        return self.known or (self.left == 0 and self.told(now))

    def beside_refused(self, sent_at: float, among: int) -> int:
        """How many were under way at the server: without those that it had refused already."""
        for sent, answered in reversed(self.refusals):
            if answered <= sent_at:
                break
            among -= sent < sent_at
        return max(among, 1)

    def seen_from(self, among: int) -> float:
        """How many were granted lately while at least so many were under way."""
        return sum(self.grants[among:])

    def refused(self, now: float, sent_at: float, among: int, delay: float | None) -> None:
        """What was sent then, when so many were under way, was refused, and the server asks for that delay."""
        self.untouched = False
        probe = self.held(sent_at)
        news = sent_at > self.cut_at  # or else it was sent before the last refusal was known, and says the same
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
                    return  # the others go on, at the rate that is known
        elif self.too_many:
            if 1 < among <= self.ceiling:  # of those refused together, the first one sent tells how many
                self.ceiling = self.met = among - 1.0
                self.width = min(self.width, self.ceiling)
            if self.clear:
                return
        self.hold(now, sent_at, delay, probe=probe, news=news)

    def too_many_at_once(self, among: int) -> bool:
        """One fewer is the ceiling: was another one known?"""
        known = self.ceiling < self.most
        self.ceiling = self.met = among - 1.0
        self.width = min(self.width, self.ceiling, math.inf if known else max(1.0, (self.under_way + 1) / 2))
        self.grants = [count / 2 for count in self.grants]
        return known

    def hold(self, now: float, sent_at: float, delay: float | None, *, probe: bool, news: bool) -> None:
        """Let nobody go but probes."""
        ends = math.inf if delay is None else now + delay
        if not self.held(now):
            self.held_from = now
            self.held_until = ends
            self.probe_at = now + max(FIRST_PROBE, self.expected)
        elif probe:
            self.held_until = min(self.held_until, ends)  # delays are rounded up: the earliest end is the best known
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
        """Was it refused because so many were under way? Fewer never met a refusal, and no rate is at its end."""
        paced = self.rate < math.inf and self.tokens < 1
        if self.proven and among > self.met:
            return True
        met = among <= self.ceiling < self.most and self.in_a_row < ENOUGH  # so many were few enough a moment ago
        return among > 1 and not paced and not met and self.seen_from(among) < ENOUGH

    def empty(self, now: float, sent_at: float, row: int) -> None:
        """The server's bucket was empty when that was sent, after so many grants in a row."""
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
        """Take what was counted for the rate, if it is enough."""
        if self.counted < ENOUGH:
            return
        self.fill(now)
        if self.counted == ENOUGH:
            self.tried = BACK
        self.measured = self.counted / (self.end - self.begin)
        if self.source != "measured":
            self.source, self.since = "measured", now

    def told(self, now: float) -> bool:
        """The server tells what remains of a window, and the window is not over."""
        return now < self.reset_at

    def tell(self, now: float, sent_at: float, left: int, reset: float) -> None:
        """An answer to what was sent then tells how many more are granted in the next seconds."""
        if sent_at < self.left_at and now < self.reset_at:
            return
        if self.told(now) and 0 < left < self.left:
            self.shared += (self.left - left - self.shared) / SMOOTH
        self.left, self.left_at, self.reset_at = left, sent_at, now + reset

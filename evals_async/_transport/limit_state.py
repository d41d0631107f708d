"""What the rate limiter knows about a server, and how it is kept: `LimitState`. The algorithm is in `rate_control`."""

import math
from collections import deque
from typing import Literal, NamedTuple

from evals_async._transport.windows import Windows


FIRST_GAP = 0.01  # seconds between the first refusal and the first probe; then the gaps between probes grow
IDLE = 0.1  # seconds without a waiting request that a measurement leaves out
SAVED = 5.0  # the credit at most
SMOOTH = 16  # responses in a moving average
SPACED = 0.8  # fraction of the even gap between requests that is kept, because bursts cannot test a ceiling
EVEN = 1.02  # factor of the even gap, so that a bucket has a token for each request if its rate is high enough
LATE = 0.004  # seconds that a timer or the process may be late; requests of this time are sent at once
SLACK = LATE / 2  # seconds of requests that the copy of the bucket allows after a late timer
SURE = 3  # responses in a row with a later reset that show that it is the time when a bucket is full

RateSource = Literal["unknown", "given", "told", "measured"]


class Tuning(NamedTuple):
    """The constants that depend on how soon responses are observed."""

    least_gap: float  # seconds between a refusal and the first probe, at least
    search: float  # requests per second at the start of a search, at least
    cut: float  # factor of the measured rate for `low`
    surplus: float  # factor of the measured rate for `high`, at most
    less: float  # factor of a known ceiling at a refusal
    many: float  # grants in a row that show that the limit has risen: `high` rises with the cube of their number
    above: float  # factor of a ceiling: a grant with more than one request above that shows that there is none


# `cut` and `less` let another client reach its share.
PROMPT = Tuning(least_gap=0.0, search=1 / FIRST_GAP, cut=0.9, surplus=math.inf, less=0.6, many=60, above=1.0)
# Processes that share a limit observe the responses of the others late, so they look as if they came out of order. They
# have equal parts of the limit, so nothing is left for others.
LATE_NEWS = Tuning(least_gap=0.05, search=0.0, cut=1.0, surplus=1.1, less=1.0, many=math.inf, above=2.0)


class Sent(NamedTuple):
    """A request without a response: when it was sent, with how many running requests, and when the one before it."""

    at: float
    among: int
    before: float


class LimitState(Windows):
    """The measurements, holds and headers of one limit. Times are seconds of one clock. At most `most` requests run at
    once.
    """

    under_way = 0
    proven = False  # the ceiling is confirmed
    tried = False  # one request more than the ceiling was refused
    too_many = False  # the last refusal was because of the ceiling
    searching = False  # the pace grows until a request is refused
    raised_at = -math.inf  # when a search raised the pace
    begin = math.inf  # when the refused request was sent since which grants are counted
    counted = 0  # granted requests that were sent since then
    measured_from = math.inf  # the same for the last measurement
    measured = 0
    brief = True  # they were too few to measure a rate
    credit = SAVED  # refusals that a rising pace may cost
    tokens = 1.0  # of the copy of the server's bucket
    refused_at = -math.inf  # when the last refused request was sent
    granted_at = -math.inf  # when the last granted request was sent after the news of a refusal
    cut_at = -math.inf  # when the last news of a refusal came
    held_from = -math.inf
    held_until = -math.inf  # the end of the hold that the server requested
    expected = 0.0  # the duration of the last hold in seconds
    probe_at = math.inf
    gap = FIRST_GAP  # seconds between two probes
    probes = 0  # refused probes of the current hold
    in_a_row = 0  # grants since the last refusal
    sent_at = -math.inf
    asked_at = -math.inf  # when the first waiting request should be sent
    late = 0.0  # mean delay of timers in seconds
    tracked_from = -math.inf  # requests that were sent later are in `unanswered` until their response
    prompt = True  # responses are observed as soon as they arrive; those of other processes are not
    silence = math.inf  # seconds without a response after which a request was not refused
    left = 0  # remaining requests of a window, from the headers
    left_at = -math.inf
    at_reset = 0  # requests that the window of the headers allowed at its start, as far as they said
    shared = 1.0  # requests of all clients per response, from the headers
    responses = 0  # with headers, since the last one whose request was sent later than those of all before
    reset = 0.0  # seconds from the response to the reset
    reset_at = -math.inf
    told_since = -math.inf
    later = 0  # responses in a row with a later reset and fewer remaining requests
    spaced_until = -math.inf
    latency: float = 0.0
    quickest: float = 0.0  # the shortest recent latency: without delays of a connection or of this process

    def __init__(
        self, most: int, now: float, *, start_rate: float | None = None, max_rate: float | None = None
    ) -> None:
        self.most = most
        self.width = float(most)  # how many requests may run at once; fewer at first if processes share a limit
        self.ceiling = float(most)  # the limit of running requests that the server has
        self.met = float(most)  # the ceiling at its last refusal
        self.max_rate = math.inf if max_rate is None else max_rate
        self.pace = math.inf if start_rate is None else start_rate  # requests per second
        self.low = self.high = self.pace  # the rate of the server is between them
        self.untouched = self.rate == math.inf  # no refusal so far, so there is no limit
        self.source: RateSource = "unknown" if self.untouched else "given"
        self.since = self.filled = self.released_at = now
        self.last_grant = now  # when the last granted request was sent
        self.unanswered: deque[Sent] = deque(maxlen=most)
        self.refusals: deque[tuple[float, float]] = deque(maxlen=4 * most)  # times of the last requests and responses
        self.grants = [0.0] * (most + 2)  # recent grants, by the number of running requests

    @property
    def rate(self) -> float:
        """The current rate in requests per second, or `inf` if there is none."""
        return min(self.max_rate, self.pace)

    @property
    def at_once(self) -> int:
        """How many requests may run at once."""
        return int(min(self.most, self.width, self.ceiling))

    @property
    def first_gap(self) -> float:
        """Return the seconds between a refusal and the first probe."""
        return max(self.tuning.least_gap, FIRST_GAP if self.pace == math.inf else 1 / self.pace)

    @property
    def tuning(self) -> Tuning:
        return PROMPT if self.prompt else LATE_NEWS

    @property
    def rate_source(self) -> RateSource:
        """Where the current rate comes from."""
        return "given" if self.max_rate < self.pace else self.source

    @property
    def window_ended(self) -> bool:
        """Whether the current hold is the end of a window."""
        return self.probes > 1 or self.awaited

    def held(self) -> bool:
        """Whether a request was refused, and none that was sent later was granted."""
        return self.refused_at > self.granted_at

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
        """Return the seconds until the end of a hold that the server requested, or 0 until a probe confirms it."""
        held = now
        if self.held() and self.probes and now < self.held_until < math.inf and not self.known:
            held = self.held_until
        if self.left == 0 and self.told(now):
            held = max(held, self.reset_at)
        return held - now

    def fill(self, now: float) -> None:
        """Add the tokens since the last call. Without a rate there are none."""
        if self.rate < math.inf:
            # In a hold of several probes, the window of the server has ended; the next one allows all of them at once.
            if self.held() and self.window_ended:
                full = max(self.tokens, self.run, 1.0)
                self.tokens = min(self.tokens + (now - self.filled) * min(self.low, self.rate), full)
            else:
                full = max(self.tokens, 1 + SLACK * self.rate)
                self.tokens = min(self.tokens + (now - self.filled) * self.rate, full)
        self.filled = now

    def take(self, now: float, *, waited: bool = False) -> int:
        """Take a permit for a request. `waited` says whether it had to wait. Returns the number of running requests."""
        self.under_way += 1
        if self.untouched:
            return self.under_way
        if self.under_way == 1 and not waited and now - self.released_at > IDLE:  # no request was waiting
            self.begin += now - self.released_at
        self.space(now)
        if self.rate < math.inf:
            if waited and self.asked_at < now < self.asked_at + IDLE:
                self.late += (now - self.asked_at - self.late) / SMOOTH
            self.fill(now)
            self.tokens -= 1
        if self.held():
            self.probe_at = now + max(1.0, 2 * self.gap)  # unless its response arrives before
        if self.prompt:
            self.unanswered.append(Sent(now, self.under_way, self.sent_at))
        self.sent_at = now
        return self.under_way

    def space(self, now: float) -> None:
        """Delay the next request for an even gap, if there is a ceiling."""
        apart, late = EVEN * self.latency / int(self.ceiling), min(LATE, now - self.released_at)
        if apart < LATE:  # shorter than the error of timers
            apart = SPACED * self.quickest / int(self.ceiling)
            late = min(LATE, SPACED * self.quickest / 8) if self.proven else 0.0
        self.spaced_until = max(self.spaced_until, now - late) + apart

    def give(self, now: float) -> None:
        """Release the permit of a request."""
        self.under_way = max(0, self.under_way - 1)  # a call of a closed event loop may end late
        self.released_at = now

    def answered(self, sent_at: float) -> Sent | None:
        """Remove the request that was sent at that time from those without a response, and return it."""
        found = None
        for sent in self.unanswered:
            if sent.at > sent_at:
                break
            found = sent
        if found is not None:
            self.unanswered.remove(found)
        return found

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

    def tell(self, now: float, sent_at: float, left: int, reset: float) -> None:
        """Observe headers: the remaining requests, and the seconds until the reset."""
        self.responses += 1
        if self.later >= SURE or (sent_at < self.left_at and now < self.reset_at):
            return
        if not self.told(now):
            self.told_since, self.at_reset = now, 0
        elif left < self.left:
            self.later = self.later + 1 if reset > self.reset else 0
            if left > 0:
                self.shared += (self.left - left - self.responses * self.shared) / max(SMOOTH, self.responses)
        self.responses = 0
        self.at_reset = max(self.at_reset, left + 1)
        self.left, self.left_at, self.reset, self.reset_at = left, sent_at, reset, now + reset
        if self.later >= SURE:  # the reset is the time when a bucket is full: do not wait for it
            self.left_at, self.reset_at, self.shared = -math.inf, -math.inf, 1.0

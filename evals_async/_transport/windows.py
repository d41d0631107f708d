"""What the rate limiter knows about the windows of a limit: `Windows`. The algorithm is in `rate_control`.

A server with windows grants a number of requests in each, and refuses all others until the next one opens.
"""

import math


LARGE = 64  # grants of a window: in a larger one, the pace costs more time than refusals; in a smaller one, less
LEAST = 8  # grants of a window; two smaller ones may be equal by chance
PRECISE = 1 / 32  # fraction of a window: when the next one opens is known well enough


class Windows:
    """How many requests the windows granted, and when the next one opens. Times are seconds of one clock."""

    run: float = 0  # grants since the last hold
    last_run = math.inf  # grants between the two previous holds, if the last one was the end of a window
    equal = False  # two windows in a row granted the same number
    opened = -math.inf  # when the current window opened, at the latest
    unsure = 0.0  # how many seconds earlier it may have opened
    period = math.inf  # seconds between the last two windows
    awaited = False  # the current hold lasts until the next window opens

    @property
    def used_up(self) -> bool:
        """Whether this window has granted as many requests as each of the last two, which were small."""
        return self.equal and LARGE > self.last_run <= self.run

    @property
    def large(self) -> bool:
        """Whether the last two windows granted the same large number."""
        return self.equal and self.last_run >= LARGE

    def next_window(self, now: float) -> float:
        """Return when to test if the next window has opened. This halves the time in which it may open."""
        return self.opened + self.period * math.ceil((now - self.opened) / self.period) - self.unsure / 2

    def open_window(self, sent_at: float, unsure: float) -> None:
        """Observe that a window opened: a request that was sent at that time was granted, and one that was sent so
        many seconds before was refused.
        """
        self.period, self.opened = sent_at - self.opened, sent_at
        self.unsure = unsure if unsure > PRECISE * self.period or self.period == math.inf else 0.0

    def count_grants(self, *, ended: bool) -> None:
        """Count the grants from now. `ended` says whether those until now were all of a window."""
        self.equal = ended and self.run >= LEAST and abs(self.run - self.last_run) <= 1
        self.last_run, self.run = (self.run if ended else math.inf), 0

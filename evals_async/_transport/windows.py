"""What the rate limiter knows about the windows of a limit: `Windows`. The algorithm is in `rate_control`.

A server with windows grants a number of requests in each, and refuses all others until the next one opens.
"""

import math


LARGE = 64  # grants of a window: in a larger one, the pace costs more time than refusals; in a smaller one, less
LEAST = 8  # grants of a window; two smaller ones may be equal by chance
LONGER = 1.5  # times the longest hold: there may have been a pause between the windows, so a longer one needs probes
PRECISE = 1 / 32  # fraction of a window: when the next one opens is known well enough


class Windows:
    """How many requests the windows granted, and when the next one opens. Times are seconds of one clock."""

    run: float = 0  # grants since the last hold
    last_run = math.inf  # grants between the two previous holds, if the last one was the end of a window
    equal = False  # two windows in a row granted the same number
    opened = -math.inf  # when the current window opened, at the latest
    unsure = 0.0  # how many seconds earlier it may have opened
    period = math.inf  # seconds between the last two windows
    longest = 0.0  # the longest hold in seconds since the windows are equal
    awaited = False  # the current hold lasts until the next window opens

    @property
    def used_up(self) -> bool:
        """Whether this window has granted as many requests as each of the last two, which were small."""
        return self.equal and self.last_run < LARGE and self.run >= self.last_run

    @property
    def large(self) -> bool:
        """Whether the last two windows granted the same large number."""
        return self.equal and self.last_run >= LARGE

    def next_window(self, now: float) -> float:
        """Return when to test if the next window has opened, or `inf` if that is not known. A test halves the time in
        which it may open.
        """
        if not self.used_up:
            return math.inf
        opens = self.opened + self.period * math.ceil((now - self.opened) / self.period) - self.unsure / 2
        return opens if opens <= now + LONGER * self.longest else math.inf

    def open_window(self, sent_at: float, hold: float, unsure: float) -> None:
        """Observe that a window opened after a hold of so many seconds: a request that was sent at that time was
        granted, and one that was sent `unsure` seconds before was refused.
        """
        self.period, self.opened = sent_at - self.opened, sent_at
        self.unsure = unsure if unsure > PRECISE * self.period or self.period == math.inf else 0.0
        self.longest = max(hold, self.longest if self.equal else 0.0)

    def count_grants(self, *, ended: bool) -> None:
        """Count the grants from now. `ended` says whether those until now were all of a window."""
        self.equal = ended and self.run >= LEAST and abs(self.run - self.last_run) <= 1
        self.last_run, self.run = (self.run if ended else math.inf), 0

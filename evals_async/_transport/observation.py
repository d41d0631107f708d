"""What one response says about a limit: `Observation`. Limiters make it, and `RateControl` learns from it."""

import attrs

from evals_async._transport.delays import rate_limits, server_delay, something_left
from evals_async._transport.messages import Response
from evals_async._transport.rate_control import RateControl


@attrs.frozen
class Observation:
    """The data about limits in one response. Its request was sent at `sent_at`, with `among` running requests."""

    sent_at: float
    among: int
    refused: bool = False
    granted: bool = False
    delay: float | None = None  # seconds to wait after a refusal, from the server
    limits: tuple[int, float] | None = None  # remaining requests, and seconds until the reset

    @classmethod
    def of(cls, response: Response, sent_at: float, among: int, max_hold: float, time: float) -> "Observation":
        """Make an observation from a response. `time` is in seconds since the epoch. Delays are at most `max_hold`
        seconds.
        """
        status = response.status
        delay = server_delay(response, time) if status in {429, 503} else None
        limits: tuple[int, float] | None = None
        told = None if something_left(response.headers) is None else rate_limits(response.headers)
        if told is not None:
            requests = told.requests
            if told.delay is not None:
                limits = (0, min(told.delay, max_hold))
                if delay is not None and told.delay < delay < told.delay + 1:
                    delay = told.delay  # the exact delay; Retry-After is rounded up to whole seconds
            elif requests.remaining is not None and requests.reset is not None:
                limits = (requests.remaining, min(requests.reset, max_hold))
        return cls(
            sent_at,
            among,
            status == 429 or delay is not None,
            status < 500 and status != 429,
            None if delay is None else min(delay, max_hold),
            limits,
        )

    def apply(self, control: RateControl, now: float) -> None:
        if self.limits is not None:
            control.tell(now, self.sent_at, *self.limits)
        if self.refused:
            control.refused(now, self.sent_at, self.among, self.delay)
        elif self.granted:
            control.granted(now, self.sent_at, self.among)

"""What an export would bring: counts and an estimate, from the listings of evals, runs and files alone.

Nothing is written.
"""

import attrs

from evals_async import merge
from evals_async.archive.export.fetching import Fetcher, first_timeouts
from evals_async.archive.export.outages import FIRST_ANSWER
from evals_async.archive.values import Selection
from evals_async.client import EvalsClient
from evals_async.models import EvalRun


PAGE = 100


@attrs.frozen(kw_only=True)
class Estimate:
    """Counts of what would be copied. `items` is the sum of what the runs count, `uncounted` the runs that do not say;
    `file_bytes` is what the listing of files tells. `requests` are those of a first export.
    """

    evals: int
    runs: int
    items: int
    uncounted: int
    files: int
    file_bytes: int
    requests: int
    seconds_per_request: float

    def seconds(self, concurrency: int) -> float:
        """About how long that would take, with so many listings at once, at the pace of the listings just read."""
        return self.requests * self.seconds_per_request / concurrency


async def estimate(
    client: EvalsClient, selection: Selection, *, concurrency: int, first_answer: float = FIRST_ANSWER
) -> Estimate:
    """Count what `selection` would bring. Raises what the client raises."""
    # A server that says nothing at all is found out by one request; what comes after it has the time of a copy.
    await client.with_options(timeout=first_timeouts(first_answer)).evals.list(limit=1)
    client = Fetcher.of(client, first_answer).slow
    began, before = client.clock.monotonic(), client.statistics().requests
    ids = list(selection.evals) or [each.id async for each in client.evals.list()]
    runs = items = uncounted = item_pages = 0

    async with merge(client.evals.runs.list, ids, concurrency=concurrency) as outcomes:
        async for outcome in outcomes:
            run: EvalRun = outcome.unwrap()
            runs += 1
            if not selection.items or (selection.since is not None and (run.created_at or 0) < selection.since):
                continue
            total = None if run.result_counts is None else run.result_counts.total
            uncounted += total is None
            items += total or 0
            item_pages += max(1, -(-(total or 0) // PAGE))
    files = file_bytes = 0
    if selection.files and not selection.narrow:
        async for file in client.files.list(purpose="evals"):
            files += 1
            file_bytes += file.bytes or 0
    seconds, requests = client.clock.monotonic() - began, client.statistics().requests - before
    return Estimate(
        evals=len(ids),
        runs=runs,
        items=items,
        uncounted=uncounted,
        files=files,
        file_bytes=file_bytes,
        requests=requests + item_pages + files,
        seconds_per_request=seconds / max(1, requests),
    )

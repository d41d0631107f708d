"""Estimate an export from the listings of evals, runs and files. Nothing is written."""

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
    """How much an export would copy.

    `items` is the sum of the counts of the runs; `uncounted` is the number of runs without a count. `file_bytes` is the
    sum of the sizes in the listing of files. `requests` is the number of requests of a first export.
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
        """Return about how many seconds the export takes, at the speed of the listings that were read.

        `concurrency` is the number of listings that are read at the same time.
        """
        return self.requests * self.seconds_per_request / concurrency


async def estimate(
    client: EvalsClient, selection: Selection, *, concurrency: int, first_answer: float = FIRST_ANSWER
) -> Estimate:
    """Count what an export of `selection` would copy. Raises the errors of the client."""
    # The first request shows whether the server responds. The requests after it have the longer timeouts of an export.
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

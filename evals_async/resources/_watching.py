"""Waiting for runs: how they are polled, and when they have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, TypedDict

from evals_async._concurrency.polling import Pace
from evals_async._paging.pages import Pager
from evals_async._transport.delays import poll_delay
from evals_async.errors import BodyTooLarge, RunFailed
from evals_async.models.runs import EvalRun
from evals_async.resources._caller import Caller
from evals_async.resources._many import ManyOptions
from evals_async.resources._requests import NO_OPTIONS, parameters, request
from evals_async.resources._run_keys import EVAL_OF_RUN, RUN, RUN_IDS, RUNS, RunKey, ids_of


if TYPE_CHECKING:
    from evals_async.models.params import RunStatus

logger = logging.getLogger("evals_async")

UNDER_WAY: tuple[RunStatus, ...] = ("queued", "in_progress")  # in the order in which a run has them
MOST_PAGES = 4  # pages of both listings together, for few runs; more pages would cost more than single reads
RUNS_PER_PAGE = 8  # for many runs: pages come one after another, so with fewer wanted runs in each they take longer


class WaitOptions(TypedDict, total=False):
    """The options of `wait`; see there."""

    timeout: float | None
    pace: Pace
    on_poll: Callable[[EvalRun], object] | None
    raise_on_failure: bool


class WaitManyOptions(WaitOptions, ManyOptions, total=False):
    """The options of `wait_many`; see there."""


class RunWatcher:
    """The functions with which `wait` and `wait_many` poll runs.

    An unknown status is logged once as a warning, and waiting continues.
    """

    def __init__(self, caller: Caller, raise_on_failure: bool) -> None:
        self.caller = caller
        self.raise_on_failure = raise_on_failure
        self.delays: dict[str, float | None] = {}
        self.logged: set[str] = set()

    async def look(self, run_id: RunKey, eval_id: str | None = None) -> EvalRun:
        ids = ids_of(run_id, eval_id)
        wanted = request("GET", RUN, "read", NO_OPTIONS, ids)
        fetching = self.caller.fetch(wanted, EvalRun, expected=(RUN_IDS, ids), share=True, final=is_terminal)
        run, response = await fetching
        self.delays[run.id] = None if response is None else poll_delay(response, self.caller.clock.time())
        return run

    async def survey(self, eval_id: Hashable, count: int) -> Mapping[str, EvalRun] | None:
        """Return the runs of an eval that are queued or in progress, by id.

        A run whose status changes between the two listings is in both, never in none. Returns `None` if the server
        ignores the parameter `status`, or if reading each of `count` runs is faster.
        """
        found: dict[str, EvalRun] = {}
        pages = 0
        for status in UNDER_WAY:
            wanted = request("GET", RUNS, "read", NO_OPTIONS, (eval_id,), query=parameters(status=status))
            fetch = self.caller.pages(wanted, EvalRun, expected=(EVAL_OF_RUN, (str(eval_id),)))
            seen = others = 0
            async for page in Pager(fetch, shrink=body_too_large).pages():
                pages += 1
                seen += len(page)
                others += sum(run.status != status for run in page)
                if 2 * others > seen or pages > max(MOST_PAGES, count // RUNS_PER_PAGE):
                    return None
                found |= {run.id: run for run in page if run.status == status}
        return found

    def delay(self, run: EvalRun) -> float | None:
        return self.delays.get(run.id)

    def is_over(self, run: EvalRun) -> bool:
        if not run.is_known_status and (status := str(run.status)) not in self.logged:
            self.logged.add(status)
            logger.warning("a run has the unknown status %.40r; waiting continues", status)
        if self.raise_on_failure and run.is_terminal and run.status != "completed":
            raise run_failed(run)
        return run.is_terminal


def run_failed(run: EvalRun) -> RunFailed:
    reason = run.failure.message if run.failure is not None else None
    return RunFailed(f"the run {run.id} ended as {run.status}" + (f": {reason:.200}" if reason else ""), run=run)


def is_terminal(run: EvalRun) -> bool:
    return run.is_terminal


def is_under_way(run: EvalRun) -> bool:
    return run.status in UNDER_WAY


def body_too_large(error: Exception) -> bool:
    """Whether a page was too large. Runs contain their inline rows, so a smaller page may be below the size limit."""
    return isinstance(error, BodyTooLarge)

"""`client.evals.runs`: the runs of evals. One method per endpoint, and methods for many runs at once.

Source: https://platform.openai.com/docs/api-reference/evals/run-object
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

from evals_async._concurrency.channel import Items
from evals_async._concurrency.fanout import FanOut, OnProgress, merge
from evals_async._concurrency.polling import POLL_CONCURRENCY, STEADY, Pace, PollDeadline, Rules, poll_until
from evals_async._concurrency.surveys import Grouping, poll_groups
from evals_async._omit import OMIT
from evals_async._paging.pages import Pager
from evals_async.errors import ApiError
from evals_async.models.runs import EvalRun, RunDeleted
from evals_async.resources._caller import Caller, Fetched, Identity, Resource
from evals_async.resources._many import ManyOptions, ManyOrPages, Raise, Return, gather, stream
from evals_async.resources._raw import RawResponse, raw
from evals_async.resources._requests import (
    CallOptions,
    json_body,
    parameters,
    request,
)
from evals_async.resources._run_keys import (
    EVAL_OF_RUN,
    RUN,
    RUN_IDS,
    RUNS,
    L,
    LocatedRun,
    OfRun,
    R,
    RunKey,
    ids_of,
)
from evals_async.resources._run_lookup import fetch_run, run_lookup
from evals_async.resources._watching import (
    RunWatcher,
    WaitManyOptions,
    WaitOptions,
    body_too_large,
    is_under_way,
)
from evals_async.resources.output_items import OutputItems, OutputItemsWithRawResponse


if TYPE_CHECKING:
    from evals_async.models.params import Metadata, Order, RunDataSourceInput, RunStatus

AN_HOUR = 3600.0
CANCELED = ("canceled", "cancelled")


DELETED_ID = Identity("run_id")


class Runs(Resource):
    """The runs of evals. A run is given by its id and `eval_id=`, by a pair `(eval_id, run_id)`, or by an `EvalRun`."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self.output_items: OutputItems = OutputItems(caller)

    @property
    def with_raw_response(self) -> RunsWithRawResponse:
        """The same methods; they return status, headers and exact bytes."""
        return RunsWithRawResponse(self)

    async def create(
        self,
        eval_id: str,
        *,
        data_source: RunDataSourceInput,
        name: str | None = None,
        metadata: Metadata | None = None,
        **options: Unpack[CallOptions],
    ) -> EvalRun:
        """Create a run, which then starts: POST /evals/{eval_id}/runs. The request is sent again only if the server
        certainly did not carry it out.
        """
        body = json_body(
            data_source=data_source,
            name=OMIT if name is None else name,
            metadata=OMIT if metadata is None else metadata,
        )
        wanted = request("POST", RUNS, "create", options, (eval_id,), body=body)
        return (await self._caller.fetch(wanted, EvalRun, options, expected=(EVAL_OF_RUN, (eval_id,)))).value

    @overload
    async def retrieve(self, run_id: RunKey, *, eval_id: str, **options: Unpack[CallOptions]) -> EvalRun: ...

    @overload
    async def retrieve(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> EvalRun: ...

    async def retrieve(self, run_id: RunKey, *, eval_id: str | None = None, **options: Unpack[CallOptions]) -> EvalRun:
        """Return a run: GET /evals/{eval_id}/runs/{run_id}. Raises `NotFound` if it does not exist."""
        return (await fetch_run(self._caller, ids_of(run_id, eval_id), options)).value

    def list(
        self,
        eval_id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Order | None = None,
        status: RunStatus | None = None,
        **options: Unpack[CallOptions],
    ) -> Pager[EvalRun]:
        """List the runs of an eval: GET /evals/{eval_id}/runs.

        The order is oldest first, unless `order` is `desc`. `after` is the id after which the listing starts. `limit`
        is the page size, from 1 to 100. Await the result for one page, or iterate over it for all runs.
        """
        wanted = request("GET", RUNS, "read", options, (eval_id,), query=parameters(order=order, status=status))
        return self._caller.listing(
            wanted,
            EvalRun,
            options,
            after=after,
            limit=limit,
            expected=(EVAL_OF_RUN, (eval_id,)),
            shrink=body_too_large,
        )

    @overload
    async def cancel(self, run_id: RunKey, *, eval_id: str, **options: Unpack[CallOptions]) -> EvalRun: ...

    @overload
    async def cancel(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> EvalRun: ...

    async def cancel(self, run_id: RunKey, *, eval_id: str | None = None, **options: Unpack[CallOptions]) -> EvalRun:
        """Cancel a run that has not ended, and return it: POST /evals/{eval_id}/runs/{run_id}/cancel, or without
        `/cancel`.

        Servers use different paths. The path with `/cancel` is tried first, and after a 404 or 405 the other path. If
        the response is lost, or says that the run is already canceled, the client reads the run to get its state.
        """
        ids = ids_of(run_id, eval_id)

        async def look() -> Fetched[EvalRun] | None:
            wanted = request("GET", RUN, "read", options, ids)
            fetched = await self._caller.fetch(wanted, EvalRun, expected=(RUN_IDS, ids))
            return fetched if fetched.value.status in CANCELED else None

        async def post(route: str) -> EvalRun:
            wanted = request("POST", route, "cancel", options, ids)
            return (await self._caller.fetch(wanted, EvalRun, options, expected=(RUN_IDS, ids), resolve=look)).value

        try:
            return await post(RUN + "/cancel")
        except ApiError as error:
            if error.status not in (404, 405):
                raise
            refusal = error
        try:
            return await post(RUN)
        except ApiError as error:
            if error.status != 405:
                raise
        raise refusal  # the server has neither path: its first response has the better message

    @overload
    async def delete(self, run_id: RunKey, *, eval_id: str, **options: Unpack[CallOptions]) -> RunDeleted: ...

    @overload
    async def delete(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> RunDeleted: ...

    async def delete(self, run_id: RunKey, *, eval_id: str | None = None, **options: Unpack[CallOptions]) -> RunDeleted:
        """Delete a run with its output items: DELETE /evals/{eval_id}/runs/{run_id}. If the run was already gone
        after a lost response, the result has `assumed=True`.
        """
        ids = ids_of(run_id, eval_id)

        async def gone() -> Fetched[RunDeleted]:
            return Fetched(RunDeleted(object="eval.run.deleted", deleted=True, run_id=ids[1], assumed=True))

        wanted = request("DELETE", RUN, "delete", options, ids)
        return (
            await self._caller.fetch(wanted, RunDeleted, options, expected=(DELETED_ID, ids[1:]), resolve=gone)
        ).value

    @overload
    async def wait(self, run_id: RunKey, *, eval_id: str, **how: Unpack[WaitOptions]) -> EvalRun: ...

    @overload
    async def wait(self, run_id: LocatedRun, *, eval_id: str | None = ..., **how: Unpack[WaitOptions]) -> EvalRun: ...

    async def wait(
        self,
        run_id: RunKey,
        *,
        eval_id: str | None = None,
        timeout: float | None = AN_HOUR,
        pace: Pace = STEADY,
        on_poll: Callable[[EvalRun], object] | None = None,
        raise_on_failure: bool = False,
    ) -> EvalRun:
        """Wait until the run has ended (completed, failed or canceled, in either spelling), and return it.

        The run is read at once, after 1 s, and then at growing intervals up to 30 s (`pace`), or when the server
        requests it. `on_poll` is called with every state. `timeout` is in seconds, and `None` means no limit. While the
        status is unknown to this package, waiting continues; this is logged once. Raises `WaitTimeout`, with the last
        state of the run in `.last`. With `raise_on_failure` it raises `RunFailed` if the run ended with another status
        than `completed`.
        """
        key = ids_of(run_id, eval_id)
        watcher = RunWatcher(self._caller, raise_on_failure)
        return await poll_until(
            lambda: watcher.look(key),
            watcher.is_over,
            clock=self._caller.clock,
            timeout=timeout,
            pace=pace,
            on_poll=on_poll,
            delay_of=watcher.delay,
        )

    @overload
    def wait_many(
        self, run_ids: Iterable[L], *, eval_id: str | None = ..., **how: Unpack[WaitManyOptions]
    ) -> FanOut[L, EvalRun]: ...

    @overload
    def wait_many(
        self, run_ids: Iterable[R], *, eval_id: str, **how: Unpack[WaitManyOptions]
    ) -> FanOut[R, EvalRun]: ...

    def wait_many(
        self,
        run_ids: Iterable[Any],
        *,
        eval_id: str | None = None,
        timeout: float | None = AN_HOUR,
        pace: Pace = STEADY,
        on_poll: Callable[[EvalRun], object] | None = None,
        raise_on_failure: bool = False,
        concurrency: int = POLL_CONCURRENCY,
        on_progress: OnProgress | None = None,
    ) -> FanOut[Any, EvalRun]:
        """Yield runs as they end, each in an `Outcome`, with at most `concurrency` polls at once. See `wait` and
        `poll_many`.

        Ten or more runs of one eval are polled together: the client lists the queued runs and those in progress. A run
        in neither listing is read by itself, so the returned run is up to date. An error that `wait` would raise is the
        `error` of the outcome.
        """
        watcher = RunWatcher(self._caller, raise_on_failure)
        rules = Rules(
            done=watcher.is_over,
            clock=self._caller.clock,
            deadline=PollDeadline(timeout, self._caller.clock),
            pace=pace,
            on_poll=on_poll,
            delay_of=watcher.delay,
        )
        grouping: Grouping[Any, EvalRun] = Grouping(
            locate=lambda run: ids_of(run, eval_id), survey=watcher.survey, surveyed=is_under_way
        )
        return poll_groups(
            lambda run: watcher.look(run, eval_id),
            run_ids,
            grouping,
            rules,
            concurrency=concurrency,
            on_progress=on_progress,
        )

    async def create_and_wait(
        self,
        eval_id: str,
        *,
        data_source: RunDataSourceInput,
        name: str | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = AN_HOUR,
        pace: Pace = STEADY,
        on_poll: Callable[[EvalRun], object] | None = None,
        raise_on_failure: bool = False,
    ) -> EvalRun:
        """Create a run, wait until it has ended, and return it. See `create` and `wait`, also for the errors."""
        run = await self.create(eval_id, data_source=data_source, name=name, metadata=metadata)
        return await self.wait(
            run, eval_id=eval_id, timeout=timeout, pace=pace, on_poll=on_poll, raise_on_failure=raise_on_failure
        )

    @overload
    async def retrieve_many(
        self, run_ids: Items[RunKey], *, eval_id: str, on_error: Raise = ..., **many: Unpack[ManyOrPages]
    ) -> tuple[EvalRun, ...]: ...

    @overload
    async def retrieve_many(
        self,
        run_ids: Items[LocatedRun],
        *,
        eval_id: str | None = ...,
        on_error: Raise = ...,
        **many: Unpack[ManyOrPages],
    ) -> tuple[EvalRun, ...]: ...

    @overload
    async def retrieve_many(
        self, run_ids: Items[RunKey], *, eval_id: str, on_error: Return, **many: Unpack[ManyOrPages]
    ) -> tuple[EvalRun | Exception, ...]: ...

    @overload
    async def retrieve_many(
        self, run_ids: Items[LocatedRun], *, eval_id: str | None = ..., on_error: Return, **many: Unpack[ManyOrPages]
    ) -> tuple[EvalRun | Exception, ...]: ...

    async def retrieve_many(
        self,
        run_ids: Items[RunKey],
        *,
        eval_id: str | None = None,
        by_pages: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        **many: Unpack[ManyOptions],
    ) -> tuple[EvalRun | Exception, ...]:
        """Return runs of one or many evals, in their order, with at most `concurrency` requests at once. See
        `gather_many`, also for the errors.

        With `by_pages`, most runs are read from pages of the listings of their evals. This takes far fewer requests,
        and never more than 1.2 times the requests of single reads. Results and errors are the same. It is not the
        default, because a listing may be some seconds older than a single read.
        """
        return await gather(run_lookup(self._caller, eval_id, by_pages), run_ids, by_pages, on_error, many)

    @overload
    def stream_many(
        self, run_ids: Items[L], *, eval_id: str | None = ..., **many: Unpack[ManyOrPages]
    ) -> FanOut[L, EvalRun]: ...

    @overload
    def stream_many(self, run_ids: Items[R], *, eval_id: str, **many: Unpack[ManyOrPages]) -> FanOut[R, EvalRun]: ...

    def stream_many(
        self,
        run_ids: Items[Any],
        *,
        eval_id: str | None = None,
        by_pages: bool = False,
        **many: Unpack[ManyOptions],
    ) -> FanOut[Any, EvalRun]:
        """Yield runs as they arrive, each in an `Outcome`. See `fan_out`, also for the errors.

        The key of an outcome is the reference to the run that was passed. `by_pages` works as in `retrieve_many`. The
        ids are then read in groups of 10,000, before the first run of the group arrives.
        """
        return stream(run_lookup(self._caller, eval_id, by_pages), run_ids, by_pages, many)

    def list_many(
        self,
        eval_ids: Items[str],
        *,
        status: RunStatus | None = None,
        **many: Unpack[ManyOptions],
    ) -> FanOut[str, EvalRun]:
        """Yield all runs of many evals as they arrive, with at most `concurrency` evals at once. See `merge`, also
        for the errors.

        The key of each `Outcome` is the id of the eval. If the listing of an eval fails, an outcome with the error
        follows its runs.
        """
        return merge(
            lambda eval_id: self.list(eval_id, status=status),
            eval_ids,
            **many,
        )


class RunsWithRawResponse:
    """`Runs` with methods that return a `RawResponse`."""

    def __init__(self, runs: Runs) -> None:
        self.output_items: OutputItemsWithRawResponse = OutputItemsWithRawResponse(runs.output_items)
        self.create = raw(runs, Runs.create)
        self.retrieve: OfRun[RawResponse[EvalRun]] = cast("Any", raw(runs, Runs.retrieve))
        self.list = raw(runs, Runs.list)
        self.cancel: OfRun[RawResponse[EvalRun]] = cast("Any", raw(runs, Runs.cancel))
        self.delete: OfRun[RawResponse[RunDeleted]] = cast("Any", raw(runs, Runs.delete))

"""`client.evals.runs.output_items`: the result of each row of a run.

Source: https://platform.openai.com/docs/api-reference/evals/getRunOutputItems
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from evals_async import models
from evals_async._codec import copied
from evals_async._concurrency.channel import Items
from evals_async._concurrency.fanout import FanOut, merge
from evals_async._paging.by_pages import Lookup
from evals_async._paging.cursor import too_heavy
from evals_async._paging.pages import Pager
from evals_async.resources._caller import Fetched, Identity, Resource
from evals_async.resources._many import ManyOptions, ManyOrPages, Raise, Return, gather, stream
from evals_async.resources._raw import raw
from evals_async.resources._requests import NO_OPTIONS, CallOptions, parameters, path_of, request
from evals_async.resources._run_keys import L, LocatedRun, R, RunKey, ids_of


if TYPE_CHECKING:
    from evals_async.models.output_items import OutputItem
    from evals_async.models.params import ItemStatus, Order

ITEMS = "/evals/{eval_id}/runs/{run_id}/output_items"
ITEM = ITEMS + "/{output_item_id}"

ITEM_IDS = Identity("eval_id", "run_id", "id")
RUN_OF_ITEM = Identity("eval_id", "run_id")


class ItemListOptions(CallOptions, total=False):
    """The filters and the order of a listing; see `OutputItems.list`."""

    after: str | None
    limit: int | None
    order: Order | None
    status: ItemStatus | None


class OutputItems(Resource):
    """The output items of runs."""

    @property
    def with_raw_response(self) -> OutputItemsWithRawResponse:
        """The same methods; they return status, headers and exact bytes."""
        return OutputItemsWithRawResponse(self)

    @overload
    async def retrieve(
        self, output_item_id: str, *, run_id: RunKey, eval_id: str, **options: Unpack[CallOptions]
    ) -> OutputItem: ...

    @overload
    async def retrieve(
        self, output_item_id: str, *, run_id: LocatedRun, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> OutputItem: ...

    async def retrieve(
        self, output_item_id: str, *, run_id: RunKey, eval_id: str | None = None, **options: Unpack[CallOptions]
    ) -> OutputItem:
        """Return one output item: GET /evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}. Raises
        `NotFound` if it does not exist.
        """
        return (await self._fetch((*ids_of(run_id, eval_id), output_item_id), options)).value

    def _fetch(
        self, ids: tuple[str, str, str], options: CallOptions = NO_OPTIONS, *, own_delay: bool = True
    ) -> Coroutine[Any, Any, Fetched[OutputItem]]:
        wanted = request("GET", ITEM, "read", options, ids, own_delay=own_delay)
        return self._caller.fetch(wanted, models.OutputItem, options, expected=(ITEM_IDS, ids), share=True)

    @overload
    def list(self, run_id: RunKey, *, eval_id: str, **options: Unpack[ItemListOptions]) -> Pager[OutputItem]: ...

    @overload
    def list(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[ItemListOptions]
    ) -> Pager[OutputItem]: ...

    def list(
        self,
        run_id: RunKey,
        *,
        eval_id: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        order: Order | None = None,
        status: ItemStatus | None = None,
        **options: Unpack[CallOptions],
    ) -> Pager[OutputItem]:
        """List the output items of a run: GET /evals/{eval_id}/runs/{run_id}/output_items.

        The API has no filter for items with an error: list all items and check `item.is_error`. The order is not the
        order of the data set: sort by `datasource_item_id` to compare runs. `limit` is the page size, from 1 to 100. If
        a page is too large for the server, half as many items are requested.
        """
        ids = ids_of(run_id, eval_id)
        wanted = request("GET", ITEMS, "read", options, ids, query=parameters(order=order, status=status))
        return self._caller.listing(
            wanted, models.OutputItem, options, after=after, limit=limit, expected=(RUN_OF_ITEM, ids), shrink=too_heavy
        )

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str,
        on_error: Raise = ...,
        **many: Unpack[ManyOrPages],
    ) -> tuple[OutputItem, ...]: ...

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: LocatedRun,
        eval_id: str | None = ...,
        on_error: Raise = ...,
        **many: Unpack[ManyOrPages],
    ) -> tuple[OutputItem, ...]: ...

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str,
        on_error: Return,
        **many: Unpack[ManyOrPages],
    ) -> tuple[OutputItem | Exception, ...]: ...

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: LocatedRun,
        eval_id: str | None = ...,
        on_error: Return,
        **many: Unpack[ManyOrPages],
    ) -> tuple[OutputItem | Exception, ...]: ...

    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str | None = None,
        by_pages: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        **many: Unpack[ManyOptions],
    ) -> tuple[OutputItem | Exception, ...]:
        """Return output items of one run by their ids, in their order, with at most `concurrency` requests at once. See
        `gather_many`, also for the errors.

        With `by_pages`, most items are read from pages of the run's listing. This takes far fewer requests, and never
        more than 1.2 times the requests of single reads. Results and errors are the same.
        """
        return await gather(self._lookup(ids_of(run_id, eval_id), by_pages), output_item_ids, by_pages, on_error, many)

    @overload
    def stream_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: LocatedRun,
        eval_id: str | None = ...,
        **many: Unpack[ManyOrPages],
    ) -> FanOut[str, OutputItem]: ...

    @overload
    def stream_many(
        self, output_item_ids: Items[str], *, run_id: RunKey, eval_id: str, **many: Unpack[ManyOrPages]
    ) -> FanOut[str, OutputItem]: ...

    def stream_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str | None = None,
        by_pages: bool = False,
        **many: Unpack[ManyOptions],
    ) -> FanOut[str, OutputItem]:
        """Yield output items of one run as they arrive, each in an `Outcome`. See `fan_out`, also for the errors.

        `by_pages` works as in `retrieve_many`. The ids are then read in groups of 10,000, before the first item of the
        group arrives.
        """
        return stream(self._lookup(ids_of(run_id, eval_id), by_pages), output_item_ids, by_pages, many)

    def _lookup(self, run: tuple[str, str], by_pages: bool) -> Lookup[str, OutputItem]:
        """Return the functions that read output items of one run by pages and one by one. See `Lookup` for delays."""
        caller = self._caller

        def locate(output_item_id: str) -> tuple[tuple[str, str], str]:
            path_of(ITEM, (*run, output_item_id))  # checks the id
            return run, output_item_id

        async def one(output_item_id: str) -> OutputItem:
            return (await self._fetch((*run, output_item_id), own_delay=not by_pages)).value

        return Lookup(
            locate=locate,
            fetch=one,
            pages=lambda _: caller.pages(
                request("GET", ITEMS, "read", NO_OPTIONS, run, own_delay=False),
                models.OutputItem,
                expected=(RUN_OF_ITEM, run),
            ),
            attempts=caller.defaults.retry.attempts,
            shrink=too_heavy,
            copy=copied,
        )

    @overload
    def list_many(
        self,
        run_ids: Items[L],
        *,
        eval_id: str | None = ...,
        status: ItemStatus | None = ...,
        **many: Unpack[ManyOptions],
    ) -> FanOut[L, OutputItem]: ...

    @overload
    def list_many(
        self, run_ids: Items[R], *, eval_id: str, status: ItemStatus | None = ..., **many: Unpack[ManyOptions]
    ) -> FanOut[R, OutputItem]: ...

    def list_many(
        self,
        run_ids: Items[Any],
        *,
        eval_id: str | None = None,
        status: ItemStatus | None = None,
        **many: Unpack[ManyOptions],
    ) -> FanOut[Any, OutputItem]:
        """Yield all output items of many runs as they arrive, with at most `concurrency` runs at once. See `merge`,
        also for the errors.

        The key of each `Outcome` is the reference to the run that was passed. If the listing of a run fails, an outcome
        with the error follows its items.
        """
        return merge(
            lambda run: self.list(ids_of(run, eval_id), status=status),
            run_ids,
            **many,
        )


class OutputItemsWithRawResponse:
    """`OutputItems` with methods that return a `RawResponse`."""

    def __init__(self, output_items: OutputItems) -> None:
        self.retrieve = raw(output_items, OutputItems.retrieve)
        self.list = raw(output_items, OutputItems.list)

"""`client.evals.runs.output_items`: the result of each row of a run.

Source: https://platform.openai.com/docs/api-reference/evals/getRunOutputItems
"""

from typing import Literal, Unpack, overload

from evals_async._concurrency.channel import Items
from evals_async._concurrency.fanout import FanOut, fan_out, gather_many, merge
from evals_async._paging.by_pages import Lookup, fan_out_by_pages, gather_by_pages
from evals_async._paging.cursor import too_heavy
from evals_async._paging.pages import Pager
from evals_async.models.output_items import OutputItem
from evals_async.models.params import ItemStatus, Order
from evals_async.resources._caller import Identity, Resource
from evals_async.resources._many import ManyOptions
from evals_async.resources._raw import raw
from evals_async.resources._requests import NO_OPTIONS, CallOptions, parameters, request
from evals_async.resources._run_keys import LocatedRun, R, RunKey, ids_of


ITEMS = "/evals/{eval_id}/runs/{run_id}/output_items"
ITEM = ITEMS + "/{output_item_id}"

ITEM_IDS = Identity("eval_id", "run_id", "id")
RUN_OF_ITEM = Identity("eval_id", "run_id")


class ItemListOptions(CallOptions, total=False):
    """Which output items are listed; see `OutputItems.list`."""

    after: str | None
    limit: int | None
    order: Order | None
    status: ItemStatus | None


class OutputItems(Resource):
    """The output items of runs."""

    @property
    def with_raw_response(self) -> "OutputItemsWithRawResponse":
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
        """One output item: GET /evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}. Raises `NotFound`."""
        ids = (*ids_of(run_id, eval_id), output_item_id)
        wanted = request("GET", ITEM, "read", options, ids)
        return (await self._caller.fetch(wanted, OutputItem, options, expected=(ITEM_IDS, ids), share=True)).value

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
        """The output items of a run: GET /evals/{eval_id}/runs/{run_id}/output_items.

        The API has no filter for errored items: list all and check `item.is_error`. The order is not that of the data
        set: sort by `datasource_item_id` to align runs. `limit` is the page size, 1 to 100. If a page is too large for
        the server, half as many items are requested.
        """
        ids = ids_of(run_id, eval_id)
        wanted = request("GET", ITEMS, "read", options, ids, query=parameters(order=order, status=status))
        return self._caller.listing(
            wanted, OutputItem, options, after=after, limit=limit, expected=(RUN_OF_ITEM, ids), shrink=too_heavy
        )

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str | None = ...,
        by_pages: bool = ...,
        on_error: Literal["raise"] = ...,
        **many: Unpack[ManyOptions],
    ) -> tuple[OutputItem, ...]: ...

    @overload
    async def retrieve_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str | None = ...,
        by_pages: bool = ...,
        on_error: Literal["return"],
        **many: Unpack[ManyOptions],
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
        """Those output items of one run, in their order, at most `concurrency` requests at once; see `gather_many`.

        With `by_pages` most of them are read from pages of the run's listing. This takes a tenth to a hundredth of the
        requests, and never more than 1.2 times those of single reads. Results and errors are the same.
        """
        run = ids_of(run_id, eval_id)
        if by_pages:
            return await gather_by_pages(self._lookup(run), output_item_ids, on_error=on_error, **many)
        return await gather_many(
            lambda output_item_id: self.retrieve(output_item_id, run_id=run),
            output_item_ids,
            on_error=on_error,
            **many,
        )

    def stream_many(
        self,
        output_item_ids: Items[str],
        *,
        run_id: RunKey,
        eval_id: str | None = None,
        by_pages: bool = False,
        **many: Unpack[ManyOptions],
    ) -> FanOut[str, OutputItem]:
        """Those output items of one run as they arrive, each in an `Outcome`; see `fan_out`.

        `by_pages` as in `retrieve_many`; the ids are then taken 10,000 at a time, before the first item arrives.
        """
        run = ids_of(run_id, eval_id)
        if by_pages:
            return fan_out_by_pages(
                self._lookup(run),
                output_item_ids,
                name=lambda _, output_item_id: output_item_id,
                **many,
            )
        return fan_out(
            lambda output_item_id: self.retrieve(output_item_id, run_id=run),
            output_item_ids,
            **many,
        )

    def _lookup(self, run: tuple[str, str]) -> Lookup[str, OutputItem]:
        """How output items of one run are read by pages, and singly."""
        caller = self._caller

        def locate(output_item_id: str) -> tuple[tuple[str, str], str]:
            request("GET", ITEM, "read", NO_OPTIONS, (*run, output_item_id))
            return run, output_item_id

        return Lookup(
            locate=locate,
            fetch=lambda output_item_id: self.retrieve(output_item_id, run_id=run),
            pages=lambda _: caller.pages(
                request("GET", ITEMS, "read", NO_OPTIONS, run), OutputItem, expected=(RUN_OF_ITEM, run)
            ),
            attempts=caller.defaults.retry.attempts,
            shrink=too_heavy,
        )

    def list_many(
        self,
        run_ids: Items[R],
        *,
        eval_id: str | None = None,
        status: ItemStatus | None = None,
        **many: Unpack[ManyOptions],
    ) -> FanOut[R, OutputItem]:
        """All output items of many runs as they arrive, at most `concurrency` runs at once; see `merge`.

        The key of each `Outcome` is the run as it was named. A run whose listing fails gives one outcome with the
        error, after its items.
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

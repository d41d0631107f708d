"""`client.evals`: evals, with their data sources and testing criteria. One method per endpoint of /evals.

Source: https://platform.openai.com/docs/api-reference/evals
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from evals_async import models
from evals_async._omit import OMIT, Omit
from evals_async._paging.pages import Pager
from evals_async.resources._caller import Caller, Fetched, Identity
from evals_async.resources._many import ById
from evals_async.resources._raw import raw
from evals_async.resources._requests import CallOptions, json_body, parameters, request
from evals_async.resources.runs import Runs, RunsWithRawResponse


if TYPE_CHECKING:
    from evals_async.models.evals import Eval, EvalDeleted
    from evals_async.models.params import DataSourceConfigInput, GraderInput, Metadata, Order, OrderBy

EVAL_ID = Identity("id")
DELETED_ID = Identity("eval_id")


class Evals(ById["Eval"]):
    """The evals of a project."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self.runs: Runs = Runs(caller)

    @property
    def with_raw_response(self) -> EvalsWithRawResponse:
        """The same methods; they return status, headers and exact bytes."""
        return EvalsWithRawResponse(self)

    async def create(
        self,
        *,
        data_source_config: DataSourceConfigInput,
        testing_criteria: Iterable[GraderInput],
        name: str | None = None,
        metadata: Metadata | None = None,
        **options: Unpack[CallOptions],
    ) -> Eval:
        """Create an eval: POST /evals. The request is sent again only if the server certainly did not carry it out."""
        body = json_body(
            data_source_config=data_source_config,
            testing_criteria=testing_criteria,
            name=OMIT if name is None else name,
            metadata=OMIT if metadata is None else metadata,
        )
        return (
            await self._caller.fetch(request("POST", "/evals", "create", options, body=body), models.Eval, options)
        ).value

    async def retrieve(self, eval_id: str, **options: Unpack[CallOptions]) -> Eval:
        """Return an eval: GET /evals/{eval_id}. Raises `NotFound` if it does not exist."""
        wanted = request("GET", "/evals/{eval_id}", "read", options, (eval_id,))
        return (
            await self._caller.fetch(wanted, models.Eval, options, expected=(EVAL_ID, (eval_id,)), share=True)
        ).value

    async def update(
        self,
        eval_id: str,
        *,
        name: str | Omit = OMIT,
        metadata: Metadata | Omit | None = OMIT,
        **options: Unpack[CallOptions],
    ) -> Eval:
        """Change the name or the metadata of an eval, and return it: POST /evals/{eval_id}. The API cannot change
        other fields.
        """
        body = json_body(name=name, metadata=metadata)
        wanted = request("POST", "/evals/{eval_id}", "update", options, (eval_id,), body=body)
        return (await self._caller.fetch(wanted, models.Eval, options, expected=(EVAL_ID, (eval_id,)))).value

    def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Order | None = None,
        order_by: OrderBy | None = None,
        **options: Unpack[CallOptions],
    ) -> Pager[Eval]:
        """List the evals of the project: GET /evals.

        The order is oldest first, unless `order` is `desc`. `after` is the id after which the listing starts. `limit`
        is the page size, from 1 to 100. Await the result for one page, or iterate over it for all evals.
        """
        wanted = request("GET", "/evals", "read", options, query=parameters(order=order, order_by=order_by))
        return self._caller.listing(wanted, models.Eval, options, after=after, limit=limit)

    async def delete(self, eval_id: str, **options: Unpack[CallOptions]) -> EvalDeleted:
        """Delete an eval with its runs: DELETE /evals/{eval_id}. If the eval was already gone after a lost
        response, the result has `assumed=True`.
        """
        wanted = request("DELETE", "/evals/{eval_id}", "delete", options, (eval_id,))

        async def gone() -> Fetched[EvalDeleted]:
            return Fetched(models.EvalDeleted(object="eval.deleted", deleted=True, eval_id=eval_id, assumed=True))

        return (
            await self._caller.fetch(
                wanted, models.EvalDeleted, options, expected=(DELETED_ID, (eval_id,)), resolve=gone
            )
        ).value


class EvalsWithRawResponse:
    """`Evals` with methods that return a `RawResponse`."""

    def __init__(self, evals: Evals) -> None:
        self.runs: RunsWithRawResponse = RunsWithRawResponse(evals.runs)
        self.create = raw(evals, Evals.create)
        self.retrieve = raw(evals, Evals.retrieve)
        self.update = raw(evals, Evals.update)
        self.list = raw(evals, Evals.list)
        self.delete = raw(evals, Evals.delete)

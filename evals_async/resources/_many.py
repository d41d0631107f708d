"""Many objects by their ids: `ById`, the base of the resources whose objects are named by one id, and what the others
share with it. Nothing here knows an endpoint.
"""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack, overload

from evals_async._concurrency.channel import Items
from evals_async._concurrency.fanout import FanOut, OnProgress, fan_out, gather_many
from evals_async.resources._caller import Resource
from evals_async.resources._requests import CallOptions


T = TypeVar("T")


class ManyOptions(TypedDict, total=False):
    """How many calls are made at once."""

    concurrency: int
    """Requests at once, 1 to 256."""
    on_progress: OnProgress | None
    """Called after each outcome."""


class ById(Resource, ABC, Generic[T]):
    """A resource whose objects are named by one id."""

    @abstractmethod
    def retrieve(self, one_id: str, /, **options: Unpack[CallOptions]) -> Coroutine[Any, Any, T]:
        """The object of that id."""

    @overload
    async def retrieve_many(
        self, ids: Items[str], /, *, on_error: Literal["raise"] = ..., **many: Unpack[ManyOptions]
    ) -> tuple[T, ...]: ...

    @overload
    async def retrieve_many(
        self, ids: Items[str], /, *, on_error: Literal["return"], **many: Unpack[ManyOptions]
    ) -> tuple[T | Exception, ...]: ...

    async def retrieve_many(
        self, ids: Items[str], /, *, on_error: Literal["raise", "return"] = "raise", **many: Unpack[ManyOptions]
    ) -> tuple[T | Exception, ...]:
        """The objects of those ids, in their order, at most `concurrency` requests at once; see `gather_many`."""
        return await gather_many(self.retrieve, ids, on_error=on_error, **many)

    def stream_many(self, ids: Items[str], /, **many: Unpack[ManyOptions]) -> FanOut[str, T]:
        """The objects of those ids as they arrive, each in an `Outcome`; see `fan_out`."""
        return fan_out(self.retrieve, ids, **many)

"""Requests for many objects by their ids: `ById`, the base class of resources whose objects have one id."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

from evals_async._concurrency.channel import Items
from evals_async._concurrency.fanout import FanOut, OnProgress, fan_out, gather_many
from evals_async._paging.by_pages import Lookup, fan_out_by_pages, gather_by_pages
from evals_async.resources._caller import Resource
from evals_async.resources._requests import CallOptions


H = TypeVar("H", bound=Hashable)
K = TypeVar("K")
T = TypeVar("T")


Raise: TypeAlias = Literal["raise"]
Return: TypeAlias = Literal["return"]


class ManyOptions(TypedDict, total=False):
    """The options of calls for many objects."""

    concurrency: int
    """The maximum number of concurrent requests, from 1 to 256."""
    on_progress: OnProgress | None
    """Called with a `Progress` after each outcome."""


class ManyOrPages(ManyOptions, total=False):
    """The options of calls for many objects that pages of a listing may contain."""

    by_pages: bool
    """Whether to read pages of the listing instead of single objects."""


async def gather(
    lookup: Lookup[H, T], items: Items[H], by_pages: bool, on_error: Literal["raise", "return"], many: ManyOptions
) -> tuple[T | Exception, ...]:
    """Return the objects of many keys, in their order."""
    if by_pages:
        return await gather_by_pages(lookup, items, on_error=on_error, **many)
    return await gather_many(lookup.fetch, items, on_error=on_error, **many)


def stream(lookup: Lookup[K, T], items: Items[K], by_pages: bool, many: ManyOptions) -> FanOut[K, T]:
    """Yield the objects of many keys as they arrive."""
    return fan_out_by_pages(lookup, items, **many) if by_pages else fan_out(lookup.fetch, items, **many)


class ById(Resource, ABC, Generic[T]):
    """A resource whose objects have one id."""

    @abstractmethod
    def retrieve(self, one_id: str, /, **options: Unpack[CallOptions]) -> Coroutine[Any, Any, T]:
        """Return the object with this id."""

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
        """Return the objects with these ids, in their order, with at most `concurrency` requests at once. See
        `gather_many`, also for the errors.
        """
        return await gather_many(self.retrieve, ids, on_error=on_error, **many)

    def stream_many(self, ids: Items[str], /, **many: Unpack[ManyOptions]) -> FanOut[str, T]:
        """Yield the objects with these ids as they arrive, each in an `Outcome`. See `fan_out`, also for the errors."""
        return fan_out(self.retrieve, ids, **many)

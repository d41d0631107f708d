"""The arguments of every handler: `Service`, the parts of the server, and `RequestContext`, one request."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs
from aiohttp import web

from evals_async._clock import Clock
from evals_async._json import JSONObject
from evals_async._store import Database
from evals_async._store.gaps import Gaps
from evals_async.server.answers import Answer, Problem
from evals_async.server.shapes import Ids


if TYPE_CHECKING:
    from evals_async.grading import PythonGraders
    from evals_async.inference import Models


LONGEST_ARRIVAL = 600.0  # seconds for a JSON body


class RunControl(Protocol):
    """The operations on runs. `RunLifecycle` implements them without models, `RunExecutor` with models."""

    async def load(self) -> None:
        """Load the unfinished runs of an earlier server on the same file."""
        ...

    async def begin(self, run: JSONObject) -> None:
        """Store a new run with the status queued. Raises `Problem`."""
        ...

    async def advance(self, eval_id: str, run_id: str | None = None) -> None:
        """Update the stored state of one run, or of all runs of an eval."""
        ...

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """Cancel the run and return it. Raises `Problem`."""
        ...

    async def delete(self, eval_id: str, run_id: str | None = None) -> bool:
        """Delete a run, or an eval with all its runs. Returns whether it existed."""
        ...

    async def close(self) -> None:
        """Stop all work on runs."""
        ...


@attrs.frozen
class Limits:
    """The largest size of a request in bytes: for JSON bodies and for files."""

    body: int = 10 * 2**20
    upload: int = 512 * 2**20


@attrs.frozen(kw_only=True)
class Service:
    """The parts of one server."""

    database: Database
    clock: Clock
    ids: Ids
    runs: RunControl
    limits: Limits
    base_url: str
    gaps: Gaps
    models: "Models | None" = None
    python: "PythonGraders | None" = None
    page_cache: dict[tuple[str, ...], object] = attrs.Factory(dict[tuple[str, ...], object])
    record: bool = False


@attrs.frozen
class RequestContext:
    """One request: the ids in its path, its query (the last value of a repeated name), and aiohttp's request."""

    ids: tuple[str, ...]
    query: Mapping[str, str]
    request: web.BaseRequest

    async def body(self, limit: int) -> bytes:
        """Read the whole body. Raises `Problem` 413 as soon as it is longer than `limit`, and 408 if it is too slow."""
        declared = self.request.content_length
        parts: list[bytes] = []
        size = 0
        if declared is None or declared <= limit:
            async with arrival_deadline(LONGEST_ARRIVAL):
                async for chunk in self.request.content.iter_any():
                    parts.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        break
                else:
                    return b"".join(parts)
        raise too_large(limit)


@asynccontextmanager
async def arrival_deadline(seconds: float) -> AsyncGenerator[None]:
    """Limit how long a client may take to send a body. Raises `Problem` 408."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        words = f"The body of the request did not arrive within {seconds:.0f} seconds."
        raise Problem(408, words, code="request_timeout") from None


def too_large(limit: int) -> Problem:
    """Return the 413 for a request that is too large."""
    return Problem(413, f"The request is too large: at most {limit} bytes are accepted here.", code="request_too_large")


Handler: TypeAlias = Callable[[Service, RequestContext], Awaitable[Answer]]

"""What every handler is given: `Service`, the server's parts, and `RequestContext`, one request.

Nothing here answers anything.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import attrs
from aiohttp import web

from evals_async._clock import Clock
from evals_async._json import JSONObject
from evals_async._store import Database
from evals_async._store.gaps import Gaps
from evals_async.server.answers import Problem
from evals_async.server.shapes import Ids


if TYPE_CHECKING:
    from evals_async.grading import PythonGraders
    from evals_async.inference import Models


class RunControl(Protocol):
    """What handlers do with runs: `RunLifecycle` lets the clock carry them out, `RunExecutor` does it itself."""

    async def load(self) -> None:
        """Take over what an earlier server on the same file left."""
        ...

    async def begin(self, run: JSONObject) -> None:
        """Write a new run, which is queued. Raises `Problem`."""
        ...

    async def advance(self, eval_id: str, run_id: str | None = None) -> None:
        """Bring what is stored of one run, or of all runs of an eval, up to date."""
        ...

    async def cancel(self, eval_id: str, run_id: str) -> dict[str, object]:
        """The run, canceled. Raises `Problem`."""
        ...

    async def delete(self, eval_id: str, run_id: str | None = None) -> bool:
        """Remove a run, or an eval with all its runs; whether it was there."""
        ...

    async def close(self) -> None:
        """Stop what is under way."""
        ...


@attrs.frozen
class Limits:
    """How many bytes a request may have: JSON bodies, and files."""

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
    """One request: the ids in its path, its query (the last of repeated names), and the rest where it came in."""

    ids: tuple[str, ...]
    query: Mapping[str, str]
    request: web.BaseRequest

    async def body(self, limit: int) -> bytes:
        """The body, whole. Raises `Problem` 413 as soon as it is known to be longer than `limit`."""
        declared = self.request.content_length
        parts: list[bytes] = []
        size = 0
        if declared is None or declared <= limit:
            async for chunk in self.request.content.iter_any():
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
            else:
                return b"".join(parts)
        raise too_large(limit)


def too_large(limit: int) -> Problem:
    """The request has more bytes than it may have."""
    return Problem(413, f"The request is too large: at most {limit} bytes are accepted here.", code="request_too_large")

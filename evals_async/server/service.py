"""What every handler is given: `Service`, the server's parts, and `RequestContext`, one request.

Nothing here answers anything.
"""

from collections.abc import Mapping

import attrs
from aiohttp import web

from evals_async._clock import Clock
from evals_async._store import Database
from evals_async._store.gaps import Gaps
from evals_async.server.answers import Problem
from evals_async.server.runs import RunLifecycle
from evals_async.server.shapes import Ids


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
    runs: RunLifecycle
    limits: Limits
    base_url: str
    gaps: Gaps


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
